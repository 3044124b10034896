//! `rackctl explain`

use super::{args::look::Explain, globals::Globals};
use crate::{
    inventory::{self, explain},
    model::{Failure, failure::Cause},
    output::{Exit, Kind, Stop, stdout},
};

pub fn run(globals: &Globals, args: &Explain) -> Result<Exit, Stop> {
    let first = args.path.split('.').next().unwrap_or_default();
    let kind = Kind::parse(first).map_err(Stop::usage)?;
    // Kinds of the store have no fields that anybody writes.
    if !inventory::Kind::ALL.into_iter().any(|k| k.name() == kind.title()) {
        let why = format!("{} are observed, never written", kind.plural());
        let failure = Failure::new(Cause::Refused, format!("explain {first}"), why);
        return Err(Stop::usage(failure.next(format!("rackctl get {}", kind.plural()))));
    }
    let path = args.path.trim_end_matches('.');
    let found = explain::find(path).map_err(|fault| {
        // The deepest part of the path that there is.
        let mut ends = path.rmatch_indices('.').map(|(at, _)| &path[..at]);
        let known = ends.find(|part| explain::find(part).is_ok()).unwrap_or(first);
        let failure = Failure::new(Cause::Refused, format!("explain {}", args.path), fault.to_string());
        Stop::usage(failure.next(format!("rackctl explain {known}")))
    })?;
    stdout::print(&globals.format.render_one(&found.value(), |_| found.text()))?;
    Ok(Exit::Done)
}
