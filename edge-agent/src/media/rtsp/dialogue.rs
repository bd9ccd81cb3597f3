//! The words with one camera, from the first question to the leave.

use super::answer::Answer;
use super::description::{Description, Video, at};
use super::sign_in::SignIn;
use super::wire::{Piece, Wire};
use super::{ANSWER, SourceError};
use crate::media::Address;
use crate::media::outlet::Outlet;
use crate::media::rtcp::{self, SenderReport};
use std::convert::Infallible;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Of RTSP where an address names none.
const PORT: u16 = 554;
/// Room for what arrives at once: a key frame's packets.
const READ_BYTES: usize = 32 << 10;
/// How long a camera waits for a sign of life where it does not say (RFC 2326 section 12.37).
const TIMEOUT: Duration = Duration::from_secs(60);
/// How often it gets one, at most and at least.
const SIGNS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// A session's name; longer ones are not repeated.
const MAX_SESSION: usize = 256;

pub(super) struct Dialogue {
    address: Address,
    socket: TcpStream,
    wire: Wire,
    sign_in: SignIn,
    /// Of the last question.
    number: u32,
    session: Option<Session>,
    playing: Option<Playing>,
}

/// What the camera keeps for us.
struct Session {
    id: String,
    /// Of all its streams.
    url: String,
    /// The question that keeps it alive.
    sign_of_life: &'static str,
}

/// The stream that is received.
struct Playing {
    channels: [u8; 2],
    payload_type: u8,
    clock_rate: u32,
    report: Option<SenderReport>,
}

impl Dialogue {
    pub async fn connect(address: &Address) -> Result<Self, SourceError> {
        let no_connection = || SourceError::Unreachable("no connection".into());
        let host = host_and_port(&address.url).ok_or_else(no_connection)?;
        let connected = tokio::time::timeout(ANSWER, TcpStream::connect(host)).await;
        let socket = connected.ok().and_then(Result::ok).ok_or_else(no_connection)?;
        let _ = socket.set_nodelay(true);
        Ok(Self {
            address: address.clone(),
            socket,
            wire: Wire::default(),
            sign_in: SignIn::default(),
            number: 0,
            session: None,
            playing: None,
        })
    }

    /// Asks for the first video stream that can be recorded, and receives it until it ends.
    pub async fn receive(&mut self, outlet: &Outlet) -> Result<Infallible, SourceError> {
        let url = self.address.url.clone();
        let options = self.ask("OPTIONS", &url, "", outlet).await?;
        let knows_parameters = options.header("Public").is_some_and(|methods| methods.contains("GET_PARAMETER"));
        let described = well(self.ask("DESCRIBE", &url, "Accept: application/sdp\r\n", outlet).await?)?;
        let base = described.header("Content-Base").or(described.header("Content-Location")).unwrap_or(&url).to_owned();
        let description = Description::parse(&described.body);
        let video = choose(&description, outlet)?;
        let codec = video.codec().ok_or_else(|| SourceError::UnsupportedCodec(video.encoding.clone()))?;

        let transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";
        let set_up = well(self.ask("SETUP", &at(&base, video.control.as_deref()), transport, outlet).await?)?;
        let channels = channels(set_up.header("Transport").unwrap_or_default())?;
        let (id, timeout) = session(set_up.header("Session").unwrap_or_default());
        let url = at(&base, description.control.as_deref());
        let sign_of_life = if knows_parameters { "GET_PARAMETER" } else { "OPTIONS" };
        self.session = Some(Session { id, url: url.clone(), sign_of_life });
        let sprops: Vec<&str> = video.sprops.iter().map(String::as_str).collect();
        outlet.begin(codec, video.clock_rate, &sprops);
        let (payload_type, clock_rate) = (video.payload_type, video.clock_rate);
        self.playing = Some(Playing { channels, payload_type, clock_rate, report: None });
        well(self.ask("PLAY", &url, "Range: npt=0.000-\r\n", outlet).await?)?;
        self.follow(outlet, timeout).await
    }

