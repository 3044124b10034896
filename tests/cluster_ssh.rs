//! SSH against a real sshd on a loopback port.

// Helpers of tests are tests; clippy's own exception knows only functions with the attribute.
#![allow(clippy::unwrap_used, clippy::panic)]

mod cluster_support;

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use cluster_support::sshd::{Sshd, keygen};
use rackctl::{
    model::failure::Cause,
    remote::{
        argv::{self, Target, Terminal},
        client::{Ssh, pin},
        key::HostKey,
        node_client::{etcd_start, etcd_stop, node_status},
    },
};

const WAIT: Duration = Duration::from_secs(20);

fn target(sshd: &Sshd) -> Target {
    Target {
        host: "127.0.0.1".into(),
        port: sshd.port,
        user: sshd.user.clone(),
        identity: Some(sshd.identity()),
        host_key: sshd.host_key.clone(),
        connect_timeout: Duration::from_secs(5),
        agent: false,
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| w.to_string()).collect()
}

#[tokio::test]
async fn words_standard_input_and_status_arrive_as_they_were_sent() {
    let Some(sshd) = Sshd::start() else { return };
    let work = tempfile::tempdir().unwrap();
    let ssh = Ssh::connect(target(&sshd), work.path()).await.unwrap();

    let nasty = [
        "",
        " ",
        "a b",
        "'",
        "''",
        "\"",
        "\\",
        "$HOME",
        "`id`",
        "$(id)",
        "!!",
        "*",
        "~",
        "-n",
        ";",
        "&",
        "|",
        "#",
        "\n",
        "a\nb\n",
        "\t",
        "ü€😀",
        "{}",
        "[a]",
        "%h",
        "=x",
        "\u{1b}[31m",
    ];
    let mut command = words(&["printf", "%s\\0"]);
    command.extend(words(&nasty));
    let out = ssh.run(&command, None, WAIT, 1 << 16).await.unwrap();
    let back: Vec<&str> = std::str::from_utf8(&out.stdout).unwrap().split_terminator('\0').collect();
    assert_eq!((out.status, back), (0, nasty.to_vec()));

    let bytes: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8).collect();
    let out = ssh.run(&words(&["cat"]), Some(bytes.clone()), WAIT, bytes.len()).await.unwrap();
    assert!(out.stdout == bytes);
    let much = ssh.run(&words(&["cat"]), Some(bytes.clone()), WAIT, bytes.len() - 1).await.unwrap_err();
    assert_eq!(much.cause, Cause::Malformed, "{much}");

    for status in ["3", "255"] {
        let out = ssh.run(&words(&["sh", "-c", "echo oops >&2; exit $0", status]), None, WAIT, 100).await.unwrap();
        assert_eq!((out.status.to_string().as_str(), out.stderr.as_slice()), (status, &b"oops\n"[..]));
    }
    // There is no node program here: its shell says so.
    let missing = node_status(&ssh).await.unwrap_err();
    assert_eq!(missing.cause, Cause::Refused, "{missing}");
    assert!(missing.why.starts_with("it ended with 127"), "{missing}");
    ssh.close().unwrap();
    assert_eq!(std::fs::read_dir(work.path()).unwrap().count(), 0);
}

// fault: F33 invariant: I17 harness: P
#[tokio::test]
async fn another_host_key_is_untrusted_and_both_are_named() {
    let Some(sshd) = Sshd::start() else { return };
    let work = tempfile::tempdir().unwrap();
    let other = keygen(&work.path().join("other"));
    let failure = Ssh::connect(Target { host_key: other.clone(), ..target(&sshd) }, work.path()).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Untrusted, "{failure}");
    for key in [&other, &sshd.host_key] {
        let fingerprint = HostKey::parse(key).unwrap().fingerprint();
        assert!(failure.why.contains(&fingerprint), "{fingerprint} in {failure}");
    }
    // Not the fingerprint of our own arithmetic alone: what ssh-keygen says.
    let said = Command::new("ssh-keygen").arg("-lf").arg(work.path().join("other.pub")).output().unwrap().stdout;
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains(&HostKey::parse(&other).unwrap().fingerprint()), "{said}");
}

#[tokio::test]
async fn refusals_have_causes() {
    let Some(sshd) = Sshd::start() else { return };
    let work = tempfile::tempdir().unwrap();
    keygen(&work.path().join("stranger"));
    let stranger = Target { identity: Some(work.path().join("stranger")), ..target(&sshd) };
    let failure = Ssh::connect(stranger, work.path()).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Unauthorized, "{failure}");
    let nobody = Target { port: cluster_support::free_port(), ..target(&sshd) };
    let failure = Ssh::connect(nobody, work.path()).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Unreachable, "{failure}");
}

// invariant: I8 I18 harness: P
#[tokio::test]
async fn the_deadline_ends_it_and_leaves_no_process() {
    let Some(sshd) = Sshd::start() else { return };
    let work = tempfile::tempdir().unwrap();
    let ssh = Ssh::connect(target(&sshd), work.path()).await.unwrap();
    let began = Instant::now();
    let failure = ssh.run(&words(&["sleep", "60"]), None, Duration::from_millis(1500), 100).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Deadline);
    assert!(began.elapsed() < Duration::from_secs(4));
    assert_gone(work.path());
}

