//! The sample manifests at the root of the repository load without faults, and mean what they say.

use std::path::Path;

use rackctl::{
    inventory::{default_sources, load},
    model::fleet::{DiskUse, Install, Lifecycle},
};

#[test]
fn samples_load_and_resolve() {
    let loaded = load(&default_sources(Path::new(env!("CARGO_MANIFEST_DIR")))).unwrap_or_else(|e| panic!("{e}"));
    let fleet = &loaded.fleet;
    assert_eq!(loaded.warnings, []);
    assert_eq!(fleet.nodes.keys().collect::<Vec<_>>(), ["n1", "n2", "n3", "n4", "w1"]);
    assert_eq!(fleet.clusters["core"].members, ["n1", "n2", "n3"]);
    assert_eq!(fleet.clusters["core"].spares, ["n4"]);
    assert_eq!(fleet.nodes["n4"].lifecycle, Lifecycle::Spare);

    let n1 = &fleet.nodes["n1"];
    assert_eq!(n1.console.as_deref(), Some("ttyS0,115200"));
    assert_eq!(n1.address().map(|a| a.to_string()).as_deref(), Some("10.77.0.11"));
    assert_eq!(n1.root_disk().map(|(name, rule)| (name.as_str(), rule.use_for)), Some(("root", DiskUse::Root)));
    assert_eq!(n1.install, Some(Install::Image { system: "debian-12".into() }));
    assert!(n1.ssh.identity.as_ref().is_some_and(|p| p.is_absolute() && p.ends_with(".ssh/id_ed25519")));

    let origins = &fleet.origins["n1"];
    assert_eq!(origins["bootMode"], "HardwareClass/r750");
    assert_eq!(origins["identity.serialFrom"], "HardwareClass/r750");
    assert_eq!(origins["identity.serial"], "Node/n1");
    assert_eq!(origins["dns"], "Site/fra1");
    assert_eq!(origins["install.driver.image.system"], "Profile/control-plane");
    assert!(fleet.places["Node/n2"].contains("nodes.yaml:"), "{}", fleet.places["Node/n2"]);
}

#[test]
fn values_flow_maps_merge_lists_replace_and_paths_stay_with_their_manifest() {
    let folder = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).and_then(|()| std::fs::write(path, text)).unwrap();
    };
    let head = |kind: &str, name: &str| {
        format!("apiVersion: rackctl.dev/v1alpha1\nkind: {kind}\nmetadata: {{ name: {name}, labels: {{ team: a }} }}\n")
    };
    write("a/site.yaml", &(head("Site", "s") + "spec: { dns: [10.0.0.1], ssh: { user: ops, identity: keys/id } }\n"));
    write(
        "a/class.yml",
        &(head("HardwareClass", "h")
            + "spec: { bootMode: bios, kernelParams: [a, b], identity: { serialFrom: sku } }\n"),
    );
    write(
        "b/profile.json",
        r##"{"apiVersion":"rackctl.dev/v1alpha1","kind":"Profile","metadata":{"name":"p"},"spec":{
            "kernelParams":["host={{ node.name }}","team={{ node.labels.team }}"],
            "install":{"driver":{"nixosAnywhere":{"flake":"./nix#{{ node.name }}"}}}}}"##,
    );
    let node =
        |name: &str, spec: &str| head("Node", name) + "spec:\n  site: s\n  hardwareClass: h\n  profile: p\n" + spec;
    write(
        "b/n1.yaml",
        &node(
            "n1",
            "  ssh: { user: root }\n  identity: { serial: X1 }\n  bmc: { endpoints: [{ redfish: 'https://{{ node.name }}.bmc', credential: c, tls: { ca: ca.pem } }] }\n",
        ),
    );
    write(
        "b/n2.yaml",
        &node(
            "n2",
            "  bootMode: uefi\n  dns: [10.0.0.2]\n  install: { driver: { exec: { command: [./put.sh], deadline: 1m } } }\n",
        ),
    );
    write(
        "b/c.yaml",
        &(head("Credential", "c")
            + "spec: { username: u, passwordFrom: { exec: { command: [pass, 'bmc/{{ node.serial }}'] } } }\n"),
    );
    write("b/rackctl.lock.yaml", "not: a manifest\n");
    write("b/.hidden.yaml", "not: a manifest\n");

    let loaded = load(&[rackctl::inventory::Source::Path(folder.path().to_owned())]).unwrap_or_else(|e| panic!("{e}"));
    let same = [folder.path().join("b"), folder.path().join("a"), folder.path().to_owned()]
        .map(rackctl::inventory::Source::Path);
    let again = load(&same).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(again.fleet.nodes, loaded.fleet.nodes, "what two sources name is read once");
    assert_ne!(again.fleet.id, "", "the fleet has an id");
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    assert!(load(&[rackctl::inventory::Source::Path(folder.path().join("empty"))]).is_err());
    let (n1, n2) = (&loaded.fleet.nodes["n1"], &loaded.fleet.nodes["n2"]);
    let at = |rest: &str| folder.path().join(rest);
    assert_eq!(n1.ssh.user.as_deref(), Some("root"), "the node's own word is the last");
    assert_eq!(n1.ssh.identity, Some(at("a/keys/id")), "maps merge; a path is relative to the manifest that says it");
    assert_eq!(n1.kernel_params, ["host=n1", "team=a"], "lists replace");
    assert_eq!(n1.identity.serial_from, rackctl::model::fleet::SerialFrom::Sku);
    assert_eq!(n1.boot_mode, rackctl::model::fleet::BootMode::Bios);
    let endpoint = &n1.bmc.as_ref().unwrap().endpoints[0];
    assert_eq!(endpoint.at, rackctl::model::fleet::EndpointAt::Redfish("https://n1.bmc".into()));
    assert_eq!(endpoint.trust, rackctl::model::fleet::Trust::Ca(at("b/ca.pem")));
    assert!(
        matches!(&n1.install, Some(Install::NixosAnywhere { flake, .. }) if *flake == format!("{}#n1", at("b/nix").display()))
    );
    assert_eq!(n2.install, Some(Install::Exec { command: vec![at("b/put.sh").display().to_string()], deadline_s: 60 }));
    assert_eq!(n2.dns, [std::net::Ipv4Addr::new(10, 0, 0, 2)]);
    assert_eq!(loaded.fleet.origins["n2"]["bootMode"], "Node/n2");
    assert_eq!(loaded.fleet.origins["n1"]["kernelParams"], "Profile/p");
    assert!(
        !loaded.fleet.origins["n2"].keys().any(|k| k.contains("nixosAnywhere")),
        "a driver replaces the other whole"
    );
    let credential = rackctl::inventory::template::credential_for(&loaded.fleet.credentials["c"], n1).unwrap();
    assert_eq!(
        credential.password_from,
        rackctl::model::fleet::SecretSource::Exec { command: vec!["pass".into(), "bmc/X1".into()] }
    );
    assert!(
        rackctl::inventory::template::credential_for(&loaded.fleet.credentials["c"], n2).is_err(),
        "n2 has no serial"
    );
}
