//! `campanile-hub unseal`: segment files of a box's disk, looked over and opened.

use super::connection::Connection;
use super::play::Aside;
use super::{ClientError, Done, Reason, Target, show};
use bytes::Bytes;
use campanile_proto::ids::{CameraId, InvalidId, SegmentId};
use campanile_proto::kind::Chain;
use campanile_proto::segment::{Ending, FragmentKey, InspectError, MAGIC, Record, RecordPrefix, first_link, inspect};
use campanile_proto::types::v1::{RecordHeader, RecordKind, SegmentHeader, Stream};
use clap::Args;
use prost::Message;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub struct Unseal {
    /// Segment files, or folders with such files below them.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// A folder for one fragmented MP4 file a segment; made if it is not there.
    #[arg(long, value_name = "FOLDER")]
    output: PathBuf,
    #[command(flatten)]
    reason: Reason,
    #[command(flatten)]
    target: Target,
}

/// What became of one file.
struct Outcome {
    /// What it shows without a key; none where it is damaged.
    ending: Option<Ending>,
    damage: Option<String>,
    fragments: usize,
    written: Option<PathBuf>,
    /// Why it, or a part of it, does not open.
    refused: Option<String>,
}

impl Outcome {
    fn is_whole(&self) -> bool {
        self.damage.is_none() && self.refused.is_none()
    }
}

impl Unseal {
    pub async fn run(self) -> Done {
        let files = self.files()?;
        let failed = |source| ClientError::Write { path: self.output.clone(), source };
        std::fs::create_dir_all(&self.output).map_err(failed)?;
        let mut connection = Connection::open(&self.target).await?;
        let mut broken = 0;
        for path in &files {
            let outcome = self.one(&mut connection, path).await?;
            broken += usize::from(!outcome.is_whole());
            self.report(path, &outcome);
        }
        match broken {
            0 => Ok(()),
            some => Err(ClientError::Incomplete(format!("{some} of {} files did not open whole", files.len()))),
        }
    }

    /// Segments of footage; an index holds no picture.
    fn files(&self) -> Result<Vec<PathBuf>, ClientError> {
        let (mut found, mut folders) = (Vec::new(), Vec::new());
        for path in &self.paths {
            if path.is_dir() { folders.push(path.clone()) } else { found.push(path.clone()) }
        }
        while let Some(folder) = folders.pop() {
            let failed = |source| ClientError::Read { path: folder.clone(), source };
            for entry in std::fs::read_dir(&folder).map_err(failed)? {
                let path = entry.map_err(failed)?.path();
                // Links are not followed: a disk from the street may hold any.
                let kind = std::fs::symlink_metadata(&path).map_err(failed)?;
                if kind.is_dir() && !path.ends_with("index") {
                    folders.push(path);
                } else if kind.is_file() && path.extension().is_some_and(|ending| ending == "seg") {
                    found.push(path);
                }
            }
        }
        found.sort();
        match found.is_empty() {
            true => {
                Err(ClientError::Usage("there is no segment file of a main or sub-stream in what was named".into()))
            }
            false => Ok(found),
        }
    }

    async fn one(&self, connection: &mut Connection, path: &Path) -> Result<Outcome, ClientError> {
        let failed = |source| ClientError::Read { path: path.to_owned(), source };
        let looked = inspect(&mut BufReader::new(File::open(path).map_err(failed)?), None);
        let (ending, damage) = match looked {
            Ok(inspected) => (Some(inspected.ending), None),
            Err(InspectError::Read(source)) => return Err(failed(source)),
            Err(error) => (None, Some(Chain(&error).to_string())),
        };
        let mut outcome = Outcome { ending, damage, fragments: 0, written: None, refused: None };
        let records = good_records(&std::fs::read(path).map_err(failed)?.into());
        let Some((header, first)) = records.first().and_then(|first| {
            Some((SegmentHeader::decode(first.header.clone()).ok()?, first))
                .filter(|_| first.kind == RecordKind::Segment)
        }) else {
            outcome.refused = Some("it is no segment".to_owned());
            return Ok(outcome);
        };
        let sealed: Vec<&Record> =
            records.iter().filter(|record| matches!(record.kind, RecordKind::Init | RecordKind::Fragment)).collect();
        let body = json!({
            "segment": hex::encode(&first.header), "wrapped_key": hex::encode(&first.payload),
            "fragments": sealed.iter().filter(|record| record.kind == RecordKind::Fragment).count(),
            "purpose": self.reason.purpose, "case_number": self.reason.case_number,
        });
        let answer = match connection.post("/api/v1/unsealings", &body).await {
            Ok(answer) => answer,
            Err(ClientError::Hub { status, code, sentence, .. }) if is_of_the_file(status, &code) => {
                outcome.refused = Some(format!("{sentence} ({code})"));
                return Ok(outcome);
            }
            Err(other) => return Err(other),
        };
        self.write(&header, &sealed, &answer, &mut outcome)?;
        Ok(outcome)
    }

