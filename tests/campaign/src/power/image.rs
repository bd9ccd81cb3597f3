//! What a disk may hold after a power cut: everything that was brought to it, and of the rest whatever chance leaves.

use super::history::{Change, Deed, File, History, parent};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How a file system keeps names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Names {
    /// As POSIX promises: each name for itself.
    Posix,
    /// In order, as ext4 and XFS do.
    Journal,
}

/// What becomes of writes that were not brought to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    Lost,
    Kept,
    /// Each for itself kept or lost: they arrive in another order.
    Reordered,
    /// Each kept, lost, or kept in some of its blocks.
    Torn,
    /// Kept up to one of them, which is torn.
    CutShort,
}

/// One power cut.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Cut {
    pub at: usize,
    pub names: Names,
    pub fate: Fate,
    /// A sector, or a page.
    pub block_bytes: u64,
    /// Files are as long as their lost writes made them, zeros in their place.
    pub lengths_kept: bool,
}

impl Cut {
    pub fn choose(history: &History, random: &mut ChaCha8Rng) -> Self {
        let fates = [Fate::Lost, Fate::Kept, Fate::Reordered, Fate::Torn, Fate::Torn, Fate::CutShort];
        // Right behind a sync one file is farther than the others that speak of it.
        let at = match history.syncs.len() {
            syncs if syncs > 0 && random.random_bool(0.25) => history.syncs[random.random_range(0..syncs)] + 1,
            _ => random.random_range(1..=history.records),
        };
        Self {
            at,
            names: if random.random_bool(0.5) { Names::Posix } else { Names::Journal },
            fate: fates[random.random_range(0..fates.len())],
            block_bytes: if random.random_bool(0.5) { 512 } else { 4096 },
            lengths_kept: random.random_bool(0.5),
        }
    }

    pub fn has(&self, change: &Change) -> bool {
        let since = match self.names {
            Names::Posix => change.synced,
            Names::Journal => change.journalled,
        };
        since.is_some_and(|since| since < self.at)
    }
}

/// A disk's content.
#[derive(Debug, Default)]
pub struct Image {
    pub folders: BTreeSet<String>,
    pub files: BTreeMap<String, Vec<u8>>,
}

/// What the disk holds after `cut`; `roots` are there in any case.
pub fn image(history: &History, cut: &Cut, roots: &[&str], random: &mut ChaCha8Rng) -> Image {
    let changes = history.until(cut.at);
    let (folders, names) = names(changes, cut, roots, random);
    let wanted: BTreeSet<File> = names.values().copied().collect();
    let mut contents = contents(history, changes, cut, &wanted, random);
    let files = names.into_iter().map(|(path, file)| (path, contents.remove(&file).unwrap_or_default())).collect();
    Image { folders, files }
}

/// What the processes themselves saw at the cut.
pub fn truth(history: &History, at: usize) -> BTreeMap<String, (File, Vec<u8>)> {
    let (mut names, mut contents): (BTreeMap<String, File>, HashMap<File, Vec<u8>>) = Default::default();
    for change in history.until(at) {
        rename(&mut names, &change.deed);
        change_content(history, &mut contents, &change.deed);
    }
    names.into_iter().map(|(path, file)| (path, (file, contents.get(&file).cloned().unwrap_or_default()))).collect()
}

fn rename(names: &mut BTreeMap<String, File>, deed: &Deed) {
    match deed {
        Deed::Create { file, path } => {
            names.insert(path.clone(), *file);
        }
        Deed::Rename { file, from, to } => {
            if names.get(from) == Some(file) {
                names.remove(from);
            }
            names.insert(to.clone(), *file);
        }
        Deed::Unlink { path } => {
            names.remove(path);
        }
        _ => {}
    }
}

fn change_content(history: &History, contents: &mut HashMap<File, Vec<u8>>, deed: &Deed) {
    match deed {
        Deed::Write { file, offset, bytes } => put(contents.entry(*file).or_default(), *offset, history.bytes(bytes)),
        Deed::Truncate { file, length } => contents.entry(*file).or_default().resize(*length as usize, 0),
        _ => {}
    }
}

fn put(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let (start, end) = (offset as usize, offset as usize + bytes.len());
    if content.len() < end {
        content.resize(end, 0);
    }
    content[start..end].copy_from_slice(bytes);
}

type NamesLeft = (BTreeSet<String>, BTreeMap<String, File>);

fn names(changes: &[Change], cut: &Cut, roots: &[&str], random: &mut ChaCha8Rng) -> NamesLeft {
    let of_names = || changes.iter().filter(|change| change.deed.is_of_names());
    let loose = of_names().filter(|change| !cut.has(change)).count();
    // A journal is read up to some point; without one every name is for itself.
    let mut journal = if loose == 0 { 0 } else { random.random_range(0..=loose) };
    let kept = [0.0, 0.5, 1.0][random.random_range(0..3)];
    let mut folders: BTreeSet<String> = roots.iter().map(|root| (*root).to_owned()).collect();
    let mut files = BTreeMap::new();
    for change in of_names() {
        let stays = cut.has(change)
            || match cut.names {
                Names::Posix => random.random_bool(kept),
                Names::Journal => {
                    let is_before = journal > 0;
                    journal = journal.saturating_sub(1);
                    is_before
                }
            };
        if stays {
            match &change.deed {
                Deed::Mkdir { path } => {
                    folders.insert(path.clone());
                }
                Deed::Rmdir { path } => {
                    folders.remove(path);
                }
                deed => rename(&mut files, deed),
            }
        }
    }
    // What lies in a folder that is not there is not there either.
    let stands = |path: &str, folders: &BTreeSet<String>| {
        let mut folder = parent(path);
        loop {
            if roots.contains(&folder) {
                return true;
            }
            if !folders.contains(folder) {
                return false;
            }
            folder = parent(folder);
        }
    };
    let standing: BTreeSet<String> =
        folders.iter().filter(|path| roots.contains(&path.as_str()) || stands(path, &folders)).cloned().collect();
    files.retain(|path, _| stands(path, &standing));
    (standing, files)
}

