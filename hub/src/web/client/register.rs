//! `campanile-hub register`.

use super::connection::Connection;
use super::{Done, Plain, Target, show};
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub enum Register {
    List(List),
    /// Recompute the tree and check every checkpoint and commitment.
    Verify(Plain),
    /// Print a signed checkpoint.
    Checkpoint(Plain),
}

#[derive(Debug, Args)]
pub struct List {
    /// First entry; absent: the newest ones.
    #[arg(long)]
    from: Option<u64>,
    #[arg(long, default_value_t = 50)]
    limit: u32,
    #[command(flatten)]
    target: Target,
}

impl Register {
    pub async fn run(self) -> Done {
        match self {
            Self::List(List { from, limit, target }) => {
                let from = from.map(|from| format!("&from={from}")).unwrap_or_default();
                let path = format!("/api/v1/register?limit={limit}{from}");
                let answer = Connection::open(&target).await?.get(&path).await?;
                let columns = [
                    ("sequence", "ENTRY"),
                    ("at", "AT"),
                    ("act", "ACT"),
                    ("phase", "PHASE"),
                    ("operator", "OPERATOR"),
                    ("purpose", "PURPOSE"),
                    ("case_number", "CASE"),
                    ("clause", "CLAUSE"),
                    ("items", "ITEMS"),
                    ("reason", "REASON"),
                ];
                show::rows(target.json, &answer["entries"], &columns);
            }
            Self::Verify(Plain { target }) => {
                let answer = Connection::open(&target).await?.get("/api/v1/register/verify").await?;
                match target.json {
                    true => println!("{answer}"),
                    false => println!(
                        "verified: {} entries, {} checkpoints, witnessed by {} partners, root {}",
                        answer["size"],
                        answer["checkpoints"],
                        answer["witnessed"],
                        show::text(&answer["root"])
                    ),
                }
            }
            Self::Checkpoint(Plain { target }) => {
                let answer = Connection::open(&target).await?.get("/api/v1/register/checkpoint").await?;
                match target.json {
                    true => println!("{answer}"),
                    false => println!(
                        "{} entries, root {}, at {}\n{}",
                        answer["size"],
                        show::text(&answer["root"]),
                        show::text(&answer["at"]),
                        show::text(&answer["envelope"])
                    ),
                }
            }
        }
        Ok(())
    }
}
