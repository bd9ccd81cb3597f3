//! Opened groups, in memory only, bounded in bytes, the least recently used first out.

use bytes::Bytes;
use campanile_proto::ids::{CameraId, OrganisationId, RunId};
use campanile_proto::time::WallTime;
use campanile_proto::types::v1::Stream;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// About ten minutes of 1080p for everybody who watches at once.
const MAX_BYTES: usize = 128 << 20;

/// Which group; everything begins with the organisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct GroupKey {
    pub organisation: OrganisationId,
    pub camera: CameraId,
    pub stream: Stream,
    pub run: RunId,
    pub first: u64,
    pub last: u64,
}

/// A group as recorded: moof+mdat of each fragment with its stored decode time.
#[derive(Debug)]
pub(super) struct OpenedGroup {
    pub fragments: Vec<(u64, Bytes)>,
    /// Not shown from here on.
    pub until: WallTime,
}

impl OpenedGroup {
    fn size(&self) -> usize {
        self.fragments.iter().map(|(_, bytes)| bytes.len()).sum()
    }
}

#[derive(Default)]
struct Shelf {
    groups: HashMap<GroupKey, (u64, Arc<OpenedGroup>)>,
    bytes: usize,
    turn: u64,
}

#[derive(Default)]
pub(super) struct Cache(Mutex<Shelf>);

impl Cache {
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, key: &GroupKey, now: WallTime) -> Option<Arc<OpenedGroup>> {
        let mut shelf = self.shelf();
        shelf.turn += 1;
        let turn = shelf.turn;
        let (used, group) = shelf.groups.get_mut(key)?;
        if group.until <= now {
            return None;
        }
        *used = turn;
        Some(group.clone())
    }

    pub fn put(&self, key: GroupKey, group: Arc<OpenedGroup>, now: WallTime) {
        let size = group.size();
        if size > MAX_BYTES / 4 {
            return;
        }
        let mut shelf = self.shelf();
        shelf.turn += 1;
        let turn = shelf.turn;
        if let Some((_, before)) = shelf.groups.insert(key, (turn, group)) {
            shelf.bytes -= before.size();
        }
        shelf.bytes += size;
        shelf.retain(|group| group.until > now);
        while shelf.bytes > MAX_BYTES {
            let oldest = shelf.groups.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key);
            let Some((_, group)) = oldest.and_then(|key| shelf.groups.remove(&key)) else { break };
            shelf.bytes -= group.size();
        }
    }

    /// Forgets what is past its term.
    pub fn expire(&self, now: WallTime) {
        self.shelf().retain(|group| group.until > now);
    }
}

impl Shelf {
    fn retain(&mut self, keep: impl Fn(&OpenedGroup) -> bool) {
        self.groups.retain(|_, (_, group)| keep(group));
        self.bytes = self.groups.values().map(|(_, group)| group.size()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(first: u64) -> GroupKey {
        let (organisation, camera) = (OrganisationId::from_u128(1), CameraId::from_u128(2));
        GroupKey { organisation, camera, stream: Stream::Main, run: RunId::from_u128(3), first, last: first }
    }

    fn group(size: usize, until: i64) -> Arc<OpenedGroup> {
        Arc::new(OpenedGroup { fragments: vec![(0, Bytes::from(vec![0; size]))], until: WallTime(until) })
    }

    #[test]
    fn the_least_recently_used_makes_room() {
        let cache = Cache::default();
        let quarter = MAX_BYTES / 4;
        for first in 0..4 {
            cache.put(key(first), group(quarter, 100), WallTime(0));
        }
        assert!(cache.get(&key(0), WallTime(0)).is_some());
        cache.put(key(4), group(quarter, 100), WallTime(0));
        let held: Vec<_> = (0..5).filter(|n| cache.get(&key(*n), WallTime(0)).is_some()).collect();
        assert_eq!(held, [0, 2, 3, 4]);
        assert_eq!(cache.shelf().bytes, MAX_BYTES);
    }

    #[test]
    fn nothing_is_shown_past_its_term() {
        let cache = Cache::default();
        cache.put(key(0), group(10, 100), WallTime(0));
        assert!(cache.get(&key(0), WallTime(99)).is_some());
        assert!(cache.get(&key(0), WallTime(100)).is_none());
        cache.expire(WallTime(100));
        assert_eq!(cache.shelf().bytes, 0);
    }
}
