//! One HTTP/1.1 connection to a hub.

use super::{ClientError, Target, pin};
use crate::config;
use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, COOKIE, HOST, SET_COOKIE};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use zeroize::Zeroizing;

/// Answers that are read whole: a page of the register of 1,000 entries.
const MAX_ANSWER_BYTES: usize = 16 << 20;

pub struct Connection {
    sender: SendRequest<Body>,
    host: String,
    cookie: Option<String>,
}

impl Connection {
    pub async fn open(target: &Target) -> Result<Self, ClientError> {
        match &target.url {
            Some(url) => Self::open_url(target, url).await,
            None => {
                let path = socket(target)?;
                let reach = |source| ClientError::Reach { at: path.display().to_string(), source };
                let stream = UnixStream::connect(&path).await.map_err(reach)?;
                Self::over(stream, "localhost".into()).await
            }
        }
    }

    async fn open_url(target: &Target, url: &str) -> Result<Self, ClientError> {
        let usage = |text: &str| ClientError::Usage(format!("--url: {text}"));
        let (scheme, rest) = url.split_once("://").ok_or_else(|| usage("write https://host:port"))?;
        let host = rest.trim_end_matches('/').to_owned();
        if host.contains('@') {
            return Err(usage("leave the password out; use --password-file"));
        }
        let address = if has_port(&host) { host.clone() } else { format!("{host}:443") };
        let reach = |source| ClientError::Reach { at: url.to_owned(), source };
        let stream = TcpStream::connect(&address).await.map_err(reach)?;
        let local = stream.peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
        let mut connection = match (scheme, &target.ca_fingerprint) {
            ("https", Some(fingerprint)) => {
                let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name).to_owned();
                Self::over(pin::connect(stream, &name, fingerprint).await?, host).await?
            }
            ("https", None) => return Err(usage("give the hub's --ca-fingerprint too")),
            ("http", _) if local => Self::over(stream, host).await?,
            _ => return Err(usage("plain http only on this machine; use https")),
        };
        let path = target.password_file.as_ref().ok_or_else(|| usage("needs --password-file"))?;
        connection.sign_in(&target.user, path).await?;
        Ok(connection)
    }

    async fn over<S>(stream: S, host: String) -> Result<Self, ClientError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(speak)?;
        // Its end shows in the requests.
        tokio::spawn(connection);
        Ok(Self { sender, host, cookie: None })
    }

    async fn sign_in(&mut self, user: &str, path: &Path) -> Result<(), ClientError> {
        let password = read_password(path)?;
        let body = json!({ "user": user, "password": password.trim_end() });
        let response = self.send(Method::POST, "/api/v1/session", Some(&body)).await?;
        let cookie = response.headers().get(SET_COOKIE).and_then(|value| value.to_str().ok());
        let cookie = cookie.and_then(|text| text.split(';').next()).map(str::to_owned);
        read(response).await?;
        self.cookie = cookie;
        Ok(())
    }

    pub async fn get(&mut self, path: &str) -> Result<Value, ClientError> {
        read(self.send(Method::GET, path, None).await?).await
    }

    pub async fn get_bytes(&mut self, path: &str) -> Result<Bytes, ClientError> {
        let response = self.send(Method::GET, path, None).await?;
        if !response.status().is_success() {
            read(response).await?;
            return Err(ClientError::Unreadable("a status without reason"));
        }
        Ok(response.into_body().collect().await.map_err(speak)?.to_bytes())
    }

    pub async fn post(&mut self, path: &str, body: &Value) -> Result<Value, ClientError> {
        read(self.send(Method::POST, path, Some(body)).await?).await
    }

    pub async fn delete(&mut self, path: &str) -> Result<Value, ClientError> {
        read(self.send(Method::DELETE, path, None).await?).await
    }

    /// Posts and hands each line of the answer on as it comes.
    pub async fn post_lines(
        &mut self,
        path: &str,
        body: &Value,
        mut line: impl FnMut(&str) -> Result<(), ClientError>,
    ) -> Result<(), ClientError> {
        let response = self.send(Method::POST, path, Some(body)).await?;
        if !response.status().is_success() {
            return read(response).await.map(drop);
        }
        let (mut body, mut pending) = (response.into_body(), Vec::new());
        while let Some(frame) = body.frame().await {
            let Ok(part) = frame.map_err(speak)?.into_data() else { continue };
            pending.extend_from_slice(&part);
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let rest = pending.split_off(end + 1);
                let text = String::from_utf8(std::mem::replace(&mut pending, rest));
                line(text.map_err(|_| ClientError::Unreadable("not UTF-8"))?.trim_end())?;
            }
        }
        Ok(())
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, ClientError> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, &self.host);
        if let Some(cookie) = &self.cookie {
            request = request.header(COOKIE, cookie);
        }
        let body = match body {
            Some(value) => {
                request = request.header(CONTENT_TYPE, "application/json");
                Body::from(value.to_string())
            }
            None => Body::empty(),
        };
        let request = request.body(body).map_err(|e| ClientError::Usage(e.to_string()))?;
        self.sender.ready().await.map_err(speak)?;
        self.sender.send_request(request).await.map_err(speak)
    }
}

fn speak(error: impl std::error::Error + Send + Sync + 'static) -> ClientError {
    ClientError::Speak(Box::new(error))
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

async fn read(response: Response<Incoming>) -> Result<Value, ClientError> {
    let status = response.status();
    let limited = http_body_util::Limited::new(response.into_body(), MAX_ANSWER_BYTES);
    let bytes = limited.collect().await.map_err(ClientError::Speak)?.to_bytes();
    let value: Value = if bytes.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&bytes).map_err(|_| ClientError::Unreadable("it is not JSON; is this a hub?"))?
    };
    if status.is_success() {
        return Ok(value);
    }
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    Err(ClientError::Hub {
        status: status.as_u16(),
        code: text("code"),
        sentence: text("sentence"),
        clause: text("clause"),
    })
}

fn socket(target: &Target) -> Result<PathBuf, ClientError> {
    if let Some(socket) = &target.socket {
        return Ok(socket.clone());
    }
    let Some(path) = &target.config else {
        return Err(ClientError::Usage("say which hub: --config hub.toml, --socket, or --url".into()));
    };
    let config = config::load(path).map_err(|problems| ClientError::Usage(problems.to_string()))?;
    Ok(config.data_dir.join("admin.sock"))
}

fn read_password(path: &Path) -> Result<Zeroizing<String>, ClientError> {
    let failed = |source| ClientError::Read { path: path.to_owned(), source };
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        let path = path.display();
        return Err(ClientError::Usage(format!("{path} is readable by others; run: chmod 600 {path}")));
    }
    std::fs::read_to_string(path).map(Zeroizing::new).map_err(failed)
}

/// A name that can stand in an address as it is.
pub fn segment(text: &str) -> Result<&str, ClientError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    match !text.is_empty() && text.chars().all(plain) {
        true => Ok(text),
        false => Err(ClientError::Usage(format!("{} is not an id or a name", super::show::clean(text)))),
    }
}
