//! `plan`, `apply`, `install`, `join`: load → observe → plan → show → confirm → run → report.

use std::{io::BufRead, path::Path};

use super::{
    approve,
    args::{
        Targets,
        run::{Apply, GoalWord, Install, Join, Limits, Plan as PlanArgs, Upgrade, UpgradeWhat},
    },
    conduct::{self, Run},
    globals::Globals,
    prepare::{self, Prepared, prepare},
    requests, seen,
    session::{Built, Session, block_on, stop},
    targets::{self, Nothing},
};
use crate::{
    model::{
        Failure, Fleet,
        failure::Cause,
        fleet::Lifecycle,
        goal::{Ceiling, Goal, Scope},
        rollout::RolloutWish,
    },
    netboot::servers::Servers,
    output::{self, Exit, Stop, stdout},
    plan::{Danger, Plan},
    run::clock,
    store::{Draft, Fence, Holder, RecordKind, RunRecord, RunState},
};

pub fn plan(globals: &Globals, args: &PlanArgs) -> Result<Exit, Stop> {
    let session = Session::open(globals)?;
    let (word, targets) = args.goal.split();
    let goal = goal(globals, &session, word, &targets, args.goal.reinstall, args.goal.allow)?;
    let built = prepare::build_ahead(&session, &goal)?;
    session.enter(&goal.scope().0)?;
    block_on(async {
        let passwords = session.passwords(&goal.scope().0).await?;
        let prepared = prepare(&session, &goal, &passwords, built).await?;
        let place = session.place(globals, &goal.scope().0);
        let value = output::plan::value(&place, &prepared.plan);
        if let Some(path) = &args.out {
            let text = serde_json::to_string_pretty(&value).unwrap_or_default();
            std::fs::write(path, text + "\n").map_err(|e| {
                Failure::new(Cause::Local, format!("write the plan to {}", path.display()), e.to_string())
            })?;
        }
        let mut asked = Vec::new();
        if globals.format.is_for_people() {
            let mut text = output::plan::text(&place, &prepared.plan);
            if args.requests {
                let (requests, ends) = requests::text(&session, &prepared.plan, &passwords).await?;
                text.push_str(&requests);
                asked = ends;
            }
            stdout::print(&text)?;
        } else {
            stdout::print(&globals.format.render_one(&value, |_| output::plan::text(&place, &prepared.plan)))?;
        }
        too_many_wipes(&prepared.plan, args.max_wipes)?;
        if asked.iter().any(Result::is_err) {
            let exit = Exit::combine(asked.iter().map(|e| e.as_ref().err().map_or(Exit::Done, |f| Exit::of(f.cause))));
            return Err(Stop { exit, failures: asked.into_iter().filter_map(Result::err).collect() });
        }
        Ok(refusal_exit(&session.fleet, &prepared.plan))
    })
}

pub fn apply(globals: &Globals, args: &Apply) -> Result<Exit, Stop> {
    let session = Session::open(globals)?;
    let kept = args.plan.as_deref().map(read_plan).transpose()?;
    let goal = match &kept {
        Some(plan) => plan.goal.clone(),
        None => {
            let (word, targets) = args.goal.split();
            goal(globals, &session, word, &targets, args.goal.reinstall, args.goal.allow)?
        }
    };
    run(globals, &session, &Order { kept: kept.as_ref(), ..Order::of(&goal, &args.limits) })
}

pub fn install(globals: &Globals, args: &Install) -> Result<Exit, Stop> {
    let session = Session::open(globals)?;
    let goal = goal(globals, &session, GoalWord::Install, &args.targets, args.reinstall, None)?;
    run(globals, &session, &Order::of(&goal, &args.limits))
}

pub fn join(globals: &Globals, args: &Join) -> Result<Exit, Stop> {
    let session = Session::open(globals)?;
    let goal = goal(globals, &session, GoalWord::Join, &args.targets, false, None)?;
    run(globals, &session, &Order::of(&goal, &args.limits))
}

