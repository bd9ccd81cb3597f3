//! What to send next: pure. The durable rows are the index's.

use std::collections::HashMap;

/// Reports in flight: enough to fill a 4G link of 200 ms, few enough to resend.
const MAX_REPORTS: usize = 256;
/// Bytes in flight, about a second of a 16 Mbit/s uplink.
const MAX_BYTES: usize = 2 << 20;

/// Reports sent and not acknowledged in this session.
#[derive(Debug, Default)]
pub struct Window {
    in_flight: HashMap<u64, usize>,
    bytes: usize,
}

impl Window {
    /// How many more reports may be sent now.
    pub fn room(&self) -> usize {
        if self.bytes >= MAX_BYTES { 0 } else { MAX_REPORTS.saturating_sub(self.in_flight.len()) }
    }

    pub fn sent(&mut self, sequence: u64, bytes: usize) {
        if let Some(before) = self.in_flight.insert(sequence, bytes) {
            self.bytes -= before;
        }
        self.bytes += bytes;
    }

    pub fn acknowledged(&mut self, first: u64, last: u64) {
        let bytes = &mut self.bytes;
        self.in_flight.retain(|sequence, size| {
            let stays = !(first..=last).contains(sequence);
            *bytes -= if stays { 0 } else { *size };
            stays
        });
    }

    pub fn sequences(&self) -> impl Iterator<Item = u64> + '_ {
        self.in_flight.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn never_loses_count_of_what_is_in_flight(
            steps in proptest::collection::vec((0u64..300, 0u64..40, 0usize..50_000, any::<bool>()), 0..200)
        ) {
            let mut window = Window::default();
            for (first, more, bytes, send) in steps {
                if send { window.sent(first, bytes) } else { window.acknowledged(first, first + more) }
                prop_assert_eq!(window.bytes, window.in_flight.values().sum::<usize>());
                prop_assert!(window.room() <= MAX_REPORTS);
            }
            window.acknowledged(0, u64::MAX);
            prop_assert_eq!((window.bytes, window.room()), (0, MAX_REPORTS));
        }
    }
}
