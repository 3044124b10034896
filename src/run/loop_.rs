//! The loop: one event at a time through the engine, its effects journaled and carried out.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet};

use super::{World, around, clock, journal, machines, members, world::store_failure};
use crate::{
    engine::{Effect, Engine, Event, Found, Options, Outcome, TrackView, view},
    model::{Failure, boot::NetbootEvent, failure::Cause},
    plan::{Step, StepId, Subject},
    store::{ControlKind, Draft, Record, RecordKind, StoreError},
};

/// How often reports, the operator's wishes and the clock are looked at.
const PULSE: Duration = Duration::from_secs(1);
/// Renewals in the time of one lease.
const RENEWALS: u32 = 6;
/// For a look at what is unavailable.
const AROUND_DEADLINE: Duration = Duration::from_secs(60);

/// For one attempt of a finalizer: five requests to a BMC that takes its time.
const FINALIZE_DEADLINE: Duration = Duration::from_secs(180);

/// What views are folded from: events are the contract between doing and showing.
#[derive(Clone, Debug)]
pub enum Notice {
    /// A record became durable.
    Journal(Box<Record>),
    /// Where the tracks stand that have changed.
    Tracks(Vec<TrackView>),
    /// Something of this host that may pass.
    Trouble(Failure),
    /// A boot step on the wire.
    Netboot(NetbootEvent),
    /// How far a BMC has come with a step's task.
    Task { node: String, step: String, percent: u32 },
    /// An installer's report: node, stage in words, bytes done and in all.
    Installer { node: String, stage: rackctl_wire::Stage, done_bytes: Option<u64>, total_bytes: Option<u64> },
}

/// How fast, and whether at all.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Nodes under way at once.
    pub concurrency: usize,
    /// Between the beginnings of two nodes.
    pub stagger: Duration,
    /// Nothing is begun: what was begun before is left safe.
    pub abort: bool,
}

pub struct Ended {
    pub outcome: Outcome,
    /// Step and what went wrong.
    pub failures: Vec<(String, Failure)>,
}

/// Messages from outside the engine.
pub enum Outside {
    Interrupt,
    Netboot(NetbootEvent),
}

/// What a driver's task brings home.
enum Home {
    Event(Event, Value),
}

/// Runs the world's plan to its end. `records` is what the journal holds of this run already.
pub async fn execute(
    world: Arc<World>,
    records: &[Record],
    pace: Pace,
    outside: mpsc::Receiver<Outside>,
    notify: impl FnMut(Notice),
) -> Result<Ended, Failure> {
    // Drivers share one thread: they wait, they do not compute.
    tokio::task::LocalSet::new().run_until(drive(world, records, pace, outside, notify)).await
}

