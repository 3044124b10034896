//! Names, ranges, selectors → the names that are meant.

use super::args::{Targets, targets::Select};
use crate::{
    inventory::select::{self, SelectError},
    model::{Failure, Fleet, failure::Cause},
    output::{
        Kind, Stop,
        resource::{NODE_FIELDS, Status, node_field},
    },
};

/// What a verb does when nothing at all is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nothing {
    MeansAll,
    /// Verbs that change machines want to be told which.
    IsRefused,
}

/// The nodes that are meant, in the inventory's order; never none.
pub fn nodes(fleet: &Fleet, status: &Status, targets: &Targets, nothing: Nothing) -> Result<Vec<String>, Stop> {
    if targets.is_empty() && nothing == Nothing::IsRefused {
        let why = "name them, choose by label (-l role=db) or by field, or say --all";
        return Err(Stop::usage(Failure::new(Cause::Refused, "no machine is named", why).next("rackctl get nodes")));
    }
    let chosen = choose(fleet, status, Kind::Node, &targets.names, &targets.select)?;
    if chosen.is_empty() {
        let why = "nothing in the inventory matches";
        return Err(Stop::usage(Failure::new(Cause::Refused, "choose nodes", why).next("rackctl get nodes")));
    }
    Ok(chosen)
}

/// Objects of any kind; `-l` and fields know nodes alone.
pub fn choose(fleet: &Fleet, status: &Status, kind: Kind, names: &[String], by: &Select) -> Result<Vec<String>, Stop> {
    let usage = |e: SelectError| {
        Stop::usage(
            Failure::new(Cause::Refused, format!("choose {}", kind.plural()), e.to_string())
                .next(format!("rackctl get {}", kind.plural())),
        )
    };
    let all = kind.names(fleet);
    let mut chosen: Vec<String> = if names.is_empty() {
        all
    } else {
        let set = select::ranges(names).map_err(usage)?;
        set.pick(all.iter().map(String::as_str)).map_err(usage)?.into_iter().map(str::to_owned).collect()
    };
    if (by.selector.is_some() || by.field_selector.is_some()) && kind != Kind::Node {
        let why = format!("-l and --field-selector choose nodes, not {}", kind.plural());
        return Err(Stop::usage(Failure::new(Cause::Refused, format!("choose {}", kind.plural()), why)));
    }
    if let Some(text) = &by.selector {
        let selector = select::selector(text).map_err(usage)?;
        chosen.retain(|name| fleet.nodes.get(name).is_some_and(|node| selector.matches(node)));
    }
    if let Some(text) = &by.field_selector {
        let wanted = fields(text).map_err(Stop::usage)?;
        chosen.retain(|name| {
            wanted.iter().all(|field| {
                let value = node_field(fleet, status, name, &field.name).unwrap_or_default();
                (value == field.value) == field.is
            })
        });
    }
    Ok(chosen)
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    name: String,
    /// `=` and not `!=`.
    is: bool,
    value: String,
}

/// `power=off,rack!=r1`
fn fields(text: &str) -> Result<Vec<Field>, Failure> {
    let fault = |why: String| Failure::new(Cause::Refused, format!("--field-selector {text}"), why);
    text.split(',')
        .map(|part| {
            let (left, value) = part.split_once('=').ok_or_else(|| fault(format!("`{part}` is not FIELD=VALUE")))?;
            let (name, is) = match left.strip_suffix('!') {
                Some(name) => (name, false),
                None => (left, true),
            };
            let value = value.strip_prefix('=').unwrap_or(value);
            let name = name.trim();
            let last = name.rsplit('.').next().unwrap_or(name);
            if !NODE_FIELDS.contains(&last) {
                return Err(fault(format!("no field `{name}`; there are {}", NODE_FIELDS.join(", "))));
            }
            Ok(Field { name: last.to_owned(), is, value: value.trim().to_owned() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_with_both_signs() {
        let field = |name: &str, is, value: &str| Field { name: name.into(), is, value: value.into() };
        assert_eq!(
            fields("power=off,status.phase!=Member, rack==r1"),
            Ok(vec![field("power", true, "off"), field("phase", false, "Member"), field("rack", true, "r1")])
        );
        assert!(fields("power").is_err());
        assert!(fields("colour=red").unwrap_err().why.contains("there are name, power"));
    }

    #[test]
    fn verbs_that_change_machines_want_a_name() {
        let stop = nodes(&Fleet::default(), &Status::default(), &Targets::default(), Nothing::IsRefused).unwrap_err();
        assert_eq!(stop.exit, crate::output::Exit::Usage);
        assert!(stop.failures[0].why.contains("--all"));
    }
}
