//! `power`, `boot set` and what `bmc` changes as what they are: short runs, under the same locks, refusals, budget, quorum guard and
//! journal as every other, shown as one table.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::{
    apply,
    args::Targets,
    conduct,
    globals::Globals,
    limit,
    power::{self, Row},
    seen,
    session::{Session, block_on, stop},
    targets::{self, Nothing},
};
use crate::{
    bmc,
    engine::Outcome,
    model::{
        Failure, Secret,
        facts::{Facts, InstallPhase},
        failure::Cause,
        goal::{Goal, Scope},
        power::PowerState,
    },
    output::{
        self, Exit, Stop,
        progress::{Progress, Update},
        resource, stdout,
    },
    plan::{self, Known, Plan, StepKind, Subject},
    run::{self, Notice, Pace, World, WorldParts, clock, keys::Keys, observe},
    store::{self, Draft, Fence, Holder, Record, RecordKind, RunRecord, RunState, StoreError},
};

/// When it is first said what is waited for, and how often after that.
const FIRST_WORD: Duration = Duration::from_secs(5);
const NEXT_WORD: Duration = Duration::from_secs(30);

/// Less patience with a machine, for rehearsals and tests: `RACKCTL_PATIENCE=12s`, of each attempt of a step. `--timeout` is
/// for the command as a whole.
const PATIENCE_VAR: &str = "RACKCTL_PATIENCE";

fn patience(most: Duration) -> Result<Duration, Failure> {
    let Some(text) = std::env::var_os(PATIENCE_VAR) else { return Ok(most) };
    let text = text.to_string_lossy();
    let patience = super::args::values::duration(&text).ok().filter(|d| d.as_secs() >= 1);
    patience.map(|patience| patience.min(most)).ok_or_else(|| {
        Failure::new(Cause::Local, PATIENCE_VAR, format!("`{text}` is no time of a second or more, as in `60s`"))
    })
}

/// How a short run is asked for and shown.
pub struct Short {
    pub heading: &'static str,
    pub field: &'static str,
    /// The words of the verb that a person is asked about: `power off`.
    pub ask: Option<&'static str>,
    /// Handed to the steps beside the goal, which is written down.
    pub secret: Option<Arc<Secret>>,
    pub stagger: Duration,
    pub patience: Duration,
    /// Of the whole command: what has not ended by then gets a row that says so.
    pub limit: Option<Duration>,
    /// What else could be done, behind the line that says what is waited for.
    pub hint: &'static str,
}

pub fn run(
    globals: &Globals,
    targets: &Targets,
    nothing: Nothing,
    short: &Short,
    goal: &dyn Fn(Scope) -> Goal,
) -> Result<Exit, Stop> {
    let session = Session::open(globals)?;
    // The drivers would send nothing either; said at once, whatever state the machines are in.
    if session.read_only {
        let word = goal(Scope(Vec::new())).word();
        return Err(Failure::new(Cause::Guard, word, "--read-only: no machine is changed").into());
    }
    let status = seen::status_for(globals, &session.fleet, targets)?;
    let names = targets::nodes(&session.fleet, &status, targets, nothing)?;
    if let Some(verb) = short.ask {
        power::confirm(&session, verb, &names)?;
    }
    let goal = goal(Scope(names));
    begin(globals, &session, &goal, short, &apply::run_id())
}

/// `--dry-run`: what would be done, and what would be refused; nothing is locked, written or sent but reads.
pub fn plan_alone(
    globals: &Globals,
    targets: &Targets,
    nothing: Nothing,
    goal: &dyn Fn(Scope) -> Goal,
) -> Result<Exit, Stop> {
    let session = Session { read_only: true, ..Session::open(globals)? };
    let status = seen::status_for(globals, &session.fleet, targets)?;
    let names = targets::nodes(&session.fleet, &status, targets, nothing)?;
    let goal = goal(Scope(names));
    let names = &goal.scope().0;
    session.enter(names)?;
    block_on(async {
        let passwords = session.passwords(names).await?;
        let plan = planned(&session, names, &goal, &passwords).await?;
        let place = session.place(globals, names);
        let text = || output::plan::text(&place, &plan);
        if globals.format.is_for_people() {
            stdout::print(&text())?;
        } else {
            stdout::print(&globals.format.render_one(&output::plan::value(&place, &plan), |_| text()))?;
        }
        Ok(apply::refusal_exit(&session.fleet, &plan))
    })
}

