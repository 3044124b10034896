//! Tasks (TaskService): what takes its time, goes on by itself, and ends with an effect or without.

use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    Fault,
    build::stamp,
    paths::{MONITORS, TASKS},
    reply::{Reply, message},
    state::State,
};

const TASK_TIME: Duration = Duration::from_secs(1);
/// Tasks that are kept; the oldest finished ones go first.
const MAX_TASKS: usize = 100;

/// What a task brings about when it is done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// A firmware by its name in the inventory, and its version.
    Firmware(String, String),
    /// A document that comes into being.
    Create(String, Value),
    Delete(String),
}

struct Job {
    id: String,
    began: OffsetDateTime,
    effect: Effect,
    over: bool,
}

#[derive(Default)]
pub struct Jobs {
    list: Vec<Job>,
    count: u64,
}

impl Jobs {
    pub fn is_over(&self, id: &str) -> bool {
        self.list.iter().find(|job| job.id == id).is_none_or(|job| job.over)
    }
    /// A task whose document was deleted ends without effect.
    pub fn forget(&mut self, path: &str) {
        self.list.retain(|job| !path.ends_with(&format!("/{}", job.id)));
    }
    pub fn running(&self) -> usize {
        self.list.iter().filter(|job| !job.over).count()
    }
}

impl State {
    /// 202 with the task and its monitor.
    pub fn begin(&mut self, now: OffsetDateTime, name: &str, effect: Effect) -> Reply {
        self.jobs.count += 1;
        let id = match self.has(Fault::TaskJobIds) {
            true => format!("JID_{:012}", 471_269_252_011u64 + self.jobs.count),
            false => self.jobs.count.to_string(),
        };
        let path = format!("{TASKS}/{id}");
        let body = json!({
            "TaskState": "Running", "TaskStatus": "OK", "PercentComplete": 0, "StartTime": stamp(now),
            "TaskMonitor": format!("{MONITORS}/{id}"), "HidePayload": true, "Messages": [],
        });
        self.docs.resource(path.clone(), "Task.v1_7_4", name, body);
        self.jobs.list.push(Job { id: id.clone(), began: now, effect, over: false });
        let old: Vec<String> = self.jobs.list.iter().filter(|j| j.over).map(|j| j.id.clone()).collect();
        for id in old.iter().take(self.jobs.list.len().saturating_sub(MAX_TASKS)) {
            self.docs.remove(&format!("{TASKS}/{id}"));
            self.jobs.list.retain(|job| job.id != *id);
        }
        let reply = Reply::json(202, self.docs.body(&path).cloned().unwrap_or_default());
        if self.has(Fault::TaskNoLocation) { reply } else { reply.header("location", format!("{MONITORS}/{id}")) }
    }

    /// Lets tasks go on to where they are by now.
    pub fn advance_jobs(&mut self, now: OffsetDateTime) {
        let whole = self.effective.time(Fault::TaskTime).unwrap_or(TASK_TIME).max(Duration::from_millis(1));
        let (endless, fails) = (self.has(Fault::TaskEndless), self.has(Fault::TaskFails));
        let mut ended = Vec::new();
        for job in self.jobs.list.iter_mut().filter(|job| !job.over) {
            let part = (now - job.began).as_seconds_f64() / whole.as_secs_f64();
            let percent = (part * 100.0).clamp(0.0, 99.0) as u64;
            let failed = fails && percent >= 50;
            let path = format!("{TASKS}/{}", job.id);
            if failed || (part >= 1.0 && !endless) {
                job.over = true;
                let text = if failed { "The task was aborted half-way." } else { "The task completed." };
                let id = if failed { "GeneralError" } else { "Success" };
                let (state, status) = if failed { ("Exception", "Critical") } else { ("Completed", "OK") };
                let body = json!({
                    "TaskState": state, "TaskStatus": status, "PercentComplete": if failed { 50 } else { 100 },
                    "EndTime": stamp(now), "Messages": [message(id, text, &[])],
                });
                self.docs.merge(&path, &body);
                if !failed {
                    ended.push(job.effect.clone());
                }
            } else {
                self.docs.merge(&path, &json!({ "PercentComplete": percent }));
            }
        }
        ended.into_iter().for_each(|effect| self.come_true(now, effect));
    }

    fn come_true(&mut self, now: OffsetDateTime, effect: Effect) {
        match effect {
            Effect::Firmware(..) if self.has(Fault::UpdateIgnored) => {}
            // A BIOS is written to its flash, and comes into force when the machine starts.
            Effect::Firmware(name, version) if name == "BIOS" => self.staged_bios = Some(version),
            Effect::Firmware(name, version) => {
                self.set_firmware(&name, &version);
                self.log_event(now, "OK", &format!("firmware {name} is now {version}"));
            }
            Effect::Create(path, body) => {
                self.docs.resource(path, "Volume.v1_10_1", "Volume", body);
            }
            Effect::Delete(path) => {
                self.docs.remove(&path);
            }
        }
    }
}
