//! The one disruption budget: how many nodes of a cluster, rack, power feed or chassis are unavailable now, for any
//! reason, and whether one more may be. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::plan::Plan;

#[derive(Debug)]
struct Group {
    name: String,
    limit: u64,
    /// Of its nodes: down or taken.
    missing: u64,
    /// Of its nodes: taken.
    taken: u64,
}

#[derive(Debug, Default)]
pub struct Budget {
    groups: Vec<Group>,
    /// Node → its groups.
    of: HashMap<String, Vec<usize>>,
    /// Being changed by us, and served before.
    taken: BTreeSet<String>,
    /// Of these: whose request has left.
    gone: BTreeSet<String>,
    /// Seen to be unavailable at the last look.
    down: BTreeSet<String>,
}

/// Why a node may not be taken away now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub why: String,
    /// Something that this run has in hand is among what is missing: it comes to its end within its own limits.
    pub ours: bool,
    /// One that is down and that nobody of ours took.
    pub down: Option<String>,
}

impl Budget {
    pub fn new(plan: &Plan) -> Budget {
        let mut budget = Budget::default();
        let pools = plan.pools.iter().map(|(name, p)| (name.clone(), u64::from(p.rollout.max_unavailable), &p.nodes));
        let domains = plan.domains.iter().map(|(name, d)| (name.clone(), u64::from(d.limit), &d.nodes));
        let all: BTreeMap<String, (u64, &Vec<String>)> =
            pools.chain(domains).map(|(name, limit, nodes)| (name, (limit, nodes))).collect();
        for (name, (limit, nodes)) in all {
            let index = budget.groups.len();
            for node in nodes {
                budget.of.entry(node.clone()).or_default().push(index);
            }
            budget.groups.push(Group { name, limit, missing: 0, taken: 0 });
        }
        budget
    }

    fn count(&mut self, node: &str, more: bool) {
        for group in self.of.get(node).into_iter().flatten() {
            let missing = &mut self.groups[*group].missing;
            *missing = if more { *missing + 1 } else { missing.saturating_sub(1) };
        }
    }

    /// A fresh look replaces the one before.
    pub fn around(&mut self, down: BTreeSet<String>) {
        self.down = down;
        for group in &mut self.groups {
            group.missing = 0;
        }
        let missing: BTreeSet<String> = self.down.union(&self.taken).cloned().collect();
        for node in missing {
            self.count(&node, true);
        }
    }

    pub fn take(&mut self, node: &str) {
        if self.taken.insert(node.to_owned()) {
            self.of.get(node).into_iter().flatten().for_each(|g| self.groups[*g].taken += 1);
            if !self.down.contains(node) {
                self.count(node, true);
            }
        }
    }

    pub fn give_back(&mut self, node: &str) {
        self.gone.remove(node);
        if self.taken.remove(node) {
            self.of.get(node).into_iter().flatten().for_each(|g| self.groups[*g].taken -= 1);
            if !self.down.contains(node) {
                self.count(node, false);
            }
        }
    }

    /// From now on it is away by our doing, and not only its turn.
    pub fn leaves(&mut self, node: &str) {
        self.gone.insert(node.to_owned());
    }

    /// Right before a node that has its turn is taken away: why it may not go now; `None`: it may. Others that have
    /// their turn and wait as this one does are still there.
    pub fn may_leave(&self, node: &str) -> Option<Refusal> {
        if self.down.contains(node) {
            return None;
        }
        self.of.get(node).into_iter().flatten().find_map(|g| {
            let names: Vec<&String> = self.away(*g, &self.gone).into_iter().filter(|n| *n != node).collect();
            let group = &self.groups[*g];
            (names.len() as u64 + 1 > group.limit).then(|| self.refuse(group, &names))
        })
    }

    /// Of a group: who is down, or among `ours`. Few are, and groups are large.
    fn away<'a>(&'a self, group: usize, ours: &'a BTreeSet<String>) -> Vec<&'a String> {
        self.down.union(ours).filter(|n| self.of.get(*n).is_some_and(|groups| groups.contains(&group))).collect()
    }

