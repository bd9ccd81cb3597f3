//! `/api/v1/searches`: our own events and every partner's, streamed as they are found.

use super::input::{self, Raw};
use super::problem::Problem;
use super::routes::{Call, Routes};
use super::{Web, output};
use crate::access::{Action, Pass, Principal, Request};
use crate::federation::{Answer, OnBehalf, PartnerAnswer, PartnerQuery};
use crate::hub::Hub;
use crate::search::{Hit, MAX_LIMIT, Query};
use axum::body::Body;
use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use campanile_proto::federation::v1::Purpose;
use campanile_proto::ids::{CameraId, EventId, OrganisationId, RequestId};
use campanile_proto::kind::Kind;
use campanile_proto::time::{Clock, MICROS_PER_SECOND, MonoTime, WallTime};
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

const DEFAULT_LIMIT: usize = 200;
const MAX_CAMERAS: usize = 2_000;
/// Each may ask every partner.
const AT_ONCE: usize = 64;
/// A browser that is suspended, or reads on purpose one line an hour.
const PATIENCE: Duration = Duration::from_secs(10);
/// Place and words together: the most a partner takes (`federation::MAX_WORDS_CHARACTERS`).
const MAX_TEXT_CHARACTERS: usize = crate::federation::MAX_WORDS_CHARACTERS;
/// How long a search's thumbnails may still be looked at.
const REMEMBERED_US: i64 = 3_600 * MICROS_PER_SECOND;
const MAX_REMEMBERED: usize = 500;
/// Hits of one search whose thumbnails can be asked for.
const MAX_REMEMBERED_HITS: usize = 20_000;

pub(super) fn add(routes: Routes) -> Routes {
    routes.add(Method::POST, "/api/v1/searches", Action::Search, read, search)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    from: String,
    to: String,
    #[serde(default)]
    cameras: Vec<String>,
    #[serde(default)]
    site: String,
    #[serde(default)]
    words: String,
    #[serde(default)]
    region: Vec<[f64; 2]>,
    limit: Option<usize>,
    #[serde(default)]
    purpose: String,
    #[serde(default)]
    case_number: String,
    #[serde(default = "yes")]
    partners: bool,
}

fn yes() -> bool {
    true
}

/// What a partner is asked for: its words cover its cameras' places too.
fn asked_words(site: &str, words: &str) -> String {
    format!("{site} {words}").trim().to_owned()
}

struct Wanted {
    query: Query,
    /// Whose cameras are named: ours are searched here, others' at their owners.
    named: Vec<CameraId>,
    partners: bool,
}

fn read(_: &Web, asked: &mut Request, raw: &Raw) -> Result<Wanted, Problem> {
    let form: Form = raw.json()?;
    let interval = (input::time("from", &form.from)?, input::time("to", &form.to)?);
    let plain = |text: &str| !text.chars().any(char::is_control);
    if asked_words(&form.site, &form.words).chars().count() > MAX_TEXT_CHARACTERS
        || !plain(&form.site)
        || !plain(&form.words)
    {
        let sentence = format!("`site` and `words` together: at most {MAX_TEXT_CHARACTERS} printable characters");
        return Err(Problem::field("words", sentence));
    }
    if form.cameras.len() > MAX_CAMERAS {
        return Err(Problem::field("cameras", format!("name at most {MAX_CAMERAS} cameras")));
    }
    let named: Vec<CameraId> = form.cameras.iter().map(|text| input::id("cameras", text)).collect::<Result<_, _>>()?;
    asked.purpose = input::purpose(&form.purpose);
    asked.case_number = Some(form.case_number);
    asked.interval = Some(interval);
    asked.cameras.clone_from(&named);
    let query = Query {
        from: interval.0,
        to: interval.1,
        cameras: Vec::new(),
        site: Some(form.site).filter(|site| !site.trim().is_empty()),
        words: form.words,
        region: input::region(&form.region)?,
        limit: form.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT),
    };
    Ok(Wanted { query, named, partners: form.partners })
}

