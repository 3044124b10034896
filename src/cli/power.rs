//! `power` and `boot`: short looks and changes over a selection, each verified.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;

use super::{
    args::{
        Targets,
        act::{Boot, BootVerb, Power, PowerVerb},
    },
    globals::Globals,
    interrupt, looks, requests, seen,
    session::{Session, block_on, block_on_alone, stop},
    short::{self, Short},
    targets::{self, Nothing},
};
use crate::{
    bmc,
    model::{
        Failure, Fleet,
        facts::{NodeFacts, Observed},
        failure::Cause,
        fleet::Node,
        goal::{Goal, Scope},
        power::{PowerAction, PowerState},
    },
    output::{Exit, Stop, Table, resource, stdout},
    plan::StepKind,
    run::clock,
};

const LOOK: Duration = Duration::from_secs(30);
const CHANGE: Duration = Duration::from_secs(180);

/// One node's row: what it is now, or why that is not known.
pub(super) type Row = (String, Result<String, Failure>);

pub fn power(globals: &Globals, args: &Power) -> Result<Exit, Stop> {
    let targets = match &args.verb {
        PowerVerb::Status { targets } => targets,
        verb => &verb.action().map(|(_, a)| a).ok_or_else(no_action)?.targets,
    };
    let limit = globals.timeout.unwrap_or(CHANGE);
    let Some((action, options)) = args.verb.action() else { return status(globals, targets) };
    let force = options.force;
    let wait = !options.no_wait;
    let goal = |nodes| Goal::Power { nodes, action, force, wait, lose_quorum: options.lose_quorum };
    if options.dry_run {
        return preview(globals, targets, &goal);
    }
    let verb = match action {
        PowerAction::On => "power on",
        PowerAction::GracefulShutdown | PowerAction::ForceOff => "power off",
        PowerAction::PowerCycle => "power cycle",
        PowerAction::GracefulRestart | PowerAction::ForceRestart => "power reset",
    };
    let ask = (action != PowerAction::On && !options.yes).then_some(verb);
    let short = Short {
        heading: "POWER",
        field: "power",
        ask,
        secret: None,
        stagger: options.stagger.unwrap_or_default(),
        patience: limit,
        limit: globals.timeout,
        hint: if verb == "power off" && !force { "; --force cuts the power" } else { "" },
    };
    short::run(globals, targets, Nothing::IsRefused, &short, &goal)
}

fn status(globals: &Globals, targets: &Targets) -> Result<Exit, Stop> {
    let session = Session::to_look(globals)?;
    let status = seen::status_for(globals, &session.fleet, targets)?;
    let names = targets::nodes(&session.fleet, &status, targets, Nothing::MeansAll)?;
    session.enter(&names)?;
    block_on_alone(async {
        let passwords = session.passwords(&names).await?;
        let left = session.left_open()?;
        let ear = interrupt::looks()?;
        let stopped = ear.told();
        let rows = rows(&session, &names, async |node| {
            let swept = !left.contains(&node.name);
            let state = session.power(node, &passwords, LOOK, swept, &stopped).await?;
            Ok(resource::power_word(state).to_owned())
        })
        .await;
        remember(&session, &rows);
        show(globals, rows, "POWER", "power")
    })
}

fn no_action() -> Stop {
    Stop::usage(Failure::new(Cause::Refused, "power", "no action is named"))
}

pub fn boot(globals: &Globals, args: &Boot) -> Result<Exit, Stop> {
    match &args.verb {
        BootVerb::Show { targets } => boot_show(globals, targets),
        BootVerb::Set { target, targets, persistent, url, dry_run } => {
            let target: crate::model::power::BootTarget = (*target).into();
            if let Some(url) = url {
                fit(target, url)?;
            }
            let goal = |nodes| Goal::Boot { nodes, target, persistent: *persistent, url: url.clone() };
            if *dry_run {
                return preview(globals, targets, &goal);
            }
            let short = Short {
                heading: "BOOT",
                field: "boot",
                ask: None,
                secret: None,
                stagger: Duration::ZERO,
                patience: globals.timeout.map_or(CHANGE, |limit| limit.min(CHANGE)),
                limit: globals.timeout,
                hint: "",
            };
            short::run(globals, targets, Nothing::IsRefused, &short, &goal)
        }
    }
}

