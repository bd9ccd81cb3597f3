//! The requester's side: every partner asked at once, each with its own deadlines, each named with what it
//! answered or why it did not.

use super::connect::within;
use super::directory::{Need, NotInForce, Partner};
use super::error::AskError;
use super::replies::{Asking, OnBehalf, Replies};
use super::{Federation, Inner, read, write};
use crate::access::CLOCK_SLACK_US;
use bytes::Bytes;
use campanile_proto::federation::v1::reply::Reply as Content;
use campanile_proto::federation::v1::{CameraCard, Right, SearchEnd, SearchHit, SearchQuery};
use campanile_proto::grid::CellSet;
use campanile_proto::ids::{AgreementId, CameraId, EventId, OrganisationId};
use campanile_proto::kind::Chain;
use campanile_proto::signed;
use campanile_proto::time::WallTime;
use futures::Stream;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Until the first word of an answer.
const FIRST_ANSWER_SECONDS: u64 = 2;
/// Until the last.
const WHOLE_ANSWER_SECONDS: u64 = 5;
/// Hits handed on together once the first was shown.
const BATCH: usize = 50;
/// A card more than this of one partner is not kept.
const MAX_CARDS: usize = 10_000;
const MAX_LABELS: usize = 32;
const MAX_TEXT_CHARACTERS: usize = 300;
const MAX_THUMBNAIL_BYTES: usize = 1 << 20;

/// A search of every partner with a live agreement.
#[derive(Debug, Clone)]
pub struct PartnerQuery {
    pub behalf: OnBehalf,
    pub from: WallTime,
    pub to: WallTime,
    pub words: String,
    pub region: Option<CellSet>,
    pub limit: u32,
    /// Empty: every camera granted; otherwise only the partners they belong to are asked.
    pub cameras: Vec<CameraId>,
}

/// One event's thumbnail at a partner.
#[derive(Debug, Clone)]
pub struct ThumbnailQuery {
    pub behalf: OnBehalf,
    pub partner: OrganisationId,
    pub camera: CameraId,
    pub event: EventId,
    /// An interval that holds the event's start.
    pub from: WallTime,
    pub to: WallTime,
}

/// What one partner says at one moment of the search.
#[derive(Debug, Clone)]
pub struct PartnerAnswer {
    pub partner: OrganisationId,
    pub name: String,
    /// Since the question.
    pub latency: Duration,
    pub result: Answer,
}

#[derive(Debug, Clone)]
pub enum Answer {
    Hits(Vec<SearchHit>),
    Done {
        count: u64,
        truncated: bool,
    },
    /// `clause` as the agreement numbers it; empty when none was named.
    Failed {
        code: String,
        clause: String,
        sentence: String,
    },
}

impl Answer {
    fn failed(error: &AskError) -> Self {
        let (code, clause) = (error.code().to_owned(), error.clause().to_owned());
        Self::Failed { code, clause, sentence: error.sentence() }
    }
}

/// A partner's camera that agreements let us use.
#[derive(Debug, Clone)]
pub struct GrantedCamera {
    pub partner: OrganisationId,
    pub partner_name: String,
    pub camera: CameraId,
    /// As the partner described it with an earlier answer.
    pub card: Option<CameraCard>,
    pub rights: Vec<Right>,
}

