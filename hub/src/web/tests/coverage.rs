//! Who asks when cameras recorded leaves an entry that says of which and when.

use super::*;
use campanile_proto::ids::CameraId;
use campanile_proto::time::kept_since;
use campanile_proto::types::v1::Act;

async fn get(stand: &Stand, query: &str) -> (u16, Value) {
    let uri = format!("/api/v1/coverage{query}");
    read(ask(&stand.router(), LOCAL, &Method::GET, &uri, None).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_for_coverage_leaves_an_entry_with_camera_and_interval() {
    let stand = Stand::open().await;
    let (size, camera) = (stand.size().await, CameraId::from_u128(7));
    let (status, answer) = get(&stand, "?from=2000-01-01T00:00:00Z").await;
    assert_eq!((status, &answer["cameras"]), (200, &Value::Array(Vec::new())));
    let (status, answer) = get(&stand, &format!("?camera={camera}")).await;
    assert_eq!((status, answer["code"].as_str()), (404, Some("NOT_FOUND")), "no camera of that id was ever reported");
    let leaves = stand.leaves(size).await;
    let acts: Vec<_> = leaves.iter().map(|leaf| (leaf.act(), leaf.phase())).collect();
    let once = [(Act::View, Phase::Opened), (Act::View, Phase::Closed)];
    assert_eq!(acts, [once, once].concat());
    let asked = &leaves[0];
    let oldest = kept_since(stand.clock.utc(), 7);
    assert_eq!((asked.from_us, asked.to_us), (oldest.0, stand.clock.utc().0), "only what is kept is asked about");
    assert_eq!(leaves[2].camera_ids, [bytes::Bytes::from(camera)]);

    let (status, answer) = get(&stand, "?from=2999-01-01T00:00:00Z").await;
    assert_eq!((status, answer["code"].as_str()), (400, Some("BAD_INTERVAL")));
}
