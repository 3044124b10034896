//! `inspect`: what machines have and the inventory does not say, as manifests to merge, or written into them. What BMCs
//! know is read; with `--boot` the installer looks, in a run of its own.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    apply::{self, Order},
    args::{act::Inspect, run::Limits},
    globals::Globals,
    interrupt, looks, manifest, seen,
    session::{Session, block_on, stop},
    targets::{self, Nothing},
};
use crate::{
    bmc::{
        self,
        inspect::{self, Findings},
    },
    model::{
        Failure, Fleet,
        facts::{BmcFacts, HardwareFacts},
        failure::Cause,
        goal::{Goal, Scope},
    },
    output::{Exit, Stop, stdout, yaml},
    plan::{Plan, Subject},
    run,
    store::Record,
};

const LOOK: Duration = Duration::from_secs(60);

/// What was seen of one machine.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Seen {
    /// By its BMC.
    Facts(Box<BmcFacts>),
    /// By its installer.
    Hardware(Box<HardwareFacts>),
}

impl Seen {
    fn by(&self) -> &'static str {
        match self {
            Seen::Facts(_) => "its BMC knows",
            Seen::Hardware(_) => "its installer saw",
        }
    }
}

type Looked = (String, Result<(Seen, Findings), Failure>);

pub fn inspect(globals: &Globals, args: &Inspect) -> Result<Exit, Stop> {
    if args.write && globals.read_only {
        return Err(Failure::new(Cause::Guard, "inspect --write", "--read-only: nothing is written").into());
    }
    let session = Session::open(globals)?;
    let status = seen::status_for(globals, &session.fleet, &args.targets)?;
    let names = targets::nodes(&session.fleet, &status, &args.targets, Nothing::IsRefused)?;
    if args.boot {
        return boot(globals, &session, args, names);
    }
    session.enter(&names)?;
    let looked: Vec<Looked> = block_on(async {
        let passwords = session.passwords(&names).await?;
        let ear = interrupt::looks()?;
        let stopped = ear.told();
        Ok(looks::each(&names, session.concurrency, async |name| {
            let node = session.node(name)?;
            let look = async |client: &bmc::Client| client.facts().await;
            let facts = session.look(node, &passwords, LOOK, &stopped, look).await?;
            let findings = inspect::findings(node, &facts);
            Ok((Seen::Facts(Box::new(facts)), findings))
        })
        .await)
    })?;
    show(globals, &looked)?;
    let written = if args.write { write(globals, &session.fleet, &looked, args.dry_run) } else { Vec::new() };
    end(looked, written, Exit::Done)
}

/// The run, and then what its journal holds.
fn boot(globals: &Globals, session: &Session, args: &Inspect, names: Vec<String>) -> Result<Exit, Stop> {
    let id = apply::run_id();
    let goal = Goal::Inspect { nodes: Scope(names), installed: args.installed, lose_quorum: args.lose_quorum };
    let limits = Limits { yes: args.yes, dry_run: args.dry_run, ..Limits::default() };
    let ran = apply::run(globals, session, &Order { id: Some(&id), ..Order::of(&goal, &limits) });
    let records = session.store.journal(&id).map_err(|e| stop(&e))?;
    if records.is_empty() {
        return ran;
    }
    let looked = looked(&session.fleet, &goal.scope().0, &records);
    let written = if args.write { write(globals, &session.fleet, &looked, false) } else { Vec::new() };
    let (exit, mut failures) = match ran {
        Ok(exit) => (exit, Vec::new()),
        Err(stop) => (stop.exit, stop.failures),
    };
    match end(looked, written, exit) {
        Ok(exit) if failures.is_empty() => Ok(exit),
        Ok(exit) => Err(Stop { exit, failures }),
        Err(more) => {
            failures.extend(more.failures);
            Err(Stop { exit: more.exit, failures })
        }
    }
}

/// Of the machines that were seen.
fn looked(fleet: &Fleet, names: &[String], records: &[Record]) -> Vec<Looked> {
    let one = |name: &String| {
        let (node, facts) = (fleet.nodes.get(name)?, run::inspect::seen(records, name)?);
        let findings = inspect::hardware(node, &facts);
        Some((name.clone(), Ok((Seen::Hardware(Box::new(facts)), findings))))
    };
    names.iter().filter_map(one).collect()
}