/// Each machine that the plan refuses, and why.
pub(super) fn refusals(plan: &Plan) -> impl Iterator<Item = (&str, Failure)> {
    plan.refusals.iter().map(|refusal| {
        let failure = Failure {
            next: refusal.next.clone(),
            ..Failure::new(Cause::Guard, format!("{}: {}", refusal.subject, plan.goal.word()), refusal.why.clone())
        };
        (refusal.subject.name(), failure)
    })
}

pub(super) async fn planned(
    session: &Session,
    names: &[String],
    goal: &Goal,
    passwords: &Arc<bmc::Passwords>,
) -> Result<Plan, Stop> {
    let facts = facts(session, names, goal, passwords).await?;
    let nothing = BTreeMap::new();
    let generations = store::cluster_generations(session.store.as_ref(), session.fleet.clusters.keys())
        .map_err(|e| super::session::stop(&e))?;
    let known = Known { artifacts: &nothing, cluster_generations: &generations };
    Ok(plan::plan(&session.fleet, &facts, goal, &known))
}

/// The run itself, under a name that was chosen. On the thread that is to be in the machines' namespace.
pub fn begin(globals: &Globals, session: &Session, goal: &Goal, short: &Short, id: &str) -> Result<Exit, Stop> {
    let names = &goal.scope().0;
    session.enter(names)?;
    block_on(async {
        let locks: Vec<String> = names.iter().map(|n| format!("node/{n}")).collect();
        let fence = session.lock(&locks, id)?;
        let rows = go(session, names, goal, short, id, &fence).await;
        let (rows, outcome) = session.release(&fence, rows)?;
        if short.field == "power" {
            power::remember(session, &rows);
        }
        let shown = power::show(globals, rows, short.heading, short.field);
        if outcome == Outcome::Interrupted {
            let why = "it was interrupted and can be resumed";
            let failure = Failure::new(Cause::Interrupted, format!("run {id}"), why);
            return Err(Stop::with(Exit::Interrupted, failure.next(format!("rackctl resume {id}"))));
        }
        shown
    })
}

async fn go(
    session: &Session,
    names: &[String],
    goal: &Goal,
    short: &Short,
    id: &str,
    fence: &Fence,
) -> Result<(Vec<Row>, Outcome), Stop> {
    let mut passwords = session.passwords(names).await?;
    if let Some(handed) = &short.secret
        && let Some(all) = Arc::get_mut(&mut passwords)
    {
        all.insert(run::HANDED, "", Arc::clone(handed));
    }
    session.sweep(&passwords).await?;
    let plan = planned(session, names, goal, &passwords).await?;
    let mut rows: BTreeMap<String, Result<String, Failure>> = BTreeMap::new();
    rows.extend(refusals(&plan).map(|(name, failure)| (name.to_owned(), Err(failure))));
    let mut outcome = Outcome::Succeeded;
    if !plan.is_empty() {
        outcome = carry_out(session, plan, short, id, fence, passwords, &mut rows).await?;
    }
    let order: BTreeMap<&String, usize> = names.iter().enumerate().map(|(place, name)| (name, place)).collect();
    let mut rows: Vec<Row> = rows.into_iter().collect();
    rows.sort_by_key(|(name, _)| order.get(name).copied());
    Ok((rows, outcome))
}

/// Who serves is asked only where something that may serve is taken away.
async fn facts(
    session: &Session,
    names: &[String],
    goal: &Goal,
    passwords: &Arc<bmc::Passwords>,
) -> Result<Facts, Stop> {
    let takes_away = goal.takes_away();
    let records = session.store.node_records().map_err(|e| stop(&e))?;
    let running: BTreeSet<&String> =
        records.iter().filter(|(_, r)| r.phase == InstallPhase::Installed).map(|(name, _)| name).collect();
    let installed: Vec<String> = names.iter().filter(|n| running.contains(n)).cloned().collect();
    if !takes_away || installed.is_empty() {
        return Ok(Facts::default());
    }
    let (asking, _ear) = session.asking(passwords, false)?;
    let mut facts = observe::facts(&session.fleet, &installed, &asking).await?;
    // A cluster that none of them belongs to has no say.
    facts.clusters.retain(|name, _| {
        session.fleet.clusters.get(name).is_some_and(|c| c.members.iter().any(|m| installed.contains(m)))
    });
    Ok(facts)
}

