use super::*;

#[test]
fn a_small_fleet_without_faults_is_installed_and_joined() {
    let report = simulate(Scenario { seed: 1, nodes: 6, faults: Profile::None });
    assert!(report.violations.is_empty(), "{}\n{}", report.line(), report.log.join("\n"));
    assert_eq!(report.wipes, 6, "{}", report.log.join("\n"));
    assert_eq!(report.processes, 1);
}
