//! Operators: what people type, and what each process of the tool then does around the engine, as the command line
//! does it: lock, look, plan, approve, run, report.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use serde_json::json;

use super::{
    bmc, check,
    drive::{self, Ended, Meddle},
    drivers::{Client, Doing},
    exec::{Ctx, Owner, Topic, sleep, timeout, until},
    faults::ToolFault,
    fleet,
    log::{Cause as By, What},
    machine, member_drivers, recovery,
    tool::{Home, Tool, failed},
    watch,
    world::Process,
};
use crate::{
    engine::{Event, Outcome},
    model::{
        Failure, Fleet,
        approval::Envelope,
        facts::{BmcFacts, Facts, InstallPhase, NodeFacts, NodeRecord, Observed},
        failure::Cause,
        goal::Goal,
    },
    plan::{Known, Plan, approval, plan},
    run::keys::Keys,
    store::{Draft, Fence, RecordKind, RunRecord, RunState, Store, StoreError, cluster_generations},
};

const LOOK_MS: u64 = 30_000;
/// Between two looks for another DHCP server while ours serves.
pub const PROBE_MS: u64 = 10_000;
const PATIENCE_MS: u64 = 2 * 3_600_000;

/// What is typed.
#[derive(Clone, Debug)]
pub enum Command {
    Run(Goal),
    /// What was shown before under this hash, and nothing else.
    Approved(Goal, String),
    Resume(String),
    /// The locks of a run whose holder seems to do nothing any more are taken by order, and the run resumed.
    TakeOver(String),
    /// `state rebuild`, with what could still be read, and so many host keys compared (permille).
    Rebuild {
        hints: BTreeMap<String, NodeRecord>,
        known: u32,
    },
    /// Leaves the machines of a run safe whose process is dead, and gives it up.
    Abort(String),
}

/// How a process ended, as its terminal shows it.
#[derive(Clone, Debug)]
pub enum Ending {
    /// The run's outcome, and how much was refused.
    Ended {
        outcome: Outcome,
        refused: usize,
    },
    /// Nothing was to be done; so much was refused.
    Nothing {
        refused: usize,
    },
    Locked,
    /// Another run of these nodes did not end.
    OpenRun,
    Failed,
    /// The plan is not any more what was approved.
    Stale,
    /// Killed.
    Died,
}

/// What all processes of a world share that is no world.
#[derive(Clone)]
pub struct Office {
    pub fleet: Rc<Fleet>,
    pub keys: Rc<Keys>,
    pub concurrency: usize,
    pub meddle: Rc<dyn Meddle>,
}

/// Starts a process and waits for its end.
pub async fn process(ctx: &Ctx, office: &Office, host: &str, command: Command, fault: Option<ToolFault>) -> Ending {
    let number = ctx.world().processes.len() as u32 + 1;
    let run = match &command {
        Command::Run(_) | Command::Approved(..) | Command::Rebuild { .. } => format!("r{number}"),
        Command::Resume(run) | Command::TakeOver(run) | Command::Abort(run) => run.clone(),
    };
    {
        let mut world = ctx.world();
        world.processes.insert(number, Process { run: run.clone() });
        let by = By { process: number, step: String::new(), attempt: 0 };
        let now = world.now;
        let doing = match &command {
            Command::Run(goal) => goal.word().to_owned(),
            Command::Approved(goal, hash) => format!("{} --approve {}", goal.word(), &hash[..12]),
            Command::TakeOver(run) => format!("lock steal --run {run}, resume {run}"),
            Command::Rebuild { .. } => "state rebuild".to_owned(),
            Command::Resume(run) => format!("resume {run}"),
            Command::Abort(run) => format!("abort {run}"),
        };
        world.log.push(now, Some(&by), What::ToolStarted { host: host.to_owned(), doing });
    }
    let tool = Tool::new(ctx, number, host, &run, office, fault);
    befalls(ctx, &tool, fault);
    patience(ctx, &tool);
    let ending: Rc<RefCell<Option<Ending>>> = Rc::default();
    {
        let (sim, tool, office, ending) = (Rc::clone(ctx), Rc::clone(&tool), office.clone(), Rc::clone(&ending));
        ctx.spawn(Owner::Process(number), async move {
            let refuses = tool.durable.unbelieved.get() && !matches!(command, Command::Rebuild { .. });
            let told = match command {
                _ if refuses => Err(Failure::new(Cause::Guard, "state", "it is lost").next("rackctl state rebuild")),
                Command::Run(goal) => begin(&sim, &office, &tool, goal, None).await,
                Command::Approved(goal, hash) => begin(&sim, &office, &tool, goal, Some(hash)).await,
                Command::Resume(run) => resume(&sim, &office, &tool, &run, Way::On).await,
                Command::TakeOver(run) => resume(&sim, &office, &tool, &run, Way::TakeOver).await,
                Command::Abort(run) => resume(&sim, &office, &tool, &run, Way::Abort).await,
                Command::Rebuild { hints, known } => recovery::rebuild(&sim, &tool, &hints, known).await,
            };
            if tool.is_dead() {
                return;
            }
            let told = told.unwrap_or_else(|failure| {
                sim.world().happened(What::Note { text: failure.to_string() });
                Ending::Failed
            });
            let by = By { process: tool.process, step: String::new(), attempt: 0 };
            let mut world = sim.world();
            let now = world.now;
            world.log.push(now, Some(&by), What::ToolEnded { run: tool.run.clone(), told: format!("{told:?}") });
            drop(world);
            *ending.borrow_mut() = Some(told);
            tool.ends(&sim);
        });
    }
    until(ctx, Topic::Ended(number), move || tool.is_dead().then_some(())).await;
    let ended = ending.borrow_mut().take();
    ended.unwrap_or(Ending::Died)
}