async fn drive(
    world: Arc<World>,
    records: &[Record],
    pace: Pace,
    mut outside: mpsc::Receiver<Outside>,
    mut notify: impl FnMut(Notice),
) -> Result<Ended, Failure> {
    world.renew().map_err(|e| fenced(&e))?;
    world.publish().await?;
    let mut past = journal::past(records);
    journal::owed(world.store.as_ref(), &world.plan, &world.run, &mut past).map_err(|e| store_failure(&e))?;
    let options = Options { concurrency: pace.concurrency, stagger_ms: pace.stagger.as_millis() as u64 };
    let mut engine = Engine::new(&world.plan, options, &past);
    let mut hands = Hands {
        intents: past
            .iter()
            .filter(|(_, p)| p.intent_open)
            .filter_map(|(id, _)| Some((id.clone(), journal::intent(records, id)?)))
            .collect(),
        notes: BTreeMap::new(),
        tasks: JoinSet::new(),
        wake: None,
    };
    let mut queue = vec![(if pace.abort { Event::Abort } else { Event::Begin }, Value::Null)];
    let mut pulse = tokio::time::interval(PULSE);
    let mut renewal = tokio::time::interval(world.lease / RENEWALS);
    renewal.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut open = true;
    loop {
        let mut finished = false;
        for (event, note) in std::mem::take(&mut queue) {
            if let Event::Observed { step, .. } | Event::Verified { step, result: Ok(()) } = &event
                && !note.is_null()
            {
                hands.notes.insert(step.clone(), note);
            }
            if let Event::Finalized { subject, attempt, result } = &event {
                let body = json!({ "failure": result.as_ref().err() });
                let subject_id = subject.to_string();
                if let Err(failure) =
                    record(&world, &mut notify, subject, &subject_id, *attempt, RecordKind::Finalized, body)
                {
                    hands.tasks.shutdown().await;
                    return Err(failure);
                }
            }
            for effect in engine.handle(clock::now(), event) {
                finished |= effect == Effect::Finished;
                if let Err(failure) = carry_out(&world, &engine, effect, &mut hands, &mut notify) {
                    // Not durable, so not done: stop before the next effect (F58, and a fence that was lost).
                    hands.tasks.shutdown().await;
                    return Err(failure);
                }
            }
        }
        notify(Notice::Tracks(view(&mut engine, clock::now())));
        if finished {
            hands.tasks.shutdown().await;
            let failures = engine.failures().into_iter().map(|(id, f)| (id.clone(), f.clone())).collect();
            return Ok(Ended { outcome: engine.outcome(), failures });
        }
        let wake = hands.wake;
        let alarm = async {
            match wake {
                // Never more than a pulse: the clock that decides goes on while this one sleeps.
                Some(at) => {
                    tokio::time::sleep(Duration::from_millis(at.saturating_sub(clock::boot_ms())).min(PULSE)).await
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(done) = hands.tasks.join_next() => match done {
                Ok(Home::Event(event, note)) => queue.push((event, note)),
                Err(error) if error.is_cancelled() => {}
                Err(error) => return Err(Failure::new(Cause::Local, "run", format!("a driver ended unexpectedly: {error}")).next("rackctl resume")),
            },
            asked = world.permits.asked() => {
                queue.extend(asked.into_iter().map(|step| (Event::Ready { step }, Value::Null)));
            }
            () = alarm => {
                if wake.is_some_and(|at| clock::boot_ms() >= at) {
                    hands.wake = None;
                    queue.push((Event::Tick, Value::Null));
                }
            }
            _ = renewal.tick() => match world.renew() {
                // Unreachable for a while: the gate shuts by itself when the lease has run out.
                Err(StoreError::Failed(failure)) => notify(Notice::Trouble(failure)),
                Err(error) => {
                    hands.tasks.shutdown().await;
                    return Err(fenced(&error));
                }
                Ok(()) => {}
            },
            message = outside.recv(), if open => match message {
                Some(Outside::Interrupt) => queue.push((Event::Interrupt, Value::Null)),
                Some(Outside::Netboot(event)) => {
                    let fatal = match &event {
                        NetbootEvent::Failed { failure } => Some(failure.clone()),
                        NetbootEvent::RogueDhcp { server } => Some(
                            Failure::new(Cause::Guard, "network-boot servers", format!("another DHCP server answers on this network: {server}"))
                                .next("stop that server, then rackctl resume"),
                        ),
                        _ => None,
                    };
                    notify(Notice::Netboot(event));
                    if let Some(failure) = fatal {
                        hands.tasks.shutdown().await;
                        return Err(failure);
                    }
                }
                None => open = false,
            },
            _ = pulse.tick() => {
                for node in world.plan.artifacts.keys() {
                    let report = world.desk().report_of(node).cloned();
                    if let Some(r) = report {
                        notify(Notice::Installer { node: node.clone(), stage: r.stage, done_bytes: r.done_bytes, total_bytes: r.total_bytes });
                    }
                }
                for (node, step, percent) in world.progress() {
                    notify(Notice::Task { node, step, percent });
                }
                match world.store.control(&world.run).map_err(|e| store_failure(&e))?.map(|c| c.kind) {
                    Some(ControlKind::Pause) => queue.push((Event::Pause, Value::Null)),
                    Some(ControlKind::Abort) => queue.push((Event::Abort, Value::Null)),
                    None => {}
                }
            }
        }
    }
}

/// What the loop has in hand.
struct Hands {
    tasks: JoinSet<Home>,
    notes: BTreeMap<StepId, Value>,
    intents: BTreeMap<StepId, Value>,
    /// When the engine wants a tick, in milliseconds since boot.
    wake: Option<u64>,
}

fn fenced(error: &StoreError) -> Failure {
    match error {
        StoreError::Failed(failure) => failure.clone(),
        other => Failure::new(Cause::Interrupted, "run", other.to_string()).next("rackctl runs"),
    }
}

fn record(
    world: &World,
    notify: &mut impl FnMut(Notice),
    subject: &Subject,
    step: &str,
    attempt: u32,
    kind: RecordKind,
    body: Value,
) -> Result<(), Failure> {
    let draft = Draft { subject: subject.name().to_owned(), step: step.to_owned(), attempt, kind, body };
    match world.append(draft) {
        Ok(record) => {
            notify(Notice::Journal(Box::new(record)));
            Ok(())
        }
        Err(error @ StoreError::Fenced { .. }) => {
            Err(Failure::new(Cause::Interrupted, "run", error.to_string()).next("rackctl runs"))
        }
        Err(error) => {
            let failure = store_failure(&error);
            // At once: whatever is asked of the store after this may fail too.
            if let Some(lost) = error.dump() {
                notify(Notice::Trouble(Failure::new(failure.cause, "not recorded", lost)));
            }
            Err(failure)
        }
    }
}

fn carry_out(
    world: &Arc<World>,
    engine: &Engine,
    effect: Effect,
    hands: &mut Hands,
    notify: &mut impl FnMut(Notice),
) -> Result<(), Failure> {
    let of = |id: &str| Some((engine.subject(id)?.clone(), engine.step(id)?.step.clone()));
    let Hands { tasks, notes, intents, wake } = hands;
    match effect {
        Effect::Observe { step: id, resumed, .. } => {
            let Some((subject, step)) = of(&id) else { return Ok(()) };
            let (world, intent) = (Arc::clone(world), intents.get(&id).cloned());
            tasks.spawn_local(async move {
                let deadline = Duration::from_secs(step.kind.deadline_s());
                let look = async {
                    match &subject {
                        Subject::Node(node) => {
                            machines::observe(&world, node, &step.kind, resumed, intent.as_ref()).await
                        }
                        Subject::Cluster(cluster) => members::observe(&world, cluster, &step.kind, resumed).await,
                    }
                };
                let (found, note) = tokio::time::timeout(deadline, look).await.unwrap_or_else(|_| {
                    (Found::Unknown(late(&step, "look whether it is done", deadline)), Value::Null)
                });
                Home::Event(Event::Observed { step: id, found }, note)
            });
        }
        Effect::Act { step: id, attempt } => {
            let Some((subject, step)) = of(&id) else { return Ok(()) };
            let body = notes.remove(&id).unwrap_or(Value::Null);
            record(world, notify, &subject, &id, attempt, RecordKind::Intent, body.clone())?;
            intents.insert(id.clone(), body);
            let world = Arc::clone(world);
            tasks.spawn_local(async move {
                let deadline = Duration::from_secs(step.kind.deadline_s());
                let effect = async {
                    match &subject {
                        Subject::Node(node) => machines::act(&world, node, &step.kind, attempt).await,
                        Subject::Cluster(cluster) => members::act(&world, cluster, &step.kind).await,
                    }
                };
                let result = tokio::time::timeout(deadline, effect)
                    .await
                    .unwrap_or_else(|_| Err(late(&step, "do it", deadline)));
                Home::Event(Event::Acted { step: id, result }, Value::Null)
            });
        }
        Effect::Verify { step: id, deadline_s, .. } => {
            let Some((subject, step)) = of(&id) else { return Ok(()) };
            let world = Arc::clone(world);
            tasks.spawn_local(async move {
                let deadline = Duration::from_secs(deadline_s);
                let proof = async {
                    match &subject {
                        Subject::Node(node) => machines::verify(&world, node, &step.kind).await,
                        Subject::Cluster(cluster) => {
                            members::verify(&world, cluster, &step.kind).await.map(|()| Value::Null)
                        }
                    }
                };
                let result = tokio::time::timeout(deadline, proof)
                    .await
                    .unwrap_or_else(|_| Err(late(&step, "see it hold", deadline)));
                let note = result.as_ref().ok().cloned().unwrap_or(Value::Null);
                Home::Event(Event::Verified { step: id, result: result.map(drop) }, note)
            });
        }
        Effect::Go { step } => world.permits.answer(&step, Ok(())),
        Effect::Withhold { step, failure } => world.permits.answer(&step, Err(failure)),
        Effect::NotSent { step: id, attempt, failure } => {
            let Some((subject, _)) = of(&id) else { return Ok(()) };
            let body = json!({ "failure": failure, "sent": false });
            record(world, notify, &subject, &id, attempt, RecordKind::Result, body)?;
        }
        Effect::Complete { step: id, attempt } => {
            let Some((subject, _)) = of(&id) else { return Ok(()) };
            intents.remove(&id);
            record(world, notify, &subject, &id, attempt, RecordKind::Done, notes.remove(&id).unwrap_or(Value::Null))?;
        }
        Effect::Fail { step: id, attempt, failure } => {
            let Some((subject, _)) = of(&id) else { return Ok(()) };
            record(world, notify, &subject, &id, attempt, RecordKind::Failed, json!({ "failure": failure }))?;
        }
        Effect::Again { step: id, attempt, failure } => {
            let Some((subject, _)) = of(&id) else { return Ok(()) };
            record(
                world,
                notify,
                &subject,
                &id,
                attempt,
                RecordKind::Result,
                json!({ "failure": failure, "again": true }),
            )?;
        }
        Effect::Finalize { subject, attempt } => {
            let reason = engine
                .failures()
                .into_iter()
                .find(|(id, _)| of(id).is_some_and(|(s, _)| s == subject))
                .map_or("the run ended".to_owned(), |(_, f)| f.to_string());
            let world = Arc::clone(world);
            tasks.spawn_local(async move {
                let result = match tokio::time::timeout(FINALIZE_DEADLINE, leave_safe(&world, &subject, &reason)).await
                {
                    Ok(result) => result,
                    Err(_) => {
                        Err(Failure::new(Cause::Deadline, format!("{subject}: leave it safe"), "no answer in time"))
                    }
                };
                Home::Event(Event::Finalized { subject, attempt, result }, Value::Null)
            });
        }
        Effect::LookAround => {
            let world = Arc::clone(world);
            tasks.spawn_local(async move {
                // Not told in time: everything of the plan counts as unavailable, and nothing is taken away.
                let all = || world.plan.pools.values().flat_map(|p| p.nodes.iter().cloned()).collect();
                let down = match tokio::time::timeout(AROUND_DEADLINE, around::down(&world)).await {
                    Ok(Ok(down)) => down,
                    _ => all(),
                };
                Home::Event(Event::Around { down }, Value::Null)
            });
        }
        Effect::Wake { at_ms } => *wake = Some(wake.map_or(at_ms, |old| old.min(at_ms))),
        Effect::Halt { why } => {
            let run = Subject::Node("run".to_owned());
            record(world, notify, &run, "run", 1, RecordKind::RunHalted, json!({ "failure": why }))?;
        }
        Effect::Finished => {}
    }
    Ok(())
}

async fn leave_safe(world: &World, subject: &Subject, reason: &str) -> Result<(), Failure> {
    match subject {
        Subject::Node(node) => machines::finalize(world, node, reason).await,
        Subject::Cluster(cluster) => members::finalize(world, cluster).await,
    }
}

fn late(step: &Step, doing: &str, deadline: Duration) -> Failure {
    let subject = step.id.split('/').next().unwrap_or_default();
    let next =
        if step.id.starts_with("cluster/") { "rackctl runs".to_owned() } else { format!("rackctl console {subject}") };
    Failure::new(Cause::Deadline, format!("{}: {doing}", step.id), format!("{} s went by", deadline.as_secs()))
        .next(next)
}
