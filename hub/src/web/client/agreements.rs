//! `campanile-hub partners` and `campanile-hub agreements`.

use super::connection::{Connection, segment};
use super::{Done, Plain, Target, show};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub enum Partners {
    List(Plain),
    /// Add a partner whose fingerprint its people have read out.
    Add {
        /// host:port of its hub.
        address: String,
        #[arg(long)]
        fingerprint: String,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Subcommand)]
pub enum Agreements {
    List(Plain),
    Show(One),
    /// Propose the same rights in both directions; the partner's cameras are filled in as it signs.
    Propose(Propose),
    Sign(Sign),
    /// Puts a suspended agreement in force again, once it was compared with the partner's.
    Confirm(One),
    /// Ends it here at once.
    Revoke(Revoke),
}

#[derive(Debug, Args)]
pub struct One {
    id: String,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub struct Propose {
    #[arg(long, value_name = "ID")]
    partner: String,
    #[arg(long)]
    title: String,
    /// search, thumbnail, playback.
    #[arg(long, value_delimiter = ',', required = true)]
    rights: Vec<String>,
    #[arg(long, value_delimiter = ',', required = true)]
    purposes: Vec<String>,
    /// Roles of the beneficiary's operators; absent: any.
    #[arg(long, value_delimiter = ',')]
    roles: Vec<String>,
    /// How far back, in hours; 0: as long as the owner keeps it.
    #[arg(long, default_value_t = 0)]
    lookback_hours: u32,
    #[arg(long, default_value_t = 365)]
    days: u32,
    /// Ours; absent: all there are now.
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    cameras: Option<Vec<String>>,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub struct Sign {
    id: String,
    /// Ours, where the partner left them open; absent: all there are now.
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    cameras: Option<Vec<String>>,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub struct Revoke {
    id: String,
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    target: Target,
}

impl Partners {
    pub async fn run(self) -> Done {
        match self {
            Self::List(Plain { target }) => {
                let answer = Connection::open(&target).await?.get("/api/v1/partners").await?;
                let columns =
                    [("name", "PARTNER"), ("address", "ADDRESS"), ("fingerprint", "FINGERPRINT"), ("id", "ID")];
                show::rows(target.json, &answer["partners"], &columns);
            }
            Self::Add { address, fingerprint, target } => {
                let body = json!({ "address": address, "fingerprint": fingerprint });
                let answer = Connection::open(&target).await?.post("/api/v1/partners", &body).await?;
                match target.json {
                    true => println!("{answer}"),
                    false => println!("{}  {}", show::text(&answer["id"]), show::text(&answer["name"])),
                }
            }
        }
        Ok(())
    }
}

impl Agreements {
    pub async fn run(self) -> Done {
        match self {
            Self::List(Plain { target }) => {
                let answer = Connection::open(&target).await?.get("/api/v1/agreements").await?;
                let columns =
                    [("state", "STATE"), ("title", "AGREEMENT"), ("valid_until", "VALID UNTIL"), ("id", "ID")];
                show::rows(target.json, &answer["agreements"], &columns);
            }
            Self::Show(One { id, target }) => {
                let path = format!("/api/v1/agreements/{}", segment(&id)?);
                one(&target, &Connection::open(&target).await?.get(&path).await?);
            }
            Self::Propose(propose) => {
                let body = json!({
                    "partner": propose.partner, "title": propose.title, "rights": propose.rights,
                    "purposes": propose.purposes, "roles": propose.roles, "lookback_hours": propose.lookback_hours,
                    "valid_days": propose.days, "cameras": propose.cameras,
                });
                let answer = Connection::open(&propose.target).await?.post("/api/v1/agreements", &body).await?;
                one(&propose.target, &answer);
            }
            Self::Sign(Sign { id, cameras, target }) => {
                let path = format!("/api/v1/agreements/{}/sign", segment(&id)?);
                one(&target, &Connection::open(&target).await?.post(&path, &json!({ "cameras": cameras })).await?);
            }
            Self::Confirm(One { id, target }) => {
                let path = format!("/api/v1/agreements/{}/confirm", segment(&id)?);
                one(&target, &Connection::open(&target).await?.post(&path, &json!({})).await?);
            }
            Self::Revoke(Revoke { id, reason, target }) => {
                let path = format!("/api/v1/agreements/{}/revoke", segment(&id)?);
                one(&target, &Connection::open(&target).await?.post(&path, &json!({ "reason": reason })).await?);
            }
        }
        Ok(())
    }
}

fn one(target: &Target, agreement: &Value) {
    if target.json {
        println!("{agreement}");
        return;
    }
    let text = |name: &str| show::text(&agreement[name]);
    println!("{}  {}  {}", text("id"), text("state"), text("title"));
    println!("in force {} to {}", text("valid_from"), text("valid_until"));
    let parties = agreement["parties"].as_array().map(Vec::as_slice).unwrap_or_default();
    let name_of = |id: &Value| {
        parties.iter().find(|party| party["id"] == *id).map(|party| show::text(&party["name"])).unwrap_or_default()
    };
    for party in parties {
        let signed = if party["signed"] == true { "signed" } else { "not signed" };
        println!("party {} ({signed})", show::text(&party["name"]));
    }
    let list = |value: &Value| value.as_array().into_iter().flatten().map(show::text).collect::<Vec<_>>().join(", ");
    let mut table = vec![["CLAUSE", "OWNER", "FOR", "RIGHT", "CAMERAS", "PURPOSES"].map(str::to_owned).to_vec()];
    for grant in agreement["grants"].as_array().into_iter().flatten() {
        table.push(vec![
            show::text(&grant["clause"]),
            name_of(&grant["owner"]),
            name_of(&grant["beneficiary"]),
            show::text(&grant["right"]),
            grant["cameras"].as_array().map_or(0, Vec::len).to_string(),
            list(&grant["purposes"]),
        ]);
    }
    show::print(&table);
}
