//! What people say of a clip: intervals in which something moves, nothing does, or nobody is to be judged.

use super::manifest::Rows;
use anyhow::{Context, Result, ensure};

/// What a label says of an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    Motion,
    Empty,
    /// Left out of every figure.
    Ignored,
}

/// From an instant to the next span's, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    pub from_s: f64,
    pub to_s: f64,
    pub label: Label,
}

/// Disjoint spans in order; neighbours differ.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Labels(Vec<Span>);

impl Labels {
    /// Joins neighbours that say the same; what lies between two spans is ignored.
    pub fn of(mut spans: Vec<Span>) -> Self {
        spans.retain(|span| span.to_s > span.from_s);
        spans.sort_by(|a, b| a.from_s.total_cmp(&b.from_s));
        let mut joined: Vec<Span> = Vec::new();
        for mut span in spans {
            if let Some(last) = joined.last_mut() {
                span.from_s = span.from_s.max(last.to_s);
                if span.from_s >= span.to_s {
                    continue;
                }
                if span.label == last.label && span.from_s - last.to_s < HOLE_S {
                    last.to_s = span.to_s;
                    continue;
                }
            }
            joined.push(span);
        }
        Self(joined)
    }

    /// `start_s,end_s,label`: motion, none, and whatever else a set says is ignored.
    pub fn from_intervals(rows: &Rows) -> Result<Self> {
        let spans = rows.iter().map(|row| {
            let label = match row.get("label").unwrap_or_default() {
                "motion" => Label::Motion,
                "none" | "empty" => Label::Empty,
                _ => Label::Ignored,
            };
            Ok(Span { from_s: row.number("start_s")?, to_s: row.number("end_s")?, label })
        });
        Ok(Self::of(spans.collect::<Result<_>>()?))
    }

    /// `t_seconds,motion` with 1, 0 or -1; a frame's label holds until the next frame.
    pub fn from_frames(rows: &Rows) -> Result<Self> {
        let frames: Vec<(f64, Label)> = rows
            .iter()
            .map(|row| {
                let label = match row.get("motion").context("no column motion")?.trim().parse::<f64>() {
                    Ok(1.0) => Label::Motion,
                    Ok(0.0) => Label::Empty,
                    _ => Label::Ignored,
                };
                Ok((row.number("t_seconds")?, label))
            })
            .collect::<Result<_>>()?;
        ensure!(frames.len() > 1, "fewer than two frames");
        let step = (frames[frames.len() - 1].0 - frames[0].0) / (frames.len() - 1) as f64;
        let ends = frames.iter().skip(1).map(|frame| frame.0).chain([frames[frames.len() - 1].0 + step]);
        let spans = frames.iter().zip(ends).map(|(&(from_s, label), to_s)| Span { from_s, to_s, label });
        Ok(Self::of(spans.collect()))
    }

    pub fn spans(&self) -> &[Span] {
        &self.0
    }

    pub fn at(&self, t_s: f64) -> Label {
        let span = self.0.iter().find(|span| (span.from_s..span.to_s).contains(&t_s));
        span.map_or(Label::Ignored, |span| span.label)
    }

    /// Instants at which the label changes; its first and last are none.
    pub fn changes(&self) -> impl Iterator<Item = f64> + '_ {
        self.0.iter().skip(1).map(|span| span.from_s)
    }

    pub fn end_s(&self) -> f64 {
        self.0.last().map_or(0.0, |span| span.to_s)
    }
}

/// Rounded times leave holes smaller than this between spans.
const HOLE_S: f64 = 0.01;

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVALS: &str = "start_s,end_s,label,note,quality\n0.0,4.0,none,,silver\n4.0,8.5,motion,\"a car, white\",silver\n8.5,9.0,ignore,shadow,silver\n";

    #[test]
    fn intervals_and_frames_say_the_same() {
        let intervals = Labels::from_intervals(&Rows::parse(INTERVALS)).unwrap();
        let mut frames = String::from("frame_index,t_seconds,motion\n");
        for n in 0..90 {
            let motion = if n < 40 {
                0
            } else if n < 85 {
                1
            } else {
                -1
            };
            frames += &format!("{n},{},{motion}\n", f64::from(n) / 10.0);
        }
        let frames = Labels::from_frames(&Rows::parse(&frames)).unwrap();
        assert_eq!(frames.spans().len(), 3);
        for t in [0.0, 3.95, 4.05, 8.45, 8.6] {
            assert_eq!(intervals.at(t), frames.at(t), "{t}");
        }
        assert_eq!(intervals.at(9.5), Label::Ignored);
        assert_eq!(intervals.changes().collect::<Vec<_>>(), [4.0, 8.5]);
    }
}
