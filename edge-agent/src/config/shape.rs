//! The keys of `edge.toml`: what is none, what is missing, and what is of another type, all at once. Serde alone stops
//! at the first.

use super::Problem;
use toml::{Table, Value};

/// What stands behind a key.
enum Kind {
    Text,
    Whole,
    Number,
    Flag,
    /// One of these.
    Choice(&'static [&'static str]),
    /// Lists of lists of points.
    Areas,
    Table(&'static [Key]),
    Tables(&'static [Key]),
}

struct Key {
    name: &'static str,
    kind: Kind,
    /// Demanded: what is written in its place while the other keys are looked at.
    required: Option<&'static str>,
    /// An example, for the remedy.
    example: &'static str,
}

const fn optional(name: &'static str, kind: Kind, example: &'static str) -> Key {
    Key { name, kind, required: None, example }
}

const fn required(name: &'static str, kind: Kind, stand_in: &'static str, example: &'static str) -> Key {
    Key { name, kind, required: Some(stand_in), example }
}

const FILE: &[Key] = &[
    required("config_version", Kind::Whole, "1", "config_version = 1"),
    required("name", Kind::Text, "\"-\"", "name = \"Cabina di piazza del Comune\""),
    required("state_dir", Kind::Text, "\"-\"", "state_dir = \"/var/lib/campanile/edge\""),
    required("media_dir", Kind::Text, "\"-\"", "media_dir = \"/var/lib/campanile/media\""),
    optional("record_in_clear", Kind::Flag, "record_in_clear = false"),
    optional("retention", Kind::Table(RETENTION), "[retention]"),
    optional("camera", Kind::Tables(CAMERA), "[[camera]]"),
];

const RETENTION: &[Key] =
    &[optional("days", Kind::Whole, "days = 7"), optional("max_bytes", Kind::Whole, "max_bytes = 500000000000")];

const CAMERA: &[Key] = &[
    required("name", Kind::Text, "\"-\"", "name = \"Piazza, lato nord\""),
    optional("site", Kind::Text, "site = \"Piazza del Comune\""),
    optional("address", Kind::Text, "address = \"Piazza del Comune 2, Prato\""),
    optional("latitude", Kind::Number, "latitude = 43.8807"),
    optional("longitude", Kind::Number, "longitude = 11.0966"),
    required("main", Kind::Text, "\"rtsp://-/\"", "main = \"rtsp://192.0.2.10:554/main\""),
    optional("sub", Kind::Text, "sub = \"rtsp://192.0.2.10:554/sub\""),
    optional("username", Kind::Text, "username = \"campanile\""),
    optional("password_file", Kind::Text, "password_file = \"/etc/campanile/piazza-nord.password\""),
    optional("password_env", Kind::Text, "password_env = \"PIAZZA_NORD_PASSWORD\""),
    optional("transport", Kind::Choice(&["tcp", "udp"]), "transport = \"tcp\""),
    optional("analyse", Kind::Flag, "analyse = true"),
    optional("days", Kind::Whole, "days = 7"),
    optional("max_bytes", Kind::Whole, "max_bytes = 60000000000"),
    optional("ignore", Kind::Areas, "ignore = [[[0.0, 0.0], [0.2, 0.0], [0.2, 0.05]]]"),
];

/// Takes out of the table what does not belong there, with a problem for each, so that the rest can be read. Values
/// are never repeated: one in the wrong place may be a password.
pub(super) fn repair(file: &mut Table) -> Vec<Problem> {
    let mut problems = Vec::new();
    look(file, FILE, "", &mut problems);
    problems
}

fn look(table: &mut Table, keys: &'static [Key], prefix: &str, problems: &mut Vec<Problem>) {
    let mut add = |key: String, problem: &str, remedy: String| {
        problems.push(Problem { key, problem: problem.to_owned(), remedy });
    };
    let strangers: Vec<String> =
        table.keys().filter(|name| keys.iter().all(|key| key.name != *name)).cloned().collect();
    for name in strangers {
        table.remove(&name);
        let printable: String = name.chars().filter(|c| !c.is_control()).take(60).collect();
        let known: Vec<&str> = keys.iter().map(|key| key.name).collect();
        add(
            format!("{prefix}{printable}"),
            "is no key of this file",
            format!("take it out; known here: {}", known.join(", ")),
        );
    }
    for key in keys {
        let path = format!("{prefix}{}", key.name);
        let remedy = || format!("write, for example, {}", key.example);
        match table.get(key.name) {
            None if key.required.is_some() => add(path.clone(), "is missing", remedy()),
            Some(value) if !key.kind.is_of(value) => {
                table.remove(key.name);
                add(path.clone(), key.kind.complaint(), remedy());
            }
            _ => {}
        }
        if let (Some(stand_in), None) = (key.required, table.get(key.name)) {
            let stand_in = format!("x = {stand_in}").parse::<Table>().ok().and_then(|mut parsed| parsed.remove("x"));
            table.extend(stand_in.map(|value| (key.name.to_owned(), value)));
        }
    }
    for key in keys {
        match (&key.kind, table.get_mut(key.name)) {
            (Kind::Table(keys), Some(Value::Table(inner))) => {
                look(inner, keys, &format!("{prefix}{}.", key.name), problems);
            }
            (Kind::Tables(keys), Some(Value::Array(many))) => {
                for (index, one) in many.iter_mut().enumerate() {
                    if let Value::Table(inner) = one {
                        look(inner, keys, &format!("{prefix}{}[{index}].", key.name), problems);
                    }
                }
            }
            _ => {}
        }
    }
}

impl Kind {
    fn is_of(&self, value: &Value) -> bool {
        let number = |value: &Value| matches!(value, Value::Float(_) | Value::Integer(_));
        let point = |value: &Value| value.as_array().is_some_and(|xy| xy.len() == 2 && xy.iter().all(number));
        let area = |value: &Value| value.as_array().is_some_and(|points| points.iter().all(point));
        match self {
            Self::Text => value.is_str(),
            Self::Whole => value.as_integer().is_some_and(|whole| whole >= 0),
            Self::Number => number(value),
            Self::Flag => value.is_bool(),
            Self::Choice(of) => value.as_str().is_some_and(|text| of.contains(&text)),
            Self::Areas => value.as_array().is_some_and(|areas| areas.iter().all(area)),
            Self::Table(_) => value.is_table(),
            Self::Tables(_) => value.as_array().is_some_and(|many| many.iter().all(Value::is_table)),
        }
    }

    fn complaint(&self) -> &'static str {
        match self {
            Self::Text => "is no text in quotes",
            Self::Whole => "is no whole number from 0 on",
            Self::Number => "is no number",
            Self::Flag => "is neither true nor false",
            Self::Choice(_) => "is none of the values it can have",
            Self::Areas => "is no list of areas of points [x, y]",
            Self::Table(_) => "is no section",
            Self::Tables(_) => "is no list of sections",
        }
    }
}
