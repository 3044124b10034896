//! The verbs of the program against every recorded tree of a real BMC and every vendor's set of faults: each succeeds, or
//! says exactly what that machine lacks. What was found is printed, a block a BMC.

// Helpers of tests are tests; clippy's own exception knows only functions with the attribute.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use rackctl::{
    lab::bmc::{Account, Bmc, Description, DriveDescription, FakeChassis, Faults, PROFILES, certificate, ipmi, serve},
    model::Secret,
};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

const PASSWORD: &str = "correct horse";
const MAC: &str = "52:54:00:00:00:01";

fn description() -> Description {
    Description {
        manufacturer: "Contoso".into(),
        model: "R1".into(),
        serial: "LAB-0001".into(),
        sku: None,
        uuid: "6f2b8a54-1111-4222-8333-444455556666".parse().unwrap(),
        macs: vec![MAC.parse().unwrap(), "52:54:00:00:00:02".parse().unwrap()],
        drives: vec![DriveDescription { serial: "DISK-1".into(), model: "Virtual".into(), size_bytes: 8 << 30 }],
        memory_bytes: 512 << 20,
        cores: 2,
        uefi: true,
        bios_version: "edk2".into(),
    }
}

/// A served BMC, and a folder with an inventory that names it.
struct Home {
    folder: tempfile::TempDir,
    bmc: Arc<Bmc<FakeChassis>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Home {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

fn account() -> Account {
    Account { user: "root".into(), password: Secret::new(PASSWORD.into()) }
}

fn faults(words: &[&str]) -> Faults {
    Faults::parse(words.iter().copied()).unwrap().over(&Faults::parse(["power-lag=50ms"]).unwrap())
}

async fn home(bmc: Arc<Bmc<FakeChassis>>, with_ipmi: bool) -> Home {
    let interface = format!("interfaces: [{{ name: eno1, mac: \"{MAC}\", addresses: [10.77.0.11/24] }}]");
    home_of(bmc, with_ipmi, &interface).await
}

async fn home_of(bmc: Arc<Bmc<FakeChassis>>, with_ipmi: bool, more: &str) -> Home {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let certificate = certificate("bmc-n1", None).unwrap();
    let tls = certificate.server_config().unwrap();
    let mut tasks = vec![tokio::spawn(serve(listener, tls, bmc.clone(), std::future::pending()))];
    let mut endpoints = format!("{{ redfish: \"{url}\", credential: lab, tls: {{ pin: \"{}\" }} }}", certificate.pin);
    if with_ipmi {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        endpoints = format!("{endpoints}, {{ ipmi: \"{}\", credential: lab }}", socket.local_addr().unwrap());
        let service = ipmi::Service::new(bmc.clone()).unwrap();
        tasks.push(tokio::spawn(ipmi::serve(socket, service, None, std::future::pending())));
    }
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("password");
    fs::write(&secret, PASSWORD).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let inventory = format!(
        "apiVersion: rackctl.dev/v1alpha1
kind: Credential
metadata: {{ name: lab }}
spec: {{ username: root, passwordFrom: {{ file: {secret:?} }} }}
---
apiVersion: rackctl.dev/v1alpha1
kind: Node
metadata: {{ name: n1 }}
spec:
  bmc: {{ endpoints: [{endpoints}] }}
  {more}
"
    );
    fs::write(folder.path().join("fleet.yaml"), inventory).unwrap();
    Home { folder, bmc, tasks }
}

impl Home {
    fn command(&self, words: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_rackctl"));
        command
            .args(["-f", "fleet.yaml", "--store", "sqlite:state.db"])
            .args(words)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.folder.path())
            .stdin(Stdio::null());
        command
    }

    async fn rackctl(&self, words: &[&str]) -> (i32, String, String) {
        let output = self.command(words).output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let said = (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr));
        assert!(!said.2.contains("panicked"), "{words:?}: {}", said.2);
        assert!(!said.1.contains(PASSWORD) && !said.2.contains(PASSWORD), "{words:?}");
        said
    }

