//! What is to happen to which operations. Pure.
//!
//! ```text
//! rules = rule (";" rule)*
//! rule  = action kind pattern first [count]
//! ```
//! `action`: `kill-before`, `kill-half` (of a write: its first half is written), `kill-after`, `fail-EIO`,
//! `fail-ENOSPC`, `fail-EROFS`. `kind`: `open`, `create`, `read`, `write`, `sync`, `truncate`, `rename`, `unlink`,
//! `mkdir`, `rmdir`, or `change` for all but open and read. `pattern`: of the whole path, `*` for anything.
//! `first`: the first operation of those it concerns; `count`: for how many, `*` for all that follow.

/// What a process does to its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    Open,
    Create,
    Read,
    Write,
    Sync,
    Truncate,
    Rename,
    Unlink,
    Mkdir,
    Rmdir,
}

const DEEDS: [(&str, Deed); 10] = [
    ("open", Deed::Open),
    ("create", Deed::Create),
    ("read", Deed::Read),
    ("write", Deed::Write),
    ("sync", Deed::Sync),
    ("truncate", Deed::Truncate),
    ("rename", Deed::Rename),
    ("unlink", Deed::Unlink),
    ("mkdir", Deed::Mkdir),
    ("rmdir", Deed::Rmdir),
];

/// What becomes of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    KillBefore,
    KillHalf,
    KillAfter,
    /// With this errno.
    Fail(i32),
}

/// One rule and how many operations it has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// As it was written.
    pub text: String,
    verdict: Verdict,
    /// None: every change.
    deed: Option<Deed>,
    pattern: Vec<u8>,
    first: u64,
    count: Option<u64>,
    seen: u64,
}

impl Rule {
    /// The rules in a text, or what of it is none.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, String> {
        let rules = text.split(';').map(str::trim).filter(|rule| !rule.is_empty());
        rules.map(|rule| Self::parse(rule).ok_or_else(|| rule.to_owned())).collect()
    }

    fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (&[action, kind, pattern, first], rest) = words.split_first_chunk::<4>()?;
        let verdict = match action {
            "kill-before" => Verdict::KillBefore,
            "kill-half" => Verdict::KillHalf,
            "kill-after" => Verdict::KillAfter,
            "fail-EIO" => Verdict::Fail(libc::EIO),
            "fail-ENOSPC" => Verdict::Fail(libc::ENOSPC),
            "fail-EROFS" => Verdict::Fail(libc::EROFS),
            _ => return None,
        };
        let named = DEEDS.iter().find(|(name, _)| *name == kind).map(|(_, deed)| *deed);
        let count = match rest {
            [] => Some(1),
            ["*"] => None,
            [count] => Some(count.parse().ok()?),
            _ => return None,
        };
        (named.is_some() || kind == "change").then_some(Self {
            text: text.to_owned(),
            verdict,
            deed: named,
            pattern: pattern.as_bytes().to_vec(),
            first: first.parse().ok().filter(|first| *first > 0)?,
            count,
            seen: 0,
        })
    }

    /// Counts an operation it concerns, and says what becomes of it.
    pub fn judge(&mut self, deed: Deed, path: &[u8]) -> Verdict {
        let concerns = self.deed.map_or(!matches!(deed, Deed::Open | Deed::Read), |own| own == deed);
        if !concerns || !matches(&self.pattern, path) {
            return Verdict::Pass;
        }
        self.seen += 1;
        let is_over = self.count.is_some_and(|count| self.seen >= self.first + count);
        if self.seen < self.first || is_over { Verdict::Pass } else { self.verdict }
    }
}

/// Whether `path` is `pattern`, in which `*` stands for any bytes.
fn matches(pattern: &[u8], path: &[u8]) -> bool {
    match pattern.split_first() {
        None => path.is_empty(),
        Some((b'*', rest)) => (0..=path.len()).any(|skipped| matches(rest, &path[skipped..])),
        Some((first, rest)) => path.split_first().is_some_and(|(own, path)| own == first && matches(rest, path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(rule: &str, paths: &[&str]) -> Vec<Verdict> {
        let mut rule = Rule::parse_all(rule).unwrap().pop().unwrap();
        paths.iter().map(|path| rule.judge(Deed::Write, path.as_bytes())).collect()
    }

    #[test]
    fn a_rule_counts_what_it_concerns_and_nothing_else() {
        use Verdict::{Fail, KillHalf, Pass};
        let paths = ["/m/main/a.seg", "/m/index.sqlite-wal", "/m/sub/a.seg", "/m/main/b.seg", "/m/main/b.seg"];
        assert_eq!(verdicts("kill-half write */main/*.seg 2", &paths), [Pass, Pass, Pass, KillHalf, Pass]);
        let eio = Fail(libc::EIO);
        assert_eq!(verdicts("fail-EIO write *.seg 2 2", &paths), [Pass, Pass, eio, eio, Pass]);
        assert_eq!(verdicts("fail-EIO change * 2 *", &paths), [Pass, eio, eio, eio, eio]);
        assert_eq!(verdicts("fail-EIO sync * 1 *", &paths), [Pass; 5]);
    }

    #[test]
    fn reading_is_no_change() {
        let mut rule = Rule::parse_all("fail-EROFS change * 1 *").unwrap().pop().unwrap();
        assert_eq!(rule.judge(Deed::Read, b"/m/a"), Verdict::Pass);
        assert_eq!(rule.judge(Deed::Unlink, b"/m/a"), Verdict::Fail(libc::EROFS));
    }

    #[test]
    fn what_is_no_rule_is_named() {
        assert_eq!(Rule::parse_all("kill-half write * 1; kill-all write * 1"), Err("kill-all write * 1".to_owned()));
        for text in ["kill-half write *", "kill-half writes * 1", "kill-half write * 0", "kill-half write * 1 2 3"] {
            assert!(Rule::parse_all(text).is_err(), "{text}");
        }
        assert_eq!(Rule::parse_all(" ; ").unwrap(), []);
    }
}
