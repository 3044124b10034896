//! Locks with a lease, and the rules by which they change hands: the same in every back end.

use serde::{Deserialize, Serialize};

use super::{Holder, StoreError};
use crate::model::Stamp;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lock {
    /// `node/n1`, `cluster/core`, `network/prov`.
    pub name: String,
    pub run: String,
    pub holder: Holder,
    pub fence: u64,
    pub since_ms: u64,
    pub renewed: Stamp,
    /// How long a renewal is good for.
    pub ttl_ms: u64,
    /// Lease ran out, or the holder is a dead process of this host. Computed on every read.
    #[serde(default)]
    pub expired: bool,
}

impl Lock {
    /// As it stands at `now`; `alive` is what can be told of the holder from here.
    pub fn seen(mut self, alive: bool, now: &Stamp) -> Lock {
        self.expired = !alive || self.renewed.expired(self.ttl_ms, now);
        self
    }
}

/// Proof of holding locks: their names and fences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    pub locks: Vec<(String, u64)>,
    pub actor: String,
}

impl Fence {
    /// For records that touch no machine: the store's own (imports, rebuilds).
    pub fn of_nothing(actor: &Holder) -> Fence {
        Fence { locks: Vec::new(), actor: actor.to_string() }
    }
    pub fn highest(&self) -> u64 {
        self.locks.iter().map(|(_, fence)| *fence).max().unwrap_or(0)
    }
}

/// Who wants locks, for what, from when on.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    pub run: &'a str,
    pub holder: &'a Holder,
    pub now: &'a Stamp,
    pub ttl_ms: u64,
}

impl Claim<'_> {
    /// The lock that this claim gets, with the next fence of its name.
    pub fn lock(&self, name: &str, fence: u64) -> Lock {
        Lock {
            name: name.to_owned(),
            run: self.run.to_owned(),
            holder: self.holder.clone(),
            fence,
            since_ms: self.now.unix_ms,
            renewed: self.now.clone(),
            ttl_ms: self.ttl_ms,
            expired: false,
        }
    }

    /// Whether a lock may be taken without being stolen: nobody's, our own, or a dead process's of this host. One
    /// whose lease ran out while its holder may live (a suspended laptop, another host) is not: only a person can
    /// know that it does nothing any more.
    pub fn may_take(&self, held: Option<&Lock>, alive: bool) -> Result<(), StoreError> {
        match held {
            Some(lock) if lock.holder != *self.holder && alive => {
                Err(StoreError::Locked(Box::new(lock.clone().seen(alive, self.now))))
            }
            _ => Ok(()),
        }
    }

    /// Whether a lock may be taken by order: when it has expired, or by force.
    pub fn may_steal(&self, held: Option<&Lock>, alive: bool, force: bool) -> Result<(), StoreError> {
        match held {
            Some(lock) if lock.holder != *self.holder && !force => {
                let lock = lock.clone().seen(alive, self.now);
                if lock.expired { Ok(()) } else { Err(StoreError::Locked(Box::new(lock))) }
            }
            _ => Ok(()),
        }
    }
}

/// The refusal of a fence that is not in force: names who holds the lock now.
pub fn fenced(name: &str, fence: u64, held: Option<&Lock>) -> StoreError {
    let holder =
        held.map_or_else(|| "nobody holds it".to_owned(), |lock| format!("{} does, fence {}", lock.holder, lock.fence));
    StoreError::Fenced { name: name.to_owned(), fence, holder }
}

/// What the journal keeps of a lock that was stolen.
pub fn stolen(from: &Lock, to: &Lock, reason: &str, force: bool) -> serde_json::Value {
    serde_json::json!({
        "lock": from.name,
        "from": from.holder.to_string(),
        "fromRun": from.run,
        "fromFence": from.fence,
        "to": to.holder.to_string(),
        "toFence": to.fence,
        "reason": reason,
        "force": force,
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ControlKind {
    /// Finish what is in hand, then wait for `resume`.
    Pause,
    /// Finish what is in hand, run the finalizers, end.
    Abort,
}

/// What an operator asks of a run that another process conducts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Control {
    pub kind: ControlKind,
    pub actor: Holder,
    pub at_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
