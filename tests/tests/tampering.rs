//! Whoever changes a segment is found out without any key, and the segments beside it stay what they were.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use campanile_proto::ids::{CameraId, OrganisationId, RunId, SegmentId};
use campanile_proto::segment::{
    Ending, FORMAT, MAGIC, PREFIX_BYTES, PrivateKey, Record, RecordPrefix, SegmentKey, first_link, inspect, key_pair,
    next_link,
};
use campanile_proto::types::v1::{Instant, RecordHeader, RecordKind, SegmentFooter, SegmentHeader, Stream, Suite};
use edge_agent::record::segment::{OwnDisk, SegmentWriter, Signer};
use prost::Message;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const MUTATIONS: usize = 10_000;
const SEED: u64 = 1;
const FRAGMENTS: u64 = 12;

/// A box's key pair: its signer, and the public key of its certificate.
fn box_key() -> Result<(Signer, Vec<u8>)> {
    let random = ring::rand::SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random);
    let document = document.ok().context("a key")?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref(), &random);
    let pair = pair.ok().context("a key pair")?;
    let public = pair.public_key().as_ref().to_vec();
    let signer: Signer =
        Arc::new(move |input| pair.sign(&random, input).map(|signed| signed.as_ref().to_vec()).unwrap_or_default());
    Ok((signer, public))
}

/// Three segments of one stream, each chained to the one before.
struct Drawer {
    files: Vec<Vec<u8>>,
    plain: Vec<Vec<Vec<u8>>>,
    private: PrivateKey,
    signer: Vec<u8>,
}

fn drawer(folder: &Path, random: &mut ChaCha8Rng) -> Result<Drawer> {
    let ((private, public), (sign, signer)) = (key_pair(), box_key()?);
    let run = RunId::from_u128(random.random());
    let (mut files, mut plain, mut previous) = (Vec::new(), Vec::new(), (Bytes::new(), Bytes::new()));
    for number in 0..3 {
        let id = SegmentId::from_u128(random.random());
        let header = SegmentHeader {
            format: FORMAT,
            segment_id: id.into(),
            organisation_id: OrganisationId::from_u128(1).into(),
            camera_id: CameraId::from_u128(2).into(),
            stream: Stream::Main.into(),
            run_id: run.into(),
            first_index: number * FRAGMENTS,
            suite: Suite::Aes256Gcm.into(),
            hour: 500_000,
            retention_days: 7,
            previous_segment_id: previous.0,
            previous_link: previous.1,
            ..SegmentHeader::default()
        };
        let path = folder.join(id.to_string());
        let mut writer = SegmentWriter::create(&OwnDisk, &path, header, Some(&public))?;
        writer.init(Instant::default(), b"ftyp moov")?;
        let mut fragments = Vec::new();
        for at in 0..FRAGMENTS {
            let mut bytes = vec![0; random.random_range(500..2_500)];
            random.fill_bytes(&mut bytes);
            let arrival = Instant { mono_us: at as i64 * 1_000_000, ..Instant::default() };
            let header = RecordHeader {
                kind: RecordKind::Fragment.into(),
                index: number * FRAGMENTS + at,
                arrival: Some(arrival),
                starts_with_key: at % 2 == 0,
                decode_time_90k: at * 90_000,
                ..RecordHeader::default()
            };
            writer.append(header, &bytes)?;
            fragments.push(bytes);
        }
        let closed = writer.close(Instant::default(), Some(&sign))?;
        previous = (id.into(), Bytes::copy_from_slice(&closed.link));
        files.push(std::fs::read(&path)?);
        plain.push(fragments);
    }
    Ok(Drawer { files, plain, private, signer })
}

