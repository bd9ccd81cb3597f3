//! The projection: one document an event; the thread that writes it; typed queries over it.

use super::SearchError;
use super::words::{Wanted, Words};
use crate::catalog::EventRow;
use campanile_proto::grid::CellSet;
use campanile_proto::ids::{CameraId, EventId};
use campanile_proto::time::WallTime;
use std::collections::HashMap;
use std::ops::Bound;
use std::path::Path;
use tantivy::collector::{DocSetCollector, TopDocs};
use tantivy::directory::MmapDirectory;
use tantivy::query::{AllQuery, BooleanQuery, FuzzyTermQuery, Occur, Query, RangeQuery, TermQuery, TermSetQuery};
use tantivy::schema::{FAST, Field, INDEXED, IndexRecordOption, STORED, STRING, Schema, TantivyDocument, Value};
use tantivy::{Index, IndexReader, IndexWriter, Order, ReloadPolicy, Term};

/// Written beside the index; another one is made anew.
const VERSION: &str = "1";
/// Tantivy asks for at least 15 MB.
const WRITER_BYTES: usize = 20_000_000;

#[derive(Clone, Copy)]
struct Fields {
    event: Field,
    revision: Field,
    camera: Field,
    start: Field,
    end: Field,
    kept_until: Field,
    moved: Field,
    whole: Field,
    stem: Field,
}

/// One event as the index knows it.
pub(super) struct Found {
    pub event: EventId,
    pub start: WallTime,
    pub end: WallTime,
    pub moved: CellSet,
}

/// What the index is asked; cameras empty: any.
pub(super) struct Conditions {
    pub from: WallTime,
    pub to: WallTime,
    pub now: WallTime,
    pub cameras: Vec<CameraId>,
    /// Each word, and the cameras whose own texts hold it.
    pub words: Vec<(Wanted, Vec<CameraId>)>,
}

#[derive(Clone)]
pub(super) struct Projection {
    reader: IndexReader,
    fields: Fields,
}

pub(super) struct Writer {
    writer: IndexWriter,
    reader: IndexReader,
    fields: Fields,
    dirty: bool,
}

/// Opens the index, or an empty one where it is missing, damaged, or of another version.
pub(super) fn open(dir: &Path) -> Result<(Projection, Writer), SearchError> {
    let version = dir.join("projection-version");
    if std::fs::read_to_string(&version).ok().as_deref() != Some(VERSION) {
        start_anew(dir)?;
    }
    match open_once(dir) {
        Ok(opened) => write_version(&version).map(|()| opened),
        Err(_) => {
            start_anew(dir)?;
            let failed = |source| SearchError::Open { path: dir.to_owned(), source };
            let opened = open_once(dir).map_err(failed)?;
            write_version(&version).map(|()| opened)
        }
    }
}

fn write_version(path: &Path) -> Result<(), SearchError> {
    std::fs::write(path, VERSION).map_err(|source| SearchError::Folder { path: path.to_owned(), source })
}

fn start_anew(dir: &Path) -> Result<(), SearchError> {
    let failed = |source| SearchError::Folder { path: dir.to_owned(), source };
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    std::fs::create_dir_all(dir).map_err(failed)
}

fn open_once(dir: &Path) -> Result<(Projection, Writer), tantivy::TantivyError> {
    let mut schema = Schema::builder();
    let fields = Fields {
        event: schema.add_text_field("event", STRING | STORED),
        revision: schema.add_u64_field("revision", STORED),
        camera: schema.add_text_field("camera", STRING),
        start: schema.add_i64_field("start", FAST | INDEXED | STORED),
        end: schema.add_i64_field("end", FAST | INDEXED | STORED),
        kept_until: schema.add_i64_field("kept_until", FAST | INDEXED),
        moved: schema.add_bytes_field("moved", STORED),
        whole: schema.add_text_field("whole", STRING),
        stem: schema.add_text_field("stem", STRING),
    };
    let index = Index::open_or_create(MmapDirectory::open(dir)?, schema.build())?;
    let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
    let writer = index.writer_with_num_threads(1, WRITER_BYTES)?;
    let projection = Projection { reader: reader.clone(), fields };
    Ok((projection, Writer { writer, reader, fields, dirty: false }))
}

