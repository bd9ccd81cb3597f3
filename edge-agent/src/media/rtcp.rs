//! What a sender says of its own clock (RFC 3550 section 6.4.1), and that it leaves (section 6.6).

use retina::NtpTimestamp;
use retina::rtcp::{PacketRef, SenderReportRef};

/// Between 1900 (NTP) and 1970.
pub(super) const NTP_TO_UNIX_US: i64 = 2_208_988_800_000_000;
const GOODBYE: u8 = 203;

/// One moment on the camera's clock and on its stream's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderReport {
    /// UTC as the camera has it, microseconds.
    pub utc_us: i64,
    pub rtp_time: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reports {
    pub sender: Option<SenderReport>,
    pub goodbye: bool,
}

impl SenderReport {
    /// The camera's time of a packet with this timestamp.
    pub fn utc_us_of(&self, rtp_time: u32, clock_rate: u32) -> i64 {
        let ticks = i64::from(rtp_time.wrapping_sub(self.rtp_time) as i32);
        self.utc_us.saturating_add(ticks * 1_000_000 / i64::from(clock_rate.max(1)))
    }
}

/// Reads a compound packet, as far as it can be read.
pub fn read(mut bytes: &[u8]) -> Reports {
    let mut found = Reports::default();
    while let Ok((packet, rest)) = PacketRef::parse(bytes) {
        found.goodbye |= packet.payload_type() == GOODBYE;
        found.sender =
            packet.as_sender_report().ok().flatten().and_then(|report| sender_report(&report)).or(found.sender);
        bytes = rest;
    }
    found
}

fn sender_report(report: &SenderReportRef<'_>) -> Option<SenderReport> {
    // Seconds since 1900, and behind them 32 bits of their fraction.
    let NtpTimestamp(ntp) = report.ntp_timestamp();
    let (seconds, fraction) = ((ntp >> 32) as i64, (ntp & 0xffff_ffff) as i64);
    // A camera without a clock leaves it at nought.
    let utc_us = seconds * 1_000_000 + ((fraction * 1_000_000) >> 32) - NTP_TO_UNIX_US;
    (seconds != 0).then_some(SenderReport { utc_us, rtp_time: report.rtp_timestamp() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::TICKS_PER_SECOND;
    use proptest::prelude::*;

    fn report(seconds: u32, fraction: u32, rtp_time: u32) -> Vec<u8> {
        let mut bytes = vec![0x80, 200, 0, 6, 0, 0, 0, 9];
        for number in [seconds, fraction, rtp_time, 0, 0] {
            bytes.extend(number.to_be_bytes());
        }
        bytes
    }

    #[test]
    fn packets_are_timed_by_the_last_report_also_across_the_wrap() {
        let mut bytes = report(2_208_988_800 + 7, 1 << 31, u32::MAX - 44_999);
        bytes.extend([0x81, 202, 0, 1, 0, 0, 0, 9]);
        let found = read(&bytes);
        let sender = found.sender.unwrap();
        assert_eq!((sender.utc_us, found.goodbye), (7_500_000, false));
        assert_eq!(sender.utc_us_of(45_000, TICKS_PER_SECOND as u32), 8_500_000);
        assert_eq!(sender.utc_us_of(u32::MAX - 134_999, TICKS_PER_SECOND as u32), 6_500_000);
    }

    #[test]
    fn a_camera_without_a_clock_says_nothing_and_one_that_leaves_is_heard() {
        let mut bytes = report(0, 0, 5);
        bytes.extend([0x81, 203, 0, 1, 0, 0, 0, 9]);
        assert_eq!(read(&bytes), Reports { sender: None, goodbye: true });
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..80), start in 0usize..3, at: u32, rate: u32
        ) {
            let bytes = [[&[][..], &[0x80, 200, 0, 6], &[0x80, 203, 0, 0]][start], &bytes].concat();
            if let Some(sender) = read(&bytes).sender {
                let _ = sender.utc_us_of(at, rate);
            }
        }
    }
}
