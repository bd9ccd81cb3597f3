//! Bytes that wait between two tasks, bounded: pictures differ in size by a thousand, so that counting them alone
//! bounds nothing.

use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    most: usize,
}

impl Budget {
    pub fn new(most: usize) -> Self {
        Self { used: AtomicUsize::new(0), most }
    }

    /// Whether so many bytes may wait too; one that is larger than everything may wait alone.
    pub fn take(&self, bytes: usize) -> bool {
        let fits = |used: usize| {
            let after = used.saturating_add(bytes);
            (used == 0 || after <= self.most).then_some(after)
        };
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).is_ok()
    }

    /// They wait no more.
    pub fn give_back(&self, bytes: usize) {
        let _ = self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| Some(used.saturating_sub(bytes)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_can_be_taken_again_and_a_giant_goes_alone() {
        let budget = Budget::new(100);
        assert!(budget.take(60) && !budget.take(60) && budget.take(40));
        budget.give_back(60);
        assert!(budget.take(60));
        budget.give_back(100);
        assert!(budget.take(1_000) && !budget.take(1));
        budget.give_back(1_000);
        assert!(budget.take(1));
    }
}