    async fn follow(&mut self, outlet: &Outlet, timeout: Duration) -> Result<Infallible, SourceError> {
        let pause = (timeout / 2).clamp(SIGNS[0], SIGNS[1]);
        let mut signs = tokio::time::interval_at(tokio::time::Instant::now() + pause, pause);
        let mut refused = false;
        loop {
            tokio::select! {
                biased;
                piece = self.piece() => match piece? {
                    Piece::Answer { answer, .. } if answer.status == 401 && !refused => {
                        // What was demanded has grown old: a fresh answer, once.
                        refused = true;
                        if self.sign_in.demanded(&answer) {
                            self.give_sign_of_life().await?;
                        }
                    }
                    Piece::Answer { .. } => refused = false,
                    other => self.take(other, outlet).await?,
                },
                _ = signs.tick() => self.give_sign_of_life().await?,
            }
        }
    }

    /// Ends the session at the camera.
    pub async fn leave(&mut self) {
        let Some(url) = self.session.as_ref().map(|session| session.url.clone()) else { return };
        self.playing = None;
        if self.question("TEARDOWN", &url, "").await.is_ok() {
            while !matches!(self.piece().await, Err(_) | Ok(Piece::Answer { .. })) {}
        }
    }

    /// Signs in where that is demanded.
    async fn ask(&mut self, method: &str, url: &str, more: &str, outlet: &Outlet) -> Result<Answer, SourceError> {
        let answered = tokio::time::timeout(ANSWER, async {
            let answer = self.exchange(method, url, more, outlet).await?;
            if answer.status != 401 || self.address.username.is_none() || !self.sign_in.demanded(&answer) {
                return Ok(answer);
            }
            self.exchange(method, url, more, outlet).await
        });
        let answer = answered.await.map_err(|_| SourceError::Unreachable("no answer".into()))??;
        if answer.status == 401 { Err(SourceError::AuthenticationRefused) } else { Ok(answer) }
    }

    async fn exchange(&mut self, method: &str, url: &str, more: &str, outlet: &Outlet) -> Result<Answer, SourceError> {
        self.question(method, url, more).await?;
        loop {
            match self.piece().await? {
                Piece::Answer { number, answer } if number.is_none_or(|number| number == self.number) => {
                    return Ok(answer);
                }
                other => self.take(other, outlet).await?,
            }
        }
    }

    async fn question(&mut self, method: &str, url: &str, more: &str) -> Result<(), SourceError> {
        self.number = self.number.wrapping_add(1);
        let mut text = format!(
            "{method} {url} RTSP/1.0\r\nCSeq: {}\r\nUser-Agent: {}\r\n",
            self.number,
            concat!("Campanile/", env!("CARGO_PKG_VERSION"))
        );
        if let Some(header) = self.sign_in.header(&self.address, method, url) {
            text.push_str(&format!("Authorization: {header}\r\n"));
        }
        if let Some(session) = self.session.as_ref().filter(|session| !session.id.is_empty()) {
            text.push_str(&format!("Session: {}\r\n", session.id));
        }
        text.push_str(more);
        text.push_str("\r\n");
        self.write(&text).await
    }

    async fn give_sign_of_life(&mut self) -> Result<(), SourceError> {
        let Some(session) = &self.session else { return Ok(()) };
        let (method, url) = (session.sign_of_life, session.url.clone());
        self.question(method, &url, "").await
    }

    async fn write(&mut self, text: &str) -> Result<(), SourceError> {
        match tokio::time::timeout(ANSWER, self.socket.write_all(text.as_bytes())).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(broke()),
        }
    }

    /// The next whole piece. Nothing is lost when this is given up.
    async fn piece(&mut self) -> Result<Piece, SourceError> {
        loop {
            match self.wire.next() {
                Ok(Some(piece)) => return Ok(piece),
                Ok(None) => {}
                Err(_) => return Err(SourceError::Ended("it sends what is not RTP video".into())),
            }
            self.wire.bytes.reserve(READ_BYTES);
            match self.socket.read_buf(&mut self.wire.bytes).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(broke()),
            }
        }
    }

    async fn take(&mut self, piece: Piece, outlet: &Outlet) -> Result<(), SourceError> {
        match piece {
            Piece::Packet { channel, bytes } => self.packet(channel, &bytes, outlet),
            Piece::Answer { .. } => Ok(()),
            Piece::Question { number } => {
                let number = number.unwrap_or_default();
                self.write(&format!("RTSP/1.0 501 Not Implemented\r\nCSeq: {number}\r\n\r\n")).await
            }
        }
    }

    fn packet(&mut self, channel: u8, bytes: &[u8], outlet: &Outlet) -> Result<(), SourceError> {
        let Some(Playing { channels, payload_type, clock_rate, report }) = &mut self.playing else { return Ok(()) };
        if channel == channels[0] {
            if let Some(&[_, kind, _, _, a, b, c, d]) = bytes.first_chunk::<8>()
                && kind & 0x7f == *payload_type
            {
                let rtp_time = u32::from_be_bytes([a, b, c, d]);
                outlet.packet(bytes, report.map(|report| report.utc_us_of(rtp_time, *clock_rate)));
            }
        } else if channel == channels[1] {
            let told = rtcp::read(bytes);
            *report = told.sender.or(*report);
            if told.goodbye {
                return Err(SourceError::Ended("end of stream".into()));
            }
        }
        Ok(())
    }
}