impl Writer {
    /// Adds an event, in place of an earlier revision.
    pub fn put(&mut self, row: &EventRow) -> Result<(), SearchError> {
        let f = self.fields;
        let id = row.id.to_string();
        self.writer.delete_term(Term::from_field_text(f.event, &id));
        let mut document = TantivyDocument::new();
        document.add_text(f.event, &id);
        document.add_u64(f.revision, row.revision);
        document.add_text(f.camera, row.camera.to_string());
        document.add_i64(f.start, row.start.0);
        document.add_i64(f.end, row.end.0);
        document.add_i64(f.kept_until, row.kept_until.0);
        document.add_bytes(f.moved, &row.moved.to_bytes());
        let labels: Vec<&str> = row.labels.iter().map(|label| label.name.as_str()).collect();
        let words = Words::of(&labels);
        words.whole.iter().for_each(|word| document.add_text(f.whole, word));
        words.stems.iter().for_each(|stem| document.add_text(f.stem, stem));
        self.dirty = true;
        self.writer.add_document(document).map(drop).map_err(SearchError::Write)
    }

    /// Removes what is past its term, and its bytes: a deletion alone only marks them. Segments with marks are
    /// written anew without what is marked, and the files of the old ones removed.
    pub fn expire(&mut self, now: WallTime) -> Result<(), SearchError> {
        let past = Bound::Included(Term::from_field_i64(self.fields.kept_until, now.0));
        self.writer.delete_query(Box::new(RangeQuery::new(Bound::Unbounded, past))).map_err(SearchError::Write)?;
        self.dirty = true;
        self.commit()?;
        let segments = self.writer.index().searchable_segment_metas().map_err(SearchError::Read)?;
        for segment in segments.iter().filter(|segment| segment.num_deleted_docs() > 0) {
            self.writer.merge(&[segment.id()]).wait().map_err(SearchError::Write)?;
        }
        drop(segments);
        self.reader.reload().map_err(SearchError::Read)?;
        self.writer.garbage_collect_files().wait().map(drop).map_err(SearchError::Write)
    }

    /// Makes what was put findable and durable.
    pub fn commit(&mut self) -> Result<(), SearchError> {
        if !self.dirty {
            return Ok(());
        }
        self.writer.commit().map_err(SearchError::Write)?;
        self.dirty = false;
        self.reader.reload().map_err(SearchError::Read)
    }
}

impl Projection {
    /// Matches, newest first, `offset` to `offset + limit`.
    pub fn find(&self, conditions: &Conditions, offset: usize, limit: usize) -> Result<Vec<Found>, SearchError> {
        let searcher = self.reader.searcher();
        let order = TopDocs::with_limit(limit).and_offset(offset).order_by_fast_field::<i64>("start", Order::Desc);
        let top = searcher.search(&self.query(conditions), &order).map_err(SearchError::Read)?;
        let mut found = Vec::with_capacity(top.len());
        for (_, address) in top {
            let document: TantivyDocument = searcher.doc(address).map_err(SearchError::Read)?;
            found.extend(self.read(&document));
        }
        Ok(found)
    }

    fn read(&self, document: &TantivyDocument) -> Option<Found> {
        let f = self.fields;
        Some(Found {
            event: document.get_first(f.event)?.as_str()?.parse().ok()?,
            start: WallTime(document.get_first(f.start)?.as_i64()?),
            end: WallTime(document.get_first(f.end)?.as_i64()?),
            moved: CellSet::from_bytes(document.get_first(f.moved)?.as_bytes()?).ok()?,
        })
    }

    /// Which revision the index holds of each event that starts in `from`..`to`.
    pub fn revisions(&self, from: WallTime, to: WallTime) -> Result<HashMap<EventId, u64>, SearchError> {
        let searcher = self.reader.searcher();
        let started = self.range(self.fields.start, Bound::Included(from), Bound::Excluded(to));
        let documents = searcher.search(&*started, &DocSetCollector).map_err(SearchError::Read)?;
        let mut held = HashMap::new();
        for address in documents {
            let document: TantivyDocument = searcher.doc(address).map_err(SearchError::Read)?;
            let event = document.get_first(self.fields.event).and_then(|v| v.as_str()?.parse().ok());
            let revision = document.get_first(self.fields.revision).and_then(|v| v.as_u64());
            held.extend(event.zip(revision));
        }
        Ok(held)
    }

    fn range(&self, field: Field, low: Bound<WallTime>, high: Bound<WallTime>) -> Box<dyn Query> {
        let term = |at: WallTime| Term::from_field_i64(field, at.0);
        Box::new(RangeQuery::new(low.map(term), high.map(term)))
    }

