//! What is wrong is said all at once, each with file, line and suggestion; and nothing that stands in a file panics.

use std::path::PathBuf;

use proptest::prelude::*;
use rackctl::{
    inventory::{Fault, Kind, Loaded, Source, load, schema},
    model::baseline::ImageAt,
};

fn text(text: &str) -> Result<Loaded, Vec<Fault>> {
    load(&[Source::Stdin(text.to_owned())]).map_err(|f| f.0)
}

fn faults(content: &str) -> Vec<String> {
    text(content).err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

fn object(kind: &str, name: &str, spec: &str) -> String {
    format!("apiVersion: rackctl.dev/v1alpha1\nkind: {kind}\nmetadata: {{ name: {name} }}\nspec: {spec}\n---\n")
}

#[test]
fn all_faults_at_once() {
    let error = load(&[Source::Path(PathBuf::from("tests/fixtures/ten-faults"))]).unwrap_err();
    assert!(error.0.iter().all(|f| f.line > 0 && f.column > 0), "{error}");
    assert!(!error.to_string().contains("correct-horse"), "a password must not be repeated");
    insta::assert_snapshot!(error.to_string());
}

// fault: F17 F23 invariant: I5 harness: D
#[test]
fn duplicates_name_both_places() {
    let node = |name: &str, rest: &str| object("Node", name, rest);
    let bmc = |system: &str| {
        format!("{{ bmc: {{ endpoints: [{{ redfish: 'https://10.0.0.1', credential: c }}], system: '{system}' }} }}")
    };
    let credential = object("Credential", "c", "{ username: a, passwordFrom: { env: P } }");
    let twice = |a: &str, b: &str| faults(&format!("{credential}{}{}", node("n1", a), node("n2", b)));
    for (one, other, what) in [
        ("{ identity: { serial: AbC1 } }", "{ identity: { serial: ABC1 } }", "the serial"),
        (
            "{ identity: { uuid: 4c4c4544-0034-5010-8031-c6c04f474831 } }",
            "{ identity: { uuid: 4C4C4544-0034-5010-8031-c6c04f474831 } }",
            "the UUID",
        ),
        (
            "{ interfaces: [{ mac: '52:54:00:00:00:01', addresses: [10.0.0.1/24] }] }",
            "{ interfaces: [{ mac: '52:54:00:00:00:02', addresses: [10.0.0.1/24] }] }",
            "the address `10.0.0.1`",
        ),
        (&bmc("1"), &bmc("1"), "the BMC system"),
    ] {
        let said = twice(one, other);
        assert!(
            matches!(said.as_slice(), [f] if f.contains(what) && f.contains("n1 has it too") && f.contains("stdin:9")),
            "{said:?}"
        );
    }
    assert_eq!(twice(&bmc("1"), &bmc("2")), Vec::<String>::new(), "one BMC may have several systems");
    let said = faults(&format!("{credential}{}{}", node("n1", "{}"), node("n1", "{}")));
    assert!(matches!(said.as_slice(), [f] if f.contains("the name `Node/n1` stands twice")), "{said:?}");
}

#[test]
fn each_of_these_is_one_fault() {
    let network = |spec: &str| object("Network", "prov", spec);
    let cluster =
        |spec: &str| object("Cluster", "core", &format!("{{ driver: {{ etcd: {{ version: '3.4.23' }} }}, {spec} }}"));
    let labelled = |n: u32| {
        (1..=n)
            .map(|i| {
                format!("apiVersion: rackctl.dev/v1alpha1\nkind: Node\nmetadata: {{ name: n{i}, labels: {{ role: cp }} }}\nspec: {{}}\n---\n")
            })
            .collect::<String>()
    };
    for (content, wanted) in [
        (network("{ subnets: [{ cidr: 10.0.0.1/24 }] }"), "10.0.0.0/24"),
        (network("{ subnets: [{ cidr: 10.0.0.0/24, gateway: 10.0.1.1 }] }"), "10.0.1.1 is not in 10.0.0.0/24"),
        (network("{ subnets: [{ cidr: 10.0.0.0/24, pool: [10.0.0.9, 10.0.0.2] }] }"), "before it begins"),
        (network("{ subnets: [] }"), "at least 1"),
        (network("{ subnets: [{ cidr: 10.0.0.0/24 }], mtu: 70000 }"), "out of range"),
        (object("Node", "n1", "{ disks: { r: { match: { minSize: 400GiB5 } } } }"), "a size with its unit"),
        (object("Node", "n1", "{ protect: 'no' }"), "true or false is wanted here, not text"),
        (object("Node", "n1", "{ bmc: { endpoints: [{ credential: c }] } }") + &object("Credential", "c", "{ username: a, passwordFrom: { env: P } }"), "exactly one of `redfish`, `ipmi`"),
        (object("Node", "n1", "{ bmc: { endpoints: [{ redfish: 'https://root:hunter2@10.0.0.1', credential: c }] } }") + &object("Credential", "c", "{ username: a, passwordFrom: { env: P } }"), "without user or password"),
        (object("Credential", "c", "{ username: a }"), "`passwordFrom` is missing"),
        (object("Credential", "c", "{ username: a, passwordFrom: { env: P, file: x } }"), "exclude each other"),
        (object("Node", "n1", "{ kernelParams: ['a b'] }"), "one kernel argument"),
        (object("Node", "n1", "{ kernelParams: ['x={{ node.serial }}'] }"), "has no serial"),
        (labelled(2) + &cluster("members: { selector: role=cp, size: 1 }"), "2 active nodes match the selector, and the size is 1"),
        (labelled(2) + &cluster("members: { selector: role=cp, size: 5 }"), "size 5 cannot be reached"),
        (labelled(1) + &cluster("members: { selector: role=cp, size: 1 }, rollout: { maxUnavailable: '0%' }"), "nothing can ever be changed"),
        (labelled(1) + &cluster("members: { selector: role=cp, size: 1 }, rollout: { waves: ['250%'] }"), "from 0% to 100%"),
        (labelled(1) + &cluster("members: { selector: role=cp, size: 1 }, dependsOn: [core]"), "waits for itself"),
        (object("Playbook", "p", "{ parameters: { old: { type: node } }, steps: [{ drain: { node: '{{ odl }}' } }] }"), "did you mean `old`?"),
        ("apiVersion: v1\nkind: Pod\n".into(), "kubectl"),
        ("kind: Node\nmetadata: { name: n1 }\nspec: {}\n".into(), "begin with `apiVersion: rackctl.dev/v1alpha1`"),
        ("- 1\n".into(), "a map with apiVersion"),
        ("a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c]\ne: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d]\nf: &f [*e, *e, *e, *e, *e, *e, *e, *e]\ng: [*f, *f, *f]\n".into(), "more than 1000000 values"),
        ("[".repeat(2000), "inside each other"),
        (object("Node", "n1", "{ profile: '{{ node.name }}' }"), "is not a name"),
        (object("Node", "n1", "{ bmc: { endpoints: [{ redfish: 'http://{{ node.name }}', credential: c }] } }") + &object("Credential", "c", "{ username: a, passwordFrom: { env: P } }"), "begins with https://"),
        (object("Node", "n1", "{ dns: [~] }"), "not nothing"),
        (object("Node", "n1", "{ protect: !tagged true }"), "tags (`!name`) mean nothing here"),
    ] {
        let said = faults(&content);
        assert!(said.iter().any(|f| f.contains(wanted)), "wanted {wanted:?} of {content}\n{said:#?}");
        assert!(!said.iter().any(|f| f.contains("hunter2")), "{said:#?}");
        assert!(said.len() <= 2, "{content}\n{said:#?}");
    }
}

#[test]
fn faults_of_playbooks_have_places() {
    let nodes: String = ["n1", "n2"]
        .map(|n| format!("apiVersion: rackctl.dev/v1alpha1\nkind: Node\nmetadata: {{ name: {n} }}\nspec: {{}}\n---\n"))
        .concat();
    let cluster = object(
        "Cluster",
        "core",
        "{ driver: { etcd: { version: '3.4.23' } }, members: { selector: 'name=n1', size: 1 } }",
    );
    let head = "apiVersion: rackctl.dev/v1alpha1\nkind: Playbook\nmetadata: { name: p }\nspec:\n";
    for (spec, wanted) in [
        (
            "  parameters: { m: { type: node, default: n9 } }\n  steps: [{ join: { node: '{{ m }}' } }]",
            "no node: no Node is named `n9`; did you mean `n1`?",
        ),
        ("  parameters: { m: { type: nod } }\n  steps: [{ join: { node: '{{ m }}' } }]", "did you mean `node`?"),
        (
            "  parameters: { s: { type: duration, default: soon } }\n  steps: [{ wait: { duration: '{{ s }}' } }]",
            "`soon` is not a duration",
        ),
        (
            "  parameters: { s: { type: bool, default: 3 } }\n  steps: [{ when: '{{ s }}', pause: { message: x } }]",
            "`3` is neither `true` nor `false`",
        ),
        (
            "  parameters: { s: { type: number, default: true } }\n  steps: [{ pause: { message: '{{ s }}' } }]",
            "`true` is no number",
        ),
        (
            "  parameters: { c: { type: cluster } }\n  steps: [{ join: { node: '{{ c }}' } }]",
            "a node is wanted here; the parameter `c` is a cluster",
        ),
        (
            "  parameters: { c: { type: cluster } }\n  steps: [{ gate: { cluster: '{{ c }}', healthy: '{{ c }}' } }]",
            "a duration is wanted here",
        ),
        (
            "  parameters: { n: { type: node } }\n  steps: [{ when: '{{ n }}', pause: { message: x } }]",
            "a bool is wanted here",
        ),
        (
            "  parameters: { '1 x': { type: node } }\n  steps: [{ pause: { message: '{{ 1 x }}' } }]",
            "is no name for a parameter",
        ),
        ("  steps: [{ join: { node: n3 } }]", "no Node is named `n3`"),
        ("  steps: [{ join: { nodes: ['n[1-3]'] } }]", "no node matches `n3`"),
        ("  steps: [{ gate: { cluster: cor, healthy: 5s } }]", "did you mean `core`?"),
        ("  steps: [{ gate: { cluster: core, healthy: 5 } }]", "write the value in quotes"),
        ("  steps: [{ gate: { cluster: core, healthy: 10m, deadline: 1m } }]", "the deadline ends before"),
        ("  steps: [{ jion: { node: n1 } }]", "did you mean `join`?"),
        ("  steps: [{ join: { node: n1 }, power: { node: n1, action: cycle } }]", "exclude each other"),
        ("  steps: [{ join: { node: n1, nodes: [n2] } }]", "exclude each other"),
        ("  steps: [{ apply: { node: n1, selector: a=b } }]", "exclude each other"),
        ("  steps: []", "0 values where 1 to 200 are wanted"),
        ("  steps: [{ wait: { for: { node: n1 } } }]", "`power` is missing"),
        ("  steps: [{ wait: { duration: 5s, deadline: 9s } }]", "a duration has no deadline beside it"),
        ("  steps: [{ wait: { for: { cluster: core, power: 'on' } } }]", "`power` belongs to `node`"),
        ("  steps: [{ notify: { message: m, url: 'https://h/x' } }]", "wants a `pin`"),
        ("  steps: [{ notify: { message: m, url: 'ftp://h/x' } }]", "begins with http://"),
        ("  steps: [{ when: perhaps, pause: { message: m } }]", "this condition cannot be read"),
        ("  steps: [{ pause: { message: '{{ x }}' } }]", "unknown template variable `x`"),
        ("  steps: [{ pause: { message: m }, onFailure: maybe }]", "one of `stop`, `continue`"),
        ("  steps: [{ pause: { message: m }, onFailure: 3 }]", "text or a list or a map is wanted here"),
        ("  steps: [{ pause: { message: m }, onFailure: { retry: 101 } }]", "out of range: 0 to 100"),
        ("  steps: [{ pause: { message: m }, onFailure: { rety: 1 } }]", "did you mean `retry`?"),
        ("  steps: [{ pause: { message: m }, onFailure: [{ join: { node: n7 } }] }]", "no Node is named `n7`"),
        ("  steps: [{ pause: { message: m }, onFailure: { steps: [{ exec: {} }] } }]", "`command` is missing"),
        (
            "  steps: [{ pause: { message: m }, onFailure: [{ pause: { message: m }, onFailure: stop }] }]",
            "unknown field `onFailure`",
        ),
        ("  steps: [{ install: { node: n1, reinstall: 'yes' } }]", "is not true, false, or a parameter"),
    ] {
        let content = format!("{nodes}{cluster}{head}{spec}\n");
        let lines = content.lines().count();
        let said = faults(&content);
        assert!(said.iter().any(|f| f.contains(wanted)), "wanted {wanted:?} of {spec}\n{said:#?}");
        assert!(said.len() <= 2, "{spec}\n{said:#?}");
        let first = lines - spec.lines().count() + 1;
        assert!(
            said.iter().all(|f| (first..=lines).any(|l| f.starts_with(&format!("stdin:{l}:")))),
            "lines {first} to {lines}: {said:#?}"
        );
    }
}

#[test]
fn a_class_that_is_faulty_is_not_also_missing() {
    let said = faults(
        &(object("HardwareClass", "r750", "{ bootMod: uefi }") + &object("Node", "n1", "{ hardwareClass: r750 }")),
    );
    assert!(matches!(said.as_slice(), [f] if f.contains("did you mean `bootMode`?")), "{said:?}");
}

/// The YAML blocks of the documentation of the manifests' types.
#[test]
fn every_documented_example_is_valid() {
    let mut whole = String::new();
    for kind in Kind::ALL {
        let description = schema::of(kind)["$defs"][format!("{}Spec", kind.name())]["description"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let example = description
            .split("```")
            .nth(1)
            .unwrap_or_else(|| panic!("{} has no example", kind.name()))
            .trim_start_matches("yaml");
        assert!(example.contains(&format!("kind: {}", kind.name())));
        whole += &format!("{example}---\n");
    }
    // What the examples speak of beside themselves.
    whole += &object("Network", "cluster", "{ subnets: [{ cidr: 10.20.0.0/24 }] }");
    whole += "apiVersion: rackctl.dev/v1alpha1\nkind: Node\nmetadata: { name: n2, labels: { role: control-plane } }\nspec: { lifecycle: spare }\n---\n";
    whole += "apiVersion: rackctl.dev/v1alpha1\nkind: Node\nmetadata: { name: n3 }\nspec: { lifecycle: spare }\n";
    let loaded = text(&whole).unwrap_or_else(|f| panic!("{f:#?}"));
    assert_eq!(loaded.fleet.nodes["n1"].disks["root"].serial.as_deref(), Some("S3X1"));
    assert_eq!(loaded.fleet.nodes["n1"].disks["root"].min_size_bytes, Some(400 << 30), "maps merge");
}

#[test]
fn json_and_lists_are_read_too() {
    let node = r#"{"apiVersion":"rackctl.dev/v1alpha1","kind":"Node","metadata":{"name":"n1"},"spec":{"protect":true},"status":{"phase":"x"}}"#;
    let loaded = text(&format!(r#"{{"apiVersion":"rackctl.dev/v1alpha1","kind":"List","items":[{node}]}}"#)).unwrap();
    assert!(loaded.fleet.nodes["n1"].protect);
}

#[test]
fn ten_thousand_nodes() {
    let mut sources = vec![Source::Stdin(
        object("Credential", "c", "{ username: a, passwordFrom: { env: P } }")
            + &object(
                "HardwareClass",
                "h",
                "{ bootMode: uefi, disks: { root: { match: { minSize: 1Gi }, use: root } } }",
            )
            + &object("Profile", "p", "{ kernelParams: ['host={{ node.name }}'] }")
            + &object("Network", "prov", "{ subnets: [{ cidr: 10.0.0.0/8 }] }"),
    )];
    for chunk in 0..20u32 {
        let nodes = (chunk * 500..(chunk + 1) * 500).map(|i| {
            let (a, b) = (i / 250, i % 250 + 1);
            object("Node", &format!("n{i:05}"), &format!(
                "\n  hardwareClass: h\n  profile: p\n  identity: {{ serial: S{i} }}\n  bmc: {{ endpoints: [{{ redfish: 'https://10.200.{a}.{b}', credential: c }}] }}\n  interfaces: [{{ mac: '52:54:00:01:{a:02x}:{b:02x}', network: prov, addresses: [10.1.{a}.{b}/8] }}]"
            ))
        });
        sources.push(Source::Stdin(nodes.collect()));
    }
    let begin = std::time::Instant::now();
    let loaded = load(&sources).unwrap_or_else(|e| panic!("{e}"));
    eprintln!("10,000 nodes: {:?}", begin.elapsed());
    assert_eq!(loaded.fleet.nodes.len(), 10_000);
    assert_eq!(loaded.fleet.nodes["n09999"].kernel_params, ["host=n09999"]);
    // Unoptimised and on a busy machine: a quadratic check would take minutes.
    assert!(begin.elapsed().as_secs() < 60);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn arbitrary_text_never_panics(content in ".{0,400}") {
        let _ = text(&content);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        std::fs::write(&file, bytes).unwrap();
        let _ = load(&[Source::Path(file)]);
    }

    #[test]
    fn yaml_like_text_never_panics(words in proptest::collection::vec(prop_oneof![
        "[a-z]{1,4}: ?", "- ", "\n", "  ", "---\n", "\\{", "\\}", "\\[", "\\]", "&a ", "\\*a ", "!!str ", "'", "\"", "\\|\n", ">-\n", "# x", "\\? ",
        ", ", "%YAML 1.2\n", "\t", "kind: Node\n", "apiVersion: rackctl.dev/v1alpha1\n", "metadata: \\{ name: a \\}\n", "spec:\n", "\\{\\{ node.name \\}\\}",
    ], 0..60)) {
        let _ = text(&words.concat());
    }

    #[test]
    fn mutated_samples_never_panic(at in 0usize..4000, byte in any::<u8>(), cut in 0usize..40) {
        let mut bytes = include_bytes!("../inventory/nodes.yaml").to_vec();
        let at = at % bytes.len();
        bytes[at] = byte;
        bytes.drain(at..(at + cut).min(bytes.len()));
        let _ = text(&String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn baselines_are_plain_values_with_an_image_of_one_kind_each() {
    let class = |spec: &str| {
        let both = object("HardwareClass", "hc", spec) + &object("Node", "n1", "{ hardwareClass: hc }");
        faults(&both).join("; ")
    };
    let image = |image: &str| class(&format!("{{ firmware: {{ BIOS: '2.0' }}, firmwareImages: {{ BIOS: {image} }} }}"));
    let digest = "0a".repeat(32);
    for (said, part) in [
        (class("{ bios: { BootMode: [Uefi] } }"), "a BIOS attribute is text, a number, true or false"),
        (class("{ firmware: { 'a/b': '1' } }"), "`a/b` is no name"),
        (class("{ raid: [{ name: a, level: raid1 }, { name: a, level: raid0 }] }"), "two volumes are called `a`"),
        (image("{ version: '2.0' }"), "none of the possible fields"),
        (image("{ version: '2.0', url: 'https://h/x', file: x }"), "exclude each other"),
        (image(&format!("{{ version: '2.0', url: 'https://h/x', sha256: {digest} }}")), "cannot be checked from here"),
        (image("{ version: '2.0', file: x.bin }"), "a file has its `sha256` beside it"),
        (image("{ version: '2.0', url: 'gopher://h/x' }"), "nothing that a BMC fetches from"),
        (image("{ version: '2.0', url: 'https://me:secret@h/x' }"), "would be shown by every plan"),
        (image("{ version: '2.0', url: 'x.bin' }"), "is no address"),
    ] {
        assert!(said.contains(part) && !said.contains("secret@"), "{part:?}: {said:?}");
    }
    let good = object(
        "HardwareClass",
        "hc",
        &format!(
            "{{ bios: {{ Cores: 8, Quiet: true }}, firmware: {{ BIOS: '2.0' }}, firmwareImages: {{ BIOS: {{ version: '2.0', file: ./fw.bin, sha256: {digest} }} }} }}"
        ),
    );
    // What a node says of a component takes the place of all that its class says of it.
    let own = "{ hardwareClass: hc, firmwareImages: { BIOS: { version: '2.0', url: 'https://h/x' } } }";
    let loaded = text(&format!("{good}{}{}", object("Node", "n1", "{ hardwareClass: hc }"), object("Node", "n2", own)));
    let fleet = loaded.unwrap_or_else(|f| panic!("{f:?}")).fleet;
    let baseline = &fleet.nodes["n1"].baseline;
    assert_eq!((baseline.bios["Cores"].as_str(), baseline.bios["Quiet"].as_str()), ("8", "true"));
    let ImageAt::File { path, .. } = &baseline.images["BIOS"].at else { panic!("a file") };
    assert!(path.is_absolute(), "{}", path.display());
    assert!(matches!(&fleet.nodes["n2"].baseline.images["BIOS"].at, ImageAt::Url(url) if url == "https://h/x"));
}
