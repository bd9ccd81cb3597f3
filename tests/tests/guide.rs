//! docs/install.md against what it speaks of, without a machine to install on (`make install-test` has one).

use anyhow::{Context, Result, ensure};
use campanile_tests::packages::{Packages, succeed};
use campanile_tests::process::binary;
use campanile_tests::tidy::root;
use std::collections::BTreeMap;
use std::process::Command;

/// Lines of the blocks that are fenced as `sh`, with continued lines joined.
fn commands(page: &str) -> Vec<String> {
    let (mut found, mut inside) = (Vec::new(), false);
    for line in page.replace("\\\n", " ").lines() {
        match line.trim() {
            "```sh" => inside = true,
            "```" => inside = false,
            command if inside => found.push(command.to_owned()),
            _ => {}
        }
    }
    found
}

/// Programs of ours on a line, each with its subcommands and flags.
fn calls(line: &str) -> Vec<(String, Vec<String>, Vec<String>)> {
    let is_word = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-');
    let mut found = Vec::new();
    for part in line.split(['|', ';', '&', '(', ')', '<', '>']) {
        let words: Vec<&str> = part.split_whitespace().collect();
        let is_program = |at: usize| ["campanile-hub", "campanile-edge"].contains(&words[at]);
        let is_user = |at: usize| at > 0 && words[at - 1] == "-u";
        let Some(at) = (0..words.len()).find(|&at| is_program(at) && !is_user(at)) else { continue };
        // A program's name is also a unit's, a package's and a user's.
        if !words[..at].iter().all(|word| ["runuser", "-u", "--"].contains(word) || word.starts_with("campanile-")) {
            continue;
        }
        let below: Vec<String> = words[at + 1..].iter().copied().take_while(is_word).map(str::to_owned).collect();
        let flags = words[at + 1..].iter().filter(|word| word.starts_with("--")).map(|&word| word.to_owned()).collect();
        found.push((words[at].to_owned(), below, flags));
    }
    found
}

/// What `--help` says of a subcommand. Trailing words that are no subcommand are its arguments.
fn help(program: &str, below: &[String]) -> Result<String> {
    let mut asked = Command::new(binary(program)?);
    succeed(asked.args(below).arg("--help"))
}

fn unknown(lines: &[String]) -> Result<Vec<String>> {
    let mut asked: BTreeMap<(String, Vec<String>), String> = BTreeMap::new();
    let mut unknown = Vec::new();
    for line in lines {
        for (program, mut below, flags) in calls(line) {
            let text = loop {
                let key = (program.clone(), below.clone());
                if let Some(known) = asked.get(&key) {
                    break known.clone();
                }
                match help(&program, &below) {
                    Ok(text) => {
                        asked.insert(key, text.clone());
                        break text;
                    }
                    Err(_) if below.len() > 1 => drop(below.pop()),
                    Err(error) => break format!("{error:#}"),
                }
            };
            let known = |flag: &str| text.split([' ', ',', '\n', '[', ']']).any(|word| word == flag);
            unknown.extend(flags.iter().filter(|flag| !known(flag)).map(|flag| format!("{program} {below:?} {flag}")));
            if below.is_empty() || !text.contains("Usage:") {
                unknown.push(format!("{program} {below:?}: {text}"));
            }
        }
    }
    Ok(unknown)
}

#[test]
fn every_command_of_the_page_is_one_of_ours_with_flags_that_it_has() -> Result<()> {
    let planted = ["campanile-hub status --configg x", "x=$(campanile-edge chekc --config y)"].map(str::to_owned);
    ensure!(unknown(&planted)?.len() >= 2, "planted mistakes are not found");
    let page = std::fs::read_to_string(root().join("docs/install.md")).context("the page is there")?;
    let lines = commands(&page);
    let count: usize = lines.iter().map(|line| calls(line).len()).sum();
    ensure!(count >= 15, "only {count} commands are found");
    let unknown = unknown(&lines)?;
    ensure!(unknown.is_empty(), "{unknown:#?}");
    Ok(())
}

/// Paths of a text that only a package can have put there.
fn promised(text: &str) -> Vec<String> {
    let words = text.split(|c: char| c.is_whitespace() || "`()\"'|;,=<>".contains(c));
    let words = words.map(|word| word.trim_end_matches(['.', ':']));
    let ours = ["/usr/bin/campanile", "/usr/share/doc/campanile", "/lib/systemd/system/campanile", "/etc/campanile/"];
    let named = words.filter(|word| ours.iter().any(|start| word.starts_with(start)));
    named.filter(|word| !word.ends_with(".password")).map(str::to_owned).collect()
}

#[test]
fn every_file_of_ours_that_a_page_or_a_service_names_is_in_a_package() -> Result<()> {
    let machine = tempfile::tempdir().context("no temporary folder")?;
    Packages::pack(&[])?.unpack(machine.path())?;
    let missing = |text: &str| -> Vec<String> {
        let lies = |path: &String| machine.path().join(path.trim_start_matches('/')).exists();
        promised(text).into_iter().filter(|path| !lies(path)).collect()
    };
    ensure!(missing("see `/etc/campanile/town.toml`.") == ["/etc/campanile/town.toml"]);
    let mut seen = 0;
    for file in ["docs/install.md", "docs/edge-check.md", "docs/edge-disk.md"] {
        let text = std::fs::read_to_string(root().join(file)).with_context(|| format!("{file} is there"))?;
        seen += promised(&text).len();
        ensure!(missing(&text).is_empty(), "{file}: {:?}", missing(&text));
    }
    for unit in std::fs::read_dir(root().join("hardware/systemd")).context("the units are there")?.flatten() {
        let text = std::fs::read_to_string(unit.path()).context("a unit is text")?;
        seen += promised(&text.replace("file://", "")).len();
        ensure!(missing(&text.replace("file://", "")).is_empty(), "{:?}: {:?}", unit.path(), missing(&text));
    }
    ensure!(seen > 20, "only {seen} paths are found");
    Ok(())
}

#[test]
fn every_block_of_the_page_is_a_shell_s() -> Result<()> {
    let page = std::fs::read_to_string(root().join("docs/install.md")).context("the page is there")?;
    let parses = |text: &str| -> Result<bool> {
        let file = tempfile::NamedTempFile::new().context("no temporary file")?;
        std::fs::write(file.path(), text).context("cannot write a script")?;
        Ok(Command::new("sh").arg("-n").arg(file.path()).output().context("no sh")?.status.success())
    };
    ensure!(!parses("if true; then\n")?);
    let blocks: Vec<&str> = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    ensure!(blocks.len() > 15, "only {} blocks", blocks.len());
    for block in blocks {
        ensure!(parses(block)?, "no shell reads this: {block}");
    }
    Ok(())
}
