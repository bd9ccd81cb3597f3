//! Every command there is passes the door.

use super::*;
use crate::access::Action;
use crate::web::client::{self, ClientError, Command};
use crate::web::listen;
use clap::{Parser, Subcommand};
use std::collections::BTreeSet;
use tokio_util::sync::CancellationToken;

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

/// A command line for every command, and what it must ask the door for.
const EXAMPLES: &[(&str, &str, Action)] = &[
    ("search", "--from -1h --purpose urban-security --case 1 --json", Action::Search),
    (
        "play",
        "--camera 00000000-0000-0000-0000-000000000007 --from -1h --to now --out FILE --purpose urban-security --case 1",
        Action::Playback,
    ),
    ("cameras", "", Action::ListCameras),
    (
        "cameras move",
        "00000000-0000-0000-0000-000000000007 --to 00000000-0000-0000-0000-000000000008",
        Action::Administer,
    ),
    ("cameras mask", "00000000-0000-0000-0000-000000000007 --act 1/2026 --author Anna", Action::Administer),
    ("cameras unmask", "00000000-0000-0000-0000-000000000007", Action::Administer),
    ("coverage", "--from -1d --camera 00000000-0000-0000-0000-000000000007", Action::ViewCoverage),
    ("clock show", "", Action::Status),
    ("clock confirm", "2026-03-01T14:30:00Z", Action::Administer),
    ("edges list", "", Action::ViewEdges),
    ("edges token", "--name Piazza", Action::IssueToken),
    ("edges revoke", "00000000-0000-0000-0000-000000000007", Action::RevokeEdge),
    ("edges release", "00000000-0000-0000-0000-000000000007", Action::ReleaseEdge),
    ("holds list", "", Action::ViewHolds),
    ("holds show", "00000000-0000-0000-0000-000000000007", Action::ViewHolds),
    (
        "holds place",
        "--act 1/2026 --author Anna --approver Bruno --reason decreto --camera 00000000-0000-0000-0000-000000000007 \
         --from -1h --to now --until 2100-01-01T00:00:00Z",
        Action::PlaceHold,
    ),
    ("holds release", "00000000-0000-0000-0000-000000000007 --by Anna --reason fine", Action::ReleaseHold),
    (
        "holds export",
        "00000000-0000-0000-0000-000000000007 --output FOLDER --purpose judicial-police --case 1",
        Action::ViewHolds,
    ),
    ("unseal", "SEGMENT --output FOLDER --purpose judicial-police --case 1", Action::Unseal),
    ("partners list", "", Action::ViewAgreements),
    ("partners add", "127.0.0.1:1 --fingerprint 00", Action::ManageAgreements),
    ("agreements list", "", Action::ViewAgreements),
    ("agreements show", "00000000-0000-0000-0000-000000000007", Action::ViewAgreements),
    (
        "agreements propose",
        "--partner 00000000-0000-0000-0000-000000000007 --title P --rights search --purposes urban-security",
        Action::ManageAgreements,
    ),
    ("agreements sign", "00000000-0000-0000-0000-000000000007", Action::ManageAgreements),
    ("agreements confirm", "00000000-0000-0000-0000-000000000007", Action::ManageAgreements),
    ("agreements revoke", "00000000-0000-0000-0000-000000000007 --reason basta", Action::ManageAgreements),
    ("register list", "", Action::ReadRegister),
    ("register verify", "", Action::ReadRegister),
    ("register checkpoint", "", Action::ReadRegister),
    ("people list", "", Action::ManagePeople),
    ("people add", "anna", Action::ManagePeople),
    ("people password", "", Action::ManagePeople),
    ("status", "", Action::Status),
];

/// The names of all commands that do something by themselves.
fn leaves(command: &clap::Command, above: &str, found: &mut BTreeSet<String>) {
    for below in command.get_subcommands() {
        let name = format!("{above} {}", below.get_name()).trim().to_owned();
        leaves(below, &name, found);
        if !below.is_subcommand_required_set() {
            found.insert(name);
        }
    }
}

pub(super) async fn run(stand: &Stand, name: &str, rest: &str) -> Result<(), ClientError> {
    let (socket, out) = (stand.path("admin.sock"), stand.path("out.mp4"));
    let rest = rest.replace("FILE", &out.to_string_lossy());
    let rest = rest.replace("FOLDER", &stand.path("export").to_string_lossy());
    let rest = rest.replace("SEGMENT", &stand.path("drawer.seg").to_string_lossy());
    let line = format!("campanile-hub {name} --socket {} {rest}", socket.display());
    client::run(Line::parse_from(line.split_whitespace()).command).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_is_refused_by_a_shut_door_and_leaves_nothing_but_its_entry() {
    let mut there = BTreeSet::new();
    leaves(&Command::augment_subcommands(clap::Command::new("campanile-hub")), "", &mut there);
    let examples: BTreeSet<String> = EXAMPLES.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(there, examples, "every command has its example");

    let stand = Stand::open().await;
    let stop = CancellationToken::new();
    let socket = listen::bind_administration(&stand.path("admin.sock")).unwrap();
    let serving = tokio::spawn(listen::administrators(socket, stand.router(), stop.clone()));
    std::fs::write(stand.path("drawer.seg"), unsealings::sealed(&stand).0).unwrap();
    stand.shutter.shut();
    for (name, rest, action) in EXAMPLES {
        let (before, size) = (stand.traces(), stand.size().await);
        let refused = run(&stand, name, rest).await;
        assert!(
            matches!(&refused, Err(ClientError::Hub { status: 403, code, .. }) if code == Shutter::CODE),
            "{name}: {refused:?}"
        );
        assert_eq!(stand.shutter.asked(), [*action], "{name}");
        let entries = stand.leaves(size).await;
        assert_eq!(refusals(&entries).len(), 1, "{name}");
        assert_eq!((entries.len(), stand.traces()), (1, before), "{name}");
        assert!(!stand.path("out.mp4").exists(), "{name}");
    }
    stand.shutter.open();
    let before = stand.traces();
    run(&stand, "people add", "anna").await.unwrap();
    assert_ne!(stand.traces(), before, "the control: through an open door a command does something");
    stop.cancel();
    serving.await.unwrap();
}
