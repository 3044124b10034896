//! The simulation itself, and the proof that its checks bite: each plants a bug and must be told of it.

use std::{cell::RefCell, collections::BTreeSet, rc::Rc};

use super::{
    drive::{Honest, Meddle},
    faults::{self, Faults, MachineFaults, ToolFault},
    script::{Scenario, run, simulate},
    *,
};
use crate::engine::Effect;

fn scenario(seed: u64, nodes: usize, faults: Profile) -> Scenario {
    Scenario { seed, nodes, faults, plain: true }
}

fn holds(scenario: Scenario) {
    let report = simulate(scenario);
    assert!(report.violations.is_empty(), "{}\n{}", report.line(), report.around.join("\n"));
}

/// What broke, in one world with these faults and this meddling.
fn broken(scenario: Scenario, faults: Faults, meddle: impl Meddle + 'static) -> BTreeSet<Invariant> {
    run(scenario, faults, Rc::new(meddle)).violations.into_iter().map(|v| v.invariant).collect()
}

#[test]
fn a_fleet_without_faults_is_installed_and_joined_and_restarted() {
    let report = simulate(scenario(1, 6, Profile::None));
    assert!(report.violations.is_empty(), "{}\n{}", report.line(), report.log().join("\n"));
    assert_eq!(report.wipes, 6, "{}", report.log().join("\n"));
    assert_eq!(report.processes, 2, "one for apply, one for the restarts");
}

#[test]
fn the_seed_decides_everything() {
    for profile in [Profile::Crash, Profile::Heavy] {
        let log = || simulate(scenario(11, 8, profile)).log().join("\n");
        assert_eq!(log(), log());
    }
}

#[test]
fn worlds_hold_whatever_goes_wrong_in_them() {
    let mut broken = Vec::new();
    for seed in 1..=30 {
        for profile in [Profile::Crash, Profile::Light, Profile::Heavy] {
            let report = simulate(scenario(seed, 6, profile));
            if !report.violations.is_empty() {
                broken.push(format!("{}\n{}", report.line(), report.around.join("\n")));
            }
        }
    }
    assert!(broken.is_empty(), "{} worlds\n{}", broken.len(), broken.join("\n"));
}

/// Seeds that once showed a bug in the product.
#[test]
fn what_once_broke_holds() {
    // Attempts of a boot were counted twice, and a one-time token offered again.
    holds(scenario(15, 20, Profile::Heavy));
    // A look that began before a node ended was believed: two members away at once, without any fault.
    holds(scenario(3, 20, Profile::None));
    holds(scenario(18, 20, Profile::None));
    // A voter's power was cut for its reinstallation before anybody asked whether its cluster could do without it.
    holds(scenario(7, 6, Profile::Heavy));
    // A learner that was left behind kept every other machine out of its cluster.
    holds(scenario(65, 12, Profile::Heavy));
    // A machine with a slow BMC was taken away on a look that was half a minute old.
    holds(scenario(249, 12, Profile::Light));
    // An override that could not be cleared was neither tried again nor told.
    holds(scenario(92, 12, Profile::Heavy));
    // What never joined counted as down, and was waited for without end.
    holds(scenario(16, 20, Profile::Light));
    // A machine that failed in the installer kept the members behind it out.
    holds(scenario(21, 20, Profile::Light));
    // A step that was cut off left its log-in behind.
    holds(scenario(4, 20, Profile::Light));
    // Who still answered in a cluster without a quorum counted as down, and was taken as it came back.
    holds(scenario(24, 6, Profile::Crash));
    // Machines that were silent when the plan was made came back, and were restarted together.
    holds(scenario(301, 12, Profile::Light));
    // A cluster of two voters got its quorum back after the plan was made, and lost it to a restart.
    holds(scenario(24, 6, Profile::Heavy));
    // The only two voters of a cluster were restarted.
    holds(scenario(12, 20, Profile::Light));
    // A wake was lost behind an earlier one, and the run waited for ever.
    holds(scenario(206_882, 20, Profile::Light));
    // The state was lost and the cluster was silent: how many it can spare was not limited.
    holds(scenario(118_087, 20, Profile::Heavy));
    // A process slept for minutes, renewed its lease and sent what it had decided before.
    holds(scenario(119_846, 20, Profile::Light));
    // A resumed run began a failed attempt under its old number.
    holds(scenario(116_735, 20, Profile::Heavy));
    // Who runs already waited for a machine that can never be installed.
    holds(scenario(158_367, 8, Profile::Heavy));
    // A cycle was cut off by its time limit between off and on.
    holds(scenario(158_575, 8, Profile::Heavy));
    // A clock that jumped ended an approval, twice: whoever resumes has to approve again.
    holds(scenario(228_970, 20, Profile::Light));
    // A run that brought a silent cluster back left the new members out, and said it had succeeded.
    holds(scenario(161_538, 8, Profile::Light));
    // A machine whose write never began came up with its older system, and was taken as one that serves nothing.
    holds(scenario(161_994, 8, Profile::Light));
    // A member that was silent when the plan was made came back, and was written anew while another one was away.
    holds(scenario(339_494, 20, Profile::Light));
    // A machine that was to have its power back while its rack was dark stayed off when that was lit.
    holds(scenario(365_966, 8, Profile::Light));
    // The operator read seven times that a cluster raised an alarm, and went home instead of making room.
    holds(scenario(380_346, 8, Profile::Light));
    // A log-in that a full disk could not note was left open by the process that knew of it.
    holds(Scenario { plain: false, ..scenario(402_451, 20, Profile::Heavy) });
}