pub fn upgrade(globals: &Globals, args: &Upgrade) -> Result<Exit, Stop> {
    let UpgradeWhat::Firmware(args) = &args.what;
    let session = Session::open(globals)?;
    let status = seen::status_for(globals, &session.fleet, &args.targets)?;
    let mut names = targets::nodes(&session.fleet, &status, &args.targets, Nothing::IsRefused)?;
    if args.targets.select.all {
        names.retain(|n| session.fleet.nodes.get(n).is_some_and(|n| n.lifecycle != Lifecycle::Decommissioned));
    }
    let rollout = RolloutWish {
        waves: args.waves.clone(),
        max_unavailable: args.max_unavailable,
        halt_after: args.halt_after,
        soak_s: args.soak.map(|d| u32::try_from(d.as_secs()).unwrap_or(u32::MAX)),
    };
    let goal = Goal::Baseline { nodes: Scope(names), rollout, lose_quorum: args.lose_quorum };
    run(globals, &session, &Order::of(&goal, &args.limits))
}

/// `apply` means all active nodes unless some are named; the others want names.
fn goal(
    globals: &Globals,
    session: &Session,
    word: GoalWord,
    targets: &Targets,
    reinstall: bool,
    allow: Option<Ceiling>,
) -> Result<Goal, Stop> {
    let nothing = if word == GoalWord::Install { Nothing::IsRefused } else { Nothing::MeansAll };
    let status = seen::status_for(globals, &session.fleet, targets)?;
    let mut names = targets::nodes(&session.fleet, &status, targets, nothing)?;
    if targets.is_empty() || targets.select.all {
        names.retain(|n| session.fleet.nodes.get(n).is_some_and(|n| n.lifecycle == Lifecycle::Active));
    }
    let nodes = Scope(names);
    Ok(match word {
        GoalWord::Apply => Goal::Apply { nodes, allow: allow.unwrap_or_default() },
        GoalWord::Install => Goal::Install { nodes, reinstall },
        GoalWord::Join => Goal::Join { nodes },
    })
}

/// A run as it is asked for: by a verb, or by a step of a playbook.
pub struct Order<'a> {
    pub goal: &'a Goal,
    pub limits: &'a Limits,
    pub kept: Option<&'a Plan>,
    pub step: Option<Step<'a>>,
    /// The name of the run, where it was chosen before.
    pub id: Option<&'a str>,
}

/// The run of a playbook's step: its id follows from the playbook's, and so do the approvals.
pub struct Step<'a> {
    pub run: &'a str,
    /// Of the playbook.
    pub parent: &'a str,
    /// Hashes of plans, or their beginnings; any may be meant for another step.
    pub approvals: &'a [String],
    /// Whether the playbook was asked to stop meanwhile: then nothing is begun.
    pub stopped: &'a (dyn Fn() -> bool + Sync),
}

impl<'a> Order<'a> {
    pub fn of(goal: &'a Goal, limits: &'a Limits) -> Order<'a> {
        Order { goal, limits, kept: None, step: None, id: None }
    }

    fn id(&self) -> String {
        self.step.as_ref().map(|step| step.run).or(self.id).map_or_else(run_id, str::to_owned)
    }
}

/// Begins a run and carries it to its end. On the thread that is to be in the machines' namespace.
pub fn run(globals: &Globals, session: &Session, order: &Order<'_>) -> Result<Exit, Stop> {
    let Order { goal, limits, .. } = order;
    let names = &goal.scope().0;
    let built = prepare::build_ahead(session, goal)?;
    let space = session.enter(names)?;
    let dry = limits.dry_run || session.read_only;
    // From the main thread: its death is what the child waits for.
    let child = if dry || !goal.boots() { None } else { Some(Servers::spawn(space.as_deref())?) };
    block_on(async {
        let id = order.id();
        let mut locks: Vec<String> = names.iter().map(|n| format!("node/{n}")).collect();
        if !matches!(goal, Goal::Baseline { .. }) {
            locks.extend(session.networks(names).iter().map(|n| format!("network/{n}")));
        }
        locks.extend(
            session
                .fleet
                .clusters
                .values()
                .filter(|c| c.members.iter().any(|m| names.contains(m)))
                .map(|c| format!("cluster/{}", c.name)),
        );
        let fence = if dry {
            None
        } else {
            let fence = session.lock(&locks, &id)?;
            if let Err(refused) = no_open_run(session, names) {
                session.store.unlock(&fence).map_err(|e| stop(&e))?;
                return Err(refused);
            }
            Some(fence)
        };
        let result = begin(globals, session, order, built, id, fence.clone(), child).await;
        // A run releases its locks when it ends; what never became one does it here.
        match &fence {
            Some(fence) => session.release(fence, result),
            None => result,
        }
    })
}

