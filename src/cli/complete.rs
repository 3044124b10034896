//! What the shell offers after TAB. Silent when anything is wrong: a completion never complains.

use std::ffi::OsStr;

use clap_complete::engine::CompletionCandidate;

use crate::output::Kind;

fn matching<S: AsRef<str>>(current: &OsStr, words: impl IntoIterator<Item = S>) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str() else { return Vec::new() };
    words
        .into_iter()
        .filter(|word| word.as_ref().starts_with(current))
        .map(|word| CompletionCandidate::new(word.as_ref().to_owned()))
        .collect()
}

pub fn kinds(current: &OsStr) -> Vec<CompletionCandidate> {
    matching(current, Kind::ALL.map(Kind::plural))
}

pub fn formats(current: &OsStr) -> Vec<CompletionCandidate> {
    matching(current, ["table", "wide", "json", "jsonl", "yaml", "name", "jsonpath=", "custom-columns="])
}

pub fn ceilings(current: &OsStr) -> Vec<CompletionCandidate> {
    matching(current, ["reversible", "reboot", "data-loss"])
}

pub fn contexts(current: &OsStr) -> Vec<CompletionCandidate> {
    let names = super::context::load().map(|file| file.contexts.into_iter().map(|c| c.name).collect::<Vec<_>>());
    matching(current, names.unwrap_or_default())
}

/// Laboratories write a context each.
pub fn labs(current: &OsStr) -> Vec<CompletionCandidate> {
    let names = super::context::load().map(|file| {
        file.contexts.into_iter().filter_map(|c| c.name.strip_prefix("lab-").map(str::to_owned)).collect::<Vec<_>>()
    });
    matching(current, names.unwrap_or_default())
}

/// Faults and vendors of the laboratory's BMCs.
pub fn bmc_faults(current: &OsStr) -> Vec<CompletionCandidate> {
    use crate::lab::bmc::{Fault, PROFILES, Takes};
    let others = ["none", "swap-certificate", "bmc-serial=", "uuid=", "disk-serial="].map(str::to_owned);
    let faults = Fault::ALL.iter().map(|fault| match fault.takes() {
        Takes::Flag => fault.name().to_owned(),
        _ => format!("{}=", fault.name()),
    });
    matching(current, others.into_iter().chain(faults).chain(PROFILES.iter().map(|p| p.name.to_owned())))
}

pub fn nodes(current: &OsStr) -> Vec<CompletionCandidate> {
    matching(current, names_of(Kind::Node))
}

pub fn playbooks(current: &OsStr) -> Vec<CompletionCandidate> {
    matching(current, names_of(Kind::Playbook))
}

/// `NAME=` of the playbook that stands on the line.
pub fn parameters(current: &OsStr) -> Vec<CompletionCandidate> {
    let words = words();
    let Some(fleet) = super::globals::for_completion(&words) else { return Vec::new() };
    let playbook = words.iter().find_map(|word| fleet.playbooks.get(word));
    let names = playbook.map(|p| p.parameters.keys().map(|name| format!("{name}=")).collect::<Vec<_>>());
    matching(current, names.unwrap_or_default())
}

pub fn images(current: &OsStr) -> Vec<CompletionCandidate> {
    matching(current, names_of(Kind::Image))
}

/// Machines of the laboratory that stands on the line: `lab console demo <TAB>`. They are what its context names.
pub fn lab_nodes(current: &OsStr) -> Vec<CompletionCandidate> {
    let words = words();
    let laboratory = words.iter().find(|word| contexts_has(&format!("lab-{word}"))).cloned();
    let line = laboratory.map(|name| vec!["--context".to_owned(), format!("lab-{name}")]).unwrap_or_default();
    let fleet = super::globals::for_completion(&line);
    matching(current, fleet.map(|fleet| Kind::Node.names(&fleet)).unwrap_or_default())
}

fn contexts_has(name: &str) -> bool {
    super::context::load().is_ok_and(|file| file.context(name).is_some())
}

/// A kind, and behind a dot the fields of what stands before it.
pub fn fields(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some((path, _)) = current.to_str().and_then(|text| text.rsplit_once('.')) else {
        return matching(current, Kind::ALL.into_iter().filter(|k| k.is_desired()).map(Kind::singular));
    };
    let Ok(found) = crate::inventory::explain::find(path) else { return Vec::new() };
    matching(current, found.fields().map(|field| format!("{path}.{field}")))
}

/// Verbs, for their pages.
pub fn verbs(current: &OsStr) -> Vec<CompletionCandidate> {
    let command = <super::args::Cli as clap::CommandFactory>::command();
    let shown = command.get_subcommands().filter(|verb| !verb.is_hide_set());
    matching(current, shown.map(|verb| verb.get_name().to_owned()))
}

/// A goal's word or a node.
pub fn goals(current: &OsStr) -> Vec<CompletionCandidate> {
    matching(current, ["install".to_owned(), "join".to_owned()].into_iter().chain(names_of(Kind::Node)))
}

/// Names of the kind that stands on the line already: `rackctl get clusters <TAB>`.
pub fn names(current: &OsStr) -> Vec<CompletionCandidate> {
    let kind = words().iter().find_map(|word| Kind::parse(word).ok()).unwrap_or(Kind::Node);
    matching(current, names_of(kind))
}

fn names_of(kind: Kind) -> Vec<String> {
    super::globals::for_completion(&words()).map(|fleet| kind.names(&fleet)).unwrap_or_default()
}

/// The words of the line being completed: they stand behind `--`.
fn words() -> Vec<String> {
    std::env::args().skip_while(|word| word != "--").skip(2).collect()
}