async fn search(call: Call<Wanted>) -> Result<Response, Problem> {
    let Call { web, pass, input: wanted, .. } = call;
    let busy = || Problem {
        retry_after: Some(1),
        ..Problem::new(Kind::Exhausted, "TOO_MANY_SEARCHES", "too many searches run at once; try again in a moment")
    };
    let place = web.searches.room.clone().try_acquire_owned().map_err(|_| busy())?;
    web.searches.open(&pass);
    let (lines, coming) = mpsc::channel::<Bytes>(16);
    let request = pass.request_id().to_string();
    let (tasks, stop) = (web.tasks.clone(), web.stop.clone());
    let running = Running { web, pass, lines, patience: PATIENCE, unread: CancellationToken::new() };
    tasks.spawn(async move {
        let _place = place;
        // Dropped by the stop, it closes its register entry all the same.
        stop.run_until_cancelled_owned(running.run(wanted)).await;
    });
    let stream = ReceiverStream::new(coming).map(Ok::<_, Infallible>);
    // Thumbnails are asked for under it, and need not wait for the last partner.
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson".to_owned()),
        (header::HeaderName::from_static("campanile-request-id"), request),
    ];
    Ok((headers, Body::from_stream(stream)).into_response())
}

/// A search whose answer is on its way; ends early when nobody reads any more.
struct Running {
    web: Arc<Web>,
    pass: Pass,
    lines: mpsc::Sender<Bytes>,
    /// How long one line may wait for its reader.
    patience: Duration,
    unread: CancellationToken,
}

impl Running {
    async fn run(self, wanted: Wanted) {
        let whole = async {
            tokio::join!(self.own(&wanted), self.partners(&wanted));
            self.say(json!({ "kind": "end", "request_id": self.pass.request_id() })).await;
        };
        self.unread.run_until_cancelled(whole).await;
        self.pass.close(0, 0).await;
    }

    async fn own(&self, wanted: &Wanted) {
        let (hub, since) = (&self.web.hub, Instant::now());
        let (id, name) = (hub.organisation.id, hub.organisation.name.clone());
        let latency = || u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let found = self.search_own(hub, wanted).await;
        match found {
            Ok(mut hits) => {
                let truncated = hits.len() > wanted.query.limit;
                hits.truncate(wanted.query.limit);
                let count = hits.len();
                self.hits(id, &name, hits).await;
                self.say(done(id, &name, count as u64, truncated, latency())).await;
            }
            Err(problem) => {
                let Problem { code, clause, sentence, .. } = problem;
                self.say(failed(id, &name, (&code, &clause, &sentence), latency())).await;
            }
        }
    }

    async fn search_own(&self, hub: &Hub, wanted: &Wanted) -> Result<Vec<Hit>, Problem> {
        let mut query = wanted.query.clone();
        query.limit += 1;
        if !wanted.named.is_empty() {
            let own = hub.catalog.cameras().await.map_err(|e| Problem::of("search", e.kind(), &e))?;
            query.cameras = wanted.named.iter().copied().filter(|id| own.iter().any(|c| c.id == *id)).collect();
            if query.cameras.is_empty() {
                return Ok(Vec::new());
            }
        }
        hub.search.run(query).await.map_err(|e| Problem::of("search", e.kind(), &e))
    }

    async fn partners(&self, wanted: &Wanted) {
        if !wanted.partners {
            return;
        }
        let query = PartnerQuery {
            behalf: behalf(&self.web.hub, &self.pass),
            from: wanted.query.from,
            to: wanted.query.to,
            words: asked_words(wanted.query.site.as_deref().unwrap_or_default(), &wanted.query.words),
            region: wanted.query.region,
            limit: u32::try_from(wanted.query.limit).unwrap_or(u32::MAX),
            cameras: wanted.named.clone(),
        };
        let mut answers = std::pin::pin!(self.web.hub.federation.ask_search(query));
        while let Some(answer) = answers.next().await {
            self.partner(answer).await;
            if self.lines.is_closed() {
                return;
            }
        }
    }

    async fn partner(&self, answer: PartnerAnswer) {
        let latency = u64::try_from(answer.latency.as_millis()).unwrap_or(u64::MAX);
        let (id, name) = (answer.partner, answer.name);
        match answer.result {
            Answer::Hits(hits) => self.hits(id, &name, hits).await,
            Answer::Done { count, truncated } => self.say(done(id, &name, count, truncated, latency)).await,
            Answer::Failed { code, clause, sentence } => {
                self.say(failed(id, &name, (&code, &clause, &sentence), latency)).await;
            }
        }
    }