/// In place of a run's report: what its machines have. Also of one that was resumed.
pub fn tell(globals: &Globals, fleet: &Fleet, plan: &Plan, records: &[Record]) -> Result<(), Stop> {
    let nodes = plan.tracks.iter().filter_map(|t| match &t.subject {
        Subject::Node(name) => Some(name.clone()),
        Subject::Cluster(_) => None,
    });
    show(globals, &looked(fleet, &nodes.collect::<Vec<_>>(), records))
}

fn show(globals: &Globals, looked: &[Looked]) -> Result<(), Stop> {
    if globals.format.is_for_people() {
        let patches: Vec<&Value> = looked.iter().filter_map(|(_, l)| l.as_ref().ok()?.1.patch.as_ref()).collect();
        stdout::print(&yaml::emit_all(patches))?;
        for (name, (seen, findings)) in looked.iter().filter_map(|(n, l)| Some((n, l.as_ref().ok()?))) {
            let told = findings.differs.iter().map(|d| format!("differs: {d}")).chain(findings.hints.iter().cloned());
            told.for_each(|line| stdout::note(&format!("{name}: {line}")));
            if findings.patch.is_none() && findings.differs.is_empty() {
                stdout::note(&format!("{name}: the inventory has all that {}", seen.by()));
            }
        }
    } else {
        let items: Vec<Value> = looked.iter().map(item).collect();
        globals.print(&items, |_| crate::output::Table::new(["NAME"]))?;
    }
    Ok(())
}

/// Each patch into the manifest of its machine. What could not be written.
fn write(globals: &Globals, fleet: &Fleet, looked: &[Looked], dry: bool) -> Vec<Failure> {
    let mut failures = Vec::new();
    for (name, findings) in looked.iter().filter_map(|(n, l)| Some((n, &l.as_ref().ok()?.1))) {
        let Some(spec) = findings.patch.as_ref().and_then(|patch| patch.get("spec")) else { continue };
        match manifest::fill(globals, fleet, name, spec, dry) {
            Ok(place) if dry => stdout::note(&format!("{name}: would be written into {place}")),
            Ok(place) => stdout::note(&format!("{name}: written into {place}")),
            Err(failure) => failures.push(failure),
        }
    }
    failures
}

fn end(looked: Vec<Looked>, written: Vec<Failure>, first: Exit) -> Result<Exit, Stop> {
    let exits = looked.iter().map(|(_, l)| match l {
        Ok((_, findings)) if !findings.differs.is_empty() => Exit::Failed,
        Ok(_) => Exit::Done,
        Err(failure) => Exit::of(failure.cause),
    });
    let exits: Vec<Exit> = exits.chain(written.iter().map(|f| Exit::of(f.cause))).collect();
    let exit = match (first, exits.is_empty()) {
        (first, true) => first,
        (Exit::Done, false) => Exit::combine(exits),
        // The run has said worse, or more.
        (first, false) => first,
    };
    let failures: Vec<Failure> = looked.into_iter().filter_map(|(_, l)| l.err()).chain(written).collect();
    if failures.is_empty() { Ok(exit) } else { Err(Stop { exit, failures: looks::once(failures) }) }
}

fn item((name, looked): &Looked) -> Value {
    let (spec, status) = match looked {
        Ok((seen, findings)) => {
            let mut status = serde_json::to_value(seen).unwrap_or_default();
            if let Some(status) = status.as_object_mut() {
                status.insert("differs".to_owned(), json!(findings.differs));
                status.insert("hints".to_owned(), json!(findings.hints));
            }
            (findings.patch.as_ref().map_or_else(|| json!({}), |p| p["spec"].clone()), status)
        }
        Err(failure) => (json!({}), json!({ "failure": failure })),
    };
    json!({ "apiVersion": "rackctl.dev/v1alpha1", "kind": "Node", "metadata": { "name": name }, "spec": spec, "status": status })
}
