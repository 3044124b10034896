//! The one place that drives the engine: events in, effects out, each made durable before it is carried out, as
//! `run::execute` does it for real machines.

use std::{cell::Cell, collections::BTreeMap, rc::Rc};

use serde_json::{Value, json};

use super::{
    drivers::{self, Doing},
    exec::{Ctx, Owner, TaskId, Topic, sleep, timeout, until},
    log::Cause as By,
    member_drivers,
    tool::{Home, Tool, failed},
    watch,
};
use crate::{
    engine::{Effect, Engine, Event, Found, Now, Options, Outcome},
    model::{Failure, failure::Cause},
    plan::{Plan, Step, StepId, Subject},
    run::{owed, past},
    store::{Draft, LEASE, Record, RecordKind, RunState, StoreError},
};

pub fn state_of(outcome: Outcome) -> RunState {
    match outcome {
        Outcome::Succeeded => RunState::Succeeded,
        Outcome::Interrupted => RunState::Interrupted,
        Outcome::Paused => RunState::Paused,
        Outcome::Aborted => RunState::Aborted,
        Outcome::Halted => RunState::Halted,
        _ => RunState::Failed,
    }
}

const FINALIZE_DEADLINE_MS: u64 = 180_000;
const AROUND_DEADLINE_MS: u64 = 60_000;
/// Renewals in the time of one lease.
const RENEWALS: u64 = 6;

pub struct Ended {
    pub outcome: Outcome,
    /// Step and what went wrong.
    pub failures: Vec<(StepId, Failure)>,
}

/// What stands between engine and carrier: nothing, unless a test plants a bug here.
pub trait Meddle {
    /// What is carried out instead of these effects.
    fn effects(&self, effects: Vec<Effect>) -> Vec<Effect> {
        effects
    }
    /// Whether the intent of an effect is made durable.
    fn intents(&self) -> bool {
        true
    }
    /// Whether budget and quorum guard are told who is away.
    fn sees_who_is_away(&self) -> bool {
        true
    }
    /// What is reported.
    fn outcome(&self, outcome: Outcome) -> Outcome {
        outcome
    }
    /// Whether failed machines are left safe.
    fn finalizes(&self) -> bool {
        true
    }
    /// Whether installers see what is on a disk that is not ours.
    fn hides_foreign_data(&self) -> bool {
        false
    }
    /// Whether anybody approves what is done.
    fn approves(&self) -> bool {
        true
    }
    /// Whether a plan that is not what was approved is refused.
    fn compares_hashes(&self) -> bool {
        true
    }
    /// Whether a state that was lost is made anew from what is there.
    fn rebuilds(&self) -> bool {
        true
    }
    /// Whether an installed system starts etcd only as the list of members and its generation allow.
    fn starts_only_its_own(&self) -> bool {
        true
    }
    /// Whether log-ins at BMCs are ended.
    fn logs_out(&self) -> bool {
        true
    }
    /// What a look at a step says that an earlier process began.
    fn resumed(&self, found: Found) -> Found {
        found
    }
    /// What is kept of the journal.
    fn chain(&self, records: Vec<Record>) -> Vec<Record> {
        records
    }
    /// By which rules the engine goes.
    fn plan(&self, plan: Plan) -> Plan {
        plan
    }
    /// Whether the clock of the lease goes on while the host sleeps.
    fn counts_sleep(&self) -> bool {
        true
    }
    /// Whether waits have a limit.
    fn has_deadlines(&self) -> bool {
        true
    }
    /// Whether the run keeps its locks.
    fn keeps_locks(&self) -> bool {
        true
    }
}

/// The product as it is.
pub struct Honest;
impl Meddle for Honest {}

struct Carrier<'a> {
    ctx: &'a Ctx,
    tool: &'a Rc<Tool>,
    meddle: &'a dyn Meddle,
    engine: Engine,
    notes: BTreeMap<StepId, Value>,
    intents: BTreeMap<StepId, Value>,
    tasks: Vec<TaskId>,
    /// When the engine wants a tick.
    wake: Rc<Cell<Option<u64>>>,
}

