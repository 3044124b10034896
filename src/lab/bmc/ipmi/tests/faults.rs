//! What goes wrong: passwords, suites, privileges, lies, lost answers, dropped sessions, other endpoints.

use super::*;
use crate::{
    bmc::ipmi::{
        Suite,
        message::Message,
        rakp::{OpenRequest, OpenResponse, Privilege},
        rmcp::{self, Packet, Payload},
        status::Status,
    },
    lab::bmc::{certificate, serve as serve_redfish},
    model::{
        failure::Cause,
        power::{BootOverride, BootTarget, OverrideFor, PowerAction, PowerState},
    },
};

#[tokio::test]
async fn a_wrong_password_is_tried_once_and_with_one_suite() {
    let bench = bench(None).await;
    let failure = bench.open(&passwords("wrong")).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Unauthorized);
    assert!(failure.why.contains("user `root`") && failure.why.contains("not tried again"), "{failure}");
    for _ in 0..100 {
        if bench.service.wrong_passwords() > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(bench.service.wrong_passwords(), 1, "told once, with suite 17 alone");
    let mut nobody = Passwords::new();
    nobody.insert("lab", "nobody", Arc::new(Secret::new(PASSWORD.into())));
    let failure = bench.open(&nobody).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Unauthorized);
    assert!(failure.why.contains("unauthorized name"), "{failure}");
    assert_eq!(bench.service.open_sessions(), 0);
}

#[tokio::test]
async fn what_ipmi_cannot_carry_is_refused_and_nothing_is_sent() {
    let mut bench = bench(None).await;
    // Nobody listens there: a packet would be answered by "unreachable", not by a guard.
    bench.node.bmc.as_mut().unwrap().endpoints = vec![endpoint("127.0.0.1:9".parse().unwrap())];
    let failure = bench.open(&passwords(&"p".repeat(200))).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Guard);
    assert!(failure.why.contains("20 bytes"), "{failure}");
    let mut long = Passwords::new();
    long.insert("lab", "a-user-of-17-byte", Arc::new(Secret::new(PASSWORD.into())));
    assert!(bench.open(&long).await.unwrap_err().why.contains("16 bytes"));
    let nobody = bench.open(&passwords(PASSWORD)).await.unwrap_err();
    assert_eq!(nobody.cause, Cause::Unreachable);
    assert!(nobody.why.contains("nothing listens"), "{nobody}");
}

// fault: F18 harness: P
#[tokio::test]
async fn suite_17_first_then_3_and_never_0() {
    let bench = bench(None).await;
    bench.lie(&["ipmi-no-suite-17"]);
    let client = bench.client().await;
    assert_eq!(client.ipmi("x").unwrap().session().await.map(|s| s.0), Some(Suite::Three));
    assert_eq!(client.power().await.unwrap(), PowerState::Off);
    client.close().await.unwrap();
    // A BMC that would grant suite 0 is asked for 17 and 3, and left.
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = socket.local_addr().unwrap();
    let weak = tokio::spawn(async move { weak_bmc(socket, Status::NO_CIPHER_SUITE, 2).await });
    let mut node = bench.node.clone();
    node.bmc.as_mut().unwrap().endpoints = vec![endpoint(at)];
    let failure = Client::open(&node, &passwords(PASSWORD), bench.options()).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Refused);
    assert!(failure.why.contains("neither cipher suite 17 nor 3"), "{failure}");
    assert_eq!(weak.await.unwrap(), [(3, 4, 1), (1, 1, 1)]);
}

/// Answers so many Open Sessions with this status; says which algorithms it was asked for.
async fn weak_bmc(socket: tokio::net::UdpSocket, status: Status, times: usize) -> Vec<(u8, u8, u8)> {
    let (mut asked, mut buffer) = (Vec::new(), [0; 512]);
    while asked.len() < times {
        let (count, from) = socket.recv_from(&mut buffer).await.unwrap();
        let reply = match rmcp::parse(&buffer[..count]).unwrap() {
            Packet::Bare(message) => {
                let request = Message::decode(message).unwrap();
                rmcp::bare(&request.answer(0, &[1, 0x80, 4, 2, 0, 0, 0, 0]).encode())
            }
            Packet::Plus(plus) => {
                let request = OpenRequest::decode(plus.payload).unwrap();
                let a = request.algorithms;
                asked.push((a.authentication, a.integrity, a.confidentiality));
                let console_session = request.console_session;
                let response = OpenResponse { tag: request.tag, status, privilege: 0, console_session, granted: None };
                rmcp::open(Payload::OpenResponse, &response.encode())
            }
            other => panic!("{other:?}"),
        };
        socket.send_to(&reply, from).await.unwrap();
    }
    asked
}