async fn begin(
    globals: &Globals,
    session: &Session,
    order: &Order<'_>,
    built: Option<Built>,
    id: String,
    fence: Option<Fence>,
    child: Option<Servers>,
) -> Result<Exit, Stop> {
    let Order { goal, limits, kept, .. } = *order;
    let names = &goal.scope().0;
    let passwords = session.passwords(names).await?;
    if fence.is_some() {
        session.sweep(&passwords).await?;
    }
    let Prepared { plan, built, servers, .. } = prepare(session, goal, &passwords, built).await?;
    let place = session.place(globals, names);
    let text = output::plan::text(&place, &plan);
    let Some(fence) = fence else {
        if globals.format.is_for_people() {
            stdout::print(&text)?;
        } else {
            stdout::print(&globals.format.render_one(&output::plan::value(&place, &plan), |_| text.clone()))?;
        }
        if session.read_only && !limits.dry_run && !plan.is_empty() {
            return Err(Failure::new(
                Cause::Guard,
                "apply",
                "--read-only: nothing is changed; the plan above is what would be done",
            )
            .into());
        }
        return Ok(refusal_exit(&session.fleet, &plan));
    };
    stdout::note(text.trim_end());
    if let Some(kept) = kept
        && kept.hash() != plan.hash()
    {
        let why =
            format!("the world has changed since it was made: it was {}, it would be {} now", kept.hash(), plan.hash());
        return Err(Failure::new(Cause::Guard, "apply the kept plan", why).next("rackctl plan --out FILE").into());
    }
    too_many_wipes(&plan, limits.max_wipes)?;
    if plan.is_empty() {
        let members = conduct::member_rows(session, &plan).await;
        let done = output::report::Report {
            run: "-",
            outcome: crate::engine::Outcome::Succeeded,
            timeline: &Default::default(),
            failures: &[],
            members: &members,
            head: "-",
        };
        if globals.format.is_for_people() {
            if let Some(table) = output::report::members(&done) {
                stdout::print(&table.render(stdout::width()))?;
            }
            stdout::note(match refusal_exit(&session.fleet, &plan) {
                Exit::Done => "Nothing to do: every step was found done.",
                Exit::Partial => "Nothing was done: some nodes are as they should be, the others were refused.",
                _ => "Nothing was done: all of it was refused.",
            });
        } else if !globals.within_playbook {
            stdout::print(&globals.format.render_one(&output::report::value(&done), |_| String::new()))?;
        }
        return Ok(refusal_exit(&session.fleet, &plan));
    }
    confirm(&plan, order, &place)?;
    let approval = approve::of_this_operator(session, &plan, limits.expires)?;
    approve::second_operator(session, &plan)?;
    if let Some(step) = order.step.as_ref().filter(|s| (s.stopped)()) {
        let failure = Failure::new(Cause::Interrupted, format!("run {}", step.run), "it was not begun");
        return Err(failure.next(format!("rackctl resume {}", step.parent)).into());
    }
    let record = RunRecord {
        id: id.clone(),
        started_ms: clock::unix_ms(),
        ended_ms: None,
        state: RunState::Running,
        goal: goal.clone(),
        plan_hash: plan.hash(),
        fleet: to_value(&session.fleet)?,
        plan: to_value(&plan)?,
        actor: Holder::this(),
    };
    // The journal first: a run that the store knows has its plan, its objects and its approval.
    let draft = Draft {
        subject: "run".into(),
        step: "run".into(),
        attempt: 1,
        kind: RecordKind::RunStarted,
        body: serde_json::json!({ "plan": plan.hash(), "objects": prepare::objects(&built), "approval": approval }),
    };
    session.store.append(&id, clock::unix_ms(), &fence, draft).map_err(|e| stop(&e))?;
    session.store.create_run(&record).map_err(|e| stop(&e))?;
    stdout::note(&format!(
        "run {id}; from another terminal: rackctl runs, rackctl describe node NAME, rackctl logs {id}"
    ));
    let run = Run {
        id,
        plan,
        fence,
        passwords,
        objects: prepare::objects(&built),
        servers,
        records: Vec::new(),
        child,
        approval: approval.map(|a| (a.envelope, a.expires_ms)),
        abort: false,
    };
    conduct::conduct(globals, session, run).await
}

