//! What a box that was taken over may send for playing: an init section and a fragment, as the hub reads them.

use bytes::Bytes;
use hub::media::codecs::describe;
use hub::media::rendition::rewrite;

/// `init length u16 LE | init | fragment`. Gives how many of the two were understood.
pub fn served(bytes: &[u8]) -> u64 {
    let Some((&length, rest)) = bytes.split_first_chunk::<2>() else { return 0 };
    let (init, fragment) = rest.split_at(usize::from(u16::from_le_bytes(length)).min(rest.len()));
    let described = describe(init).is_ok_and(|described| {
        assert!(!described.codecs.is_empty() && described.codecs.is_ascii(), "{described:?}");
        true
    });
    let rewritten = rewrite(&Bytes::copy_from_slice(fragment), u64::MAX / 2, 7);
    u64::from(described) + u64::from(rewritten.is_ok())
}
