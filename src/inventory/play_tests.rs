//! Parameters and steps of a small fleet.

use super::*;
use crate::{
    inventory::{Source, load},
    model::{
        goal::Ceiling,
        playbook::{OnOff, PowerWord},
    },
};

const FLEET: &str = "
apiVersion: rackctl.dev/v1alpha1
kind: Cluster
metadata: { name: core }
spec: { driver: { etcd: { version: '3.4.23' } }, members: { selector: role=m, size: 3 } }
---
apiVersion: rackctl.dev/v1alpha1
kind: Node
metadata: { name: n1, labels: { role: m } }
spec: {}
---
apiVersion: rackctl.dev/v1alpha1
kind: Node
metadata: { name: n2, labels: { role: m } }
spec: {}
---
apiVersion: rackctl.dev/v1alpha1
kind: Node
metadata: { name: n3, labels: { role: m } }
spec: {}
---
apiVersion: rackctl.dev/v1alpha1
kind: Node
metadata: { name: n4 }
spec: { lifecycle: spare }
---
apiVersion: rackctl.dev/v1alpha1
kind: Playbook
metadata: { name: p }
spec:
";

fn fleet(spec: &str) -> Fleet {
    let indented: String = spec.trim_matches('\n').lines().map(|l| format!("  {l}\n")).collect();
    load(&[Source::Stdin(format!("{FLEET}{indented}"))]).unwrap_or_else(|f| panic!("{f}")).fleet
}

fn bound(spec: &str, set: &[(&str, &str)]) -> Result<Play, Vec<String>> {
    let set: Vec<_> = set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    bind(&fleet(spec), "p", &set).map_err(|f| f.iter().map(ToString::to_string).collect())
}

const ALL: &str = r#"
parameters:
  machine: { type: node }
  cluster: { type: cluster, default: core }
  who: { type: selector, default: role=m }
  soak: { type: duration, default: 30s }
  again: { type: bool, default: false }
  count: { type: number, default: 3 }
  say: { type: text, default: "a b; rm -rf /" }
steps:
  - apply: { allow: reboot }
  - install: { node: "{{ machine }}", reinstall: "{{ again }}" }
    onFailure: { retry: 2, delay: "{{ soak }}", then: continue }
  - join: { selector: "{{ who }}" }
    onFailure: continue
  - power: { nodes: ["n[1-2]", "{{ machine }}"], action: cycle, force: true }
    onFailure:
      - notify: { message: "{{ machine }} failed", command: [/bin/mail, "{{ say }}"] }
  - boot: { node: n1, target: pxe, persistent: "{{ again }}" }
  - gate: { cluster: "{{ cluster }}", healthy: "{{ soak }}" }
  - approve: { message: "really {{ machine }}?", deadline: 2h }
  - wait: { duration: "{{ soak }}" }
  - wait: { for: { node: "{{ machine }}", power: "off" }, deadline: 5m }
  - wait: { for: { cluster: core } }
  - exec: { command: [/bin/echo, "{{ say }}", "x{{ count }}"], deadline: 5s, repeatable: true }
    when: "{{ again }}"
  - notify: { message: hi, url: "http://hooks.example.net/x?m={{ say }}" }
    when: "{{ machine }} != n4"
  - name: Look at {{ machine }}
    pause: { message: look }
"#;

#[test]
fn everything_becomes_a_value() {
    let play = bound(ALL, &[("machine", "n4")]).unwrap();
    let act = |at: usize| play.steps[at].act.clone();
    let scope = |names: &[&str]| Scope(names.iter().map(|n| (*n).to_owned()).collect());
    assert_eq!(act(0), Act::Apply { nodes: scope(&["n1", "n2", "n3"]), allow: Ceiling::Reboot }, "active ones alone");
    assert_eq!(act(1), Act::Install { nodes: scope(&["n4"]), reinstall: false });
    assert_eq!(play.steps[1].on_failure, Recovery { retry: 2, delay_ms: 30_000, steps: vec![], then: Then::Continue });
    assert_eq!(act(2), Act::Join { nodes: scope(&["n1", "n2", "n3"]) });
    assert_eq!(
        act(3),
        Act::Power { nodes: scope(&["n1", "n2", "n4"]), action: PowerWord::Cycle, force: true, lose_quorum: false }
    );
    let rescue = &play.steps[3].on_failure.steps[0];
    assert_eq!(rescue.id, "play/04-power/01-notify");
    // No value can become two words, or a shell's.
    assert!(
        matches!(&rescue.act, Act::Notify { to: Target::Command { command }, .. } if command[1] == "a b; rm -rf /")
    );
    assert_eq!(act(5), Act::Gate { cluster: "core".into(), healthy_ms: 30_000, deadline_ms: 630_000 });
    assert_eq!(act(6), Act::Approve { message: "really n4?".into(), deadline_ms: 7_200_000 });
    assert_eq!(act(7), Act::Wait { for_ms: 30_000 });
    assert_eq!(act(8), Act::AwaitPower { node: "n4".into(), power: OnOff::Off, deadline_ms: 300_000 });
    assert_eq!(act(9), Act::Gate { cluster: "core".into(), healthy_ms: 0, deadline_ms: 600_000 });
    let command = ["/bin/echo", "a b; rm -rf /", "x3"].map(str::to_owned).to_vec();
    assert_eq!(act(10), Act::Exec { command, deadline_ms: 5_000, repeatable: true });
    assert_eq!(play.steps[10].skipped.as_deref(), Some("when: {{ again }} (false)"));
    assert!(
        matches!(act(11), Act::Notify { to: Target::Url { url, .. }, .. } if url.ends_with("?m=a%20b%3B%20rm%20-rf%20%2F"))
    );
    assert_eq!(play.steps[11].skipped.as_deref(), Some("when: {{ machine }} != n4 (n4 != n4)"));
    assert_eq!((play.steps[12].id.as_str(), play.steps[12].title.as_str()), ("play/13-pause", "Look at n4"));
    assert_eq!(play.parameters["count"], "3");
    assert_eq!(play.nodes(), ["n1", "n2", "n3", "n4"]);
    let stored = serde_json::to_value(&play).unwrap();
    assert_eq!(serde_json::from_value::<Play>(stored).unwrap(), play);
}