    async fn hits(&self, organisation: OrganisationId, name: &str, hits: Vec<Hit>) {
        if hits.is_empty() {
            return;
        }
        self.web.searches.note(self.pass.request_id(), organisation, &hits);
        let shown: Vec<Value> = hits.iter().map(output::hit).collect();
        self.pass.count(hits.len() as u64, 0);
        self.say(json!({
            "kind": "hits", "organisation_id": organisation, "organisation": name, "hits": shown,
        }))
        .await;
    }

    async fn say(&self, line: Value) {
        let mut text = line.to_string();
        text.push('\n');
        self.pass.count(0, text.len() as u64);
        // A reader that has gone is noticed by the loops; one that stays and does not read ends the search.
        if tokio::time::timeout(self.patience, self.lines.send(text.into())).await.is_err() {
            self.unread.cancel();
        }
    }
}

fn done(id: OrganisationId, name: &str, count: u64, truncated: bool, latency_ms: u64) -> Value {
    json!({
        "kind": "done", "organisation_id": id, "organisation": name,
        "count": count, "truncated": truncated, "latency_ms": latency_ms,
    })
}

/// Code, clause (as the agreement numbers it; absent when none was named) and sentence.
fn failed(id: OrganisationId, name: &str, (code, clause, sentence): (&str, &str, &str), latency_ms: u64) -> Value {
    let mut line = json!({
        "kind": "failed", "organisation_id": id, "organisation": name,
        "code": code, "sentence": sentence, "latency_ms": latency_ms,
    });
    if !clause.is_empty() {
        line["clause"] = clause.into();
    }
    line
}

/// For whom a partner is asked. It learns a pseudonym: the same person always has the same one, and only
/// this hub can say whose it is.
pub(super) fn behalf(hub: &Hub, pass: &Pass) -> OnBehalf {
    let asked = pass.request();
    let role = match &asked.principal {
        Principal::Operator { role, .. } => role.clone(),
        _ => "administrator".to_owned(),
    };
    let keyed = Sha256::new()
        .chain_update(b"campanile pseudonym\0")
        .chain_update(hub.organisation.hub.to_bytes())
        .chain_update(asked.principal.label());
    OnBehalf {
        request_id: asked.id,
        operator_pseudonym: hex::encode(&keyed.finalize()[..8]),
        role,
        purpose: asked.purpose.unwrap_or(Purpose::Unspecified),
        case_number: asked.case_number.clone().unwrap_or_default(),
    }
}

/// A hit whose thumbnail may be asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub camera: CameraId,
    pub start: WallTime,
    pub end: WallTime,
}

/// Under what a search was let in.
#[derive(Debug, Clone)]
pub(super) struct Under {
    pub purpose: Option<Purpose>,
    pub case_number: Option<String>,
}

struct Past {
    principal: Principal,
    under: Under,
    at: MonoTime,
    found: HashMap<(OrganisationId, EventId), Found>,
}

/// Searches of the last hour, in memory.
pub(super) struct Remembered {
    past: Mutex<HashMap<RequestId, Past>>,
    /// Places for searches that run.
    room: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
}

