//! `campanile-hub edges`.

use super::connection::{Connection, segment};
use super::{Done, Plain, Target, show};
use clap::Subcommand;
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub enum Edges {
    List(Plain),
    /// Print a one-time token for a new box.
    Token {
        /// The site the box is for.
        #[arg(long)]
        name: String,
        /// How long it can be used, such as 90s, 15m or 24h; a day when not given, a week at most.
        #[arg(long, value_name = "DURATION")]
        valid: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Shut a box out; its session ends within seconds.
    Revoke {
        id: String,
        #[command(flatten)]
        target: Target,
    },
    /// End a quarantine.
    Release {
        id: String,
        #[command(flatten)]
        target: Target,
    },
}

impl Edges {
    pub async fn run(self) -> Done {
        match self {
            Self::List(Plain { target }) => {
                let mut answer = Connection::open(&target).await?.get("/api/v1/edges").await?;
                let columns = [
                    ("name", "BOX"),
                    ("site_name", "SITE"),
                    ("standing", "STANDING"),
                    ("connected", "CONNECTED"),
                    ("last_seen", "LAST SEEN"),
                    ("id", "ID"),
                    ("reason", "REASON"),
                    ("alarms", "ALARMS"),
                ];
                if !target.json {
                    answer["edges"].as_array_mut().into_iter().flatten().for_each(lift_alarms);
                }
                show::rows(target.json, &answer["edges"], &columns);
            }
            Self::Token { name, valid, target } => {
                let body = json!({ "site_name": name, "valid": valid });
                let answer = Connection::open(&target).await?.post("/api/v1/edges/tokens", &body).await?;
                println!("{}", if target.json { answer.to_string() } else { show::text(&answer["token"]) });
            }
            Self::Revoke { id, target } => {
                Connection::open(&target).await?.delete(&format!("/api/v1/edges/{}", segment(&id)?)).await?;
            }
            Self::Release { id, target } => {
                let path = format!("/api/v1/edges/{}/release", segment(&id)?);
                Connection::open(&target).await?.post(&path, &json!({})).await?;
            }
        }
        Ok(())
    }
}

/// A box's alarms as one cell.
fn lift_alarms(edge: &mut Value) {
    let alarms = edge["health"]["alarms"].as_array();
    let sentences: Vec<&str> = alarms.into_iter().flatten().filter_map(|alarm| alarm["sentence"].as_str()).collect();
    edge["alarms"] = sentences.join(" · ").into();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_box_alarms_of_stands_in_its_row() {
        let mut edge = json!({ "health": { "alarms": [{ "sentence": "the disk" }, { "sentence": "the clock" }] } });
        lift_alarms(&mut edge);
        assert_eq!(edge["alarms"], "the disk · the clock");
        let mut silent = json!({ "name": "palo" });
        lift_alarms(&mut silent);
        assert_eq!(silent["alarms"], "");
    }
}
