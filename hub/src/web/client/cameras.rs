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
    /// Record nothing of a camera from now on, by an act; what was recorded before keeps its term.
    Mask(Mask),
    /// Let a masked camera record again.
    Unmask {
        id: String,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Args)]
struct Mask {
    id: String,
    /// Of the authority or the town that says so.
    #[arg(long)]
    act: String,
    /// Who signed it.
    #[arg(long)]
    author: String,
    #[command(flatten)]
    target: Target,
}

impl Cameras {
    pub async fn run(self) -> Done {
        match self.act {
            None => list(&self.plain.target).await,
            Some(Act::Move { id, to, target }) => {
                let path = format!("/api/v1/cameras/{}/move", segment(&id)?);
                Connection::open(&target).await?.post(&path, &json!({ "edge": to })).await.map(drop)
            }
            Some(Act::Mask(Mask { id, act, author, target })) => {
                let path = format!("/api/v1/cameras/{}/mask", segment(&id)?);
                Connection::open(&target).await?.post(&path, &json!({ "act": act, "author": author })).await.map(drop)
            }
            Some(Act::Unmask { id, target }) => {
                let path = format!("/api/v1/cameras/{}/mask", segment(&id)?);
                Connection::open(&target).await?.delete(&path).await.map(drop)
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
