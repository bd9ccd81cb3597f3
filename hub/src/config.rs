//! What a person may set about a hub. `RawConfig` mirrors the file; `check` turns it into `Config`, which
//! holds valid values only, or into every problem at once.

use serde::Deserialize;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Exit code of a bad configuration: EX_USAGE of BSD's sysexits.
pub const EXIT_BAD_CONFIG: i32 = 64;
/// Retention longer than this is not lawful for urban security (168 h from capture).
const MAX_RETENTION_DAYS: u32 = 7;
const MAX_NAME_CHARS: usize = 200;

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
    /// HTTP behind a proxy that speaks TLS and is declared so.
    PlainBehindProxy,
}

/// One thing wrong with the file, by key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub key: String,
    pub problem: String,
    pub remedy: String,
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    config_version: u32,
    data_dir: PathBuf,
    organisation: RawOrganisation,
    #[serde(default)]
    rpc: RawRpc,
    #[serde(default)]
    web: RawWeb,
    #[serde(default)]
    retention: RawRetention,
    #[serde(default = "default_time_zone")]
    time_zone: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOrganisation {
    name: String,
    #[serde(default)]
    ipa_code: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawRpc {
    listen: String,
    advertise: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawWeb {
    listen: String,
    tls: String,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    public_names: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawRetention {
    days: u32,
}

fn default_time_zone() -> String {
    "Europe/Rome".to_owned()
}

impl Default for RawRpc {
    fn default() -> Self {
        Self { listen: "127.0.0.1:7843".to_owned(), advertise: Vec::new() }
    }
}

impl Default for RawWeb {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7880".to_owned(),
            tls: "own".to_owned(),
            certificate: None,
            key: None,
            public_names: Vec::new(),
        }
    }
}

impl Default for RawRetention {
    fn default() -> Self {
        Self { days: MAX_RETENTION_DAYS }
    }
}

/// Collects what is wrong.
#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, key: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Problem { key: key.to_owned(), problem: problem.into(), remedy: remedy.into() });
    }

    fn address(&mut self, key: &str, text: &str) -> SocketAddr {
        text.parse().unwrap_or_else(|_| {
            self.add(key, format!("\"{text}\" is not an address with a port"), "write it as \"127.0.0.1:7843\"");
            SocketAddr::from(([127, 0, 0, 1], 0))
        })
    }
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
    match toml::from_str::<RawConfig>(text) {
        Ok(raw) => check(raw),
        Err(error) => {
            let key = error.span().map_or_else(
                || "(file)".to_owned(),
                |span| {
                    format!(
                        "line {}",
                        text.as_bytes().iter().take(span.start).filter(|byte| **byte == b'\n').count() + 1
                    )
                },
            );
            let remedy = "see configs/hub.toml, where every key is shown with its default".to_owned();
            Err(vec![Problem { key, problem: error.message().to_owned(), remedy }])
        }
    }
}

fn check(raw: RawConfig) -> Result<Config, Vec<Problem>> {
    let mut problems = Problems::default();
    if raw.config_version != 1 {
        problems.add("config_version", format!("{} is not known to this version", raw.config_version), "set it to 1");
    }
    if !raw.data_dir.is_absolute() {
        problems.add("data_dir", "is not an absolute path", "write the whole path, such as /var/lib/campanile-hub");
    }
    let name = raw.organisation.name.trim().to_owned();
    if name.is_empty() || name.chars().count() > MAX_NAME_CHARS || name.chars().any(char::is_control) {
        problems.add("organisation.name", "is empty, too long or not plain text", "write the name people know it by");
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
    let web = check_web(raw.web, &mut problems);
    if !(1..=MAX_RETENTION_DAYS).contains(&raw.retention.days) {
        problems.add(
            "retention.days",
            format!("{} is not lawful for urban security", raw.retention.days),
            "set whole days from 1 to 7",
        );
    }
    if jiff::tz::TimeZone::get(&raw.time_zone).is_err() {
        problems.add("time_zone", format!("\"{}\" is not a time zone", raw.time_zone), "write \"Europe/Rome\"");
    }
    if !problems.0.is_empty() {
        return Err(problems.0);
    }
    Ok(Config {
        data_dir: raw.data_dir,
        organisation: OrganisationConfig { name, ipa_code },
        rpc_listen,
        rpc_advertise: raw.rpc.advertise,
        web,
        retention_days: raw.retention.days,
        time_zone: raw.time_zone,
    })
}

fn check_web(raw: RawWeb, problems: &mut Problems) -> WebConfig {
    let listen = problems.address("web.listen", &raw.listen);
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
        ("plain-behind-proxy", None, None) => WebTls::PlainBehindProxy,
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

    const SHIPPED: &str = include_str!("../../configs/hub.toml");

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
        assert_eq!((short.rpc_advertise, short.time_zone), (shipped.rpc_advertise, shipped.time_zone));
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let text = "config_version = 2\ndata_dir = \"x\"\ntime_zone = \"Luna\"\n[organisation]\nname = \" \"\n\
                    [rpc]\nlisten = \"here\"\nadvertise = [\"hub\"]\n[web]\nlisten = \"0.0.0.0:80\"\n\
                    tls = \"plain-loopback\"\n[retention]\ndays = 30";
        let keys: Vec<_> = parse(text).unwrap_err().into_iter().map(|p| p.key).collect();
        let expected = [
            "config_version",
            "data_dir",
            "organisation.name",
            "rpc.listen",
            "rpc.advertise",
            "web.tls",
            "retention.days",
            "time_zone",
        ];
        assert_eq!(keys, expected);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let problems = parse("config_version = 1\nretention_day = 3\n").unwrap_err();
        assert_eq!(problems[0].key, "line 2", "{problems:?}");
    }
}
