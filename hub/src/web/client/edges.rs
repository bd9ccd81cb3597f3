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
                    ("days", "DAYS KEPT"),
                    ("alarms", "ALARMS"),
                ];
                if !target.json {
                    answer["edges"].as_array_mut().into_iter().flatten().for_each(lift_health);
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

/// What matters of a box's health, in cells.
fn lift_health(edge: &mut Value) {
    if let (Some(kept), Some(agreed)) = (edge["health"]["days_kept"].as_f64(), edge["health"]["days_agreed"].as_u64()) {
        edge["days"] = format!("{kept:.1} of {agreed}").into();
    }
    let alarms = edge["health"]["alarms"].as_array();
    let sentences: Vec<&str> = alarms.into_iter().flatten().filter_map(|alarm| alarm["sentence"].as_str()).collect();
    edge["alarms"] = sentences.join(" · ").into();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_box_alarms_of_stands_in_its_row() {
        let alarms = [json!({ "sentence": "the disk" }), json!({ "sentence": "the clock" })];
        let mut edge = json!({ "health": { "alarms": alarms, "days_kept": 3.26, "days_agreed": 7 } });
        lift_health(&mut edge);
        assert_eq!((&edge["alarms"], &edge["days"]), (&json!("the disk · the clock"), &json!("3.3 of 7")));
        let mut silent = json!({ "name": "palo", "health": { "days_kept": null, "days_agreed": null } });
        lift_health(&mut silent);
        assert_eq!((&silent["alarms"], &silent["days"]), (&json!(""), &Value::Null));
    }
}
