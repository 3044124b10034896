//! The loop around the machine: one event at a time; every mark durable before the effect behind it.

use std::collections::VecDeque;

use serde_json::json;

use super::{
    super::{
        globals::Globals,
        session::{Session, stop},
    },
    Terms, draft,
    steps::Steps,
    watch::{Watch, Wish},
};
use crate::{
    engine::play::{Mark, MarkKind, Play, PlayEffect, PlayEvent, PlayOutcome, Standing, rows},
    model::{Failure, failure::Cause},
    output::{
        Exit, Format, Stop,
        play::{self as view, Report},
        stdout,
    },
    run::{clock, play as journal},
    secrets,
    store::{Fence, RecordKind, RunState},
};

/// To its end, or to where somebody has to say something. The caller gives the lock back.
pub fn drive(
    globals: &Globals,
    session: &Session,
    mut play: Play,
    run: &str,
    fence: &Fence,
    terms: &Terms,
    events: Vec<PlayEvent>,
) -> Result<Exit, Stop> {
    let watch = Watch::start(session, run, fence)?;
    let limits = terms.limits();
    let children = Globals { within_playbook: true, ..globals.clone() };
    let steps = Steps {
        globals: &children,
        session,
        bound: play.bound().clone(),
        run,
        limits: &limits,
        approvals: &terms.approvals,
        watch: &watch,
    };
    let mut queue: VecDeque<PlayEvent> = events.into();
    let mut wished = false;
    let outcome = loop {
        // A wish is heard before what was done meanwhile: nothing new is begun after it.
        let event = match (wished, watch.wished()) {
            (false, true) => {
                wished = true;
                PlayEvent::Interrupt
            }
            _ => match queue.pop_front() {
                Some(event) => event,
                None => return Err(Failure::new(Cause::Local, format!("run {run}"), "it waits for nothing").into()),
            },
        };
        let mut finished = None;
        for effect in play.handle(clock::unix_ms(), event) {
            match effect {
                PlayEffect::Mark(mark) => {
                    let record = session.store.append(run, clock::unix_ms(), fence, journal::draft(&mark));
                    let record = record.map_err(|e| stop(&e))?;
                    if globals.format == Format::Jsonl {
                        stdout::print(&(serde_json::to_string(&record).unwrap_or_default() + "\n"))?;
                    }
                    tell(&play, &mark);
                }
                PlayEffect::Finished(outcome) => finished = Some(outcome),
                effect => queue.extend(steps.carry_out(effect)),
            }
        }
        if let Some(outcome) = finished {
            break outcome;
        }
    };
    let wish = watch.wish();
    drop(watch);
    end(globals, session, &play, run, fence, &outcome, &wish)
}

/// A line on standard error.
fn tell(play: &Play, mark: &Mark) {
    let steps = &play.bound().steps;
    let title = play.bound().step(&mark.step).map_or(mark.step.as_str(), |s| s.title.as_str());
    let number = steps.iter().position(|s| s.id == mark.step).map(|at| format!("[{}/{}] ", at + 1, steps.len()));
    let number = number.unwrap_or_default();
    let text = match &mark.kind {
        MarkKind::Intent if mark.attempt > 1 => format!("{number}{title} (attempt {})", mark.attempt),
        MarkKind::Intent => format!("{number}{title}"),
        MarkKind::Done { .. } => format!("{}: done", mark.step),
        MarkKind::Again { failure, not_before_ms } => {
            let seconds = not_before_ms.saturating_sub(mark.at_ms).div_ceil(1_000);
            format!("{}: {failure} (again in {seconds} s)", mark.step)
        }
        MarkKind::Failed { failure } => format!("{}: FAILED: {failure}", mark.step),
        MarkKind::Skipped { why } => format!("{number}{title}: passed over, {why}"),
        MarkKind::Parked { failure } => format!("{}: waits: {failure}", mark.step),
    };
    stdout::note(&secrets::redact(&crate::output::clean::lines(&text)));
}

