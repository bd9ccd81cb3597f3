//! How words are read: accents folded, lower case, Italian stems; the last word of a query may be unfinished.

use super::query::{MAX_WORDS, MAX_WORDS_BYTES};
use std::collections::BTreeSet;
use tantivy::tokenizer::{Language, RawTokenizer, Stemmer, TextAnalyzer};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// A text as it can be matched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Words {
    /// Folded, whole.
    pub whole: BTreeSet<String>,
    pub stems: BTreeSet<String>,
}

/// One word of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub stem: String,
    /// The last word: what it may be the beginning of.
    pub beginning: Option<String>,
}

impl Words {
    pub fn of(texts: &[&str]) -> Self {
        let whole: BTreeSet<String> = texts.iter().flat_map(|text| fold(text)).collect();
        let stems = whole.iter().map(|word| stem(word)).collect();
        Self { whole, stems }
    }

    pub fn hold(&self, wanted: &Wanted) -> bool {
        let begun = |beginning: &String| {
            self.whole.range(beginning.clone()..).next().is_some_and(|word| word.starts_with(beginning.as_str()))
        };
        self.stems.contains(&wanted.stem) || wanted.beginning.as_ref().is_some_and(begun)
    }
}

/// Reads a query's words; beyond a bound they are left out.
pub(super) fn wanted(text: &str) -> Vec<Wanted> {
    let mut end = text.len().min(MAX_WORDS_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut words = fold(&text[..end]);
    words.truncate(MAX_WORDS);
    let last = words.len().saturating_sub(1);
    let want = |(at, word): (usize, String)| Wanted { stem: stem(&word), beginning: (at == last).then_some(word) };
    words.into_iter().enumerate().map(want).collect()
}

fn fold(text: &str) -> Vec<String> {
    let folded: String = text.nfkd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase).collect();
    folded.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn stem(word: &str) -> String {
    let mut analyzer = TextAnalyzer::builder(RawTokenizer::default()).filter(Stemmer::new(Language::Italian)).build();
    let mut stream = analyzer.token_stream(word);
    stream.next().map_or_else(|| word.to_owned(), |token| token.text.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds(text: &str, query: &str) -> bool {
        let words = Words::of(&[text]);
        wanted(query).iter().all(|word| words.hold(word))
    }

    #[test]
    fn plural_accent_and_case_do_not_matter() {
        assert!(finds("Piazza dell'Università, ingresso", "UNIVERSITA"));
        assert!(finds("biciclette in piazza", "bicicletta"));
        assert!(finds("Viale della Libertà", "libertà viale"));
        assert!(!finds("Piazza del Duomo", "stazione"));
    }

    #[test]
    fn only_the_last_word_may_be_unfinished() {
        assert!(finds("Piazza del Duomo", "piazza duo"));
        assert!(!finds("Piazza del Duomo", "pia duomo"));
    }

    #[test]
    fn every_word_must_be_there_and_none_is_a_command() {
        assert!(!finds("Piazza del Duomo", "duomo stazione"));
        assert!(finds("Piazza del Duomo", "+piazza:(duomo)"));
        assert!(finds("anything", "  ,; "));
        assert_eq!(wanted(&"à ".repeat(10_000)).len(), MAX_WORDS);
    }
}
