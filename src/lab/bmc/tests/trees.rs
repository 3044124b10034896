//! The real client against recorded trees of real BMCs (beside the repository, not in it), over TLS; and against each
//! vendor's set of faults.

use std::path::PathBuf;

use super::*;
use crate::model::power::{BootOverride, OverrideFor, PowerState};

fn trees() -> Option<Vec<PathBuf>> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let shared = std::env::var_os("RACKCTL_SHARED").map(PathBuf::from).unwrap_or(beside);
    let entries = std::fs::read_dir(shared.join("data/redfish")).ok()?;
    let mut trees: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    trees.retain(|p| p.join("redfish/v1/index.json").is_file());
    trees.sort();
    Some(trees)
}

async fn tree_bench(tree: &std::path::Path) -> Bench {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let certificate = certificate("bmc-n1", None).unwrap();
    let account = Account { user: "root".into(), password: Secret::new(PASSWORD.into()) };
    let chassis = FakeChassis::new(description());
    let bmc = Bmc::with_tree(chassis, account, with(&["power-lag=20ms"]), tree).unwrap_or_else(|e| panic!("{e}"));
    let task = tokio::spawn(serve(listener, certificate.server_config().unwrap(), bmc.clone(), std::future::pending()));
    let node = node("n1", url, Trust::Pin(certificate.pin.clone()));
    Bench { bmc, node, pin: certificate.pin, ledger: Default::default(), lines: Default::default(), task }
}

const ONCE: BootOverride = BootOverride { target: BootTarget::Pxe, lasts: OverrideFor::Once, mode: None };

/// What a client finds, powers and boots: or why not, in one line.
async fn tried(bench: &Bench) -> Result<(String, String, String), Failure> {
    let client = Client::open(&bench.node, &passwords(PASSWORD), bench.options()).await?;
    let facts = client.facts().await?;
    let found = format!("{} drives, {} macs, serial {:?}", facts.drives.len(), facts.macs.len(), facts.serial);
    let notes = super::ladder::Notes::default();
    let climbed = super::ladder::climb(&client, ONCE, None, &notes).await;
    let boot = climbed.map_or_else(|f| format!("boot: {f}"), |booted| format!("boot set: {}", booted.words));
    client.set_power(true, false, Duration::from_secs(15)).await?;
    let power = format!("{:?}, booted {:?}", client.power().await?, bench.bmc.chassis().boots());
    client.close().await?;
    Ok((found, boot, power))
}

#[tokio::test]
async fn the_client_drives_every_recorded_tree() {
    let Some(trees) = trees() else {
        eprintln!("SKIPPED: no recorded Redfish trees (set RACKCTL_SHARED)");
        return;
    };
    assert!(!trees.is_empty());
    for tree in trees {
        let name = tree.file_name().unwrap().to_string_lossy().into_owned();
        let bench = tree_bench(&tree).await;
        let (found, boot, power) = tried(&bench).await.unwrap_or_else(|failure| panic!("{name}: {failure}"));
        println!("{name} | {found} | {boot} | {power}");
        assert!(power.starts_with(&format!("{:?}", PowerState::On)), "{name}: {power}");
        assert_eq!(bench.bmc.open_sessions(), 0, "{name}: a session is left");
        let boots = bench.bmc.chassis().boots();
        assert!(boot.starts_with("boot set"), "{name}: {boot}");
        assert_eq!(boots, [Some(BootTarget::Pxe)], "{name}: {boot}");
    }
}

/// Each dialect can be booted from the network and powered on, and leaves no session.
#[tokio::test]
async fn the_client_drives_every_dialect() {
    for profile in PROFILES {
        let bench = bench(Faults::parse([profile.name]).unwrap().over(&with(&["power-lag=20ms"]))).await;
        let (found, boot, power) = tried(&bench).await.unwrap_or_else(|f| panic!("{}: {f}", profile.name));
        println!("{} | {found} | {boot} | {power}", profile.name);
        assert!(power.starts_with("On") && power.contains("Some(Pxe)"), "{}: {power}", profile.name);
        assert!(boot.starts_with("boot set"), "{}: {boot}", profile.name);
        assert_eq!(bench.bmc.open_sessions(), 0, "{}: a session is left", profile.name);
    }
}
