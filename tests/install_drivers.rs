//! The install drivers against programs that record what they were given and do what the test says.

// Helpers of tests are tests; clippy's own exception knows only functions with the attribute.
#![allow(clippy::unwrap_used, clippy::panic)]

mod cluster_support;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rackctl::{
    install::{
        driver_exec::{Report, Tools, operators_program, phase},
        nixos_anywhere::{Phase, Spec},
        operator::{Order, VERSION},
        process::{Exit, Job, run},
        ssh_wrapper::{self, PINS_ENV, Pins, Program},
    },
    model::failure::Cause,
};

const WAIT: Duration = Duration::from_secs(20);
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFqRpWnkVtfsVvPxR7vPKvxqpjdR0oW6S6Tj1y5wJd8Q";

fn script(folder: &Path, name: &str, body: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn spec() -> Spec {
    Spec {
        node: "n1".into(),
        flake: "/etc/fleet#n1".into(),
        extra_args: vec!["--build-on".into(), "local".into()],
        host: "127.0.0.1".into(),
        port: 2222,
        user: "root".into(),
        identity: "/keys/id".into(),
        host_key: KEY.into(),
    }
}

fn tools(folder: &Path, body: &str) -> Tools {
    Tools {
        nixos_anywhere: script(folder, "nixos-anywhere", body),
        wrapper: script(folder, "wrapper", r#"echo "wrapper $0 $*""#),
        scratch: folder.join("scratch"),
    }
}

#[tokio::test]
async fn a_phase_gets_its_argv_the_short_environment_and_our_ssh() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let body = format!(
        "printf '%s\\n' \"$@\" > {0}/argv\nenv > {0}/env\ncat > {0}/stdin\ncp $RACKCTL_SSH_PINS {0}/pins\ncommand -v ssh\ncommand -v scp\nssh -o StrictHostKeyChecking=no x\necho '### Formatting hard drive with disko ###'\necho oops >&2\nexit 0",
        at.display()
    );
    let tools = tools(at, &body);
    let mut heard = Vec::new();
    phase(&tools, &spec(), Phase::Disko, WAIT, |r| heard.push(r)).await.unwrap();

    let argv = fs::read_to_string(at.join("argv")).unwrap();
    assert_eq!(
        argv.lines().collect::<Vec<_>>().join(" "),
        "--flake /etc/fleet#n1 --phases disko -i /keys/id --ssh-port 2222 --target-host root@127.0.0.1 --build-on local"
    );
    assert_eq!(fs::read(at.join("stdin")).unwrap(), b"");
    // CARGO_MANIFEST_DIR stands here for everything that was in our environment and is none of its business.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    let env = fs::read_to_string(at.join("env")).unwrap();
    let allowed = ["PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PWD", "SHLVL", "_", PINS_ENV];
    for line in env.lines() {
        let name = line.split('=').next().unwrap();
        assert!(
            allowed.contains(&name) || name == "SSL_CERT_FILE" || name.starts_with("XDG_") || name.starts_with("NIX_"),
            "{line}"
        );
    }
    let pins: Pins = serde_json::from_slice(&fs::read(at.join("pins")).unwrap()).unwrap();
    assert!(pins.ssh.is_absolute() && !pins.ssh.starts_with(at), "{pins:?}");
    assert_eq!(pins.host_key_algorithms, "ssh-ed25519");
    let lines: Vec<String> = heard.iter().map(|r| format!("{r:?}")).collect();
    let text = lines.join("\n");
    assert!(heard.contains(&Report::Step("Formatting hard drive with disko".into())), "{text}");
    assert!(heard.contains(&Report::Line("oops".into())), "{text}");
    let scratch = at.join("scratch").display().to_string();
    assert!(lines.iter().filter(|l| l.contains(&scratch) && l.contains("/bin/s")).count() == 3, "{text}");
    assert!(text.contains("wrapper") && text.contains("-o StrictHostKeyChecking=no x"), "{text}");
    assert_eq!(fs::read_dir(at.join("scratch")).unwrap().count(), 0, "the pins are removed");
}

// fault: F36 F37 invariant: I20 harness: P
#[tokio::test]
async fn an_exit_code_is_told_with_the_last_words() {
    let folder = tempfile::tempdir().unwrap();
    for (end, words) in [("exit 3", "exit code 3"), ("kill -TERM $$", "signal 15")] {
        let tools = tools(folder.path(), &format!("echo first; echo no space left >&2; {end}"));
        let failure = phase(&tools, &spec(), Phase::Install, WAIT, |_| {}).await.unwrap_err();
        assert_eq!(failure.cause, Cause::Refused);
        assert!(failure.why.contains(words), "{failure}");
        assert!(failure.what.contains("n1: nixos-anywhere, phase install"), "{failure}");
    }
    let mut tools = tools(folder.path(), "");
    tools.nixos_anywhere = folder.path().join("absent");
    let failure = phase(&tools, &spec(), Phase::Install, WAIT, |_| {}).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Local);
    assert!(failure.why.contains("cannot be started"), "{failure}");
}