pub async fn execute(
    ctx: &Ctx,
    tool: &Rc<Tool>,
    records: &[Record],
    concurrency: usize,
    abort: bool,
    meddle: &dyn Meddle,
) -> Result<Ended, Failure> {
    tool.renew(ctx).map_err(|e| fenced(&e))?;
    tool.restore(ctx, records);
    tool.serving.set(true);
    tool.sees.set(meddle.sees_who_is_away());
    let mut past = past(records);
    owed(&tool.durable.store(), &tool.plan(), &tool.run, &mut past).map_err(|e| failed(&e))?;
    let mut carrier = Carrier {
        ctx,
        tool,
        meddle,
        engine: Engine::new(&meddle.plan((*tool.plan()).clone()), Options { concurrency, stagger_ms: 0 }, &past),
        notes: BTreeMap::new(),
        intents: past
            .iter()
            .filter(|(_, p)| p.intent_open)
            .filter_map(|(id, _)| {
                let last = records.iter().rev().find(|r| r.kind == RecordKind::Intent && r.step == *id)?;
                Some((id.clone(), last.body.clone()))
            })
            .collect(),
        tasks: Vec::new(),
        wake: Rc::default(),
    };
    carrier.renews();
    let result = carrier.run(if abort { Event::Abort } else { Event::Begin }).await;
    for id in &carrier.tasks {
        ctx.cancel(*id);
    }
    // Its servers close before anything else is tidied up.
    tool.serving.set(false);
    result
}

