//! One store of accounts for Redfish and IPMI.

use super::*;
use crate::{
    lab::bmc::{certificate, serve as serve_redfish},
    model::failure::Cause,
};

const NEW: &str = "battery staple 7";

/// The same BMC over Redfish.
async fn redfish(bench: &Bench) -> fleet::Node {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let certificate = certificate("bmc-n1", None).unwrap();
    let tls = certificate.server_config().unwrap();
    tokio::spawn(serve_redfish(listener, tls, bench.service.bmc().clone(), std::future::pending()));
    node("n1", url, Trust::Pin(certificate.pin))
}

async fn enters(bench: &Bench, node: &fleet::Node, password: &str) -> Result<(), Cause> {
    match Client::open(node, &passwords(password), bench.options()).await {
        Ok(client) => {
            client.close().await.unwrap();
            Ok(())
        }
        Err(failure) => Err(failure.cause),
    }
}

#[tokio::test]
async fn a_password_that_is_changed_here_is_changed_there() {
    let bench = bench(None).await;
    let redfish = redfish(&bench).await;
    let client = Client::open(&redfish, &passwords(PASSWORD), bench.options()).await.unwrap();
    client.redfish("users").unwrap().set_password("root", &Secret::new(NEW.into())).await.unwrap();
    client.close().await.unwrap();
    assert_eq!(enters(&bench, &bench.node, PASSWORD).await, Err(Cause::Unauthorized));
    assert_eq!(enters(&bench, &bench.node, NEW).await, Ok(()));
    // And the other way.
    let client = bench.open(&passwords(NEW)).await.unwrap();
    client.ipmi("users").unwrap().set_password(2, &Secret::new(PASSWORD.into())).await.unwrap();
    client.close().await.unwrap();
    assert_eq!(enters(&bench, &redfish, NEW).await, Err(Cause::Unauthorized));
    assert_eq!(enters(&bench, &redfish, PASSWORD).await, Ok(()));
}

#[tokio::test]
async fn a_user_that_is_made_here_is_there() {
    let bench = bench(None).await;
    let redfish = redfish(&bench).await;
    let client = bench.client().await;
    let ipmi = client.ipmi("users").unwrap();
    ipmi.set_user_name(3, "ops").await.unwrap();
    ipmi.set_password(3, &Secret::new(NEW.into())).await.unwrap();
    ipmi.set_user_access(3, Some(crate::bmc::ipmi::rakp::Privilege::Operator), true).await.unwrap();
    let over_redfish = Client::open(&redfish, &passwords(PASSWORD), bench.options()).await.unwrap();
    let (users, _) = over_redfish.redfish("users").unwrap().accounts().await.unwrap();
    let shown: Vec<_> = users.iter().map(|u| (u.user.as_str(), u.role.as_deref(), u.enabled)).collect();
    assert_eq!(shown, [("root", Some("Administrator"), Some(true)), ("ops", Some("Operator"), Some(true))]);
    over_redfish.close().await.unwrap();
    // An empty name frees its place.
    ipmi.set_user_name(3, "").await.unwrap();
    assert_eq!(ipmi.users().await.unwrap().len(), 1);
    client.close().await.unwrap();
    assert!(bench.service.bmc().state().accounts.role("ops").is_none());
}

#[tokio::test]
async fn a_lock_holds_for_both() {
    let bench = bench(None).await;
    let redfish = redfish(&bench).await;
    bench.lie(&["account-lockout=2/30s"]);
    for _ in 0..2 {
        assert_eq!(enters(&bench, &bench.node, "wrong").await, Err(Cause::Unauthorized));
    }
    for _ in 0..100 {
        if !bench.service.bmc().locked_accounts().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(bench.service.bmc().locked_accounts(), ["root"]);
    assert_eq!(enters(&bench, &redfish, PASSWORD).await, Err(Cause::Unauthorized));
    assert_eq!(enters(&bench, &bench.node, PASSWORD).await, Err(Cause::Unauthorized));
}

#[tokio::test]
async fn a_password_that_ipmi_cannot_carry_is_no_account_of_ipmi() {
    let bench = bench(None).await;
    let mut state = bench.service.bmc().state();
    state.add_account("long".into(), Secret::new("p".repeat(21)), "Operator");
    state.add_account("short".into(), Secret::new("p".repeat(20)), "Operator");
    drop(state);
    assert!(bench.service.look_up(b"long").is_none() && bench.service.look_up(b"").is_none());
    assert!(bench.service.look_up(b"short").is_some() && bench.service.look_up(b"root").is_some());
}
