//! ^C, SIGTERM and `--timeout` in the middle of a look.

use std::time::{Duration, Instant};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::fleet::{Fleet, PATIENCE};

/// Every answer waits so long: there is time to be interrupted in.
const SLOW: &str = "slow=2s";

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

/// When a look is ended.
#[derive(Clone, Copy, PartialEq)]
enum When {
    /// The log-in was sent and its answer is on its way: nobody but the BMC will know the session's address.
    LoggingIn,
    /// The session is there, and what was asked next is on its way.
    Asking,
}

/// Starts a look at a slow machine, and ends it.
async fn interrupted(words: &[&str], signal: Signal, when: When) {
    let fleet = Fleet::of(&[&[SLOW]]).await;
    let bmc = &fleet.machines[0].bmc;
    let child = fleet.command(words).spawn().unwrap();
    match when {
        When::LoggingIn => until("a greeting", || !bmc.log().0.is_empty()).await,
        When::Asking => until("a log-in", || fleet.open_sessions() == 1).await,
    }
    tokio::time::sleep(Duration::from_millis(700)).await;
    let open = usize::from(when == When::Asking);
    assert_eq!(fleet.open_sessions(), open, "{words:?}: the moment is missed");
    kill(pid(&child), signal).unwrap();
    let sent = Instant::now();
    let (code, _, err) = fleet.said(words, child).await;
    assert_eq!(code, 130, "{words:?} {signal}: {err}");
    assert!(err.contains("interrupted"), "{words:?}: {err}");
    assert_eq!(fleet.open_sessions(), 0, "{words:?} {signal}: a session is left");
    let log = bmc.log().0;
    let count = |method: &str| log.iter().filter(|e| e.method == method && e.path.contains("/Sessions")).count();
    assert_eq!((count("POST"), count("DELETE")), (1, 1), "{words:?}: {log:?}");
    // The rest of a log-in, and a log-out.
    assert!(sent.elapsed() < Duration::from_secs(15), "{words:?}: {:?}", sent.elapsed());
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

#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_is_ended_while_it_logs_in_leaves_no_session() {
    let ends = LOOKS.iter().enumerate().map(|(at, words)| {
        let signal = if at % 2 == 0 { Signal::SIGTERM } else { Signal::SIGINT };
        interrupted(words, signal, When::LoggingIn)
    });
    futures_util::future::join_all(ends).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_is_ended_while_it_asks_leaves_no_session() {
    let ends = LOOKS.iter().enumerate().map(|(at, words)| {
        let signal = if at % 2 == 0 { Signal::SIGINT } else { Signal::SIGTERM };
        interrupted(words, signal, When::Asking)
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
    for words in [["--timeout", "7s", "bmc", "info", "n1", "n2"], ["--timeout", "7s", "boot", "show", "n1", "n2"]] {
        let (code, out, err) = fleet.rackctl(&words).await;
        assert_eq!(code, 4, "{err}");
        assert!(out.contains("n1"), "what is known is shown: {out}");
        assert!(err.contains("not done within 7s (--timeout)"), "{err}");
        assert_eq!(fleet.open_sessions(), 0, "{words:?}");
    }
}

const PATIENT: &str = "---
apiVersion: rackctl.dev/v1alpha1
kind: Playbook
metadata: { name: patient }
spec:
  steps:
    - wait: { for: { node: n1, power: \"on\" }, deadline: 3m }
";

/// A step of a playbook that looks logs out as any look does, and the playbook can be resumed.
#[tokio::test(flavor = "multi_thread")]
async fn a_playbook_that_waits_for_a_machine_logs_out_of_it() {
    let fleet = Fleet::of(&[&["slow=1s"]]).await;
    let inventory = std::fs::read_to_string(fleet.path().join("fleet.yaml")).unwrap();
    fleet.write(&format!("{inventory}{PATIENT}"));
    let words = ["playbook", "run", "patient"];
    let child = fleet.command(&words).spawn().unwrap();
    until("a log-in", || fleet.open_sessions() == 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(fleet.open_sessions(), 1);
    kill(pid(&child), Signal::SIGINT).unwrap();
    let (code, _, err) = fleet.said(&words, child).await;
    assert_eq!(code, 130, "{err}");
    assert_eq!(fleet.open_sessions(), 0, "{err}");
    assert_eq!(err.matches("finishing what is in hand").count(), 1, "{err}");
}
