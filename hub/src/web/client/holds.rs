//! `campanile-hub holds`.

use super::connection::{Connection, segment};
use super::play::{Aside, save};
use super::{ClientError, Done, Plain, Reason, Target, show, times};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum Holds {
    List(Plain),
    /// What is held, and what of it is missing and why.
    Show {
        id: String,
        #[command(flatten)]
        target: Target,
    },
    /// Keep an interval of cameras beyond its term, by an authority's act.
    Place(Place),
    /// End a hold before its end: its key is destroyed, nothing of it opens any more.
    Release {
        id: String,
        /// Who releases it.
        #[arg(long)]
        by: String,
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        target: Target,
    },
    /// Save what is held as fragmented MP4 files, one a camera and stream.
    Export(Export),
}

#[derive(Debug, Args)]
pub struct Place {
    /// Protocol number of the act.
    #[arg(long)]
    act: String,
    #[arg(long)]
    author: String,
    /// Another person than the author.
    #[arg(long)]
    approver: String,
    #[arg(long)]
    reason: String,
    /// Once for each camera.
    #[arg(long = "camera", value_name = "ID", required = true)]
    cameras: Vec<String>,
    /// From: RFC 3339, or relative such as -10m.
    #[arg(long, allow_hyphen_values = true)]
    from: String,
    /// To, exclusive; at most eight days ahead.
    #[arg(long, allow_hyphen_values = true)]
    to: String,
    /// The hold's end.
    #[arg(long)]
    until: String,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub struct Export {
    id: String,
    /// A folder; made if it is not there.
    #[arg(long, value_name = "FOLDER")]
    output: PathBuf,
    #[command(flatten)]
    reason: Reason,
    #[command(flatten)]
    target: Target,
}

impl Holds {
    pub async fn run(self) -> Done {
        match self {
            Self::List(Plain { target }) => {
                let answer = Connection::open(&target).await?.get("/api/v1/holds").await?;
                let columns = [
                    ("state", "STATE"),
                    ("act", "ACT"),
                    ("from", "FROM"),
                    ("to", "TO"),
                    ("until", "UNTIL"),
                    ("author", "AUTHOR"),
                    ("approver", "APPROVER"),
                    ("id", "ID"),
                ];
                show::rows(target.json, &answer["holds"], &columns);
            }
            Self::Show { id, target } => {
                let path = format!("/api/v1/holds/{}", segment(&id)?);
                let hold = Connection::open(&target).await?.get(&path).await?;
                report(&target, &hold);
            }
            Self::Place(place) => place.run().await?,
            Self::Release { id, by, reason, target } => {
                let path = format!("/api/v1/holds/{}/release", segment(&id)?);
                let body = json!({ "by": by, "reason": reason });
                Connection::open(&target).await?.post(&path, &body).await?;
            }
            Self::Export(export) => export.run().await?,
        }
        Ok(())
    }
}

impl Place {
    async fn run(self) -> Done {
        let now = jiff::Timestamp::now();
        let time = |option: &str, text: &str| times::parse(option, text, now).map(|at| at.to_string());
        let body = json!({
            "act": self.act, "author": self.author, "approver": self.approver, "reason": self.reason,
            "cameras": self.cameras, "from": time("--from", &self.from)?, "to": time("--to", &self.to)?,
            "until": time("--until", &self.until)?,
        });
        let hold = Connection::open(&self.target).await?.post("/api/v1/holds", &body).await?;
        report(&self.target, &hold);
        Ok(())
    }
}

fn report(target: &Target, hold: &Value) {
    if target.json {
        println!("{hold}");
        return;
    }
    let text = |name: &str| show::text(&hold[name]);
    println!("hold      {}  {}", text("id"), text("state"));
    println!("act       {}", text("act"));
    println!("author    {}, approved by {}", text("author"), text("approver"));
    println!("reason    {}", text("reason"));
    println!("interval  {} to {}", text("from"), text("to"));
    println!("until     {}", text("until"));
    let over = &hold["over"];
    if over.is_object() {
        let by = over["released_by"].as_str().map(|by| format!(", released by {}", show::clean(by)));
        println!("over      {}{}: {}", show::text(&over["at"]), by.unwrap_or_default(), show::text(&over["why"]));
    }
    for account in hold["account"].as_array().into_iter().flatten() {
        let seconds = account["seconds"].as_object().into_iter().flatten();
        let seconds: Vec<String> =
            seconds.map(|(what, s)| format!("{what} {:.1} s", s.as_f64().unwrap_or(0.0))).collect();
        println!(
            "camera    {} {}: {}",
            show::text(&account["camera"]),
            show::text(&account["stream"]),
            seconds.join(", ")
        );
        for part in account["missing"].as_array().into_iter().flatten() {
            let cause = part["cause"].as_str().filter(|cause| !cause.is_empty());
            let cause = cause.map(|cause| format!(": {}", show::clean(cause))).unwrap_or_default();
            let (from, to) = (show::text(&part["from"]), show::text(&part["to"]));
            println!("          {from} to {to} {}{cause}", show::text(&part["what"]));
        }
    }
}

/// A playback lists a day at most.
const DAY: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);

