//! What the board says of itself. Missing facts are zero: a board without a sensor is no fault.

use std::path::Path;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    pub free_bytes: u64,
    pub total_bytes: u64,
}

/// The disk that holds `path`; free is what this user may write (statvfs(3)).
pub fn disk(path: &Path) -> Option<Disk> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    let unit = stat.fragment_size();
    Some(Disk { free_bytes: stat.blocks_available() * unit, total_bytes: stat.blocks() * unit })
}

/// Load average of one minute (proc_loadavg(5)).
pub fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}

/// Resident memory of this process in bytes (proc_pid_status(5): VmRSS in KiB).
pub fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).and_then(|rest| {
        let number = rest.trim().trim_end_matches("kB").trim();
        number.parse::<u64>().ok()
    });
    kib.unwrap_or(0) * 1024
}

/// The hottest thermal zone, degrees Celsius (sysfs gives thousandths).
pub fn temperature_celsius() -> f64 {
    let zones = std::fs::read_dir("/sys/class/thermal").into_iter().flatten().filter_map(Result::ok);
    let readings = zones.filter_map(|zone| {
        let text = std::fs::read_to_string(zone.path().join("temp")).ok()?;
        text.trim().parse::<f64>().ok()
    });
    readings.fold(0.0, f64::max) / 1000.0
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Profile {
        profile_version: u32,
        name: String,
        architectures: Vec<String>,
    }

    #[test]
    fn this_machine_has_a_disk_and_uses_memory() {
        let disk = super::disk(Path::new("/")).unwrap();
        assert!(disk.total_bytes > 0 && disk.free_bytes <= disk.total_bytes);
        assert!(super::resident_bytes() > 1 << 20);
    }

    #[test]
    fn every_board_profile_is_readable_and_named_as_its_folder() {
        let boards = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hardware");
        let mut seen = 0;
        let packaging = ["systemd", "debian"].map(|name| boards.join(name));
        let folders = std::fs::read_dir(&boards).unwrap().map(|entry| entry.unwrap().path()).filter(|p| p.is_dir());
        for board in folders.filter(|folder| !packaging.contains(folder)) {
            let text = std::fs::read_to_string(board.join("profile.toml")).unwrap();
            let profile: Profile = toml::from_str(&text).unwrap();
            assert_eq!(Some(profile.name.as_str()), board.file_name().and_then(|name| name.to_str()));
            assert!(profile.profile_version == 1 && !profile.architectures.is_empty());
            seen += 1;
        }
        assert!(seen > 0);
    }
}
