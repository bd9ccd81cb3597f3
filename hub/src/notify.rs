//! systemd's protocol of readiness and signs of life (sd_notify(3), sd_watchdog_enabled(3)): datagrams to the socket
//! it named.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Tells systemd, if it listens; a failure changes nothing for anybody.
pub fn systemd(state: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let name = name.as_encoded_bytes();
    let address = match name.strip_prefix(b"@") {
        Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name),
        None => SocketAddr::from_pathname(std::path::Path::new(&*String::from_utf8_lossy(name))),
    };
    let sent = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = sent {
        tracing::debug!(%error, "systemd not told");
    }
}

/// Gives systemd signs of life as long as this runtime turns: a hub that hangs is started again (WatchdogSec=).
pub async fn live() {
    let variable = |name| std::env::var(name).ok();
    let Some(pause) = pause(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"), std::process::id()) else { return };
    let mut ticks = tokio::time::interval(pause);
    loop {
        ticks.tick().await;
        systemd("WATCHDOG=1");
    }
}

/// Half the time that systemd waits for a sign; none when it waits for none, or for another process's.
fn pause(usec: Option<String>, pid: Option<String>, me: u32) -> Option<Duration> {
    let usec: u64 = usec?.parse().ok().filter(|usec| *usec > 1)?;
    pid.is_none_or(|pid| pid.parse() == Ok(me)).then(|| Duration::from_micros(usec / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_life_are_given_twice_as_often_as_asked_and_only_by_whom_they_are_asked_of() {
        let asked = |usec: &str, pid: Option<&str>| pause(Some(usec.to_owned()), pid.map(str::to_owned), 7);
        assert_eq!(asked("60000000", None), Some(Duration::from_secs(30)));
        assert_eq!(asked("60000000", Some("7")), Some(Duration::from_secs(30)));
        assert_eq!(asked("60000000", Some("8")), None);
        for unusable in ["0", "1", "", "soon", "-5"] {
            assert_eq!(asked(unusable, None), None, "{unusable}");
        }
        assert_eq!(pause(None, None, 7), None);
    }
}
