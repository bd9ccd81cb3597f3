//! Reading TOML key by key: whatever is wrong is noted under its dotted path, and reading goes on.

use std::net::SocketAddr;
use std::path::PathBuf;
use toml::{Table, Value};

const SHOWN: &str = "see configs/hub.toml, where every key is shown with its default";

/// One thing wrong with the file, by key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub key: String,
    pub problem: String,
    pub remedy: String,
}

/// Collects what is wrong.
#[derive(Default)]
pub(super) struct Problems(pub Vec<Problem>);

impl Problems {
    pub fn add(&mut self, key: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Problem { key: key.to_owned(), problem: problem.into(), remedy: remedy.into() });
    }

    pub fn address(&mut self, key: &str, text: &str) -> SocketAddr {
        text.parse().unwrap_or_else(|_| {
            self.add(key, format!("\"{text}\" is not an address with a port"), "write it as \"127.0.0.1:7843\"");
            SocketAddr::from(([127, 0, 0, 1], 0))
        })
    }
}

/// The file, or where it stops being TOML.
pub(super) fn table(text: &str) -> Result<Table, Problem> {
    text.parse::<Table>().map_err(|error| {
        let before = error.span().map(|span| text.as_bytes().iter().take(span.start).filter(|b| **b == b'\n').count());
        let key = before.map_or_else(|| "(file)".to_owned(), |lines| format!("line {}", lines + 1));
        Problem { key, problem: error.message().to_owned(), remedy: SHOWN.to_owned() }
    })
}

/// One table of the file; keys are taken out, and what is left at the end is unknown.
pub(super) struct Section {
    path: String,
    table: Table,
}

impl Section {
    pub fn root(table: Table) -> Self {
        Self { path: String::new(), table }
    }

    /// A table in this one; an empty one when it is not there.
    pub fn section(&mut self, key: &str, problems: &mut Problems) -> Self {
        let table = self.take(key, "a table", problems, |value| match value {
            Value::Table(table) => Some(table),
            _ => None,
        });
        Self { path: format!("{}.", self.dotted(key)), table: table.unwrap_or_default() }
    }

    pub fn text(&mut self, key: &str, problems: &mut Problems) -> Option<String> {
        self.take(key, "a text in quotes", problems, text)
    }

    pub fn path(&mut self, key: &str, problems: &mut Problems) -> Option<PathBuf> {
        self.text(key, problems).map(PathBuf::from)
    }

    pub fn number(&mut self, key: &str, problems: &mut Problems) -> Option<u32> {
        self.take(key, "a whole number", problems, |value| u32::try_from(value.as_integer()?).ok())
    }

    pub fn texts(&mut self, key: &str, problems: &mut Problems) -> Option<Vec<String>> {
        self.take(key, "a list of texts, such as [\"a\", \"b\"]", problems, |value| match value {
            Value::Array(values) => values.into_iter().map(text).collect(),
            _ => None,
        })
    }

    /// Notes a missing key, unless it is there and was noted to be wrong.
    pub fn demand<T>(
        &mut self,
        key: &str,
        remedy: &str,
        problems: &mut Problems,
        read: impl FnOnce(&mut Self, &str, &mut Problems) -> Option<T>,
    ) -> Option<T> {
        if !self.table.contains_key(key) {
            problems.add(&self.dotted(key), "is missing", remedy);
            return None;
        }
        read(self, key, problems)
    }

    pub fn end(self, problems: &mut Problems) {
        for key in self.table.keys() {
            problems.add(&self.dotted(key), "is not a key of this file", SHOWN);
        }
    }

    fn take<T>(
        &mut self,
        key: &str,
        expected: &str,
        problems: &mut Problems,
        read: impl FnOnce(Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.table.remove(key)?;
        let found = value.type_str();
        let taken = read(value);
        if taken.is_none() {
            problems.add(&self.dotted(key), format!("is not {expected} ({found} found)"), format!("write {expected}"));
        }
        taken
    }

    fn dotted(&self, key: &str) -> String {
        format!("{}{key}", self.path)
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}