    fn query(&self, conditions: &Conditions) -> BooleanQuery {
        let f = self.fields;
        let mut all: Vec<(Occur, Box<dyn Query>)> = vec![
            (Occur::Must, Box::new(AllQuery)),
            (Occur::Must, self.range(f.start, Bound::Unbounded, Bound::Excluded(conditions.to))),
            (Occur::Must, self.range(f.end, Bound::Excluded(conditions.from), Bound::Unbounded)),
            (Occur::Must, self.range(f.kept_until, Bound::Excluded(conditions.now), Bound::Unbounded)),
        ];
        if !conditions.cameras.is_empty() {
            all.push((Occur::Must, self.of_cameras(&conditions.cameras)));
        }
        for (wanted, cameras) in &conditions.words {
            let stem = TermQuery::new(Term::from_field_text(f.stem, &wanted.stem), IndexRecordOption::Basic);
            let mut any: Vec<Box<dyn Query>> = vec![Box::new(stem), self.of_cameras(cameras)];
            if let Some(beginning) = &wanted.beginning {
                any.push(Box::new(FuzzyTermQuery::new_prefix(Term::from_field_text(f.whole, beginning), 0, true)));
            }
            all.push((Occur::Must, Box::new(BooleanQuery::union(any))));
        }
        BooleanQuery::new(all)
    }

    fn of_cameras(&self, cameras: &[CameraId]) -> Box<dyn Query> {
        let terms = cameras.iter().map(|id| Term::from_field_text(self.fields.camera, &id.to_string()));
        Box::new(TermSetQuery::new(terms.collect::<Vec<_>>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use campanile_proto::types::v1::{Box as PictureBox, Label};

    fn event(kept_until: i64) -> EventRow {
        EventRow {
            id: EventId::random(),
            camera: CameraId::from_u128(1),
            revision: 1,
            start: WallTime(5),
            end: WallTime(6),
            ongoing: false,
            union: PictureBox::default(),
            moved: CellSet::FULL,
            peak_cells: 1,
            labels: vec![Label { name: "bicicletta".to_owned(), ..Label::default() }],
            has_thumbnail: false,
            uncertainty_us: 0,
            kept_until: WallTime(kept_until),
        }
    }

    fn on_disk(dir: &Path, text: &str) -> bool {
        std::fs::read_dir(dir).unwrap().any(|entry| {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            bytes.windows(text.len()).any(|window| window == text.as_bytes())
        })
    }

    fn found(projection: &Projection) -> Vec<EventId> {
        let (cameras, words) = Default::default();
        let all = Conditions { from: WallTime(0), to: WallTime(99), now: WallTime(0), cameras, words };
        projection.find(&all, 0, 10).unwrap().into_iter().map(|found| found.event).collect()
    }

    #[test]
    fn what_expired_leaves_no_byte_on_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let (projection, mut writer) = open(dir.path()).unwrap();
        // One segment holds what expires and what stays.
        let (over, kept) = (event(100), event(200));
        writer.put(&over).unwrap();
        writer.put(&kept).unwrap();
        writer.commit().unwrap();
        let canary = over.id.to_string();
        assert!(on_disk(dir.path(), &canary) && found(&projection).len() == 2);
        writer.expire(WallTime(99)).unwrap();
        assert!(on_disk(dir.path(), &canary));
        writer.expire(WallTime(100)).unwrap();
        assert!(!on_disk(dir.path(), &canary));
        assert_eq!(found(&projection), [kept.id]);
        writer.expire(WallTime(200)).unwrap();
        assert!(found(&projection).is_empty());
        drop(writer);
        let (projection, _writer) = open(dir.path()).unwrap();
        assert!(found(&projection).is_empty());
    }

    #[test]
    fn an_index_of_another_version_or_damaged_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let fill = || {
            let (projection, mut writer) = open(dir.path()).unwrap();
            let before = found(&projection).len();
            writer.put(&event(100)).unwrap();
            writer.commit().unwrap();
            before
        };
        assert_eq!((fill(), fill()), (0, 1));
        std::fs::write(dir.path().join("projection-version"), "0").unwrap();
        assert_eq!((fill(), fill()), (0, 1));
        std::fs::write(dir.path().join("meta.json"), "{").unwrap();
        assert_eq!(fill(), 0);
    }
}
