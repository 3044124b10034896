//! ^C, SIGTERM and `--timeout` in the middle of a look.

use std::time::{Duration, Instant};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::fleet::{Fleet, PATIENCE};

/// Every answer waits so long: there is time to be interrupted in.
const SLOW: &str = "slow=1500ms";

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "it never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn pid(child: &tokio::process::Child) -> Pid {
    Pid::from_raw(child.id().unwrap().cast_signed())
}

/// Starts a look at a slow machine and ends it so long after its session came to be.
async fn interrupted(words: &[&str], signal: Signal, after: Duration) {
    let fleet = Fleet::of(&[&[SLOW]]).await;
    let child = fleet.command(words).spawn().unwrap();
    until("a log-in", || fleet.open_sessions() == 1).await;
    tokio::time::sleep(after).await;
    assert_eq!(fleet.open_sessions(), 1, "{words:?}: it has to be interrupted before its own end");
    kill(pid(&child), signal).unwrap();
    let sent = Instant::now();
    let (code, _, err) = fleet.said(words, child).await;
    assert_eq!(code, 130, "{words:?} {signal}: {err}");
    assert!(err.contains("interrupted"), "{words:?}: {err}");
    assert_eq!(fleet.open_sessions(), 0, "{words:?} {signal} after {after:?}: a session is left");
    // The rest of a log-in, and a log-out.
    assert!(sent.elapsed() < Duration::from_secs(12), "{words:?}: {:?}", sent.elapsed());
}

const LOOKS: [&[&str]; 10] = [
    &["power", "status", "n1"],
    &["boot", "show", "n1"],
    &["bmc", "info", "n1"],
    &["bmc", "sensors", "n1"],
    &["bmc", "bios", "n1"],
    &["inspect", "n1"],
    &["diff", "n1"],
    &["get", "nodes", "--refresh"],
    &["power", "on", "n1", "--dry-run"],
    &["boot", "set", "pxe", "n1", "--dry-run"],
];

/// The session is there and its answer is still on its way: nobody but the BMC knows its address then.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_is_ended_while_it_logs_in_leaves_no_session() {
    let ends = LOOKS.iter().enumerate().map(|(at, words)| {
        let signal = if at % 2 == 0 { Signal::SIGTERM } else { Signal::SIGINT };
        interrupted(words, signal, Duration::ZERO)
    });
    futures_util::future::join_all(ends).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_is_ended_while_it_asks_leaves_no_session() {
    let ends = LOOKS.iter().enumerate().map(|(at, words)| {
        let signal = if at % 2 == 0 { Signal::SIGINT } else { Signal::SIGTERM };
        interrupted(words, signal, Duration::from_millis(1_900))
    });
    futures_util::future::join_all(ends).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_by_then_is_shown_and_the_rest_is_told_once() {
    let slow: &[&str] = &["slow=3s"];
    let fleet = Fleet::of(&[&[], slow, slow]).await;
    let words = ["bmc", "info", "n1", "n2", "n3"];
    let child = fleet.command(&words).spawn().unwrap();
    until("a log-in at the slow ones", || fleet.machines[1..].iter().all(|m| m.bmc.open_sessions() == 1)).await;
    until("the end of the first", || fleet.machines[0].bmc.open_sessions() == 0).await;
    kill(pid(&child), Signal::SIGTERM).unwrap();
    let (code, out, err) = fleet.said(&words, child).await;
    assert_eq!(code, 130, "{err}");
    assert!(out.contains("LAB-1") && !out.contains("LAB-2"), "{out}");
    assert_eq!(err.matches("2 machines were not asked to the end").count(), 1, "{err}");
    assert_eq!(fleet.open_sessions(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_signal_ends_it_at_once() {
    let fleet = Fleet::of(&[&["slow=8s"]]).await;
    let words = ["bmc", "info", "n1"];
    let child = fleet.command(&words).spawn().unwrap();
    until("a log-in", || fleet.open_sessions() == 1).await;
    kill(pid(&child), Signal::SIGINT).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    kill(pid(&child), Signal::SIGINT).unwrap();
    let sent = Instant::now();
    let (code, _, err) = fleet.said(&words, child).await;
    assert_eq!(code, 130, "{err}");
    assert!(sent.elapsed() < Duration::from_secs(3) && err.contains("stopped at once"), "{err}");
}

/// Nothing was sent yet that a session could come from: there is nothing to wait for.
#[tokio::test(flavor = "multi_thread")]
async fn a_bmc_that_is_silent_holds_nobody_up() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let fleet = Fleet::of(&[&[]]).await;
    let port = silent.local_addr().unwrap().port();
    let inventory = std::fs::read_to_string(fleet.path().join("fleet.yaml")).unwrap();
    fleet.write(&inventory.replace(&fleet.machines[0].url(), &format!("https://127.0.0.1:{port}")));
    let words = ["bmc", "info", "n1"];
    let child = fleet.command(&words).spawn().unwrap();
    let _connection = tokio::time::timeout(PATIENCE, silent.accept()).await.unwrap().unwrap();
    kill(pid(&child), Signal::SIGINT).unwrap();
    let sent = Instant::now();
    let (code, _, err) = fleet.said(&words, child).await;
    assert_eq!(code, 130, "{err}");
    assert!(sent.elapsed() < Duration::from_secs(3), "{:?}", sent.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_time_closes_log_ins_too() {
    let fleet = Fleet::of(&[&[], &[SLOW]]).await;
    for words in [["--timeout", "4s", "bmc", "info", "n1", "n2"], ["--timeout", "4s", "boot", "show", "n1", "n2"]] {
        let (code, out, err) = fleet.rackctl(&words).await;
        assert_eq!(code, 1, "{err}");
        assert!(out.contains("n1"), "what is known is shown: {out}");
        assert!(err.contains("not done within 4s (--timeout)"), "{err}");
        assert_eq!(fleet.open_sessions(), 0, "{words:?}");
    }
}
