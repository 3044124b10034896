//! Progress of many subjects: bars on a terminal, plain lines elsewhere. A fold over updates.

use std::collections::BTreeMap;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::clean;

/// Plain lines say how far a stage is at these parts of it, not at every update.
const QUARTERS: u64 = 4;
/// Bars that are drawn at once; further subjects share one line that counts them.
const BARS_MAX: usize = 40;
const BAR_CELLS: u16 = 24;

/// How far one subject is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// A node or a cluster.
    pub subject: String,
    /// `power on`, `write disk`, …
    pub stage: String,
    /// In units of the stage: bytes, steps.
    pub done: Option<u64>,
    pub total: Option<u64>,
    /// What is to be said besides, in a few words.
    pub message: String,
}

/// The plain form: which updates are worth a line, and what it says. Pure.
#[derive(Debug, Default)]
pub struct Lines {
    said: BTreeMap<String, (String, u64, String)>,
}

impl Lines {
    /// A line for a new stage, a new message, and every quarter of a stage; `None` for all between.
    pub fn fold(&mut self, update: &Update) -> Option<String> {
        let quarter = match (update.done, update.total) {
            (Some(done), Some(total)) if total > 0 => done.min(total).saturating_mul(QUARTERS) / total,
            _ => 0,
        };
        let now = (update.stage.clone(), quarter, update.message.clone());
        let before = self.said.insert(update.subject.clone(), now.clone());
        if before.as_ref() == Some(&now) {
            return None;
        }
        let fresh = before.is_none_or(|(stage, _, message)| stage != update.stage || message != update.message);
        let mut line = format!("{}: {}", update.subject, update.stage);
        if !fresh || quarter == QUARTERS {
            line.push_str(&format!(" {}%", quarter * 100 / QUARTERS));
        }
        if !update.message.is_empty() {
            line.push_str(": ");
            line.push_str(&update.message);
        }
        Some(clean::line(&line).into_owned())
    }
}

/// Draws on standard error.
pub enum Progress {
    Lines(Lines),
    Bars { all: MultiProgress, bars: BTreeMap<String, ProgressBar> },
    Quiet,
}

impl Progress {
    /// Bars where standard error is a terminal.
    pub fn new(terminal: bool) -> Self {
        if !terminal || super::stdout::messages_are_json() {
            return Progress::Lines(Lines::default());
        }
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(8));
        Progress::Bars { all, bars: BTreeMap::new() }
    }

    pub fn update(&mut self, update: &Update) {
        match self {
            Progress::Quiet => {}
            Progress::Lines(lines) => {
                if let Some(line) = lines.fold(update) {
                    super::stdout::note(&line);
                }
            }
            Progress::Bars { all, bars } => {
                if bars.len() >= BARS_MAX && !bars.contains_key(&update.subject) {
                    return;
                }
                let bar = bars.entry(update.subject.clone()).or_insert_with(|| {
                    let bar = all.add(ProgressBar::new(0));
                    bar.set_prefix(clean::line(&update.subject).into_owned());
                    bar
                });
                bar.set_style(style(update.total.is_some()));
                bar.set_length(update.total.unwrap_or(0));
                bar.set_position(update.done.unwrap_or(0));
                let text = if update.message.is_empty() { String::new() } else { format!(": {}", update.message) };
                bar.set_message(clean::line(&format!("{}{text}", update.stage)).into_owned());
                bar.tick();
            }
        }
    }

    /// A message that stands above the bars.
    pub fn note(&self, text: &str) {
        match self {
            Progress::Bars { all, .. } if all.println(clean::lines(text)).is_ok() => {}
            _ => super::stdout::note(&clean::lines(text)),
        }
    }

    /// Leaves the last state of every bar standing.
    pub fn finish(&mut self) {
        if let Progress::Bars { bars, .. } = self {
            bars.values().for_each(ProgressBar::abandon);
        }
    }
}

fn style(counted: bool) -> ProgressStyle {
    let template = if counted {
        format!("{{prefix:12}} [{{bar:{BAR_CELLS}}}] {{percent:>3}}% {{wide_msg}}")
    } else {
        "{prefix:12} {spinner} {wide_msg}".to_owned()
    };
    // The template is ours and constant; were it wrong, the plain bar still shows progress.
    ProgressStyle::with_template(&template)
        .map(|style| style.progress_chars("=> ").tick_chars("|/-\\ "))
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_lines_say_stages_and_quarters() {
        let mut lines = Lines::default();
        let update = |stage: &str, done, message: &str| Update {
            subject: "n1".into(),
            stage: stage.into(),
            done,
            total: done.map(|_| 100),
            message: message.into(),
        };
        let updates = [
            update("power on", None, ""),
            update("power on", None, ""),
            update("write disk", Some(0), ""),
            update("write disk", Some(10), ""),
            update("write disk", Some(26), ""),
            update("write disk", Some(40), ""),
            update("write disk", Some(75), ""),
            update("write disk", Some(100), ""),
            update("wait", None, "for n2\u{1b}[2J"),
        ];
        let said: Vec<String> = updates.iter().filter_map(|u| lines.fold(u)).collect();
        insta::assert_snapshot!(said.join("\n"), @r"
        n1: power on
        n1: write disk
        n1: write disk 25%
        n1: write disk 75%
        n1: write disk 100%
        n1: wait: for n2^[[2J
        ");
    }

    #[test]
    fn a_stage_without_size_divides_by_nothing() {
        let mut lines = Lines::default();
        let update = Update {
            subject: "n1".into(),
            stage: "s".into(),
            done: Some(u64::MAX),
            total: Some(0),
            ..Update::default()
        };
        assert_eq!(lines.fold(&update).as_deref(), Some("n1: s"));
    }

    #[test]
    fn the_bar_templates_are_sound() {
        for counted in [true, false] {
            let bar = ProgressBar::hidden();
            bar.set_style(style(counted));
            bar.set_message("x");
        }
        assert!(ProgressStyle::with_template("{prefix:12} [{bar:24}] {percent:>3}% {wide_msg}").is_ok());
    }
}