/// Children in the group, one that left it, and one that ignores what can be ignored.
const HANG: &str = "sleep MARK & setsid sleep MARK & (trap '' TERM HUP INT; sleep MARK) & echo ready; sleep MARK";

/// A duration that no other process sleeps for.
fn mark() -> String {
    format!("60.{}", uuid::Uuid::new_v4().as_fields().0)
}

fn sleepers(mark: &str) -> usize {
    let all = fs::read_dir("/proc").unwrap().filter_map(|e| fs::read(e.ok()?.path().join("cmdline")).ok());
    all.filter(|c| *c == format!("sleep\0{mark}\0").into_bytes()).count()
}

fn assert_gone(mark: &str) {
    let began = Instant::now();
    while sleepers(mark) > 0 {
        assert!(began.elapsed() < Duration::from_secs(1), "{} children are left", sleepers(mark));
        std::thread::sleep(Duration::from_millis(5));
    }
    eprintln!("no child left after {} ms", began.elapsed().as_millis());
}

// fault: F36 invariant: I18 harness: P
#[tokio::test]
async fn the_deadline_kills_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let mark = mark();
    let tools = tools(folder.path(), &HANG.replace("MARK", &mark));
    let began = Instant::now();
    let mut seen = 0;
    let failure =
        phase(&tools, &spec(), Phase::Reboot, Duration::from_millis(1500), |_| seen = seen.max(sleepers(&mark)))
            .await
            .unwrap_err();
    assert!(seen >= 1, "nothing ran");
    assert_eq!(failure.cause, Cause::Deadline, "{failure}");
    assert!(failure.why.contains("its last words: ready"), "{failure}");
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_gone(&mark);
}

#[tokio::test]
async fn who_drops_the_call_ends_the_program() {
    let mark = mark();
    let job = sh(&HANG.replace("MARK", &mark), WAIT);
    let call = tokio::time::timeout(Duration::from_millis(700), run(&job, |_, _| {}));
    assert!(call.await.is_err());
    assert_gone(&mark);
}

#[tokio::test]
async fn a_program_that_ends_leaves_nobody_behind() {
    let mark = mark();
    let body = format!("setsid sleep {mark} >/dev/null 2>&1 & sleep {mark} & sleep 0.3; exit 4");
    let ended = run(&sh(&body, WAIT), |_, _| {}).await.unwrap();
    assert_eq!(ended.exit, Exit::Code(4));
    assert_gone(&mark);
}

fn sh(body: &str, deadline: Duration) -> Job {
    Job {
        what: "test".into(),
        argv: ["/bin/sh", "-c", body].map(Into::into).into(),
        env: [("PATH".into(), "/usr/bin:/bin".into())].into(),
        folder: None,
        stdin: vec![],
        deadline,
    }
}

// invariant: I19 harness: P
#[tokio::test]
async fn much_output_is_heard_and_little_is_kept() {
    let mut lines = 0u32;
    let ended = run(&sh("seq 1 50000; echo end >&2", WAIT), |_, _| lines += 1).await.unwrap();
    assert_eq!((lines, ended.exit), (50_001, Exit::Code(0)));
    assert_eq!(ended.tail.len(), 40);
}

// fault: F52 invariant: I8 harness: K
/// This test's own binary again, as the rackctl that is killed.
#[test]
fn after_kill_9_of_rackctl_no_child_is_left() {
    const CALLER: &str = "RACKCTL_TEST_INSTALL_CALLER";
    if let Ok(mark) = std::env::var(CALLER) {
        let job = sh(&HANG.replace("MARK", &mark), WAIT);
        let ended = tokio::runtime::Runtime::new().unwrap().block_on(run(&job, |_, _| {}));
        panic!("{ended:?}");
    }
    let mark = mark();
    let mut caller = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "after_kill_9_of_rackctl_no_child_is_left", "--nocapture"])
        .env(CALLER, &mark)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while sleepers(&mark) < 4 {
        assert!(began.elapsed() < WAIT, "the four children have not begun");
        std::thread::sleep(Duration::from_millis(10));
    }
    caller.kill().unwrap();
    caller.wait().unwrap();
    assert_gone(&mark);
}

