//! What a person may set about a hub. `RawConfig` mirrors the file; `check` turns it into `Config`, which
//! holds valid values only, or into every problem at once.

mod read;

pub use read::Problem;

use read::{Problems, Section};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// Exit code of a bad configuration: EX_USAGE of BSD's sysexits.
pub const EXIT_BAD_CONFIG: i32 = 64;
/// Retention longer than this is not lawful for urban security (168 h from capture).
const MAX_RETENTION_DAYS: u32 = 7;
/// Accesses must be accountable for at least half a year (Garante, 27 November 2008, on administrators' logs);
/// beyond ten years nobody is.
const PERSONAL_DAYS: std::ops::RangeInclusive<u32> = 183..=3_653;
const DEFAULT_PERSONAL_DAYS: u32 = 731;
const MAX_NAME_CHARS: usize = 200;
const DATA_DIR_REMEDY: &str = "write the whole path, such as \"/var/lib/campanile-hub\"";
const NAME_REMEDY: &str = "write the name people know it by";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Everything the hub keeps; made at first start with mode 0700.
    pub data_dir: PathBuf,
    pub organisation: OrganisationConfig,
    /// Where boxes and partner hubs connect.
    pub rpc_listen: SocketAddr,
    /// `host:port` given to boxes and partners; the bound address when empty.
    pub rpc_advertise: Vec<String>,
    pub web: WebConfig,
    /// 1 to 7.
    pub retention_days: u32,
    /// How long names, purposes and case numbers stand beside the register's tree.
    pub register_personal_days: u32,
    /// Files that are touched whenever the wall clock was synchronised, anew in every boot.
    pub clock_marks: Vec<PathBuf>,
    /// IANA name; for the screen only, everything else is UTC.
    pub time_zone: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrganisationConfig {
    pub name: String,
    /// Code in the Italian index of public administrations; may be empty.
    pub ipa_code: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebConfig {
    pub listen: SocketAddr,
    pub tls: WebTls,
    /// Names people type into their browser; in the hub's own certificate, and accepted as `Host`.
    pub public_names: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebTls {
    /// A certificate of the hub's own, made at first start.
    Own,
    /// PEM files, read again when they change.
    Files { cert: PathBuf, key: PathBuf },
    /// HTTP, on a loopback address only.
    PlainLoopback,
    /// HTTP to these proxies alone, which speak TLS and name the asker in X-Forwarded-For.
    PlainBehindProxy { proxies: Vec<IpAddr> },
}

impl WebConfig {
    /// Declared proxies; none unless there must be some.
    pub fn proxies(&self) -> &[IpAddr] {
        match &self.tls {
            WebTls::PlainBehindProxy { proxies } => proxies,
            _ => &[],
        }
    }
}

/// Everything wrong with the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigProblems {
    pub path: PathBuf,
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "configuration {} has {} problem(s)", self.path.display(), self.problems.len())?;
        for Problem { key, problem, remedy } in &self.problems {
            write!(f, "\n  {key}: {problem}; {remedy}")?;
        }
        Ok(())
    }
}

/// The file as it is written; none where a key that must be there is not, or holds something else.
struct RawConfig {
    config_version: Option<u32>,
    data_dir: Option<PathBuf>,
    organisation: RawOrganisation,
    rpc: RawRpc,
    web: RawWeb,
    retention: RawRetention,
    clock_marks: Vec<PathBuf>,
    register: RawRegister,
    time_zone: String,
}

struct RawOrganisation {
    name: Option<String>,
    ipa_code: String,
}

struct RawRpc {
    listen: String,
    advertise: Vec<String>,
}

struct RawWeb {
    listen: String,
    tls: String,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    public_names: Vec<String>,
    proxies: Vec<String>,
}

struct RawRetention {
    days: u32,
}

struct RawRegister {
    personal_days: u32,
}

impl RawConfig {
    fn read(mut file: Section, problems: &mut Problems) -> Self {
        let read = Self {
            config_version: file.demand("config_version", "set it to 1", problems, Section::number),
            data_dir: file.demand("data_dir", DATA_DIR_REMEDY, problems, Section::path),
            time_zone: file.text("time_zone", problems).unwrap_or_else(|| "Europe/Rome".to_owned()),
            organisation: RawOrganisation::read(file.section("organisation", problems), problems),
            rpc: RawRpc::read(file.section("rpc", problems), problems),
            web: RawWeb::read(file.section("web", problems), problems),
            retention: RawRetention::read(file.section("retention", problems), problems),
            clock_marks: read_clock_marks(file.section("clock", problems), problems),
            register: RawRegister::read(file.section("register", problems), problems),
        };
        file.end(problems);
        read
    }
}

