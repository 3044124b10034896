//! The verbs against the laboratory's BMCs: what is shown beforehand is what is sent, and what a limit of time leaves.

use std::{fs, os::unix::fs::PermissionsExt, process::Stdio, sync::Arc, time::Duration};

use rackctl::{
    lab::bmc::{Account, Bmc, Description, FakeChassis, Faults, certificate, serve},
    model::Secret,
};
use serde_json::Value;

use crate::small::PASSWORD;

struct Machine {
    name: String,
    url: String,
    pin: String,
    bmc: Arc<Bmc<FakeChassis>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn machine(name: &str, faults: &[&str]) -> Machine {
    let description = Description {
        manufacturer: "Contoso".into(),
        model: "R1".into(),
        serial: format!("LAB-{name}"),
        sku: None,
        uuid: "4c4c4544-0034-5010-8031-c6c04f474831".parse().unwrap(),
        macs: vec!["52:54:00:00:00:01".parse().unwrap()],
        drives: vec![],
        memory_bytes: 4 << 30,
        cores: 4,
        uefi: true,
        bios_version: "1.0.0".into(),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let certificate = certificate(name, None).unwrap();
    let account = Account { user: "root".into(), password: Secret::new(PASSWORD.into()) };
    let nature = Faults::parse(faults.iter().copied().chain(["power-lag=100ms"])).unwrap();
    let bmc = Bmc::new(FakeChassis::new(description), account, nature);
    let tls = certificate.server_config().unwrap();
    let task = tokio::spawn(serve(listener, tls, bmc.clone(), std::future::pending()));
    Machine { name: name.to_owned(), url, pin: certificate.pin, bmc, task }
}

impl Machine {
    /// Method and path of what changed something.
    fn writes(&self) -> Vec<(String, String)> {
        self.bmc.writes().into_iter().map(|l| (l.method, l.path)).collect()
    }
}

struct Home(tempfile::TempDir);

impl Home {
    /// `more`: further lines of each node's spec.
    fn of(machines: &[&Machine], more: &str) -> Home {
        let home = Home(tempfile::tempdir().unwrap());
        let password = home.0.path().join("password");
        fs::write(&password, PASSWORD).unwrap();
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
        let mut text = format!(
            "apiVersion: rackctl.dev/v1alpha1\nkind: Credential\nmetadata: {{ name: lab }}\n\
             spec: {{ username: root, passwordFrom: {{ file: {:?} }} }}\n",
            password.to_str().unwrap()
        );
        for (at, machine) in machines.iter().enumerate() {
            text.push_str(&format!(
                "---\napiVersion: rackctl.dev/v1alpha1\nkind: Node\nmetadata: {{ name: {} }}\nspec:\n  bmc: {{ endpoints: \
                 [{{ redfish: \"{}\", credential: lab, tls: {{ pin: \"{}\" }} }}] }}\n  interfaces: [{{ name: eno1, mac: \
                 \"52:54:00:00:00:0{}\", role: provision, addresses: [10.77.0.1{at}/24] }}]\n{more}",
                machine.name,
                machine.url,
                machine.pin,
                at + 1,
            ));
        }
        fs::write(home.0.path().join("fleet.yaml"), text).unwrap();
        home
    }

    async fn rackctl(&self, words: &[&str]) -> (i32, String, String) {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_rackctl"));
        command
            .args(["-f", "fleet.yaml", "--store", "sqlite:state.db"])
            .args(words)
            .current_dir(self.0.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.0.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = command.output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let said = (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr));
        println!("rackctl {}: {}\n{}{}", words.join(" "), said.0, said.1, said.2);
        said
    }
    async fn done(&self, words: &[&str]) -> String {
        let (code, out, err) = self.rackctl(words).await;
        assert_eq!(code, 0, "{words:?}: {err}");
        out
    }
    /// `requests` of one node, in the parts that are sent one after the other.
    async fn shown(&self, words: &[&str]) -> Vec<String> {
        let out = self.done(&[words, &["--dry-run", "-o", "json"]].concat()).await;
        let said: Value = serde_json::from_str(&out).unwrap();
        let line = said["items"][0]["status"]["requests"].as_str().unwrap().to_owned();
        line.split("; then ").map(str::to_owned).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dry_run_shows_is_what_is_sent() {
    let n1 = machine("n1", &[]).await;
    let home = Home::of(&[&n1], "");
    home.done(&["power", "on", "n1"]).await;
    let url = "http://10.0.0.5/boot.efi";
    for (words, told) in [
        (["boot", "set", "http", "n1", "--url", url].as_slice(), "HttpBootUri"),
        (&["boot", "set", "cd", "n1", "--url", "http://10.0.0.5/x.iso"], "x.iso"),
        (&["boot", "set", "none", "n1"], "Disabled"),
        (&["power", "cycle", "n1"], "GracefulShutdown"),
        (&["power", "reset", "n1"], "GracefulShutdown"),
        (&["power", "off", "n1", "--force"], "ForceOff"),
    ] {
        let before = n1.writes();
        let shown = home.shown(words).await;
        assert_eq!(n1.writes(), before, "{words:?}: a dry run sends nothing");
        assert!(shown.iter().any(|s| s.contains(told)), "{words:?}: {shown:?}");
        home.done(&[words, if words[0] == "power" { &["--yes"][..] } else { &[] }].concat()).await;
        let sent = n1.writes().split_off(before.len());
        // The first of each part is what this BMC takes.
        let first = |s: &String| {
            let s = s.split_once(": ").filter(|(way, _)| !way.contains('/')).map_or(s.as_str(), |(_, s)| s);
            let mut words = s.split(' ');
            (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned())
        };
        assert_eq!(shown.iter().map(first).collect::<Vec<_>>(), sent, "{words:?}: {shown:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_shows_what_would_be_refused() {
    let n1 = machine("n1", &["reset-types=On,ForceOff"]).await;
    let home = Home::of(&[&n1], "  protect: true\n");
    let (code, _, err) = home.rackctl(&["power", "off", "n1", "--dry-run"]).await;
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("it is protected"), "{err}");
    let home = Home::of(&[&n1], "");
    let (code, _, err) = home.rackctl(&["power", "off", "n1", "--dry-run"]).await;
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("rackctl power off n1 --force"), "{err}");
    assert_eq!(n1.writes(), []);
}

// fault: F3 invariant: I15 harness: P
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_is_taken_and_ignored_is_no_success() {
    let n1 = machine("n1", &["dates-zero"]).await;
    let home = Home::of(&[&n1], "");
    home.done(&["power", "on", "n1"]).await;
    home.done(&["power", "reset", "n1", "--force", "--yes"]).await;
    assert_eq!(n1.bmc.chassis().boots().len(), 2);
    n1.bmc.set_faults(Faults::parse(["power-noop"]).unwrap());
    let (code, _, err) = home.rackctl(&["--timeout", "8s", "power", "reset", "n1", "--force", "--yes"]).await;
    assert_eq!(code, 1, "{err}");
    assert_eq!(n1.bmc.chassis().boots().len(), 2);
}

// fault: F1 invariant: I18 harness: P
#[tokio::test(flavor = "multi_thread")]
async fn at_the_limit_every_machine_has_its_row_and_no_log_in_is_left() {
    let (n1, n2, n3) = (machine("n1", &[]).await, machine("n2", &[]).await, machine("n3", &[]).await);
    let home = Home::of(&[&n1, &n2, &n3], "");
    home.done(&["power", "on", "n1", "n2", "n3"]).await;
    n2.bmc.chassis().set_deaf(true);
    n3.bmc.set_faults(Faults::parse(["password-expired"]).unwrap());
    let began = std::time::Instant::now();
    let words = ["--timeout", "5s", "power", "off", "n1", "n2", "n3", "--yes", "-o", "json"];
    let (code, out, err) = home.rackctl(&words).await;
    assert!(began.elapsed() < Duration::from_secs(25));
    assert_eq!(code, 4, "{err}");
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(said["items"][0]["status"]["power"], "off", "{out}");
    let cause = |at: usize| said["items"][at]["status"]["failure"]["cause"].as_str().unwrap_or_default();
    assert_eq!((cause(1), cause(2)), ("deadline", "unauthorized"), "{out}");
    // A look at a BMC that takes its time: one row is there, the other says why not.
    n1.bmc.set_faults(Faults::parse(["slow=30s"]).unwrap());
    let (code, out, err) = home.rackctl(&["--timeout", "4s", "power", "status", "n1", "n2", "-o", "json"]).await;
    assert_eq!(code, 4, "{err}");
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(said["items"][0]["status"]["failure"]["cause"], "deadline", "{out}");
    assert_eq!(said["items"][1]["status"]["power"], "on", "{out}");
    assert_eq!(n2.bmc.open_sessions(), 0);
}

// fault: F16 invariant: I18 harness: P
#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_believed_afterwards_and_no_session_is_left() {
    let n1 = machine("n1", &[]).await;
    let home = Home::of(&[&n1], "");
    let made = certificate("new", None).unwrap();
    let file = home.0.path().join("new.pem");
    fs::write(&file, format!("{}{}", made.cert_pem, made.key_pem.expose())).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let (code, out, err) = home.rackctl(&["bmc", "cert", "n1", "--replace", "new.pem", "--yes"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains(&made.pin), "{out}");
    assert!(!err.contains("warning") && err.contains("n1: pinned in "), "{err}");
    assert_eq!(n1.bmc.open_sessions(), 0, "what the old connection left open is closed");
    assert!(fs::read_to_string(home.0.path().join("fleet.yaml")).unwrap().contains(&made.pin));
    home.done(&["power", "status", "n1"]).await;
}
