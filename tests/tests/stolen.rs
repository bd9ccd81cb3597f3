//! What a thief of a box gets, and what nobody gets once an hour's key is destroyed.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use anyhow::{Context, Result, ensure};
use campanile_proto::segment::{Head, PrivateKey, Record, SegmentKey, SegmentReader, key_pair};
use campanile_proto::time::{MICROS_PER_HOUR, MICROS_PER_SECOND, SimClock, SystemClock, WallTime};
use campanile_proto::types::v1::{IndexRecord, RecordHeader, RecordKind, SegmentHeader, Stream, Suite};
use campanile_tests::demo::micros_now;
use campanile_tests::rig::{Rig, camera_id, copy_folder, one_box, play_newest, small_camera, wait_for_events};
use campanile_tests::scan::{files, files_holding};
use campanile_tests::town::Town;
use hub::fleet::Identity;
use hub::media::{For, Keeper, KeeperError, RingKeeper};
use prost::Message;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const KEY_BYTES: usize = 32;
/// A key of random bytes has about 30 different ones; fewer than this once in a million keys.
const LEAST_DIFFERENT: usize = 24;
/// Trying one takes some tens of microseconds.
const MOST_CANDIDATES: usize = 1_000_000;

/// A sealed segment as far as a thief needs it.
struct Sealed {
    header: SegmentHeader,
    header_bytes: Vec<u8>,
    wrapped: Vec<u8>,
    records: Vec<Record>,
}

impl Sealed {
    fn read(path: &Path) -> Result<Self> {
        let reader = SegmentReader::open(path)?;
        let Head { header, header_bytes, wrapped_key, body_offset, .. } = reader.head()?;
        let whole = reader.entries(body_offset).map_while(std::result::Result::ok);
        let records = whole.filter(|entry| matches!(entry.prefix.kind, RecordKind::Fragment | RecordKind::Index));
        let records = records.map(|entry| reader.record(&entry)).collect::<std::result::Result<_, _>>()?;
        Ok(Self { header, header_bytes: header_bytes.to_vec(), wrapped: wrapped_key.to_vec(), records })
    }

    /// Whether these 32 bytes, as a private key or as the segment's own, open the first record.
    fn opens_with(&self, candidate: &[u8; KEY_BYTES]) -> bool {
        let Some(first) = self.records.first() else { return false };
        let Ok(header) = RecordHeader::decode(first.header.clone()) else { return false };
        let as_private = PrivateKey::from_bytes(candidate).is_ok_and(|private| {
            SegmentKey::unwrap(&self.header, &self.header_bytes, &self.wrapped, &private)
                .is_ok_and(|key| key.open(self.header.suite, header.sealing, &first.header, &first.payload).is_ok())
        });
        as_private || opens(candidate, header.sealing, first)
    }
}

/// The seal of docs/segment-format.md, written a second time.
fn payload_cipher(segment_key: &[u8; KEY_BYTES], sealing: u32) -> aes_gcm::Aes256Gcm {
    let mut key = [0; KEY_BYTES];
    let info = [b"fragment".as_slice(), &sealing.to_be_bytes()].concat();
    let expand = hkdf::Hkdf::<sha2::Sha256>::from_prk(segment_key);
    if let Ok(expand) = expand {
        let _ = expand.expand(&info, &mut key);
    }
    aes_gcm::Aes256Gcm::new(&key.into())
}

fn opens(segment_key: &[u8; KEY_BYTES], sealing: u32, record: &Record) -> bool {
    let sealed = Payload { msg: &record.payload, aad: &record.header };
    payload_cipher(segment_key, sealing).decrypt(&[0; 12].into(), sealed).is_ok()
}

/// Segments below a folder.
fn segments(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(files(folder)?.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "seg")).collect())
}

/// Every run of 32 bytes in any file but the recordings that could be a key.
fn candidates(folder: &Path) -> Result<HashSet<[u8; KEY_BYTES]>> {
    let mut found = HashSet::new();
    let recordings: HashSet<PathBuf> = segments(folder)?.into_iter().collect();
    for path in files(folder)?.into_iter().filter(|path| !recordings.contains(path)) {
        let bytes = std::fs::read(&path)?;
        for window in bytes.windows(KEY_BYTES) {
            if window.iter().collect::<HashSet<_>>().len() >= LEAST_DIFFERENT {
                found.insert(window.try_into()?);
            }
        }
    }
    ensure!(found.len() < MOST_CANDIDATES, "{} candidates are too many to try", found.len());
    Ok(found)
}

fn tried(segments: &[Sealed], keys: &HashSet<[u8; KEY_BYTES]>) -> usize {
    segments.iter().filter(|segment| keys.iter().any(|key| segment.opens_with(key))).count()
}

