//! Peers that look for motion, each the way its own documents say.

use anyhow::{Context, Result, bail, ensure};
use campanile_tests::process::Process;
use campanile_tests::rig::Rig;
use campanile_tests::roster::{Camera, Picture};
use campanile_tests::simcam::write_private;
use campanile_tests::tidy::root;
use std::path::Path;

/// Of the sub-streams that the cameras here send.
const WIDTH: &str = "640";
const HEIGHT: &str = "360";

/// An address with the password in it, for programs that know no other way.
fn signed_in(rig: &Rig, camera: &Camera) -> Result<(String, String)> {
    let (served, password) = rig.simcam.camera(&camera.key)?;
    let whole = |url: &str| url.replace("rtsp://", &format!("rtsp://{}:{password}@", served.username));
    Ok((whole(&served.main_url), whole(&served.sub_url)))
}

/// Debian's `motion` on the sub-streams: one process, passed-through films of what moves, no stills.
pub(crate) fn motion(rig: &Rig, cameras: &[Camera], folder: &Path) -> Result<Process> {
    let mut all = format!(
        "daemon off\nsetup_mode off\nlog_level 4\ntarget_dir {}\nwebcontrol_port 0\nstream_port 0\n\
         picture_output off\nmovie_output on\nmovie_passthrough on\nminimum_motion_frames 1\npre_capture 3\n\
         event_gap 5\ndespeckle_filter EedDl\n",
        folder.display()
    );
    for camera in cameras {
        let (served, password) = rig.simcam.camera(&camera.key)?;
        let Picture::Scene { size, .. } = &camera.picture else { bail!("{} is no scene", camera.key) };
        let rate = size.sub_pictures_per_second();
        let text = format!(
            "camera_id {}\ncamera_name {}\nnetcam_url {}\nnetcam_userpass {}:{password}\nwidth {WIDTH}\n\
             height {HEIGHT}\nframerate {rate}\n",
            camera.number, camera.key, served.sub_url, served.username
        );
        let file = rig.path(&format!("{}.motion.conf", camera.key));
        write_private(&file, &text)?;
        all.push_str(&format!("camera {}\n", file.display()));
    }
    let file = rig.path("motion.conf");
    write_private(&file, &all)?;
    let file = file.to_str().context("the folder's name is text")?;
    Process::start_other("motion", &["-n", "-c", file], &rig.path("motion.log"))
}

/// Two processes a camera and ffmpeg below one of them: the main stream copied, the sub-stream decoded to five
/// pictures a second and looked at in Python.
pub(crate) fn frigate_like(rig: &Rig, camera: &Camera, folder: &Path) -> Result<[Process; 2]> {
    let python = root().join("target/opencv/bin/python");
    ensure!(python.is_file(), "OpenCV is not installed at target/opencv; `make bench` does that");
    let (main, sub) = signed_in(rig, camera)?;
    let input = |url: &str| -> Vec<String> {
        let words = "-nostdin -loglevel error -rtsp_transport tcp -use_wallclock_as_timestamps 1 \
                     -fflags +genpts+discardcorrupt -i";
        words.split_whitespace().chain([url]).map(str::to_owned).collect()
    };
    let segments = format!("{}/{}-%03d.mp4", folder.display(), camera.key);
    let copied = "-c copy -f segment -segment_time 10 -segment_format mp4 -reset_timestamps 1";
    let record: Vec<String> =
        input(&main).into_iter().chain(copied.split_whitespace().map(str::to_owned)).chain([segments]).collect();
    let script = root().join("benches/peers/frigate_like.py").display().to_string();
    let raw = "-r 5 -vf fps=5 -threads 2 -f rawvideo -pix_fmt yuv420p pipe:";
    let detect = [script, WIDTH.into(), HEIGHT.into()].into_iter().chain(input(&sub));
    let detect: Vec<String> = detect.chain(raw.split_whitespace().map(str::to_owned)).collect();
    let start = |name: &str, arguments: &[String], log: &str| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Process::start_other(name, &arguments, &rig.path(log))
    };
    let python = python.to_str().context("the project's folder is text")?;
    Ok([
        start("ffmpeg", &record, &format!("{}.record.log", camera.key))?,
        start(python, &detect, &format!("{}.detect.log", camera.key))?,
    ])
}
