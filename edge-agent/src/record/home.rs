//! The disk that recordings belong on. A disk that is not mounted leaves its folder on the system's card, and a card
//! that is filled with footage takes the whole box down: so the disk carries a mark, and the box knows it.
//!
//! The mark lies in the media folder, its copy in the state folder. A mark and not the file system's own id: XFS
//! takes that from the device's number, which another slot changes, and a disk whose content was moved to a larger
//! one is still the same.

use super::segment::SegmentError;
use crate::identity::replace_file;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// In the media folder.
const MARK: &str = ".campanile-disk";
/// In the state folder.
const KNOWN: &str = "media-disk";
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Every stream of every camera enters; the first marks the disk for all.
static FIRST_USE: Mutex<()> = Mutex::new(());

/// A media folder and what its disk is known by.
#[derive(Debug, Clone)]
pub struct Home {
    media_dir: PathBuf,
    known: PathBuf,
}

/// Which disk the media folder is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing was recorded yet, as far as the box knows.
    First,
    Same,
    /// Another one, or none.
    Other,
}

impl Home {
    pub fn new(state_dir: &Path, media_dir: &Path) -> Self {
        Self { media_dir: media_dir.to_owned(), known: state_dir.join(KNOWN) }
    }

    /// What to remove when another disk is meant to take the place of the one before.
    pub fn known_by(&self) -> &Path {
        &self.known
    }

    /// Changes nothing.
    pub fn look(&self) -> std::io::Result<Found> {
        let Some(known) = read(&self.known)? else { return Ok(Found::First) };
        let same = read(&self.media_dir.join(MARK))? == Some(known);
        Ok(if same { Found::Same } else { Found::Other })
    }

    /// Passes on the disk that is known, and marks the one of the first use. A disk that carries a mark already is
    /// that of a box that was installed anew.
    pub fn enter(&self) -> Result<(), SegmentError> {
        match self.look().map_err(|source| self.unreadable(source))? {
            Found::Same => Ok(()),
            Found::Other => {
                Err(SegmentError::OtherDisk { media_dir: self.media_dir.clone(), known: self.known.clone() })
            }
            Found::First => self.mark(),
        }
    }

    fn mark(&self) -> Result<(), SegmentError> {
        let _alone = FIRST_USE.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = self.media_dir.join(MARK);
        let id = match read(&mark).map_err(|source| self.unreadable(source))? {
            Some(id) => id,
            None => {
                let id = Uuid::new_v4();
                write(&mark, id)?;
                id
            }
        };
        write(&self.known, id)
    }

    fn unreadable(&self, source: std::io::Error) -> SegmentError {
        SegmentError::Mark { path: self.media_dir.join(MARK), source }
    }

    /// Says when the disk goes and comes; when it is back, what it holds is to be walked.
    pub async fn watch(self, walk: Arc<Notify>, stop: CancellationToken) {
        let mut away = false;
        loop {
            away = self.is_away(away, &walk).await;
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn is_away(&self, was_away: bool, walk: &Notify) -> bool {
        let home = self.clone();
        // A disk that hangs hangs this thread, not the runtime's.
        let found = tokio::task::spawn_blocking(move || home.look()).await;
        let away = matches!(found, Ok(Ok(Found::Other) | Err(_)));
        let media_dir = self.media_dir.display();
        if away && !was_away {
            tracing::error!(%media_dir, "the disk of the recordings is not there: nothing is recorded until it is back");
        } else if was_away && !away {
            tracing::info!(%media_dir, "the disk of the recordings is back");
            walk.notify_one();
        }
        away
    }
}

/// None: not there, or no mark.
fn read(path: &Path) -> std::io::Result<Option<Uuid>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Uuid::parse_str(text.trim()).ok()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => Ok(None),
        Err(error) => Err(error),
    }
}

