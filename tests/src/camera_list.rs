//! Real cameras for the demo: a file that only its owner reads.

use crate::roster::Picture;
use serde::Deserialize;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Everything that is wrong with a camera list, at once.
#[derive(Debug, thiserror::Error)]
pub enum CameraListError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} holds passwords and has mode {mode:04o}; type: chmod 600 {}", path.display(), path.display())]
    Mode { path: PathBuf, mode: u32 },
    #[error("{} line {line}: {reason}", path.display())]
    Syntax { path: PathBuf, line: usize, reason: String },
    #[error("{}:\n  {}", path.display(), problems.join("\n  "))]
    Values { path: PathBuf, problems: Vec<String> },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawList {
    camera: Vec<RawCamera>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCamera {
    name: String,
    main: String,
    sub: Option<String>,
    username: String,
    password: String,
}

/// Reads `[[camera]] name, main, sub (optional), username, password`.
pub fn read(path: &Path) -> Result<Vec<(String, Picture)>, CameraListError> {
    let owned = || path.to_owned();
    let read_error = |source| CameraListError::Read { path: owned(), source };
    let mode = std::fs::metadata(path).map_err(read_error)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(CameraListError::Mode { path: owned(), mode });
    }
    let text = std::fs::read_to_string(path).map_err(read_error)?;
    let list: RawList = toml::from_str(&text).map_err(|error| syntax(path, &text, &error))?;
    let mut problems = Vec::new();
    if list.camera.is_empty() {
        problems.push("camera: none is listed; add a [[camera]]".to_owned());
    }
    for (at, camera) in list.camera.iter().enumerate() {
        for (key, address) in [("main", Some(&camera.main)), ("sub", camera.sub.as_ref())] {
            if let Some(problem) = address.and_then(|address| address_problem(address)) {
                problems.push(format!("camera[{at}].{key}: {problem}"));
            }
        }
        if camera.name.trim().is_empty() {
            problems.push(format!("camera[{at}].name: is empty; say where the camera looks"));
        }
    }
    if !problems.is_empty() {
        return Err(CameraListError::Values { path: owned(), problems });
    }
    let real =
        |c: RawCamera| (c.name, Picture::Real { main: c.main, sub: c.sub, username: c.username, password: c.password });
    Ok(list.camera.into_iter().map(real).collect())
}

/// The parser's own display quotes the line, which may hold a password.
fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> CameraListError {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    CameraListError::Syntax { path: path.to_owned(), line, reason: error.message().to_owned() }
}

/// What is wrong with an address, without repeating it: it may hold a password.
pub fn address_problem(address: &str) -> Option<&'static str> {
    let Some(rest) = address.strip_prefix("rtsp://") else {
        return Some("is not an rtsp:// address");
    };
    let authority = rest.split('/').next().unwrap_or(rest);
    authority.contains('@').then_some("carries a password; move it to username and password of this file")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str, mode: u32) -> Result<Vec<(String, Picture)>, CameraListError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cameras.toml");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        read(&path)
    }

    const GOOD: &str = "[[camera]]\nname='Ponte'\nmain='rtsp://192.0.2.1/1'\nusername='u'\npassword='p'\n";

    #[test]
    fn a_file_others_can_read_is_refused_with_the_remedy() {
        let error = list(GOOD, 0o644).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        assert_eq!(list(GOOD, 0o600).unwrap().len(), 1);
    }

    #[test]
    fn the_shipped_example_is_read() {
        let shipped = std::fs::read_to_string(crate::tidy::root().join("configs/cameras.example.toml")).unwrap();
        let cameras = list(&shipped, 0o600).unwrap();
        assert!(matches!(&cameras[..], [(_, Picture::Real { sub: Some(_), .. })]), "{cameras:?}");
    }

    #[test]
    fn a_password_on_a_broken_line_is_not_repeated() {
        let error = list("[[camera]]\nname='Ponte'\npassword='geheim'x\n", 0o600).unwrap_err();
        let said = format!("{error} {error:?}");
        assert!(said.contains("line 3"), "{said}");
        assert!(!said.contains("geheim"), "{said}");
    }

    #[test]
    fn every_problem_is_named_and_no_password_repeated() {
        let text =
            "[[camera]]\nname=''\nmain='rtsp://u:geheim@192.0.2.1/1'\nsub='http://x'\nusername='u'\npassword='p'\n";
        let error = list(text, 0o600).unwrap_err().to_string();
        for expected in ["camera[0].main: carries a password", "camera[0].sub: is not", "camera[0].name: is empty"] {
            assert!(error.contains(expected), "{error}");
        }
        assert!(!error.contains("geheim"), "{error}");
    }
}