impl RawOrganisation {
    fn read(mut section: Section, problems: &mut Problems) -> Self {
        let read = Self {
            name: section.demand("name", NAME_REMEDY, problems, Section::text),
            ipa_code: section.text("ipa_code", problems).unwrap_or_default(),
        };
        section.end(problems);
        read
    }
}

impl RawRpc {
    fn read(mut section: Section, problems: &mut Problems) -> Self {
        let read = Self {
            listen: section.text("listen", problems).unwrap_or_else(|| "127.0.0.1:7843".to_owned()),
            advertise: section.texts("advertise", problems).unwrap_or_default(),
        };
        section.end(problems);
        read
    }
}

impl RawWeb {
    fn read(mut section: Section, problems: &mut Problems) -> Self {
        let read = Self {
            listen: section.text("listen", problems).unwrap_or_else(|| "127.0.0.1:7880".to_owned()),
            tls: section.text("tls", problems).unwrap_or_else(|| "own".to_owned()),
            certificate: section.path("certificate", problems),
            key: section.path("key", problems),
            public_names: section.texts("public_names", problems).unwrap_or_default(),
            proxies: section.texts("proxies", problems).unwrap_or_default(),
        };
        section.end(problems);
        read
    }
}

impl RawRetention {
    fn read(mut section: Section, problems: &mut Problems) -> Self {
        let read = Self { days: section.number("days", problems).unwrap_or(MAX_RETENTION_DAYS) };
        section.end(problems);
        read
    }
}

impl RawRegister {
    fn read(mut section: Section, problems: &mut Problems) -> Self {
        let read = Self { personal_days: section.number("personal_days", problems).unwrap_or(DEFAULT_PERSONAL_DAYS) };
        section.end(problems);
        read
    }
}

fn read_clock_marks(mut section: Section, problems: &mut Problems) -> Vec<PathBuf> {
    let marks = section.texts("marks", problems).map_or_else(
        || vec![PathBuf::from(crate::media::TIMESYNC_MARK)],
        |marks| marks.into_iter().map(PathBuf::from).collect(),
    );
    if marks.iter().any(|mark| !mark.starts_with("/run")) {
        problems.add(
            "clock.marks",
            "names a file outside /run, which would speak for a boot it is not of",
            "name files under /run, which is empty after every boot",
        );
    }
    section.end(problems);
    marks
}

/// Reads and checks the file.
pub fn load(path: &Path) -> Result<Config, ConfigProblems> {
    let failed = |key: &str, problem: String, remedy: &str| ConfigProblems {
        path: path.to_owned(),
        problems: vec![Problem { key: key.to_owned(), problem, remedy: remedy.to_owned() }],
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| failed("(file)", format!("cannot be read: {error}"), "name an existing file with --config"))?;
    parse(&text).map_err(|problems| ConfigProblems { path: path.to_owned(), problems })
}

/// Checks the text of a configuration.
pub fn parse(text: &str) -> Result<Config, Vec<Problem>> {
    let table = read::table(text).map_err(|problem| vec![problem])?;
    let mut problems = Problems::default();
    let raw = RawConfig::read(Section::root(table), &mut problems);
    let config = check(raw, &mut problems);
    match config {
        Some(config) if problems.0.is_empty() => Ok(config),
        _ => Err(problems.0),
    }
}

/// None when something that must be there is not; that was noted.
fn check(raw: RawConfig, problems: &mut Problems) -> Option<Config> {
    if let Some(version) = raw.config_version.filter(|version| *version != 1) {
        problems.add("config_version", format!("{version} is not known to this version"), "set it to 1");
    }
    if raw.data_dir.as_ref().is_some_and(|path| !path.is_absolute()) {
        problems.add("data_dir", "is not an absolute path", DATA_DIR_REMEDY);
    }
    let name = raw.organisation.name.map(|name| name.trim().to_owned());
    let is_plain = |name: &String| {
        !name.is_empty() && name.chars().count() <= MAX_NAME_CHARS && !name.chars().any(char::is_control)
    };
    if name.as_ref().is_some_and(|name| !is_plain(name)) {
        problems.add("organisation.name", "is empty, too long or not plain text", NAME_REMEDY);
    }
    let ipa_code = raw.organisation.ipa_code.trim().to_owned();
    if ipa_code.len() > 20 || !ipa_code.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        problems.add(
            "organisation.ipa_code",
            format!("\"{ipa_code}\" is no IPA code"),
            "copy it from indicepa.gov.it, or leave it out",
        );
    }
    let rpc_listen = problems.address("rpc.listen", &raw.rpc.listen);
    for name in &raw.rpc.advertise {
        let port = name.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(1..))) {
            problems.add(
                "rpc.advertise",
                format!("\"{name}\" is not host:port"),
                "write it as \"hub.example.it:7843\"",
            );
        }
    }
    if rpc_listen.ip().is_unspecified() && raw.rpc.advertise.is_empty() {
        problems.add(
            "rpc.advertise",
            format!("is missing, and nobody can connect to {rpc_listen}, which would stand in tokens and mandates"),
            "name what boxes and partners dial, such as [\"hub.example.it:7843\"]",
        );
    }
    let web = check_web(raw.web, problems);
    if !(1..=MAX_RETENTION_DAYS).contains(&raw.retention.days) {
        problems.add(
            "retention.days",
            format!("{} is not lawful for urban security", raw.retention.days),
            "set whole days from 1 to 7",
        );
    }
    if !PERSONAL_DAYS.contains(&raw.register.personal_days) {
        problems.add(
            "register.personal_days",
            format!("{} is not accountable", raw.register.personal_days),
            format!("set whole days from {} to {}", PERSONAL_DAYS.start(), PERSONAL_DAYS.end()),
        );
    }
    if jiff::tz::TimeZone::get(&raw.time_zone).is_err() {
        problems.add("time_zone", format!("\"{}\" is not a time zone", raw.time_zone), "write \"Europe/Rome\"");
    }
    Some(Config {
        data_dir: raw.data_dir?,
        organisation: OrganisationConfig { name: name?, ipa_code },
        rpc_listen,
        rpc_advertise: raw.rpc.advertise,
        web,
        retention_days: raw.retention.days,
        register_personal_days: raw.register.personal_days,
        clock_marks: raw.clock_marks,
        time_zone: raw.time_zone,
    })
}