async fn carry_out(
    session: &Session,
    plan: Plan,
    short: &Short,
    id: &str,
    fence: &Fence,
    passwords: Arc<bmc::Passwords>,
    rows: &mut BTreeMap<String, Result<String, Failure>>,
) -> Result<Outcome, Stop> {
    let record = RunRecord {
        id: id.to_owned(),
        started_ms: clock::unix_ms(),
        ended_ms: None,
        state: RunState::Running,
        goal: plan.goal.clone(),
        plan_hash: plan.hash(),
        fleet: apply::to_value(&session.fleet)?,
        plan: apply::to_value(&plan)?,
        actor: Holder::this(),
    };
    let draft = |kind, body| Draft { subject: "run".into(), step: "run".into(), attempt: 1, kind, body };
    let begun = draft(RecordKind::RunStarted, serde_json::json!({ "plan": plan.hash() }));
    session.store.append(id, clock::unix_ms(), fence, begun).map_err(|e| stop(&e))?;
    session.store.create_run(&record).map_err(|e| stop(&e))?;
    let ends_at = short.limit.map(limit::over_at);
    let left = ends_at.map_or(Duration::MAX, |at| at.saturating_duration_since(std::time::Instant::now()));
    // Its driver says more of a machine than that the time is over: it gives up first.
    let patience_with_machines = patience(short.patience)?.min(left.max(Duration::from_secs(1)));
    let world = Arc::new(World::new(WorldParts {
        fleet: session.fleet.clone(),
        plan,
        run: id.to_owned(),
        store: Arc::clone(&session.store),
        fence: fence.clone(),
        keys: Arc::new(Keys::open(&session.folder.join("keys"))?),
        api_pin: String::new(),
        passwords,
        read_only: session.read_only,
        objects: Vec::new(),
        servers: BTreeMap::new(),
        tables: None,
        taken: watch::channel(0).1,
        first_table: 0,
        scratch: session.scratch()?,
        observer: session.observer(),
        patience: patience_with_machines,
        lease: session.lease,
        settles: None,
        approval: None,
    }));
    let (outside_in, outside) = mpsc::channel(4);
    let mut background = tokio::task::JoinSet::new();
    background.spawn(conduct::signals(outside_in));
    let mut patience = Patience {
        hint: short.hint,
        limit: patience_with_machines,
        since: BTreeMap::new(),
        tasks: Progress::new(stdout::stderr_is_terminal()),
    };
    let notify = |notice: Notice| patience.see(&notice);
    let pace = Pace { concurrency: session.concurrency, stagger: short.stagger, abort: false };
    let running = run::execute(Arc::clone(&world), &[], pace, outside, notify);
    let ended = match ends_at {
        Some(at) => tokio::time::timeout_at((at + limit::LAST_WORDS).into(), running).await.ok(),
        None => Some(running.await),
    };
    patience.tasks.finish();
    background.shutdown().await;
    match ended {
        Some(_) => session.sweep(&world.passwords()).await?,
        None => session.sweep_within(&world.passwords(), limit::LOG_OUTS).await,
    }
    let cut_off = ended.is_none();
    let (outcome, failures) = match ended {
        Some(Ok(ended)) => (ended.outcome, ended.failures),
        Some(Err(failure)) => (Outcome::Interrupted, vec![("run".to_owned(), failure)]),
        None => (Outcome::Interrupted, Vec::new()),
    };
    let state = match outcome {
        Outcome::Succeeded => RunState::Succeeded,
        Outcome::Interrupted => RunState::Interrupted,
        Outcome::Paused => RunState::Paused,
        Outcome::Aborted => RunState::Aborted,
        Outcome::Halted => RunState::Halted,
        _ => RunState::Failed,
    };
    let body = serde_json::json!({ "outcome": crate::output::report::outcome_word(outcome) });
    match session.store.append(id, clock::unix_ms(), fence, draft(RecordKind::RunEnded, body)) {
        Ok(_) => session.store.set_run_state(id, state, Some(clock::unix_ms())).map_err(|e| stop(&e))?,
        Err(StoreError::Fenced { .. }) => return Err(conduct::taken(session, id)),
        Err(error) => stdout::note(&format!("warning: the run's end was not recorded: {error}")),
    }
    let records = session.store.journal(id).map_err(|e| stop(&e))?;
    // The last of a step counts, of its ends, and the first of its failures.
    let ends: BTreeMap<&str, &Record> =
        records.iter().filter(|r| r.kind == RecordKind::Done).map(|r| (r.step.as_str(), r)).collect();
    let wrong: BTreeMap<&str, &Record> = records
        .iter()
        .filter(|r| r.body.get("failure").is_some_and(|f| !f.is_null()))
        .map(|r| (r.step.as_str(), r))
        .collect();
    let mut failed_at: BTreeMap<&str, &Failure> = BTreeMap::new();
    for (id, failure) in &failures {
        failed_at.entry(id.as_str()).or_insert(failure);
    }
    for track in &world.plan.tracks {
        let (Subject::Node(node), Some(step)) = (&track.subject, track.steps.first()) else { continue };
        let failed = failed_at.get(step.id.as_str()).or_else(|| failed_at.get("run")).map(|f| (*f).clone());
        let done = ends.get(step.id.as_str());
        let row = match (done, failed) {
            (Some(record), _) => Ok(said(&step.kind, &record.body)),
            (None, Some(failure)) => Err(failure),
            (None, None) if cut_off => Err(limit_over(node, &step.kind, short, wrong.get(step.id.as_str()))),
            (None, None) => {
                Err(Failure::new(Cause::Interrupted, format!("{node}: {}", step.kind.word()), "it was not begun"))
            }
        };
        let left = failed_at.get(format!("{node}/{}", crate::engine::LEAVE_SAFE).as_str());
        let row = match (row, left) {
            (row, None) => row,
            (Ok(_), Some(left)) => Err((*left).clone()),
            (Err(f), Some(left)) => Err(Failure { why: format!("{}; {left}", f.why), next: left.next.clone(), ..f }),
        };
        rows.insert(node.clone(), row);
    }
    // Over by the operator's own limit: each row says so, and the run can be resumed.
    Ok(if cut_off { Outcome::Failed } else { outcome })
}

