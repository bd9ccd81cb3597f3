//! Against cameras that follow a script.

use super::*;
use crate::config::Secret;
use crate::media::Item;
use crate::media::stamp::Belief;
use campanile_proto::time::{SimClock, WallTime};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

const PATIENCE: Duration = Duration::from_secs(20);
const SDP: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=Camera\r\nt=0 0\r\na=control:*\r\nm=audio 0 RTP/AVP 0\r\na=control:sound\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
    a=fmtp:96 sprop-parameter-sets=Z01AHtkAwDempsDAyAAAAwAIAAADAZB4sXJA,aOvBssg=\r\na=control:picture\r\n";

/// What a camera was asked: the first line, and whether a password came with it.
type Asked = Vec<(String, bool)>;

struct Camera {
    socket: BufReader<TcpStream>,
    asked: Asked,
}

impl Camera {
    /// Reads the next question; gives its number, none at the end.
    async fn question(&mut self) -> Option<String> {
        let (mut first, mut number, mut signed) = (None, String::new(), false);
        loop {
            let mut line = String::new();
            if self.socket.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            signed |= line.starts_with("Authorization: Digest");
            if let Some(of) = line.strip_prefix("CSeq: ") {
                number = of.to_owned();
            }
            first.get_or_insert_with(|| line.to_owned());
        }
        self.asked.push((first?, signed));
        Some(number)
    }

    async fn say(&mut self, bytes: &[u8]) {
        self.socket.get_mut().write_all(bytes).await.unwrap();
    }

    async fn answer(&mut self, number: &str, status: &str, headers: &str, body: &str) {
        let length = body.len();
        let text = format!("RTSP/1.0 {status}\r\nCSeq: {number}\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
        self.say(text.as_bytes()).await;
    }

    /// Plays its part until it is given a sign of life, or nothing more is asked.
    async fn play(mut self, accepts: bool, sdp: &str, packets: &[u8]) -> Asked {
        while let Some(number) = self.question().await {
            let (line, signed) = self.asked.last().cloned().unwrap();
            let method = line.split(' ').next().unwrap_or_default();
            match method {
                _ if !signed || !accepts => {
                    let demand = "WWW-Authenticate: Digest realm=\"camera\", nonce=\"abc\"\r\n";
                    self.answer(&number, "401 Unauthorized", demand, "").await;
                }
                "DESCRIBE" => {
                    let headers = "Content-Base: rtsp://camera/live/\r\nContent-Type: application/sdp\r\n";
                    self.answer(&number, "200 OK", headers, sdp).await;
                }
                "SETUP" => {
                    let headers = "Transport: RTP/AVP/TCP;unicast;interleaved=2-3\r\nSession: 7;timeout=2\r\n";
                    self.answer(&number, "200 OK", headers, "").await;
                }
                "PLAY" => {
                    self.answer(&number, "200 OK", "Session: 7\r\nRange: npt=0-\r\n", "").await;
                    self.say(packets).await;
                }
                // The question that keeps a session alive.
                "OPTIONS" => break,
                _ => self.answer(&number, "200 OK", "", "").await,
            }
        }
        self.asked
    }
}

fn packet(channel: u8, bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u16).to_be_bytes();
    [&[b'$', channel, length[0], length[1]], bytes].concat()
}

fn rtp(kind: u8, sequence: u8, timestamp: u32, payload: &[u8]) -> Vec<u8> {
    let head = [&[0x80, 0x80 | kind, 0, sequence][..], &timestamp.to_be_bytes(), &[0; 4], payload].concat();
    packet(2, &head)
}

/// NTP 2,208,988,801.5 s is the epoch and 1.5 s.
fn report(timestamp: u32) -> Vec<u8> {
    let numbers = [9, 2_208_988_801, 1 << 31, timestamp, 0, 0];
    let body: Vec<u8> = numbers.iter().flat_map(|number: &u32| number.to_be_bytes()).collect();
    packet(3, &[&[0x80, 200, 0, 6][..], &body].concat())
}

fn opener() -> RtspOpener {
    let clock = Arc::new(SimClock::starting_at(WallTime(1)));
    RtspOpener::new(Stamper::new(clock, Arc::new(|| Belief { trusted: true, uncertainty_us: 7 })))
}

/// A camera's address, and the camera once somebody calls.
async fn camera() -> (Address, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address {
        url: format!("rtsp://{}/live", listener.local_addr().unwrap()),
        username: Some("box".into()),
        password: Some(Secret::new("word".into())),
        transport: Transport::Tcp,
    };
    (address, listener)
}

async fn called(listener: TcpListener) -> Camera {
    let (socket, _) = listener.accept().await.unwrap();
    Camera { socket: BufReader::new(socket), asked: Vec::new() }
}

async fn next(source: &mut Source) -> Result<Item, SourceError> {
    tokio::time::timeout(PATIENCE, source.items.recv()).await.expect("in time").expect("something")
}

