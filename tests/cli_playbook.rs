//! `run` without machines: what a dry run shows, and what is refused before anything is begun.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests, outside of #[test] functions

use std::process::Command;

const INVENTORY: &str = "apiVersion: rackctl.dev/v1alpha1
kind: Credential
metadata: { name: bmc }
spec: { username: admin, passwordFrom: { file: '/nonexistent/{{ node.name }}' } }
---
apiVersion: rackctl.dev/v1alpha1
kind: Node
metadata: { name: n1, labels: { role: m } }
spec:
  bmc: { endpoints: [{ redfish: 'https://127.0.0.1:9', credential: bmc }] }
---
apiVersion: rackctl.dev/v1alpha1
kind: Cluster
metadata: { name: core }
spec: { driver: { etcd: { version: '3.4.23' } }, members: { selector: role=m, size: 1 } }
---
apiVersion: rackctl.dev/v1alpha1
kind: Playbook
metadata: { name: renew }
spec:
  parameters:
    machine: { type: node, description: The machine }
    soak: { type: duration, default: 30s }
    ask: { type: bool, default: false }
  steps:
    - name: Take {{ machine }} down
      power: { node: '{{ machine }}', action: 'off' }
      onFailure: { retry: 2, delay: 5s, then: continue }
    - install: { node: '{{ machine }}', reinstall: true }
      onFailure: [{ notify: { message: '{{ machine }} failed', command: [/bin/mail, ops] } }]
    - when: '{{ ask }}'
      pause: { message: look at it }
    - join: { selector: role=m }
    - gate: { cluster: core, healthy: '{{ soak }}' }
    - exec: { command: [./after, '{{ machine }}'], deadline: 5s }
---
apiVersion: rackctl.dev/v1alpha1
kind: Playbook
metadata: { name: later }
spec:
  steps:
    - drain: { node: n1 }
    - replace: { node: n1, with: n1 }
";

/// A home of its own, with the inventory in it.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Home {
        let home = Home(tempfile::tempdir().unwrap());
        std::fs::create_dir(home.0.path().join("inventory")).unwrap();
        std::fs::write(home.0.path().join("inventory/all.yaml"), INVENTORY).unwrap();
        home
    }

    /// Exit code and both streams, without what differs from one time to the next.
    fn run(&self, words: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rackctl"));
        command.args(words).current_dir(self.0.path()).env_clear().env("PATH", "/usr/bin:/bin");
        let output = command.env("HOME", self.0.path()).stdin(std::process::Stdio::null()).output().unwrap();
        let folder = self.0.path().canonicalize().unwrap().display().to_string();
        let text = |bytes: Vec<u8>| without_hashes(&String::from_utf8(bytes).unwrap().replace(&folder, "HERE"));
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }
}

fn without_hashes(text: &str) -> String {
    let hash = |word: &str| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let lines =
        text.lines().map(|l| l.split(' ').map(|w| if hash(w) { "HASH" } else { w }).collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_dry_run_shows_every_step_and_writes_nothing() {
    let home = Home::new();
    let (code, out, err) = home.run(&["run", "renew", "--set", "machine=n1", "--dry-run"]);
    assert_eq!((code, err.as_str()), (0, ""));
    insta::assert_snapshot!(out, @r"
    playbook renew: 6 steps; nothing is done
      ask = false
      machine = n1
      soak = 30s

    play/01-power  Take n1 down
        power off n1
        on failure: up to 2 further attempts, 5 s between them
        on failure: the playbook goes on
        context - · site - · revision not in git · power 1 node · 0 WIPE · 1 REBOOT · DHCP answers nowhere

        n1
          + set-power                reboot      asked for by name

        Plan HASH

    play/02-install  install n1, also where a system is
        context - · site - · revision not in git · install 1 node · 0 WIPE · 0 REBOOT · DHCP answers nowhere

        Refused:
          ! n1: its BMC does not answer as it should: /nonexistent/n1: No such file or directory (os error 2)
              next: rackctl bmc info n1

        Plan HASH
        (as things stand now: the steps before it change that)

    play/02-install/01-notify  say n1 failed
        only when the step above has failed

    play/03-pause  wait for a person: look at it
        passed over: when: {{ ask }} (false)

    play/04-join  join n1
        context - · site - · revision not in git · join 1 node · 0 WIPE · 0 REBOOT · DHCP answers nowhere

        Refused:
          ! n1: its BMC does not answer as it should: /nonexistent/n1: No such file or directory (os error 2)
              next: rackctl bmc info n1
          ! cluster/core: none of its members can be prepared; see their refusals

        Plan HASH
        (as things stand now: the steps before it change that)

    play/05-gate  wait until cluster core is healthy for 30 s, at most 630 s

    play/06-exec  run HERE/inventory/after n1
    ");
    let (code, out, _) = home.run(&["playbook", "run", "renew", "--set", "machine=n1", "--dry-run", "-o", "json"]);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, value["kind"].as_str()), (0, Some("PlaybookPlan")));
    let steps = value["status"]["steps"].as_array().unwrap();
    assert_eq!(steps[0]["plan"]["kind"], "Plan");
    assert_eq!((steps[3]["id"].as_str(), steps[3]["passedOver"].is_string()), (Some("play/03-pause"), true));
    assert_eq!(home.run(&["runs", "-o", "name"]).1, "", "no run was made");
}

#[test]
fn what_cannot_be_run_is_refused_whole() {
    let home = Home::new();
    let (code, _, err) = home.run(&["run", "later"]);
    assert_eq!(code, 2, "{err}");
    for word in ["`drain` is not in this version", "`replace` is not in this version", "play/02-replace"] {
        assert!(err.contains(word), "{word}: {err}");
    }
    let (code, _, err) = home.run(&["run", "renew", "--set", "soak=soon", "--set", "mashine=n1"]);
    assert_eq!(code, 2, "{err}");
    for word in [
        "did you mean `machine`?",
        "a node is wanted: The machine",
        "next: rackctl run renew --set machine=…",
        "`soon` is not a duration",
    ] {
        assert!(err.contains(word), "{word}: {err}");
    }
    let (code, out, err) = home.run(&["run", "renew", "--set", "machine=n1", "--read-only"]);
    assert!(code == 3 && out.starts_with("playbook renew: 6 steps") && err.contains("--read-only"), "{code}: {err}");
    assert_eq!(home.run(&["run", "renew", "--set", "machine"]).0, 2);
    assert_eq!(home.run(&["runs", "-o", "name"]).1, "");
}

#[test]
fn playbooks_are_listed_with_their_parameters() {
    let home = Home::new();
    let (_, out, _) = home.run(&["playbook", "list"]);
    assert!(out.contains("renew   6       ask:bool=false machine:node soak:duration=30s"), "{out}");
    assert_eq!(home.run(&["get", "pb"]).1, out);
    let (_, out, _) = home.run(&["describe", "playbook", "renew"]);
    assert!(out.contains("The machine") && out.contains("inventory/all.yaml:"), "{out}");
    let (_, out, _) = home.run(&["explain", "playbook.steps.onFailure"]);
    assert!(out.contains("retry <integer>") && out.contains("continue — The next step is begun"), "{out}");
}