/// The same segment sealed anew, to a key pair or under a segment key that we know.
fn sealed_anew(like: &Sealed) -> Result<(Sealed, PrivateKey)> {
    let ((private, public), key) = (key_pair(), SegmentKey::random()?);
    let header = SegmentHeader { suite: Suite::Aes256Gcm.into(), ..like.header.clone() };
    let header_bytes = header.encode_to_vec();
    let wrapped = key.wrap(&header, &header_bytes, &public)?;
    let first = like.records.first().context("a record")?;
    let sealing = RecordHeader::decode(first.header.clone())?.sealing;
    let payload = key.seal(header.suite, sealing, &first.header, b"a picture")?;
    let record = Record { payload: payload.into(), ..first.clone() };
    Ok((Sealed { header, header_bytes, wrapped, records: vec![record] }, private))
}

/// The newest index record of the box, opened with its hub's ring.
fn plain_event(town: &Town, sealed: &[Sealed], copy: &Path) -> Result<Vec<u8>> {
    copy_folder(&town.data().join("keyring"), copy)?;
    let identity = Arc::new(Identity::open(&town.data(), "Comune di Prato", "")?);
    let ring = RingKeeper::open_beside(copy, identity, 7, Arc::new(SystemClock::new()), Vec::new())?;
    let index = sealed.iter().find(|one| one.header.stream() == Stream::Index && !one.records.is_empty());
    let index = index.context("an index segment")?;
    let key = ring.unwrap(For::Report, &index.header, &index.header_bytes, &index.wrapped)?;
    let record = index.records.last().context("a record")?;
    let sealing = RecordHeader::decode(record.header.clone())?.sealing;
    let plain = key.open(index.header.suite, sealing, &record.header, &record.payload)?;
    ensure!(plain.len() >= 48, "too short to be looked for");
    Ok(plain)
}

#[test]
fn whoever_takes_a_box_with_all_its_files_opens_no_frame_and_no_event() -> Result<()> {
    let camera = small_camera("uno", 1, "h264");
    let rig = Rig::serving(std::slice::from_ref(&camera))?;
    let mut town = rig.running_town("prato", one_box("cabinet", std::slice::from_ref(&camera)))?;
    wait_for_events(&town, 1)?;
    let played = rig.path("played.mp4");
    play_newest(&town, &town, &camera_id(&town, &camera.name)?, 4, &played)?;
    let stolen = rig.path("stolen");
    town.boxes[0].kill()?;
    copy_folder(&town.boxes[0].folder, &stolen)?;

    // In plain: a coded picture that was played, the marks of footage and thumbnails, an event.
    let film = std::fs::read(&played)?;
    let picture = film.get(film.len() / 2..film.len() / 2 + 48).context("too little was played")?;
    let files = segments(&stolen)?;
    let sealed: Vec<Sealed> = files.iter().map(|path| Sealed::read(path)).collect::<Result<_>>()?;
    let event = plain_event(&town, &sealed, &rig.path("ring"))?;
    for mark in [picture, b"moof", b"mdat", b"JFIF", &event] {
        ensure!(files_holding(&stolen, mark)?.is_empty(), "{mark:?} lies on the box's disk");
    }
    ensure!(files_holding(rig.folder.path(), picture)? == [played.clone()], "the scan finds what was played");
    let opened = rig.path("opened");
    std::fs::write(&opened, [b"before ".as_slice(), &event].concat())?;
    ensure!(files_holding(rig.folder.path(), &event)? == [opened], "the scan finds an event");

    // With its keys, wherever they lie.
    let of = |stream: Stream| sealed.iter().filter(move |one| one.header.stream() == stream && !one.records.is_empty());
    ensure!([Stream::Main, Stream::Sub, Stream::Index].into_iter().all(|stream| of(stream).count() > 0));
    let keys = candidates(&stolen)?;
    ensure!(keys.len() > 100, "a box has its certificate and the keys it seals to: {}", keys.len());
    let first_of_each: Vec<Sealed> = [Stream::Main, Stream::Index]
        .into_iter()
        .filter_map(|stream| of(stream).next())
        .map(|one| Sealed {
            header: one.header.clone(),
            header_bytes: one.header_bytes.clone(),
            wrapped: one.wrapped.clone(),
            records: one.records.clone(),
        })
        .collect();
    ensure!(tried(&first_of_each, &keys) == 0, "a key to what it recorded lies on the box's disk");

    // The control: the same search opens a segment whose private key, or whose own key, lies there.
    let (planted, private) = sealed_anew(&first_of_each[0])?;
    let place = stolen.join("state/planted");
    std::fs::write(&place, [b"noise before ".as_slice(), private.expose(), b" and behind"].concat())?;
    ensure!(tried(std::slice::from_ref(&planted), &candidates(&stolen)?) == 1, "the search finds no private key");
    let (mut own, first) = (planted, first_of_each[0].records.first().context("a record")?.clone());
    let key: [u8; KEY_BYTES] = std::array::from_fn(|at| (at * 7 + 3) as u8);
    let sealing = RecordHeader::decode(first.header.clone())?.sealing;
    let sealed_by_hand = payload_cipher(&key, sealing)
        .encrypt(&[0; 12].into(), Payload { msg: b"a picture", aad: &first.header })
        .ok()
        .context("sealed")?;
    own.records = vec![Record { payload: sealed_by_hand.into(), ..first }];
    std::fs::write(&place, [b"noise before ".as_slice(), &key, b" and behind"].concat())?;
    ensure!(tried(&[own], &candidates(&stolen)?) == 1, "the search finds no segment key");

    let (_, password) = rig.simcam.camera("uno")?;
    ensure!(!files_holding(&stolen, password.as_bytes())?.is_empty(), "the guide says that passwords are the thief's");
    println!("a thief reads: the cameras' passwords and the box's identity, and of {} segments:", sealed.len());
    for (path, one) in files.iter().zip(&sealed) {
        let (stream, bytes) = (one.header.stream(), std::fs::metadata(path)?.len());
        println!("  {stream:?}, {} records, {bytes} bytes, hour {}", one.records.len(), one.header.hour);
    }
    Ok(())
}