/// Every fragment of a file, opened.
fn opened(file: &[u8], private: &PrivateKey) -> Result<Vec<Vec<u8>>> {
    let records = records(file);
    let first = records.first().context("no record")?;
    let header = SegmentHeader::decode(first.header.clone())?;
    let key = SegmentKey::unwrap(&header, &first.header, &first.payload, private)?;
    let fragments = records.iter().filter(|record| record.kind == RecordKind::Fragment);
    let open = |record: &Record| {
        let sealing = RecordHeader::decode(record.header.clone())?.sealing;
        Ok(key.open(header.suite, sealing, &record.header, &record.payload)?)
    };
    fragments.map(open).collect()
}

fn records(file: &[u8]) -> Vec<Record> {
    let (mut rest, mut found) = (Bytes::copy_from_slice(&file[MAGIC.len()..]), Vec::new());
    while let Ok(record) = Record::decode(&rest) {
        let prefix = RecordPrefix::parse(&rest[..PREFIX_BYTES]);
        rest = rest.slice(prefix.map_or(0, |prefix| prefix.record_bytes())..);
        found.push(record);
    }
    found
}

fn file(records: &[Record]) -> Vec<u8> {
    records.iter().fold(MAGIC.to_vec(), |mut file, record| {
        file.extend(record.encode());
        file
    })
}

/// Every link and checksum made anew, and a footer that says what now stands there: all that can be done without
/// the box's key.
fn chained_anew(records: &mut [Record]) {
    let header = SegmentHeader::decode(records[0].header.clone()).unwrap_or_default();
    let (mut link, mut offset) = (first_link(&header.previous_link), MAGIC.len() as u64);
    let (mut table, mut payload_bytes) = (Vec::new(), 0);
    for record in records {
        if record.kind == RecordKind::Footer {
            let mut footer = SegmentFooter::decode(record.header.clone()).unwrap_or_default();
            footer.last_link = Bytes::copy_from_slice(&link);
            footer.fragment_count = table.len() as u64;
            footer.payload_bytes = payload_bytes;
            footer.table = std::mem::take(&mut table);
            record.header = footer.encode_to_vec().into();
        } else if record.kind == RecordKind::Fragment {
            let mut header = RecordHeader::decode(record.header.clone()).unwrap_or_default();
            header.sealing = table.len() as u32 + 1;
            table.push(campanile_proto::types::v1::TableEntry {
                offset,
                index: header.index,
                mono_us: header.arrival.as_ref().map_or(0, |arrival| arrival.mono_us),
                decode_time_90k: header.decode_time_90k,
                starts_with_key: header.starts_with_key,
            });
            record.header = header.encode_to_vec().into();
        }
        payload_bytes += record.payload.len() as u64;
        record.link = next_link(&link, &record.header, &record.payload);
        link = record.link;
        offset += record.encode().len() as u64;
    }
}

/// One way to change a file; none when it would stay the same.
fn mutated(how: usize, drawer: &Drawer, random: &mut ChaCha8Rng) -> Option<Vec<u8>> {
    let whole = &drawer.files[1];
    let mut bytes = whole.clone();
    let mut parts = records(whole);
    let inner = 1..parts.len() - 1;
    let one = random.random_range(inner.clone());
    let changed = match how {
        0 => {
            bytes[random.random_range(0..whole.len())] ^= 1 << random.random_range(0..8);
            bytes
        }
        1 => {
            let from = random.random_range(0..whole.len());
            let upto = (from + random.random_range(1..512)).min(whole.len());
            random.fill_bytes(&mut bytes[from..upto]);
            bytes
        }
        2 => {
            bytes.truncate(random.random_range(0..whole.len()));
            bytes
        }
        // At the end of a record: nothing is torn.
        3 => {
            parts.truncate(one);
            file(&parts)
        }
        4 => {
            parts.swap(one, random.random_range(inner));
            file(&parts)
        }
        5 => {
            parts[inner].shuffle(random);
            file(&parts)
        }
        6 => {
            parts.remove(one);
            file(&parts)
        }
        7 => {
            let twice = parts[one].clone();
            parts.insert(one, twice);
            file(&parts)
        }
        // A record of the segment before, in place of one of this.
        8 => {
            parts[one] = records(&drawer.files[0])[one].clone();
            file(&parts)
        }
        // Whoever knows the format puts the chain in order again.
        9 => {
            let mut payload = parts[one].payload.to_vec();
            payload[0] ^= 1;
            parts[one].payload = payload.into();
            chained_anew(&mut parts);
            file(&parts)
        }
        10 => {
            parts.remove(random.random_range(2..parts.len() - 1));
            chained_anew(&mut parts);
            file(&parts)
        }
        11 => {
            let other = random.random_range(2..parts.len() - 1);
            let (a, b) = (parts[one].payload.clone(), parts[other].payload.clone());
            (parts[one].payload, parts[other].payload) = (b, a);
            chained_anew(&mut parts);
            file(&parts)
        }
        12 => {
            let bytes = random.random_range(1..64);
            let more: Vec<u8> = (0..bytes).map(|_| random.random()).collect();
            [whole.as_slice(), &more].concat()
        }
        // The header says another hour, with everything after it put in order.
        _ => {
            let mut header = SegmentHeader::decode(parts[0].header.clone()).ok()?;
            header.hour += u64::from(random.random_range(1..9_u32));
            parts[0].header = header.encode_to_vec().into();
            chained_anew(&mut parts);
            file(&parts)
        }
    };
    (changed != *whole).then_some(changed)
}

