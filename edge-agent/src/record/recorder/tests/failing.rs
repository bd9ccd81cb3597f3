//! A disk that fails in the middle of a recording.

use super::*;
use crate::facts::Fact;
use crate::record::fixture::FailingDisk;
use nix::errno::Errno;
use nix::libc;

struct OnFailing {
    bench: Bench,
    disk: FailingDisk,
    recorder: Recorder,
    outcomes: Outcomes,
    facts: mpsc::Receiver<Fact>,
    full: Arc<tokio::sync::Notify>,
    _writing: Writing,
}

impl OnFailing {
    fn start() -> Self {
        let (bench, disk, full) = (Bench::new(), FailingDisk::default(), Arc::<tokio::sync::Notify>::default());
        let (sender, facts, _) = facts::channel();
        let (recorder, outcomes, _writing) = bench.start(|setting| {
            setting.disk = Arc::new(disk.clone());
            setting.facts = sender;
            setting.full = full.clone();
        });
        Self { bench, disk, recorder, outcomes, facts, full, _writing }
    }

    /// Fragments of a second, each brought to disk before the next.
    async fn record_to_disk(&mut self, fragments: usize) {
        for recorded in 1..=fragments {
            self.bench.record(&self.recorder);
            let Outcome::Written { .. } = next(&mut self.outcomes).await else { panic!("not written") };
            let flushed = async {
                // And once when the file was made.
                while self.disk.flushed() < 1 + recorded {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), flushed).await.expect("not brought to disk");
        }
    }

    /// What the index is told of the first segment once it is over, and why it is suspect.
    async fn told(&mut self) -> (u64, Option<String>) {
        let mut fragments = None;
        loop {
            let fact = tokio::time::timeout(Duration::from_secs(20), self.facts.recv()).await;
            match fact.expect("nothing more is told").unwrap() {
                Fact::SegmentGrew { closed: true, fragment_count, signed, .. } => {
                    assert_eq!(signed, None, "it has no footer");
                    fragments = Some(fragment_count);
                }
                Fact::SegmentSuspect { cause, .. } => return (fragments.expect("it is over first"), Some(cause)),
                // The next one: nothing follows of the first.
                Fact::SegmentOpened { .. } if fragments.is_some() => return (fragments.unwrap(), None),
                _ => {}
            }
        }
    }

    /// The disk is well again: recording goes on in a new file, and the first is not touched.
    async fn goes_on(&mut self) {
        self.disk.set(|faults| (faults.writes, faults.flushes) = (None, None));
        let first = self.bench.segments();
        let left = std::fs::read(&first[0]).unwrap();
        (0..4).for_each(|_| self.bench.record(&self.recorder));
        while !matches!(next(&mut self.outcomes).await, Outcome::Written { .. }) {}
        assert_eq!(self.bench.segments().len(), 2, "after a rest of two seconds");
        assert_eq!(std::fs::read(&first[0]).unwrap(), left, "nothing more is written to it");
    }

    async fn failed(&mut self) -> CameraCondition {
        loop {
            if let Outcome::Failed(trouble) = next(&mut self.outcomes).await {
                return trouble.condition;
            }
        }
    }
}

#[tokio::test]
async fn a_flush_that_fails_leaves_the_segment_suspect_and_tells_no_more_than_was_flushed_before() {
    let mut on = OnFailing::start();
    on.record_to_disk(3).await;
    let covered = on.bench.clock.mono().0;
    on.disk.set(|faults| faults.flushes = Some(libc::EIO));
    on.bench.record(&on.recorder);
    assert_eq!(on.failed().await, CameraCondition::DiskError);
    let Outcome::Doubtful { start, end, condition } = next(&mut on.outcomes).await else {
        panic!("the gap is not told")
    };
    assert_eq!((start.mono_us, end.mono_us), (covered, covered + 1_000_000), "the second that may be lost");
    assert_eq!(condition, CameraCondition::DiskError);
    on.goes_on().await;
    let (fragments, suspect) = on.told().await;
    assert_eq!((fragments, suspect.unwrap()), (3, format!("a flush failed: {}", std::io::Error::from(Errno::EIO))));
}

#[tokio::test]
async fn a_write_that_fails_leaves_the_segment_suspect_with_what_the_disk_has_of_it() {
    let mut on = OnFailing::start();
    on.record_to_disk(3).await;
    on.disk.set(|faults| faults.writes = Some(libc::EIO));
    on.bench.record(&on.recorder);
    assert_eq!(on.failed().await, CameraCondition::DiskError);
    on.goes_on().await;
    let (fragments, suspect) = on.told().await;
    assert_eq!((fragments, suspect.unwrap()), (3, format!("a write failed: {}", std::io::Error::from(Errno::EIO))));
}

#[tokio::test]
async fn a_full_disk_has_its_own_cause_and_leaves_nothing_suspect() {
    let mut on = OnFailing::start();
    on.record_to_disk(3).await;
    on.disk.set(|faults| faults.writes = Some(libc::ENOSPC));
    on.bench.record(&on.recorder);
    assert_eq!(on.failed().await, CameraCondition::DiskFull);
    tokio::time::timeout(Duration::from_secs(20), on.full.notified()).await.expect("nobody is told to make place");
    on.goes_on().await;
    assert_eq!(on.told().await, (3, None));
}

#[tokio::test]
async fn a_disk_found_full_while_flushing_has_lost_something_all_the_same() {
    let mut on = OnFailing::start();
    on.record_to_disk(2).await;
    on.disk.set(|faults| faults.flushes = Some(libc::ENOSPC));
    on.bench.record(&on.recorder);
    assert_eq!(on.failed().await, CameraCondition::DiskFull);
    on.goes_on().await;
    let (fragments, suspect) = on.told().await;
    assert!(fragments == 2 && suspect.unwrap().starts_with("a flush failed"));
}