#[test]
fn all_faults_of_parameters_at_once() {
    let set = [("machin", "n1"), ("soak", "long"), ("again", "yes"), ("count", "1e3"), ("cluster", "cor")];
    let faults = bound(ALL, &set).unwrap_err();
    for wanted in [
        "--set machin=…: playbook p has no such parameter; did you mean `machine`?",
        "parameter machine: it has no value and no default; a node is wanted",
        "parameter soak (duration): `long` is not a duration",
        "parameter again (bool): `yes` is neither `true` nor `false`",
        "parameter count (number): `1e3` is no number",
        "parameter cluster (cluster): no cluster is named `cor`; did you mean `core`?",
    ] {
        assert!(faults.iter().any(|f| f.contains(wanted)), "{wanted}\n{faults:#?}");
    }
    assert_eq!(faults.len(), 6, "what follows from them is not told as well: {faults:#?}");
}

#[test]
fn verbs_of_later_versions_are_refused_by_name() {
    let spec = "
steps:
  - replace: { node: n1, with: n4 }
  - drain: { node: n1 }
  - cordon: { node: n1 }
  - uncordon: { node: n1 }
  - decommission: { node: n1 }
  - upgrade: { cluster: core }
  - recover: { cluster: core, from: /x.db }
  - join: { node: n1 }
    onFailure: [{ drain: { node: n1 } }]
";
    let faults = bound(spec, &[]).unwrap_err();
    let words = ["replace", "drain", "cordon", "uncordon", "decommission", "upgrade", "recover"];
    for (fault, word) in faults.iter().zip(words) {
        assert!(fault.contains(&format!("`{word}` is not in this version")), "{fault}");
    }
    assert!(faults.len() == 8 && faults[7].contains("play/08-join/01-drain"), "{faults:#?}");
}

#[test]
fn values_that_only_a_run_can_judge() {
    let spec = "
parameters: { text: { type: text }, who: { type: selector, default: role=none } }
steps:
  - gate: { cluster: '{{ text }}', healthy: '{{ text }}' }
  - join: { selector: '{{ who }}' }
  - join: { nodes: ['{{ text }}'] }
  - exec: { command: ['{{ text }}'] }
    when: '{{ text }}'
  - gate: { cluster: core, healthy: 5m, deadline: 300s }
";
    let spec = spec.replace(", deadline: 300s", ", deadline: '{{ text }}'");
    let faults = bound(&spec, &[("text", "1s")]).unwrap_err();
    for wanted in [
        "no cluster is named `1s`",
        "the selector `role=none` matches no node",
        "no node matches `1s`",
        "`1s` is neither `true` nor `false`",
        "cannot be seen within a deadline of 1000 ms",
    ] {
        assert!(faults.iter().any(|f| f.contains(wanted)), "{wanted}\n{faults:#?}");
    }
}

#[test]
fn a_playbook_that_is_not_there() {
    let fleet = fleet("steps: [{ join: { node: n1 } }]");
    let faults = bind(&fleet, "P", &[]).unwrap_err();
    assert!(faults[0].why.contains("did you mean `p`?"), "{faults:?}");
    assert!(bind(&fleet, "p", &[("a".into(), "b".into())]).unwrap_err()[0].why.contains("has no parameters"));
}

#[test]
fn conditions_are_taken_apart_before_they_are_filled_in() {
    assert_eq!(when("{{ a }} == b"), Ok(When::Same("{{ a }}", "b")));
    assert_eq!(when("{{ a }} != "), Ok(When::Differs("{{ a }}", "")));
    assert_eq!(when("!{{ a }}"), Ok(When::IsNot("{{ a }}")));
    assert!(when("{{ a }} && {{ b }}").is_err() && when("yes").is_err());
    // A value that looks like a condition is a value.
    let spec = "
parameters: { a: { type: text } }
steps: [{ when: '{{ a }} == x', join: { node: n1 } }]
";
    assert!(bound(spec, &[("a", "x == x")]).unwrap().steps[0].skipped.is_some());
    assert!(bound(spec, &[("a", "x")]).unwrap().steps[0].skipped.is_none());
}