/// Nobody watches a run for ever: one that waits for what never comes is stopped by hand.
fn patience(ctx: &Ctx, tool: &Rc<Tool>) {
    let (sim, tool) = (Rc::clone(ctx), Rc::clone(tool));
    ctx.spawn(Owner::World, async move {
        sleep(&sim, PATIENCE_MS).await;
        if !tool.is_dead() {
            sim.world().happened(What::Note { text: format!("process {} is stopped by hand", tool.process) });
            tool.tell(&sim, Home::Event(Event::Interrupt, serde_json::Value::Null));
        }
    });
}

/// What was drawn to befall the process, when its time comes.
fn befalls(ctx: &Ctx, tool: &Rc<Tool>, fault: Option<ToolFault>) {
    let Some(fault) = fault else { return };
    let (sim, tool) = (Rc::clone(ctx), Rc::clone(tool));
    ctx.spawn(Owner::World, async move {
        let tell = |event: Event| tool.tell(&sim, Home::Event(event, serde_json::Value::Null));
        match fault {
            ToolFault::DiesAt { .. } => {}
            ToolFault::DiesAfter { ms } => {
                sleep(&sim, ms).await;
                tool.dies(&sim, "killed");
            }
            ToolFault::InterruptedAfter { ms } => {
                sleep(&sim, ms).await;
                tell(Event::Interrupt);
            }
            ToolFault::PausedAfter { ms } => {
                sleep(&sim, ms).await;
                tell(Event::Pause);
            }
            ToolFault::AbortedAfter { ms } => {
                sleep(&sim, ms).await;
                tell(Event::Abort);
            }
            ToolFault::StoreFails { write, kept } => tool.durable.fail_at(Some(write), kept),
            ToolFault::Suspended { after_ms, ms } => {
                sleep(&sim, after_ms).await;
                if !tool.is_dead() {
                    let until = sim.now() + ms;
                    sim.suspend(Owner::Process(tool.process), until);
                    let by = By { process: tool.process, step: String::new(), attempt: 0 };
                    let mut world = sim.world();
                    let now = world.now;
                    watch::sleeps(&mut world, tool.process);
                    world.log.push(now, Some(&by), What::ToolSuspended { ms });
                }
            }
        }
    });
}

fn store_failure(error: &StoreError) -> Failure {
    failed(error)
}

fn lock(ctx: &Ctx, tool: &Tool, names: &[String], order: Option<bool>) -> Result<(), Option<Failure>> {
    match tool.durable.lock(names, &tool.run, (&tool.host, tool.process), ctx.now(), order) {
        Ok(fence) => {
            *tool.fence.borrow_mut() = Rc::new(fence);
            Ok(())
        }
        Err(StoreError::Locked(_)) => Err(None),
        Err(error) => Err(Some(store_failure(&error))),
    }
}

fn unlock(tool: &Tool) {
    tool.durable.unlock(tool.process, &tool.fence.borrow());
}

fn locks(fleet: &Fleet, names: &[String]) -> Vec<String> {
    let mut locks: Vec<String> = names.iter().map(|n| format!("node/{n}")).collect();
    let touched = |c: &&crate::model::fleet::Cluster| c.members.iter().any(|m| names.contains(m));
    locks.extend(fleet.clusters.values().filter(touched).map(|c| format!("cluster/{}", c.name)));
    locks.push("network/prov".to_owned());
    locks
}

