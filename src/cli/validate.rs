//! `rackctl validate`: all faults at once, with file, line and suggestion.

use serde_json::json;

use super::globals::{Globals, sources};
use crate::{
    inventory::{self, Faults},
    model::{Failure, failure::Cause},
    output::{Exit, Kind, Stop, format::API_VERSION, stdout},
};

pub fn run(globals: &Globals) -> Result<Exit, Stop> {
    let (loaded, faults) = match inventory::load(&sources(&globals.filenames)?) {
        Ok(loaded) => (Some(loaded), Vec::new()),
        Err(Faults(faults)) => (None, faults),
    };
    let exit = if faults.is_empty() { Exit::Done } else { Exit::Usage };
    let warnings = loaded.as_ref().map(|l| l.warnings.clone()).unwrap_or_default();
    if !globals.format.is_for_people() {
        let value = json!({
            "apiVersion": API_VERSION, "kind": "Validation", "metadata": { "name": "inventory" }, "spec": {},
            "status": { "valid": faults.is_empty(), "faults": faults, "warnings": warnings },
        });
        stdout::print(&globals.format.render_one(&value, |_| String::new()))?;
        return Ok(exit);
    }
    for warning in &warnings {
        stdout::note(&format!("warning: {warning}"));
    }
    match loaded {
        Some(loaded) => {
            let files = loaded.files.len();
            let counts: Vec<String> = Kind::ALL
                .into_iter()
                .map(|kind| (kind, kind.names(&loaded.fleet).len()))
                .filter(|(_, count)| *count > 0)
                .map(|(kind, count)| format!("{count} {}", kind.counted(count)))
                .collect();
            stdout::print(&format!(
                "valid: {} in {files} {}\n",
                counts.join(", "),
                if files == 1 { "file" } else { "files" }
            ))?;
            Ok(exit)
        }
        None => Err(stop(Faults(faults))),
    }
}

/// All faults of an inventory as the end of a command: exit 2.
pub fn stop(faults: Faults) -> Stop {
    let count = faults.0.len();
    let what = format!("{count} {} in the inventory", if count == 1 { "fault" } else { "faults" });
    let failure = Failure::new(Cause::Refused, what, faults.to_string());
    // The faults name file and line; what helps next is the documentation of the field.
    let none = faults.0.iter().any(|fault| fault.message.starts_with("no inventory here"));
    Stop::usage(failure.next(if none { "rackctl validate --filename PATH" } else { "rackctl explain KIND.FIELD" }))
}
