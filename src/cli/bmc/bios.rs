//! `bmc bios`: firmware settings, shown and set.

use super::{change, look};
use crate::{
    bmc::bios,
    cli::{
        args::bmc::{Bios as Args, Switch},
        globals::Globals,
    },
    model::{Failure, bmc::BmcChange, failure::Cause},
    output::{Exit, Stop},
};

/// Its row; attributes have no blanks in their names.
const SECURE_BOOT: &str = "Secure Boot";

pub fn run(globals: &Globals, args: &Args) -> Result<Exit, Stop> {
    let asked = change::Asked { dry_run: args.dry.dry_run, ..change::Asked::default() };
    if args.clear_pending {
        return change::run(globals, &args.targets, BmcChange::ClearPendingBios, asked);
    }
    if let Some(switch) = args.secure_boot {
        let change = BmcChange::SetSecureBoot { on: switch == Switch::On };
        return change::run(globals, &args.targets, change, asked);
    }
    if !args.set.is_empty() {
        let attributes: std::collections::BTreeMap<_, _> = args.set.iter().cloned().collect();
        if attributes.len() < args.set.len() {
            let why = "an attribute is set twice";
            return Err(Stop::usage(Failure::new(Cause::Refused, "bmc bios --set", why)));
        }
        return change::run(globals, &args.targets, BmcChange::SetBios { attributes }, asked);
    }
    let mut rows = look::over(globals, &args.targets, |client| {
        Box::pin(async move { client.redfish("read its BIOS attributes")?.bios().await })
    })?;
    for (name, row) in &mut rows {
        let Ok(said) = row else { continue };
        if args.pending {
            said.attributes.retain(|attribute, _| said.pending.contains_key(attribute));
        }
        if args.attribute.is_empty() {
            continue;
        }
        let unknown: Vec<&str> =
            args.attribute.iter().filter(|a| !said.attributes.contains_key(*a)).map(String::as_str).collect();
        if !unknown.is_empty() && !args.pending {
            let why = format!("this machine has no BIOS attribute {}", unknown.join(", "));
            *row = Err(Failure::new(Cause::Guard, format!("{name}: read its BIOS attributes"), why)
                .next(format!("rackctl bmc bios {name}")));
            continue;
        }
        said.attributes.retain(|attribute, _| args.attribute.contains(attribute));
        said.pending.retain(|attribute, _| args.attribute.contains(attribute));
    }
    let wanted = |secure: &bios::SecureBoot| args.attribute.is_empty() && (!args.pending || secure.pending().is_some());
    look::show(
        globals,
        rows,
        |_| vec!["ATTRIBUTE", "VALUE", "PENDING"],
        |said, _| {
            let names = said.attributes.keys().chain(said.pending.keys().filter(|n| !said.attributes.contains_key(*n)));
            let word = |value: Option<&serde_json::Value>| value.map_or_else(|| "-".to_owned(), bios::word);
            let mut rows: Vec<Vec<String>> = names
                .map(|name| vec![name.clone(), word(said.attributes.get(name)), word(said.pending.get(name))])
                .collect();
            // A resource of its own, which no attribute need speak of.
            if let Some(secure) = said.secure_boot.as_ref().filter(|s| wanted(s)) {
                let pending = secure.pending().unwrap_or("-").to_owned();
                rows.push(vec![SECURE_BOOT.to_owned(), look::or_dash(&secure.now()), pending]);
            }
            rows
        },
    )
}