fn write(path: &Path, id: Uuid) -> Result<(), SegmentError> {
    let written = replace_file(path, format!("{id}\n").as_bytes());
    written.map_err(|source| SegmentError::Mark { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct OneBox {
        folder: tempfile::TempDir,
        home: Home,
    }

    impl OneBox {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let (state, media) = (folder.path().join("state"), folder.path().join("media"));
            [&state, &media].iter().for_each(|path| std::fs::create_dir(path).unwrap());
            Self { home: Home::new(&state, &media), folder }
        }

        /// What a mount point is without its disk.
        fn take_disk_away(&self) {
            let media = self.folder.path().join("media");
            std::fs::rename(&media, self.folder.path().join("disk")).unwrap();
            std::fs::create_dir(&media).unwrap();
        }

        fn bring_disk_back(&self) {
            let media = self.folder.path().join("media");
            std::fs::remove_dir(&media).unwrap();
            std::fs::rename(self.folder.path().join("disk"), media).unwrap();
        }
    }

    #[test]
    fn the_disk_of_the_first_use_is_known_ever_after_and_no_other_is_entered() {
        let one = OneBox::new();
        assert_eq!(one.home.look().unwrap(), Found::First);
        one.home.enter().unwrap();
        assert_eq!(one.home.look().unwrap(), Found::Same);
        one.take_disk_away();
        assert!(matches!(one.home.enter(), Err(SegmentError::OtherDisk { .. })));
        let left = std::fs::read_dir(one.folder.path().join("media")).unwrap().count();
        assert_eq!(left, 0, "an empty mount point stays empty");
        one.bring_disk_back();
        one.home.enter().unwrap();
    }

    #[test]
    fn cameras_that_begin_at_the_same_time_agree_on_their_disk() {
        for _ in 0..50 {
            let one = OneBox::new();
            let begin = std::sync::Barrier::new(12);
            std::thread::scope(|scope| {
                for _ in 0..12 {
                    scope.spawn(|| {
                        begin.wait();
                        one.home.enter().unwrap();
                    });
                }
            });
            assert_eq!(one.home.look().unwrap(), Found::Same);
        }
    }

    #[test]
    fn another_disk_is_taken_once_somebody_says_so_and_an_old_one_by_a_new_box() {
        let one = OneBox::new();
        one.home.enter().unwrap();
        one.take_disk_away();
        std::fs::remove_file(one.home.known_by()).unwrap();
        one.home.enter().unwrap();
        let state = tempfile::tempdir().unwrap();
        let anew = Home::new(state.path(), &one.folder.path().join("media"));
        anew.enter().unwrap();
        one.home.enter().unwrap();
        assert_eq!((anew.look().unwrap(), one.home.look().unwrap()), (Found::Same, Found::Same), "one mark for both");
    }

    #[test]
    fn streams_that_begin_together_agree_on_the_disk_of_the_first_use() {
        for _ in 0..50 {
            let one = OneBox::new();
            let together = std::sync::Barrier::new(8);
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        together.wait();
                        one.home.enter().unwrap();
                    });
                }
            });
            assert_eq!(one.home.look().unwrap(), Found::Same);
        }
    }

    #[test]
    fn a_mark_that_was_torn_is_none() {
        let one = OneBox::new();
        one.home.enter().unwrap();
        std::fs::write(one.folder.path().join("media").join(MARK), "torn").unwrap();
        assert_eq!(one.home.look().unwrap(), Found::Other);
    }

    #[tokio::test]
    async fn a_disk_that_comes_back_is_walked() {
        let one = OneBox::new();
        one.home.enter().unwrap();
        let walk = Notify::new();
        let told = async |walk: &Notify| tokio::time::timeout(Duration::ZERO, walk.notified()).await.is_ok();
        assert!(!one.home.is_away(false, &walk).await && !told(&walk).await);
        one.take_disk_away();
        assert!(one.home.is_away(false, &walk).await && !told(&walk).await);
        assert!(one.home.is_away(true, &walk).await && !told(&walk).await);
        one.bring_disk_back();
        assert!(!one.home.is_away(true, &walk).await && told(&walk).await);
    }
}
