//! `rackctl doctor`: what this host lacks, each with the command that mends it.

use serde_json::{Value, json};

use super::{args::host::Doctor, globals::Globals};
use crate::{
    inventory,
    model::Fleet,
    output::{Exit, Stop, Table, format::API_VERSION, stdout},
};

mod checks;
mod host_load;

pub use checks::{Check, Verdict, checks};
pub use host_load::Host;

pub fn run(globals: &Globals, args: &Doctor) -> Result<Exit, Stop> {
    // A host is examined with or without an inventory; a broken one is `validate`'s business.
    let fleet = super::globals::sources(&globals.filenames)
        .ok()
        .and_then(|sources| inventory::load(&sources).ok())
        .map(|loaded| loaded.fleet);
    let host = Host::look(fleet.as_ref(), &args.interface);
    let found = checks(&host, fleet.as_ref().unwrap_or(&Fleet::default()));
    let items: Vec<Value> = found.iter().map(item).collect();
    stdout::print(&globals.format.render(&items, stdout::width(), |_| table(&found)))?;
    if globals.format.is_for_people() {
        for check in found.iter().filter(|c| c.verdict != Verdict::Good) {
            if let Some(mend) = &check.mend {
                stdout::note(&format!("{}: {mend}", check.name));
            }
        }
        stdout::note(
            "note: plain PXE (DHCP, TFTP, HTTP) trusts everything on the provisioning segment; keep that network to the machines and to this host",
        );
    }
    let lacking = found.iter().any(|c| c.verdict == Verdict::Missing);
    Ok(if lacking { Exit::Failed } else { Exit::Done })
}

fn item(check: &Check) -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": "Check", "metadata": { "name": check.name }, "spec": {},
        "status": { "verdict": check.verdict.word(), "found": check.found, "mend": check.mend },
    })
}

fn table(found: &[Check]) -> Table {
    let mut table = Table::new(["CHECK", "VERDICT", "FOUND"]);
    for check in found {
        table.row([check.name.as_str(), check.verdict.word(), &check.found]);
    }
    table
}
