//! `rackctl explain`

use super::{args::look::Explain, globals::Globals};
use crate::{
    inventory::{self, schema},
    model::{Failure, failure::Cause},
    output::{Exit, Kind, Stop, explain, stdout},
};

pub fn run(globals: &Globals, args: &Explain) -> Result<Exit, Stop> {
    let mut words = args.path.split('.');
    let first = words.next().unwrap_or_default();
    let kind = Kind::parse(first).map_err(Stop::usage)?;
    // Kinds of the store have no fields that anybody writes.
    let written = inventory::Kind::ALL.into_iter().find(|k| k.name() == kind.title()).ok_or_else(|| {
        let why = format!("{} are observed, never written: `rackctl get {}` shows them", kind.plural(), kind.plural());
        Stop::usage(Failure::new(Cause::Refused, format!("explain {first}"), why))
    })?;
    let path: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let schema = schema::of(written);
    let found = explain::find(&schema, kind.title(), &path).map_err(|why| {
        Stop::usage(
            Failure::new(Cause::Refused, format!("explain {}", args.path), why)
                .next(format!("rackctl explain {first}")),
        )
    })?;
    stdout::print(&globals.format.render_one(found.schema, |_| found.text()))?;
    Ok(Exit::Done)
}
