//! A camera that sends what it likes: RTP packets, and the parameter sets within.

use campanile_proto::time::{SimClock, WallTime};
use edge_agent::media::outlet::Outlet;
use edge_agent::media::parameters::ParameterSets;
use edge_agent::media::stamp::{Belief, Stamper};
use edge_agent::media::{AccessUnit, Codec, Item, StreamFormat, nal_units};
use edge_agent::record::fmp4::{init_section, media_section};
use edge_agent::record::fragment::{Fragment, Fragmenter};
use std::sync::Arc;
use tokio::sync::mpsc;

/// 1 January 2026.
const BEGAN: WallTime = WallTime(1_767_225_600_000_000);
/// Of both formats' tests: parameter sets of 768x432.
const SPROPS: [&[&str]; 2] = [
    &["Z01AHtkAwDempsDAyAAAAwAIAAADAZB4sXJA,aOvBssg="],
    &[
        "QAEMAf//AWAAAAMAkAAAAwAAAwBaApKAkA==",
        "QgEBAWAAAAMAkAAAAwAAAwBaoAYCAbFlkqSTK5qDAwNwgAAAAwAIAAADAMhA",
        "RAHBcrRiQA==",
    ],
];

/// `first byte | (control u8 | length u8 | payload)*`: a connection from its description to fragments on their way to
/// the disk. The first byte chooses format, description and clock rate. Gives how many fragments were written.
pub fn camera(bytes: &[u8]) -> u64 {
    let Some((&first, mut rest)) = bytes.split_first() else { return 0 };
    let codec = if first & 1 == 0 { Codec::H264 } else { Codec::H265 };
    let sprops = if first & 2 == 0 { SPROPS[usize::from(first & 1)] } else { &[] };
    let clock_rate = [90_000, 90_000, 0, 8_000, 1, u32::MAX, 44_100, 90_001][usize::from(first >> 2 & 7)];
    let clock = Arc::new(SimClock::starting_at(BEGAN));
    let stamper = Stamper::new(clock.clone(), Arc::new(|| Belief { trusted: true, uncertainty_us: 7 }));
    let (sender, mut items) = mpsc::channel(8);
    let outlet = Outlet::new(sender, stamper);
    outlet.begin(codec, clock_rate, sprops);
    let mut wire = Wire { sequence: 65_530, timestamp: u32::MAX - 9_000 };
    let mut disk = Disk::default();
    while let Some((&[control, length], after)) = rest.split_first_chunk::<2>() {
        let (payload, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        clock.advance_micros([40_000, 0, 1_500_000, 7_000_000][usize::from(control >> 5 & 3)]);
        let ntp = (control & 0x80 != 0).then_some(i64::from(length) * 1_000_000);
        outlet.packet(&wire.packet(control, payload), ntp);
        // A slow disk: what does not fit is lost, and that is told.
        if control & 0x10 == 0 {
            while let Ok(Ok(item)) = items.try_recv() {
                disk.take(item, &outlet);
            }
        }
    }
    outlet.no_more_streams();
    while let Ok(Ok(item)) = items.try_recv() {
        disk.take(item, &outlet);
    }
    disk.end_run();
    disk.written
}

/// Numbers that follow one another, most of the time.
struct Wire {
    sequence: u16,
    timestamp: u32,
}

impl Wire {
    fn packet(&mut self, control: u8, payload: &[u8]) -> Vec<u8> {
        if control & 0x0f == 0x0f {
            return payload.to_vec();
        }
        let lost = if control & 8 != 0 { u16::from(control) << 8 } else { 0 };
        self.sequence = self.sequence.wrapping_add(1).wrapping_add(lost);
        let step = [0, 3_600, u32::from(control) << 24, 0u32.wrapping_sub(7_200)][usize::from(control >> 1 & 3)];
        self.timestamp = self.timestamp.wrapping_add(step);
        let mut packet = vec![0x80, 96 | (control & 1) << 7];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(self.timestamp.to_be_bytes());
        packet.extend([0; 4]);
        packet.extend(payload);
        packet
    }
}

/// What the recorder makes of it.
#[derive(Default)]
struct Disk {
    format: Option<Arc<StreamFormat>>,
    run: Fragmenter,
    next_decode: u64,
    in_run: u32,
    written: u64,
}

impl Disk {
    fn take(&mut self, item: Item, outlet: &Outlet) {
        match item {
            Item::Format(format) => {
                self.end_run();
                described(&format);
                self.format = Some(format);
            }
            Item::Unit(unit) => {
                outlet.waiting().give_back(unit.data.len());
                self.unit(unit);
            }
            Item::Lost { from, to } => assert!(from.mono_us <= to.mono_us),
        }
    }

    fn unit(&mut self, unit: AccessUnit) {
        assert!(self.format.is_some(), "a unit comes before its format");
        let whole: usize = nal_units(&unit.data).map(|nal| nal.len() + 4).sum();
        assert_eq!(whole, unit.data.len(), "NAL units and their lengths, and nothing else");
        if let Some(fragment) = self.run.push(unit) {
            self.write(&fragment);
        }
    }

    fn end_run(&mut self) {
        if let Some(fragment) = self.run.flush() {
            self.write(&fragment);
        }
        *self = Self { written: self.written, ..Self::default() };
    }

    fn write(&mut self, fragment: &Fragment) {
        assert!(fragment.decode_time_90k >= self.next_decode, "time goes back within a run");
        let lasts: u64 = fragment.samples.iter().map(|sample| u64::from(sample.duration_90k)).sum();
        assert_eq!(lasts, fragment.duration_90k);
        self.next_decode = fragment.decode_time_90k + fragment.duration_90k;
        self.in_run += 1;
        self.written += 1;
        media_section(self.in_run, fragment).expect("every fragment can be written");
    }
}

/// `codec u8 | (length u8 | NAL unit)*`: parameter sets alone, which the bits of pictures would hide. Gives
/// how often they described a picture.
pub fn parameters(bytes: &[u8]) -> u64 {
    let Some((&codec, mut rest)) = bytes.split_first() else { return 0 };
    let mut sets = ParameterSets::new(if codec & 1 == 0 { Codec::H264 } else { Codec::H265 });
    let (mut unit, mut formats) = (Vec::new(), 0);
    while let Some((&length, after)) = rest.split_first() {
        let (nal, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        if codec & 2 == 0 {
            sets.offer(nal);
        } else {
            unit.extend((nal.len() as u32).to_be_bytes());
            unit.extend(nal);
            sets.collect(&unit, codec & 4 != 0);
        }
        if let Some(format) = sets.format() {
            described(&format);
            formats += 1;
        }
    }
    formats
}

/// A format is one that can be written down, for a picture of a size that there is.
fn described(format: &StreamFormat) {
    assert!((1..=16_384).contains(&format.width) && (1..=16_384).contains(&format.height));
    let init = init_section(format).expect("what is told can be written");
    assert!(init.len() < 1 << 20);
}