/// No intent is written.
struct Forgetful;
impl Meddle for Forgetful {
    fn intents(&self) -> bool {
        false
    }
}

#[test]
fn an_effect_without_intent_is_seen() {
    let seen = broken(scenario(1, 4, Profile::None), Faults::default(), Forgetful);
    assert!(seen.contains(&Invariant::I1), "{seen:?}");
}

/// Every act is done twice.
struct Twice;
impl Meddle for Twice {
    fn effects(&self, effects: Vec<Effect>) -> Vec<Effect> {
        let act = |e: &Effect| matches!(e, Effect::Act { .. });
        effects.into_iter().flat_map(|e| if act(&e) { vec![e.clone(), e] } else { vec![e] }).collect()
    }
}

#[test]
fn a_reset_that_is_sent_twice_is_seen() {
    let seen = broken(scenario(1, 4, Profile::None), Faults::default(), Twice);
    assert!(seen.contains(&Invariant::I15), "{seen:?}");
}

/// Whoever is away, nobody is told.
struct Blind;
impl Meddle for Blind {
    fn sees_who_is_away(&self) -> bool {
        false
    }
}

#[test]
fn a_budget_that_sees_nobody_away_is_seen() {
    let seen: BTreeSet<Invariant> =
        (1..=12).flat_map(|seed| broken(scenario(seed, 6, Profile::None), Faults::default(), Blind)).collect();
    assert!(seen.contains(&Invariant::I3), "{seen:?}");
    assert!(seen.contains(&Invariant::I4), "{seen:?}");
}

/// Success is told of every run.
struct Boaster;
impl Meddle for Boaster {
    fn outcome(&self, _: crate::engine::Outcome) -> crate::engine::Outcome {
        crate::engine::Outcome::Succeeded
    }
}

fn one_machine(faults: MachineFaults) -> Faults {
    Faults { machines: [("n001".to_owned(), faults)].into(), ..Faults::default() }
}

#[test]
fn a_success_that_is_none_is_seen() {
    let hopeless = one_machine(MachineFaults { foreign_data: true, ..MachineFaults::default() });
    let seen = broken(scenario(1, 4, Profile::Light), hopeless, Boaster);
    assert!(seen.contains(&Invariant::I20), "{seen:?}");
}

/// Nothing is left safe after a failure.
struct Sloven;
impl Meddle for Sloven {
    fn finalizes(&self) -> bool {
        false
    }
}

#[test]
fn an_offer_and_an_override_that_are_left_are_seen() {
    // The machine never boots: its override stays, and so does the offer.
    let faults = MachineFaults { power_ignored: 50, ..MachineFaults::default() };
    let seen = broken(scenario(1, 4, Profile::Light), one_machine(faults), Sloven);
    assert!(seen.contains(&Invariant::I9), "{seen:?}");
}

/// What is foreign on a disk is not told to the guard.
struct Liar;
impl Meddle for Liar {
    fn hides_foreign_data(&self) -> bool {
        true
    }
}

#[test]
fn a_wipe_of_somebodys_data_is_seen() {
    let foreign = one_machine(MachineFaults { foreign_data: true, ..MachineFaults::default() });
    let seen = broken(scenario(1, 4, Profile::Light), foreign, Liar);
    assert!(seen.contains(&Invariant::I5), "{seen:?}");
}

/// Steps of another plan.
struct Stray(RefCell<bool>);
impl Meddle for Stray {
    fn approves(&self) -> bool {
        let _ = self.0.replace(true);
        false
    }
}

#[test]
fn effects_and_wipes_that_nobody_approved_are_seen() {
    let seen = broken(scenario(1, 4, Profile::None), Faults::default(), Stray(RefCell::new(false)));
    assert!(seen.contains(&Invariant::I12) && seen.contains(&Invariant::I5), "{seen:?}");
}

/// The locks are given back while the run goes on.
struct Unlocked;
impl Meddle for Unlocked {
    fn keeps_locks(&self) -> bool {
        false
    }
}

#[test]
fn an_effect_without_the_lock_is_seen() {
    let seen = broken(scenario(1, 4, Profile::None), Faults::default(), Unlocked);
    assert!(seen.contains(&Invariant::I2), "{seen:?}");
}

#[test]
fn a_process_that_dies_at_any_operation_changes_nothing_in_the_end() {
    for operation in (1..=260).step_by(13) {
        for after in [false, true] {
            let faults = Faults { tool: vec![ToolFault::DiesAt { operation, after }], ..Faults::default() };
            let report = run(scenario(2, 4, Profile::Crash), faults, Rc::new(Honest));
            assert!(report.violations.is_empty(), "operation {operation}, {after}: {}", report.line());
        }
    }
}

#[test]
fn faults_are_drawn_for_each_world() {
    let names = fleet::names(20);
    let drawn = faults::draw(5, Profile::Heavy, &names, &fleet::racks(20));
    assert!(drawn.machines.values().any(|f| f.hopeless() || f.power_ignored > 0 || f.hangs > 0));
}
