//! `power` and `boot`: short looks and changes over a selection, each verified.

use std::time::Duration;

use serde_json::json;

use super::{
    args::{
        Targets,
        act::{Boot, BootVerb, Power, PowerVerb},
    },
    globals::Globals,
    interrupt, looks, seen,
    session::{Session, block_on, stop},
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
        goal::Goal,
        power::{BootOverride, OverrideFor, PowerAction, PowerState},
    },
    output::{Exit, Stop, Table, resource, stdout},
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
    if options.dry_run {
        return preview(globals, targets, bmc::client::Operation::Reset(action));
    }
    let verb = match action {
        PowerAction::On => "power on",
        PowerAction::GracefulShutdown | PowerAction::ForceOff => "power off",
        PowerAction::PowerCycle => "power cycle",
        PowerAction::GracefulRestart | PowerAction::ForceRestart => "power reset",
    };
    let goal = |nodes| Goal::Power { nodes, action, force, wait, lose_quorum: options.lose_quorum };
    let ask = (action != PowerAction::On && !options.yes).then_some(verb);
    let short = Short {
        heading: "POWER",
        field: "power",
        ask,
        secret: None,
        stagger: options.stagger.unwrap_or_default(),
        patience: limit,
        hint: if verb == "power off" && !force { "; --force cuts the power" } else { "" },
    };
    short::run(globals, targets, Nothing::IsRefused, &short, &goal)
}

fn status(globals: &Globals, targets: &Targets) -> Result<Exit, Stop> {
    let session = Session::open(globals)?;
    let status = seen::status_for(globals, &session.fleet, targets)?;
    let names = targets::nodes(&session.fleet, &status, targets, Nothing::MeansAll)?;
    session.enter(&names)?;
    block_on(async {
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
            if *dry_run {
                let lasts = if *persistent { OverrideFor::Persistent } else { OverrideFor::Once };
                let wanted = match target {
                    crate::model::power::BootTarget::None => BootOverride::CLEARED,
                    target => BootOverride { target, lasts, mode: None },
                };
                return preview(globals, targets, bmc::client::Operation::SetBoot(wanted));
            }
            let goal = |nodes| Goal::Boot { nodes, target, persistent: *persistent, url: url.clone() };
            let short = Short {
                heading: "BOOT",
                field: "boot",
                ask: None,
                secret: None,
                stagger: Duration::ZERO,
                patience: CHANGE,
                hint: "",
            };
            short::run(globals, targets, Nothing::IsRefused, &short, &goal)
        }
    }
}

/// What the BMCs show, and what of rackctl's own doing is still to be undone beside it.
fn boot_show(globals: &Globals, targets: &Targets) -> Result<Exit, Stop> {
    let session = Session::open(globals)?;
    let status = seen::status_for(globals, &session.fleet, targets)?;
    let names = targets::nodes(&session.fleet, &status, targets, Nothing::MeansAll)?;
    session.enter(&names)?;
    let left = crate::run::boot_left(session.store.as_ref(), "", &names).map_err(|e| stop(&e))?;
    block_on(async {
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

/// What is looked at over a selection.
struct Work {
    heading: &'static str,
    field: &'static str,
    nothing: Nothing,
}

impl Work {
    fn looking(heading: &'static str, field: &'static str) -> Work {
        Work { heading, field, nothing: Nothing::MeansAll }
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

/// What `get` shows from now on; only over an older look, for power alone says little of a machine.
pub(super) fn remember(session: &Session, rows: &[Row]) {
    let Ok(observed) = session.store.observed() else { return };
    for (name, _, value) in observed {
        let power = match rows.iter().find(|(n, _)| *n == name) {
            Some((_, Ok(word))) if word == "on" => PowerState::On,
            Some((_, Ok(word))) if word == "off" => PowerState::Off,
            _ => continue,
        };
        let Ok(mut facts) = serde_json::from_value::<NodeFacts>(value) else { continue };
        let now = clock::unix_ms();
        let Some(Observed { at, value: Ok(bmc) }) = facts.bmc.as_mut() else { continue };
        (bmc.power, *at) = (power, now);
        // Lost, it costs nothing but freshness.
        if let Ok(value) = serde_json::to_value(&facts) {
            let _ = session.store.put_observed(&name, now, &value);
        }
    }
}

type Doing<'a> = std::pin::Pin<Box<dyn Future<Output = Result<String, Failure>> + Send + 'a>>;

/// One look over a selection. What changes machines is a run: [`short`].
fn over(
    globals: &Globals,
    targets: &Targets,
    work: Work,
    operation: impl for<'a> Fn(&'a bmc::Client) -> Doing<'a> + Send + Sync,
) -> Result<Exit, Stop> {
    let session = Session::open(globals)?;
    let status = seen::status_for(globals, &session.fleet, targets)?;
    let names = targets::nodes(&session.fleet, &status, targets, work.nothing)?;
    session.enter(&names)?;
    block_on(async {
        let passwords = session.passwords(&names).await?;
        let ear = interrupt::looks()?;
        let stopped = ear.told();
        let rows = rows(&session, &names, async |node| {
            session.look(node, &passwords, LOOK, &stopped, async |client: &bmc::Client| operation(client).await).await
        })
        .await;
        show(globals, rows, work.heading, work.field)
    })
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
                Ok(value) => json!({ field: value }),
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

/// What would be sent, with nothing sent but reads.
fn preview(globals: &Globals, targets: &Targets, operation: bmc::client::Operation) -> Result<Exit, Stop> {
    let work = Work { nothing: Nothing::IsRefused, ..Work::looking("REQUESTS", "requests") };
    over(globals, targets, work, move |client| {
        Box::pin(async move {
            let requests = client.preview(&[operation]).await?.into_iter().next().unwrap_or(Ok(Vec::new()));
            let lines =
                requests.map_err(|why| Failure::new(Cause::Refused, format!("{}: preview", client.node()), why))?;
            Ok(lines.join("; "))
        })
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
