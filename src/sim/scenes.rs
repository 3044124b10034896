//! Worlds in which one thing goes wrong by design, and everything must hold all the same. What goes wrong by chance is
//! in `tests`.

use std::{collections::BTreeMap, rc::Rc};

use super::{
    drive::Honest,
    faults::{Faults, Lost, MachineFaults, Swapped, ToolFault},
    script::{Report, Scenario, run},
    *,
};

fn scenario(seed: u64, nodes: usize, faults: Profile) -> Scenario {
    Scenario { seed, nodes, faults, plain: true }
}

/// Runs it, and expects that nothing is broken.
fn holds(scenario: Scenario, faults: &Faults) -> Report {
    let report = run(scenario, faults.clone(), Rc::new(Honest));
    assert!(report.violations.is_empty(), "{faults:?}\n{}\n{}", report.line(), report.around.join("\n"));
    report
}

/// In how many of these worlds the log says so.
fn told(reports: &[Report], words: &str) -> usize {
    reports.iter().filter(|r| r.log().iter().any(|line| line.contains(words))).count()
}

fn one(node: &str, faults: MachineFaults) -> Faults {
    Faults { machines: [(node.to_owned(), faults)].into(), ..Faults::default() }
}

// fault: F53 F54 invariant: I2 I16 harness: S
#[test]
fn a_computer_that_slept_while_another_took_over_sends_nothing_when_it_wakes() {
    let mut reports = Vec::new();
    for slow_ms in [0, 8_000] {
        let slow = MachineFaults { slow_ms, ..MachineFaults::default() };
        let machines: BTreeMap<_, _> = fleet::names(4).into_iter().map(|n| (n, slow.clone())).collect();
        for after_ms in (20_000..400_000).step_by(38_000) {
            let tool = vec![ToolFault::Suspended { after_ms, ms: 1_800_000 }];
            let machines = machines.clone();
            let faults = Faults { machines, tool, second_operator: Some(5_000), takes_over: true, ..Faults::default() };
            reports.push(holds(scenario(after_ms, 4, Profile::Light), &faults));
        }
    }
    assert!(told(&reports, "lock steal") > reports.len() / 2, "hardly anybody took over");
}

// fault: F53 invariant: I16 harness: S
#[test]
fn wall_clocks_that_jump_decide_nothing_but_who_may_take_over() {
    let (hour, year) = (3_600_000, 365 * 86_400_000);
    for (seed, by) in [hour, -hour, year, -year].into_iter().enumerate() {
        for at in [50_000, 200_000] {
            let clocks = vec![("a", at, by), ("a", at + 90_000, -2 * by), ("b", 1_000, -by)];
            let tool = vec![ToolFault::DiesAfter { ms: at + 40_000 }];
            let second_operator = Some(at + 10_000);
            let faults = Faults { tool, clocks, second_operator, takes_over: true, ..Faults::default() };
            holds(scenario(seed as u64, 4, Profile::Crash), &faults);
        }
    }
}

// fault: F58 F59 invariant: I1 I16 harness: S
#[test]
fn a_store_that_cannot_write_at_any_record_lets_nothing_out() {
    for write in (1..=90).step_by(7) {
        for kept in [false, true] {
            let tool = vec![ToolFault::StoreFails { write, kept }];
            holds(scenario(3, 4, Profile::Crash), &Faults { tool, ..Faults::default() });
        }
    }
}

// fault: F57 invariant: I5 I6 harness: S
#[test]
fn a_state_that_is_lost_or_old_is_made_anew_and_nothing_is_taken_for_bare() {
    let mut reports = Vec::new();
    for seed in 1..=4 {
        for (older, known) in [(false, 0), (false, 1_000), (false, 500), (true, 0), (true, 1_000)] {
            // In the middle of the first run, and after it.
            for tool in [vec![ToolFault::DiesAfter { ms: 100_000 * seed }], vec![]] {
                let lost = Some(Lost { after: 1, older, known });
                reports.push(holds(scenario(seed, 4, Profile::Crash), &Faults { tool, lost, ..Faults::default() }));
            }
        }
    }
    assert_eq!(told(&reports, "rebuilt: "), reports.len());
    assert!(told(&reports, "stateUnknown") > 0, "everything could be told");
}

