//! Exit codes of mixtures, passwords that are kept, networks that are searched, keys that are pinned, and verbs that no
//! other test asks for.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use rackctl::lab::bmc::certificate;
use serde_json::Value;

use crate::fleet::{Fleet, PASSWORD, PATIENCE};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_machine_of_two_that_fails_is_exit_4_and_the_other_is_shown() {
    let mut fleet = Fleet::of(&[&[], &["log-no-clear"], &[]]).await;
    let (code, out, err) = fleet.rackctl(&["bmc", "log", "n1", "n2", "--clear", "--yes"]).await;
    assert_eq!(code, 4, "{err}");
    assert!(out.contains("n1") && err.contains("n2"), "{out}{err}");
    // Nobody listens there any more.
    let port = fleet.machines[2].port;
    drop(fleet.machines.pop());
    let gone = async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err();
    let end = Instant::now() + PATIENCE;
    while !gone().await {
        assert!(Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for words in [
        ["power", "status", "n1", "n3"].as_slice(),
        &["boot", "show", "n1", "n3"],
        &["bmc", "info", "n1", "n3"],
        &["bmc", "sensors", "n1", "n3"],
        &["bmc", "users", "n1", "n3"],
        &["inspect", "n1", "n3"],
    ] {
        let (code, out, err) = fleet.rackctl(words).await;
        assert_eq!(code, 4, "{words:?}: {err}");
        assert!(out.contains("n1"), "{words:?}: {out}");
        assert!(err.contains("n3: "), "{words:?}: {err}");
    }
    assert_eq!(fleet.open_sessions(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_tried_at_one_machine_and_kept_when_it_is_right() {
    let fleet = Fleet::of(&[&[], &[]]).await;
    let file = fleet.path().join("password");
    fs::remove_file(&file).unwrap();
    let words = ["bmc", "login", "n1", "n2", "--password-stdin"];
    let (code, _, err) = fleet.rackctl_with(&words, "no horse at all\n").await;
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("it was not kept") && !file.exists(), "{err}");
    assert_eq!(fleet.machines[1].bmc.log().0.len(), 0, "a wrong password goes to one machine");
    let (code, _, err) = fleet.rackctl_with(&words, &format!("{PASSWORD}\n")).await;
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("the BMC of n1 takes it; it is kept"), "{err}");
    assert_eq!(fleet.machines[1].bmc.log().0.len(), 0, "one machine tells for its group");
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{PASSWORD}\n"));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fleet.open_sessions(), 0);
    let (code, _, err) = fleet.rackctl(&["power", "status", "n1", "n2"]).await;
    assert_eq!(code, 0, "what was kept is what is read: {err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_asked_for_one_by_one_and_the_next_machine_tells_when_the_first_is_silent() {
    let mut fleet = Fleet::of(&[&[], &[]]).await;
    let inventory = fs::read_to_string(fleet.path().join("fleet.yaml")).unwrap();
    let other = "---\napiVersion: rackctl.dev/v1alpha1\nkind: Credential\nmetadata: { name: other }\n\
                 spec: { username: root, passwordFrom: { env: OTHER } }\n";
    let two = inventory.replace(&fleet.machines[1].manifest("lab"), &fleet.machines[1].manifest("other"));
    fleet.write(&format!("{two}{other}"));
    let words = ["bmc", "login", "n1", "n2", "--password-stdin"];
    let (code, _, err) = fleet.rackctl_with(&words, "x\n").await;
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("lab, other"), "{err}");
    // Where it could not be kept, nobody is asked for it.
    let (code, _, err) = fleet.rackctl_with(&["bmc", "login", "n2", "--password-stdin"], "x\n").await;
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("environment variable OTHER"), "{err}");
    assert!(fleet.machines.iter().all(|m| m.bmc.log().0.is_empty()));
    fleet.write(&inventory);
    drop(fleet.machines.remove(0));
    let (code, _, err) = fleet.rackctl_with(&words, &format!("{PASSWORD}\n")).await;
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("the BMC of n2 takes it"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_scan_prints_is_an_inventory() {
    let fleet = Fleet::of(&[&[]]).await;
    let machine = &fleet.machines[0];
    let whole = fs::read_to_string(fleet.path().join("fleet.yaml")).unwrap();
    let credential = whole.replace(&machine.manifest("lab"), "");
    fleet.write(&credential);
    // Nobody speaks IPMI there.
    let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (port, closed) = (machine.port.to_string(), closed.to_string());
    let scan = ["bmc", "scan", "127.0.0.1/32", "--port", &port, "--ipmi-port", &closed, "--credential", "lab"];
    let (code, out, err) = fleet.rackctl(&scan).await;
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("1 of 1 addresses answer as a BMC"), "{err}");
    fleet.write(&format!("{credential}---\n{}", out.trim_start_matches("---\n")));
    let (code, _, err) = fleet.rackctl(&["validate"]).await;
    assert_eq!(code, 0, "{err}");
    let (code, out, err) = fleet.rackctl(&["bmc", "info", "bmc-127-0-0-1"]).await;
    assert!(code == 0 && out.contains("LAB-1"), "the key that it found is the one that is pinned: {out}{err}");
    // What is known is said, and not printed again.
    let (code, out, err) = fleet.rackctl(&scan).await;
    assert!(code == 0 && out.trim().is_empty() && err.contains("is bmc-127-0-0-1 already"), "{out}{err}");
    let (code, out, _) = fleet.rackctl(&[scan.as_slice(), &["--table"]].concat()).await;
    let row = out.lines().find(|line| line.starts_with("127.0.0.1")).unwrap_or_default();
    assert!(code == 0 && out.starts_with("ADDRESS") && row.contains("bmc-127-0-0-1"), "{out}");
    let (code, _, err) = fleet.rackctl(&[scan.as_slice(), &["--netns", "no-such-namespace"]].concat()).await;
    assert!(code == 1 && err.contains("no-such-namespace"), "{code} {err}");
    // None of it needed a password.
    assert!(machine.bmc.log().0.iter().filter(|e| e.user.is_some()).all(|e| e.user.as_deref() == Some("root")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_scan_found_is_shown_also_when_its_time_is_over() {
    let fleet = Fleet::of(&[&[]]).await;
    let port = fleet.machines[0].port;
    // Takes connections and says nothing: a handshake waits for it ten seconds.
    let silent = tokio::net::TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let whole = fs::read_to_string(fleet.path().join("fleet.yaml")).unwrap();
    fleet.write(&whole.replace(&fleet.machines[0].manifest("lab"), ""));
    let port = port.to_string();
    let words = [
        "--timeout",
        "4s",
        "bmc",
        "scan",
        "127.0.0.1/32",
        "127.0.0.2/32",
        "--port",
        &port,
        "--ipmi-port",
        "9",
        "--wait",
        "1s",
    ];
    let began = Instant::now();
    let (code, out, err) = fleet.rackctl(&words).await;
    drop(silent);
    assert_eq!(code, 1, "{err}");
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    assert!(out.contains("https://127.0.0.1:") && !out.contains("127.0.0.2"), "{out}");
    assert!(err.contains("not done within 4s (--timeout)") && err.contains("1 of 2 addresses were asked"), "{err}");
}

/// An inventory of one machine with two endpoints, of which neither is pinned.
fn unpinned(fleet: &Fleet) {
    let whole = fs::read_to_string(fleet.path().join("fleet.yaml")).unwrap();
    let [one, two] = [0, 1].map(|at| &fleet.machines[at]);
    let endpoint = |m: &crate::fleet::Machine| format!("{{ redfish: \"{}\", credential: lab }}", m.url());
    let was =
        format!("endpoints: [{{ redfish: \"{}\", credential: lab, tls: {{ pin: \"{}\" }} }}]", one.url(), one.pin);
    let both = format!("endpoints: [{}, {}]", endpoint(one), endpoint(two));
    assert!(whole.contains(&was));
    fleet.write(&whole.replace(&was, &both).replace(&two.manifest("lab"), ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_is_pinned_and_each_format_shows_them() {
    let fleet = Fleet::of(&[&[], &[]]).await;
    unpinned(&fleet);
    let pins: Vec<&str> = fleet.machines.iter().map(|m| m.pin.as_str()).collect();
    let (code, out, err) = fleet.rackctl(&["bmc", "trust", "n1", "--dry-run", "-o", "json"]).await;
    assert_eq!(code, 0, "{err}");
    let said = json(&out);
    let shown: Vec<(&str, &str, &str)> = said["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            let text = |pointer: &str| item.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            (text("/metadata/name"), text("/status/pin"), text("/status/was"))
        })
        .collect();
    assert_eq!(shown, [("n1", pins[0], "unpinned"), ("n1", pins[1], "unpinned")]);
    // A fingerprint is of one key: the endpoint that shows another stays as it is.
    let (code, _, err) = fleet.rackctl(&["bmc", "trust", "n1", "--fingerprint", pins[1]]).await;
    assert_eq!(code, 4, "{err}");
    let text = || fs::read_to_string(fleet.path().join("fleet.yaml")).unwrap();
    assert!(!text().contains(pins[0]) && text().matches(pins[1]).count() == 1, "{}", text());
    let (code, _, err) = fleet.rackctl(&["bmc", "trust", "n1", "--fingerprint", pins[0]]).await;
    assert_eq!(code, 4, "{err}");
    assert!(text().contains(pins[0]) && text().contains(pins[1]), "{}", text());
    let (code, out, err) = fleet.rackctl(&["bmc", "trust", "n1"]).await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(out.matches("already pinned").count(), 2, "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bmcs_that_are_silent_are_waited_for_side_by_side() {
    let mut fleet = Fleet::of(&[&[], &[], &[]]).await;
    let ports: Vec<u16> = fleet.machines.drain(..).map(|m| m.port).collect();
    let mut silent = Vec::new();
    for port in ports {
        let end = Instant::now() + PATIENCE;
        // The machine's own listener goes when its task has ended.
        silent.push(loop {
            match tokio::net::TcpListener::bind(("127.0.0.1", port)).await {
                Ok(listener) => break listener,
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        });
    }
    let began = Instant::now();
    let (code, _, err) = fleet.rackctl(&["bmc", "trust", "n1", "n2", "n3", "--dry-run"]).await;
    assert_eq!(code, 1, "{err}");
    assert_eq!(err.matches("no TLS handshake within").count(), 3, "{err}");
    // Ten seconds each.
    assert!(began.elapsed() < Duration::from_secs(19), "{:?}", began.elapsed());
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_screenshot_has_one_file_and_that_is_said_before_anything_is_asked() {
    let fleet = Fleet::of(&[&[], &[]]).await;
    let (code, _, err) = fleet.rackctl(&["bmc", "screenshot", "n1", "n2", "--out", "x.png"]).await;
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("--out is of one machine"), "{err}");
    assert!(fleet.machines.iter().all(|m| m.bmc.log().0.is_empty()), "nobody was asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn secure_boot_is_shown_and_switched_from_the_next_start_on() {
    let fleet = Fleet::of(&[&[]]).await;
    let row = async || {
        let (code, out, err) = fleet.rackctl(&["bmc", "bios", "n1"]).await;
        assert_eq!(code, 0, "{err}");
        out.lines().find(|line| line.contains("Secure Boot")).unwrap_or_default().to_owned()
    };
    assert!(row().await.contains("Disabled (SetupMode)") && row().await.trim_end().ends_with('-'));
    let (code, out, err) = fleet.rackctl(&["bmc", "bios", "n1", "--secure-boot", "on", "--dry-run"]).await;
    assert!(code == 0 && out.contains("set-secure-boot"), "{out}{err}");
    assert!(!row().await.contains("Enabled"), "nothing was done");
    let (code, out, err) = fleet.rackctl(&["bmc", "bios", "n1", "--secure-boot", "on"]).await;
    assert!(code == 0 && out.contains("on from the next start on"), "{out}{err}");
    assert!(row().await.trim_end().ends_with("Enabled"), "{}", row().await);
    let (_, out, _) = fleet.rackctl(&["bmc", "bios", "n1", "--pending"]).await;
    assert!(out.contains("Secure Boot") && out.lines().count() == 2, "{out}");
    let writes = fleet.machines[0].bmc.writes().len();
    let (code, _, err) = fleet.rackctl(&["bmc", "bios", "n1", "--secure-boot", "on"]).await;
    assert_eq!(code, 0, "{err}");
    let patches = |from: usize| {
        fleet.machines[0].bmc.writes().iter().skip(from).filter(|w| w.path.contains("SecureBoot")).count()
    };
    assert_eq!(patches(writes), 0, "it is so already");
    let (code, out, err) = fleet.rackctl(&["bmc", "bios", "n1", "--secure-boot", "off"]).await;
    assert!(code == 0 && out.contains("off, in force"), "{out}{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_that_wait_are_shown_alone() {
    let fleet = Fleet::of(&[&[]]).await;
    let (code, out, err) = fleet.rackctl(&["bmc", "bios", "n1", "-o", "json"]).await;
    assert_eq!(code, 0, "{err}");
    let said = json(&out);
    let attributes = said["items"][0]["status"]["attributes"].as_object().unwrap().clone();
    assert!(attributes.len() > 1);
    let (code, _, err) = fleet.rackctl(&["bmc", "bios", "n1", "--set", "BootMode=Bios"]).await;
    assert_eq!(code, 0, "{attributes:?}: {err}");
    let (code, out, err) = fleet.rackctl(&["bmc", "bios", "n1", "--pending"]).await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(out.lines().count(), 2, "{out}");
    assert!(out.contains("BootMode") && out.contains("Bios"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_this_host_is_sent_as_firmware() {
    let fleet = Fleet::of(&[&[]]).await;
    fs::write(fleet.path().join("nic-9.8.7.bin"), [0u8; 4096]).unwrap();
    let (code, _, err) = fleet.rackctl(&["bmc", "firmware", "n1", "--update", "./no-such-file.bin"]).await;
    assert_eq!(code, 2, "{err}");
    let words = ["bmc", "firmware", "n1", "--update", "./nic-9.8.7.bin", "--item", "NIC1", "--yes"];
    let (code, _, err) = fleet.rackctl(&words).await;
    assert_eq!(code, 0, "{err}");
    let (code, out, err) = fleet.rackctl(&["bmc", "firmware", "n1"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.lines().any(|line| line.contains("NIC1") && line.contains("9.8.7")), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_switched_on_without_waiting_for_it() {
    let fleet = Fleet::of(&[&["power-lag=40s"]]).await;
    let began = Instant::now();
    let (code, _, err) = fleet.rackctl(&["power", "on", "n1", "--no-wait"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    let resets = fleet.machines[0].bmc.writes().iter().filter(|w| w.path.ends_with("ComputerSystem.Reset")).count();
    assert_eq!(resets, 1);
    assert_eq!(fleet.open_sessions(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_replaced_and_seen_to_be_served() {
    let fleet = Fleet::of(&[&[], &[]]).await;
    let new = certificate("n1", None).unwrap();
    fs::write(fleet.path().join("n1.pem"), format!("{}{}", new.cert_pem, new.key_pem.expose())).unwrap();
    let (code, _, err) = fleet.rackctl(&["bmc", "cert", "n1", "n2", "--replace", "n1.pem", "--yes"]).await;
    assert!(code == 2 && err.contains("name one node"), "{err}");
    let (code, out, err) = fleet.rackctl(&["bmc", "cert", "n1", "--replace", "n1.pem", "--yes"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains(&new.pin), "{out}");
    assert_eq!(fleet.machines[0].bmc.replaced_pin().as_ref(), Some(&new.pin));
    // Another key than the one that is pinned.
    let (code, _, err) = fleet.rackctl(&["bmc", "cert", "n1"]).await;
    assert!(code == 1 && err.contains("bmc trust n1"), "{err}");
    let (code, _, err) = fleet.rackctl(&["bmc", "trust", "n1", "--fingerprint", &new.pin]).await;
    assert_eq!(code, 0, "{err}");
    let (code, out, err) = fleet.rackctl(&["bmc", "cert", "n1"]).await;
    assert!(code == 0 && out.contains("https"), "{out}{err}");
}