fn broke() -> SourceError {
    SourceError::Ended("the connection broke".into())
}

/// The first that can be recorded; what others there are is noted.
fn choose<'a>(description: &'a Description, outlet: &Outlet) -> Result<&'a Video, SourceError> {
    for video in &description.videos {
        if video.codec().is_some() {
            return Ok(video);
        }
        outlet.found(&video.encoding);
    }
    Err(SourceError::UnsupportedCodec("no video".into()))
}

/// RFC 2326 section 7.1.1.
fn well(answer: Answer) -> Result<Answer, SourceError> {
    match answer.status {
        200..300 => Ok(answer),
        401 | 403 => Err(SourceError::AuthenticationRefused),
        404 | 410 => Err(SourceError::Unreachable("no such stream at the camera".into())),
        461 => Err(SourceError::Unreachable("it offers no such transport".into())),
        other => Err(SourceError::Unreachable(format!("it refuses with status {other}"))),
    }
}

/// `rtsp://host[:port]/…`, for a connection.
fn host_and_port(url: &str) -> Option<String> {
    let authority = url.strip_prefix("rtsp://")?.split(['/', '?', '#']).next()?;
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let has_port = has_port && !authority.ends_with(']');
    Some(if has_port { authority.to_owned() } else { format!("{authority}:{PORT}") })
}

/// Channels of packets and reports, as the camera chose them (RFC 2326 section 12.39).
fn channels(transport: &str) -> Result<[u8; 2], SourceError> {
    let refused = || SourceError::Unreachable("it offers no such transport".into());
    let chosen = transport.split(';').find_map(|part| part.trim().strip_prefix("interleaved=")).ok_or_else(refused)?;
    let (packets, reports) = chosen.split_once('-').unwrap_or((chosen, ""));
    let packets: u8 = packets.trim().parse().map_err(|_| refused())?;
    Ok([packets, reports.trim().parse().unwrap_or(packets.wrapping_add(1))])
}

/// A session's name, and how long it lasts without a sign of life (RFC 2326 section 12.37).
fn session(header: &str) -> (String, Duration) {
    let mut parts = header.split(';').map(str::trim);
    let id = parts.next().unwrap_or_default().chars().take(MAX_SESSION).collect();
    let timeout = parts.find_map(|part| part.strip_prefix("timeout=")?.trim().parse().ok());
    (id, timeout.map_or(TIMEOUT, Duration::from_secs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_its_host_and_the_usual_port() {
        for (url, host) in [
            ("rtsp://camera/live", "camera:554"),
            ("rtsp://10.0.0.9:8554/a?b=c:1", "10.0.0.9:8554"),
            ("rtsp://[::1]/a", "[::1]:554"),
            ("rtsp://[::1]:8554", "[::1]:8554"),
        ] {
            assert_eq!(host_and_port(url).as_deref(), Some(host));
        }
        assert_eq!(host_and_port("rtsps://camera/"), None);
    }

    #[test]
    fn channels_are_those_the_camera_chose_and_udp_is_not_taken_for_tcp() {
        assert_eq!(channels("RTP/AVP/TCP;unicast;interleaved=4-5;ssrc=1"), Ok([4, 5]));
        assert_eq!(channels("RTP/AVP/TCP; interleaved=2"), Ok([2, 3]));
        assert!(channels("RTP/AVP;unicast;client_port=5000-5001").is_err());
    }

    #[test]
    fn a_session_lasts_a_minute_unless_it_says_otherwise() {
        assert_eq!(session("abc;timeout=10"), ("abc".to_owned(), Duration::from_secs(10)));
        assert_eq!(session("abc ; other"), ("abc".to_owned(), Duration::from_secs(60)));
    }
}
