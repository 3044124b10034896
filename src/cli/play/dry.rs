//! `run --dry-run`: every step with what it would do as things stand now. Nothing is written, and nothing begun.

use serde_json::{Value, json};

use super::{
    super::{
        globals::Globals,
        prepare::{self, prepare},
        session::{Session, block_on},
    },
    aside,
};
use crate::{
    model::{
        Failure,
        play::{BoundStep, Play},
        playbook::Then,
    },
    output::{self, Stop, play::Shown, stdout},
    plan::Plan,
};

pub fn show(globals: &Globals, session: &Session, bound: &Play) -> Result<(), Stop> {
    // Nothing leaves this process that changes anything, whatever a driver may think.
    let session = Session { read_only: true, ..session.clone() };
    let mut shown = Vec::new();
    let mut earlier = false;
    for step in bound.all() {
        let goal = step.act.goal();
        let planned = match (&goal, &step.skipped) {
            (Some(goal), None) => Some(aside(|| planned(&session, goal))),
            _ => None,
        };
        shown.push(self::step(globals, &session, bound, step, planned, earlier));
        earlier |= goal.is_some() && step.skipped.is_none();
    }
    if globals.format.is_for_people() {
        stdout::print(&output::play::dry_text(bound, &shown))
    } else {
        let value = output::play::dry_value(bound, &shown);
        stdout::print(&globals.format.render_one(&value, |_| output::play::dry_text(bound, &shown)))
    }
}

/// The plan of a step's goal, made of what is there now.
fn planned(session: &Session, goal: &crate::model::goal::Goal) -> Result<Plan, Failure> {
    let names = &goal.scope().0;
    let built = prepare::build_ahead(session, goal)?;
    session.enter(names)?;
    let plan = block_on(async {
        let passwords = session.passwords(names).await?;
        Ok(prepare(session, goal, &passwords, built).await?.plan)
    });
    plan.map_err(|stop| {
        let mut failures = stop.failures.into_iter();
        failures.next().unwrap_or_else(|| {
            Failure::new(crate::model::failure::Cause::Local, "plan the step", "it cannot be planned")
        })
    })
}

fn step(
    globals: &Globals,
    session: &Session,
    bound: &Play,
    step: &BoundStep,
    planned: Option<Result<Plan, Failure>>,
    earlier: bool,
) -> Shown {
    let mut lines = Vec::new();
    let mut value = json!({ "id": step.id, "title": step.title, "verb": step.act.word(), "does": step.act.text() });
    if step.title != step.act.text() {
        lines.push(step.act.text());
    }
    if let Some(why) = &step.skipped {
        lines.push(format!("passed over: {why}"));
        value["passedOver"] = json!(why);
    }
    if !bound.steps.iter().any(|s| s.id == step.id) {
        lines.push("only when the step above has failed".to_owned());
    }
    let recovery = &step.on_failure;
    if recovery.retry > 0 {
        let seconds = recovery.delay_ms.div_ceil(1_000);
        lines.push(format!("on failure: up to {} further attempts, {seconds} s between them", recovery.retry));
        value["retry"] = json!(recovery.retry);
    }
    if recovery.then == Then::Continue {
        lines.push("on failure: the playbook goes on".to_owned());
        value["onFailure"] = json!(recovery.then);
    }
    match planned {
        Some(Ok(plan)) => {
            let place = session.place(globals, &plan.goal.scope().0);
            lines.push(output::plan::text(&place, &plan).trim_end().to_owned());
            if earlier {
                lines.push("(as things stand now: the steps before it change that)".to_owned());
            }
            value["plan"] = output::plan::value(&place, &plan);
        }
        Some(Err(failure)) => {
            lines.push(format!("cannot be planned now: {failure}"));
            value["failure"] = json!(failure);
        }
        None => value["plan"] = Value::Null,
    }
    Shown { id: step.id.clone(), title: step.title.clone(), lines, value }
}
