//! `campanile-hub search`.

use super::connection::Connection;
use super::{ClientError, Done, Reason, Target, show, times};
use clap::Args;
use serde_json::{Value, json};

#[derive(Debug, Args)]
pub struct Search {
    /// From: RFC 3339, or relative such as -10m.
    #[arg(long, allow_hyphen_values = true)]
    from: String,
    /// To, exclusive.
    #[arg(long, allow_hyphen_values = true, default_value = "now")]
    to: String,
    /// Words: all must be in the camera's name, place or labels.
    #[arg(long, default_value = "")]
    words: String,
    /// Only these cameras; may be repeated.
    #[arg(long = "camera", value_name = "ID")]
    cameras: Vec<String>,
    /// Only cameras of this place.
    #[arg(long, default_value = "")]
    site: String,
    /// Polygon in fractions of the picture: "0.1,0.1 0.5,0.1 0.5,0.9".
    #[arg(long, default_value = "")]
    region: String,
    #[arg(long)]
    limit: Option<usize>,
    /// Do not ask partners.
    #[arg(long)]
    own: bool,
    #[command(flatten)]
    reason: Reason,
    #[command(flatten)]
    target: Target,
}

impl Search {
    pub async fn run(self) -> Done {
        let now = jiff::Timestamp::now();
        let body = json!({
            "from": times::parse("--from", &self.from, now)?.to_string(),
            "to": times::parse("--to", &self.to, now)?.to_string(),
            "words": self.words, "cameras": self.cameras, "site": self.site, "region": region(&self.region)?,
            "limit": self.limit, "purpose": self.reason.purpose, "case_number": self.reason.case_number,
            "partners": !self.own,
        });
        let mut connection = Connection::open(&self.target).await?;
        if self.target.json {
            return connection
                .post_lines("/api/v1/searches", &body, |line| {
                    println!("{line}");
                    Ok(())
                })
                .await;
        }
        let session = connection.get("/api/v1/session").await?;
        let mut table = Table::new(show::text(&session["time_zone"]));
        connection
            .post_lines("/api/v1/searches", &body, |line| {
                let line: Value = serde_json::from_str(line).map_err(|_| ClientError::Unreadable("not JSON"))?;
                table.show(&line);
                Ok(())
            })
            .await
    }
}

fn region(text: &str) -> Result<Vec<[f64; 2]>, ClientError> {
    let wrong = || ClientError::Usage("--region: points as fractions, such as \"0.1,0.1 0.5,0.1 0.5,0.9\"".into());
    let point = |pair: &str| {
        let (x, y) = pair.split_once(',')?;
        Some([x.parse().ok()?, y.parse().ok()?])
    };
    text.split_whitespace().map(|pair| point(pair).ok_or_else(wrong)).collect()
}

/// Rows as they come: widths are fixed, because what comes later is not known.
struct Table {
    zone: String,
    headed: bool,
    found: u64,
}

impl Table {
    fn new(zone: String) -> Self {
        Self { zone, headed: false, found: 0 }
    }

    fn show(&mut self, line: &Value) {
        let organisation = show::text(&line["organisation"]);
        match line["kind"].as_str() {
            Some("hits") => line["hits"].as_array().into_iter().flatten().for_each(|hit| self.hit(&organisation, hit)),
            Some("done") => {
                let more = if line["truncated"] == true { ", more match: narrow the search" } else { "" };
                println!("-- {organisation}: {} found in {} ms{more}", line["count"], line["latency_ms"]);
            }
            Some("failed") => {
                let (code, sentence) = (show::text(&line["code"]), show::text(&line["sentence"]));
                let clause = match show::text(&line["clause"]) {
                    none if none.is_empty() => none,
                    clause => format!(" [clause {clause}]"),
                };
                println!("-- {organisation}: no answer after {} ms: {sentence} ({code}){clause}", line["latency_ms"]);
            }
            Some("end") => println!("-- {} in all; request {}", self.found, show::text(&line["request_id"])),
            _ => {}
        }
    }

    fn hit(&mut self, organisation: &str, hit: &Value) {
        if !self.headed {
            self.headed = true;
            println!(
                "{:<24} {:>7}  {:<22} {:<24} {:<20} KEPT UNTIL",
                "START", "SECONDS", "ORGANISATION", "CAMERA", "SITE"
            );
        }
        self.found += 1;
        let (start, kept) = (times::local(&hit["start"], &self.zone), times::local(&hit["kept_until"], &self.zone));
        let (camera, site) = (show::text(&hit["camera_name"]), show::text(&hit["site"]));
        println!("{start:<24} {:>7}  {organisation:<22} {camera:<24} {site:<20} {kept}", seconds(hit));
    }
}

fn seconds(hit: &Value) -> String {
    let at = |name: &str| hit[name].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let ongoing = if hit["ongoing"] == true { "+" } else { "" };
    let lasted = at("end").zip(at("start")).map(|(end, start)| end.duration_since(start).as_secs_f64());
    lasted.map_or_else(String::new, |lasted| format!("{lasted:.1}{ongoing}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_pairs_of_numbers() {
        assert_eq!(region("0.1,0.2 0.3,0.4").unwrap(), [[0.1, 0.2], [0.3, 0.4]]);
        assert!(region("").unwrap().is_empty());
        assert!(region("0.1 0.2").is_err());
        assert!(region("a,b").is_err());
    }
}