/// The row of a machine that the limit cut off: its own failure, where it had failed for good by then, else that the time
/// is over, with what went wrong before.
fn limit_over(node: &str, kind: &StepKind, short: &Short, last: Option<&&Record>) -> Failure {
    let of = |record: &Record| serde_json::from_value::<Failure>(record.body.get("failure")?.clone()).ok();
    let before = last.and_then(|record| of(record).map(|failure| (record.kind, failure)));
    let over = limit::failure(node, &kind.word().replace('-', " "), short.limit.unwrap_or(short.patience));
    match before {
        Some((RecordKind::Failed, own)) => own,
        Some((_, before)) => Failure { why: format!("{}; before: {}", over.why, before.why), ..over },
        None => over,
    }
}

/// What was seen last, as the table says it.
fn said(kind: &StepKind, body: &Value) -> String {
    match kind {
        StepKind::ChangeBmc(_) => body.get("said").and_then(Value::as_str).unwrap_or("done").to_owned(),
        StepKind::SetBoot { .. } => body.get("boot").and_then(Value::as_str).unwrap_or("unknown").to_owned(),
        _ => {
            let state = body.get("power").and_then(|p| serde_json::from_value::<PowerState>(p.clone()).ok());
            let word = resource::power_word(state.unwrap_or(PowerState::Unknown)).to_owned();
            match body.get("warning").and_then(Value::as_str) {
                Some(warning) => format!("{word}{}{warning}", power::WARNING),
                None => word,
            }
        }
    }
}

/// Says after a while that, and how long, it is waited: a machine may take minutes to shut down.
struct Patience {
    hint: &'static str,
    limit: Duration,
    /// Node → what it does, since when, and when it was last said.
    since: BTreeMap<String, (Duration, Option<Duration>)>,
    /// How far BMCs are with what they were given.
    tasks: Progress,
}

impl Patience {
    fn see(&mut self, notice: &Notice) {
        let now = clock::since_boot();
        if let Notice::Trouble(failure) = notice {
            stdout::note(&crate::secrets::redact(&failure.to_string()));
        }
        if let Notice::Task { node, step, percent } = notice {
            self.tasks.update(&Update {
                subject: node.clone(),
                stage: step.clone(),
                done: Some(u64::from(*percent)),
                total: Some(100),
                message: String::new(),
            });
        }
        if let Notice::Tracks(tracks) = notice {
            for track in tracks {
                if track.step.is_none() || track.failed {
                    self.since.remove(&track.subject);
                } else {
                    self.since.entry(track.subject.clone()).or_insert((now, None));
                }
            }
        }
        for (node, (since, told)) in &mut self.since {
            let due = told.map_or(*since + FIRST_WORD, |at| at + NEXT_WORD);
            if now >= due {
                *told = Some(now);
                let limit = self.limit;
                self.tasks.note(&format!("{node}: waiting for the machine, at most {limit:?} in all{}", self.hint));
            }
        }
    }
}