// fault: F48 invariant: I4 harness: S
#[test]
fn an_alarm_stops_every_change_of_members_until_there_is_room() {
    let mut reports = Vec::new();
    for seed in 1..=6 {
        let alarms = vec![(0, 150_000 + 30_000 * seed, 240_000)];
        reports.push(holds(scenario(seed, 3, Profile::Light), &Faults { alarms, ..Faults::default() }));
    }
    assert!(told(&reports, "raised: true") > 0, "no cluster was there to raise one");
}

// fault: F49 invariant: I12 harness: S
#[test]
fn nobody_joins_members_of_another_version() {
    let reports: Vec<Report> = (1..=6)
        .map(|seed| {
            let tool = vec![ToolFault::AbortedAfter { ms: 190_000 + 20_000 * seed }];
            let version = Some((0, if seed % 2 == 0 { "3.6.4" } else { "3.3.1" }));
            holds(scenario(seed, 3, Profile::Heavy), &Faults { tool, version, ..Faults::default() })
        })
        .collect();
    assert!(told(&reports, "versionSkew") > 0, "no plan met such a cluster");
}

// fault: F44 invariant: I16 harness: S
#[test]
fn machines_whose_clocks_differ_do_not_join_each_other() {
    let reports: Vec<Report> = (1..=6)
        .map(|seed| {
            let wrong =
                MachineFaults { clock_ms: if seed % 2 == 0 { 600_000 } else { -600_000 }, ..Default::default() };
            let tool = vec![ToolFault::AbortedAfter { ms: 190_000 + 20_000 * seed }];
            holds(scenario(seed, 3, Profile::Heavy), &Faults { tool, ..one("n002", wrong) })
        })
        .collect();
    assert!(told(&reports, "clockSkew") > 0, "no plan saw both clocks");
}

// fault: F50 invariant: I3 harness: S
#[test]
fn a_rack_that_goes_dark_while_machines_are_restarted_counts() {
    let mut reports = Vec::new();
    for at in (600_000..1_400_000).step_by(100_000) {
        let racks = vec![("r0".to_owned(), at, 200_000)];
        reports.push(holds(scenario(at, 8, Profile::None), &Faults { racks, ..Faults::default() }));
    }
    assert_eq!(told(&reports, "RackDark"), reports.len());
}

// fault: F56 invariant: I12 harness: S
#[test]
fn what_was_approved_before_the_world_changed_is_refused() {
    let report = holds(scenario(1, 4, Profile::Light), &Faults { stale_plan: true, ..Faults::default() });
    assert!(told(&[report], "approved what is stale: Stale") == 1);
}

// fault: F55 invariant: I5 harness: S
#[test]
fn two_machines_in_each_others_place_are_both_left_alone() {
    let at = |number: usize| MachineFaults { swapped: Swapped::With(number), ..MachineFaults::default() };
    let machines = [("n002".to_owned(), at(2)), ("n003".to_owned(), at(1))].into();
    let report = holds(scenario(2, 6, Profile::Light), &Faults { machines, ..Faults::default() });
    assert_eq!(report.wipes, 4);
    assert!(told(&[report], "identityMismatch") == 1);
}

// fault: F42 F43 invariant: I7 harness: S
#[test]
fn a_wiped_member_joins_anew_and_its_old_disk_never_votes_again() {
    let faults = Faults { old_disk: true, ..Faults::default() };
    let reports: Vec<Report> = (1..=14).map(|seed| holds(scenario(seed, 6, Profile::Light), &faults)).collect();
    assert!(told(&reports, "MemberRemoved") > 0 && told(&reports, "DiskSwapped") > 0);
}

// fault: F21 F28 invariant: I8 harness: S
#[test]
fn beside_another_dhcp_server_nothing_is_served() {
    let mut reports = Vec::new();
    for (seed, at) in [0, 20_000, 60_000, 130_000].into_iter().enumerate() {
        let faults = Faults { rogue: Some((at, 120_000)), ..Faults::default() };
        reports.push(holds(scenario(seed as u64, 4, Profile::Light), &faults));
    }
    assert!(told(&reports, "rogueDhcp") > 0, "no plan saw it");
}

