//! `campanile-hub coverage`.

use super::connection::{Connection, segment};
use super::{Done, Target, show, times};
use clap::Args;
use serde_json::Value;

#[derive(Debug, Args)]
pub struct Coverage {
    /// One camera of ours; all of them when absent.
    #[arg(long, value_name = "ID")]
    camera: Option<String>,
    /// From: RFC 3339, or relative such as -1d; as far back as is kept when absent.
    #[arg(long, allow_hyphen_values = true)]
    from: Option<String>,
    /// To, exclusive; now when absent.
    #[arg(long, allow_hyphen_values = true)]
    to: Option<String>,
    #[command(flatten)]
    target: Target,
}

impl Coverage {
    pub async fn run(self) -> Done {
        let now = jiff::Timestamp::now();
        let mut query = Vec::new();
        if let Some(camera) = &self.camera {
            query.push(format!("camera={}", segment(camera)?));
        }
        for (name, option, text) in [("from", "--from", &self.from), ("to", "--to", &self.to)] {
            if let Some(text) = text {
                // Ends in Z: no plus sign that would have to be escaped.
                query.push(format!("{name}={}", times::parse(option, text, now)?));
            }
        }
        let path = format!("/api/v1/coverage?{}", query.join("&"));
        let answer = Connection::open(&self.target).await?.get(&path).await?;
        if self.target.json {
            println!("{answer}");
        } else {
            show::print(&table(&answer));
        }
        Ok(())
    }
}

/// A row a day, and one a gap below it.
fn table(answer: &Value) -> Vec<Vec<String>> {
    let zone = show::text(&answer["time_zone"]);
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut rows = vec![vec!["CAMERA".into(), format!("DAY ({zone})"), "RECORDED".into(), "NOT RECORDED".into()]];
    for camera in list(&answer["cameras"]) {
        for day in list(&camera["days"]) {
            let percent = day["recorded_percent"].as_f64().unwrap_or_default();
            let name = format!("{}, {}", show::text(&camera["site"]), show::text(&camera["name"]));
            let mut row = vec![name, show::text(&day["date"]), format!("{percent:.2} %")];
            let gaps = list(&day["gaps"]);
            if gaps.is_empty() {
                rows.push(row);
                continue;
            }
            for gap in gaps {
                let (start, end) = (times::local(&gap["start"], &zone), times::local(&gap["end"], &zone));
                row.push(format!("{start} to {end}: {}", show::text(&gap["sentence"])));
                rows.push(std::mem::replace(&mut row, vec![String::new(); 3]));
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_gap_has_its_line_with_the_cause_in_words() {
        let gap = |start: &str, sentence: &str| json!({ "start": start, "end": "2026-11-23T11:00:00Z", "sentence": sentence });
        let days = json!([
            { "date": "2026-11-22", "recorded_percent": 100.0, "gaps": [] },
            { "date": "2026-11-23", "recorded_percent": 95.5, "gaps": [
                gap("2026-11-23T10:00:00Z", "the box was off"), gap("2026-11-23T10:30:00Z", "the disk of the box failed"),
            ] },
        ]);
        let rows = table(
            &json!({ "time_zone": "Europe/Rome", "cameras": [{ "site": "Centro", "name": "Duomo\u{1b}", "days": days }] }),
        );
        assert_eq!(rows[0][1], "DAY (Europe/Rome)");
        assert_eq!(rows[1], ["Centro, Duomo", "2026-11-22", "100.00 %"]);
        assert_eq!(rows[2][..3], ["Centro, Duomo", "2026-11-23", "95.50 %"]);
        assert_eq!(rows[2][3], "2026-11-23 11:00:00 CET to 2026-11-23 12:00:00 CET: the box was off");
        assert!(rows[3][0].is_empty() && rows[3][3].ends_with("the disk of the box failed"));
    }
}
