//! One town: its hub as a process, its boxes, and its people's command line.

use crate::demo::rfc3339;
use crate::edge_box::{EdgeBox, text};
use crate::process::{Process, run_to_end};
use crate::roster::{TownPlan, to_toml};
use crate::simcam::{Simcam, write_private};
use crate::until::until;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

const READY_WITHIN: Duration = Duration::from_secs(30);

/// What a hub writes once it serves.
#[derive(Debug, Clone, Deserialize)]
pub struct Addresses {
    /// host:port for boxes and partners.
    pub rpc: String,
    /// Base address of the operators' pages.
    pub web: String,
    pub web_fingerprint: String,
    pub organisation_id: String,
    /// Fingerprint of the organisation's long-term key, as people compare it.
    pub organisation_fingerprint: String,
}

pub struct Town {
    pub plan: TownPlan,
    pub folder: PathBuf,
    pub boxes: Vec<EdgeBox>,
    pub hub: Option<Process>,
    /// A wall clock of the hub that is off, see [`Process::start_at`].
    pub wall: Option<String>,
    /// Where it last served: a hub that ended in order takes its file away, and comes back at the same ports.
    last: Option<Addresses>,
}

#[derive(Serialize)]
struct Configuration<'a> {
    config_version: u32,
    data_dir: PathBuf,
    time_zone: &'a str,
    organisation: OrganisationTable<'a>,
    rpc: Listen<'a>,
    web: Listen<'a>,
}

#[derive(Serialize)]
struct OrganisationTable<'a> {
    name: &'a str,
    ipa_code: &'a str,
}

#[derive(Serialize)]
struct Listen<'a> {
    listen: &'a str,
}

impl Town {
    /// Writes the hub's configuration; nothing runs yet.
    pub fn prepare(plan: TownPlan, folder: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let text = to_toml(&Configuration {
            config_version: 1,
            data_dir: folder.join("hub"),
            time_zone: "Europe/Rome",
            organisation: OrganisationTable { name: plan.name, ipa_code: plan.ipa_code },
            rpc: Listen { listen: "127.0.0.1:0" },
            web: Listen { listen: "127.0.0.1:0" },
        })?;
        write_private(&folder.join("hub.toml"), &text)?;
        Ok(Self { plan, folder, boxes: Vec::new(), hub: None, wall: None, last: None })
    }

    pub fn data(&self) -> PathBuf {
        self.folder.join("hub")
    }

    pub fn config(&self) -> String {
        self.folder.join("hub.toml").to_string_lossy().into_owned()
    }

    /// Starts the hub and waits until it serves. A hub that ran before keeps its ports, as a real one does.
    pub fn start_hub(&mut self) -> Result<()> {
        let ready = self.data().join("addresses.json");
        let _ = std::fs::remove_file(&ready);
        if let Some(before) = &self.last {
            self.keep_ports(before)?;
        }
        let log = self.folder.join("hub.log");
        let run = ["run", "--config", &self.config()];
        let mut process = Process::start_at("campanile-hub", &run, &log, self.wall.as_deref())?;
        let what = format!("the hub of {} serves", self.plan.name);
        let addresses = until(&what, READY_WITHIN, || {
            process.still_runs().map_err(|error| format!("{error:#}"))?;
            self.addresses().map_err(|error| format!("{error:#}"))
        })?;
        self.last = Some(addresses);
        self.hub = Some(process);
        Ok(())
    }

    /// The hub serves now, and will serve at the same ports when it comes back.
    pub fn keeps_its_ports(&mut self) -> Result<()> {
        self.last = Some(self.addresses()?);
        Ok(())
    }

    /// Takes `port` for people and the next one for boxes and partners.
    pub fn listen_at(&self, port: u16) -> Result<()> {
        let next = port.checked_add(1).context("there is no port after the last one")?;
        self.listen(&format!("127.0.0.1:{next}"), &format!("127.0.0.1:{port}"))
    }