fn order(deadline_s: u64) -> Order {
    Order {
        version: VERSION,
        run: "r1".into(),
        node: "n1".into(),
        host: "10.0.0.1".into(),
        port: 22,
        user: "root".into(),
        identity: Some("/keys/id".into()),
        host_key: KEY.into(),
        known_hosts: None,
        disk_serial: Some("S1".into()),
        disk_wwn: None,
        deadline_s,
    }
}

#[tokio::test]
async fn the_operators_program_reads_the_order_and_tells_how_it_goes() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display().to_string();
    let body = format!(
        "cat > {at}/order\necho '{{\"phase\":\"copy\",\"done\":1,\"total\":4}}'\necho stray\necho warn >&2\nprintf '{{\"message\":\"all written\"}}'"
    );
    let program = script(folder.path(), "install", &body).display().to_string();
    let mut heard = Vec::new();
    operators_program(&[program, "--fast".into()], &order(20), |r| heard.push(r)).await.unwrap();
    let got: Order = serde_json::from_slice(&fs::read(folder.path().join("order")).unwrap()).unwrap();
    assert_eq!(got, order(20));
    for expected in [
        Report::Step("copy".into()),
        Report::Bytes { done: 1, total: Some(4) },
        Report::Line("stray".into()),
        Report::Line("warn".into()),
        Report::Line("all written".into()),
    ] {
        assert!(heard.contains(&expected), "{expected:?} in {heard:?}");
    }
    let slow = script(folder.path(), "slow", "exec sleep 60").display().to_string();
    let failure = operators_program(&[slow], &order(1), |_| {}).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Deadline);
}

// fault: F33 invariant: I17 harness: P
/// The rewritten argv, by real ssh against real sshd: the pin decides, whatever the caller said first.
#[test]
fn the_wrapper_lets_only_the_pinned_host_pass() {
    let Some(sshd) = cluster_support::sshd::Sshd::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let other = cluster_support::sshd::keygen(&folder.path().join("other"));
    for (key, passes) in [(&sshd.host_key, true), (&other, false)] {
        let known_hosts = folder.path().join("known hosts %h");
        fs::write(&known_hosts, format!("{} {key}\n", ssh_wrapper::ALIAS)).unwrap();
        let pins = Pins {
            version: ssh_wrapper::VERSION,
            known_hosts,
            host_key_algorithms: "ssh-ed25519".into(),
            ssh: "/usr/bin/ssh".into(),
            scp: "/usr/bin/scp".into(),
        };
        let insecure =
            ["-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no", "-o", "IdentityAgent=none"];
        let port = sshd.port.to_string();
        let identity = sshd.identity().display().to_string();
        let login = format!("{}@127.0.0.1", sshd.user);

        let mut said: Vec<&str> = insecure.into();
        said.extend(["-i", &identity, "-p", &port, &login, "echo", "-o", "through"]);
        let said: Vec<_> = said.into_iter().map(Into::into).collect();
        let out = Command::new("ssh").args(ssh_wrapper::rewrite(Program::Ssh, &pins, &said)).output().unwrap();
        let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.success(), passes, "{stderr}");
        assert_eq!(out.stdout == b"-o through\n", passes);
        assert_eq!(stderr.contains("Host key verification failed"), !passes, "{stderr}");

        let copy = format!("{login}:{}", folder.path().join("copied").display());
        let mut said: Vec<&str> = insecure.into();
        // -O: the old protocol, which needs no sftp server.
        said.extend(["-O", "-i", &identity, "-P", &port, "/etc/hostname", &copy]);
        let said: Vec<_> = said.into_iter().map(Into::into).collect();
        let _ = fs::remove_file(folder.path().join("copied"));
        let out = Command::new("scp").args(ssh_wrapper::rewrite(Program::Scp, &pins, &said)).output().unwrap();
        assert_eq!(out.status.success(), passes, "{}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(folder.path().join("copied").exists(), passes);
    }
}
