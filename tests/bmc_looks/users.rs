//! Accounts by verb, over Redfish and over IPMI: made, shown, switched, locked and unlocked, deleted.

use std::{
    fs,
    io::{Read, Write},
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    process::Stdio,
};

use nix::sys::termios::{LocalFlags, tcgetattr};

use crate::fleet::{Fleet, PATIENCE};

const NEW: &str = "battery staple 7";

fn keep_new(fleet: &Fleet) {
    let file = fleet.path().join("new");
    fs::write(&file, format!("{NEW}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
}

/// The line of `ops` in `bmc users`.
async fn ops(fleet: &Fleet) -> Option<Vec<String>> {
    let (code, out, err) = fleet.rackctl(&["bmc", "users", "n1"]).await;
    assert_eq!(code, 0, "{err}");
    let line = out.lines().find(|line| line.contains(" ops "))?;
    Some(line.split_whitespace().map(str::to_owned).collect())
}

const CREATE: [&str; 9] = ["bmc", "users", "n1", "--create", "ops", "--role", "Operator", "--password-file", "new"];

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_made_switched_unlocked_and_deleted() {
    let fleet = Fleet::of(&[&["account-lockout=2/600s"]]).await;
    keep_new(&fleet);
    let bmc = &fleet.machines[0].bmc;
    let (code, out, err) = fleet.rackctl(&[CREATE.as_slice(), &["--dry-run"]].concat()).await;
    assert!(code == 0 && out.contains("create-user") && out.contains("ops as Operator"), "{out}{err}");
    assert_eq!(ops(&fleet).await, None);
    let (code, out, err) = fleet.rackctl(&CREATE).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("ops: made as Operator, its password works"), "{out}");
    assert!(!out.contains(NEW) && !err.contains(NEW));
    let line = ops(&fleet).await.unwrap();
    assert!(line.contains(&"Operator".to_owned()), "{line:?}");
    let (code, _, err) = fleet.rackctl(&CREATE).await;
    assert!(code == 1 && err.contains("it has such a user already"), "{code} {err}");

    // Two wrong passwords lock it; the inventory's own account is another one.
    let inventory = fs::read_to_string(fleet.path().join("fleet.yaml")).unwrap();
    fleet.write(&inventory.replace("username: root", "username: ops"));
    for _ in 0..2 {
        let (code, _, _) = fleet.rackctl(&["power", "status", "n1"]).await;
        assert_eq!(code, 1);
    }
    fleet.write(&inventory);
    assert_eq!(bmc.locked_accounts(), ["ops"]);
    let (code, out, err) = fleet.rackctl(&["bmc", "users", "n1", "--unlock", "ops"]).await;
    assert!(code == 0 && out.contains("ops: unlocked"), "{out}{err}");
    assert!(bmc.locked_accounts().is_empty());

    let (code, out, err) = fleet.rackctl(&["bmc", "users", "n1", "--disable", "ops"]).await;
    assert!(code == 0 && out.contains("ops: disabled"), "{out}{err}");
    assert_eq!(ops(&fleet).await.unwrap()[4], "no");
    let (code, out, err) = fleet.rackctl(&["bmc", "users", "n1", "--enable", "ops"]).await;
    assert!(code == 0 && out.contains("ops: enabled"), "{out}{err}");
    assert_eq!(ops(&fleet).await.unwrap()[4], "yes");

    let (code, out, err) = fleet.rackctl(&["bmc", "users", "n1", "--delete", "ops"]).await;
    assert!(code == 0 && out.contains("ops: deleted"), "{out}{err}");
    assert_eq!(ops(&fleet).await, None);
    for word in ["--delete", "--disable", "--enable", "--unlock"] {
        let (code, _, err) = fleet.rackctl(&["bmc", "users", "n1", word, "ops"]).await;
        assert!(code == 1 && err.contains("it has no such user; it has root"), "{word}: {code} {err}");
    }
    assert_eq!(fleet.open_sessions(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_account_of_the_log_in_is_never_taken_away() {
    for by_ipmi in [false, true] {
        let mut fleet = Fleet::of(&[&[]]).await;
        if by_ipmi {
            fleet.by_ipmi().await;
        }
        for word in ["--delete", "--disable"] {
            let (code, _, err) = fleet.rackctl(&["bmc", "users", "n1", word, "root", "--yes"]).await;
            assert_eq!(code, 3, "{word}: {err}");
            assert!(err.contains("the inventory logs in to it as `root`"), "{err}");
        }
        let (code, out, err) = fleet.rackctl(&["bmc", "users", "n1"]).await;
        assert!(code == 0 && out.contains("root"), "{out}{err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_ipmi_an_account_is_made_switched_and_deleted() {
    let mut fleet = Fleet::of(&[&[]]).await;
    keep_new(&fleet);
    fleet.by_ipmi().await;
    let (code, out, err) = fleet.rackctl(&CREATE).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("ops: made as Operator"), "{out}");
    let line = ops(&fleet).await.unwrap();
    assert!(line.contains(&"OPERATOR".to_owned()) && line[4] == "yes", "{line:?}");
    let (code, _, err) = fleet.rackctl(&CREATE).await;
    assert!(code == 1 && err.contains("it has such a user already"), "{code} {err}");
    let (code, _, err) = fleet.rackctl(&["bmc", "users", "n1", "--disable", "ops"]).await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(ops(&fleet).await.unwrap()[4], "no");
    let (code, _, err) = fleet.rackctl(&["bmc", "users", "n1", "--enable", "ops"]).await;
    assert_eq!(code, 0, "{err}");
    let line = ops(&fleet).await.unwrap();
    assert!(line.contains(&"OPERATOR".to_owned()) && line[4] == "yes", "its privilege stays: {line:?}");
    let (code, _, err) = fleet.rackctl(&["bmc", "users", "n1", "--unlock", "ops"]).await;
    assert!(code == 3 && err.contains("no word for locks"), "{code} {err}");
    let (code, _, err) = fleet.rackctl(&["bmc", "users", "n1", "--delete", "ops"]).await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(ops(&fleet).await, None);
}

/// A terminal that a person gave ^C to at the question for a password shows again what is typed.
#[tokio::test(flavor = "multi_thread")]
async fn the_terminal_is_as_it_was_after_an_interrupted_question() {
    let fleet = Fleet::of(&[&[]]).await;
    let pty = nix::pty::openpty(None, None).unwrap();
    let shown = |pty: &OwnedFd| tcgetattr(pty).unwrap().local_flags & (LocalFlags::ECHO | LocalFlags::ISIG);
    let before = shown(&pty.master);
    assert_eq!(before, LocalFlags::ECHO | LocalFlags::ISIG);
    let words = ["bmc", "users", "n1", "--set-password", "root"];
    let stdin = Stdio::from(pty.slave.try_clone().unwrap());
    let mut child = fleet.command(&words).stdin(stdin).spawn().unwrap();
    let end = std::time::Instant::now() + PATIENCE;
    while shown(&pty.master) == before {
        assert!(std::time::Instant::now() < end, "it never asked");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let mut master = fs::File::from(pty.master.try_clone().unwrap());
    master.write_all(b"half a pass\x03").unwrap();
    let ended = tokio::time::timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(130));
    assert_eq!(shown(&pty.master), before);
    // Nothing of it was echoed.
    let mut echoed = [0u8; 256];
    nix::fcntl::fcntl(&pty.master, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
    let read = master.read(&mut echoed).unwrap_or_default();
    assert!(!String::from_utf8_lossy(&echoed[..read]).contains("half"));
    assert!(fleet.machines[0].bmc.log().0.is_empty(), "nobody was asked");
}