    fn keep_ports(&self, before: &Addresses) -> Result<()> {
        let web = before.web.split("//").nth(1).unwrap_or(&before.web).trim_end_matches('/');
        self.listen(&before.rpc, web)
    }

    fn listen(&self, rpc: &str, web: &str) -> Result<()> {
        let text = std::fs::read_to_string(self.config()).context("cannot read the hub's configuration")?;
        let mut table: toml::Table = toml::from_str(&text).context("the hub's configuration is not TOML")?;
        for (key, address) in [("rpc", rpc), ("web", web)] {
            let section = table.get_mut(key).and_then(toml::Value::as_table_mut).context("a section is missing")?;
            section.insert("listen".to_owned(), toml::Value::String(address.to_owned()));
        }
        write_private(Path::new(&self.config()), &toml::to_string(&table)?)
    }

    pub fn addresses(&self) -> Result<Addresses> {
        let bytes = std::fs::read(self.data().join("addresses.json")).context("no addresses yet")?;
        serde_json::from_slice(&bytes).context("the hub's addresses are not as agreed")
    }

    /// The password made for the first operator.
    pub fn password(&self) -> Result<String> {
        let path = self.data().join("initial-password");
        Ok(std::fs::read_to_string(path).context("no initial password")?.trim().to_owned())
    }

    /// Runs `campanile-hub ARGUMENTS` on the hub's own machine; the error is what a person reads.
    pub fn command(&self, arguments: &[&str]) -> Result<String> {
        let config = self.config();
        let mut all = arguments.to_vec();
        all.extend(["--config", &config]);
        let output = run_to_end("campanile-hub", &all)?;
        if !output.status.success() {
            bail!("`campanile-hub {}` ended with {}: {}", arguments.join(" "), output.status, text(&output.stderr));
        }
        Ok(text(&output.stdout))
    }

    /// The same with `--json`: one value, or one a line.
    pub fn json(&self, arguments: &[&str]) -> Result<Vec<serde_json::Value>> {
        let output = self.command(&[arguments, &["--json"]].concat())?;
        let values = serde_json::Deserializer::from_str(&output).into_iter();
        values.collect::<Result<_, _>>().with_context(|| format!("not JSON: {output}"))
    }

    /// Plays [from, to) of a camera of `owner` into a file, whole or not at all.
    pub fn play(
        &self,
        owner: &Town,
        camera: &str,
        from_us: i64,
        to_us: i64,
        case: &str,
        file: &Path,
    ) -> Result<String> {
        let organisation = owner.addresses()?.organisation_id;
        let (from, to, file) = (rfc3339(from_us), rfc3339(to_us), file.to_string_lossy());
        let whose = ["play", "--organisation", &organisation, "--camera", camera, "--from", &from, "--to", &to];
        let why = ["--purpose", "urban-security", "--case", case, "--out", &file, "--complete"];
        self.command(&[&whose[..], &why[..]].concat())
    }

    /// Makes the boxes, enrols each with a token of its own, and starts them.
    pub fn start_boxes(&mut self, simcam: Option<&Simcam>) -> Result<()> {
        for plan in self.plan.boxes.clone() {
            let mut edge =
                EdgeBox::prepare(plan, self.folder.join("boxes").join(self.boxes.len().to_string()), simcam)?;
            edge.enrol(&self.token(&edge.plan.name)?)?;
            edge.start()?;
            self.boxes.push(edge);
        }
        Ok(())
    }

    /// A one-time enrolment token.
    pub fn token(&self, box_name: &str) -> Result<String> {
        self.command(&["edges", "token", "--name", box_name])
    }

    /// Ends boxes first, then the hub.
    pub fn end(&mut self) -> Result<()> {
        for edge in &mut self.boxes {
            edge.end()?;
        }
        if let Some(mut hub) = self.hub.take() {
            hub.end()?;
        }
        Ok(())
    }
}
