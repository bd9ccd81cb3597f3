//! What waits for the disk: media before findings, each within its own bounds, so that a flood of findings never
//! costs a picture.

use super::orders::{IndexOrder, MediaOrder};
use campanile_proto::types::v1::Stream;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Fragments that wait while the disk is slow; more are lost, and the gap is told.
const MAX_MEDIA: usize = 64;
/// Of them in bytes: 16 s of 32 Mbit/s.
const MAX_MEDIA_BYTES: usize = 64 << 20;
const MAX_INDEX: usize = 256;
const MAX_INDEX_BYTES: usize = 4 << 20;

#[derive(Debug)]
pub(super) enum Order {
    Media(Box<MediaOrder>),
    Index(IndexOrder),
    /// The run is over.
    Close(Stream),
}

/// What there is to do.
#[derive(Debug)]
pub(super) enum Next {
    Order(Order),
    /// Nothing for as long as was asked.
    Idle,
    /// Nothing, and nobody is left to give orders.
    Over,
}

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

#[derive(Default)]
struct Class {
    waiting: VecDeque<(usize, Order)>,
    bytes: usize,
}

impl Class {
    fn push(&mut self, order: Order, bytes: usize, most: (usize, usize)) -> Result<(), Full> {
        // One that is larger than the bound still goes through alone.
        if self.waiting.len() >= most.0 || !self.waiting.is_empty() && self.bytes + bytes > most.1 {
            return Err(Full);
        }
        self.bytes += bytes;
        self.waiting.push_back((bytes, order));
        Ok(())
    }

    fn pop(&mut self) -> Option<Order> {
        let (bytes, order) = self.waiting.pop_front()?;
        self.bytes -= bytes;
        Some(order)
    }
}

#[derive(Default)]
struct State {
    media: Class,
    index: Class,
    over: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    ready: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives orders; cheap to clone, never waits. The queue is over when the last one is gone.
#[derive(Clone)]
pub(super) struct Giver(Arc<Given>);

struct Given(Arc<Shared>);

impl Drop for Given {
    fn drop(&mut self) {
        self.0.lock().over = true;
        self.0.ready.notify_one();
    }
}

/// Takes orders.
pub(super) struct Taker(Arc<Shared>);

pub(super) fn queue() -> (Giver, Taker) {
    let shared = Arc::new(Shared::default());
    (Giver(Arc::new(Given(shared.clone()))), Taker(shared))
}

impl Giver {
    pub fn give(&self, order: Order) -> Result<(), Full> {
        let shared = &self.0.0;
        let mut state = shared.lock();
        match order {
            Order::Media(media) => {
                let bytes = media.fragment.samples.iter().map(|sample| sample.data.len()).sum();
                state.media.push(Order::Media(media), bytes, (MAX_MEDIA, MAX_MEDIA_BYTES))?;
            }
            Order::Index(finding) => {
                let bytes = finding.record.len();
                state.index.push(Order::Index(finding), bytes, (MAX_INDEX, MAX_INDEX_BYTES))?;
            }
            // Bounded by the runs of a stream, and never lost.
            Order::Close(stream) => state.media.waiting.push_back((0, Order::Close(stream))),
        }
        shared.ready.notify_one();
        Ok(())
    }
}

impl Taker {
    /// Media first. Orders that wait are taken also after the last giver is gone.
    pub fn next(&self, within: Duration) -> Next {
        let until = Instant::now() + within;
        let mut state = self.0.lock();
        loop {
            if let Some(order) = state.media.pop() {
                return Next::Order(order);
            }
            if let Some(order) = state.index.pop() {
                return Next::Order(order);
            }
            let left = until.saturating_duration_since(Instant::now());
            if state.over {
                return Next::Over;
            }
            if left.is_zero() {
                return Next::Idle;
            }
            state = self.0.ready.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Codec, StreamFormat};
    use crate::record::fragment::{Fragment, Sample};
    use campanile_proto::ids::{ObjectId, RunId};

    fn media(index: u64, bytes: usize) -> Order {
        let data = bytes::Bytes::from(vec![0; bytes]);
        let fragment = Fragment {
            decode_time_90k: 0,
            duration_90k: 1,
            samples: vec![Sample { data, duration_90k: 1, offset_90k: 0, key: true }],
            arrival: Default::default(),
            last_arrival: Default::default(),
            rtp_time: 0,
            camera_ntp_us: 0,
        };
        let format =
            StreamFormat { codec: Codec::H264, width: 2, height: 2, decoder_configuration: Default::default() };
        let (stream, format, run) = (Stream::Main, Arc::new(format), RunId::from_u128(1));
        Order::Media(Box::new(MediaOrder { stream, format, run, index, fragment }))
    }

    fn finding() -> Order {
        let record = bytes::Bytes::from_static(&[0; 1_000]);
        Order::Index(IndexOrder { object: ObjectId::random(), revision: 1, arrival: Default::default(), record })
    }

    #[test]
    fn a_flood_of_findings_neither_keeps_media_out_nor_waiting() {
        let (giver, taker) = queue();
        let taken = (0..10_000).filter(|_| giver.give(finding()).is_ok()).count();
        assert_eq!(taken, MAX_INDEX);
        giver.give(media(7, 100)).unwrap();
        let Next::Order(Order::Media(first)) = taker.next(Duration::ZERO) else { panic!("media goes first") };
        assert_eq!(first.index, 7);
        assert!(matches!(taker.next(Duration::ZERO), Next::Order(Order::Index(_))));
    }

    #[test]
    fn waiting_pictures_are_bounded_by_their_bytes_and_a_close_is_never_lost() {
        let (giver, taker) = queue();
        let taken = (0..20).filter(|n| giver.give(media(*n, 10 << 20)).is_ok()).count();
        assert_eq!(taken, 6);
        giver.give(Order::Close(Stream::Main)).unwrap();
        (0..6).for_each(|_| assert!(matches!(taker.next(Duration::ZERO), Next::Order(Order::Media(_)))));
        assert!(matches!(taker.next(Duration::ZERO), Next::Order(Order::Close(Stream::Main))));
        assert!(matches!(taker.next(Duration::ZERO), Next::Idle));
        giver.give(media(0, 100 << 20)).unwrap();
        drop(giver);
        assert!(matches!(taker.next(Duration::ZERO), Next::Order(_)), "given before the end");
        assert!(matches!(taker.next(Duration::ZERO), Next::Over));
    }
}
