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