pub fn to_value<T: serde::Serialize>(value: &T) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(value).map_err(|e| Failure::new(Cause::Local, "record the run", e.to_string()))
}

/// A run that did not end is gone on with, not overtaken: only it knows what is in hand.
fn no_open_run(session: &Session, names: &[String]) -> Result<(), Stop> {
    let runs = session.store.run_heads().map_err(|e| stop(&e))?;
    // A short run (power, boot) leaves nothing in hand that another one would not see.
    for run in runs.iter().filter(|r| r.state.is_open() && !r.goal.is_short() && !r.goal.is_playbook()) {
        let touched = run.goal.scope().0.iter().any(|n| names.contains(n));
        if touched {
            let why = format!(
                "run {} of {} did not end (started {})",
                run.id,
                run.actor,
                crate::model::clock::utc(run.started_ms)
            );
            // A step is gone on with by its playbook.
            let id = run.id.split_once('.').map_or(run.id.as_str(), |(playbook, _)| playbook);
            return Err(Failure::new(Cause::Guard, "apply", why)
                .next(format!("rackctl resume {id}, or rackctl abort {id}"))
                .into());
        }
    }
    Ok(())
}

fn too_many_wipes(plan: &Plan, max: Option<u32>) -> Result<(), Failure> {
    let wipes = plan.count(Danger::DataLoss);
    match max {
        Some(max) if wipes > max as usize => Err(Failure::new(
            Cause::Guard,
            "limit of wipes",
            format!("the plan would wipe {wipes} disks, --max-wipes allows {max}"),
        )),
        _ => Ok(()),
    }
}

/// 3 when everything was refused, 4 when some was. A node whose cluster is refused is not done because it needs no step
/// of its own.
pub(super) fn refusal_exit(fleet: &Fleet, plan: &Plan) -> Exit {
    let refused = |name: &String| {
        plan.refusals.iter().any(|refusal| match &refusal.subject {
            crate::plan::Subject::Node(node) => node == name,
            crate::plan::Subject::Cluster(cluster) => {
                fleet.clusters.get(cluster).is_some_and(|c| c.members.contains(name))
            }
        })
    };
    let goes_on = |track: &crate::plan::Track| match &track.subject {
        crate::plan::Subject::Node(name) => !track.steps.is_empty() || !refused(name),
        crate::plan::Subject::Cluster(_) => !track.steps.is_empty(),
    };
    match (plan.refusals.is_empty(), plan.tracks.iter().any(goes_on)) {
        (true, _) => Exit::Done,
        (false, true) => Exit::Partial,
        (false, false) => Exit::Refused,
    }
}

/// Reversible plans need `--yes` or a yes; destroying ones the hash, or the fleet's word typed at a terminal.
fn confirm(plan: &Plan, order: &Order<'_>, place: &output::plan::Place) -> Result<(), Stop> {
    let hash = plan.hash();
    let Order { goal, limits, .. } = *order;
    if order.step.as_ref().is_some_and(|s| s.approvals.iter().any(|a| hash.starts_with(a.as_str()))) {
        return Ok(());
    }
    if let Some(approved) = &limits.approve {
        if hash.starts_with(approved.as_str()) {
            return Ok(());
        }
        let why = format!("--approve {approved} names another plan; this one is {hash}");
        return Err(Stop::with(Exit::NeedsApproval, Failure::new(Cause::Guard, "approval", why).next("rackctl plan")));
    }
    let destroys = plan.count(Danger::DataLoss) > 0;
    if limits.yes && !destroys {
        return Ok(());
    }
    if !stdout::stdin_is_terminal() {
        let why = format!(
            "the plan needs approval{}; its hash is {hash}",
            if destroys { ", for it destroys data" } else { "" }
        );
        let again = order.step.as_ref().map_or_else(|| "apply …".to_owned(), |s| format!("resume {}", s.parent));
        let next = match goal {
            Goal::Inspect { .. } => "rackctl inspect … --boot --yes".to_owned(),
            _ => format!("rackctl {again} --approve {}", plan.short_hash()),
        };
        return Err(Stop::with(Exit::NeedsApproval, Failure::new(Cause::Guard, "approval", why).next(next)));
    }
    let word = if destroys {
        plan.tracks
            .iter()
            .find_map(|t| if let crate::plan::Subject::Cluster(name) = &t.subject { Some(name.clone()) } else { None })
            .or_else(|| place.context.clone())
            .unwrap_or_else(|| "wipe".to_owned())
    } else {
        "yes".to_owned()
    };
    stdout::note(&output::plan::first_line(place, plan));
    stdout::note(&format!("Type `{word}` to go on, anything else to leave:"));
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && answer.trim() == word {
        return Ok(());
    }
    Err(Stop::with(Exit::NeedsApproval, Failure::new(Cause::Guard, "approval", "it was not given; nothing was done")))
}