    /// Writes what opens, up to the first that does not.
    fn write(
        &self,
        header: &SegmentHeader,
        sealed: &[&Record],
        answer: &Value,
        outcome: &mut Outcome,
    ) -> Result<(), ClientError> {
        let out = self.output.join(name(header));
        let failed = |source| ClientError::Write { path: out.clone(), source };
        let aside = Aside::of(&out);
        let mut file = std::io::BufWriter::new(aside.create().map_err(failed)?);
        for record in sealed {
            match opened(header, record, &answer["keys"]) {
                Ok(plain) => file.write_all(&plain).map_err(failed)?,
                Err(why) => {
                    outcome.refused = Some(why);
                    break;
                }
            }
            outcome.fragments += usize::from(record.kind == RecordKind::Fragment);
        }
        if outcome.fragments > 0 {
            file.into_inner().map_err(|e| failed(e.into_error()))?.sync_all().map_err(failed)?;
            aside.keep(&out).map_err(failed)?;
            outcome.written = Some(out);
        }
        Ok(())
    }

    fn report(&self, path: &Path, outcome: &Outcome) {
        let (shown, written) =
            (path.display().to_string(), outcome.written.as_ref().map(|out| out.display().to_string()));
        let chain = match (&outcome.damage, outcome.ending) {
            (Some(damage), _) => format!("DAMAGED: {damage}"),
            (None, Some(Ending::Open)) => "whole as far as it goes; not closed by its box".to_owned(),
            (None, _) => "whole".to_owned(),
        };
        if self.target.json {
            let line = json!({
                "file": shown, "chain": chain, "damage": outcome.damage,
                "closed": matches!(outcome.ending, Some(Ending::Closed | Ending::Signed)),
                "fragments": outcome.fragments, "written": written, "refused": outcome.refused,
            });
            println!("{line}");
            return;
        }
        println!("{}", show::clean(&shown));
        println!("  chain     {chain}");
        if let Some(written) = written {
            println!("  opened    {} fragments into {}", outcome.fragments, show::clean(&written));
        }
        if let Some(refused) = &outcome.refused {
            println!("  not       {}", show::clean(refused));
        }
    }
}

/// The next file may be of another hour or town; whoever may not at all, or names no case, is told so at once.
fn is_of_the_file(status: u16, code: &str) -> bool {
    match code {
        "DENIED" => true,
        "NO_PURPOSE" | "NO_CASE" => false,
        _ => !matches!(status, 401 | 403),
    }
}

/// Records from the front that are whole and follow on each other.
fn good_records(file: &Bytes) -> Vec<Record> {
    let (mut rest, mut records, mut link) = (file.slice(MAGIC.len().min(file.len())..), Vec::new(), None);
    if !file.starts_with(&MAGIC) {
        return records;
    }
    while let Ok(record) = Record::decode(&rest) {
        let before = link.unwrap_or_else(|| {
            let header = SegmentHeader::decode(record.header.clone()).unwrap_or_default();
            first_link(&header.previous_link)
        });
        if record.follows(&before).is_err() {
            break;
        }
        link = Some(record.link);
        let size = RecordPrefix::parse(&rest).map_or(rest.len(), |prefix| prefix.record_bytes());
        rest = rest.slice(size..);
        records.push(record);
    }
    records
}

fn opened(header: &SegmentHeader, record: &Record, keys: &Value) -> Result<Vec<u8>, String> {
    let sealing = RecordHeader::decode(record.header.clone()).map_err(|_| "a record's header cannot be read")?.sealing;
    let key = keys[sealing as usize].as_str().and_then(|text| hex::decode(text).ok());
    let key = key.and_then(|bytes| FragmentKey::from_bytes(&bytes).ok()).ok_or("the hub gave no key for a fragment")?;
    key.open(header.suite, &record.header, &record.payload)
        .map_err(|error| format!("fragment {sealing} and what follows: {error}"))
}

/// `camera-stream-segment.mp4`: ids, never anything else of the file's.
fn name(header: &SegmentHeader) -> String {
    let id = |text: Result<String, _>| text.unwrap_or_else(|_: InvalidId| "unknown".to_owned());
    let camera = id(CameraId::try_from(&header.camera_id).map(|id| id.to_string()));
    let segment = id(SegmentId::try_from(&header.segment_id).map(|id| id.to_string()));
    let stream = if header.stream() == Stream::Sub { "sub" } else { "main" };
    format!("{camera}-{stream}-{segment}.mp4")
}