/// What `plan` shows: its hash. Nobody is locked out meanwhile.
pub async fn plan_only(ctx: &Ctx, office: &Office, host: &str, goal: &Goal) -> Option<String> {
    let number = ctx.world().processes.len() as u32 + 1;
    let run = format!("r{number}");
    ctx.world().processes.insert(number, Process { run: run.clone() });
    let tool = Tool::new(ctx, number, host, &run, office, None);
    let plan = make_plan(ctx, &tool, goal, &goal.scope().0).await;
    tool.ends(ctx);
    plan.ok().map(|p| p.hash())
}

/// How a run goes on.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    On,
    TakeOver,
    Abort,
}

async fn begin(
    ctx: &Ctx,
    office: &Office,
    tool: &Rc<Tool>,
    goal: Goal,
    approved: Option<String>,
) -> Result<Ending, Failure> {
    sleep(ctx, 200).await;
    let names = goal.scope().0.clone();
    tool.gate(ctx).await;
    match lock(ctx, tool, &locks(&tool.fleet, &names), None) {
        Ok(()) => {}
        Err(None) => return Ok(Ending::Locked),
        Err(Some(failure)) => return Err(failure),
    }
    let result = begin_locked(ctx, office, tool, goal, &names, approved).await;
    if !tool.is_dead() {
        unlock(tool);
    }
    result
}

async fn begin_locked(
    ctx: &Ctx,
    office: &Office,
    tool: &Rc<Tool>,
    goal: Goal,
    names: &[String],
    approved: Option<String>,
) -> Result<Ending, Failure> {
    if open_run(tool, names) {
        return Ok(Ending::OpenRun);
    }
    sweep(ctx, tool).await;
    let plan = make_plan(ctx, tool, &goal, names).await?;
    for refusal in &plan.refusals {
        let text = format!("refused: {} {}: {}", refusal.subject, refusal.kind, refusal.why);
        ctx.world().happened(What::Note { text });
    }
    if approved.as_ref().is_some_and(|hash| *hash != plan.hash()) && office.meddle.compares_hashes() {
        return Ok(Ending::Stale);
    }
    if plan.is_empty() {
        return Ok(Ending::Nothing { refused: plan.refusals.len() });
    }
    if office.meddle.approves() {
        ctx.world().watch.approve(&tool.run, &plan);
    }
    watch::begins(&mut ctx.world(), &tool.run, &plan, approved.as_deref());
    let value = |v: Result<serde_json::Value, serde_json::Error>| {
        v.map_err(|e| Failure::new(Cause::Local, "record the run", e.to_string()))
    };
    let record = RunRecord {
        id: tool.run.clone(),
        started_ms: tool.unix_ms(ctx),
        ended_ms: None,
        state: RunState::Running,
        goal,
        plan_hash: plan.hash(),
        fleet: serde_json::Value::Null,
        plan: value(serde_json::to_value(&plan))?,
        actor: tool.holder(),
    };
    tool.gate(ctx).await;
    tool.durable.store().create_run(&record).map_err(|e| store_failure(&e))?;
    let given = (approval::envelope(&plan), tool.unix_ms(ctx) + approval::APPROVAL_MS);
    tool.begin(plan);
    run_record(ctx, tool, RecordKind::RunStarted, json!({ "envelope": given.0, "expires": given.1 }))?;
    *tool.approval.borrow_mut() = Some(given);
    conduct(ctx, office, tool, Vec::new(), false).await
}

fn open_run(tool: &Tool, names: &[String]) -> bool {
    let runs = tool.durable.store().run_heads().unwrap_or_default();
    runs.into_iter().any(|r| r.state.is_open() && r.goal.scope().0.iter().any(|n| names.contains(n)))
}

/// The open run of these nodes, as `rackctl runs` shows it.
pub fn open_run_of(ctx: &Ctx, names: &[String]) -> Option<String> {
    let runs = ctx.world().durable.store().run_heads().unwrap_or_default();
    runs.into_iter()
        .filter(|r| r.state.is_open())
        .find(|r| r.goal.scope().0.iter().any(|n| names.contains(n)))
        .map(|r| r.id)
}

/// What was approved last.
fn approved(records: &[crate::store::Record]) -> Option<(Envelope, u64)> {
    let given = |r: &&crate::store::Record| matches!(r.kind, RecordKind::Approved | RecordKind::RunStarted);
    let given = records.iter().rev().find(given)?;
    let envelope = serde_json::from_value(given.body.get("envelope")?.clone()).ok()?;
    Some((envelope, given.body.get("expires")?.as_u64()?))
}