impl Federation {
    /// Asks every partner at once. The stream ends when each has answered or failed; dropped, it stops asking.
    pub fn ask_search(&self, query: PartnerQuery) -> impl Stream<Item = PartnerAnswer> + Send + 'static {
        let (answers, coming) = mpsc::channel(16);
        let mut asked = JoinSet::new();
        for (partner, why) in self.unaskable(&query) {
            let answers = answers.clone();
            let result = Answer::failed(&why);
            let answer = PartnerAnswer { partner: partner.id, name: partner.name, latency: Duration::ZERO, result };
            asked.spawn(async move { drop(answers.send(answer).await) });
        }
        for (partner, agreement, cameras) in self.askable(&query) {
            let (federation, query, answers) = (self.clone(), query.clone(), answers.clone());
            let narrowed = if query.cameras.is_empty() { Vec::new() } else { cameras };
            asked.spawn(async move {
                let teller = Teller { partner: partner.id, name: partner.name.clone(), since: Instant::now(), answers };
                let answer = federation.0.search_one(&partner, agreement, &query, narrowed, &teller).await;
                let last = match answer {
                    Ok(SearchEnd { count, truncated }) => Answer::Done { count, truncated },
                    Err(error) => {
                        tracing::warn!(partner = %partner.id, error = %Chain(&error), "partner did not answer");
                        Answer::failed(&error)
                    }
                };
                teller.tell(last).await;
            });
        }
        // The set rides along: dropping the stream aborts what is still asking.
        futures::stream::unfold((coming, asked), |(mut coming, asked)| async move {
            coming.recv().await.map(|answer| (answer, (coming, asked)))
        })
    }

    /// Partners with a live agreement, the one to ask under, and the cameras meant.
    fn askable(&self, query: &PartnerQuery) -> Vec<(Partner, AgreementId, Vec<CameraId>)> {
        let (us, now) = (self.us(), self.0.clock.utc());
        let directory = read(&self.0.directory);
        let need = Need {
            right: Right::Search,
            purpose: query.behalf.purpose,
            role: &query.behalf.role,
            cameras: &query.cameras,
        };
        let of = |partner: &Partner| {
            if let Some((agreement, cameras)) = directory.granted(us, partner.id, &need, now).into_iter().next() {
                return Some((partner.clone(), agreement, cameras));
            }
            // Nothing fits: the owner is asked all the same and names the clause, unless others' cameras are meant.
            let agreement = directory.any_live(us, partner.id, now).filter(|_| query.cameras.is_empty())?;
            Some((partner.clone(), agreement, Vec::new()))
        };
        directory.partners.values().filter_map(of).collect()
    }

    /// Partners that cannot be asked, and why. Where cameras are named, only those one of them was granted by.
    fn unaskable(&self, query: &PartnerQuery) -> Vec<(Partner, AskError)> {
        let (us, now) = (self.us(), self.0.clock.utc());
        let directory = read(&self.0.directory);
        let of = |partner: &Partner| {
            let why = directory.why_not(us, partner.id, &query.cameras, now)?;
            Some((partner.clone(), AskError::NotInForce(why)))
        };
        directory.partners.values().filter_map(of).collect()
    }

    pub async fn thumbnail(&self, query: ThumbnailQuery) -> Result<Bytes, AskError> {
        let (partner, agreement) = self.under(query.partner, Right::Thumbnail, &query.behalf, query.camera)?;
        let asking =
            Asking { agreement, right: Right::Thumbnail, cameras: vec![query.camera], from: query.from, to: query.to };
        let (mut request, private) = self.0.access_request(&partner, &query.behalf, asking);
        request.event_id = query.event.into();
        let envelope = signed::envelope(&request, self.us(), &self.0.identity.hub);
        let opener = self.0.opener(&partner, query.behalf.request_id, private)?;
        let mut client = self.0.connections.client(&partner);
        let whole = async {
            let stream = client.thumbnail(envelope).await?.into_inner();
            match Replies::new(stream, opener).next().await? {
                Some(Content::Thumbnail(image)) if image.jpeg.len() <= MAX_THUMBNAIL_BYTES => Ok(image.jpeg),
                _ => Err(AskError::Unexpected("something else than a thumbnail")),
            }
        };
        let timed = tokio::time::timeout(Duration::from_secs(WHOLE_ANSWER_SECONDS), whole).await;
        timed.unwrap_or(Err(AskError::TimedOut(WHOLE_ANSWER_SECONDS)))
    }

    /// The partner, and the live agreement under which a camera of its may be asked for.
    pub(super) fn under(
        &self,
        partner: OrganisationId,
        right: Right,
        behalf: &OnBehalf,
        camera: CameraId,
    ) -> Result<(Partner, AgreementId), AskError> {
        let (us, now) = (self.us(), self.0.clock.utc());
        let known = self.partner(partner).ok_or(AskError::UnknownPartner(partner))?;
        let directory = read(&self.0.directory);
        let need = Need { right, purpose: behalf.purpose, role: &behalf.role, cameras: &[camera] };
        let fitting = directory.granted(us, partner, &need, now).into_iter().next().map(|(agreement, _)| agreement);
        let agreement = fitting.or_else(|| directory.any_live(us, partner, now));
        let why = || directory.why_not(us, partner, &[], now).unwrap_or(NotInForce::None);
        let agreement = agreement.ok_or_else(|| AskError::NotInForce(why()))?;
        Ok((known, agreement))
    }

    /// Partners' cameras that live agreements name for us.
    pub fn granted_cameras(&self) -> Vec<GrantedCamera> {
        let directory = read(&self.0.directory);
        let granted = directory.granted_cameras(self.us(), self.0.clock.utc());
        let of = |((partner, camera), rights): ((OrganisationId, CameraId), Vec<Right>)| GrantedCamera {
            partner,
            partner_name: directory.partners.get(&partner).map(|p| p.name.clone()).unwrap_or_default(),
            camera,
            card: directory.cards.get(&(partner, camera)).cloned(),
            rights,
        };
        granted.into_iter().map(of).collect()
    }
}

