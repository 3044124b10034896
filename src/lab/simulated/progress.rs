//! Where a simulated installer stands, shared between what works and what reports.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use rackctl_wire::{Disk, Hardware, PROTOCOL, Report, Stage, StageError};
use tokio::sync::{Notify, watch};

struct State {
    stage: Stage,
    disks: Option<Vec<Disk>>,
    hardware: Option<Hardware>,
    ticket: Option<String>,
    error: Option<StageError>,
    started: Vec<(Stage, u64)>,
}

pub struct Progress {
    node: String,
    boot_id: String,
    since: Instant,
    state: Mutex<State>,
    changed: Notify,
    /// Stage of the last report that was answered.
    answered: watch::Sender<Option<Stage>>,
}

impl Progress {
    /// `since`: when the machine's kernel started.
    pub fn new(node: String, boot_id: String, since: Instant) -> Progress {
        let progress = Progress {
            node,
            boot_id,
            since,
            state: Mutex::new(State {
                stage: Stage::Claimed,
                disks: None,
                hardware: None,
                ticket: None,
                error: None,
                started: Vec::new(),
            }),
            changed: Notify::new(),
            answered: watch::channel(None).0,
        };
        progress.enter(Stage::Claimed);
        progress
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn uptime_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub fn enter(&self, stage: Stage) {
        let at = self.uptime_ms();
        {
            let mut state = self.lock();
            state.stage = stage;
            state.started.push((stage, at));
        }
        self.changed.notify_one();
    }

    pub fn found(&self, disks: Vec<Disk>, hardware: Hardware) {
        let mut state = self.lock();
        (state.disks, state.hardware) = (Some(disks), Some(hardware));
    }

    pub fn ticket(&self, id: &str) {
        self.lock().ticket = Some(id.to_owned());
    }

    /// The stage in which it happened is the one that was entered last.
    pub fn fail(&self, kind: &str, message: &str) {
        {
            let mut state = self.lock();
            let stage = state.stage;
            state.error = Some(StageError { stage, kind: kind.into(), message: message.into() });
        }
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
        let uptime_ms = self.uptime_ms();
        let state = self.lock();
        Report {
            protocol: PROTOCOL,
            node: self.node.clone(),
            boot_id: self.boot_id.clone(),
            stage: state.stage,
            done_bytes: None,
            total_bytes: None,
            disks: state.disks.clone(),
            hardware: state.hardware.clone(),
            ticket: state.ticket.clone(),
            error: state.error.clone(),
            uptime_ms,
            stage_started_ms: state.started.clone(),
        }
    }
}