/// Within a second no process names the folder (each ssh has its known_hosts file there).
fn assert_gone(folder: &Path) {
    let began = Instant::now();
    while processes_of(folder) > 0 {
        assert!(began.elapsed() < Duration::from_secs(1), "ssh is still there");
        std::thread::sleep(Duration::from_millis(5));
    }
    eprintln!("no ssh left after {} ms", began.elapsed().as_millis());
}

fn processes_of(folder: &Path) -> usize {
    let wanted = format!("UserKnownHostsFile=\"{}/", folder.display());
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|e| std::fs::read(e.ok()?.path().join("cmdline")).ok());
    all.filter(|cmdline| String::from_utf8_lossy(cmdline).contains(&wanted)).count()
}

// fault: F52 invariant: I8 harness: K
/// This test's own binary again, as the caller that is killed.
#[test]
fn after_kill_9_of_the_caller_no_ssh_is_left() {
    const CALLER: &str = "RACKCTL_TEST_SSH_CALLER";
    if let Ok(spec) = std::env::var(CALLER) {
        let mut parts = spec.split('|').map(String::from);
        let mut next = || parts.next().unwrap();
        let target = Target {
            host: "127.0.0.1".into(),
            port: next().parse().unwrap(),
            user: next(),
            identity: Some(next().into()),
            host_key: next(),
            connect_timeout: Duration::from_secs(5),
            agent: false,
        };
        let folder = next();
        tokio::runtime::Runtime::new().unwrap().block_on(async move {
            let ssh = Ssh::connect(target, Path::new(&folder)).await.unwrap();
            let command = words(&["sleep", "61"]);
            let (a, b) = tokio::join!(ssh.run(&command, None, WAIT, 100), ssh.run(&command, None, WAIT, 100));
            panic!("{a:?} {b:?}");
        });
        return;
    }
    let Some(sshd) = Sshd::start() else { return };
    let work = tempfile::tempdir().unwrap();
    let spec = format!(
        "{}|{}|{}|{}|{}",
        sshd.port,
        sshd.user,
        sshd.identity().display(),
        sshd.host_key,
        work.path().display()
    );
    let mut caller = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "after_kill_9_of_the_caller_no_ssh_is_left", "--nocapture"])
        .env(CALLER, spec)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while processes_of(work.path()) < 2 {
        assert!(began.elapsed() < WAIT, "the two commands have not begun");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Past the handshake: both commands run.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(processes_of(work.path()), 2);
    caller.kill().unwrap();
    caller.wait().unwrap();
    assert_gone(work.path());
}

/// The node program is played by a script that answers with what it was told.
#[tokio::test]
async fn the_node_program_is_given_its_order_and_believed_only_if_it_took_it() {
    let Some(sshd) = Sshd::start() else { return };
    let work = tempfile::tempdir().unwrap();
    let ssh = Ssh::connect(target(&sshd), work.path()).await.unwrap();
    let told = work.path().join("told");
    let body = format!(
        r#"case "$*" in
"etcd start") cat > {0}; printf '{{"configured":%s,"running":true,"starts":1,"hasData":true}}' "$(cat {0})" ;;
"etcd stop") rm {0} ;;
*) echo "unknown: $*" >&2; exit 64 ;;
esac"#,
        told.display()
    );
    sshd.provide("rackctl-node", &body);
    let seat = rackctl::cluster::etcd::member::Seat {
        cluster: "it's".into(),
        name: "n1".into(),
        generation: 2,
        address: std::net::Ipv4Addr::new(10, 0, 0, 1),
        client_port: 2379,
        peer_port: 2380,
    };
    let member = rackctl::cluster::etcd::member::bootstrap(&seat, uuid::Uuid::new_v4());
    let status = etcd_start(&ssh, &member).await.unwrap();
    assert!(status.running && status.configured == member);
    let read: rackctl_wire::EtcdMember = serde_json::from_slice(&std::fs::read(&told).unwrap()).unwrap();
    assert_eq!(read, member);
    etcd_stop(&ssh).await.unwrap();
    assert!(!told.exists());

    let other = serde_json::to_string(&rackctl_wire::EtcdMember { name: "n9".into(), ..member.clone() }).unwrap();
    let answer = format!(
        r#"printf '{{"configured":%s,"running":true,"starts":1,"hasData":true}}' '{}'"#,
        other.replace('\'', r"'\''")
    );
    sshd.provide("rackctl-node", &answer);
    assert_eq!(etcd_start(&ssh, &member).await.unwrap_err().cause, Cause::AcceptedButIgnored);
    assert_eq!(node_status(&ssh).await.unwrap_err().cause, Cause::Malformed);
}

/// The argv of `rackctl ssh`, run as it is.
#[test]
fn the_interactive_argv_passes_the_pinned_host() {
    let Some(sshd) = Sshd::start() else { return };
    let work = tempfile::tempdir().unwrap();
    let other = keygen(&work.path().join("other"));
    for (key, passes) in [(other, false), (sshd.host_key.clone(), true)] {
        let target = Target { host_key: key, ..target(&sshd) };
        let known_hosts = work.path().join("pins/n 1");
        let key = pin(&target, &known_hosts).unwrap();
        let argv = argv::ssh(&target, &key, &known_hosts, None, Terminal::Yes, &words(&["echo", "it's me"])).unwrap();
        let out = Command::new(&argv[0]).args(&argv[1..]).stdin(Stdio::null()).output().unwrap();
        assert_eq!(out.stdout == b"it's me\n", passes, "{}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(out.status.success(), passes);
    }
}