/// What the BMCs show, and what of rackctl's own doing is still to be undone beside it.
fn boot_show(globals: &Globals, targets: &Targets) -> Result<Exit, Stop> {
    let session = Session::to_look(globals)?;
    let status = seen::status_for(globals, &session.fleet, targets)?;
    let names = targets::nodes(&session.fleet, &status, targets, Nothing::MeansAll)?;
    session.enter(&names)?;
    let left = crate::run::boot_left(session.store.as_ref(), "", &names).map_err(|e| stop(&e))?;
    block_on_alone(async {
        let passwords = session.passwords(&names).await?;
        let ear = interrupt::looks()?;
        let stopped = ear.told();
        let rows = rows(&session, &names, async |node| {
            let look = async |client: &bmc::Client| client.boot_shown().await;
            let shown = session.look(node, &passwords, LOOK, &stopped, look).await;
            let undo: Vec<String> = left.get(&node.name).into_iter().flatten().map(bmc::ladder::Undo::words).collect();
            match undo.is_empty() {
                true => shown,
                false => Ok(format!("{}; changed by rackctl: {}", shown?, undo.join(", "))),
            }
        })
        .await;
        show(globals, rows, "BOOT", "boot")
    })
}

/// Longest address that BMCs are asked to keep.
const MAX_URL: usize = 1_024;

/// An address is for what is fetched, and for nothing else.
fn fit(target: crate::model::power::BootTarget, url: &str) -> Result<(), Stop> {
    use crate::model::power::BootTarget::{Cd, Http};
    let wrong = |why: String| Stop::usage(Failure::new(Cause::Refused, "boot set --url", why));
    if !matches!(target, Http | Cd) {
        return Err(wrong("only `http` and `cd` take an address".into()));
    }
    let known = url.starts_with("http://") || url.starts_with("https://");
    let plain = url.len() <= MAX_URL && !url.chars().any(|c| c.is_control() || c.is_whitespace());
    if known && plain {
        Ok(())
    } else {
        Err(wrong(format!("`{}` is no address of the form http://… or https://…", bmc::redfish::json::clean(url))))
    }
}

/// Several machines at once, or the quorum of a cluster, are not taken away by a slip of the hand. Scripts, which have
/// no terminal, name what they mean.
pub(super) fn confirm(session: &Session, verb: &str, names: &[String]) -> Result<(), Stop> {
    let records = session.store.node_records().map_err(|e| stop(&e))?;
    let installed: Vec<&str> = records.iter().map(|(n, _)| n.as_str()).collect();
    let losing = quorum_lost(&session.fleet, names, &installed);
    if !stdout::stdin_is_terminal() || (names.len() < 2 && losing.is_empty()) {
        return Ok(());
    }
    stdout::note(&format!("{verb}: {}", names.join(", ")));
    losing.iter().for_each(|line| stdout::note(line));
    stdout::note("Type `yes` to go on, anything else to leave:");
    let mut answer = String::new();
    let read = std::io::BufRead::read_line(&mut std::io::stdin().lock(), &mut answer);
    if read.is_ok() && answer.trim() == "yes" {
        return Ok(());
    }
    let failure = Failure::new(Cause::Guard, verb, "it was not confirmed; nothing was done");
    Err(Stop::with(Exit::NeedsApproval, failure.next(format!("rackctl {verb} … --yes"))))
}

/// A line for each cluster that would be left with fewer than half of its installed members.
fn quorum_lost(fleet: &Fleet, names: &[String], installed: &[&str]) -> Vec<String> {
    let mut lines = Vec::new();
    for cluster in fleet.clusters.values() {
        let members: Vec<&String> = cluster.members.iter().filter(|m| installed.contains(&m.as_str())).collect();
        let taken = members.iter().filter(|m| names.contains(m)).count();
        if taken > 0 && members.len() - taken < members.len() / 2 + 1 {
            let of = members.len();
            lines.push(format!("cluster {}: {taken} of its {of} members: it loses its quorum meanwhile", cluster.name));
        }
    }
    lines
}

/// Between what a row says and what could not be seen of it.
pub(super) const WARNING: &str = "; warning: ";

/// What `get` shows from now on; only over an older look, for power alone says little of a machine.
pub(super) fn remember(session: &Session, rows: &[Row]) {
    let known: BTreeMap<&str, PowerState> = rows
        .iter()
        .filter_map(|(name, row)| {
            let word = row.as_ref().ok()?;
            match word.split_once(WARNING).map_or(word.as_str(), |(word, _)| word) {
                "on" => Some((name.as_str(), PowerState::On)),
                "off" => Some((name.as_str(), PowerState::Off)),
                _ => None,
            }
        })
        .collect();
    let Ok(observed) = session.store.observed() else { return };
    let now = clock::unix_ms();
    let mut fresh = Vec::new();
    for (name, _, value) in observed {
        let Some(power) = known.get(name.as_str()) else { continue };
        let Ok(mut facts) = serde_json::from_value::<NodeFacts>(value) else { continue };
        let Some(Observed { at, value: Ok(bmc) }) = facts.bmc.as_mut() else { continue };
        (bmc.power, *at) = (*power, now);
        if let Ok(value) = serde_json::to_value(&facts) {
            fresh.push((name, value));
        }
    }
    // Lost, it costs nothing but freshness.
    let _ = session.store.put_all_observed(now, &fresh);
}

