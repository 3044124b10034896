//! A fleet's password: one machine of the group first, no session left, and one request where one does.

use super::*;
use crate::{
    bmc::client::glance,
    model::{Failure, failure::Cause, power::PowerState},
};

const FLEET: usize = 12;

async fn fleet(nature: impl Fn() -> Faults) -> Vec<Bench> {
    let mut fleet = Vec::new();
    for n in 0..FLEET {
        let mut one = bench(nature()).await;
        one.node.name = format!("n{n}");
        one.node.bmc.as_mut().unwrap().system = Some("1".into());
        fleet.push(one);
    }
    fleet
}

async fn over<T>(fleet: &[Bench], look: impl AsyncFn(&Bench) -> Result<T, Failure>) -> Vec<Result<T, Failure>> {
    let look = &look;
    futures_util::future::join_all(fleet.iter().map(|bench| async move { look(bench).await })).await
}

/// Log-ins that were refused, over all BMCs.
fn refused(fleet: &[Bench]) -> usize {
    fleet.iter().flat_map(|b| b.bmc.log().0).filter(|l| l.status == 401).count()
}

#[tokio::test]
async fn a_wrong_password_reaches_one_bmc_of_a_fleet() {
    for sessions in [true, false] {
        let fleet = fleet(|| if sessions { quick() } else { with(&["no-sessions"]) }).await;
        let wrong = passwords("wrong");
        let results = over(&fleet, async |b| Client::open(&b.node, &wrong, b.options()).await).await;
        assert_eq!(refused(&fleet), 1, "sessions: {sessions}");
        let told: Vec<_> = results.into_iter().map(|r| r.unwrap_err()).collect();
        assert!(told.iter().all(|f| f.cause == Cause::Unauthorized));
        assert_eq!(told.iter().filter(|f| f.why.contains("not tried here")).count(), FLEET - 1, "{told:?}");
        // And never again by the same process.
        let again = over(&fleet, async |b| glance(&b.node, &wrong, &b.options()).await).await;
        assert!(again.iter().all(Result::is_err) && refused(&fleet) == 1);
        let fresh = passwords("also wrong");
        assert!(over(&fleet, async |b| glance(&b.node, &fresh, &b.options()).await).await.iter().all(Result::is_err));
        assert_eq!(refused(&fleet), 2, "a glance tries it at one machine too");
    }
}

#[tokio::test]
async fn a_glance_asks_each_bmc_once_and_leaves_no_session() {
    let fleet = fleet(quick).await;
    let right = passwords(PASSWORD);
    let look = async |b: &Bench| glance(&b.node, &right, &b.options()).await;
    for result in over(&fleet, look).await {
        assert_eq!(result.unwrap(), Some(PowerState::Off));
    }
    let asked = |fleet: &[Bench]| fleet.iter().map(|b| b.bmc.log().0.len()).sum::<usize>();
    // One log-in tells that the password is right: root, log-in, system, log-out. The others: root and system.
    assert_eq!(asked(&fleet), 4 + 2 * (FLEET - 1));
    assert_eq!(fleet.iter().map(|b| b.bmc.open_sessions()).sum::<usize>(), 0);
    let first = asked(&fleet);
    over(&fleet, look).await.into_iter().for_each(|r| assert!(r.is_ok()));
    assert_eq!(asked(&fleet) - first, FLEET, "once it is known: one request");
    let ledgers: Vec<_> = fleet.iter().flat_map(|b| b.ledger.0.lock().unwrap().clone()).collect();
    assert_eq!(ledgers.len(), 3, "opening, opened, closed: {ledgers:?}");
}

/// What a glance cannot tell is left to a log-in, never guessed.
#[tokio::test]
async fn a_glance_says_when_it_cannot_tell() {
    let mut one = bench(quick()).await;
    let right = passwords(PASSWORD);
    assert_eq!(glance(&one.node, &right, &one.options()).await.unwrap(), None, "no system is named");
    one.node.bmc.as_mut().unwrap().system = Some("2".into());
    assert_eq!(glance(&one.node, &right, &one.options()).await.unwrap(), None, "there is no such system");
    one.node.bmc.as_mut().unwrap().system = Some("1".into());
    assert_eq!(glance(&one.node, &right, &one.options()).await.unwrap(), Some(PowerState::Off));
    one.node.bmc.as_mut().unwrap().endpoints[0].at = EndpointAt::Ipmi("127.0.0.1:623".into());
    assert_eq!(glance(&one.node, &right, &one.options()).await.unwrap(), None, "not over IPMI");
}

/// A locked account is one machine's own matter: of a hundred, ninety-nine go on.
#[tokio::test]
async fn a_locked_account_on_one_machine_keeps_no_other_from_being_asked() {
    let fleet = fleet(|| with(&["account-lockout=1/60s", "lockout-403"])).await;
    let somebody = passwords("somebody else's mistake");
    Client::open(&fleet[0].node, &somebody, fleet[0].options()).await.unwrap_err();
    let right = passwords(PASSWORD);
    let locked = Client::open(&fleet[0].node, &right, fleet[0].options()).await.unwrap_err();
    assert_eq!(locked.cause, Cause::Unauthorized, "it is never tried again by itself");
    assert!(locked.why.contains("turns user `root` away") && locked.why.contains("locked"), "{locked}");
    let others = over(&fleet[1..], async |b| Client::open(&b.node, &right, b.options()).await).await;
    for result in others {
        result.unwrap().close().await.unwrap();
    }
}

/// Locked everywhere, a few are asked and the rest are not: a BMC may say 403 of a wrong password.
#[tokio::test]
async fn an_account_that_is_locked_everywhere_is_not_tried_everywhere() {
    let fleet = fleet(|| with(&["account-lockout=1/60s", "lockout-403"])).await;
    for bench in &fleet {
        let somebody = passwords("somebody else's mistake");
        Client::open(&bench.node, &somebody, bench.options()).await.unwrap_err();
    }
    let right = passwords(PASSWORD);
    let results = over(&fleet, async |b| Client::open(&b.node, &right, b.options()).await).await;
    let told: Vec<_> = results.into_iter().map(|r| r.unwrap_err()).collect();
    let forbidden = fleet.iter().flat_map(|b| b.bmc.log().0).filter(|l| l.status == 403).count();
    assert_eq!(forbidden, 3);
    let kept: Vec<_> = told.iter().filter(|f| f.why.contains("was not tried here")).collect();
    assert_eq!(kept.len(), FLEET - 3);
    assert!(
        kept.iter().all(|f| f.why.contains("3 BMCs in a row") && f.why.contains("leave it out with '!n")),
        "{kept:?}"
    );
}