/// What of an answer was taken so far.
struct Taken {
    hits: Vec<SearchHit>,
    shown: u64,
    cards: Vec<CameraCard>,
}

impl Taken {
    /// Takes one part; the end when it was the last.
    fn take(&mut self, content: Option<Content>, bounds: &Bounds) -> Result<Option<SearchEnd>, AskError> {
        match content {
            Some(Content::Camera(card)) if self.cards.len() < MAX_CARDS => self.cards.push(card),
            Some(Content::Hit(hit)) if self.shown + (self.hits.len() as u64) < bounds.limit => {
                self.hits.push(bounds.admit(hit).ok_or(AskError::Unexpected("an event outside of the question"))?);
            }
            Some(Content::End(end)) => return Ok(Some(end)),
            Some(_) => return Err(AskError::Unexpected("more or something else than hits")),
            None => return Err(AskError::CutShort),
        }
        Ok(None)
    }

    async fn show(&mut self, teller: &Teller) {
        if !self.hits.is_empty() {
            self.shown += self.hits.len() as u64;
            teller.tell(Answer::Hits(std::mem::take(&mut self.hits))).await;
        }
    }
}

/// What was asked, so that nothing else is believed.
struct Bounds {
    cameras: BTreeSet<CameraId>,
    from: WallTime,
    to: WallTime,
    limit: u64,
}

impl Bounds {
    /// An event of a camera and an interval that were asked for, as far as two clocks agree; its texts are cut
    /// to what a table can show.
    fn admit(&self, mut hit: SearchHit) -> Option<SearchHit> {
        let camera = CameraId::try_from(&hit.camera_id).ok().filter(|camera| self.cameras.contains(camera));
        let within = overlaps(hit.start_us, hit.end_us.max(hit.start_us), (self.from, self.to));
        let event = EventId::try_from(&hit.event_id).ok();
        camera.and(event).filter(|_| within)?;
        hit.labels.truncate(MAX_LABELS);
        let labels = hit.labels.iter_mut().flat_map(|label| [&mut label.name, &mut label.source]);
        for text in labels.chain([&mut hit.camera_name, &mut hit.site, &mut hit.address]) {
            *text = text.chars().filter(|c| !c.is_control()).take(MAX_TEXT_CHARACTERS).collect();
        }
        Some(hit)
    }
}

/// Whether something lies in an interval, give or take what a box's time may be corrected by after it was found.
pub(super) fn overlaps(start_us: i64, end_us: i64, (from, to): (WallTime, WallTime)) -> bool {
    start_us < to.0.saturating_add(CLOCK_SLACK_US) && end_us >= from.0.saturating_sub(CLOCK_SLACK_US)
}

/// Hands answers on, with their latency.
struct Teller {
    partner: OrganisationId,
    name: String,
    since: Instant,
    answers: mpsc::Sender<PartnerAnswer>,
}

impl Teller {
    /// A reader that has gone needs no answer.
    async fn tell(&self, result: Answer) {
        let latency = self.since.elapsed();
        let answer = PartnerAnswer { partner: self.partner, name: self.name.clone(), latency, result };
        let _ = self.answers.send(answer).await;
    }
}

