//! Is a cluster healthy, and for how long has it been? Pure.

use crate::model::{Failure, facts::ClusterFacts, fleet::Cluster};

/// All members of the inventory are voters and healthy, nobody else is in it, it has a leader and no alarm. The error
/// says what is not so.
pub fn verdict(cluster: &Cluster, seen: &Result<ClusterFacts, Failure>) -> Result<(), String> {
    let facts = seen.as_ref().map_err(|f| f.why.clone())?;
    if !facts.alarms.is_empty() {
        return Err(format!("alarm {}", facts.alarms.join(", ")));
    }
    if facts.leader.is_none() {
        return Err("it has no leader".into());
    }
    for name in &cluster.members {
        match facts.members.iter().find(|m| m.name == *name) {
            None => return Err(format!("{name} is no member of it")),
            Some(m) if m.learner => return Err(format!("{name} is a learner, no voter yet")),
            Some(m) if !m.healthy => return Err(format!("{name} is not healthy")),
            Some(_) => {}
        }
    }
    match facts.members.iter().find(|m| !cluster.members.contains(&m.name)) {
        Some(m) if m.name.is_empty() => Err(format!("member {} was added and never started", m.id)),
        Some(m) if !m.healthy => Err(format!("{}, a member that the inventory does not name, is not healthy", m.name)),
        _ => Ok(()),
    }
}

/// Health without a break. Times are milliseconds of one clock that does not jump.
#[derive(Clone, Debug)]
pub struct Soak {
    healthy_ms: u64,
    until_ms: u64,
    /// Since when every look was good.
    since_ms: Option<u64>,
    why: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    Open,
    /// Look again.
    Closed {
        why: String,
    },
    /// The deadline has come; why it was closed at the last look.
    Late {
        why: String,
    },
}

impl Soak {
    pub fn new(now_ms: u64, healthy_ms: u64, deadline_ms: u64) -> Soak {
        let why = "it was not looked at yet".to_owned();
        Soak { healthy_ms, until_ms: now_ms.saturating_add(deadline_ms), since_ms: None, why }
    }

    /// One look.
    pub fn look(&mut self, now_ms: u64, verdict: Result<(), String>) -> Gate {
        match verdict {
            Ok(()) => {
                let since = *self.since_ms.get_or_insert(now_ms);
                if now_ms.saturating_sub(since) >= self.healthy_ms {
                    return Gate::Open;
                }
                self.why =
                    format!("healthy for {} s of {} s", (now_ms - since) / 1_000, self.healthy_ms.div_ceil(1_000));
            }
            Err(why) => (self.since_ms, self.why) = (None, why),
        }
        if now_ms >= self.until_ms {
            Gate::Late { why: self.why.clone() }
        } else {
            Gate::Closed { why: self.why.clone() }
        }
    }
}
