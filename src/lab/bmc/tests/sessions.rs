use super::*;
use crate::{
    bmc::tls::probe_pin,
    model::{
        failure::Cause,
        power::{BootOverride, OverrideFor, PowerAction, PowerState},
    },
};

// fault: F1 invariant: I10 I19 harness: P
#[tokio::test]
async fn one_session_told_to_the_ledger_and_deleted_on_close() {
    let bench = bench(quick()).await;
    let client = bench.client().await;
    client.facts().await.unwrap();
    client.power().await.unwrap();
    assert_eq!((bench.count("POST", "/Sessions"), bench.bmc.open_sessions()), (1, 1));
    client.close().await.unwrap();
    assert_eq!(bench.bmc.open_sessions(), 0);
    let told = bench.ledger.0.lock().unwrap().clone();
    assert_eq!(told, ["opening n1", "opened n1 /redfish/v1/SessionService/Sessions/1", "closed n1"]);
    let lines = bench.lines.lock().unwrap();
    assert_eq!(lines.len(), bench.bmc.log().0.len(), "the observer sees every request");
    assert!(lines.iter().all(|l| l.status.is_some() && !format!("{l:?}").contains(PASSWORD)));
}

// fault: F1 F52 invariant: I8 harness: P
#[tokio::test]
async fn leftovers_are_deleted_and_other_peoples_sessions_are_not() {
    let bench = bench(quick()).await;
    // Of a dead process, of one that lives, of a version without marks, of other people; two have none.
    for context in [
        Some(concat!("rackctl", " dead")),
        Some(concat!("rackctl", " alive")),
        Some("rackctl"),
        Some("someone else"),
        None,
        None,
    ] {
        let now = OffsetDateTime::now_utc();
        assert_eq!(bench.bmc.state().open_session(now, "root", context.map(str::to_owned)).status, 201);
    }
    let client = bench.client().await;
    let left = |mark: Option<&str>, uri: Option<&str>| {
        [Leftover { uri: uri.map(|u| format!("/redfish/v1/{u}")), mark: mark.map(str::to_owned) }]
    };
    let delete = async |left: [Leftover; 1]| client.delete_leftover_sessions(&left).await.unwrap();
    // Its answer was not seen: it is known by its context.
    assert_eq!(delete(left(Some("dead"), None)).await, 1);
    // An address that is somebody else's by now, or is no session, is not believed.
    assert_eq!(delete(left(Some("dead"), Some("SessionService/Sessions/2"))).await, 0);
    assert_eq!(delete(left(Some("dead"), Some("AccountService/Accounts/1"))).await, 0);
    // A BMC that keeps no context: by its address.
    assert_eq!(delete(left(Some("gone"), Some("SessionService/Sessions/5"))).await, 1);
    assert_eq!(delete(left(None, None)).await, 1);
    assert_eq!(bench.bmc.open_sessions(), 4, "of the live one, of other people, and our own");
    assert_eq!(client.power().await.unwrap(), PowerState::Off, "our own session lives");
    client.close().await.unwrap();
}

#[tokio::test]
async fn read_only_sends_no_write() {
    let bench = bench(quick()).await;
    let options = Options { read_only: true, ..bench.options() };
    let client = Client::open(&bench.node, &passwords(PASSWORD), options).await.unwrap();
    client.facts().await.unwrap();
    let once = BootOverride { target: BootTarget::Pxe, lasts: OverrideFor::Once, mode: None };
    for result in [
        client.set_boot(once).await,
        client.reset(PowerAction::On).await,
        client.set_power(true, true, Duration::from_secs(3)).await,
    ] {
        assert_eq!(result.unwrap_err().cause, Cause::Guard);
    }
    client.close().await.unwrap();
    assert_eq!(bench.bmc.writes(), []);
    assert_eq!(bench.bmc.open_sessions(), 0, "log-out is allowed");
    let (log, dropped) = bench.bmc.log();
    assert!(log.len() > 5 && dropped == 0);
}

// fault: F14 invariant: I18 harness: P
#[tokio::test]
async fn a_wrong_password_is_tried_once() {
    let bench = bench(quick()).await;
    let failure = Client::open(&bench.node, &passwords("wrong"), bench.options()).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Unauthorized);
    assert!(failure.why.contains("not tried again") && !failure.to_string().contains("wrong\""), "{failure}");
    assert_eq!(bench.count("POST", "/Sessions"), 1);
    let basic = super::bench(with(&["no-sessions"])).await;
    let failure = Client::open(&basic.node, &passwords("wrong"), basic.options()).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Unauthorized);
    assert_eq!(basic.bmc.log().0.iter().filter(|l| l.status == 401).count(), 1);
}

// fault: F1 harness: P
#[tokio::test]
async fn basic_auth_where_there_are_no_sessions_or_none_free() {
    let bench = bench(with(&["no-sessions"])).await;
    let client = bench.client().await;
    assert_eq!(client.power().await.unwrap(), PowerState::Off);
    assert_eq!(client.session_uri(), None);
    client.close().await.unwrap();
    let full = super::bench(quick()).await;
    while full.bmc.state().open_session(OffsetDateTime::now_utc(), "root", None).status == 201 {}
    let client = full.client().await;
    assert_eq!(client.power().await.unwrap(), PowerState::Off);
    client.close().await.unwrap();
    let last = full.ledger.0.lock().unwrap().last().cloned();
    assert_eq!(last.as_deref(), Some("closed n1"));
}

