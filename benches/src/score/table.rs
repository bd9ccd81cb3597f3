//! The report as Markdown: one table, then each clip, then the rule.

use super::report::{OURS, Report, Row};
use super::rule::Counts;
use std::fmt::Write;

fn share(figure: Option<f64>) -> String {
    figure.map_or("-".to_owned(), |figure| format!("{:.1} %", figure * 100.0))
}

fn seconds(figure: Option<f64>) -> String {
    figure.map_or("-".to_owned(), |figure| format!("{figure:.2}"))
}

pub fn markdown(report: &Report) -> String {
    let mut text = String::from(
        "| | recall | on while empty | onset p95, s | false events an hour | recall, weather | on while empty, weather \
         | pixel F | targets missed | worse than MOG2 on |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in &report.rows {
        line(&mut text, row);
    }
    let names: Vec<&String> =
        report.rows.first().map(|row| row.clips.iter().map(|(name, _)| name).collect()).unwrap_or_default();
    each(&mut text, report, "recall / on while empty, clip by clip", &names, |row| &row.clips);
    let names: Vec<&String> =
        report.rows.first().map(|row| row.scenes.iter().map(|(name, _)| name).collect()).unwrap_or_default();
    each(&mut text, report, "recall / on while empty, passages in generated weather", &names, |row| &row.scenes);
    false_events(&mut text, report);
    for row in report.rows.iter().filter(|row| row.name == OURS && !row.misses.is_empty()) {
        let _ = writeln!(text, "\nMissed by {}: {}.", row.name, row.misses.join("; "));
    }
    let _ = writeln!(text, "\n{}", report.rule);
    if report.controls_that_pass.is_empty() {
        let _ =
            writeln!(text, "\nThe controls (always on, always off, the labels 2 s late) miss targets, as they must.");
    } else {
        let _ =
            writeln!(text, "\nTHE SCORE IS WORTH NOTHING: met by a control: {}.", report.controls_that_pass.join(", "));
    }
    for left_out in &report.left_out {
        let _ = writeln!(text, "\nLeft out: {left_out}.");
    }
    text
}

fn line(text: &mut String, row: &Row) {
    let (clips, scenes) = (row.all_clips(), row.all_scenes());
    let pixels: Vec<String> =
        row.pixels.keys().filter_map(|clip| row.pixel_f(clip)).map(|figure| format!("{figure:.3}")).collect();
    let _ = writeln!(
        text,
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
        row.name,
        share(clips.recall()),
        share(clips.on_while_empty()),
        seconds(clips.onset_p95_s()),
        row.false_events_per_hour().map_or("-".to_owned(), |events| format!("{events:.1}")),
        share(scenes.recall()),
        share(scenes.on_while_empty()),
        if pixels.is_empty() { "-".to_owned() } else { pixels.join(" / ") },
        row.misses.len(),
        row.worse_than_mog2.len(),
    );
}

fn each(
    text: &mut String,
    report: &Report,
    title: &str,
    names: &[&String],
    of: impl Fn(&Row) -> &Vec<(String, Counts)>,
) {
    if names.is_empty() {
        return;
    }
    let heads: Vec<&str> = report.rows.iter().map(|row| row.name.as_str()).collect();
    let _ = writeln!(text, "\n| {title} | {} |\n|---|{}", heads.join(" | "), "---|".repeat(heads.len()));
    for (at, name) in names.iter().enumerate() {
        let figures: Vec<String> = report
            .rows
            .iter()
            .map(|row| {
                of(row).get(at).map_or("-".to_owned(), |(_, counts)| {
                    let empty = share(counts.on_while_empty());
                    format!("{} / {}", share(counts.recall()), empty)
                })
            })
            .collect();
        let quality = report.quality.get(*name).map_or(String::new(), |quality| format!(" ({quality})"));
        let _ = writeln!(text, "| {name}{quality} | {} |", figures.join(" | "));
    }
}

fn false_events(text: &mut String, report: &Report) {
    let Some(first) = report.rows.first().filter(|row| !row.false_events.is_empty()) else { return };
    let heads: Vec<&str> = report.rows.iter().map(|row| row.name.as_str()).collect();
    let hours = first.quiet_hours;
    let _ = writeln!(
        text,
        "\n| false events in {hours:.2} quiet hours | {} |\n|---|{}",
        heads.join(" | "),
        "---|".repeat(heads.len())
    );
    for (at, (name, _)) in first.false_events.iter().enumerate() {
        let figures: Vec<String> = report
            .rows
            .iter()
            .map(|row| row.false_events.get(at).map_or("-".into(), |(_, events)| events.to_string()))
            .collect();
        let _ = writeln!(text, "| {name} | {} |", figures.join(" | "));
    }
}