fn run_record(ctx: &Ctx, tool: &Tool, kind: RecordKind, body: serde_json::Value) -> Result<(), Failure> {
    let draft = Draft { subject: "run".into(), step: "run".into(), attempt: 1, kind, body };
    tool.append(ctx, draft).map(|_| ()).map_err(|e| store_failure(&e))
}

async fn resume(ctx: &Ctx, office: &Office, tool: &Rc<Tool>, run: &str, way: Way) -> Result<Ending, Failure> {
    sleep(ctx, 200).await;
    let gone = || Failure::new(Cause::Guard, format!("resume {run}"), "there is no such open run");
    let record = tool.durable.store().run(run).map_err(|e| store_failure(&e))?.ok_or_else(gone)?;
    if !record.state.is_open() {
        return Err(gone());
    }
    let plan: Plan = serde_json::from_value(record.plan.clone())
        .map_err(|e| Failure::new(Cause::Malformed, format!("resume {run}"), e.to_string()))?;
    tool.gate(ctx).await;
    let abort = way == Way::Abort;
    let order = (way == Way::TakeOver).then_some(false);
    match lock(ctx, tool, &locks(&tool.fleet, &record.goal.scope().0), order) {
        Ok(()) => {}
        Err(None) => return Ok(Ending::Locked),
        Err(Some(failure)) => return Err(failure),
    }
    let result = async {
        sweep(ctx, tool).await;
        let records = tool.durable.store().journal(run).map_err(|e| store_failure(&e))?;
        let mut given = approved(&records);
        // `resume` says that the approval has run out, and what to type: the operator looks at the plan and approves.
        if !abort && given.as_ref().is_some_and(|(_, until)| *until <= tool.unix_ms(ctx)) {
            let anew = (approval::envelope(&plan), tool.unix_ms(ctx) + approval::APPROVAL_MS);
            run_record(ctx, tool, RecordKind::Approved, json!({ "envelope": anew.0, "expires": anew.1 }))?;
            given = Some(anew);
        }
        tool.begin(plan);
        *tool.approval.borrow_mut() = given;
        tool.durable.store().set_run_state(run, RunState::Running, None).map_err(|e| store_failure(&e))?;
        run_record(ctx, tool, RecordKind::RunResumed, json!({ "abort": abort }))?;
        conduct(ctx, office, tool, records, abort).await
    }
    .await;
    if !tool.is_dead() {
        unlock(tool);
    }
    result
}

async fn conduct(
    ctx: &Ctx,
    office: &Office,
    tool: &Rc<Tool>,
    records: Vec<crate::store::Record>,
    abort: bool,
) -> Result<Ending, Failure> {
    if !office.meddle.keeps_locks() {
        unlock(tool);
        let actor = tool.holder().to_string();
        *tool.fence.borrow_mut() = Rc::new(Fence { locks: Vec::new(), actor });
    }
    let ended = match ready(ctx, tool) {
        Ok(()) => drive::execute(ctx, tool, &records, office.concurrency, abort, office.meddle.as_ref()).await,
        Err(failure) => Err(failure),
    };
    if tool.is_dead() {
        return super::exec::never().await;
    }
    sweep(ctx, tool).await;
    let plan = tool.plan();
    let outcome = match &ended {
        Ok(Ended { outcome, .. }) => *outcome,
        Err(_) => Outcome::Interrupted,
    };
    let told = format!("{outcome:?}");
    let kind = match outcome {
        Outcome::Paused => RecordKind::RunPaused,
        Outcome::Aborted => RecordKind::RunAborted,
        _ => RecordKind::RunEnded,
    };
    if run_record(ctx, tool, kind, json!({ "outcome": told })).is_ok() {
        let state = drive::state_of(outcome);
        let store = &tool.durable.store();
        store.set_run_state(&tool.run, state, Some(tool.unix_ms(ctx))).map_err(|e| store_failure(&e))?;
        let told = ended.map(|e| e.failures).unwrap_or_default();
        for (step, failure) in &told {
            ctx.world().happened(What::Note { text: format!("{step} failed: {failure}") });
        }
        check::on_run_end(&mut ctx.world(), tool, &plan, outcome, &told);
    }
    Ok(Ending::Ended { outcome, refused: plan.refusals.len() })
}

