//! `power`, `boot set` and what `bmc` changes as what they are: short runs, under the same locks, refusals, budget, quorum guard and
//! journal as every other, shown as one table.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::{
    apply,
    args::Targets,
    conduct,
    globals::Globals,
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
    store::{self, Draft, Fence, Holder, RecordKind, RunRecord, RunState, StoreError},
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

async fn planned(
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
    for refusal in &plan.refusals {
        let failure = Failure {
            next: refusal.next.clone(),
            ..Failure::new(Cause::Guard, format!("{}: {}", refusal.subject, goal.word()), refusal.why.clone())
        };
        rows.insert(refusal.subject.name().to_owned(), Err(failure));
    }
    let mut outcome = Outcome::Succeeded;
    if !plan.is_empty() {
        outcome = carry_out(session, plan, short, id, fence, passwords, &mut rows).await?;
    }
    let order = |name: &String| names.iter().position(|n| n == name);
    let mut rows: Vec<Row> = rows.into_iter().collect();
    rows.sort_by_key(|(name, _)| order(name));
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
    let installed: Vec<String> = names
        .iter()
        .filter(|n| records.iter().any(|(name, r)| name == *n && r.phase == InstallPhase::Installed))
        .cloned()
        .collect();
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
    let patience_with_machines = patience(short.patience)?;
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
    let ended = run::execute(Arc::clone(&world), &[], pace, outside, notify).await;
    patience.tasks.finish();
    background.shutdown().await;
    session.sweep(&world.passwords()).await?;
    let (outcome, failures) = match ended {
        Ok(ended) => (ended.outcome, ended.failures),
        Err(failure) => (Outcome::Interrupted, vec![("run".to_owned(), failure)]),
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
    for track in &world.plan.tracks {
        let (Subject::Node(node), Some(step)) = (&track.subject, track.steps.first()) else { continue };
        let failed = failures.iter().find(|(id, _)| id == &step.id || id == "run").map(|(_, f)| f.clone());
        let done = records.iter().rev().find(|r| r.kind == RecordKind::Done && r.step == step.id);
        let row = match (done, failed) {
            (Some(record), _) => Ok(said(&step.kind, &record.body)),
            (None, Some(failure)) => Err(failure),
            (None, None) => {
                Err(Failure::new(Cause::Interrupted, format!("{node}: {}", step.kind.word()), "it was not begun"))
            }
        };
        let left = failures.iter().find(|(id, _)| *id == format!("{node}/{}", crate::engine::LEAVE_SAFE));
        let row = match (row, left) {
            (row, None) => row,
            (Ok(_), Some((_, left))) => Err(left.clone()),
            (Err(f), Some((_, left))) => {
                Err(Failure { why: format!("{}; {left}", f.why), next: left.next.clone(), ..f })
            }
        };
        rows.insert(node.clone(), row);
    }
    Ok(outcome)
}

/// What was seen last, as the table says it.
fn said(kind: &StepKind, body: &Value) -> String {
    match kind {
        StepKind::ChangeBmc(_) => body.get("said").and_then(Value::as_str).unwrap_or("done").to_owned(),
        StepKind::SetBoot { .. } => body.get("boot").and_then(Value::as_str).unwrap_or("unknown").to_owned(),
        _ => {
            let state = body.get("power").and_then(|p| serde_json::from_value::<PowerState>(p.clone()).ok());
            resource::power_word(state.unwrap_or(PowerState::Unknown)).to_owned()
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