/// `r-20261121-083015-3f2a`: sorts by time, unique by chance.
pub fn run_id() -> String {
    let utc = crate::model::clock::utc(clock::unix_ms());
    let digits: String = utc.chars().filter(char::is_ascii_digit).collect();
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("r-{}-{}-{}", &digits[..8.min(digits.len())], digits.get(8..).unwrap_or_default(), &random[..4])
}

fn read_plan(path: &Path) -> Result<Plan, Stop> {
    let fault =
        |why: String| Stop::usage(Failure::new(Cause::Malformed, format!("read the plan {}", path.display()), why));
    let text = std::fs::read_to_string(path).map_err(|e| fault(e.to_string()))?;
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|e| fault(e.to_string()))?;
    let spec = value.get("spec").cloned().ok_or_else(|| fault("it has no spec".into()))?;
    let plan: Plan = serde_json::from_value(spec).map_err(|e| fault(e.to_string()))?;
    let said = value.pointer("/metadata/hash").and_then(|h| h.as_str());
    if said != Some(plan.hash().as_str()) {
        return Err(fault("its content is not what its hash names: it was edited, or made by another version".into()));
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Refusal, StepKind, Subject, Track};

    // invariant: I12 harness: D
    #[test]
    fn the_limit_of_wipes_is_the_number_that_was_said() {
        let mut plan = Plan::empty("f", &Goal::Join { nodes: Scope(vec![]) });
        for node in ["n1", "n2"] {
            let mut track = Track::new(Subject::Node(node.into()));
            track.push(StepKind::WriteDisk { system_sha256: String::new(), generation: 1 }, String::new());
            plan.tracks.push(track);
        }
        assert!(too_many_wipes(&plan, None).is_ok() && too_many_wipes(&plan, Some(2)).is_ok());
        assert_eq!(too_many_wipes(&plan, Some(1)).unwrap_err().cause, Cause::Guard);
    }

    // invariant: I20 harness: D
    #[test]
    fn all_refused_is_a_refusal_and_some_done_is_some() {
        let cluster: crate::model::fleet::Cluster = serde_json::from_value(serde_json::json!({
            "name": "c", "driver": { "other": { "kind": "x" } }, "members": ["n1", "n2"], "size": 2, "spares": [],
            "dependsOn": [], "rollout": crate::model::rollout::Rollout::default(),
        }))
        .unwrap();
        let fleet = Fleet { clusters: [("c".to_owned(), cluster)].into(), ..Fleet::default() };
        let node = |name: &str| Subject::Node(name.into());
        let exit = |tracks: &[Subject], refused: &[Subject], step: bool| {
            let mut plan = Plan::empty("f", &Goal::Join { nodes: Scope(vec![]) });
            plan.tracks = tracks.iter().cloned().map(Track::new).collect();
            if step {
                let write = StepKind::WriteDisk { system_sha256: String::new(), generation: 1 };
                plan.tracks[0].push(write, String::new());
            }
            let refusal =
                |subject: &Subject| Refusal { subject: subject.clone(), kind: "x".into(), why: "y".into(), next: None };
            plan.refusals = refused.iter().map(refusal).collect();
            refusal_exit(&fleet, &plan)
        };
        let c = || Subject::Cluster("c".into());
        assert_eq!(exit(&[node("n1"), node("n2")], &[], false), Exit::Done);
        assert_eq!(exit(&[], &[node("n1"), node("n2")], false), Exit::Refused);
        assert_eq!(exit(&[node("n1")], &[node("n2")], false), Exit::Partial, "one is as it should be");
        assert_eq!(exit(&[node("n1"), node("n2")], &[c()], false), Exit::Refused, "nothing of the cluster goes on");
        assert_eq!(exit(&[node("n1"), node("n2")], &[c()], true), Exit::Partial, "one is installed first");
        assert_eq!(exit(&[node("n1"), node("n9")], &[c()], false), Exit::Partial, "one is in no cluster");
    }
}