#[tokio::test]
async fn where_the_handshake_fails_oddly_ipmitool_is_tried_and_both_reasons_are_shown() {
    let bench = bench(None).await;
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = socket.local_addr().unwrap();
    let odd = tokio::spawn(async move { weak_bmc(socket, Status::ILLEGAL_PARAMETER, 100).await });
    let mut node = bench.node.clone();
    node.bmc.as_mut().unwrap().endpoints = vec![endpoint(at)];
    let failure = Client::open(&node, &passwords(PASSWORD), bench.options()).await.unwrap_err();
    assert!(failure.why.contains("Open Session was refused (RMCP+ status 0x12"), "{failure}");
    assert!(failure.why.contains("; and by ipmitool: "), "{failure}");
    odd.abort();
}

#[tokio::test]
async fn operator_where_administrator_is_refused() {
    let bench = bench(None).await;
    bench.lie(&["ipmi-privilege=operator"]);
    let client = bench.client().await;
    assert_eq!(client.ipmi("x").unwrap().session().await.map(|s| s.1), Some(Privilege::Operator));
    client.set_power(true, false, Duration::from_secs(10)).await.unwrap();
    client.close().await.unwrap();
    assert_eq!(bench.service.wrong_passwords(), 0);
}

#[tokio::test]
async fn boot_flags_that_are_ignored_are_found_by_reading_back() {
    let bench = bench(None).await;
    bench.lie(&["ipmi-no-parameter-3"]);
    let want = BootOverride { target: BootTarget::Pxe, lasts: OverrideFor::Once, mode: None };
    let client = bench.client().await;
    client.set_boot(want).await.unwrap();
    client.set_boot(BootOverride::CLEARED).await.unwrap();
    bench.lie(&["ignore-boot-override"]);
    let failure = client.set_boot(want).await.unwrap_err();
    assert_eq!(failure.cause, Cause::AcceptedButIgnored);
    assert!(failure.why.contains("sent flags 8004000000") && failure.why.contains("no override"), "{failure}");
    let http = client.set_boot(BootOverride { target: BootTarget::Http, ..want }).await.unwrap_err();
    assert_eq!(http.cause, Cause::Refused);
    client.close().await.unwrap();
}

#[tokio::test]
async fn a_lost_answer_to_a_reset_is_not_sent_again() {
    let bench = bench(None).await;
    let client = bench.client().await;
    client.set_power(true, false, Duration::from_secs(10)).await.unwrap();
    bench.lie(&["lose-reset-answer"]);
    let failure = client.reset(PowerAction::PowerCycle).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Unreachable, "{failure}");
    let cycles = bench.service.bmc().writes().iter().filter(|l| l.path == "ipmi 0x00 0x02 02").count();
    assert_eq!(cycles, 1);
    assert_eq!(client.power().await.unwrap(), PowerState::On);
    client.close().await.unwrap();
}

#[tokio::test]
async fn a_dropped_session_is_opened_again_once() {
    let bench = bench(None).await;
    let client = bench.client().await;
    client.power().await.unwrap();
    bench.service.drop_sessions();
    assert_eq!(client.power().await.unwrap(), PowerState::Off, "a new session, and the question again");
    assert_eq!(bench.service.open_sessions(), 1);
    client.close().await.unwrap();
    assert_eq!(bench.service.open_sessions(), 0);
}