#[tokio::test]
async fn units_come_with_the_cameras_time_and_the_camera_is_told_of_the_end() {
    let (address, listener) = camera().await;
    let packets = [
        report(90_000),
        rtp(96, 1, 180_000, &[0x65, 1]),
        rtp(96, 2, 186_000, &[0x41, 2]),
        rtp(97, 3, 192_000, &[0x65, 9]),
        packet(3, &[0x80, 200, 0, 0, 0x81, 203, 0, 1, 0, 0, 0, 9]),
    ]
    .concat();
    let camera = tokio::spawn(async move { called(listener).await.play(true, SDP, &packets).await });
    let mut source = opener().open(&address).unwrap();
    assert!(matches!(next(&mut source).await, Ok(Item::Format(format)) if format.width == 768));
    let Ok(Item::Unit(first)) = next(&mut source).await else { panic!("a key frame follows") };
    assert_eq!((first.key, first.rtp_time, first.camera_ntp_us), (true, 180_000, 2_500_000));
    let Ok(Item::Unit(second)) = next(&mut source).await else { panic!("another picture follows") };
    assert_eq!((second.rtp_time, &second.data[..]), (186_000, &[0, 0, 0, 2, 0x41, 2][..]));
    let ended = Err(SourceError::Ended("end of stream".into()));
    assert_eq!(next(&mut source).await, ended, "97 is another stream");
    tokio::time::timeout(PATIENCE, source.close()).await.expect("it is closed");

    let asked = camera.await.unwrap();
    let lines: Vec<&str> = asked.iter().filter(|(_, signed)| *signed).map(|(line, _)| line.as_str()).collect();
    let url = &address.url;
    assert_eq!(
        lines,
        [
            &format!("DESCRIBE {url} RTSP/1.0"),
            "SETUP rtsp://camera/live/picture RTSP/1.0",
            "PLAY rtsp://camera/live/ RTSP/1.0",
            "TEARDOWN rtsp://camera/live/ RTSP/1.0",
        ]
    );
    assert_eq!(asked.len(), lines.len() + 1, "the first question only is asked without a password");
}

#[tokio::test]
async fn a_wrong_password_is_tried_once() {
    let (address, listener) = camera().await;
    let camera = tokio::spawn(async move { called(listener).await.play(false, SDP, &[]).await });
    let mut source = opener().open(&address).unwrap();
    assert_eq!(next(&mut source).await, Err(SourceError::AuthenticationRefused));
    let asked = camera.await.unwrap();
    assert_eq!(asked.iter().map(|(_, signed)| *signed).collect::<Vec<_>>(), [false, true]);
}

#[tokio::test]
async fn a_camera_that_is_not_told_a_password_it_wants_refuses() {
    let (mut address, listener) = camera().await;
    address.password = None;
    address.username = None;
    let camera = tokio::spawn(async move { called(listener).await.play(true, SDP, &[]).await });
    let mut source = opener().open(&address).unwrap();
    assert_eq!(next(&mut source).await, Err(SourceError::AuthenticationRefused));
    assert_eq!(camera.await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_camera_without_a_stream_that_can_be_recorded_is_named_by_what_it_has() {
    for (media, named) in [("m=video 0 RTP/AVP 26\r\n", "JPEG"), ("m=audio 0 RTP/AVP 0\r\n", "no video")] {
        let (address, listener) = camera().await;
        let sdp = format!("v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=Camera\r\nt=0 0\r\n{media}");
        let camera = tokio::spawn(async move { called(listener).await.play(true, &sdp, &[]).await });
        let mut source = opener().open(&address).unwrap();
        assert_eq!(next(&mut source).await, Err(SourceError::UnsupportedCodec(named.into())));
        camera.await.unwrap();
    }
}

#[tokio::test]
async fn a_camera_that_says_goodbye_or_hangs_up_has_ended_the_stream() {
    let goodbye = packet(3, &[0x81, 203, 0, 1, 0, 0, 0, 9]);
    for (packets, told) in [(goodbye, "end of stream"), (vec![0xff; 300 << 10], "the connection broke")] {
        let (address, listener) = camera().await;
        let camera = tokio::spawn(async move { called(listener).await.play(true, SDP, &packets).await });
        let mut source = opener().open(&address).unwrap();
        assert_eq!(next(&mut source).await, Err(SourceError::Ended(told.into())));
        drop(source);
        let _ = camera.await;
    }
    let (address, listener) = camera().await;
    let camera = tokio::spawn(async move { drop(called(listener).await) });
    let mut source = opener().open(&address).unwrap();
    assert_eq!(next(&mut source).await, Err(SourceError::Unreachable("no connection".into())));
    camera.await.unwrap();
}

#[tokio::test]
async fn nobody_at_the_address_is_no_connection() {
    let (address, listener) = camera().await;
    drop(listener);
    let mut source = opener().open(&address).unwrap();
    assert_eq!(next(&mut source).await, Err(SourceError::Unreachable("no connection".into())));
}

#[tokio::test]
async fn a_session_is_kept_alive_within_the_cameras_patience() {
    let (address, listener) = camera().await;
    let camera = tokio::spawn(async move { called(listener).await.play(true, SDP, &[]).await });
    let _source = opener().open(&address).unwrap();
    let asked = tokio::time::timeout(PATIENCE, camera).await.expect("a sign of life").unwrap();
    assert!(asked.iter().any(|(line, _)| line.starts_with("OPTIONS ")), "{asked:?}");
}
