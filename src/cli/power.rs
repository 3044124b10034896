//! `power` and `boot`: short looks and changes over a selection, each verified.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use serde_json::json;

use super::{
    args::{
        Targets,
        act::{Boot, BootVerb, Power, PowerVerb},
    },
    globals::Globals,
    seen,
    session::{Session, block_on, stop},
    targets::{self, Nothing},
};
use crate::{
    bmc,
    model::{
        Failure, Fleet,
        facts::{NodeFacts, Observed},
        failure::Cause,
        fleet::Management,
        power::{BootOverride, OverrideFor, PowerAction, PowerState},
    },
    output::{Exit, Stop, Table, resource, stdout},
    run::clock,
    store::{Holder, LEASE},
};

const LOOK: Duration = Duration::from_secs(30);
const CHANGE: Duration = Duration::from_secs(180);
/// When it is first said what is waited for, and how often after that.
const FIRST_WORD: Duration = Duration::from_secs(5);
const NEXT_WORD: Duration = Duration::from_secs(30);

/// One node's row: what it is now, or why that is not known.
type Row = (String, Result<String, Failure>);

pub fn power(globals: &Globals, args: &Power) -> Result<Exit, Stop> {
    let (targets, nothing) = match &args.verb {
        PowerVerb::Status { targets } => (targets, Nothing::MeansAll),
        verb => (&verb.action().map(|(_, a)| a).ok_or_else(no_action)?.targets, Nothing::IsRefused),
    };
    let limit = globals.timeout.unwrap_or(CHANGE);
    let Some((action, options)) = args.verb.action() else {
        let work = Work { nothing, ..Work::looking("POWER", "power") };
        return over(globals, targets, work, |client| {
            Box::pin(async move { Ok(resource::power_word(client.power().await?).to_owned()) })
        });
    };
    let force = options.force;
    let wait = !options.no_wait;
    if options.dry_run {
        return preview(globals, targets, bmc::client::Operation::Reset(action));
    }
    let verb = match action {
        PowerAction::On => "on",
        PowerAction::GracefulShutdown | PowerAction::ForceOff => "off",
        PowerAction::PowerCycle => "cycle",
        PowerAction::GracefulRestart | PowerAction::ForceRestart => "reset",
    };
    let work = Work {
        changes: true,
        nothing,
        stagger: options.stagger.unwrap_or_default(),
        ask: (action != PowerAction::On && !options.yes).then_some(verb),
        hint: if verb == "off" && !force { "; --force cuts the power" } else { "" },
        limit,
        ..Work::looking("POWER", "power")
    };
    over(globals, targets, work, move |client| {
        Box::pin(async move {
            change_power(client, action, force, wait, limit).await?;
            Ok(resource::power_word(client.power().await?).to_owned())
        })
    })
}

fn no_action() -> Stop {
    Stop::usage(Failure::new(Cause::Refused, "power", "no action is named"))
}

async fn change_power(
    client: &bmc::Client,
    action: PowerAction,
    force: bool,
    wait: bool,
    limit: Duration,
) -> Result<(), Failure> {
    if !wait {
        return client.reset(action).await;
    }
    match action {
        PowerAction::On => client.set_power(true, force, limit).await,
        PowerAction::ForceOff => cut(client, limit).await,
        PowerAction::GracefulShutdown => client.set_power(false, force, limit).await,
        PowerAction::PowerCycle => {
            if force {
                cut(client, limit).await?;
            } else {
                client.set_power(false, false, limit).await?;
            }
            client.set_power(true, force, limit).await
        }
        PowerAction::ForceRestart | PowerAction::GracefulRestart => {
            let before = client.last_reset_time().await?;
            client.reset(action).await?;
            restarted(client, before, limit).await
        }
    }
}