#[test]
fn ten_thousand_changes_to_a_segment_are_all_found_without_a_key_and_its_neighbours_still_play() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let drawer = drawer(folder.path(), &mut random)?;
    let ending = |file: &[u8]| inspect(&mut &*file, Some(&drawer.signer)).map(|found| found.ending);
    // The control: as the box wrote them, all three pass and open.
    for (file, plain) in drawer.files.iter().zip(&drawer.plain) {
        ensure!(ending(file)? == Ending::Signed);
        ensure!(opened(file, &drawer.private)? == *plain);
    }
    // And putting the chain in order changes nothing where nothing was changed.
    let mut same = records(&drawer.files[1]);
    chained_anew(&mut same);
    ensure!(file(&same) == drawer.files[1], "the forger makes files of another shape than the box");
    let (mut done, mut by_way) = (0, BTreeMap::<usize, usize>::new());
    let (mut attempts, ways) = (0, 14);
    while done < MUTATIONS {
        attempts += 1;
        ensure!(attempts < 2 * MUTATIONS, "too many changes change nothing");
        let how = attempts % ways;
        let Some(changed) = mutated(how, &drawer, &mut random) else { continue };
        // What is cut off at a record's end shows as an open segment, which a box told its hub it had closed.
        let found = ending(&changed);
        ensure!(!matches!(found, Ok(Ending::Signed | Ending::Closed)), "way {how} passed as {found:?}");
        if matches!(found, Ok(Ending::Open)) {
            ensure!(matches!(how, 2 | 3) && drawer.files[1].starts_with(&changed), "way {how} passed as open");
        }
        // What stands before the first change is still good.
        if how == 0 {
            let at = changed.iter().zip(&drawer.files[1]).position(|(a, b)| a != b).context("they differ")?;
            let mut offset = MAGIC.len();
            let before = records(&drawer.files[1]).into_iter().take_while(|record| {
                offset += record.encode().len();
                offset <= at
            });
            let good = before.count();
            ensure!(at < MAGIC.len() || records(&changed).len() >= good, "a change hides what stands before it");
        }
        done += 1;
        *by_way.entry(how).or_default() += 1;
    }
    ensure!(by_way.len() == ways, "{by_way:?}");
    for neighbour in [0, 2] {
        ensure!(opened(&drawer.files[neighbour], &drawer.private)? == drawer.plain[neighbour]);
    }
    let header = SegmentHeader::decode(records(&drawer.files[2])[0].header.clone())?;
    let last = records(&drawer.files[1]).pop().context("a last record")?.link;
    ensure!(header.previous_link == last.as_slice(), "the next segment names the last link of the one before");
    Ok(())
}