    /// One line of what was found or is lacking. What lacks is said in words, with exit code 3.
    async fn looks(&self, name: &str, words: &[&str]) -> bool {
        let (code, out, err) = self.rackctl(words).await;
        let first = |text: &str| text.lines().find(|l| !l.trim().is_empty()).unwrap_or("").to_owned();
        let why = |text: &str| text.lines().find_map(|l| l.trim().strip_prefix("why:")).unwrap_or("").trim().to_owned();
        match code {
            0 => {
                let rows = out.lines().count().saturating_sub(1);
                println!(
                    "    {:<14} {rows} rows; {}",
                    words[..words.len() - 1].join(" "),
                    first(out.trim_start_matches("NAME"))
                );
                true
            }
            3 => {
                assert!(err.contains("this BMC offers no ") && err.contains("looked at "), "{name} {words:?}: {err}");
                assert!(!err.contains('{'), "{name} {words:?}: raw JSON: {err}");
                println!("    {:<14} lacks: {}", words[..words.len() - 1].join(" "), why(&err));
                false
            }
            code => panic!("{name}: {words:?} ended with {code}: {err}"),
        }
    }

    async fn every_verb(&self, name: &str) -> usize {
        println!("{name}");
        let (code, out, err) = self.rackctl(&["boot", "set", "pxe", "n1"]).await;
        assert_eq!(code, 0, "{name}: {err}");
        assert!(!out.contains('{'), "{name}: raw JSON: {out}");
        println!("    boot set pxe   {}", out.lines().last().unwrap_or_default());
        let (code, out, err) = self.rackctl(&["boot", "show", "n1"]).await;
        assert_eq!(code, 0, "{name}: {err}");
        let shown = out.to_lowercase();
        assert!(shown.contains("pxe") || shown.contains("network"), "{name}: {out}");
        println!("    boot show      {}", out.lines().last().unwrap_or_default());
        let (code, out, err) = self.rackctl(&["power", "status", "n1"]).await;
        assert!(code == 0 && out.contains("off"), "{name}: {out}{err}");
        let mut found = 0;
        for verb in ["info", "log", "sensors"] {
            found += usize::from(self.looks(name, &["bmc", verb, "n1"]).await);
        }
        let (code, out, err) = self.rackctl(&["inspect", "n1"]).await;
        assert_eq!(code, 0, "{name}: {err}");
        println!("    inspect        {} lines to merge, {} remarks", out.lines().count(), err.lines().count());
        let (code, out, err) = self.rackctl(&["boot", "set", "none", "n1"]).await;
        assert_eq!(code, 0, "{name}: {err}");
        println!("    boot set none  {}", out.lines().last().unwrap_or_default());
        assert_eq!(self.bmc.open_sessions(), 0, "{name}: a session is left");
        found
    }
}