// fault: F12 harness: P
#[tokio::test]
async fn a_session_that_ended_is_opened_again_once() {
    let bench = bench(quick()).await;
    let client = bench.client().await;
    client.power().await.unwrap();
    bench.bmc.drop_sessions();
    assert_eq!(client.power().await.unwrap(), PowerState::Off);
    assert_eq!(bench.count("POST", "/Sessions"), 2);
    bench.bmc.drop_sessions();
    // A whole walk after it: still one log-in.
    assert_eq!(client.facts().await.unwrap().drives.len(), 1);
    assert_eq!((bench.count("POST", "/Sessions"), bench.bmc.open_sessions()), (3, 1));
    client.close().await.unwrap();
    assert_eq!(bench.bmc.open_sessions(), 0);
}

// fault: F13 invariant: I17 harness: P
#[tokio::test]
async fn a_changed_key_stops_with_both_fingerprints_and_no_password_is_sent() {
    let mut bench = bench(quick()).await;
    let other = certificate("other", None).unwrap().pin;
    assert_eq!(probe_pin(&bench.url()).await.unwrap(), bench.pin);
    bench.trust(Trust::Pin(other.clone()));
    let failure = Client::open(&bench.node, &passwords(PASSWORD), bench.options()).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Untrusted);
    assert!(failure.why.contains(&other) && failure.why.contains(&bench.pin), "{failure}");
    assert_eq!(failure.next.as_deref(), Some("rackctl bmc trust n1"), "one paste must not pin what was just seen");
    bench.trust(Trust::None);
    let failure = Client::open(&bench.node, &passwords(PASSWORD), bench.options()).await.unwrap_err();
    assert_eq!((failure.cause, failure.next.as_deref()), (Cause::Untrusted, Some("rackctl bmc trust n1")));
    assert_eq!(bench.bmc.log().0, [], "nothing came through");
}

// invariant: I17 harness: P
#[tokio::test]
async fn a_ca_is_checked_with_name_and_issuer() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let account = Account { user: "root".into(), password: Secret::new(PASSWORD.into()) };
    let bmc = Bmc::new(FakeChassis::new(description()), account, quick());
    let good = certificate("bmc", Some([127, 0, 0, 1].into())).unwrap();
    let task = tokio::spawn(serve(listener, good.server_config().unwrap(), bmc.clone(), std::future::pending()));
    let folder = tempfile::tempdir().unwrap();
    let options = || Options {
        read_only: true,
        deadline: Duration::from_secs(5),
        ledger: Arc::new(crate::bmc::NoLedger),
        observer: None,
        gate: None,
    };
    for (name, pem, works) in
        [("own", &good.cert_pem, true), ("other", &certificate("x", None).unwrap().cert_pem, false)]
    {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        let opened = Client::open(&node("n1", url.clone(), Trust::Ca(path)), &passwords(PASSWORD), options()).await;
        match opened {
            Ok(client) => assert!(works && client.close().await.is_ok()),
            Err(failure) => {
                assert!(!works && failure.cause == Cause::Untrusted && failure.why.contains(&good.pin), "{failure}")
            }
        }
    }
    task.abort();
}

#[tokio::test]
async fn errors_of_the_service_itself() {
    let bench = bench(quick()).await;
    let config = crate::bmc::tls::config("n1", &Trust::Pin(bench.pin.clone())).unwrap().0;
    let http = reqwest::Client::builder().use_preconfigured_tls(config).build().unwrap();
    let url = |path: &str| format!("{}{path}", bench.url());
    let basic = |r: reqwest::RequestBuilder| r.basic_auth("root", Some(PASSWORD));
    let system = "/redfish/v1/Systems/1";
    let status = |r: reqwest::RequestBuilder| async { r.send().await.unwrap() };
    assert_eq!(status(http.get(url(system))).await.status(), 401);
    assert_eq!(status(basic(http.get(url("/redfish/v1/Systems/2")))).await.status(), 404);
    let not_allowed = status(basic(http.delete(url(system)))).await;
    assert_eq!(
        (not_allowed.status().as_u16(), not_allowed.headers()["allow"].to_str().unwrap()),
        (405, "GET, HEAD, PATCH")
    );
    let body = serde_json::json!({"Boot": {"BootSourceOverrideTarget": "Pxe", "BootSourceOverrideEnabled": "Once"}});
    let stale = status(basic(http.patch(url(system))).header("If-Match", "\"old\"").json(&body)).await;
    assert_eq!(stale.status(), 412);
    let text = stale.text().await.unwrap();
    assert!(text.contains("@Message.ExtendedInfo") && text.contains("PreconditionFailed"), "{text}");
    let etag = status(basic(http.get(url(system)))).await.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(status(basic(http.patch(url(system))).header("If-Match", etag).json(&body)).await.status(), 200);
    let wrong = serde_json::json!({"Boot": {"BootSourceOverrideTarget": "Tape"}});
    assert_eq!(status(basic(http.patch(url(system))).json(&wrong)).await.status(), 400);
    assert_eq!(status(http.get(url("/redfish/v1/"))).await.status(), 200);
    let head = status(basic(http.head(url(system)))).await;
    assert_eq!((head.status().as_u16(), head.headers().contains_key("etag")), (200, true));
    assert_eq!(head.text().await.unwrap(), "");
}
