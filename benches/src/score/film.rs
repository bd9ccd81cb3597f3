//! Decoded pictures of one clip or scene, in a file: every contender reads the same.

use anyhow::{Context, Result, bail, ensure};
use campanile_sim::{demux, units};
use edge_agent::media::gst::{Decoder, Picture};
use edge_agent::media::{Codec, StreamFormat};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The decoder holds few pictures for whoever takes them late.
const AHEAD_90K: i64 = 90_000;
/// A decoder that gives nothing for this long gives nothing more until the end.
const PATIENCE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(1);

/// Luma planes without padding, and when each is shown.
#[derive(Debug)]
pub struct Film {
    pub width: usize,
    pub height: usize,
    pub times_s: Vec<f64>,
    pub grey: PathBuf,
}

impl Film {
    /// Plays a clip through the decoder that the box ships.
    pub fn decode(clip: &Path, grey: &Path) -> Result<Self> {
        let clip = demux::read(clip).with_context(|| format!("cannot read {}", clip.display()))?;
        let (width, height) = clip.size().context("no size in its format")?;
        let format = StreamFormat {
            codec: if clip.codec == units::Codec::H264 { Codec::H264 } else { Codec::H265 },
            width,
            height,
            decoder_configuration: clip.decoder_configuration().context("no parameter sets in its format")?,
        };
        let decoder = Decoder::load(&format).and_then(|idle| idle.begin(&format)).context("no decoder")?;
        let mut writer = Writer::create(grey)?;
        let (mut last_90k, mut given_up) = (0, false);
        for unit in &clip.units {
            let pts_90k = unit.pts_90k as i64;
            let since = Instant::now();
            while !given_up && pts_90k - last_90k > AHEAD_90K {
                match decoder.next() {
                    Some(picture) => last_90k = writer.take(&picture)?,
                    None if since.elapsed() > PATIENCE => given_up = true,
                    None => std::thread::sleep(POLL),
                }
            }
            ensure!(decoder.push(unit.bytes.clone(), pts_90k), "the decoder gave up");
            while let Some(picture) = decoder.next() {
                last_90k = writer.take(&picture)?;
            }
        }
        for picture in decoder.finish() {
            writer.take(&picture)?;
        }
        writer.finish()
    }

    /// Pictures from elsewhere, such as a generated scene.
    pub fn record(
        grey: &Path,
        width: usize,
        height: usize,
        pictures: impl Iterator<Item = (f64, Vec<u8>)>,
    ) -> Result<Self> {
        let mut writer = Writer::create(grey)?;
        for (t_s, luma) in pictures {
            writer.plane(t_s, (width, height), &luma, width)?;
        }
        writer.finish()
    }

    /// Gives every picture in order.
    pub fn play(&self, mut each: impl FnMut(f64, &[u8])) -> Result<()> {
        let mut file = BufReader::with_capacity(1 << 20, File::open(&self.grey).context("the pictures are gone")?);
        let mut luma = vec![0; self.width * self.height];
        for &t_s in &self.times_s {
            file.read_exact(&mut luma).context("pictures are missing")?;
            each(t_s, &luma);
        }
        Ok(())
    }
}

struct Writer {
    path: PathBuf,
    file: BufWriter<File>,
    size: Option<(usize, usize)>,
    times_s: Vec<f64>,
}

impl Writer {
    fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::with_capacity(1 << 20, file),
            size: None,
            times_s: Vec::new(),
        })
    }

    fn take(&mut self, picture: &Picture) -> Result<i64> {
        let (luma, stride) = picture.plane(0);
        self.plane(picture.pts_90k as f64 / 90_000.0, (picture.width, picture.height), luma, stride)?;
        Ok(picture.pts_90k)
    }

    fn plane(&mut self, t_s: f64, size: (usize, usize), luma: &[u8], stride: usize) -> Result<()> {
        ensure!(*self.size.get_or_insert(size) == size, "the pictures change their size");
        for row in luma.chunks(stride.max(1)).take(size.1) {
            self.file.write_all(&row[..size.0]).context("no room for pictures")?;
        }
        self.times_s.push(t_s);
        Ok(())
    }

    fn finish(mut self) -> Result<Film> {
        self.file.flush().context("no room for pictures")?;
        let Some((width, height)) = self.size else { bail!("not one picture was decoded") };
        Ok(Film { width, height, times_s: self.times_s, grey: self.path })
    }
}
