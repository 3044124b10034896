//! Where the installer stands, shared between what works and what reports.

use crate::clock::{stage_name, uptime_ms};
use crate::console::say;
use crate::node_error::NodeError;
use rackctl_wire::{Disk, Hardware, PROTOCOL, Report, Stage, StageError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};

/// More stages than a boot can pass through.
const STAGES_MAX: usize = 64;

struct State {
    stage: Stage,
    bytes: Option<(u64, Option<u64>)>,
    disks: Option<Vec<Disk>>,
    hardware: Option<Hardware>,
    ticket: Option<String>,
    error: Option<StageError>,
    started: Vec<(Stage, u64)>,
}

#[derive(Clone)]
pub struct Progress {
    node: String,
    boot_id: String,
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    /// Stage of the last report that was answered.
    answered: Arc<watch::Sender<Option<Stage>>>,
}

impl Progress {
    pub fn new(node: String, boot_id: String) -> Self {
        let state = State {
            stage: Stage::Claimed,
            bytes: None,
            disks: None,
            hardware: None,
            ticket: None,
            error: None,
            started: vec![(Stage::Claimed, uptime_ms())],
        };
        Self {
            node,
            boot_id,
            state: Arc::new(Mutex::new(state)),
            changed: Arc::new(Notify::new()),
            answered: Arc::new(watch::channel(None).0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn enter(&self, stage: Stage) {
        {
            let mut state = self.lock();
            state.stage = stage;
            state.bytes = None;
            if state.started.len() < STAGES_MAX {
                state.started.push((stage, uptime_ms()));
            }
        }
        say(stage_name(stage));
        self.changed.notify_one();
    }

    pub fn bytes(&self, done: u64, total: Option<u64>) {
        self.lock().bytes = Some((done, total));
    }

    pub fn found(&self, disks: Vec<Disk>, hardware: Hardware) {
        let mut state = self.lock();
        (state.disks, state.hardware) = (Some(disks), Some(hardware));
    }

    pub fn ticket(&self, id: &str) {
        self.lock().ticket = Some(id.to_owned());
    }

    /// The stage in which it happened is the one that was entered last.
    pub fn fail(&self, error: &NodeError) {
        {
            let mut state = self.lock();
            let stage = state.stage;
            state.error = Some(error.at(stage));
        }
        say(format!("FAILED: {error}"));
        self.enter(Stage::Failed);
    }

    pub fn stage(&self) -> Stage {
        self.lock().stage
    }

    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    pub fn answered(&self, stage: Stage) {
        self.answered.send_replace(Some(stage));
    }

    /// Waits until the server has heard of this stage.
    pub async fn told(&self, stage: Stage) {
        // The sender is ours: it does not go away.
        let _ = self.answered.subscribe().wait_for(|last| *last == Some(stage)).await;
    }

    pub fn report(&self) -> Report {
        let state = self.lock();
        Report {
            protocol: PROTOCOL,
            node: self.node.clone(),
            boot_id: self.boot_id.clone(),
            stage: state.stage,
            done_bytes: state.bytes.map(|(done, _)| done),
            total_bytes: state.bytes.and_then(|(_, total)| total),
            disks: state.disks.clone(),
            hardware: state.hardware.clone(),
            ticket: state.ticket.clone(),
            error: state.error.clone(),
            uptime_ms: uptime_ms(),
            stage_started_ms: state.started.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_stage_in_which_it_happened() {
        let progress = Progress::new("n1".into(), "b".into());
        progress.enter(Stage::Fetching);
        progress.bytes(5, Some(10));
        progress.fail(&NodeError::new("digestMismatch", "wrong"));
        let report = progress.report();
        assert_eq!(report.stage, Stage::Failed);
        let error = report.error.unwrap();
        assert_eq!((error.stage, error.kind.as_str()), (Stage::Fetching, "digestMismatch"));
        assert_eq!(report.done_bytes, None);
        let stages: Vec<Stage> = report.stage_started_ms.iter().map(|(stage, _)| *stage).collect();
        assert_eq!(stages, [Stage::Claimed, Stage::Fetching, Stage::Failed]);
    }
}
