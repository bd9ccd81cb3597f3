//! MANIFEST.csv of a set of clips, and the label files beside it. What a set leaves out is left out, not guessed.

use super::labels::Labels;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};

/// A table with a head line (RFC 4180, quotes and all).
#[derive(Debug, Default)]
pub struct Rows {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// One line of it.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    head: &'a [String],
    fields: &'a [String],
}

impl Rows {
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self::parse(&String::from_utf8_lossy(&bytes)))
    }

    pub fn parse(text: &str) -> Self {
        let mut records = records(text.trim_start_matches('\u{feff}')).into_iter();
        let head = records.next().unwrap_or_default().iter().map(|name| name.trim().to_lowercase()).collect();
        Self { head, rows: records.collect() }
    }

    pub fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|fields| Row { head: &self.head, fields })
    }
}

impl<'a> Row<'a> {
    /// A field that is there and not empty.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let at = self.head.iter().position(|other| other == name)?;
        self.fields.get(at).map(|field| field.trim()).filter(|field| !field.is_empty())
    }

    pub fn number(&self, name: &str) -> Result<f64> {
        let field = self.get(name).with_context(|| format!("no {name}"))?;
        field.parse().with_context(|| format!("{name} is no number: {field}"))
    }
}

fn records(text: &str) -> Vec<Vec<String>> {
    let (mut records, mut record, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                field.push('"');
                characters.next();
            }
            '"' => quoted = !quoted,
            ',' if !quoted => record.push(std::mem::take(&mut field)),
            '\r' if !quoted => {}
            '\n' if !quoted => {
                record.push(std::mem::take(&mut field));
                records.push(std::mem::take(&mut record));
            }
            other => field.push(other),
        }
    }
    if !field.is_empty() || !record.is_empty() {
        record.push(field);
        records.push(record);
    }
    records.retain(|record| record.iter().any(|field| !field.trim().is_empty()));
    records
}

/// A clip to be played.
#[derive(Debug)]
pub struct Clip {
    pub name: String,
    pub path: PathBuf,
    pub labels: Labels,
    /// As the set says, `GOLD` or `silver`.
    pub quality: String,
    /// Archive of CDnet pixel masks, where the set has one.
    pub masks: Option<PathBuf>,
    /// Frames a second, for masks that are named by frame.
    pub fps: f64,
}

/// Every clip of a folder that can be scored, and why others cannot.
pub fn read(folder: &Path) -> Result<(Vec<Clip>, Vec<String>)> {
    let rows = Rows::read(&folder.join("MANIFEST.csv"))?;
    let (mut clips, mut left_out) = (Vec::new(), Vec::new());
    for row in rows.iter() {
        let Some(file) = row.get("file") else { continue };
        match clip(folder, file, &row) {
            Ok(clip) => clips.push(clip),
            Err(error) => left_out.push(format!("{file}: {error:#}")),
        }
    }
    ensure!(!clips.is_empty(), "{}: no clip can be scored: {left_out:?}", folder.display());
    Ok((clips, left_out))
}

fn clip(folder: &Path, file: &str, row: &Row<'_>) -> Result<Clip> {
    let path = folder.join(file);
    ensure!(path.is_file(), "no such file");
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let beside = |ending: &str| path.with_file_name(format!("{stem}.{ending}"));
    let named = |column: &str, ending: &str| {
        let named = row.get(column).map(|name| folder.join(name));
        [named, Some(beside(ending))].into_iter().flatten().find(|path| path.is_file())
    };
    let (frames, intervals) =
        (named("groundtruth_frames", "frames.csv"), named("groundtruth_intervals", "intervals.csv"));
    // Frames are the finer of the two.
    let labels = match (&frames, &intervals) {
        (Some(frames), _) => Labels::from_frames(&Rows::read(frames)?)?,
        (None, Some(intervals)) => Labels::from_intervals(&Rows::read(intervals)?)?,
        (None, None) => anyhow::bail!("no labels"),
    };
    let of_frames = frames.map(|frames| frames.to_string_lossy().replace(".frames.csv", ".gt_masks.zip").into());
    let masks = [Some(beside("gt_masks.zip")), of_frames].into_iter().flatten();
    Ok(Clip {
        name: file.to_owned(),
        masks: masks
            .filter(|path: &PathBuf| path.extension().is_some_and(|ending| ending == "zip"))
            .find(|path| path.is_file()),
        path,
        labels,
        quality: row.get("groundtruth_quality").unwrap_or("unknown").to_owned(),
        fps: row.number("fps").unwrap_or(25.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_fields_hold_commas_quotes_and_lines() {
        let rows = Rows::parse("file,description\r\na.mp4,\"one, \"\"two\"\"\nthree\"\r\n\r\nb.mp4\r\n");
        let all: Vec<_> = rows.iter().map(|row| (row.get("file"), row.get("description"))).collect();
        assert_eq!(all, [(Some("a.mp4"), Some("one, \"two\"\nthree")), (Some("b.mp4"), None)]);
    }

    #[test]
    fn a_set_with_holes_is_scored_as_far_as_it_goes() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(
            "MANIFEST.csv",
            "file,fps,groundtruth_frames,groundtruth_intervals\nwith space/a.mp4,,,\nb.mp4,12.5,gone.csv,b.csv\nc.mp4,,,\nd.mp4,,,\n",
        );
        write("with space/a.mp4", "");
        write("with space/a.intervals.csv", "start_s,end_s,label\n0,1,motion\n");
        write("with space/a.gt_masks.zip", "");
        write("b.mp4", "");
        write("b.csv", "start_s,end_s,label\n0,1,none\n");
        write("c.mp4", "");
        let (clips, left_out) = read(folder.path()).unwrap();
        let names: Vec<_> = clips.iter().map(|clip| (clip.name.as_str(), clip.masks.is_some(), clip.fps)).collect();
        assert_eq!(names, [("with space/a.mp4", true, 25.0), ("b.mp4", false, 12.5)]);
        assert_eq!(left_out, ["c.mp4: no labels", "d.mp4: no such file"]);
    }
}