/// How many of these segments of events a ring opens, and why it does not open the others.
fn opened(keeper: &RingKeeper, segments: &[Sealed]) -> Result<(usize, Vec<KeeperError>)> {
    let (mut count, mut refused) = (0, Vec::new());
    for segment in segments {
        match keeper.unwrap(For::Report, &segment.header, &segment.header_bytes, &segment.wrapped) {
            Ok(key) => {
                for record in &segment.records {
                    let sealing = RecordHeader::decode(record.header.clone())?.sealing;
                    let plain = key.open(segment.header.suite, sealing, &record.header, &record.payload)?;
                    ensure!(IndexRecord::decode(plain.as_slice())?.content.is_some(), "an index record says something");
                }
                count += 1;
            }
            Err(error) => refused.push(error),
        }
    }
    Ok((count, refused))
}

#[test]
fn once_an_hours_key_is_destroyed_no_copy_of_box_or_hub_opens_it() -> Result<()> {
    let camera = small_camera("uno", 1, "h264");
    let rig = Rig::serving(std::slice::from_ref(&camera))?;
    let mut town = rig.running_town("prato", one_box("cabinet", std::slice::from_ref(&camera)))?;
    wait_for_events(&town, 1)?;
    town.end()?;
    let index: Vec<Sealed> = segments(&town.boxes[0].folder)?
        .iter()
        .map(|path| Sealed::read(path))
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .filter(|one| one.header.stream() == Stream::Index && !one.records.is_empty())
        .collect();
    ensure!(!index.is_empty(), "nothing was indexed");

    let (ring, earlier) = (town.data().join("keyring"), rig.path("earlier"));
    copy_folder(&ring, &earlier)?;
    let identity = Arc::new(Identity::open(&town.data(), "Comune di Prato", "")?);
    let keeper = |folder: &Path, now: WallTime| -> Result<(RingKeeper, Arc<SimClock>)> {
        let clock = Arc::new(SimClock::starting_at(now));
        let keeper = RingKeeper::open_beside(folder, identity.clone(), 7, clock.clone(), Vec::new())?;
        keeper.confirm_clock(now)?;
        Ok((keeper, clock))
    };
    let last_hour = index.iter().map(|one| one.header.hour).max().context("an hour")?;
    let destroyed_at = WallTime::from_hour(i64::try_from(last_hour)? + 7 * 24);

    // The control: a second before, the same reader reads it all.
    let (ours, clock) = keeper(&ring, destroyed_at.plus_micros(-MICROS_PER_SECOND))?;
    ours.maintain()?;
    let of_last_hour: Vec<Sealed> = index.into_iter().filter(|one| one.header.hour == last_hour).collect();
    ensure!(opened(&ours, &of_last_hour)?.0 == of_last_hour.len(), "not all opens within the term");
    clock.advance_micros(MICROS_PER_SECOND);
    let done = ours.maintain()?;
    ensure!(done.destroyed.contains(&i64::try_from(last_hour)?), "{:?}", done.destroyed);
    ensure!(opened(&ours, &of_last_hour)?.0 == 0, "opened after the term");
    drop(ours);

    // A clock set back, and whatever else is restored beside the ring, brings nothing back.
    let now = WallTime(micros_now()?);
    let (set_back, _) = keeper(&ring, now)?;
    let (count, refused) = opened(&set_back, &of_last_hour)?;
    ensure!(count == 0 && refused.iter().all(|why| matches!(why, KeeperError::Unknown { .. })), "{refused:?}");
    // The control: with the ring of an hour before its end, the same reader at the same time reads it all.
    let (before, _) = keeper(&earlier, now.plus_micros(MICROS_PER_HOUR))?;
    ensure!(opened(&before, &of_last_hour)?.0 == of_last_hour.len(), "the earlier ring does not open it");
    Ok(())
}
