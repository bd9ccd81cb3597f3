//! `campanile-hub cameras`.

use super::connection::{Connection, segment};
use super::{Done, Plain, Target, show};
use clap::{Args, Subcommand};
use serde_json::json;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Cameras {
    #[command(subcommand)]
    act: Option<Act>,
    #[command(flatten)]
    plain: Plain,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Give a camera to another box: its device hangs on that one now.
    Move {
        id: String,
        /// The box.
        #[arg(long, value_name = "ID")]
        to: String,
        #[command(flatten)]
        target: Target,
    },
}

impl Cameras {
    pub async fn run(self) -> Done {
        match self.act {
            None => list(&self.plain.target).await,
            Some(Act::Move { id, to, target }) => {
                let path = format!("/api/v1/cameras/{}/move", segment(&id)?);
                Connection::open(&target).await?.post(&path, &json!({ "edge": to })).await.map(drop)
            }
        }
    }
}

async fn list(target: &Target) -> Done {
    let answer = Connection::open(target).await?.get("/api/v1/cameras").await?;
    let columns = [("organisation", "ORGANISATION"), ("name", "CAMERA"), ("site", "SITE"), ("id", "ID")];
    show::rows(target.json, &answer["cameras"], &columns);
    Ok(())
}
