//! The verbs themselves: selection, formats, exit codes, and changes as short runs with a journal.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Stdio};

use serde_json::{Value, json};

use crate::small::{Desk, MANAGER, PASSWORD, SYSTEM, desk, merge};

/// A fleet of one machine behind the small BMC; `more`: further lines of its spec.
struct Home(tempfile::TempDir);

impl Home {
    fn of(desk: &Desk, more: &str) -> Home {
        let home = Home(tempfile::tempdir().unwrap());
        home.password(PASSWORD);
        let inventory = format!(
            "apiVersion: rackctl.dev/v1alpha1
kind: Credential
metadata: {{ name: lab }}
spec: {{ username: root, passwordFrom: {{ file: {file:?} }} }}
---
apiVersion: rackctl.dev/v1alpha1
kind: Node
metadata: {{ name: n1 }}
spec:
  bmc: {{ endpoints: [{{ redfish: \"{url}\", credential: lab, tls: {{ pin: \"{pin}\" }} }}] }}
  interfaces: [{{ name: eno1, mac: \"52:54:00:00:00:01\", addresses: [10.77.0.11/24] }}]
{more}",
            file = home.path().join("password").to_str().unwrap(),
            url = desk.url,
            pin = desk.pin,
        );
        fs::write(home.path().join("fleet.yaml"), inventory).unwrap();
        home
    }
    fn path(&self) -> &Path {
        self.0.path()
    }
    fn password(&self, text: &str) {
        fs::write(self.path().join("password"), text).unwrap();
        fs::set_permissions(self.path().join("password"), fs::Permissions::from_mode(0o600)).unwrap();
    }
    fn command(&self, words: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_rackctl"));
        command
            .args(["-f", "fleet.yaml", "--store", "sqlite:state.db"])
            .args(words)
            .current_dir(self.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.path())
            .stdin(Stdio::null());
        command
    }
    async fn rackctl(&self, words: &[&str]) -> (i32, String, String) {
        let output = self.command(words).output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let said = (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr));
        println!("rackctl {}: {}\n{}{}", words.join(" "), said.0, said.1, said.2);
        said
    }
    /// Every byte that is kept of what was done.
    fn kept(&self) -> String {
        let files = fs::read_dir(self.path()).unwrap().flatten().filter(|e| e.path().is_file());
        let kept = files.filter(|e| e.file_name().to_string_lossy().starts_with("state.db"));
        kept.map(|e| String::from_utf8_lossy(&fs::read(e.path()).unwrap()).into_owned()).collect()
    }
}

fn media() -> Value {
    json!({
        format!("{MANAGER}/VirtualMedia"): {"Members": [{"@odata.id": format!("{MANAGER}/VirtualMedia/EXT1")}]},
        format!("{MANAGER}/VirtualMedia/EXT1"): {"Id": "EXT1", "MediaTypes": ["CD"], "Inserted": false},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_a_run_with_a_journal_and_a_look_shows_it() {
    let desk = desk(media(), |_, _, _, _| None).await;
    let home = Home::of(&desk, "");
    let (code, out, err) = home.rackctl(&["bmc", "media", "n1", "--insert", "http://h/x.iso"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("http://h/x.iso in slot EXT1"), "{out}");
    let (code, out, _) = home.rackctl(&["bmc", "media", "n1"]).await;
    assert_eq!(code, 0);
    assert!(out.contains("EXT1") && out.contains("yes") && out.contains("http://h/x.iso"), "{out}");
    let (_, out, _) = home.rackctl(&["runs", "-o", "json"]).await;
    let runs: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(runs["items"].as_array().map(Vec::len), Some(1), "{out}");
    assert_eq!(runs["items"][0]["status"]["phase"], "Succeeded", "{out}");
    let (_, out, _) = home.rackctl(&["logs", "n1"]).await;
    assert!(out.contains("n1/insert-media"), "{out}");
    let (code, out, err) = home.rackctl(&["bmc", "media", "n1", "--eject", "-o", "json"]).await;
    assert_eq!(code, 0, "{err}");
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(said["items"][0]["status"]["result"], "empty");
    let (code, _, err) = home.rackctl(&["--read-only", "bmc", "media", "n1", "--eject"]).await;
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("error: eject-media"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_bmc_lacks_is_exit_3_and_protected_machines_are_left_alone() {
    let lacking = desk(json!({}), |_, _, _, _| None).await;
    let home = Home::of(&lacking, "  protect: true\n");
    for verb in ["log", "sensors", "bios", "firmware", "raid", "users", "cert", "media", "screenshot"] {
        let (code, out, err) = home.rackctl(&["bmc", verb, "n1"]).await;
        assert_eq!((code, out.as_str()), (3, ""), "{verb}: {err}");
        assert!(err.contains("this BMC offers no ") && err.contains("looked at "), "{verb}: {err}");
    }
    let (code, out, _) = home.rackctl(&["bmc", "log", "n1", "-o", "json"]).await;
    assert_eq!(code, 3);
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(said["items"][0]["status"]["failure"]["cause"], "guard");
    for words in [
        ["bmc", "nmi", "n1", "--yes"].as_slice(),
        &["bmc", "reset", "n1", "--yes"],
        &["bmc", "bios", "n1", "--set", "A=b"],
        &["bmc", "log", "n1", "--clear", "--yes"],
    ] {
        let (code, _, err) = home.rackctl(words).await;
        assert_eq!(code, 3, "{err}");
        assert!(err.contains("it is protected"), "{err}");
    }
    assert_eq!(lacking.writes(), []);
    let (code, _, err) = home.rackctl(&["bmc", "log"]).await;
    assert_eq!(code, 2, "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn destroying_a_volume_wants_a_word_and_happens_once() {
    let storage = json!({
        format!("{SYSTEM}/Storage"): {"Members": [{"@odata.id": "/st"}]},
        "/st": {"Id": "R1", "Volumes": {"@odata.id": "/st/Volumes"}, "Drives": []},
        "/st/Volumes": {"Members": [{"@odata.id": "/st/Volumes/v1"}]},
        "/st/Volumes/v1": {"Id": "v1", "Name": "data", "RAIDType": "RAID1", "CapacityBytes": 2_000_000_000_000u64},
    });
    let desk = desk(storage, |tree, method, path, _| {
        (method == "DELETE" && path == "/st/Volumes/v1").then(|| {
            tree.insert("/st/Volumes".into(), json!({"Members": []}));
            (204, Value::Null, None)
        })
    })
    .await;
    let home = Home::of(&desk, "");
    let (_, out, _) = home.rackctl(&["bmc", "raid", "n1"]).await;
    assert!(out.contains("v1") && out.contains("RAID1") && out.contains("2.00 TB"), "{out}");
    let (code, _, err) = home.rackctl(&["bmc", "raid", "n1", "--delete", "data"]).await;
    assert_eq!(code, 6, "{err}");
    assert!(err.contains("DATA LOSS: everything on the volume data"), "{err}");
    assert_eq!(desk.writes(), []);
    let (code, out, err) = home.rackctl(&["bmc", "raid", "n1", "--delete", "data", "--yes"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("data deleted"), "{out}");
    assert_eq!(desk.writes().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_is_proven_and_never_kept() {
    const NEW: &str = "battery staple 7";
    let users = json!({
        "/redfish/v1/AccountService": {"Accounts": {"@odata.id": "/accounts"}},
        "/accounts": {"Members": [{"@odata.id": "/accounts/2"}]},
        "/accounts/2": {"Id": "2", "UserName": "root", "RoleId": "Administrator", "Enabled": true},
    });
    let mut asked = 0;
    let desk = desk(users, move |tree, method, _, body| {
        if method == "PATCH" {
            asked += 1;
        }
        // The first time it says yes and goes on with the old one.
        if asked == 2 && method == "PATCH" {
            tree.insert("/password".into(), body["Password"].clone());
        }
        (method == "PATCH").then(|| (200, json!({}), None))
    })
    .await;
    let home = Home::of(&desk, "");
    let file = home.path().join("new");
    fs::write(&file, format!("{NEW}\n")).unwrap();
    let words = ["bmc", "users", "n1", "--set-password", "root", "--password-file", "new"];
    let (code, _, err) = home.rackctl(&words).await;
    assert_eq!(code, 2, "{err}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    // Found out by the log-in.
    let (code, _, err) = home.rackctl(&words).await;
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("took the new password and refuses it at the log-in"), "{err}");
    assert!(!err.contains("leave it safe"), "nothing was prepared that could be left: {err}");
    let (code, out, err) = home.rackctl(&words).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("root: the new password works"), "{out}");
    for text in [&home.kept(), &out, &err] {
        assert!(!text.contains(NEW) && !text.contains(PASSWORD));
    }
    home.password(NEW);
    let (code, out, _) = home.rackctl(&["bmc", "users", "n1"]).await;
    assert_eq!(code, 0);
    assert!(out.contains("Administrator"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_followed_until_it_is_told_to_stop() {
    use tokio::io::{AsyncBufReadExt, BufReader};
    let log = json!({
        format!("{SYSTEM}/LogServices"): {"Members": [{"@odata.id": "/log"}]},
        "/log": {"Id": "Sel", "Entries": {"@odata.id": "/log/Entries"}},
        "/log/Entries": {"Members": [{"Id": "1", "Message": "the first"}]},
    });
    let desk = desk(log, |_, _, _, _| None).await;
    let home = Home::of(&desk, "");
    let mut command = home.command(&["bmc", "log", "n1", "--follow"]);
    let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let limit = std::time::Duration::from_secs(30);
    let mut next = async || tokio::time::timeout(limit, lines.next_line()).await.unwrap().unwrap();
    assert!(next().await.is_some_and(|line| line.starts_with("n1") && line.contains("the first")));
    let more = json!({"Members": [{"Id": "1", "Message": "the first"}, {"Id": "2", "Message": "the second"}]});
    desk.small.lock().unwrap().tree.insert("/log/Entries".into(), more);
    assert!(next().await.is_some_and(|line| line.contains("the second")));
    let pid = nix::unistd::Pid::from_raw(child.id().unwrap().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(next().await, None);
    let ended = tokio::time::timeout(limit, child.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_shown_cut_and_cleared() {
    let entry = |id: &str, text: &str| json!({"Id": id, "Created": format!("2026-01-0{id}T00:00:00Z"), "Severity": "Warning", "Message": text});
    let log = json!({
        format!("{SYSTEM}/LogServices"): {"Members": [{"@odata.id": "/log"}]},
        "/log": {"Id": "Sel", "Entries": {"@odata.id": "/log/Entries"}, "Actions": {"#LogService.ClearLog": {"target": "/clear"}}},
        "/log/Entries": {"Members": [entry("2", "fan\u{1b}[31m lost"), entry("1", "hello")]},
    });
    let desk = desk(log, |tree, _, path, _| {
        (path == "/clear").then(|| {
            merge(tree.get_mut("/log/Entries").unwrap(), &json!({"Members": []}));
            (204, Value::Null, None)
        })
    })
    .await;
    let home = Home::of(&desk, "");
    let (code, out, _) = home.rackctl(&["bmc", "log", "n1"]).await;
    assert_eq!(code, 0);
    assert!(out.find("hello").unwrap() < out.find("lost").unwrap() && !out.contains('\u{1b}'), "{out}");
    let (_, out, _) = home
        .rackctl(&["bmc", "log", "n1", "--tail", "1", "-o", "jsonpath={.items[0].status.logs[0].entries[*].id}"])
        .await;
    assert_eq!(out.trim(), "2");
    let (code, out, err) = home.rackctl(&["bmc", "log", "n1", "--clear", "--yes"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("Sel: 0 entries"), "{out}");
}

/// A fleet whose BMC nobody has pinned yet, as a person wrote it.
fn unpinned(desk: &Desk) -> (Home, String) {
    let home = Home::of(desk, "  # keep this\n");
    let path = home.path().join("fleet.yaml");
    let text = fs::read_to_string(&path).unwrap().replace(&format!(", tls: {{ pin: \"{}\" }}", desk.pin), "");
    let text = text.replace("kind: Node", "kind: Node # the only one");
    fs::write(&path, &text).unwrap();
    (home, text)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_pinned_when_somebody_has_said_that_it_is_the_one() {
    let desk = desk(json!({}), |_, _, _, _| None).await;
    let (home, before) = unpinned(&desk);
    let text = || fs::read_to_string(home.path().join("fleet.yaml")).unwrap();
    let (code, _, err) = home.rackctl(&["bmc", "info", "n1"]).await;
    assert_ne!(code, 0, "{err}");
    assert!(err.contains("rackctl bmc trust n1"), "{err}");
    // Nobody is there to say it.
    let (code, out, err) = home.rackctl(&["bmc", "trust", "n1"]).await;
    assert_eq!(code, 6, "{err}");
    assert!(out.contains(&desk.pin) && err.contains(&format!("--fingerprint {}", desk.pin)), "{out}{err}");
    let other = format!("sha256:{}", "0".repeat(64));
    let (code, _, err) = home.rackctl(&["bmc", "trust", "n1", "--fingerprint", &other]).await;
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("another machine answers"), "{err}");
    for words in [
        ["bmc", "trust", "n1", "--dry-run"].as_slice(),
        &["--read-only", "bmc", "trust", "n1", "--fingerprint", &desk.pin],
    ] {
        let (code, _, err) = home.rackctl(words).await;
        assert_eq!(code, 0, "{err}");
        assert!(err.contains("nothing was written"), "{err}");
    }
    assert_eq!(text(), before);
    let (code, _, err) = home.rackctl(&["bmc", "trust", "n1", "--fingerprint", &desk.pin]).await;
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("pinned in fleet.yaml"), "{err}");
    let pinned = before.replace("credential: lab }", &format!("credential: lab, tls: {{ pin: \"{}\" }} }}", desk.pin));
    assert_eq!(text(), pinned, "one value more, and nothing else");
    let (code, _, err) = home.rackctl(&["bmc", "info", "n1"]).await;
    assert_eq!(code, 0, "{err}");
    let (code, out, _) = home.rackctl(&["bmc", "trust", "n1"]).await;
    assert_eq!((code, out.contains("already pinned")), (0, true), "{out}");
    // Another key than the one that was pinned: shown with both, and replaced when it is named.
    fs::write(home.path().join("fleet.yaml"), pinned.replace(&desk.pin, &other)).unwrap();
    let (code, out, _) = home.rackctl(&["bmc", "trust", "n1"]).await;
    assert_eq!(code, 6);
    assert!(out.contains(&desk.pin) && out.contains(&format!("CHANGED: pinned is {other}")), "{out}");
    let (code, _, err) = home.rackctl(&["bmc", "trust", "n1", "--fingerprint", &desk.pin]).await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(text(), pinned);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_is_written_into_the_manifest() {
    let system = json!({ SYSTEM: {
        "Id": "1", "Manufacturer": "Contoso", "SerialNumber": "SN-1", "UUID": "4c4c4544-0034-5010-8031-c6c04f474831",
        "PowerState": "Off",
        "Actions": {"#ComputerSystem.Reset": {"target": "/reset", "ResetType@Redfish.AllowableValues": ["On"]}},
    }});
    let desk = desk(system, |_, _, _, _| None).await;
    let home = Home::of(&desk, "  # keep this\n  labels-of-people: none\n");
    let path = home.path().join("fleet.yaml");
    let before = fs::read_to_string(&path).unwrap().replace("  labels-of-people: none\n", "");
    fs::write(&path, &before).unwrap();
    let (code, out, err) = home.rackctl(&["inspect", "n1"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("SN-1"), "{out}");
    let (code, _, err) = home.rackctl(&["inspect", "n1", "--write", "--dry-run"]).await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(fs::read_to_string(&path).unwrap(), before, "a look writes nothing");
    let (code, _, err) = home.rackctl(&["--read-only", "inspect", "n1", "--write"]).await;
    assert_eq!(code, 3, "{err}");
    let (code, _, err) = home.rackctl(&["inspect", "n1", "--write"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("written into fleet.yaml"), "{err}");
    let after = fs::read_to_string(&path).unwrap();
    let fresh: Vec<&str> = after.lines().filter(|l| !before.lines().any(|b| b == *l)).collect();
    assert_eq!(fresh, ["  identity: { serial: \"SN-1\", uuid: \"4c4c4544-0034-5010-8031-c6c04f474831\" }"], "{after}");
    assert!(before.lines().all(|l| after.lines().any(|a| a == l)), "{after}");
    let (code, _, err) = home.rackctl(&["inspect", "n1"]).await;
    assert_eq!(code, 0);
    assert!(err.contains("the inventory has all that its BMC knows"), "{err}");
    assert_eq!(desk.writes(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_would_be_done_and_sends_nothing() {
    let desk = desk(media(), |_, _, _, _| None).await;
    let home = Home::of(&desk, "");
    for (words, told) in [
        (["bmc", "media", "n1", "--insert", "http://h/x.iso"].as_slice(), "http://h/x.iso"),
        (&["bmc", "bios", "n1", "--set", "BootMode=Uefi"], "BootMode=Uefi"),
        (&["bmc", "bios", "n1", "--clear-pending"], "clear-pending-bios"),
        (&["bmc", "log", "n1", "--clear"], "clear-log"),
        (&["bmc", "users", "n1", "--set-password", "root"], "of user root"),
        (&["bmc", "firmware", "n1", "--update", "http://h/b.bin", "--item", "BMC"], "BMC by http://h/b.bin"),
        (&["bmc", "raid", "n1", "--delete", "data"], "DATA LOSS"),
        (&["bmc", "nmi", "n1"], "+ nmi "),
        (&["bmc", "reset", "n1"], "restart-bmc"),
    ] {
        let (code, out, err) = home.rackctl(&[words, &["--dry-run"]].concat()).await;
        assert_eq!(code, 0, "{words:?}: {err}");
        assert!(out.contains(told), "{words:?}: {out}");
    }
    assert_eq!(desk.writes(), []);
    let (_, out, _) = home.rackctl(&["runs", "-o", "json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["items"], json!([]), "no run was begun");
    let guarded = Home::of(&desk, "  protect: true\n");
    let (code, out, _) = guarded.rackctl(&["bmc", "reset", "n1", "--dry-run"]).await;
    assert_eq!(code, 3);
    assert!(out.contains("it is protected"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_screen_is_written_where_it_is_wanted() {
    use base64::Engine;
    const PICTURE: &[u8] = b"\x89PNG\r\n\x1a\n and what stands on the screen";
    const ACTION: &str = "/lc/Actions/ExportServerScreenShot";
    let dell = json!({
        MANAGER: {"Id": "1", "Links": {"Oem": {"Dell": {"DellLCService": {"@odata.id": "/lc"}}}}},
        "/lc": {"Actions": {"#DellLCService.ExportServerScreenShot": {"target": ACTION}}},
    });
    let desk = desk(dell, |_, _, path, _| {
        let text = base64::engine::general_purpose::STANDARD.encode(PICTURE);
        // As it comes: in lines.
        let lines = format!("{}\r\n{}", &text[..8], &text[8..]);
        (path == ACTION).then(|| (200, json!({ "ServerScreenShotFile": lines }), None))
    })
    .await;
    let home = Home::of(&desk, "");
    let (code, out, err) = home.rackctl(&["bmc", "screenshot", "n1", "--out", "screen.png"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("screen.png"), "{out}");
    assert_eq!(fs::read(home.path().join("screen.png")).unwrap(), PICTURE);
    let (code, _, err) = home.rackctl(&["bmc", "screenshot", "n1"]).await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(fs::read(home.path().join("n1.png")).unwrap(), PICTURE);
}