impl Carrier<'_> {
    /// Leases are renewed while the loop goes on; a lock that is lost ends it.
    fn renews(&mut self) {
        let (tool, sim) = (Rc::clone(self.tool), Rc::clone(self.ctx));
        let id = self.ctx.spawn(Owner::Process(self.tool.process), async move {
            loop {
                sleep(&sim, LEASE.as_millis() as u64 / RENEWALS).await;
                match tool.renew(&sim) {
                    Ok(()) | Err(StoreError::Failed(_)) => {}
                    Err(error) => return tool.tell(&sim, Home::Fenced(error)),
                }
            }
        });
        self.tasks.push(id);
    }

    async fn run(&mut self, first: Event) -> Result<Ended, Failure> {
        self.tool.home.borrow_mut().push_front(Home::Event(first, Value::Null));
        loop {
            let home = {
                let tool = Rc::clone(self.tool);
                until(self.ctx, Topic::Home(self.tool.process), move || tool.home.borrow_mut().pop_front())
            };
            let (event, note) = match home.await {
                Home::Event(event, note) => (event, note),
                Home::Fenced(error) => return Err(fenced(&error)),
                Home::Failed(failure) => return Err(failure),
            };
            if let Event::Observed { step, .. } | Event::Verified { step, result: Ok(()) } = &event
                && !note.is_null()
            {
                self.notes.insert(step.clone(), note);
            }
            if let Event::Finalized { subject, attempt, result } = &event {
                let body = json!({ "failure": result.as_ref().err() });
                self.record(&subject.clone(), &subject.to_string(), *attempt, RecordKind::Finalized, body)?;
            }
            let effects = self.engine.handle(self.now(), event);
            let mut finished = false;
            for effect in self.meddle.effects(effects) {
                finished |= effect == Effect::Finished;
                self.carry_out(effect)?;
            }
            if finished {
                let failures = self.engine.failures().into_iter().map(|(id, f)| (id.clone(), f.clone())).collect();
                return Ok(Ended { outcome: self.meddle.outcome(self.engine.outcome()), failures });
            }
        }
    }

    fn record(
        &self,
        subject: &Subject,
        step: &str,
        attempt: u32,
        kind: RecordKind,
        body: Value,
    ) -> Result<(), Failure> {
        let draft = Draft { subject: subject.name().to_owned(), step: step.to_owned(), attempt, kind, body };
        match self.tool.append(self.ctx, draft) {
            Ok(_) => Ok(()),
            Err(error @ StoreError::Fenced { .. }) => {
                Err(Failure::new(Cause::Interrupted, "run", error.to_string()).next("rackctl runs"))
            }
            Err(error) => Err(failed(&error)),
        }
    }

    fn now(&self) -> Now {
        Now { mono_ms: self.ctx.now(), unix_ms: self.tool.unix_ms(self.ctx) }
    }

    fn of(&self, id: &str) -> Option<(Subject, Step)> {
        Some((self.engine.subject(id)?.clone(), self.engine.step(id)?.step.clone()))
    }

    /// A task of this process; what it brings home is the next event.
    fn spawn(&mut self, future: impl Future<Output = (Event, Value)> + 'static) {
        let (tool, sim) = (Rc::clone(self.tool), Rc::clone(self.ctx));
        let id = self.ctx.spawn(Owner::Process(self.tool.process), async move {
            let (event, note) = future.await;
            tool.tell(&sim, Home::Event(event, note));
        });
        self.tasks.push(id);
    }

    fn doing(&self, subject: &Subject, step: &Step, attempt: u32) -> Doing {
        let node = match subject {
            Subject::Node(node) => node.clone(),
            Subject::Cluster(_) => step.kind.member().unwrap_or_default().to_owned(),
        };
        Doing::new(self.ctx, self.tool, &node, &step.id, attempt)
    }

    fn carry_out(&mut self, effect: Effect) -> Result<(), Failure> {
        match effect {
            Effect::Observe { step: id, resumed, attempt } => {
                let Some((subject, step)) = self.of(&id) else { return Ok(()) };
                if let Subject::Node(node) = &subject {
                    watch::node_begins(&mut self.ctx.world(), self.tool.process, node);
                }
                let intent = self.intents.get(&id).cloned();
                let d = self.doing(&subject, &step, attempt);
                self.spawn(async move {
                    let ms = limit(&d, step.kind.deadline_s());
                    let look = async {
                        match &subject {
                            Subject::Node(_) => drivers::observe(&d, &step.kind, resumed, intent.as_ref()).await,
                            Subject::Cluster(c) => {
                                (member_drivers::observe(&d, c, &step.kind, resumed).await, Value::Null)
                            }
                        }
                    };
                    let seen = timeout(&d.ctx, ms, look).await;
                    let (found, note) =
                        seen.unwrap_or_else(|| (Found::Unknown(late(&step, "look whether it is done")), Value::Null));
                    let found = if resumed { d.tool.meddle.resumed(found) } else { found };
                    (Event::Observed { step: id, found }, note)
                });
            }
            Effect::Act { step: id, attempt } => {
                let Some((subject, step)) = self.of(&id) else { return Ok(()) };
                let body = self.notes.remove(&id).unwrap_or(Value::Null);
                if self.meddle.intents() {
                    self.record(&subject, &id, attempt, RecordKind::Intent, body.clone())?;
                }
                self.intents.insert(id.clone(), body);
                let d = self.doing(&subject, &step, attempt);
                self.spawn(async move {
                    let ms = limit(&d, step.kind.deadline_s());
                    let effect = async {
                        match &subject {
                            Subject::Node(_) => drivers::act(&d, &step.kind, attempt).await,
                            Subject::Cluster(c) => member_drivers::act(&d, c, &step.kind).await,
                        }
                    };
                    let result = timeout(&d.ctx, ms, effect).await.unwrap_or_else(|| Err(late(&step, "do it")));
                    (Event::Acted { step: id, result }, Value::Null)
                });
            }
            Effect::Verify { step: id, attempt, deadline_s } => {
                let Some((subject, step)) = self.of(&id) else { return Ok(()) };
                let d = self.doing(&subject, &step, attempt);
                self.spawn(async move {
                    let proof = async {
                        match &subject {
                            Subject::Node(_) => drivers::verify(&d, &step.kind).await,
                            Subject::Cluster(c) => {
                                member_drivers::verify(&d, c, &step.kind).await.map(|()| Value::Null)
                            }
                        }
                    };
                    let seen = timeout(&d.ctx, limit(&d, deadline_s), proof).await;
                    let result = seen.unwrap_or_else(|| Err(late(&step, "see it hold")));
                    let note = result.as_ref().ok().cloned().unwrap_or(Value::Null);
                    (Event::Verified { step: id, result: result.map(drop) }, note)
                });
            }
            Effect::Go { step } => self.tool.let_go(self.ctx, step, Ok(())),
            Effect::Withhold { step, failure } => self.tool.let_go(self.ctx, step, Err(failure)),
            Effect::NotSent { step: id, attempt, failure } => {
                let Some((subject, _)) = self.of(&id) else { return Ok(()) };
                let body = json!({ "failure": failure, "sent": false });
                self.record(&subject, &id, attempt, RecordKind::Result, body)?;
            }
            Effect::Complete { step: id, attempt } => {
                let Some((subject, _)) = self.of(&id) else { return Ok(()) };
                self.intents.remove(&id);
                let body = self.notes.remove(&id).unwrap_or(Value::Null);
                self.record(&subject, &id, attempt, RecordKind::Done, body)?;
            }
            Effect::Fail { step: id, attempt, failure } => {
                let Some((subject, _)) = self.of(&id) else { return Ok(()) };
                self.record(&subject, &id, attempt, RecordKind::Failed, json!({ "failure": failure }))?;
            }
            Effect::Again { step: id, attempt, failure } => {
                let Some((subject, _)) = self.of(&id) else { return Ok(()) };
                let body = json!({ "failure": failure, "again": true });
                self.record(&subject, &id, attempt, RecordKind::Result, body)?;
            }
            Effect::Finalize { subject, attempt } => self.finalize(subject, attempt),
            Effect::LookAround => {
                let (tool, ctx) = (Rc::clone(self.tool), Rc::clone(self.ctx));
                let sees = self.meddle.sees_who_is_away();
                self.spawn(async move {
                    // Not told in time: everything of the plan counts as unavailable.
                    let all = || tool.plan().pools.values().flat_map(|p| p.nodes.iter().cloned()).collect();
                    let seen = timeout(&ctx, AROUND_DEADLINE_MS, member_drivers::down(&ctx, &tool)).await;
                    let mut down = seen.and_then(Result::ok).unwrap_or_else(all);
                    if !sees {
                        down.clear();
                    }
                    (Event::Around { down }, Value::Null)
                });
            }
            Effect::Wake { at_ms } => {
                let at = self.wake.get().map_or(at_ms, |old| old.min(at_ms));
                self.wake.set(Some(at));
                let (ctx, tool, wake) = (Rc::clone(self.ctx), Rc::clone(self.tool), Rc::clone(&self.wake));
                let id = self.ctx.spawn(Owner::Process(self.tool.process), async move {
                    sleep(&ctx, at.saturating_sub(ctx.now())).await;
                    if wake.get().is_some_and(|at| ctx.now() >= at) {
                        wake.set(None);
                        tool.tell(&ctx, Home::Event(Event::Tick, Value::Null));
                    }
                });
                self.tasks.push(id);
            }
            Effect::Halt { why } => {
                let run = Subject::Node("run".to_owned());
                self.record(&run, "run", 1, RecordKind::RunHalted, json!({ "failure": why }))?;
            }
            Effect::Finished => {}
        }
        Ok(())
    }

    fn finalize(&mut self, subject: Subject, attempt: u32) {
        if !self.meddle.finalizes() {
            self.tool.tell(self.ctx, Home::Event(Event::Finalized { subject, attempt, result: Ok(()) }, Value::Null));
            return;
        }
        let name = subject.name().to_owned();
        let step = format!("{subject}/{}", By::FINALIZE);
        let d = Doing::new(self.ctx, self.tool, &name, &step, attempt);
        self.spawn(async move {
            let left = async {
                match &subject {
                    Subject::Node(_) => drivers::finalize(&d, "the run ended").await,
                    Subject::Cluster(cluster) => member_drivers::finalize(&d, cluster).await,
                }
            };
            let done = timeout(&d.ctx, FINALIZE_DEADLINE_MS, left).await;
            let result = done.unwrap_or_else(|| {
                Err(Failure::new(Cause::Deadline, format!("{name}: leave it safe"), "no answer in time"))
            });
            (Event::Finalized { subject, attempt, result }, Value::Null)
        });
    }
}

fn fenced(error: &StoreError) -> Failure {
    match error {
        StoreError::Failed(failure) => failure.clone(),
        other => Failure::new(Cause::Interrupted, "run", other.to_string()).next("rackctl runs"),
    }
}

fn limit(d: &Doing, seconds: u64) -> u64 {
    if d.tool.meddle.has_deadlines() { seconds * 1_000 } else { drivers::FOR_EVER_MS }
}

fn late(step: &Step, doing: &str) -> Failure {
    Failure::new(Cause::Deadline, format!("{}: {doing}", step.id), format!("{} s went by", step.kind.deadline_s()))
}
