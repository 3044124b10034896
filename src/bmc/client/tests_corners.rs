//! The corners of recorded trees of real BMCs: logs, sensors, settings, firmware, media, accounts, certificates, volumes.
//! What is found is printed; what is not there is refused with its name and where it was looked for.

use super::{
    Ground, ROOT, Source, gather_accounts, gather_bios, gather_certificates, gather_firmware, gather_logs,
    gather_neighbours, gather_sensors, gather_slots, gather_view, gather_volumes, parsed, screenshot_action,
    tests_trees::{Tree, trees},
};
use crate::model::{Failure, failure::Cause};

/// A number of things, or the sentence that says what is missing.
fn shown<T>(tree: &str, found: Result<T, Failure>, say: impl Fn(&T) -> String) -> String {
    match found {
        Ok(found) => say(&found),
        Err(failure) => {
            assert_eq!(failure.cause, Cause::Guard, "{tree}: {failure}");
            assert!(failure.why.starts_with("this BMC offers no "), "{tree}: {failure}");
            assert!(
                failure.why.contains("looked at /redfish") || failure.why.contains("looked at "),
                "{tree}: {failure}"
            );
            assert!(!failure.why.contains('{'), "raw JSON: {failure}");
            format!("none ({})", failure.why)
        }
    }
}

#[tokio::test]
async fn every_corner_of_every_recorded_tree_is_read() {
    let Some(trees) = trees() else {
        eprintln!("SKIPPED: no recorded Redfish trees (set RACKCTL_SHARED)");
        return;
    };
    let mut totals = [0usize; 9];
    for tree in trees {
        let name = tree.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let source = Tree(tree);
        let root = parsed(source.fetch(ROOT).await.unwrap().0);
        let view = gather_view(&source, &root, None).await.unwrap_or_else(|f| panic!("{name}: {f}"));
        let ground = Ground { source: &source, root: &root, view: &view };
        println!("{name}");

        let logs = gather_logs(&ground, None).await;
        totals[0] += logs.iter().flatten().map(|l| l.entries.len()).sum::<usize>();
        for log in logs.iter().flatten() {
            assert!(!log.id.is_empty() && log.path.starts_with('/'), "{name}");
            assert!(log.entries.iter().all(|e| !e.id.is_empty()), "{name}: {}", log.id);
        }
        let said = shown(&name, logs, |logs| {
            let each = |l: &crate::bmc::logs::Log| {
                let state = if l.unreadable { "unreadable".to_owned() } else { l.entries.len().to_string() };
                format!("{}/{}: {state}{}", l.owner.word(), l.id, if l.clear.is_some() { " clears" } else { "" })
            };
            logs.iter().map(each).collect::<Vec<_>>().join(", ")
        });
        println!("    logs          {said}");

        let sensors = gather_sensors(&ground).await;
        totals[1] += sensors.as_ref().map_or(0, |s| s.sensors.len());
        for reading in sensors.iter().flat_map(|s| &s.sensors) {
            assert!(reading.value.is_finite() && !reading.name.is_empty(), "{name}");
        }
        let said = shown(&name, sensors, |s| {
            let watts = s.power_watts.map_or("-".to_owned(), |w| format!("{w} W"));
            format!("{} readings, {} silent, draws {watts}", s.sensors.len(), s.silent)
        });
        println!("    sensors       {said}");

        let bios = gather_bios(&ground).await;
        totals[2] += bios.as_ref().map_or(0, |b| b.attributes.len());
        let said = shown(&name, bios, |b| {
            let settings = b.ways.settings.as_deref().unwrap_or("no settings resource");
            let boot = b.secure_boot.as_ref().and_then(|s| s.current.clone());
            format!(
                "{} attributes, {} pending at {settings}, secure boot {boot:?}",
                b.attributes.len(),
                b.pending.len()
            )
        });
        println!("    bios          {said}");

        let firmware = gather_firmware(&ground).await;
        totals[3] += firmware.as_ref().map_or(0, Vec::len);
        println!("    firmware      {}", shown(&name, firmware, |f| format!("{} items", f.len())));

        let slots = gather_slots(&ground).await;
        totals[4] += slots.as_ref().map_or(0, Vec::len);
        let said = shown(&name, slots, |slots| {
            let each = |s: &crate::bmc::media::Slot| {
                let way = if s.insert.is_some() { "action" } else { "patch" };
                format!("{} ({way}, {})", s.id, s.kinds.join("/"))
            };
            slots.iter().map(each).collect::<Vec<_>>().join(", ")
        });
        println!("    media         {said}");

        let users = gather_accounts(&ground).await;
        totals[5] += users.as_ref().map_or(0, |(u, _)| u.len());
        let said = shown(&name, users, |(users, rules)| {
            let names: Vec<&str> = users.iter().map(|u| u.user.as_str()).collect();
            format!("{}; passwords of {:?} to {:?}", names.join(", "), rules.min_password, rules.max_password)
        });
        println!("    users         {said}");

        let certificates = gather_certificates(&ground).await;
        totals[6] += certificates.as_ref().map_or(0, Vec::len);
        println!("    certificates  {}", shown(&name, certificates, |c| c.len().to_string()));

        let volumes = gather_volumes(&ground).await;
        totals[7] += volumes.iter().flatten().map(|c| c.volumes.len()).sum::<usize>();
        totals[8] += volumes.iter().flatten().map(|c| c.drives.len()).sum::<usize>();
        let said = shown(&name, volumes, |all| {
            let each = |c: &crate::bmc::volumes::Controller| {
                format!("{}: {} volumes, {} disks", c.id, c.volumes.len(), c.drives.len())
            };
            all.iter().map(each).collect::<Vec<_>>().join(", ")
        });
        println!("    raid          {said}");

        let neighbours = gather_neighbours(&ground).await.unwrap_or_else(|f| panic!("{name}: {f}"));
        println!("    lldp          {} heard", neighbours.len());
        println!("    screenshot    {}", shown(&name, screenshot_action(&ground).await, Clone::clone));
        let progress = view.system.boot_progress.clone().unwrap_or_default();
        println!("    start         {:?} {:?}", progress.state, progress.oem_state);
        let nmi = view.reset_types.iter().any(|t| t == "Nmi");
        println!("    nmi           {}", if nmi { "offered" } else { "not offered" });
    }
    println!("in all: entries, readings, attributes, items, slots, users, certificates, volumes, disks: {totals:?}");
    // A reader that finds nothing anywhere reads nothing; volumes are recorded of one machine alone.
    assert!(totals.iter().take(6).all(|t| *t > 5), "{totals:?}");
    assert!(totals[7] > 0, "{totals:?}");
}
