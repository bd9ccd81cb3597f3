//! One fetch: footage from this box's disk to the hub, on a connection of its own.

use super::spans::{self, Contents, Groups, Item};
use crate::clock::Anchors;
use crate::index::{Index, IndexError, SegmentRow};
use campanile_proto::edge::v1::deliver_down::Message as Down;
use campanile_proto::edge::v1::deliver_up::Message as Up;
use campanile_proto::edge::v1::edge_client::EdgeClient;
use campanile_proto::edge::v1::fetch::What;
use campanile_proto::edge::v1::{
    DeliverDown, DeliverEnd, DeliverOpen, DeliverRecord, DeliverSegment, DeliverUp, Fetch,
};
use campanile_proto::ids::{CameraId, RunId};
use campanile_proto::kind::Chain;
use campanile_proto::segment::{Entry, ReadError, SegmentReader};
use campanile_proto::types::v1::Stream;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Channel;

/// Payload bytes a delivery may send before the hub's first window arrives.
const FIRST_WINDOW: i64 = 1 << 20;
/// How often the newest segment is looked at while somebody watches: a tenth of a fragment.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(100);
/// A camera that records nothing for this long has nothing live.
const FOLLOW_PATIENCE: Duration = Duration::from_secs(60);

/// For the hub to take what is still on its way, at 200 kbit/s.
const END_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a delivery breaks off.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the fetch is malformed: {0}")]
    Malformed(&'static str),
    #[error("the index cannot be read")]
    Index(#[from] IndexError),
    #[error("a segment cannot be read")]
    Segment(#[from] ReadError),
    #[error("a part of this recording is damaged on the box's disk; what can be read was delivered")]
    Damaged,
    #[error("byte budget used up")]
    Budget,
    #[error("nothing was recorded for a minute")]
    NothingLive,
    #[error("cancelled")]
    Cancelled,
    #[error("the hub went away")]
    HubGone,
}

/// Bytes the hub is ready to take.
#[derive(Default)]
struct Credit {
    bytes: AtomicI64,
    more: Notify,
}

impl Credit {
    fn add(&self, bytes: u64) {
        let bytes = i64::try_from(bytes.min(1 << 40)).unwrap_or(i64::MAX);
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        self.more.notify_one();
    }

    /// Waits until there is any, then takes what is needed, below zero if it must.
    async fn take(&self, bytes: usize) {
        while self.bytes.load(Ordering::Acquire) <= 0 {
            self.more.notified().await;
        }
        self.bytes.fetch_sub(bytes as i64, Ordering::AcqRel);
    }
}

/// Whose turn the link is.
pub enum Pace {
    /// Somebody watches.
    Watched,
    /// Waits, between two records, while others watch: their number.
    Bulk(watch::Receiver<usize>),
}

impl Pace {
    async fn turn(&mut self) {
        if let Self::Bulk(watched) = self {
            // The session is over when nobody counts any more.
            let _ = watched.wait_for(|watched| *watched == 0).await;
        }
    }
}

/// Serves one fetch to its end, or until `cancel`.
pub async fn deliver(channel: Channel, fetch: Fetch, index: Index, pace: Pace, cancel: CancellationToken) {
    let (up, outbound) = mpsc::channel(8);
    let open = Up::Open(DeliverOpen { fetch_id: fetch.fetch_id.clone() });
    if up.send(DeliverUp { message: Some(open) }).await.is_err() {
        return;
    }
    let mut client = EdgeClient::new(channel);
    let inbound = tokio::select! {
        answer = client.deliver(ReceiverStream::new(outbound)) => answer,
        () = cancel.cancelled() => return,
    };
    let mut inbound = match inbound {
        Ok(inbound) => inbound.into_inner(),
        Err(status) => {
            let error = super::UplinkError::from_status(&status);
            tracing::warn!(code = ?status.code(), %error, "delivery not taken");
            return;
        }
    };
    let credit = Credit { bytes: AtomicI64::new(FIRST_WINDOW), more: Notify::new() };
    let mut feed = Feed {
        up: &up,
        credit: &credit,
        pace,
        budget: fetch.byte_budget,
        fetch: &fetch,
        sent_bytes: 0,
        damaged: false,
    };
    let outcome = tokio::select! {
        outcome = feed.run(&index) => outcome,
        broken = listen(&mut inbound, &credit) => Err(broken),
        () = cancel.cancelled() => Err(Broken::Cancelled),
    };
    let end = match &outcome {
        Ok(()) => DeliverEnd { complete: true, reason: String::new() },
        Err(broken) => DeliverEnd { complete: false, reason: for_the_hub(broken) },
    };
    if let Err(broken @ (Broken::Index(_) | Broken::Segment(_))) = &outcome {
        tracing::warn!(error = %Chain(broken), "delivery broke off");
    }
    // A hub that takes nothing any more does not get to keep this task.
    let end = up.send(DeliverUp { message: Some(Up::End(end)) });
    if !matches!(tokio::time::timeout(END_TIMEOUT, end).await, Ok(Ok(()))) {
        return;
    }
    // Letting go of the answers would reset the stream with the end still on its way.
    drop(up);
    let until_closed = async { while let Ok(Some(_)) = inbound.message().await {} };
    let _ = tokio::time::timeout(END_TIMEOUT, until_closed).await;
}

/// What leaves the box: no path, no cause of ours.
fn for_the_hub(broken: &Broken) -> String {
    match broken {
        Broken::Index(_) | Broken::Segment(_) => "the box cannot read this recording".to_owned(),
        other => other.to_string(),
    }
}

/// Takes windows until the hub cancels or goes.
async fn listen(inbound: &mut Streaming<DeliverDown>, credit: &Credit) -> Broken {
    loop {
        match inbound.message().await {
            Ok(Some(DeliverDown { message: Some(Down::WindowBytes(bytes)) })) => credit.add(bytes),
            Ok(Some(DeliverDown { message: Some(Down::Cancel(true)) })) => return Broken::Cancelled,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return Broken::HubGone,
        }
    }
}

struct Feed<'a> {
    up: &'a mpsc::Sender<DeliverUp>,
    credit: &'a Credit,
    pace: Pace,
    fetch: &'a Fetch,
    /// 0: none.
    budget: u64,
    sent_bytes: u64,
    /// Something of what was asked for cannot be read.
    damaged: bool,
}

impl Feed<'_> {
    async fn run(&mut self, index: &Index) -> Result<(), Broken> {
        let camera = CameraId::try_from(&self.fetch.camera_id).map_err(|_| Broken::Malformed("camera id"))?;
        let stream = match Stream::try_from(self.fetch.stream) {
            Ok(stream) if stream != Stream::Unspecified => stream,
            _ => return Err(Broken::Malformed("stream")),
        };
        let anchors = Anchors::new(index.anchors().await?);
        match &self.fetch.what {
            Some(What::Span(span)) if span.from_us < span.to_us => {
                let rows = spans::segments_of_span(index.segments(camera, stream).await?, span, &anchors);
                self.span(rows, &anchors, Groups::new(*span)).await
            }
            Some(What::Fragments(range)) if range.first <= range.last => {
                let run = RunId::try_from(&range.run_id).map_err(|_| Broken::Malformed("run id"))?;
                let rows = index.segments(camera, stream).await?;
                for row in spans::segments_of_range(rows, run, range) {
                    let contents = self.contents(&row, &anchors).await;
                    self.damaged |= contents.damaged;
                    let chosen = spans::of_range(contents.items, range);
                    if chosen.is_empty() {
                        continue;
                    }
                    let sent = match self.segment(&row, contents.init.as_ref()).await {
                        Ok(()) => self.items(&row, &chosen).await,
                        Err(broken) => Err(broken),
                    };
                    self.unless_unreadable(sent)?;
                }
                if self.damaged { Err(Broken::Damaged) } else { Ok(()) }
            }
            Some(What::Live(_)) => self.follow(index, camera, stream, &anchors).await,
            _ => Err(Broken::Malformed("neither a span, nor fragments, nor live")),
        }
    }

    async fn span(&mut self, rows: Vec<SegmentRow>, anchors: &Anchors, mut groups: Groups) -> Result<(), Broken> {
        let mut inits = Vec::new();
        let mut last = Sent::default();
        for (number, row) in rows.iter().enumerate() {
            if groups.over {
                break;
            }
            let contents = self.contents(row, anchors).await;
            // The segment before the span is read for its last group only.
            self.damaged |= contents.damaged && (!row.closed || anchors.present(&row.end).0.0 > groups.start_us());
            inits.push(contents.init);
            let chosen = groups.take(number, spans::run_of(row), contents.items);
            self.chosen(&rows, &inits, chosen, &mut last).await?;
        }
        let chosen = groups.finish();
        self.chosen(&rows, &inits, chosen, &mut last).await?;
        if self.damaged { Err(Broken::Damaged) } else { Ok(()) }
    }

    /// Of a segment that cannot be read at all there are none.
    async fn contents(&mut self, row: &SegmentRow, anchors: &Anchors) -> Contents {
        let read = read(row, anchors, 0).await.map_err(Broken::Segment);
        self.unless_unreadable(read).ok().flatten().unwrap_or_default()
    }

    /// A segment whose disk does not give it back costs no other: what can be read is delivered, and the end says that
    /// it is not all.
    fn unless_unreadable<T>(&mut self, outcome: Result<T, Broken>) -> Result<Option<T>, Broken> {
        match outcome {
            Ok(done) => Ok(Some(done)),
            Err(Broken::Segment(error)) => {
                tracing::warn!(error = %Chain(&error), "the rest of a segment cannot be delivered");
                self.damaged = true;
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    async fn chosen(
        &mut self,
        rows: &[SegmentRow],
        inits: &[Option<Entry>],
        chosen: Vec<(usize, Item)>,
        sent: &mut Sent,
    ) -> Result<(), Broken> {
        for (number, item) in chosen {
            if sent.unreadable == Some(number) {
                continue;
            }
            let outcome = async {
                if sent.last != Some(number) {
                    self.segment(&rows[number], inits[number].as_ref()).await?;
                    sent.last = Some(number);
                }
                self.items(&rows[number], &[item]).await
            };
            let outcome = outcome.await;
            if self.unless_unreadable(outcome)?.is_none() {
                sent.unreadable = Some(number);
            }
        }
        Ok(())
    }

    /// The newest group, then what is appended, from segment to segment.
    async fn follow(
        &mut self,
        index: &Index,
        camera: CameraId,
        stream: Stream,
        anchors: &Anchors,
    ) -> Result<(), Broken> {
        let mut current: Option<(SegmentRow, u64)> = None;
        let mut quiet_since = tokio::time::Instant::now();
        loop {
            let newest = index.newest_segment(camera, stream).await?;
            let next = match (&current, newest) {
                (Some((row, _)), Some(newest)) if spans::follows(&newest, row) => Some((newest, 0)),
                (None, Some(newest)) => Some((newest, 0)),
                _ => None,
            };
            // What was appended to the old segment goes before the new one.
            if let Some((row, offset)) = &mut current {
                let contents = read(row, anchors, *offset).await?;
                *offset = contents.next_offset;
                if !contents.items.is_empty() {
                    quiet_since = tokio::time::Instant::now();
                }
                self.items(row, &contents.items).await?;
            }
            if let Some((row, _)) = next {
                let contents = read(&row, anchors, 0).await?;
                let Some(init) = contents.init else {
                    tokio::time::sleep(FOLLOW_INTERVAL).await;
                    continue;
                };
                self.segment(&row, Some(&init)).await?;
                let first = current.is_none();
                let items = if first { spans::newest_group(contents.items) } else { contents.items };
                self.items(&row, &items).await?;
                current = Some((row, contents.next_offset));
                quiet_since = tokio::time::Instant::now();
            }
            if quiet_since.elapsed() > FOLLOW_PATIENCE {
                return Err(Broken::NothingLive);
            }
            tokio::time::sleep(FOLLOW_INTERVAL).await;
        }
    }

    async fn segment(&mut self, row: &SegmentRow, init: Option<&Entry>) -> Result<(), Broken> {
        let segment = DeliverSegment { header: row.header.clone(), wrapped_key: row.wrapped_key.clone() };
        self.send(Up::Segment(segment)).await?;
        let Some(init) = init else { return Ok(()) };
        let payload = self.payload(row, init).await?;
        let (header, link) = (init.header.clone(), bytes::Bytes::copy_from_slice(&init.link));
        self.send(Up::Record(DeliverRecord { header, payload, link, utc_us: 0, uncertainty_us: 0 })).await
    }

    async fn items(&mut self, row: &SegmentRow, items: &[Item]) -> Result<(), Broken> {
        for item in items {
            let payload = self.payload(row, &item.entry).await?;
            let record = DeliverRecord {
                header: item.entry.header.clone(),
                payload,
                link: bytes::Bytes::copy_from_slice(&item.entry.link),
                utc_us: item.at.0,
                uncertainty_us: item.uncertainty_us,
            };
            self.send(Up::Record(record)).await?;
        }
        Ok(())
    }

    /// Empty when only headers are wanted, else read, checked, counted and paid for.
    async fn payload(&mut self, row: &SegmentRow, entry: &Entry) -> Result<bytes::Bytes, Broken> {
        if self.fetch.headers_only {
            return Ok(bytes::Bytes::new());
        }
        let size = entry.prefix.payload_bytes;
        if self.budget > 0 && self.sent_bytes + size as u64 > self.budget {
            return Err(Broken::Budget);
        }
        self.pace.turn().await;
        self.credit.take(size).await;
        self.sent_bytes += size as u64;
        let (path, entry) = (row.path.clone(), entry.clone());
        let record = blocking(move || SegmentReader::open(&path)?.record(&entry)).await?;
        Ok(record.payload)
    }

    async fn send(&self, message: Up) -> Result<(), Broken> {
        self.up.send(DeliverUp { message: Some(message) }).await.map_err(|_| Broken::HubGone)
    }
}

/// Of the segments of a span, by their number.
#[derive(Default)]
struct Sent {
    last: Option<usize>,
    unreadable: Option<usize>,
}

async fn read(row: &SegmentRow, anchors: &Anchors, offset: u64) -> Result<Contents, ReadError> {
    let (row, anchors) = (row.clone(), anchors.clone());
    blocking(move || spans::read_on(&row, &anchors, offset)).await
}

async fn blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
