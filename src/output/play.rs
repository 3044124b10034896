//! How a playbook's run stands, step by step, and how it ended.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Table, format::API_VERSION};
use crate::{
    engine::play::{Row, Standing},
    model::{Failure, play::Play},
};

/// Longest note in a table, in characters; `-o json` has all of it.
const NOTE_SHOWN: usize = 100;

pub struct Report<'a> {
    pub run: &'a str,
    pub play: &'a Play,
    /// `succeeded`, `partly`, `failed`, `waits`, …
    pub outcome: &'a str,
    pub rows: &'a [Row],
    pub failures: &'a [(String, Failure)],
    /// End of the journal's chain.
    pub head: &'a str,
}

pub fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(["STEP", "STATE", "ATTEMPT", "TOOK", "RUN", "WHAT"]);
    for row in rows {
        table.row([
            row.step.clone(),
            row.standing.word().to_owned(),
            if row.standing == Standing::Waiting { String::new() } else { row.attempt.to_string() },
            row.took_ms.map(|ms| format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)).unwrap_or_default(),
            row.run.clone().unwrap_or_default(),
            what(row),
        ]);
    }
    table
}

/// The title, and behind it the last line of why it is not done.
fn what(row: &Row) -> String {
    let note = row.note.as_deref().filter(|_| row.standing != Standing::Done);
    let Some(note) = note.and_then(|n| n.lines().last()) else { return row.title.clone() };
    let short: String = note.chars().take(NOTE_SHOWN).collect();
    let more = if short.len() < note.len() { "…" } else { "" };
    format!("{} ({short}{more})", row.title)
}

pub fn summary(report: &Report<'_>) -> String {
    let count = |wanted: Standing| report.rows.iter().filter(|r| r.standing == wanted).count();
    let mut words = vec![format!("{} done", count(Standing::Done))];
    for (standing, word) in [
        (Standing::PassedOver, "passed over"),
        (Standing::Failed, "failed"),
        (Standing::Parked, "parked"),
        (Standing::Waiting, "not begun"),
    ] {
        words.extend(Some(count(standing)).filter(|n| *n > 0).map(|n| format!("{n} {word}")));
    }
    let Report { run, play, outcome, head, .. } = report;
    format!("playbook {} (run {run}) {outcome}: {}\njournal head {head}", play.playbook, words.join(", "))
}

pub fn value(report: &Report<'_>) -> Value {
    let failures: Vec<Value> =
        report.failures.iter().map(|(step, failure)| json!({ "step": step, "failure": failure })).collect();
    json!({
        "apiVersion": API_VERSION,
        "kind": "Run",
        "metadata": { "name": report.run },
        "spec": { "playbook": report.play.playbook, "parameters": report.play.parameters },
        "status": {
            "outcome": report.outcome,
            "steps": report.rows,
            "failures": failures,
            "journalHead": report.head,
        },
    })
}

/// A step as a dry run shows it: what is to be said below its title.
pub struct Shown {
    pub id: String,
    pub title: String,
    pub lines: Vec<String>,
    pub value: Value,
}

pub fn dry_text(play: &Play, steps: &[Shown]) -> String {
    let mut text = format!("playbook {}: {} steps; nothing is done\n", play.playbook, play.steps.len());
    for (name, value) in &play.parameters {
        text.push_str(&format!("  {name} = {value}\n"));
    }
    for step in steps {
        text.push_str(&format!("\n{}  {}\n", step.id, step.title));
        for line in step.lines.iter().flat_map(|l| l.lines()) {
            text.push_str(format!("    {line}\n").trim_end());
            text.push('\n');
        }
    }
    super::clean::lines(&text).into_owned()
}

pub fn dry_value(play: &Play, steps: &[Shown]) -> Value {
    let parameters: &BTreeMap<String, String> = &play.parameters;
    json!({
        "apiVersion": API_VERSION,
        "kind": "PlaybookPlan",
        "metadata": { "name": play.playbook },
        "spec": { "parameters": parameters },
        "status": { "steps": steps.iter().map(|s| s.value.clone()).collect::<Vec<_>>() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(step: &str, standing: Standing) -> Row {
        Row {
            step: step.into(),
            title: format!("do {step}"),
            standing,
            attempt: 1,
            run: None,
            note: None,
            took_ms: None,
        }
    }

    #[test]
    fn people_see_every_step() {
        let rows = [
            Row { took_ms: Some(12_345), run: Some("r-1.01".into()), ..row("play/01-join", Standing::Done) },
            Row { note: Some("a\nexec: exit code 3".into()), attempt: 2, ..row("play/02-exec", Standing::Failed) },
            row("play/03-gate", Standing::Waiting),
        ];
        let play = Play { playbook: "p".into(), parameters: BTreeMap::new(), steps: vec![] };
        let report = Report { run: "r-1", play: &play, outcome: "failed", rows: &rows, failures: &[], head: "abc" };
        insta::assert_snapshot!(format!("{}{}", table(&rows).render(None), summary(&report)), @r"
        STEP           STATE     ATTEMPT   TOOK     RUN      WHAT
        play/01-join   done      1         12.3 s   r-1.01   do play/01-join
        play/02-exec   failed    2         -        -        do play/02-exec (exec: exit code 3)
        play/03-gate   waiting   -         -        -        do play/03-gate
        playbook p (run r-1) failed: 1 done, 1 failed, 1 not begun
        journal head abc
        ");
        assert_eq!(value(&report)["status"]["steps"][1]["standing"], "failed");
    }
}
