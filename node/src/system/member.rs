//! The etcd member of this node: its file, its process.

use crate::console::say;
use crate::etcd;
use crate::node_error::{Doing, NodeError, Result};
use crate::service::{Service, Status};
use crate::{files, marker};
use rackctl_wire::{EtcdMember, EtcdStatus};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A process that has lived this long counts as running: etcd ends within a second on a wrong configuration.
const SETTLE: Duration = Duration::from_millis(2_500);
const START_DEADLINE: Duration = Duration::from_secs(15);
const STOP_GRACE: Duration = Duration::from_secs(15);

pub struct Member {
    generation: u64,
    running: Mutex<Option<(EtcdMember, Service)>>,
}

impl Member {
    pub fn new(generation: u64) -> Self {
        Self { generation, running: Mutex::new(None) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<(EtcdMember, Service)>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// At boot.
    pub fn start_if_configured(&self) {
        if !Path::new(etcd::CONFIG).exists() {
            return;
        }
        let started = marker::read::<EtcdMember>(Path::new(etcd::CONFIG)).and_then(|member| {
            etcd::check(&member, self.generation, None)?;
            self.launch(&mut self.lock(), member)
        });
        if let Err(error) = started {
            say(format!("etcd is not started: {error}"));
        }
    }

    fn launch(&self, running: &mut Option<(EtcdMember, Service)>, member: EtcdMember) -> Result<()> {
        let data = etcd::data_dir(&member)?;
        // etcd 3.4.10 and later insist on 0700.
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&data).doing("making etcd's data directory")?;
        let for_command = member.clone();
        let service = Service::start("etcd", PathBuf::from(etcd::LOG), move || etcd::command(&for_command, &data))?;
        *running = Some((member, service));
        Ok(())
    }

    /// Idempotent: the same member that runs is left alone, another one takes its place.
    pub fn start(&self, member: EtcdMember) -> Result<EtcdStatus> {
        let mut running = self.lock();
        let known = running.as_ref().map(|(known, _)| known.clone()).or_else(kept);
        etcd::check(&member, self.generation, known.as_ref())?;
        let same = running.as_ref().is_some_and(|(known, _)| *known == member);
        if !same {
            if let Some((_, service)) = running.take() {
                ended(&service)?;
            }
            let bytes = serde_json::to_vec_pretty(&member).doing("encoding JSON")?;
            files::write_atomic(Path::new(etcd::CONFIG), &bytes, 0o600)?;
            remove(etcd::STOPPED)?;
            self.launch(&mut running, member)?;
        }
        let Some((member, service)) = running.as_ref() else {
            return Err(NodeError::new("io", "etcd was not started"));
        };
        let began = Instant::now();
        loop {
            let status = service.status();
            let settled = status.running_for.is_some_and(|time| time >= SETTLE);
            let failed = !status.running && status.last_exit.is_some();
            if settled || failed || began.elapsed() > START_DEADLINE {
                return Ok(describe(member, status));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Idempotent; the member is not started at the next boot either. Its data stays.
    pub fn stop(&self) -> Result<Option<EtcdStatus>> {
        let mut running = self.lock();
        if Path::new(etcd::CONFIG).exists() {
            std::fs::rename(etcd::CONFIG, etcd::STOPPED).doing("putting etcd.json aside")?;
            files::sync_parent(Path::new(etcd::CONFIG)).doing("syncing /data")?;
        }
        let last = match running.take() {
            Some((member, service)) => {
                if let Err(error) = ended(&service) {
                    *running = Some((member, service));
                    return Err(error);
                }
                Some(describe(&member, service.status()))
            }
            None => stopped(),
        };
        Ok(last)
    }

    /// On the way down: the file stays, so that the member is started at the next boot.
    pub fn stop_process(&self) {
        if let Some((_, service)) = self.lock().take() {
            service.stop(STOP_GRACE);
        }
    }

    pub fn status(&self) -> Option<EtcdStatus> {
        match self.lock().as_ref() {
            Some((member, service)) => Some(describe(member, service.status())),
            None => {
                marker::read(Path::new(etcd::CONFIG)).ok().map(|m| describe(&m, Status::default())).or_else(stopped)
            }
        }
    }
}

fn ended(service: &Service) -> Result<()> {
    if service.stop(STOP_GRACE) {
        return Ok(());
    }
    Err(NodeError::new("io", "etcd does not end"))
}

fn remove(path: &str) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(NodeError::io(format_args!("removing {path}"), error))
        }
        _ => Ok(()),
    }
}

/// The member that this installation was told to run, though none runs now.
fn kept() -> Option<EtcdMember> {
    [etcd::CONFIG, etcd::STOPPED].iter().find_map(|path| marker::read(Path::new(path)).ok())
}

fn stopped() -> Option<EtcdStatus> {
    marker::read(Path::new(etcd::STOPPED)).ok().map(|member| describe(&member, Status::default()))
}

fn describe(member: &EtcdMember, status: Status) -> EtcdStatus {
    EtcdStatus {
        configured: member.clone(),
        running: status.running,
        starts: status.starts,
        last_exit: status.last_exit,
        has_data: etcd::data_dir(member).is_ok_and(|data| etcd::has_data(&data)),
        log_tail: status.log_tail,
    }
}
