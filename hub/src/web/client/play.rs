//! `campanile-hub play`: an interval of the main stream as one fragmented MP4 file.

use super::connection::Connection;
use super::{ClientError, Done, Reason, Target, playlist, show, times};
use clap::Args;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub struct Play {
    /// Whose camera; ours when absent.
    #[arg(long, value_name = "ID")]
    organisation: Option<String>,
    #[arg(long, value_name = "ID")]
    camera: String,
    /// From: RFC 3339, or relative such as -10m.
    #[arg(long, allow_hyphen_values = true)]
    from: String,
    /// To, exclusive.
    #[arg(long, allow_hyphen_values = true)]
    to: String,
    /// Where to write it.
    #[arg(long, value_name = "FILE.mp4")]
    out: PathBuf,
    /// main or sub.
    #[arg(long, default_value = "main")]
    stream: String,
    /// From the copy of a hold of ours, also past the footage's own term.
    #[arg(long, value_name = "ID", conflicts_with = "organisation")]
    hold: Option<String>,
    /// Fail (69), and write no file, unless the whole interval was recorded.
    #[arg(long)]
    complete: bool,
    #[command(flatten)]
    reason: Reason,
    #[command(flatten)]
    target: Target,
}

/// A file beside the one that is wanted, so that this one is there whole or not at all. Dropped, it is gone.
pub(super) struct Aside(PathBuf);

impl Aside {
    pub(super) fn of(out: &Path) -> Self {
        let mut name = out.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        Self(out.with_file_name(name))
    }

    pub(super) fn create(&self) -> std::io::Result<std::fs::File> {
        std::fs::File::create(&self.0)
    }

    pub(super) fn keep(&self, out: &Path) -> std::io::Result<()> {
        std::fs::rename(&self.0, out)
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // Not there any more once it was kept.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Play {
    pub async fn run(self) -> Done {
        let now = jiff::Timestamp::now();
        let (from, to) = (times::parse("--from", &self.from, now)?, times::parse("--to", &self.to, now)?);
        let mut connection = Connection::open(&self.target).await?;
        let body = json!({
            "organisation": self.organisation, "camera": self.camera, "from": from.to_string(), "to": to.to_string(),
            "purpose": self.reason.purpose, "case_number": self.reason.case_number,
        });
        let opened = match &self.hold {
            None => connection.post("/api/v1/playbacks", &body).await?,
            Some(hold) => {
                let path = format!("/api/v1/holds/{}/playbacks", super::connection::segment(hold)?);
                connection.post(&path, &without_organisation(body)).await?
            }
        };
        let id = opened["id"].as_str().ok_or(ClientError::Unreadable("a playback without id"))?.to_owned();
        let base = format!("/api/v1/playbacks/{}", super::connection::segment(&id)?);
        let aside = Aside::of(&self.out);
        let saved = save(&mut connection, (&base, &self.stream), (&self.out, &aside), self.target.json).await;
        // Also what failed is closed, so that the register says when.
        let closed = connection.delete(&base).await;
        let (list, bytes) = saved?;
        closed?;
        let missing = playlist::missing(&list, from, to);
        if let Some(missing) = missing.as_ref().filter(|_| self.complete) {
            return Err(ClientError::Incomplete(format!("not complete, so not saved: {missing}")));
        }
        aside.keep(&self.out).map_err(|source| ClientError::Write { path: self.out.clone(), source })?;
        self.report(&list, bytes, missing.as_deref());
        Ok(())
    }

    fn report(&self, list: &[playlist::Listed], bytes: u64, missing: Option<&str>) {
        let (start, end) = (list.first().map(|l| l.start.to_string()), list.last().map(|l| l.end.to_string()));
        let file = self.out.display().to_string();
        if self.target.json {
            let gaps = list.windows(2).filter(|pair| pair[1].discontinuity).count();
            let report: Value = json!({
                "file": file, "bytes": bytes, "groups": list.len(), "start": start, "end": end,
                "discontinuities": gaps, "complete": missing.is_none(), "missing": missing,
            });
            println!("{report}");
            return;
        }
        let text = |time: Option<String>| time.as_deref().map(show::clean).unwrap_or_default();
        println!("{file}: {bytes} bytes, {} to {}", text(start), text(end));
        if let Some(missing) = missing {
            println!("not the whole interval: {missing}");
        }
    }
}

/// A hold is ours.
fn without_organisation(mut body: Value) -> Value {
    if let Some(fields) = body.as_object_mut() {
        fields.remove("organisation");
    }
    body
}

/// Writes everything of an open playback's stream beside `out`.
pub(super) async fn save(
    connection: &mut Connection,
    (base, stream): (&str, &str),
    (out, aside): (&Path, &Aside),
    quiet: bool,
) -> Result<(Vec<playlist::Listed>, u64), ClientError> {
    let text = connection.get_bytes(&format!("{base}/{}.m3u8", super::connection::segment(stream)?)).await?;
    let list = playlist::media(&text)?;
    let failed = |source| ClientError::Write { path: out.to_owned(), source };
    let mut file = std::io::BufWriter::new(aside.create().map_err(failed)?);
    let (mut bytes, mut init) = (0, None);
    for listed in &list {
        if init.as_ref() != Some(&listed.init) {
            if init.is_some() && !quiet {
                eprintln!("campanile-hub: from {} on another recording run, with a header of its own", listed.start);
            }
            let part = connection.get_bytes(&format!("{base}/{}", listed.init)).await?;
            file.write_all(&part).map_err(failed)?;
            bytes += part.len() as u64;
            init = Some(listed.init.clone());
        }
        let part = connection.get_bytes(&format!("{base}/{}", listed.uri)).await?;
        file.write_all(&part).map_err(failed)?;
        bytes += part.len() as u64;
    }
    file.into_inner().map_err(|e| failed(e.into_error()))?.sync_all().map_err(failed)?;
    Ok((list, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_there_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("duomo.mp4");
        let files = || std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
        std::fs::write(&out, "older").unwrap();
        let aside = Aside::of(&out);
        std::fs::write(&aside.0, "half").unwrap();
        assert_eq!(files().len(), 2);
        drop(aside);
        assert_eq!((files(), std::fs::read(&out).unwrap()), (vec!["duomo.mp4".into()], b"older".to_vec()));
        let aside = Aside::of(&out);
        std::fs::write(&aside.0, "whole").unwrap();
        aside.keep(&out).unwrap();
        drop(aside);
        assert_eq!((files(), std::fs::read(&out).unwrap()), (vec!["duomo.mp4".into()], b"whole".to_vec()));
    }
}