impl Remembered {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { past: Mutex::default(), room: Arc::new(Semaphore::new(AT_ONCE)), clock }
    }

    pub fn open(&self, pass: &Pass) {
        let (asked, now) = (pass.request(), self.clock.mono());
        let mut past = self.lock();
        past.retain(|_, one| now - one.at < REMEMBERED_US);
        if past.len() >= MAX_REMEMBERED {
            let oldest = past.iter().min_by_key(|(_, one)| one.at).map(|(id, _)| *id);
            oldest.map(|id| past.remove(&id));
        }
        let under = Under { purpose: asked.purpose, case_number: asked.case_number.clone() };
        past.insert(asked.id, Past { principal: asked.principal.clone(), under, at: now, found: HashMap::new() });
    }

    pub fn note(&self, request: RequestId, organisation: OrganisationId, hits: &[Hit]) {
        let mut past = self.lock();
        let Some(one) = past.get_mut(&request) else { return };
        let room = MAX_REMEMBERED_HITS.saturating_sub(one.found.len());
        let read = |hit: &Hit| {
            let event = EventId::try_from(&hit.event_id).ok()?;
            let camera = CameraId::try_from(&hit.camera_id).ok()?;
            let found = Found { camera, start: WallTime(hit.start_us), end: WallTime(hit.end_us) };
            Some(((organisation, event), found))
        };
        one.found.extend(hits.iter().filter_map(read).take(room));
    }

    /// A hit of a search of the same person.
    pub fn hit(
        &self,
        principal: &Principal,
        request: RequestId,
        organisation: OrganisationId,
        event: EventId,
    ) -> Option<(Under, Found)> {
        let past = self.lock();
        let one = past.get(&request).filter(|one| one.principal == *principal)?;
        let fresh = self.clock.mono() - one.at < REMEMBERED_US;
        let found = one.found.get(&(organisation, event)).filter(|_| fresh)?;
        Some((one.under.clone(), *found))
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RequestId, Past>> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Stand, administrator};
    use super::*;
    use campanile_proto::time::MICROS_PER_HOUR;

    async fn running(stand: &Stand, lines: mpsc::Sender<Bytes>) -> (Running, Wanted) {
        let (from, to) = (stand.clock.utc().plus_micros(-MICROS_PER_HOUR), stand.clock.utc());
        let asked = Request {
            purpose: Some(Purpose::UrbanSecurity),
            case_number: Some("1".into()),
            interval: Some((from, to)),
            ..Request::new(administrator(), Action::Search)
        };
        let pass = stand.hub().door.enter(asked).await.unwrap();
        let query = Query { from, to, cameras: Vec::new(), site: None, words: String::new(), region: None, limit: 10 };
        let (patience, unread) = (Duration::from_millis(20), CancellationToken::new());
        let running = Running { web: stand.web.clone(), pass, lines, patience, unread };
        (running, Wanted { query, named: Vec::new(), partners: true })
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_reader_that_does_not_read_ends_its_search_and_the_entry_is_closed() {
        let stand = Stand::open().await;
        // One line fits; the second waits for a reader.
        let (lines, mut unread) = mpsc::channel(1);
        let (search, wanted) = running(&stand, lines).await;
        let size = stand.size().await;
        tokio::time::timeout(Duration::from_secs(10), search.run(wanted)).await.expect("it does not wait for ever");
        assert_eq!(stand.size().await, size + 1, "its entry is closed");
        assert!(unread.recv().await.is_some());
        assert!(unread.recv().await.is_none(), "no line came after the one that fitted");

        let (lines, mut read) = mpsc::channel(1);
        let (search, wanted) = running(&stand, lines).await;
        let (_, last) = tokio::join!(search.run(wanted), async {
            let mut last = Bytes::new();
            while let Some(line) = read.recv().await {
                last = line;
            }
            last
        });
        assert!(last.starts_with(br#"{"kind":"end""#), "the control: {last:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_accepted_here_a_partner_accepts_too() {
        let stand = Stand::open().await;
        let asked = |site: &str, words: &str| {
            let body =
                json!({ "from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z", "site": site, "words": words });
            let raw = Raw::new(HashMap::new(), "", body.to_string().into());
            read(&stand.web, &mut Request::new(administrator(), Action::Search), &raw).map(drop).map_err(|p| p.field)
        };
        assert_eq!(asked(&"a".repeat(99), &"b".repeat(100)), Ok(()));
        assert_eq!(asked(&"a".repeat(100), &"b".repeat(100)), Err(Some("words")));
        assert_eq!(asked("", &"b".repeat(200)), Ok(()));
        assert_eq!(asked("", &"b".repeat(201)), Err(Some("words")));
        assert_eq!(asked("a\nb", ""), Err(Some("words")));
    }

    #[test]
    fn a_clause_that_a_partner_named_stands_in_its_line() {
        let id = OrganisationId::from_u128(1);
        let line = failed(id, "Firenze", ("NOT_GRANTED", "3.1", "no clause grants it"), 7);
        assert_eq!((line["clause"].as_str(), line["code"].as_str()), (Some("3.1"), Some("NOT_GRANTED")));
        assert!(failed(id, "Firenze", ("TIMED_OUT", "", "late"), 7).get("clause").is_none());
    }
}
