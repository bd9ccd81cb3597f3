//! Whether a request comes from our own page: against forged requests and rebound names.

use super::problem::Problem;
use crate::config::WebConfig;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use campanile_proto::kind::Kind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Names this hub answers to.
#[derive(Debug, Clone)]
pub(super) struct Hosts {
    names: Arc<Vec<String>>,
    listen: SocketAddr,
}

impl Hosts {
    pub fn new(web: &WebConfig) -> Self {
        let mut names: Vec<String> = web.public_names.iter().map(|name| name.to_lowercase()).collect();
        names.push("localhost".into());
        Self { names: Arc::new(names), listen: web.listen }
    }

    /// A name that is ours, or an address: what a stranger's page can rebind is a name of its own.
    pub fn knows(&self, host: &str) -> bool {
        let name = without_port(host).to_lowercase();
        match name.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) => address.is_loopback() || self.listen.ip().is_unspecified() || self.listen.ip() == address,
            Err(_) => self.names.contains(&name),
        }
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

/// Whatever changes something comes from our own page, or from no browser at all, and says it in JSON: a
/// form of a stranger's page can do neither.
pub(super) fn demand(parts: &Parts) -> Result<(), Problem> {
    if matches!(parts.method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    let foreign =
        || Problem::new(Kind::Denied, "FOREIGN_ORIGIN", "this request does not come from this hub's own page");
    if text(&parts.headers, "sec-fetch-site").is_some_and(|site| site != "same-origin") {
        return Err(foreign());
    }
    if let Some(origin) = text(&parts.headers, header::ORIGIN.as_str()) {
        let host = parts.uri.authority().map(|a| a.as_str()).or_else(|| text(&parts.headers, header::HOST.as_str()));
        let named = origin.split_once("://").map(|(_, rest)| rest);
        if named.is_none() || named != host {
            return Err(foreign());
        }
    }
    let json = text(&parts.headers, header::CONTENT_TYPE.as_str())
        .is_some_and(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == "application/json"));
    if parts.method != Method::DELETE && !json {
        return Err(Problem::new(Kind::Invalid, "NOT_JSON", "send `content-type: application/json`"));
    }
    Ok(())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn asked(method: Method, headers: &[(&str, &str)]) -> Result<(), Problem> {
        let mut request = Request::builder().method(method).uri("/api/v1/searches");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        demand(&request.body(()).unwrap().into_parts().0)
    }

    const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");
    const HOST: (&str, &str) = ("host", "hub.prato.it:8443");

    #[test]
    fn our_own_page_and_the_command_line_are_let_in() {
        let page = [JSON, HOST, ("origin", "https://hub.prato.it:8443"), ("sec-fetch-site", "same-origin")];
        assert_eq!(asked(Method::POST, &page), Ok(()));
        assert_eq!(asked(Method::POST, &[JSON, HOST]), Ok(()));
        assert_eq!(asked(Method::GET, &[("sec-fetch-site", "cross-site")]), Ok(()));
    }

    #[test]
    fn a_strangers_page_is_not() {
        for forged in [
            vec![JSON, HOST, ("sec-fetch-site", "cross-site")],
            vec![JSON, HOST, ("sec-fetch-site", "same-site")],
            vec![JSON, HOST, ("origin", "https://evil.example")],
            vec![JSON, HOST, ("origin", "null")],
        ] {
            assert_eq!(asked(Method::POST, &forged).unwrap_err().code, "FOREIGN_ORIGIN");
        }
        let form = [HOST, ("content-type", "application/x-www-form-urlencoded")];
        assert_eq!(asked(Method::POST, &form).unwrap_err().code, "NOT_JSON");
        assert_eq!(
            asked(Method::DELETE, &[HOST, ("origin", "https://evil.example")]).unwrap_err().code,
            "FOREIGN_ORIGIN"
        );
    }

    #[test]
    fn a_rebound_name_is_not_ours() {
        let listen: SocketAddr = "127.0.0.1:8443".parse().unwrap();
        let hosts = Hosts { names: Arc::new(vec!["hub.prato.it".into(), "localhost".into()]), listen };
        for known in ["hub.prato.it", "HUB.prato.it:8443", "localhost:1", "127.0.0.1:8443", "[::1]:8443"] {
            assert!(hosts.knows(known), "{known}");
        }
        for strange in ["evil.example", "evil.example:8443", "192.168.1.5", "", "hub.prato.it.evil.example"] {
            assert!(!hosts.knows(strange), "{strange}");
        }
    }
}