/// Before anything is touched: its ports are free (F28), and nobody else answers on its network (F21).
fn ready(ctx: &Ctx, tool: &Rc<Tool>) -> Result<(), Failure> {
    if tool.plan().networks.is_empty() {
        return Ok(());
    }
    if let Some(other) = ctx.tool_at(&tool.host).filter(|t| t.process != tool.process) {
        let why = format!("port 67 is taken by process {}", other.process);
        return Err(Failure::new(Cause::Local, "network-boot servers", why));
    }
    if ctx.world().rogue_answers() {
        return Err(rogue());
    }
    // Asked for again and again while they serve.
    let (sim, own) = (Rc::clone(ctx), Rc::clone(tool));
    ctx.spawn(Owner::Process(tool.process), async move {
        loop {
            sleep(&sim, PROBE_MS).await;
            if sim.world().rogue_answers() {
                return own.tell(&sim, Home::Failed(rogue()));
            }
        }
    });
    Ok(())
}

fn rogue() -> Failure {
    Failure::new(Cause::Guard, "network-boot servers", "another DHCP server answers on this network: 10.9.255.254")
}

/// Sessions that an earlier process left behind are closed.
async fn sweep(ctx: &Ctx, tool: &Rc<Tool>) {
    for session in tool.noted() {
        let d = Doing::new(ctx, tool, &session.node, &format!("{}/{}", session.node, By::FINALIZE), 1);
        tool.gate(ctx).await;
        let closed = timeout(ctx, LOOK_MS, bmc::ask(ctx, &d.by, d.machine, bmc::Ask::CloseAll)).await;
        if matches!(closed, Some(Ok(_))) && session.settled(ctx.now()) {
            tool.forget(&session);
        }
    }
}

async fn make_plan(ctx: &Ctx, tool: &Rc<Tool>, goal: &Goal, names: &[String]) -> Result<Plan, Failure> {
    let mut facts = Facts::default();
    if ctx.world().rogue_answers() {
        facts.rogue_dhcp.insert("prov".to_owned(), vec![std::net::Ipv4Addr::new(10, 9, 255, 254)]);
    }
    for name in names {
        facts.nodes.insert(name.clone(), look(ctx, tool, name).await?);
    }
    for cluster in tool.fleet.clusters.values().filter(|c| c.members.iter().any(|m| names.contains(m))) {
        let installed = |m: &&String| {
            tool.node_record(m).ok().flatten().is_some_and(|r| r.phase != InstallPhase::Unknown && r.may_serve())
        };
        let members: Vec<&String> = cluster.members.iter().filter(installed).collect();
        let Some(first) = members.first() else { continue };
        let d = Doing::new(ctx, tool, first, &format!("cluster/{}/look", cluster.name), 1);
        let machines: Vec<usize> = members.iter().filter_map(|m| ctx.world().number.get(*m).copied()).collect();
        let seen = member_drivers::cluster_facts(&d, &machines).await;
        facts.clusters.insert(cluster.name.clone(), Observed { at: tool.unix_ms(ctx), value: seen });
    }
    let generations = cluster_generations(&tool.durable.store(), tool.fleet.clusters.keys()).map_err(|e| failed(&e))?;
    let artifacts = fleet::artifacts();
    let known = Known { artifacts: &artifacts, cluster_generations: &generations };
    Ok(plan(&tool.fleet, &facts, goal, &known))
}

pub async fn look_at_bmc(ctx: &Ctx, d: &Doing) -> Result<BmcFacts, Failure> {
    let asked = async {
        let client = Client::open(d).await?;
        let facts = client.facts().await;
        client.close().await;
        facts
    };
    let late = || Failure::new(Cause::Deadline, format!("{}: ask its BMC", d.node), "no answer within 30 s");
    timeout(ctx, LOOK_MS, asked).await.unwrap_or_else(|| Err(late()))
}

async fn look(ctx: &Ctx, tool: &Rc<Tool>, name: &str) -> Result<NodeFacts, Failure> {
    let d = Doing::new(ctx, tool, name, &format!("{name}/look"), 1);
    let bmc = look_at_bmc(ctx, &d).await;
    let record = tool.node_record(name)?;
    let system = match &record {
        Some(record) => {
            sleep(ctx, 50).await;
            Some(machine::status(ctx, d.machine, &record.system_host_key))
        }
        None => None,
    };
    let mut facts = NodeFacts::default();
    if let (Ok(seen), Some(spec)) = (&bmc, tool.fleet.nodes.get(name))
        && let Err(differing) = crate::bmc::identity::compare(&spec.identity, seen)
    {
        facts.identity_mismatches = differing.iter().map(ToString::to_string).collect();
    }
    let at = tool.unix_ms(ctx);
    facts.bmc = Some(Observed { at, value: bmc });
    facts.system = system.map(|value| Observed { at, value });
    facts.record = record;
    Ok(facts)
}

/// Virtual time of a whole world: longer than any run may take.
pub const WORLD_DEADLINE: Duration = Duration::from_secs(48 * 3_600);