fn trees() -> Option<Vec<PathBuf>> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let shared = std::env::var_os("RACKCTL_SHARED").map(PathBuf::from).unwrap_or(beside);
    let entries = fs::read_dir(shared.join("data/redfish")).ok()?;
    let mut trees: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    trees.retain(|p| p.join("redfish/v1/index.json").is_file());
    trees.sort();
    Some(trees)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_on_every_recorded_tree() {
    let Some(trees) = trees() else {
        eprintln!("SKIPPED: no recorded Redfish trees (set RACKCTL_SHARED)");
        return;
    };
    let mut found = 0;
    for tree in &trees {
        let name = tree.file_name().unwrap().to_string_lossy().into_owned();
        let bmc = Bmc::with_tree(FakeChassis::new(description()), account(), faults(&[]), tree).unwrap();
        // Its interfaces are what `inspect` finds.
        found += home_of(bmc, false, "").await.every_verb(&name).await;
    }
    println!("{} trees, {found} of {} looks found something", trees.len(), trees.len() * 3);
    assert!(found > trees.len() * 2, "a reader that finds nothing reads nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_on_every_dialect() {
    for profile in PROFILES {
        let bmc = Bmc::new(FakeChassis::new(description()), account(), faults(&[profile.name]));
        let found = home(bmc, false).await.every_verb(profile.name).await;
        // Below a system its collections are null: there is no log to be found.
        let lacks = usize::from(profile.faults.contains(&"members-null"));
        assert_eq!(found, 3 - lacks, "{}", profile.name);
    }
}

/// The order outlives the process that changed it; what it was stands in the journal, and the next run puts it back.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_one_run_changed_is_put_back_by_another() {
    let bmc = Bmc::new(FakeChassis::new(description()), account(), faults(&["cray-ex"]));
    let home = home(bmc, false).await;
    let before = home.bmc.boot_order();
    let (code, out, err) = home.rackctl(&["boot", "set", "pxe", "n1"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("Boot0001") && out.contains("first in the boot order") && out.contains("it lasts"), "{out}");
    assert_eq!(home.bmc.boot_order()[0], "Boot0001");
    // Again, as after a crash in which nobody learned what came of it: the first order stays the one to go back to.
    let (code, _, err) = home.rackctl(&["boot", "set", "pxe", "n1"]).await;
    assert_eq!(code, 0, "{err}");
    let (code, out, err) = home.rackctl(&["boot", "set", "none", "n1"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("no override"), "{out}");
    assert_eq!(home.bmc.boot_order(), before);
    // It is done: one who orders the entries by hand afterwards is left alone.
    let (code, _, _) = home.rackctl(&["boot", "set", "none", "n1"]).await;
    assert_eq!(code, 0);
    assert_eq!(home.bmc.boot_order(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_that_ipmi_took_are_cleared_by_the_next_run() {
    let bmc = Bmc::new(FakeChassis::new(description()), account(), faults(&["ignore-boot-override=redfish"]));
    let home = home(bmc, true).await;
    let (code, out, err) = home.rackctl(&["boot", "set", "pxe", "n1", "--persistent", "-o", "json"]).await;
    assert_eq!(code, 0, "{err}");
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(said["items"][0]["status"]["boot"], "pxe persistent by IPMI", "{out}");
    let (code, out, _) = home.rackctl(&["boot", "show", "n1"]).await;
    assert!(code == 0 && out.contains("pxe persistent") && out.contains("changed by rackctl: "), "{out}");
    assert!(out.contains("IPMI boot flags"), "{out}");
    let (code, _, err) = home.rackctl(&["boot", "set", "none", "n1"]).await;
    // Redfish ignores the request as it ignored the first: said, and the flags are cleared all the same.
    assert!(code == 0 || err.contains("did not apply it"), "{err}");
    let (code, out, _) = home.rackctl(&["boot", "show", "n1"]).await;
    assert!(code == 0 && out.contains("no override"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_goes_with_http_and_cd_alone() {
    let bmc = Bmc::new(FakeChassis::new(description()), account(), faults(&[]));
    let home = home(bmc, false).await;
    let (code, _, err) = home.rackctl(&["boot", "set", "pxe", "n1", "--url", "http://h/x"]).await;
    assert!(code == 2 && err.contains("`http` and `cd`"), "{err}");
    let (code, _, err) = home.rackctl(&["boot", "set", "http", "n1", "--url", "ftp://h/x"]).await;
    assert!(code == 2 && err.contains("http://"), "{err}");
    assert_eq!(home.bmc.writes(), []);
    let (code, out, err) = home.rackctl(&["boot", "set", "http", "n1", "--url", "http://192.0.2.1/x.efi"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("http once") && out.contains("http://192.0.2.1/x.efi"), "{out}");
    let (code, out, err) = home.rackctl(&["boot", "set", "cd", "n1", "--url", "http://192.0.2.1/x.iso"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("cd once") && out.contains("in slot"), "{out}");
    let (code, _, err) = home.rackctl(&["boot", "set", "none", "n1"]).await;
    assert_eq!(code, 0, "{err}");
    let (_, out, _) = home.rackctl(&["bmc", "media", "n1"]).await;
    assert!(!out.contains("x.iso"), "{out}");
}

/// A BMC with a stream of events is asked once a minute: what is shown sooner came by the stream. One whose stream breaks
/// off, or that has none, is asked every few seconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_followed_log_hears_the_stream_of_events() {
    const LIMIT: Duration = Duration::from_secs(40);
    for fault in [&[][..], &["sse-cut"], &["no-events"]] {
        let bmc = Bmc::new(FakeChassis::new(description()), account(), faults(fault));
        let home = home(bmc, false).await;
        let mut child =
            home.command(&["bmc", "log", "n1", "--follow"]).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut told = async |words: &str| {
            let line = async { while !lines.next_line().await.unwrap().unwrap().contains(words) {} };
            assert!(tokio::time::timeout(LIMIT, line).await.is_ok(), "{fault:?}: {words}");
        };
        told("n1").await;
        let steps: [(&[&str], &str); 2] = [
            (&["power", "on", "n1"], "told to go on"),
            (&["power", "off", "n1", "--force", "--yes"], "power of the system was cut"),
        ];
        for (words, line) in steps {
            let (code, _, err) = home.rackctl(words).await;
            assert_eq!(code, 0, "{err}");
            told(line).await;
        }
        let pid = nix::unistd::Pid::from_raw(child.id().unwrap().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        let ended = tokio::time::timeout(LIMIT, child.wait()).await.unwrap().unwrap();
        assert_eq!(ended.code(), Some(0), "{fault:?}");
        assert_eq!(home.bmc.open_sessions(), 0, "{fault:?}");
    }
}

/// As it came from the factory: the password is right, and must be another one before anything else is done.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_must_be_changed_is_named_and_can_be() {
    const NEW: &str = "battery staple 9";
    for nature in [&["password-expired"][..], &["password-expired", "no-sessions"]] {
        let home = home(Bmc::new(FakeChassis::new(description()), account(), faults(nature)), false).await;
        let (code, _, err) = home.rackctl(&["bmc", "info", "n1"]).await;
        assert_eq!(code, 1, "{err}");
        assert!(err.contains("is right and must be changed") && err.contains("PasswordChangeRequired"), "{err}");
        assert!(err.contains("rackctl bmc users n1 --set-password root"), "{err}");
        let own = |name: &str, text: &str| {
            let path = home.folder.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        };
        own("new", NEW);
        let words = ["bmc", "users", "n1", "--set-password", "root", "--password-file", "new"];
        let (code, out, err) = home.rackctl(&words).await;
        assert_eq!(code, 0, "{nature:?}: {err}");
        assert!(out.contains("root: the new password works"), "{out}");
        own("password", NEW);
        let (code, out, err) = home.rackctl(&["bmc", "info", "n1"]).await;
        assert!(code == 0 && out.contains("LAB-0001"), "{out}{err}");
        assert_eq!(home.bmc.open_sessions(), 0);
    }
}

/// Forbidden is one branch, not the password: the rest is shown, and what is not is named.
#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_an_account_may_not_read_is_named_and_the_rest_is_shown() {
    let home = home(Bmc::new(FakeChassis::new(description()), account(), faults(&[])), false).await;
    let forbid = |path: &str| home.bmc.set_faults(faults(&[&format!("forbidden={path}")]));
    forbid("/redfish/v1/Chassis");
    let (code, out, err) = home.rackctl(&["bmc", "log", "n1"]).await;
    assert!(code == 0 && out.lines().count() > 1, "{out}{err}");
    assert!(err.contains("n1: not read: /redfish/v1/Chassis") && err.contains("`root` may not do this"), "{err}");
    forbid("/redfish/v1/Systems/1/Storage");
    let (code, out, err) = home.rackctl(&["bmc", "info", "n1"]).await;
    assert!(code == 0 && out.contains("LAB-0001"), "{out}{err}");
    assert!(err.contains("n1: not read: /redfish/v1/Systems/1/Storage"), "{err}");
    // Which disk is the system's is not proposed of some of them.
    let (code, out, err) = home.rackctl(&["inspect", "n1"]).await;
    assert!(code == 0 && !out.contains("disks:"), "{out}{err}");
    assert!(err.contains("did not show all disks") && err.contains("not read: /redfish/v1/Systems/1/Storage"), "{err}");
    forbid("/redfish/v1/Systems");
    let (code, _, err) = home.rackctl(&["bmc", "info", "n1"]).await;
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("may not do this") && !err.contains("password"), "{err}");
}