// fault: F45 F54 invariant: I6 I2 harness: S
#[test]
fn two_operators_who_begin_at_once_make_one_cluster() {
    for at in [150, 199, 200, 201, 250, 400, 5_000] {
        let faults = Faults { second_operator: Some(at), ..Faults::default() };
        let report = holds(scenario(at, 4, Profile::Crash), &faults);
        assert_eq!(report.wipes, 4);
    }
}

// invariant: I3 I14 harness: S
#[test]
fn waves_domains_and_windows_hold_whatever_goes_wrong() {
    let mut broken = Vec::new();
    for seed in 1..=24 {
        let faults = [Profile::None, Profile::Crash, Profile::Light, Profile::Heavy][seed as usize % 4];
        let report = simulate(Scenario { plain: false, ..scenario(seed, 8, faults) });
        if !report.violations.is_empty() {
            broken.push(format!("{}\n{}", report.line(), report.around.join("\n")));
        }
    }
    assert!(broken.is_empty(), "{} worlds\n{}", broken.len(), broken.join("\n"));
}

/// Each of these alone: the machine that has it is mended later, and the others never notice.
// fault: F03 F04 F07 F08 F09 F12 F16 F20 F27 F31 F32 F36 F38 invariant: I9 I11 I15 I18 harness: S
#[test]
fn what_one_machine_does_wrong_costs_that_machine_alone() {
    let none = MachineFaults::default;
    let faults = [
        MachineFaults { power_ignored: 2, ..none() },
        MachineFaults { answers_lost: 3, ..none() },
        MachineFaults { override_ignored: 2, ..none() },
        MachineFaults { override_not_honoured: 1, ..none() },
        MachineFaults { sticky: true, ..none() },
        MachineFaults { bmc_restarts_at: Some(20_000), ..none() },
        MachineFaults { slow_ms: 12_000, ..none() },
        MachineFaults { hangs: 3, ..none() },
        MachineFaults { power_unreadable: true, ..none() },
        MachineFaults { bmc_dead: true, ..none() },
        MachineFaults { never_claims: 2, ..none() },
        MachineFaults { claim_answers_lost: 2, ..none() },
        MachineFaults { fails_writing: 1, ..none() },
        MachineFaults { dies_writing: 1, ..none() },
        MachineFaults { hangs_at_boot: 1, ..none() },
        MachineFaults { wrong_disk: true, ..none() },
        MachineFaults { foreign_data: true, ..none() },
    ];
    for (seed, faults) in faults.into_iter().enumerate() {
        holds(scenario(seed as u64, 4, Profile::Light), &one("n001", faults));
    }
}

// fault: F40 F41 F46 invariant: I4 harness: S
#[test]
fn members_that_die_or_never_catch_up_cost_no_quorum() {
    let mut reports = Vec::new();
    for seed in 1..=4 {
        for after in [5_000, 60_000] {
            let dies = MachineFaults { member_dies: Some((after * seed, 200_000)), ..MachineFaults::default() };
            let mut faults = one("n001", dies.clone());
            faults.machines.insert("n002".to_owned(), MachineFaults { add_answer_lost: true, ..dies });
            faults.machines.insert("n003".to_owned(), MachineFaults { never_syncs: true, ..Default::default() });
            reports.push(holds(scenario(seed, 3, Profile::Light), &faults));
        }
    }
    // Who does not catch up is taken out again.
    assert!(told(&reports, "MemberRemoved") > reports.len() / 2, "a member came back before anybody gave up");
}

// fault: F51 F52 invariant: I8 I11 harness: S
#[test]
fn stopped_by_hand_or_killed_at_any_time_it_ends_the_same() {
    for ms in (5_000..300_000).step_by(41_000) {
        for tool in [ToolFault::InterruptedAfter { ms }, ToolFault::PausedAfter { ms }, ToolFault::DiesAfter { ms }] {
            holds(scenario(ms, 4, Profile::Crash), &Faults { tool: vec![tool], ..Faults::default() });
        }
    }
}

// invariant: I3 I4 harness: S
#[test]
fn power_and_boot_settings_by_name() {
    let faults = Faults { errands: true, ..Faults::default() };
    let reports: Vec<Report> = (1..=4).map(|seed| holds(scenario(seed, 5, Profile::None), &faults)).collect();
    assert!(told(&reports, "\"boot set\"") > 0 && told(&reports, "\"power\"") == 4);
}
