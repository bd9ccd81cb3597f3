//! `campanile-hub clock`.

use super::connection::Connection;
use super::{Done, Plain, Target, show};
use clap::Subcommand;
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub enum Clock {
    /// What time it is by the hub, and whether it believes it.
    Show(Plain),
    /// Say that the hub's clock is right: what is past its term by it is destroyed from then on.
    Confirm {
        /// The time by your own watch, such as 2026-03-01T14:30:00+01:00; within two minutes.
        now: String,
        #[command(flatten)]
        target: Target,
    },
}

impl Clock {
    pub async fn run(self) -> Done {
        let (target, answer) = match self {
            Self::Show(Plain { target }) => {
                let answer = Connection::open(&target).await?.get("/api/v1/clock").await?;
                (target, answer)
            }
            Self::Confirm { now, target } => {
                let confirmed = json!({ "now": now });
                let answer = Connection::open(&target).await?.post("/api/v1/clock/confirm", &confirmed).await?;
                (target, answer)
            }
        };
        let believed = if answer["believed"] == Value::Bool(true) { "believed" } else { "not believed" };
        match target.json {
            true => println!("{answer}"),
            false => println!("{}, {believed}", show::text(&answer["now"])),
        }
        Ok(())
    }
}
