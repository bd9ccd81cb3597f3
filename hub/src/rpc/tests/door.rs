//! Every method of the Edge service passes the door.

use super::*;
use crate::access::{Action, METHODS};
use campanile_proto::edge::v1::{DeliverUp, deliver_up};
use campanile_proto::types::v1::{Act, Phase};
use tonic::Code;

const SERVICE: &str = "/campanile.edge.v1.Edge/";

/// Calls one method as a box that has everything it needs.
async fn call(stand: &Stand, method: &str, known: &TestBox, token: &str) -> Result<(), Status> {
    match method {
        "Enrol" => TestBox::enrol(stand, &secret(token)).await.map(drop),
        "Renew" => known.clone().renew(stand).await,
        "Session" => known.session(stand, known.hello(1, 0)).await.map(drop),
        "Deliver" => {
            let up = tokio_stream::iter([DeliverUp { message: None::<deliver_up::Message> }]);
            known.client(stand).await.deliver(up).await.map(drop)
        }
        other => panic!("call {other} here"),
    }
}

#[tokio::test]
async fn every_method_is_refused_by_a_shut_door_and_leaves_nothing_but_its_entry() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let known = stand.enrolled().await;
    let token = stand.token(Duration::from_secs(60)).await;
    let methods: Vec<(&str, Action)> =
        METHODS.iter().filter_map(|(path, action)| Some((path.strip_prefix(SERVICE)?, *action))).collect();
    assert_eq!(methods.len(), 4);
    let size = stand.register.root().await.unwrap().size;
    stand.shutter.shut();
    for (method, action) in &methods {
        let refused = call(&stand, method, &known, &token).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::PermissionDenied, "the door is shut"), "{method}");
        assert_eq!(stand.shutter.asked(), [*action], "{method}");
    }
    assert!(call(&stand, "Session", &known, &token).await.is_err());
    let leaves = stand.register.page(size, 100).await.unwrap();
    let leaves: Vec<_> = leaves.iter().map(|entry| (entry.leaf.act(), entry.leaf.phase())).collect();
    // A stranger with a token leaves none, and a box that tries again no second one.
    assert_eq!(leaves, [(Act::ConnectEdge, Phase::Refused); 3]);
    let edges = stand.fleet.edges().await.unwrap();
    assert_eq!(edges.iter().map(|edge| (edge.id, edge.connected)).collect::<Vec<_>>(), [(known.id, false)]);

    stand.shutter.open();
    for (method, action) in &methods {
        call(&stand, method, &known, &token).await.unwrap_or_else(|status| panic!("{method}: {status}"));
        assert_eq!(stand.shutter.asked(), [*action], "the control: {method} goes through an open door");
    }
    assert_eq!(stand.fleet.edges().await.unwrap().len(), 2, "the token was still good");
    stand.close().await;
}
