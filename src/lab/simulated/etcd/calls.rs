//! Changes of membership, leadership and alarms: who may, when, and what a refusal says.

use super::{
    ids::member_id,
    keys::{Done, Op, Txn},
    refusal::Refusal,
    state::{Info, State},
    world::{Me, World},
};

impl World {
    pub(super) fn is_learner(&self, me: &Me) -> bool {
        self.state(&me.at).is_some_and(|s| s.is_learner(me.id))
    }

    /// Whether a voter is up, and has been for the settle time.
    fn connected(&self, now: u64, me: &Me, voter: u64) -> bool {
        let settled = |node: &str| self.running.get(node).is_some_and(|r| now >= r.since_ms + self.timing.settle_ms);
        voter == me.id
            || settled(&me.node) && self.live_of(me.cluster).iter().any(|m| m.id == voter && settled(&m.node))
    }

    fn started(state: &State) -> impl Iterator<Item = u64> + '_ {
        state.voters().filter(|id| state.members.get(id).is_some_and(|info| !info.name.is_empty()))
    }

    pub(super) fn add(&mut self, now: u64, me: &Me, urls: &[String], learner: bool) -> Result<u64, Refusal> {
        let state = self.state(&me.at).ok_or_else(Refusal::no_leader)?;
        let (voters, started) = (state.voters().count(), Self::started(state).count());
        // From one to two needs no more than the one; otherwise the started ones must be a quorum of the new size.
        let alone = voters == 1 && started == 1;
        if !learner && !alone && started <= voters.div_ceil(2) {
            return Err(Refusal::not_enough_started());
        }
        if !state.voters().all(|voter| self.connected(now, me, voter)) {
            return Err(Refusal::unhealthy());
        }
        let id = member_id(urls, "", Some(self.unix_s(now)));
        let mut peer_urls = urls.to_vec();
        peer_urls.sort();
        self.commit(now, me.cluster, |state| {
            if state.members.contains_key(&id) {
                return Err(Refusal::id_exists());
            }
            if state.members.values().any(|info| info.peer_urls.iter().any(|url| peer_urls.contains(url))) {
                return Err(Refusal::url_exists());
            }
            if learner && state.members.values().any(|info| info.learner) {
                return Err(Refusal::too_many_learners());
            }
            state.members.insert(id, Info { peer_urls: peer_urls.clone(), learner, ..Info::default() });
            Ok(id)
        })
    }

    pub(super) fn promote(&mut self, now: u64, me: &Me, id: u64) -> Result<(), Refusal> {
        let leader = self.leader_at(me.cluster).ok_or_else(Refusal::no_leader)?;
        let state = self.state(&leader.at).ok_or_else(Refusal::no_leader)?;
        let live = self.live_of(me.cluster).into_iter().find(|m| m.id == id);
        let synced = live.and_then(|m| self.state(&m.at)).is_some_and(|s| s.origin == state.origin);
        if state.is_learner(id) && !synced {
            return Err(Refusal::learner_not_ready());
        }
        self.commit(now, me.cluster, |state| match state.members.get_mut(&id) {
            None => Err(Refusal::member_not_found()),
            Some(info) if !info.learner => Err(Refusal::not_a_learner()),
            Some(info) => {
                info.learner = false;
                Ok(())
            }
        })
    }

    pub(super) fn remove(&mut self, now: u64, me: &Me, id: u64) -> Result<(), Refusal> {
        let state = self.state(&me.at).ok_or_else(Refusal::no_leader)?;
        if !state.is_learner(id) {
            let rest = state.voters().filter(|voter| *voter != id).count();
            let started = Self::started(state).filter(|voter| *voter != id).count();
            if started < rest / 2 + 1 {
                return Err(Refusal::not_enough_started());
            }
            let up = self.live_of(me.cluster).iter().any(|m| m.id == id);
            let voters = state.voters().count();
            let active = state.voters().filter(|voter| self.connected(now, me, *voter)).count();
            // One that is down is no part of the quorum: taking it out costs nothing.
            if state.members.contains_key(&id) && up && active < 2 + voters.saturating_sub(1) / 2 {
                return Err(Refusal::unhealthy());
            }
        }
        self.commit(now, me.cluster, |state| {
            state.members.remove(&id).ok_or_else(Refusal::member_not_found)?;
            state.removed.insert(id);
            Ok(())
        })?;
        self.tick(now);
        Ok(())
    }

    pub(super) fn transfer(&mut self, me: &Me, target: u64) -> Result<(), Refusal> {
        if self.leader_of(me) != Some(me.id) {
            return Err(Refusal::not_leader());
        }
        let voter = self.state(&me.at).is_some_and(|s| s.voters().any(|id| id == target));
        if !voter || !self.live_of(me.cluster).iter().any(|m| m.id == target) {
            return Err(Refusal::bad_transferee());
        }
        self.lead(me.cluster, target);
        Ok(())
    }

    pub(super) fn set_alarm(&mut self, now: u64, me: &Me, member: u64, kind: &str, on: bool) -> Result<bool, Refusal> {
        self.commit(now, me.cluster, |state| {
            let alarm = (member, kind.to_string());
            if on {
                state.alarms.insert(alarm);
                return Ok(true);
            }
            Ok(state.alarms.remove(&alarm))
        })
    }

    pub(super) fn apply(&mut self, now: u64, me: &Me, op: &Op) -> Result<Done, Refusal> {
        self.room(me, std::slice::from_ref(op))?;
        let done = self.commit(now, me.cluster, |state| state.keys.apply(std::slice::from_ref(op)))?;
        done.into_iter().next().ok_or_else(Refusal::deadline)
    }

    pub(super) fn txn(&mut self, now: u64, me: &Me, txn: &Txn) -> Result<(bool, Vec<Done>), Refusal> {
        self.room(me, &txn.success)?;
        self.room(me, &txn.failure)?;
        self.commit(now, me.cluster, |state| state.keys.txn(txn))
    }

    fn room(&self, me: &Me, ops: &[Op]) -> Result<(), Refusal> {
        let full = self.state(&me.at).is_some_and(|s| s.alarms.iter().any(|(_, kind)| kind == "NOSPACE"));
        let puts = ops.iter().any(|op| matches!(op, Op::Put { .. }));
        if full && puts { Err(Refusal::no_space()) } else { Ok(()) }
    }
}
