//! A node's manifest, changed by a verb: edited where it stands, and seen through the loader afterwards.

use std::path::PathBuf;

use serde_json::Value;

use super::globals::Globals;
use crate::{
    inventory::{
        edit::{self, Step},
        load::rewrite,
    },
    model::{Failure, Fleet, failure::Cause, fleet::Trust},
};

/// The file in which a node stands, as the operator named it.
///
/// # Errors
/// It came from standard input, or nobody knows from where.
pub fn file(fleet: &Fleet, node: &str) -> Result<PathBuf, Failure> {
    let place = fleet.places.get(&format!("Node/{node}"));
    let path = place.and_then(|place| place.rsplit_once(':')).map(|(path, _)| PathBuf::from(path));
    path.filter(|path| path.is_file()).ok_or_else(|| {
        let why = match place {
            Some(place) => format!("it stands in `{place}`, which is no file"),
            None => "it is not known where it stands".to_owned(),
        };
        Failure::new(Cause::Guard, format!("{node}: change its manifest"), why).next("-f FILE")
    })
}

/// Writes what `spec` has and the manifest of this node has not. Says into which file.
pub fn fill(globals: &Globals, fleet: &Fleet, node: &str, spec: &Value, dry: bool) -> Result<String, Failure> {
    let what = format!("{node}: write what was found into its manifest");
    let edit = |text: &str| edit::fill(text, "Node", node, spec);
    change(globals, fleet, node, &what, dry, edit, |_| true)
}

/// Pins a BMC's key at the node's endpoint with this index.
pub fn pin(globals: &Globals, fleet: &Fleet, node: &str, endpoint: usize, pin: &str) -> Result<String, Failure> {
    let what = format!("{node}: pin the key of its BMC");
    let (key, item) = (Step::Key, Step::Item(endpoint));
    let path = [key("spec"), key("bmc"), key("endpoints"), item, key("tls"), key("pin")];
    let edit = |text: &str| edit::set(text, "Node", node, &path, &Value::String(pin.to_owned()));
    let holds = |fleet: &Fleet| {
        let endpoints = fleet.nodes.get(node).and_then(|n| n.bmc.as_ref()).map(|b| &b.endpoints);
        endpoints.and_then(|all| all.get(endpoint)).is_some_and(|e| e.trust == Trust::Pin(pin.to_owned()))
    };
    change(globals, fleet, node, &what, false, edit, holds)
}

fn change(
    globals: &Globals,
    fleet: &Fleet,
    node: &str,
    what: &str,
    dry: bool,
    edit: impl FnOnce(&str) -> Result<String, String>,
    holds: impl FnOnce(&Fleet) -> bool,
) -> Result<String, Failure> {
    let path = file(fleet, node)?;
    let place = path.display().to_string();
    if dry {
        let text = std::fs::read_to_string(&path).map_err(|e| Failure::new(Cause::Local, what, e.to_string()))?;
        let refused = |why| Failure::new(Cause::Refused, what, format!("{place}: {why}"));
        return edit(&text).map(|_| place.clone()).map_err(refused);
    }
    let by_hand =
        |failure: Failure| Failure { what: what.to_owned(), why: format!("{place}: {}", failure.why), ..failure };
    let written = rewrite::rewrite(&path, edit).map_err(by_hand)?;
    let why = match globals.fleet() {
        Ok(now) if holds(&now) => return Ok(place),
        Ok(_) => "it says otherwise when it is read again".to_owned(),
        Err(stop) => {
            let told: Vec<String> = stop.failures.iter().map(|f| f.why.clone()).collect();
            format!("the inventory has faults with it: {}", told.join("; "))
        }
    };
    let back = match written.undo() {
        Ok(()) => "the file is as it was before".to_owned(),
        Err(error) => format!("the file could not be put back: {error}"),
    };
    Err(Failure::new(Cause::Refused, what, format!("{place}: {why}; {back}")).next("write it by hand"))
}