fn check_web(raw: RawWeb, problems: &mut Problems) -> WebConfig {
    let listen = problems.address("web.listen", &raw.listen);
    let mut proxies: Vec<IpAddr> = Vec::new();
    for text in &raw.proxies {
        match text.parse::<IpAddr>() {
            Ok(address) => proxies.push(address.to_canonical()),
            Err(_) => problems.add("web.proxies", format!("\"{text}\" is not an address"), "write it as \"127.0.0.1\""),
        }
    }
    if !raw.proxies.is_empty() && raw.tls != "plain-behind-proxy" {
        problems.add("web.proxies", "is set, but web.tls is not \"plain-behind-proxy\"", "leave it out");
    }
    let tls = match (raw.tls.as_str(), raw.certificate, raw.key) {
        ("own", None, None) => WebTls::Own,
        ("files", Some(cert), Some(key)) => WebTls::Files { cert, key },
        ("files", ..) => {
            problems.add(
                "web.certificate",
                "web.tls is \"files\" without both files",
                "set web.certificate and web.key",
            );
            WebTls::Own
        }
        ("plain-loopback", None, None) => {
            if !listen.ip().is_loopback() {
                problems.add(
                    "web.tls",
                    format!("\"plain-loopback\" with {listen}, which others can reach"),
                    "listen on 127.0.0.1, or set web.tls to \"own\" or \"files\"",
                );
            }
            WebTls::PlainLoopback
        }
        ("plain-behind-proxy", None, None) => {
            if proxies.is_empty() {
                problems.add(
                    "web.proxies",
                    "is missing, so anybody who reaches web.listen would be taken for the proxy",
                    "name the proxy's address, such as [\"127.0.0.1\"]",
                );
            }
            WebTls::PlainBehindProxy { proxies: proxies.clone() }
        }
        ("own" | "plain-loopback" | "plain-behind-proxy", ..) => {
            problems.add("web.certificate", "is set, but web.tls is not \"files\"", "set web.tls to \"files\"");
            WebTls::Own
        }
        (other, ..) => {
            problems.add(
                "web.tls",
                format!("\"{other}\" is not known"),
                "use \"own\", \"files\", \"plain-loopback\" or \"plain-behind-proxy\"",
            );
            WebTls::Own
        }
    };
    WebConfig { listen, tls, public_names: raw.public_names }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../../configs/hub.toml");

    #[test]
    fn the_shipped_file_parses() {
        let config = parse(SHIPPED).unwrap();
        assert!(config.rpc_listen.ip().is_loopback() && config.web.listen.ip().is_loopback());
        assert_eq!((config.retention_days, config.web.tls), (7, WebTls::Own));
    }

    #[test]
    fn the_shipped_file_shows_the_defaults() {
        let short =
            "config_version = 1\ndata_dir = \"/var/lib/campanile-hub\"\n[organisation]\nname = \"Comune di Prato\"";
        let (short, shipped) = (parse(short).unwrap(), parse(SHIPPED).unwrap());
        assert_eq!(short.web, shipped.web);
        assert_eq!((short.rpc_listen, short.retention_days), (shipped.rpc_listen, shipped.retention_days));
        assert_eq!(short.register_personal_days, shipped.register_personal_days);
        assert_eq!(short.clock_marks, shipped.clock_marks);
        assert_eq!((short.rpc_advertise, short.time_zone), (shipped.rpc_advertise, shipped.time_zone));
    }

    #[test]
    fn a_mark_that_outlives_the_boot_does_not_speak_for_the_clock() {
        let text = |mark| {
            format!("config_version = 1\ndata_dir = \"/x\"\n[organisation]\nname = \"x\"\n[clock]\nmarks = [{mark}]")
        };
        assert_eq!(parse(&text("\"/run/chrony/step\"")).unwrap().clock_marks, [PathBuf::from("/run/chrony/step")]);
        let problems = parse(&text("\"/var/lib/chrony/drift\"")).unwrap_err();
        assert_eq!(problems[0].key, "clock.marks");
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let text = "config_version = 2\ndata_dir = \"x\"\ntime_zone = \"Luna\"\n[organisation]\nname = \" \"\n\
                    [rpc]\nlisten = \"here\"\nadvertise = [\"hub\"]\n[web]\nlisten = \"0.0.0.0:80\"\n\
                    tls = \"plain-loopback\"\n[retention]\ndays = 30\n\
                    [register]\npersonal_days = 30";
        let keys: Vec<_> = parse(text).unwrap_err().into_iter().map(|p| p.key).collect();
        let expected = [
            "config_version",
            "data_dir",
            "organisation.name",
            "rpc.listen",
            "rpc.advertise",
            "web.tls",
            "retention.days",
            "register.personal_days",
            "time_zone",
        ];
        assert_eq!(keys, expected);
    }

    fn keys(text: &str) -> Vec<String> {
        let mut keys: Vec<_> = parse(text).unwrap_err().into_iter().map(|problem| problem.key).collect();
        keys.sort();
        keys
    }

    #[test]
    fn an_unknown_key_hides_no_other_problem() {
        let text = "config_version = 1\ndata_dir = ''\nretention_days = 9\n[organisation]\nname = ''\n";
        assert_eq!(keys(text), ["data_dir", "organisation.name", "retention_days"]);
    }

    #[test]
    fn keys_that_are_missing_unknown_or_of_another_type_are_named_by_their_path() {
        let text = "data_dir = 7\ntime_zone = true\n[organisation]\nipa_code = []\n[rpc]\nadvertise = [1]\nport = 1\n\
                    [web]\nlisten = 80\n[web.proxy]\nname = 'x'\n[retention]\ndays = -1\n[other]\nkey = 1";
        let expected = [
            "config_version",
            "data_dir",
            "organisation.ipa_code",
            "organisation.name",
            "other",
            "retention.days",
            "rpc.advertise",
            "rpc.port",
            "time_zone",
            "web.listen",
            "web.proxy",
        ];
        assert_eq!(keys(text), expected);
        assert_eq!(
            keys("organisation = 'Prato'\nweb = 1"),
            ["config_version", "data_dir", "organisation", "organisation.name", "web"]
        );
    }

    #[test]
    fn an_address_nobody_can_dial_is_not_advertised() {
        let with = |rpc: &str| format!("config_version = 1\ndata_dir = '/x'\n[organisation]\nname = 'P'\n[rpc]\n{rpc}");
        for listen in ["0.0.0.0:7843", "[::]:7843"] {
            assert_eq!(keys(&with(&format!("listen = '{listen}'"))), ["rpc.advertise"]);
            assert!(parse(&with(&format!("listen = '{listen}'\nadvertise = ['hub.it:7843']"))).is_ok());
        }
    }

    #[test]
    fn plain_http_is_for_loopback_or_for_named_proxies() {
        let with = |web: &str| format!("config_version = 1\ndata_dir = '/x'\n[organisation]\nname = 'P'\n[web]\n{web}");
        assert_eq!(keys(&with("listen = '10.0.0.1:80'\ntls = 'plain-loopback'")), ["web.tls"]);
        assert!(parse(&with("listen = '127.0.0.1:80'\ntls = 'plain-loopback'")).is_ok());
        assert_eq!(keys(&with("tls = 'plain-behind-proxy'")), ["web.proxies"]);
        assert_eq!(keys(&with("tls = 'plain-behind-proxy'\nproxies = ['proxy.it']")), ["web.proxies", "web.proxies"]);
        assert_eq!(keys(&with("proxies = ['127.0.0.1']")), ["web.proxies"]);
        let config = parse(&with("tls = 'plain-behind-proxy'\nproxies = ['::ffff:10.0.0.2', '::1']")).unwrap();
        assert_eq!(config.web.proxies(), ["10.0.0.2", "::1"].map(|a| a.parse::<IpAddr>().unwrap()));
    }

    #[test]
    fn what_is_no_toml_is_named_with_its_line() {
        assert_eq!(keys("config_version = 1\nretention_day 3\n"), ["line 2"]);
    }
}
