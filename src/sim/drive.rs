//! The one place that drives the engine: events in, effects out, each made durable before it is carried out, as
//! `run::execute` does it for real machines.

use std::{collections::BTreeMap, rc::Rc};

use serde_json::{Value, json};

use super::{
    drivers::{self, Doing},
    exec::{Ctx, Owner, TaskId, Topic, timeout, until},
    log::Cause as By,
    member_drivers,
    tool::{Tool, failed},
};
use crate::{
    engine::{Effect, Engine, Event, Found, Outcome},
    model::{Failure, failure::Cause},
    plan::{Step, StepId, Subject},
    run::past,
    store::{Draft, Record, RecordKind, RunState, StoreError},
};

/// What `pause` and `abort` from another terminal become.
pub const PAUSE: Event = Event::Interrupt;
pub const ABORT: Event = Event::Interrupt;

/// Runs that can be gone on with.
pub fn is_open(state: RunState) -> bool {
    matches!(state, RunState::Running | RunState::Interrupted | RunState::Paused | RunState::Halted)
}

pub fn state_of(outcome: Outcome) -> RunState {
    match outcome {
        Outcome::Succeeded => RunState::Succeeded,
        Outcome::Interrupted => RunState::Interrupted,
        _ => RunState::Failed,
    }
}

const FINALIZE_DEADLINE_MS: u64 = 60_000;

pub struct Ended {
    pub outcome: Outcome,
    pub failures: Vec<(String, Failure)>,
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
}

pub async fn execute(
    ctx: &Ctx,
    tool: &Rc<Tool>,
    records: &[Record],
    concurrency: usize,
    meddle: &dyn Meddle,
) -> Result<Ended, Failure> {
    tool.restore(ctx, records);
    tool.serving.set(true);
    let past = past(records);
    let mut carrier = Carrier {
        ctx,
        tool,
        meddle,
        engine: Engine::new(&tool.plan(), concurrency, &past),
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
    };
    let result = carrier.run().await;
    for id in &carrier.tasks {
        ctx.cancel(*id);
    }
    result
}

impl Carrier<'_> {
    async fn run(&mut self) -> Result<Ended, Failure> {
        self.tool.home.borrow_mut().push_back((Event::Begin, Value::Null));
        loop {
            let home = {
                let tool = Rc::clone(self.tool);
                until(self.ctx, Topic::Home(self.tool.process), move || tool.home.borrow_mut().pop_front())
            };
            let (event, note) = home.await;
            if let Event::Observed { step, .. } = &event {
                self.notes.insert(step.clone(), note);
            }
            if let Event::Finalized { subject, result } = &event {
                let body = json!({ "failure": result.as_ref().err() });
                self.record(&subject.clone(), &subject.to_string(), 1, RecordKind::Finalized, body)?;
            }
            let effects = self.engine.handle(self.ctx.now(), event);
            let mut finished = false;
            for effect in self.meddle.effects(effects) {
                finished |= effect == Effect::Finished;
                self.carry_out(effect)?;
            }
            if finished {
                let failures = self.engine.failures().into_iter().map(|(id, f)| (id.clone(), f.clone())).collect();
                return Ok(Ended { outcome: self.engine.outcome(), failures });
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

    fn of(&self, id: &str) -> Option<(Subject, Step)> {
        let state = self.engine.step(id)?;
        let (subject, _) = self.engine.tracks().iter().find(|(_, ids)| ids.iter().any(|i| i == id))?;
        Some((subject.clone(), state.step.clone()))
    }

    /// A task of this process; what it brings home is the next event.
    fn spawn(&mut self, future: impl Future<Output = (Event, Value)> + 'static) {
        let (tool, sim) = (Rc::clone(self.tool), Rc::clone(self.ctx));
        let id = self.ctx.spawn(Owner::Process(self.tool.process), async move {
            let event = future.await;
            tool.home.borrow_mut().push_back(event);
            sim.notify(Topic::Home(tool.process));
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
                let intent = self.intents.get(&id).cloned();
                let d = self.doing(&subject, &step, attempt);
                self.spawn(async move {
                    let ms = step.kind.deadline_s() * 1_000;
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
                    let ms = step.kind.deadline_s() * 1_000;
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
                            Subject::Cluster(c) => member_drivers::verify(&d, c, &step.kind).await,
                        }
                    };
                    let seen = timeout(&d.ctx, deadline_s * 1_000, proof).await;
                    let result = seen.unwrap_or_else(|| Err(late(&step, "see it hold")));
                    (Event::Verified { step: id, result }, Value::Null)
                });
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
            Effect::Finalize { subject } => self.finalize(subject),
            Effect::Finished => {}
        }
        Ok(())
    }

    fn finalize(&mut self, subject: Subject) {
        let name = subject.name().to_owned();
        let step = format!("{name}/{}", By::FINALIZE);
        let d = Doing::new(self.ctx, self.tool, &name, &step, 1);
        self.spawn(async move {
            let done = timeout(&d.ctx, FINALIZE_DEADLINE_MS, drivers::finalize(&d, "the run ended")).await;
            let result = done.unwrap_or_else(|| {
                Err(Failure::new(Cause::Deadline, format!("{name}: leave it safe"), "its BMC did not answer in time"))
            });
            (Event::Finalized { subject, result }, Value::Null)
        });
    }
}

fn late(step: &Step, doing: &str) -> Failure {
    Failure::new(Cause::Deadline, format!("{}: {doing}", step.id), format!("{} s went by", step.kind.deadline_s()))
}
