//! Bugs that are planted in the product or in what it relies on: each must be noticed by the check of its invariant.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use super::{
    drive::Meddle,
    faults::{Faults, Lost, MachineFaults, ToolFault},
    script::{Scenario, run},
    *,
};
use crate::{engine::Found, model::rollout::Count, plan::Plan, store::Record};

fn seen(
    seed: u64,
    nodes: usize,
    profile: Profile,
    faults: Faults,
    meddle: impl Meddle + 'static,
) -> BTreeSet<Invariant> {
    let scenario = Scenario { seed, nodes, faults: profile, plain: true };
    run(scenario, faults, Rc::new(meddle)).violations.into_iter().map(|v| v.invariant).collect()
}

/// A lost state is taken for a new one, and tables on disks for nothing.
struct Amnesiac;
impl Meddle for Amnesiac {
    fn rebuilds(&self) -> bool {
        false
    }
    fn hides_foreign_data(&self) -> bool {
        true
    }
}

// invariant: I5 I6 harness: S
#[test]
fn a_second_bootstrap_and_an_overwritten_system_are_seen() {
    let faults = Faults { lost: Some(Lost { after: 1, older: false, known: 0 }), ..Faults::default() };
    let seen = seen(1, 3, Profile::Crash, faults, Amnesiac);
    assert!(seen.contains(&Invariant::I6) && seen.contains(&Invariant::I5), "{seen:?}");
}

/// Systems start etcd whatever their generation and the members' list say.
struct Careless;
impl Meddle for Careless {
    fn starts_only_its_own(&self) -> bool {
        false
    }
}

// invariant: I7 harness: S
#[test]
fn an_old_incarnation_that_runs_is_seen() {
    let faults = Faults { old_disk: true, ..Faults::default() };
    let worlds = (1..=14).map(|seed| seen(seed, 6, Profile::Light, faults.clone(), Careless));
    let seen: BTreeSet<Invariant> = worlds.flatten().collect();
    assert!(seen.contains(&Invariant::I7), "{seen:?}");
}

/// Nobody logs out of a BMC.
struct Lodger;
impl Meddle for Lodger {
    fn logs_out(&self) -> bool {
        false
    }
}

// invariant: I8 harness: S
#[test]
fn a_session_that_is_left_is_seen() {
    let seen = seen(1, 3, Profile::None, Faults::default(), Lodger);
    assert!(seen.contains(&Invariant::I8), "{seen:?}");
}

/// What an earlier process began is begun again, whatever is seen.
struct Again;
impl Meddle for Again {
    fn resumed(&self, found: Found) -> Found {
        match found {
            Found::Done | Found::UnderWay => Found::NotDone,
            other => other,
        }
    }
}

// invariant: I11 harness: S
#[test]
fn what_a_resumed_run_does_twice_is_seen() {
    let mut all = BTreeSet::new();
    for operation in (20..=120).step_by(4) {
        let tool = vec![ToolFault::DiesAt { operation, after: true }];
        all.extend(seen(2, 4, Profile::Crash, Faults { tool, ..Faults::default() }, Again));
    }
    assert!(all.contains(&Invariant::I11), "{all:?}");
}

/// A record is lost out of the middle, or from the end.
struct Forger {
    at: usize,
}
impl Meddle for Forger {
    fn chain(&self, mut records: Vec<Record>) -> Vec<Record> {
        if self.at == usize::MAX {
            records.truncate(records.len() / 2);
        } else {
            records.remove(self.at);
        }
        records
    }
}

// invariant: I13 harness: S
#[test]
fn a_record_that_is_gone_is_seen() {
    for at in [0, 7, usize::MAX] {
        let seen = seen(1, 3, Profile::None, Faults::default(), Forger { at });
        assert!(seen.contains(&Invariant::I13), "{at}: {seen:?}");
    }
}

/// However many fail, the next one begins.
struct Stubborn;
impl Meddle for Stubborn {
    fn plan(&self, mut plan: Plan) -> Plan {
        for pool in plan.pools.values_mut() {
            pool.rollout.waves = vec![Count::Number(1)];
            pool.rollout.halt_after = Count::Number(u32::MAX);
        }
        plan
    }
}

// invariant: I14 harness: S
#[test]
fn a_node_that_begins_after_the_budget_of_failures_is_seen() {
    let broken = MachineFaults { foreign_data: true, ..MachineFaults::default() };
    let faults = Faults { machines: [("n001".to_owned(), broken)].into(), ..Faults::default() };
    let seen = seen(1, 3, Profile::Light, faults, Stubborn);
    assert!(seen.contains(&Invariant::I14), "{seen:?}");
}

/// The lease is measured by a clock that stands still while the host sleeps.
struct Dreamer;
impl Meddle for Dreamer {
    fn counts_sleep(&self) -> bool {
        false
    }
}

// invariant: I16 harness: S
#[test]
fn a_clock_that_stands_still_while_the_host_sleeps_is_seen() {
    let mut all = BTreeSet::new();
    // Slow BMCs: it falls asleep between two requests more often than not.
    let slow = MachineFaults { slow_ms: 8_000, ..MachineFaults::default() };
    let machines: BTreeMap<_, _> = fleet::names(4).into_iter().map(|n| (n, slow.clone())).collect();
    for after_ms in (100_000..300_000).step_by(2_500) {
        let tool = vec![ToolFault::Suspended { after_ms, ms: 1_800_000 }];
        let machines = machines.clone();
        let faults = Faults { machines, tool, second_operator: Some(5_000), takes_over: true, ..Faults::default() };
        all.extend(seen(after_ms, 4, Profile::Crash, faults, Dreamer));
        if all.contains(&Invariant::I16) {
            return;
        }
    }
    panic!("{all:?}");
}

/// Nothing has a limit of time.
struct Patient;
impl Meddle for Patient {
    fn has_deadlines(&self) -> bool {
        false
    }
}

// invariant: I18 harness: S
#[test]
fn a_wait_without_a_limit_is_seen() {
    let silent = MachineFaults { never_claims: u32::MAX, ..MachineFaults::default() };
    let faults = Faults { machines: [("n001".to_owned(), silent)].into(), ..Faults::default() };
    let seen = seen(1, 3, Profile::Light, faults, Patient);
    assert!(seen.contains(&Invariant::I18), "{seen:?}");
}

/// A plan is begun whatever was approved.
struct Hasty;
impl Meddle for Hasty {
    fn compares_hashes(&self) -> bool {
        false
    }
}

// invariant: I12 harness: S
#[test]
fn a_plan_that_nobody_approved_is_seen() {
    let seen = seen(1, 3, Profile::Light, Faults { stale_plan: true, ..Faults::default() }, Hasty);
    assert!(seen.contains(&Invariant::I12), "{seen:?}");
}