#[tokio::test]
async fn a_client_that_is_cut_off_says_farewell() {
    let bench = bench(None).await;
    let client = bench.client().await;
    assert_eq!(bench.service.open_sessions(), 1);
    drop(client);
    for _ in 0..100 {
        if bench.service.open_sessions() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the session is still open");
}

#[tokio::test]
async fn endpoints_are_tried_in_order_and_the_reason_is_kept() {
    let bench = bench(None).await;
    let mut node = bench.node.clone();
    let redfish = |url: &str, trust| Endpoint { at: EndpointAt::Redfish(url.into()), credential: "lab".into(), trust };
    let pin = || Trust::Pin(format!("sha256:{}", "0".repeat(64)));
    node.bmc.as_mut().unwrap().endpoints.insert(0, redfish("https://127.0.0.1:9", pin()));
    let client = Client::open(&node, &passwords(PASSWORD), bench.options()).await.unwrap();
    assert!(client.endpoint().starts_with("ipmi://"));
    assert!(client.skipped()[0].starts_with("https://127.0.0.1:9: no connection"), "{:?}", client.skipped());
    client.close().await.unwrap();
    // A wrong key ends the search: IPMI could not tell who answers either.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let tls = certificate("bmc-n1", None).unwrap().server_config().unwrap();
    let task = tokio::spawn(serve_redfish(listener, tls, bench.service.bmc().clone(), std::future::pending()));
    node.bmc.as_mut().unwrap().endpoints[0] = redfish(&url, pin());
    let failure = Client::open(&node, &passwords(PASSWORD), bench.options()).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Untrusted, "{failure}");
    assert_eq!(bench.service.open_sessions(), 0);
    task.abort();
}

/// Redfish in front of the bench's BMC, under a credential of its own.
async fn beside(bench: &Bench, credential: &str) -> (Endpoint, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let certificate = certificate("bmc-n1", None).unwrap();
    let tls = certificate.server_config().unwrap();
    let task = tokio::spawn(serve_redfish(listener, tls, bench.service.bmc().clone(), std::future::pending()));
    let trust = Trust::Pin(certificate.pin);
    (Endpoint { at: EndpointAt::Redfish(url), credential: credential.into(), trust }, task)
}

#[tokio::test]
async fn an_endpoint_without_a_password_is_passed_over_and_told() {
    let bench = bench(None).await;
    let (redfish, task) = beside(&bench, "other").await;
    let mut node = bench.node.clone();
    node.bmc.as_mut().unwrap().endpoints.insert(0, redfish);
    // `bmc login` tries one credential of several: that the first has no password says nothing of the second.
    let client = Client::open(&node, &passwords(PASSWORD), bench.options()).await.unwrap();
    assert!(client.endpoint().starts_with("ipmi://"));
    assert!(
        client.skipped()[0].contains("the password of credential `other` was not loaded"),
        "{:?}",
        client.skipped()
    );
    client.close().await.unwrap();
    // Who was asked says more than who was not, and nothing of either is lost, in whatever order.
    let gone = |credential: &str| Endpoint {
        at: EndpointAt::Redfish("https://127.0.0.1:9".into()),
        credential: credential.into(),
        trust: Trust::Pin(format!("sha256:{}", "0".repeat(64))),
    };
    let mut lacking = endpoint(bench.at);
    lacking.credential = "other".into();
    for endpoints in [vec![gone("lab"), lacking.clone()], vec![lacking.clone(), gone("lab")]] {
        node.bmc.as_mut().unwrap().endpoints = endpoints;
        let failure = Client::open(&node, &passwords(PASSWORD), bench.options()).await.unwrap_err();
        assert_eq!(failure.cause, Cause::Unreachable, "{failure}");
        assert!(failure.why.contains("no connection") && failure.why.contains("`other` was not loaded"), "{failure}");
    }
    node.bmc.as_mut().unwrap().endpoints = vec![lacking];
    let failure = Client::open(&node, &passwords(PASSWORD), bench.options()).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Local, "{failure}");
    task.abort();
}

#[tokio::test]
async fn a_password_too_long_for_ipmi_goes_to_redfish() {
    let long = "a password of thirty-two letters";
    let bench = bench(None).await;
    let account = Account { user: "root".into(), password: Secret::new(long.into()) };
    let other = Bmc::new(FakeChassis::new(description()), account, quick());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let certificate = certificate("bmc-n1", None).unwrap();
    let tls = certificate.server_config().unwrap();
    let task = tokio::spawn(serve_redfish(listener, tls, other, std::future::pending()));
    let mut node = bench.node.clone();
    let trust = Trust::Pin(certificate.pin);
    let redfish = Endpoint { at: EndpointAt::Redfish(url), credential: "lab".into(), trust };
    node.bmc.as_mut().unwrap().endpoints.push(redfish);
    let client = Client::open(&node, &passwords(long), bench.options()).await.unwrap();
    assert!(client.endpoint().starts_with("https://"));
    assert!(client.skipped()[0].contains("more than 20 bytes"), "{:?}", client.skipped());
    client.close().await.unwrap();
    assert_eq!(bench.service.wrong_passwords(), 0, "nothing of it was sent over IPMI");
    task.abort();
}
