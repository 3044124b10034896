//! `rackctl describe`

use super::{args::look::Describe, args::targets::Select, globals::Globals, seen, targets};
use crate::{
    model::{Failure, failure::Cause},
    output::{Exit, Format, Kind, Stop, age, describe, resource, stdout},
};

pub fn run(globals: &Globals, args: &Describe) -> Result<Exit, Stop> {
    let kind = Kind::parse(&args.kind).map_err(Stop::usage)?;
    let fleet = globals.fleet_with_origins()?;
    if !kind.is_desired() {
        return records(globals, &fleet, kind, &args.names);
    }
    let status = seen::status(globals, &fleet, age::now(), args.refresh)?;
    let names = targets::choose(&fleet, &status, kind, &args.names, &Select::default())?;
    if !globals.format.is_for_people() {
        let items: Vec<_> = names.iter().filter_map(|name| resource::item(&fleet, &status, kind, name)).collect();
        let text = globals.format.render(&items, None, |wide| resource::table(&fleet, &status, kind, &names, wide));
        return stdout::print(&text).map(|()| Exit::Done);
    }
    let mut pages = Vec::new();
    for name in &names {
        let seen = seen::observation(globals, &fleet, kind, name)?;
        pages.extend(describe::describe(&fleet, &status, &seen, kind, name));
    }
    stdout::print(&pages.join("\n"))?;
    Ok(Exit::Done)
}

fn records(globals: &Globals, fleet: &crate::model::Fleet, kind: Kind, names: &[String]) -> Result<Exit, Stop> {
    let mut found = seen::records(globals, fleet, kind)?;
    found.retain(|record| names.iter().any(|name| record.is_about(name)));
    if found.is_empty() {
        let what = format!("describe {}", kind.plural());
        let failure = Failure::new(Cause::Refused, what, format!("there is none called {}", names.join(", ")));
        return Err(Stop::usage(failure.next(format!("rackctl get {}", kind.plural()))));
    }
    let items: Vec<_> = found.iter().map(crate::output::records::Record::item).collect();
    // People get the same fields, which are few, as YAML.
    let format = if globals.format.is_for_people() { &Format::Yaml } else { &globals.format };
    let text = format.render(&items, None, |_| crate::output::records::table(kind, &found, age::now()));
    stdout::print(&text).map(|()| Exit::Done)
}