    fn refuse(&self, group: &Group, missing: &[&String]) -> Refusal {
        let shown: Vec<&str> = missing.iter().map(|n| n.as_str()).take(5).collect();
        let why = format!(
            "waits: {} of {} would be unavailable, {} may be (now: {})",
            missing.len() + 1,
            group.name,
            group.limit,
            if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
        );
        let down = missing.iter().find(|n| self.down.contains(**n)).map(|n| (*n).clone());
        Refusal { why, ours: missing.iter().any(|n| self.taken.contains(*n)), down }
    }

    /// The first group that is full for this node. A node that is down already costs nothing more.
    fn full(&self, node: &str) -> Option<usize> {
        let full = self.of.get(node)?.iter().find(|g| self.groups[**g].missing + 1 > self.groups[**g].limit)?;
        (!self.down.contains(node) && !self.taken.contains(node)).then_some(*full)
    }

    /// Whether this node may not be taken now, and if so whether that passes: [`Refusal::ours`]. For many nodes at
    /// each event: without words.
    pub fn refuses(&self, node: &str) -> Option<bool> {
        self.full(node).map(|g| self.groups[g].taken > 0)
    }

    /// Why this node may not be taken now; `None`: it may.
    pub fn refusal(&self, node: &str) -> Option<Refusal> {
        let full = self.full(node)?;
        Some(self.refuse(&self.groups[full], &self.away(full, &self.taken)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::{
            goal::{Goal, Scope},
            rollout::Rollout,
        },
        plan::{Domain, Pool},
    };

    fn budget(max: u32) -> Budget {
        let names = |range: std::ops::Range<u32>| range.map(|i| format!("n{i}")).collect::<Vec<_>>();
        let mut plan = Plan::empty("f", &Goal::Join { nodes: Scope(vec![]) });
        let rollout = Rollout { max_unavailable: max, ..Rollout::default() };
        plan.pools.insert("core".into(), Pool { rollout, nodes: names(0..6) });
        plan.domains.insert("chassis/c1".into(), Domain { limit: 1, nodes: names(4..8) });
        Budget::new(&plan)
    }

    #[test]
    fn what_is_down_for_other_reasons_counts() {
        let mut b = budget(2);
        b.around(["n0".to_owned()].into());
        assert_eq!(b.refusal("n1"), None);
        b.take("n1");
        assert!(b.refusal("n2").is_some_and(|r| r.why.contains("3 of core") && r.why.contains("n0, n1") && r.ours));
        assert_eq!(b.refusal("n0"), None, "it is down already");
        b.give_back("n1");
        assert_eq!(b.refusal("n2"), None);
        b.take("n7");
        assert!(b.refusal("n5").is_some_and(|r| r.why.contains("chassis/c1")), "another pool's machine in its chassis");
    }

    proptest! {
        /// Counting step by step is counting afresh.
        #[test]
        fn counters_agree_with_the_sets(moves in prop::collection::vec((0u8..3, 0u32..8), 0..40)) {
            let mut b = budget(2);
            for (kind, node) in moves {
                let name = format!("n{node}");
                match kind {
                    0 => b.take(&name),
                    1 => b.give_back(&name),
                    _ => b.around((0..node).map(|i| format!("n{i}")).collect()),
                }
                for (index, group) in b.groups.iter().enumerate() {
                    let of = |set: &BTreeSet<String>| -> BTreeSet<String> {
                        set.iter().filter(|n| b.of.get(*n).is_some_and(|g| g.contains(&index))).cloned().collect()
                    };
                    let (down, taken) = (of(&b.down), of(&b.taken));
                    prop_assert_eq!(down.union(&taken).count() as u64, group.missing);
                    prop_assert_eq!(taken.len() as u64, group.taken);
                }
                // Without words as with them.
                for node in 0..8 {
                    let node = format!("n{node}");
                    prop_assert_eq!(b.refuses(&node), b.refusal(&node).map(|r| r.ours));
                }
            }
        }
    }
}