impl Export {
    async fn run(self) -> Done {
        let mut connection = Connection::open(&self.target).await?;
        let path = format!("/api/v1/holds/{}", segment(&self.id)?);
        let hold = connection.get(&path).await?;
        let time = |name: &str| hold[name].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let (Some(from), Some(to)) = (time("from"), time("to")) else {
            return Err(ClientError::Unreadable("a hold without its interval"));
        };
        let cameras = hold["cameras"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let cameras: Vec<String> = cameras.map(str::to_owned).collect();
        std::fs::create_dir_all(&self.output)
            .map_err(|source| ClientError::Write { path: self.output.clone(), source })?;
        let mut files = 0;
        for camera in cameras {
            let mut at = from;
            while at < to {
                let end = to.min(at.checked_add(DAY).unwrap_or(to));
                files += self.export(&mut connection, &format!("{path}/playbacks"), &camera, (at, end)).await?;
                at = end;
            }
        }
        if files == 0 {
            return Err(ClientError::Incomplete("nothing of this hold is copied yet".into()));
        }
        Ok(())
    }

    /// How many files.
    async fn export(
        &self,
        connection: &mut Connection,
        path: &str,
        camera: &str,
        (from, to): (jiff::Timestamp, jiff::Timestamp),
    ) -> Result<usize, ClientError> {
        let body = json!({
            "camera": camera, "from": from.to_string(), "to": to.to_string(),
            "purpose": self.reason.purpose, "case_number": self.reason.case_number,
        });
        let opened = match connection.post(path, &body).await {
            Ok(opened) => opened,
            Err(ClientError::Hub { code, .. }) if code == "NOTHING_HELD" => {
                eprintln!("campanile-hub: nothing is held of camera {} from {from} to {to}", show::clean(camera));
                return Ok(0);
            }
            Err(error) => return Err(error),
        };
        let id = opened["id"].as_str().ok_or(ClientError::Unreadable("a playback without id"))?;
        let base = format!("/api/v1/playbacks/{}", segment(id)?);
        let streams = opened["streams"].as_array().into_iter().flatten();
        let streams: Vec<&str> = streams.filter_map(|stream| stream["stream"].as_str()).collect();
        let mut saved = Ok(0);
        for stream in &streams {
            let day = from.strftime("%Y%m%dT%H%M%SZ");
            let out = self.output.join(format!("{}-{}-{day}.mp4", segment(camera)?, segment(stream)?));
            saved = self.save(connection, (&base, stream), &out).await.and(saved.map(|files| files + 1));
            if saved.is_err() {
                break;
            }
        }
        // Also what failed is closed, so that the register says when.
        connection.delete(&base).await?;
        saved
    }

    async fn save(&self, connection: &mut Connection, (base, stream): (&str, &str), out: &std::path::Path) -> Done {
        let aside = Aside::of(out);
        let (list, bytes) = save(connection, (base, stream), (out, &aside), self.target.json).await?;
        aside.keep(out).map_err(|source| ClientError::Write { path: out.to_owned(), source })?;
        let (start, end) = (list.first().map(|l| l.start), list.last().map(|l| l.end));
        let (start, end) = (start.map(|at| at.to_string()), end.map(|at| at.to_string()));
        let file = out.display().to_string();
        if self.target.json {
            println!("{}", json!({ "file": file, "bytes": bytes, "start": start, "end": end }));
        } else {
            println!("{file}: {bytes} bytes, {} to {}", start.unwrap_or_default(), end.unwrap_or_default());
        }
        Ok(())
    }
}
