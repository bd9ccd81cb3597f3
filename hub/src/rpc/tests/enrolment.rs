use super::*;
use crate::fleet::authority;
use campanile_proto::signed;
use tonic::Code;

#[tokio::test]
async fn a_token_enrols_one_box_once() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let token = stand.token(Duration::from_secs(60)).await;
    let enrolled = TestBox::enrol(&stand, &secret(&token)).await.unwrap();
    assert_eq!(authority::subject(&enrolled.certificate).unwrap().0, enrolled.id);
    let keys = enrolled.response.keys.clone().unwrap();
    let organisation = signed::verifying_key(&enrolled.response.organisation_key).unwrap();
    signed::verify(signed::EDGE, "SealingKeys", &keys.payload, &keys.signature, &organisation).unwrap();

    let used = TestBox::enrol(&stand, &secret(&token)).await.err().unwrap();
    let wrong = TestBox::enrol(&stand, &"ab".repeat(32)).await.err().unwrap();
    let nonsense = TestBox::enrol(&stand, "hello").await.err().unwrap();
    let late = stand.token(Duration::from_secs(60)).await;
    stand.clock.advance_micros(61_000_000);
    let expired = TestBox::enrol(&stand, &secret(&late)).await.err().unwrap();
    for status in [&used, &wrong, &nonsense, &expired] {
        assert_eq!(status.code(), Code::PermissionDenied);
    }
    assert!(used.message().contains("used already"), "{used}");
    assert!(wrong.message().contains("not one of this hub"), "{wrong}");
    assert_eq!(wrong.message(), nonsense.message());
    assert!(expired.message().contains("expired"), "{expired}");
    let edges = stand.fleet.edges().await.unwrap();
    assert_eq!(edges.iter().map(|e| (e.id, e.site_name.as_str())).collect::<Vec<_>>(), [(enrolled.id, "Piazza")]);
    stand.close().await;
}

#[tokio::test]
async fn a_bad_request_costs_no_token() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let token = stand.token(Duration::from_secs(60)).await;
    let bad = EnrolRequest { token_secret: secret(&token), csr: b"rubbish".as_slice().into(), name: String::new() };
    let status = EdgeClient::new(stand.channel(None).await).enrol(bad).await.err().unwrap();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(TestBox::enrol(&stand, &secret(&token)).await.is_ok());
    stand.close().await;
}

#[tokio::test]
async fn a_lost_answer_costs_no_second_token() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let token = secret(&stand.token(Duration::from_secs(60)).await);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let enrol = |key: &KeyPair| {
        let request = EnrolRequest { token_secret: token.clone(), csr: csr(key), name: "palo".to_owned() };
        let channel = stand.channel(None);
        async move { EdgeClient::new(channel.await).enrol(request).await.map(tonic::Response::into_inner) }
    };
    let (first, again) = (enrol(&key).await.unwrap(), enrol(&key).await.unwrap());
    assert_eq!((first.edge_id, 1), (again.edge_id, stand.fleet.edges().await.unwrap().len()));
    let other = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    assert!(enrol(&other).await.err().unwrap().message().contains("used already"));
    stand.close().await;
}

#[tokio::test]
async fn a_stranger_sends_no_more_than_a_request_weighs() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let mut client = EdgeClient::new(stand.channel(None).await);
    for (bytes, refused_as) in [(60 << 10, Code::PermissionDenied), (70 << 10, Code::OutOfRange)] {
        let request = EnrolRequest { name: "x".repeat(bytes), ..EnrolRequest::default() };
        assert_eq!(client.enrol(request).await.err().unwrap().code(), refused_as, "{bytes}");
    }
    stand.close().await;
}

#[tokio::test]
async fn a_crowd_of_strangers_does_not_cut_off_a_box() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let enrolled = stand.enrolled().await;
    let mut session = enrolled.session(&stand, enrolled.hello(1, 0)).await.unwrap();
    let mut crowd = Vec::new();
    // Each holds its place once it has been answered.
    let refused = loop {
        let Ok(channel) = stand.connect(None).await else { break true };
        let mut client = EdgeClient::new(channel);
        match client.renew(RenewRequest::default()).await.err().map(|status| status.code()) {
            Some(Code::Unauthenticated) if crowd.len() <= crate::rpc::places::STRANGERS => crowd.push(client),
            code => break code != Some(Code::Unauthenticated),
        }
    };
    assert!(refused, "{} strangers were let in", crowd.len());
    session.welcome().await;
    stand.close().await;
}

#[tokio::test]
async fn an_expired_certificate_may_renew_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::open(dir.path()).await;
    let mut enrolled = stand.enrolled().await;
    assert!(enrolled.session(&stand, enrolled.hello(1, 0)).await.is_ok());
    stand.clock.advance_micros(3 * 365 * 86_400 * 1_000_000);
    let status = enrolled.session(&stand, enrolled.hello(1, 0)).await.err().unwrap();
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    let nothing = tokio_stream::empty::<campanile_proto::edge::v1::DeliverUp>();
    let status = enrolled.client(&stand).await.deliver(nothing).await.err().unwrap();
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    enrolled.renew(&stand).await.unwrap();
    let mut session = enrolled.session(&stand, enrolled.hello(1, 0)).await.unwrap();
    session.welcome().await;
    // The control: with one that holds it gets in.
    assert!(enrolled.client(&stand).await.deliver(tokio_stream::empty()).await.is_ok());
    stand.close().await;
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_nobody() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let stand = Stand::open(dir.path()).await;
    let mut stranger = stand.enrolled().await;
    let identity = Identity::open(other.path(), "Comune di Prova", "").unwrap();
    let forger = Authority::open(other.path(), &identity, stand.clock.utc()).unwrap();
    let forged =
        forger.issue(stranger.id, &authority::Request::read(&csr(&stranger.key)).unwrap(), stand.clock.utc()).unwrap();
    stranger.certificate = forged.to_vec();
    // TLS 1.3 tells the client only with its first read; either way no session opens.
    let certificate = pem("CERTIFICATE", &stranger.certificate);
    let shown = tonic::transport::Identity::from_pem(certificate, stranger.key.serialize_pem());
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(pem("CERTIFICATE", stand.authority.certificate())))
        .domain_name(authority::SERVER_NAME)
        .identity(shown);
    let endpoint = Endpoint::from_shared(format!("https://{}", stand.address)).unwrap().tls_config(tls).unwrap();
    if let Ok(channel) = endpoint.connect().await {
        assert!(EdgeClient::new(channel).renew(RenewRequest { csr: csr(&stranger.key) }).await.is_err());
    }
    let unnamed = EdgeClient::new(stand.channel(None).await).renew(RenewRequest { csr: csr(&stranger.key) }).await;
    assert_eq!(unnamed.err().unwrap().code(), Code::Unauthenticated);
    stand.close().await;
}