fn end(
    globals: &Globals,
    session: &Session,
    play: &Play,
    run: &str,
    fence: &Fence,
    outcome: &PlayOutcome,
    wish: &Wish,
) -> Result<Exit, Stop> {
    let (state, kind, word, exit) = match (outcome, wish) {
        (PlayOutcome::Interrupted, Wish::Abort) => (RunState::Aborted, RecordKind::RunAborted, "aborted", Exit::Failed),
        (PlayOutcome::Interrupted, Wish::Pause) => {
            (RunState::Paused, RecordKind::RunPaused, "paused", Exit::Interrupted)
        }
        (PlayOutcome::Interrupted, _) => {
            (RunState::Interrupted, RecordKind::RunEnded, "interrupted", Exit::Interrupted)
        }
        (PlayOutcome::Succeeded, _) => (RunState::Succeeded, RecordKind::RunEnded, "succeeded", Exit::Done),
        (PlayOutcome::Partly, _) => (RunState::Failed, RecordKind::RunEnded, "partly", Exit::Partial),
        (PlayOutcome::Failed, _) => (RunState::Failed, RecordKind::RunEnded, "failed", Exit::Failed),
        (PlayOutcome::NeedsPerson, _) => (RunState::Failed, RecordKind::RunEnded, "needs a person", Exit::NeedsPerson),
        (PlayOutcome::Parked(failure), _) => {
            let exit = if failure.cause == Cause::NeedsPerson { Exit::NeedsPerson } else { Exit::NeedsApproval };
            (RunState::Paused, RecordKind::RunPaused, "waits", exit)
        }
    };
    let head = match session.store.append(run, clock::unix_ms(), fence, draft(kind, json!({ "outcome": word }))) {
        Ok(record) => {
            session.store.set_run_state(run, state, Some(clock::unix_ms())).map_err(|e| stop(&e))?;
            record.hash
        }
        // A lock that was lost leaves the run to the one who took it.
        Err(error) => {
            stdout::note(&format!("warning: the run's end was not recorded: {error}"));
            "-".to_owned()
        }
    };
    let marks = journal::marks(&session.store.journal(run).map_err(|e| stop(&e))?);
    let rows = rows(run, play.bound(), &marks);
    let failures = play.failures();
    let refused = failures.iter().all(|(_, f)| f.cause == Cause::Guard);
    let exit = match outcome {
        // Nothing came about, and a guard is why.
        PlayOutcome::Failed if refused && !rows.iter().any(|r| r.standing == Standing::Done) => Exit::Refused,
        _ => exit,
    };
    let report = Report { run, play: play.bound(), outcome: word, rows: &rows, failures: &failures, head: &head };
    if globals.format.is_for_people() {
        stdout::print(&format!("{}\n{}\n", view::table(&rows).render(stdout::width()), view::summary(&report)))?;
    } else {
        stdout::print(&globals.format.render_one(&view::value(&report), |_| view::summary(&report)))?;
    }
    let mut told: Vec<Failure> = failures
        .into_iter()
        .map(|(step, f)| Failure {
            what: if f.what.contains(step.as_str()) { f.what } else { format!("{step}: {}", f.what) },
            ..f
        })
        .collect();
    let stands = |why: &str| {
        let failure = Failure::new(Cause::Interrupted, format!("run {run}"), why.to_owned());
        failure.next(format!("rackctl resume {run}, or rackctl abort {run}"))
    };
    match (outcome, wish) {
        (PlayOutcome::Parked(failure), _) => told.push(failure.clone()),
        (PlayOutcome::Interrupted, Wish::Lost(failure)) => told.push(failure.clone()),
        (PlayOutcome::Interrupted, Wish::Pause) => told.push(stands("it was paused and can be resumed")),
        (PlayOutcome::Interrupted, Wish::Abort) => {
            let why = "it was aborted: what was done stays done";
            told.push(Failure::new(Cause::Interrupted, format!("run {run}"), why).next("rackctl runs"));
        }
        (PlayOutcome::Interrupted, _) => told.push(stands("it was interrupted and can be resumed")),
        _ => {}
    }
    if told.is_empty() { Ok(exit) } else { Err(Stop { exit, failures: told }) }
}
