//! The tree keeps its own rules. Each check finds a planted offender first.

use campanile_tests::tidy::{file_links, files, relative, root, trespassers};
use std::path::Path;

/// Crate names that `folder`'s manifest depends on, development dependencies left out.
fn dependencies(manifest: &str) -> Vec<String> {
    let table: toml::Table = toml::from_str(manifest).expect("a manifest is TOML");
    let section = table.get("dependencies").and_then(toml::Value::as_table);
    section.map(|section| section.keys().cloned().collect()).unwrap_or_default()
}

/// What a crate may depend on among ours.
fn allowed(folder: &str) -> &'static [&'static str] {
    match folder {
        "proto" | "tests/sim" | "tests/shim" => &[],
        "edge-agent" | "hub" => &["campanile-proto"],
        "tests" => &["campanile-proto", "campanile-sim"],
        _ => &["campanile-proto", "campanile-edge-agent", "campanile-hub", "campanile-sim", "campanile-tests"],
    }
}

fn wrong_dependencies(folder: &str, manifest: &str) -> Vec<String> {
    let ours = dependencies(manifest).into_iter().filter(|name| name.starts_with("campanile-"));
    ours.filter(|name| !allowed(folder).contains(&name.as_str())).collect()
}

#[test]
fn dependencies_point_one_way() {
    let planted = "[dependencies]\ncampanile-hub = { path = \"../hub\" }\n";
    assert_eq!(wrong_dependencies("edge-agent", planted), ["campanile-hub"]);
    for folder in ["proto", "edge-agent", "hub", "tests", "tests/sim", "tests/shim", "tests/campaign", "benches"] {
        let manifest = std::fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("every crate has one");
        assert_eq!(wrong_dependencies(folder, &manifest), Vec::<String>::new(), "{folder}");
    }
}

fn sources(folder: &str) -> Vec<std::path::PathBuf> {
    files(&root().join(folder), &[".rs"])
}

#[test]
fn only_the_media_seam_names_gstreamer() {
    let needles = ["gstreamer::", "use gstreamer", "gstreamer_"];
    let allowed = |name: &str| name.starts_with("edge-agent/src/media/gst/");
    let offenders = trespassers(&sources("edge-agent/src"), &needles, |_| false);
    assert!(!offenders.is_empty() && offenders.iter().all(|name| allowed(name)), "{offenders:?}");
    assert_eq!(trespassers(&sources("hub/src"), &needles, |_| false), Vec::<String>::new());
    assert_eq!(trespassers(&sources("proto/src"), &needles, |_| false), Vec::<String>::new());
}

#[test]
fn only_the_stores_hold_a_database() {
    let needles = ["rusqlite"];
    let allowed = |name: &str| {
        // A test may look into a store's file, and damage it.
        name.contains("/tests/")
            || name.starts_with("edge-agent/src/index/")
            || [
                "hub/src/catalog/",
                "hub/src/register/",
                "hub/src/access/",
                "hub/src/federation/store",
                "hub/src/holds/store",
            ]
            .iter()
            .any(|start| name.starts_with(start))
    };
    for folder in ["edge-agent/src", "hub/src", "proto/src"] {
        let named = trespassers(&sources(folder), &needles, |_| false);
        assert!(folder == "proto/src" || !named.is_empty(), "the scan finds nothing in {folder}");
        assert_eq!(trespassers(&sources(folder), &needles, allowed), Vec::<String>::new());
    }
}

#[test]
fn no_file_holds_everything() {
    const MOST_LINES: usize = 700;
    let long = |limit: usize| -> Vec<String> {
        let all = files(&root(), &[".rs"]).into_iter();
        let lines = |path: &Path| std::fs::read_to_string(path).unwrap_or_default().lines().count();
        all.filter(|path| lines(path) > limit).map(|path| relative(&path)).collect()
    };
    assert!(!long(100).is_empty(), "the scan counts nothing");
    assert_eq!(long(MOST_LINES), Vec::<String>::new());
}

#[test]
fn links_in_documents_resolve() {
    assert_eq!(file_links("see [a](docs/none.md#x) and [b](https://example.org)"), ["docs/none.md"]);
    let mut broken = Vec::new();
    let mut seen = 0;
    for document in files(&root(), &[".md"]) {
        let text = std::fs::read_to_string(&document).expect("a document is text");
        for link in file_links(&text) {
            seen += 1;
            if !document.parent().expect("a file lies in a folder").join(&link).exists() {
                broken.push(format!("{}: {link}", relative(&document)));
            }
        }
    }
    assert!(seen > 0, "no document links to another");
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn nothing_speaks_of_where_it_was_made() {
    // Split, so that this file does not find itself.
    let needles = [
        concat!("/wo", "rk/"),
        concat!("static.", "crates"),
        concat!("index.", "crates"),
        concat!("registry.npm", "js"),
    ];
    let all =
        files(&root(), &[".rs", ".md", ".toml", ".sh", ".proto", ".html", ".js", ".css", ".sql", ".yml", ".json"]);
    let planted = tempfile::Builder::new().suffix(".md").tempfile().expect("a temporary file");
    std::fs::write(planted.path(), needles[0]).expect("it can be written");
    assert_eq!(trespassers(&[planted.path().to_owned()], &needles, |_| false).len(), 1);
    assert_eq!(trespassers(&all, &needles, |_| false), Vec::<String>::new());
}

#[test]
fn no_test_is_ignored() {
    let needles = [concat!("#[ig", "nore")];
    let all = files(&root(), &[".rs"]);
    assert!(all.len() > 50);
    assert_eq!(trespassers(&all, &needles, |_| false), Vec::<String>::new());
}