fn contents(
    history: &History,
    changes: &[Change],
    cut: &Cut,
    wanted: &BTreeSet<File>,
    random: &mut ChaCha8Rng,
) -> HashMap<File, Vec<u8>> {
    let is_loose = |change: &&Change| !change.deed.is_of_names() && change.synced.is_none_or(|end| end >= cut.at);
    let loose = changes.iter().filter(is_loose).count();
    let mut before_cut_short = if loose == 0 { 0 } else { random.random_range(0..loose) };
    let (mut contents, mut lengths): (HashMap<File, Vec<u8>>, HashMap<File, usize>) = Default::default();
    for change in changes.iter().filter(|change| !change.deed.is_of_names()) {
        if !is_loose(&change) {
            if change_concerns(&change.deed, wanted) {
                change_content(history, &mut contents, &change.deed);
            }
            continue;
        }
        let fate = match cut.fate {
            Fate::CutShort => {
                let fate = if before_cut_short == 0 { Fate::Torn } else { Fate::Kept };
                let is_behind = before_cut_short == usize::MAX;
                before_cut_short = before_cut_short.checked_sub(1).unwrap_or(usize::MAX);
                if is_behind { Fate::Lost } else { fate }
            }
            Fate::Reordered => [Fate::Lost, Fate::Kept][random.random_range(0..2)],
            Fate::Torn => [Fate::Lost, Fate::Kept, Fate::Torn][random.random_range(0..3)],
            fate => fate,
        };
        match (&change.deed, fate) {
            (Deed::Write { file, offset, bytes }, Fate::Lost) => {
                let end = *offset as usize + bytes.len();
                let longest = lengths.entry(*file).or_default();
                *longest = end.max(*longest);
            }
            (Deed::Write { file, offset, bytes }, Fate::Torn) => {
                let content = contents.entry(*file).or_default();
                let (data, mut at) = (history.bytes(bytes), 0);
                while at < data.len() {
                    let place = *offset + at as u64;
                    let to = (cut.block_bytes - place % cut.block_bytes) as usize;
                    let end = (at + to).min(data.len());
                    if random.random_bool(0.5) {
                        put(content, place, &data[at..end]);
                    }
                    at = end;
                }
                let end = *offset as usize + data.len();
                let longest = lengths.entry(*file).or_default();
                *longest = end.max(*longest);
            }
            (Deed::Truncate { file, .. }, Fate::Lost) => {
                contents.entry(*file).or_default();
            }
            (deed, _) => {
                if let Deed::Truncate { file, length } = deed {
                    lengths.entry(*file).and_modify(|longest| *longest = (*longest).min(*length as usize));
                }
                change_content(history, &mut contents, deed);
            }
        }
    }
    if cut.lengths_kept {
        for (file, length) in lengths {
            let content = contents.entry(file).or_default();
            if content.len() < length {
                content.resize(length, 0);
            }
        }
    }
    contents
}

fn change_concerns(deed: &Deed, wanted: &BTreeSet<File>) -> bool {
    matches!(deed, Deed::Write { file, .. } | Deed::Truncate { file, .. } if wanted.contains(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed;
    use crate::trace::{CREATED, Kind, Record};

    const DATA: [u8; 1024] = [7; 1024];

    /// One kilobyte that was synced with its name, and one that was not.
    fn history() -> History {
        let record = |kind, handle, number| Record::new(kind, handle, number, 0);
        let write = |at| Record { bytes: &DATA, ..record(Kind::Write, 1, at) };
        let records = [
            record(Kind::Open, 1, CREATED).named(b"/m/a"),
            write(0),
            record(Kind::SyncBegins, 1, 1),
            record(Kind::SyncEnds, 1, 1),
            record(Kind::Open, 2, 0).named(b"/m"),
            record(Kind::SyncBegins, 2, 2),
            record(Kind::SyncEnds, 2, 2),
            write(1024),
        ];
        History::read(records.iter().flat_map(Record::encode).collect()).unwrap()
    }

    #[test]
    fn what_was_synced_is_in_every_image_and_the_rest_in_some() {
        let history = history();
        let mut lengths = BTreeSet::new();
        for number in 0..300 {
            let mut random = seed::of(1, "test", number);
            let cut = Cut { at: history.records, ..Cut::choose(&history, &mut random) };
            let image = image(&history, &cut, &["/m"], &mut random);
            let content = &image.files["/m/a"];
            assert_eq!(content[..1024], DATA);
            let kept = content.iter().filter(|byte| **byte == 7).count();
            lengths.insert((content.len(), kept));
        }
        for expected in [(1024, 1024), (2048, 1024), (2048, 1536), (2048, 2048)] {
            assert!(lengths.contains(&expected), "{expected:?} of {lengths:?}");
        }
    }

    #[test]
    fn before_its_sync_a_file_may_be_missing() {
        let history = history();
        let missing = (0..100).filter(|number| {
            let mut random = seed::of(2, "test", *number);
            let cut = Cut { at: 2, ..Cut::choose(&history, &mut random) };
            image(&history, &cut, &["/m"], &mut random).files.is_empty()
        });
        assert!((10..90).contains(&missing.count()));
    }
}
