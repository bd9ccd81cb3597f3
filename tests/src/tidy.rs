//! Checks of the tree itself: who may depend on whom, who may name what.

use std::path::{Path, PathBuf};

/// The project's folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// Every file below `folder` whose name ends with one of `endings`, build output left out.
pub fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["target", "node_modules", ".git"].contains(&name.as_str()) {
                    waiting.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Path below the project's folder, with slashes.
pub fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).to_string_lossy().into_owned()
}

/// Files that contain `needle` though `allowed` does not let them.
pub fn trespassers(files: &[PathBuf], needles: &[&str], allowed: impl Fn(&str) -> bool) -> Vec<String> {
    let names = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        needles.iter().any(|needle| text.contains(needle))
    };
    files.iter().filter(|path| names(path)).map(|path| relative(path)).filter(|name| !allowed(name)).collect()
}

/// Links in a Markdown text that stand for files: `[text](target)` without a scheme or a fragment alone.
pub fn file_links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    for part in text.split("](").skip(1) {
        let Some(target) = part.split(')').next() else { continue };
        let target = target.split('#').next().unwrap_or_default().trim();
        if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
            links.push(target.to_owned());
        }
    }
    links
}