/// Without asking the operating system, which `set_power` would do first and wait for.
async fn cut(client: &bmc::Client, limit: Duration) -> Result<(), Failure> {
    let until = clock::since_boot() + limit;
    if client.power().await? == PowerState::Off {
        return Ok(());
    }
    // A lost answer is not sent again: what is seen next counts.
    if let Err(failure) = client.reset(PowerAction::ForceOff).await
        && failure.cause != Cause::Unreachable
    {
        return Err(failure);
    }
    while client.power().await? != PowerState::Off {
        if clock::since_boot() > until {
            let why = format!("the BMC took the request and the machine is not off after {limit:?}");
            return Err(Failure::new(Cause::AcceptedButIgnored, format!("{}: cut the power", client.node()), why)
                .next(format!("rackctl bmc info {}", client.node())));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// The BMC's own mark of a reset must change, where it keeps one; the machine must be on in any case.
async fn restarted(client: &bmc::Client, before: Option<String>, limit: Duration) -> Result<(), Failure> {
    let until = clock::since_boot() + limit;
    loop {
        let (power, last) = (client.power().await?, client.last_reset_time().await?);
        if power == PowerState::On && (last.is_none() || last != before) {
            return Ok(());
        }
        if clock::since_boot() > until {
            return Err(Failure::new(
                Cause::AcceptedButIgnored,
                format!("{}: restart", client.node()),
                "the BMC took the request and shows no reset",
            )
            .next(format!("rackctl power reset {} --force", client.node())));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

pub fn boot(globals: &Globals, args: &Boot) -> Result<Exit, Stop> {
    match &args.verb {
        BootVerb::Show { targets } => over(globals, targets, Work::looking("BOOT", "boot"), |client| {
            Box::pin(async move { Ok(bmc::boot::words(client.boot().await?)) })
        }),
        BootVerb::Set { target, targets, persistent, dry_run } => {
            let lasts = if *persistent { OverrideFor::Persistent } else { OverrideFor::Once };
            let wanted = match (*target).into() {
                crate::model::power::BootTarget::None => BootOverride::CLEARED,
                target => BootOverride { target, lasts, mode: None },
            };
            if *dry_run {
                return preview(globals, targets, bmc::client::Operation::SetBoot(wanted));
            }
            let work = Work { changes: true, nothing: Nothing::IsRefused, ..Work::looking("BOOT", "boot") };
            over(globals, targets, work, move |client| {
                Box::pin(async move {
                    client.set_boot(wanted).await?;
                    Ok(bmc::boot::words(client.boot().await?))
                })
            })
        }
    }
}

/// What is done over a selection, and how.
struct Work {
    heading: &'static str,
    field: &'static str,
    nothing: Nothing,
    changes: bool,
    stagger: Duration,
    /// The word of `power` that a person is asked about.
    ask: Option<&'static str>,
    /// What else could be done, behind the line that says what is waited for.
    hint: &'static str,
    limit: Duration,
}

impl Work {
    fn looking(heading: &'static str, field: &'static str) -> Work {
        Work {
            heading,
            field,
            nothing: Nothing::MeansAll,
            changes: false,
            stagger: Duration::ZERO,
            ask: None,
            hint: "",
            limit: CHANGE,
        }
    }
}

/// Says after a while that, and how long, it is waited: a machine may take minutes to shut down.
async fn patiently(name: &str, work: &Work, mut doing: Doing<'_>) -> Result<String, Failure> {
    let mut pause = FIRST_WORD;
    loop {
        tokio::select! {
            result = &mut doing => return result,
            () = tokio::time::sleep(pause), if work.changes => {
                stdout::note(&format!("{name}: waiting for the machine, at most {:?} in all{}", work.limit, work.hint));
                pause = NEXT_WORD;
            }
        }
    }
}

/// Several machines at once, or the quorum of a cluster, are not taken away by a slip of the hand. Scripts, which have
/// no terminal, name what they mean.
fn confirm(session: &Session, verb: &str, names: &[String]) -> Result<(), Stop> {
    let records = session.store.node_records().map_err(|e| stop(&e))?;
    let installed: Vec<&str> = records.iter().map(|(n, _)| n.as_str()).collect();
    let losing = quorum_lost(&session.fleet, names, &installed);
    if !stdout::stdin_is_terminal() || (names.len() < 2 && losing.is_empty()) {
        return Ok(());
    }
    stdout::note(&format!("power {verb}: {}", names.join(", ")));
    losing.iter().for_each(|line| stdout::note(line));
    stdout::note("Type `yes` to go on, anything else to leave:");
    let mut answer = String::new();
    let read = std::io::BufRead::read_line(&mut std::io::stdin().lock(), &mut answer);
    if read.is_ok() && answer.trim() == "yes" {
        return Ok(());
    }
    let failure = Failure::new(Cause::Guard, format!("power {verb}"), "it was not confirmed; nothing was done");
    Err(Stop::with(Exit::NeedsApproval, failure.next(format!("rackctl power {verb} … --yes"))))
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
fn remember(session: &Session, rows: &[Row]) {
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

/// One operation over a selection. Changing ones hold the nodes' locks and respect `protect` and `management`.
fn over(
    globals: &Globals,
    targets: &Targets,
    work: Work,
    operation: impl for<'a> Fn(&'a bmc::Client) -> Doing<'a> + Send + Sync,
) -> Result<Exit, Stop> {
    let session = Session::open(globals)?;
    // The drivers would send nothing either; said at once, whatever state the machines are in.
    if work.changes && session.read_only {
        return Err(Failure::new(Cause::Guard, work.field, "--read-only: no machine is changed").into());
    }
    let status = seen::status_for(globals, &session.fleet, targets)?;
    let names = targets::nodes(&session.fleet, &status, targets, work.nothing)?;
    if let Some(verb) = work.ask {
        confirm(&session, verb, &names)?;
    }
    session.enter(&names)?;
    block_on(async {
        let mut fence = None;
        if work.changes {
            let locks: Vec<String> = names.iter().map(|n| format!("node/{n}")).collect();
            fence = Some(
                session
                    .store
                    .lock(&locks, work.heading, &Holder::this(), &clock::stamp(), LEASE)
                    .map_err(|e| stop(&e))?,
            );
        }
        let rows = async {
            let passwords = session.passwords(&names).await?;
            if fence.is_some() {
                session.sweep(&passwords).await?;
            }
            Ok::<_, Failure>(each(&session, &names, &passwords, &work, &operation).await)
        }
        .await;
        if let Some(fence) = &fence {
            session.store.unlock(fence).map_err(|e| stop(&e))?;
        }
        let rows = rows?;
        if work.field == "power" {
            remember(&session, &rows);
        }
        show(globals, rows, work.heading, work.field)
    })
}

async fn each(
    session: &Session,
    names: &[String],
    passwords: &Arc<bmc::Passwords>,
    work: &Work,
    operation: &(impl for<'a> Fn(&'a bmc::Client) -> Doing<'a> + Send + Sync),
) -> Vec<Row> {
    let mut rows: Vec<Row> = stream::iter(names.iter().enumerate().map(|(index, name)| async move {
        if !work.stagger.is_zero() {
            tokio::time::sleep(work.stagger * u32::try_from(index).unwrap_or(u32::MAX)).await;
        }
        let result = async {
            let node = session.node(name)?;
            if work.changes {
                allowed(name, node)?;
            }
            let client = session.bmc(node, passwords, if work.changes { work.limit } else { LOOK }).await?;
            let result = patiently(name, work, operation(&client)).await;
            let _ = client.close().await;
            result
        }
        .await;
        (name.clone(), result)
    }))
    .buffer_unordered(session.concurrency.max(1))
    .collect()
    .await;
    rows.sort_by_key(|(name, _)| names.iter().position(|n| n == name));
    rows
}

fn allowed(name: &str, node: &crate::model::fleet::Node) -> Result<(), Failure> {
    let refuse = |why: &str| {
        Err(Failure::new(Cause::Guard, format!("{name}: change"), why.to_owned())
            .next(format!("rackctl describe node {name}")))
    };
    if node.protect {
        return refuse("it is protected (`protect: true`): no power, boot or disk change");
    }
    if node.management == Management::Observe {
        return refuse("`management: observe` lets rackctl look only");
    }
    Ok(())
}

fn show(globals: &Globals, rows: Vec<Row>, heading: &str, field: &str) -> Result<Exit, Stop> {
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
    globals.print(&items, |_| {
        let mut table = Table::new(["NAME", heading]);
        for (name, result) in &rows {
            table.row([name.as_str(), result.as_ref().map_or("unknown", String::as_str)]);
        }
        table
    })?;
    let exit = Exit::combine(rows.iter().map(|(_, r)| r.as_ref().err().map_or(Exit::Done, |f| Exit::of(f.cause))));
    let failures: Vec<Failure> = rows.into_iter().filter_map(|(_, r)| r.err()).collect();
    if failures.is_empty() { Ok(exit) } else { Err(Stop { exit, failures }) }
}

/// What would be sent, with nothing sent but reads.
fn preview(globals: &Globals, targets: &Targets, operation: bmc::client::Operation) -> Result<Exit, Stop> {
    let work = Work { nothing: Nothing::IsRefused, ..Work::looking("REQUESTS", "requests") };
    over(globals, targets, work, move |client| {
        Box::pin(async move {
            let view = client.system_view().await?;
            let requests = bmc::client::requests_preview(&view, operation)
                .map_err(|why| Failure::new(Cause::Refused, format!("{}: preview", client.node()), why))?;
            Ok(requests.iter().map(|r| format!("{} {} {}", r.method, r.path, r.body)).collect::<Vec<_>>().join("; "))
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