/// A row of each node, in the order of the names; so many at a time as the operator allows.
async fn rows(session: &Session, names: &[String], look: impl AsyncFn(&Node) -> Result<String, Failure>) -> Vec<Row> {
    looks::each(names, session.concurrency, async |name| look(session.node(name)?).await).await
}

pub(super) fn show(globals: &Globals, rows: Vec<Row>, heading: &str, field: &str) -> Result<Exit, Stop> {
    let items: Vec<serde_json::Value> = rows
        .iter()
        .map(|(name, result)| {
            let status = match result {
                Ok(value) => match value.split_once(WARNING) {
                    Some((value, warning)) => json!({ field: value, "warning": warning }),
                    None => json!({ field: value }),
                },
                Err(failure) => json!({ "failure": failure }),
            };
            json!({ "apiVersion": "rackctl.dev/v1alpha1", "kind": "Node", "metadata": { "name": name }, "spec": {}, "status": status })
        })
        .collect();
    if globals.format.is_for_people() || !globals.within_playbook {
        globals.print(&items, |_| {
            let mut table = Table::new(["NAME", heading]);
            for (name, result) in &rows {
                table.row([name.as_str(), result.as_ref().map_or("unknown", String::as_str)]);
            }
            table
        })?;
    }
    looks::end(rows)
}

/// What would be sent, and what would be refused, by the same plan and the same decisions as the sending. Nothing is
/// locked, written or sent but reads.
fn preview(globals: &Globals, targets: &Targets, goal: &dyn Fn(Scope) -> Goal) -> Result<Exit, Stop> {
    let session = Session { read_only: true, ..Session::open(globals)? };
    let status = seen::status_for(globals, &session.fleet, targets)?;
    let names = targets::nodes(&session.fleet, &status, targets, Nothing::IsRefused)?;
    let goal = goal(Scope(names));
    let names = &goal.scope().0;
    session.enter(names)?;
    let left = crate::run::boot_left(session.store.as_ref(), "", names).map_err(|e| stop(&e))?;
    block_on(async {
        let passwords = session.passwords(names).await?;
        let plan = short::planned(&session, names, &goal, &passwords).await?;
        let refused: BTreeMap<&str, Failure> = short::refusals(&plan).collect();
        let kinds: BTreeMap<&str, &StepKind> =
            plan.tracks.iter().filter_map(|t| Some((t.subject.name(), &t.steps.first()?.kind))).collect();
        let ear = interrupt::looks()?;
        let stopped = ear.told();
        let rows = rows(&session, names, async |node| {
            if let Some(failure) = refused.get(node.name.as_str()) {
                return Err(failure.clone());
            }
            let Some(kind) = kinds.get(node.name.as_str()) else { return Ok(String::new()) };
            let undo = left.get(&node.name).map(Vec::as_slice).unwrap_or_default();
            let ask = async |client: &bmc::Client| requests::of_short(client, node, kind, undo).await;
            session.look(node, &passwords, LOOK, &stopped, ask).await
        })
        .await;
        show(globals, rows, "REQUESTS", "requests")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_loses_a_quorum_is_said() {
        let text = "
apiVersion: rackctl.dev/v1alpha1
kind: Cluster
metadata: { name: core }
spec: { driver: { etcd: { version: '3.4.23' } }, members: { selector: role=m, size: 3 } }
";
        let nodes: String = (1..4)
            .map(|i| format!("---\napiVersion: rackctl.dev/v1alpha1\nkind: Node\nmetadata: {{ name: n{i}, labels: {{ role: m }} }}\nspec: {{ interfaces: [{{ mac: '52:54:00:00:00:0{i}', addresses: [10.77.0.1{i}/24] }}] }}\n"))
            .collect();
        let source = crate::inventory::Source::Stdin(format!("{text}{nodes}"));
        let fleet = crate::inventory::load(&[source]).unwrap_or_else(|faults| panic!("{faults}")).fleet;
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let all = ["n1", "n2", "n3"];
        assert_eq!(quorum_lost(&fleet, &names(&["n1"]), &all), Vec::<String>::new());
        assert_eq!(
            quorum_lost(&fleet, &names(&["n1", "n3"]), &all),
            ["cluster core: 2 of its 3 members: it loses its quorum meanwhile"]
        );
        assert_eq!(quorum_lost(&fleet, &names(&all), &[]), Vec::<String>::new(), "nothing is installed yet");
        assert_eq!(quorum_lost(&fleet, &names(&["n1"]), &["n1"]).len(), 1);
    }
}