impl Inner {
    async fn search_one(
        &self,
        partner: &Partner,
        agreement: AgreementId,
        query: &PartnerQuery,
        cameras: Vec<CameraId>,
        teller: &Teller,
    ) -> Result<SearchEnd, AskError> {
        let asking = Asking { agreement, right: Right::Search, cameras, from: query.from, to: query.to };
        let (mut request, private) = self.access_request(partner, &query.behalf, asking);
        let region = query.region.map(|region| Bytes::copy_from_slice(&region.to_bytes())).unwrap_or_default();
        request.search = Some(SearchQuery { words: query.words.clone(), region, limit: query.limit });
        let envelope = signed::envelope(&request, self.identity.id, &self.identity.hub);
        let opener = self.opener(partner, query.behalf.request_id, private)?;
        let mut client = self.connections.client(partner);
        let bounds = self.bounds(partner.id, query);
        let deadline = teller.since + Duration::from_secs(WHOLE_ANSWER_SECONDS);

        let stream = within(FIRST_ANSWER_SECONDS, client.search(envelope)).await?.into_inner();
        let mut replies = Replies::new(stream, opener);
        let first_by = teller.since + Duration::from_secs(FIRST_ANSWER_SECONDS);
        let first = tokio::time::timeout_at(first_by, replies.next()).await;
        let mut content = first.map_err(|_| AskError::TimedOut(FIRST_ANSWER_SECONDS))??;
        let mut taken = Taken { hits: Vec::new(), shown: 0, cards: Vec::new() };
        let end = loop {
            match taken.take(content, &bounds) {
                Ok(Some(end)) => break Ok(end),
                Ok(None) => {}
                Err(error) => break Err(error),
            }
            if taken.shown == 0 || taken.hits.len() >= BATCH {
                taken.show(teller).await;
            }
            content = match tokio::time::timeout_at(deadline, replies.next()).await {
                Ok(Ok(next)) => next,
                Ok(Err(error)) => break Err(error),
                Err(_) => break Err(AskError::TimedOut(WHOLE_ANSWER_SECONDS)),
            };
        };
        // What came before the answer broke off was found all the same.
        taken.show(teller).await;
        if end.is_ok() {
            self.keep_cards(partner.id, taken.cards).await;
        }
        end
    }

    /// What may come as an answer to a search of `partner`.
    fn bounds(&self, partner: OrganisationId, query: &PartnerQuery) -> Bounds {
        let need = Need {
            right: Right::Search,
            purpose: query.behalf.purpose,
            role: &query.behalf.role,
            cameras: &query.cameras,
        };
        let granted = read(&self.directory).granted(self.identity.id, partner, &need, self.clock.utc());
        let cameras = granted.into_iter().flat_map(|(_, cameras)| cameras).collect();
        Bounds { cameras, from: query.from, to: query.to, limit: u64::from(query.limit) }
    }

    /// Keeps how a partner describes cameras it grants us, where that has changed.
    async fn keep_cards(&self, partner: OrganisationId, cards: Vec<CameraCard>) {
        let changed: Vec<(CameraId, CameraCard)> = {
            let directory = read(&self.directory);
            let granted = directory.granted_cameras(self.identity.id, self.clock.utc());
            let new = |card: CameraCard| {
                let camera = CameraId::try_from(&card.camera_id).ok()?;
                let wanted = granted.contains_key(&(partner, camera)) && is_short(&card);
                (wanted && directory.cards.get(&(partner, camera)) != Some(&card)).then_some((camera, card))
            };
            cards.into_iter().filter_map(new).collect()
        };
        if changed.is_empty() {
            return;
        }
        {
            let mut directory = write(&self.directory);
            changed.iter().for_each(|(_, card)| directory.keep_card(partner, card.clone()));
        }
        if let Err(error) = self.store.put_cards(partner, changed).await {
            tracing::warn!(error = %Chain(&error), "camera cards not kept");
        }
    }
}

fn is_short(card: &CameraCard) -> bool {
    [&card.name, &card.site, &card.address].iter().all(|text| super::agreement::is_text(text, 0, MAX_TEXT_CHARACTERS))
}
