//! What a hold says of itself, and whether that is enough: pure.

use campanile_proto::ids::{CameraId, HoldId};
use campanile_proto::time::{MICROS_PER_HOUR, WallTime};
use serde::Serialize;

const MAX_CHARACTERS: usize = 200;
const MAX_CAMERAS: usize = 500;
/// Footage has a term of a week; what an act asks for beyond it is several holds.
const MAX_INTERVAL_US: i64 = 8 * 24 * MICROS_PER_HOUR;
/// A proceeding that lasts longer places its hold anew, with an act that says so.
const MAX_TERM_US: i64 = 10 * 366 * 24 * MICROS_PER_HOUR;

/// Footage that is kept beyond its term, by whose act and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    pub id: HoldId,
    pub terms: Terms,
    pub placed: WallTime,
    /// Since when every held second that was ever recorded is copied.
    pub complete: Option<WallTime>,
    pub over: Option<Over>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Protocol number of the authority's act.
    pub act: String,
    pub author: String,
    pub approver: String,
    pub reason: String,
    pub cameras: Vec<CameraId>,
    /// Half-open.
    pub from: WallTime,
    pub to: WallTime,
    /// The hold's end, in any case.
    pub until: WallTime,
}

/// How a hold came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Over {
    pub at: WallTime,
    /// Who released it before its end; none: its end came.
    pub released_by: Option<String>,
    pub why: String,
}

/// What a person calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Kept at the boxes; copies are made, or still missing.
    Copying,
    /// Every held second that was recorded lies at the hub.
    Complete,
    /// The ordinary term is over, and something that was recorded was never copied.
    Incomplete,
    Released,
    Ended,
}

impl Hold {
    /// `expires`: when the last of it is past its ordinary term, so that nothing can be taken in any more.
    pub fn state(&self, now: WallTime, expires: WallTime) -> State {
        match (&self.over, self.complete) {
            (Some(Over { released_by: Some(_), .. }), _) => State::Released,
            (Some(_), _) => State::Ended,
            (None, Some(_)) => State::Complete,
            (None, None) if expires <= now => State::Incomplete,
            (None, None) => State::Copying,
        }
    }

    pub fn stands(&self, now: WallTime) -> bool {
        self.over.is_none() && now < self.terms.until
    }
}

/// Which of the terms is wrong, and what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {sentence}")]
pub struct BadTerm {
    pub field: &'static str,
    pub sentence: String,
}

impl Terms {
    pub fn check(&self, now: WallTime) -> Result<(), BadTerm> {
        let bad = |field, sentence: &str| Err(BadTerm { field, sentence: sentence.to_owned() });
        for (field, text) in
            [("act", &self.act), ("author", &self.author), ("approver", &self.approver), ("reason", &self.reason)]
        {
            let length = text.trim().chars().count();
            if !(1..=MAX_CHARACTERS).contains(&length) || text.chars().any(char::is_control) {
                return bad(field, &format!("write 1 to {MAX_CHARACTERS} characters"));
            }
        }
        if same_person(&self.author, &self.approver) {
            return bad("approver", "name another person than the author");
        }
        if self.cameras.is_empty() || self.cameras.len() > MAX_CAMERAS {
            return bad("cameras", &format!("name 1 to {MAX_CAMERAS} cameras"));
        }
        if self.from >= self.to {
            return bad("from", "`from` must be before `to`");
        }
        if self.to - self.from > MAX_INTERVAL_US {
            return bad("to", "a hold covers at most eight days; place several");
        }
        if self.to - now > MAX_INTERVAL_US {
            return bad("to", "a hold reaches at most eight days ahead");
        }
        if self.until <= now || self.until < self.to {
            return bad("until", "name the hold's end, in the future and not before `to`");
        }
        if self.until - now > MAX_TERM_US {
            return bad("until", "a hold ends within ten years; place it anew then");
        }
        Ok(())
    }
}

fn same_person(a: &str, b: &str) -> bool {
    let plain = |text: &str| text.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>();
    plain(a) == plain(b)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn terms(from: i64, to: i64, until: i64) -> Terms {
        Terms {
            act: "prot. 4711/2026".into(),
            author: "Anna Bianchi".into(),
            approver: "Bruno Neri".into(),
            reason: "decreto di acquisizione".into(),
            cameras: vec![CameraId::from_u128(7)],
            from: WallTime(from),
            to: WallTime(to),
            until: WallTime(until),
        }
    }

    #[test]
    fn what_a_hold_lacks_is_named() {
        let good = terms(0, 100, 1_000);
        let wrong = |change: &dyn Fn(&mut Terms)| {
            let mut terms = good.clone();
            change(&mut terms);
            terms.check(WallTime(50)).err().map(|bad| bad.field)
        };
        assert_eq!(wrong(&|_| ()), None);
        assert_eq!(wrong(&|t| t.act.clear()), Some("act"));
        assert_eq!(wrong(&|t| t.reason = "  ".into()), Some("reason"));
        assert_eq!(wrong(&|t| t.author = "a\nb".into()), Some("author"));
        assert_eq!(wrong(&|t| t.approver = " anna  BIANCHI".into()), Some("approver"));
        assert_eq!(wrong(&|t| t.cameras.clear()), Some("cameras"));
        assert_eq!(wrong(&|t| t.to = t.from), Some("from"));
        assert_eq!(wrong(&|t| t.to = WallTime(9 * 24 * MICROS_PER_HOUR)), Some("to"));
        for until in [50, 99] {
            assert_eq!(wrong(&|t| t.until = WallTime(until)), Some("until"), "{until}");
        }
        assert_eq!(wrong(&|t| t.until = WallTime(i64::MAX)), Some("until"));
    }

    #[test]
    fn a_hold_that_was_never_whole_is_incomplete_once_nothing_can_be_taken_in_any_more() {
        let (id, placed) = (HoldId::from_u128(1), WallTime(0));
        let mut hold = Hold { id, terms: terms(0, 100, 1_000), placed, complete: None, over: None };
        let state = |hold: &Hold, now| hold.state(WallTime(now), WallTime(500));
        assert_eq!((state(&hold, 499), state(&hold, 500)), (State::Copying, State::Incomplete));
        hold.complete = Some(WallTime(200));
        assert_eq!(state(&hold, 500), State::Complete);
        assert!(hold.stands(WallTime(999)) && !hold.stands(WallTime(1_000)));
        hold.over = Some(Over { at: WallTime(600), released_by: None, why: String::new() });
        assert_eq!(state(&hold, 600), State::Ended);
    }
}
