use proptest::{collection::vec, prelude::*};

use super::*;

fn member(id: usize, learner: bool, healthy: bool) -> MemberFacts {
    MemberFacts {
        id: format!("{id:x}"),
        name: format!("n{id}"),
        peer_urls: vec![format!("http://10.0.0.{id}:2380")],
        client_urls: vec![],
        learner,
        healthy,
        version: None,
        raft_index: None,
    }
}

struct Case {
    facts: ClusterFacts,
    declared: usize,
    synced: BTreeSet<String>,
    dead: BTreeSet<String>,
    since_restart: Option<Duration>,
}

impl Case {
    /// `n` healthy voters, the first one leading.
    fn voters(n: usize, declared: usize) -> Case {
        let members = (1..=n).map(|i| member(i, false, true)).collect();
        let facts = ClusterFacts { cluster_id: "c".into(), members, leader: Some("1".into()), alarms: vec![] };
        Case { facts, declared, synced: BTreeSet::new(), dead: BTreeSet::new(), since_restart: None }
    }
    fn ask(&self, change: &Change) -> Vec<Refusal> {
        let world = World {
            facts: &self.facts,
            declared: self.declared,
            synced: &self.synced,
            dead: &self.dead,
            since_restart: self.since_restart,
            settle: SETTLE,
        };
        let all = refusals(&world, change);
        assert_eq!(guard("change", &world, change).is_ok(), all.is_empty());
        all
    }
}

fn add(n: usize) -> Change {
    Change::AddLearner { peer_url: format!("http://10.0.0.{n}:2380") }
}
fn promote(n: usize) -> Change {
    Change::Promote { id: format!("{n:x}") }
}
fn remove(n: usize) -> Change {
    Change::Remove { id: format!("{n:x}") }
}
fn stop(n: usize) -> Change {
    Change::Stop { id: format!("{n:x}") }
}

#[test]
fn one_grows_to_five_one_learner_at_a_time() {
    let mut case = Case::voters(1, 5);
    for n in 2..=5 {
        assert_eq!(case.ask(&add(n)), []);
        case.facts.members.push(MemberFacts { name: String::new(), ..member(n, true, false) });
        assert_eq!(case.ask(&add(n + 1)), [Refusal::Unnamed(format!("{n}"))]);
        assert!(case.ask(&promote(n)).contains(&Refusal::Unnamed(format!("{n}"))));
        case.facts.members[n - 1] = member(n, true, false);
        assert_eq!(case.ask(&add(n + 1)), [Refusal::OtherLearner(format!("{n}"))]);
        assert!(case.ask(&promote(n)).contains(&Refusal::NotSynced(format!("{n}"))));
        case.synced.insert(format!("{n}"));
        assert_eq!(case.ask(&promote(n)), []);
        case.facts.members[n - 1] = member(n, false, true);
        assert_eq!(case.ask(&promote(n)), [Refusal::NotALearner(format!("{n}"))]);
    }
}

#[test]
fn two_voters_are_passed_through_and_are_no_end() {
    let mut up = Case::voters(1, 1);
    up.facts.members.push(member(2, true, true));
    up.synced.insert("2".into());
    assert_eq!(up.ask(&promote(2)), [Refusal::TwoVoters]);
    up.declared = 2;
    assert_eq!(up.ask(&promote(2)), []);

    let mut down = Case::voters(3, 3);
    assert_eq!(down.ask(&remove(3)), [Refusal::TwoVoters]);
    down.facts.members[2].healthy = false;
    assert_eq!(down.ask(&remove(3)), [Refusal::TwoVoters]);
    down.dead.insert("3".into());
    assert_eq!(down.ask(&remove(3)), []);
}

#[test]
fn alarms_restarts_and_leadership_stop_everything() {
    let mut case = Case::voters(3, 5);
    case.facts.alarms = vec!["NOSPACE on member 2".into()];
    for change in [add(4), remove(2), stop(2)] {
        assert!(case.ask(&change).contains(&Refusal::Alarm("NOSPACE on member 2".into())));
    }
    case.facts.alarms.clear();
    case.since_restart = Some(Duration::from_secs(4));
    assert_eq!(case.ask(&stop(2)), [Refusal::Settling { left: Duration::from_secs(1) }]);
    case.since_restart = Some(SETTLE);
    assert_eq!(case.ask(&stop(2)), []);
    assert_eq!(case.ask(&stop(1)), [Refusal::Leader("1".into())]);
    case.facts.leader = None;
    assert_eq!(case.ask(&stop(2)), [Refusal::NoLeader]);
    case.facts.leader = Some("9".into());
    assert_eq!(case.ask(&stop(2)), [Refusal::StrayLeader("9".into())]);
    assert_eq!(Case::voters(1, 1).ask(&remove(1)), [Refusal::LastVoter]);
    assert_eq!(Case::voters(1, 1).ask(&stop(1)), [Refusal::Quorum { voters: 1, healthy: 0, needed: 1 }]);
    assert_eq!(Case::voters(1, 1).ask(&remove(9)), [Refusal::UnknownMember("9".into())]);
    assert_eq!(Case::voters(1, 3).ask(&add(1)), [Refusal::PeerUrlTaken { by: "1".into() }]);
}

#[test]
fn a_machine_that_was_named_goes_while_its_cluster_keeps_its_quorum_and_has_settled() {
    let pause = |case: &Case, name: &str| {
        let world = World {
            facts: &case.facts,
            declared: case.declared,
            synced: &case.synced,
            dead: &case.dead,
            since_restart: case.since_restart,
            settle: SETTLE,
        };
        pausing(&world, name)
    };
    let mut case = Case::voters(3, 3);
    // The leader too (it is led away first), and under an alarm: a restart may be what mends it.
    case.facts.alarms = vec!["NOSPACE on member 2".into()];
    assert_eq!(pause(&case, "n1"), []);
    assert_eq!(pause(&case, "n9"), []);
    case.since_restart = Some(Duration::from_secs(2));
    assert_eq!(pause(&case, "n2"), [Refusal::Settling { left: Duration::from_secs(3) }]);
    case.since_restart = None;
    case.facts.members[2].healthy = false;
    assert_eq!(pause(&case, "n2"), [Refusal::Quorum { voters: 3, healthy: 1, needed: 2 }]);
    // It does not serve: nothing is lost.
    assert_eq!(pause(&case, "n3"), []);
    case.facts.members[1].healthy = false;
    assert_eq!(pause(&case, "n1"), []);
    assert_eq!(pause(&Case::voters(1, 1), "n1"), [Refusal::Quorum { voters: 1, healthy: 0, needed: 1 }]);
}

/// By enumeration of all sets of voters: is there one, all healthy, that is more than half of all?
fn quorate(voters: &[bool]) -> bool {
    (0u32..1 << voters.len()).any(|set| {
        let chosen = |i: usize| set & (1 << i) != 0;
        let all_healthy = (0..voters.len()).all(|i| !chosen(i) || voters[i]);
        all_healthy && 2 * (0..voters.len()).filter(|i| chosen(*i)).count() > voters.len()
    })
}

#[test]
fn a_dead_learner_is_never_promoted() {
    let mut case = Case::voters(3, 5);
    case.facts.members.push(member(4, true, true));
    case.synced.insert("4".into());
    assert_eq!(case.ask(&promote(4)), []);
    case.dead.insert("4".into());
    assert_eq!(case.ask(&promote(4)), [Refusal::DeadLearner("4".into())]);
}

#[test]
fn machines_that_stop_together_are_counted_together() {
    let mut case = Case::voters(5, 5);
    case.facts.members.push(member(6, true, true));
    let ask = |case: &Case, names: &[&str]| {
        let world = World {
            facts: &case.facts,
            declared: case.declared,
            synced: &case.synced,
            dead: &case.dead,
            since_restart: case.since_restart,
            settle: SETTLE,
        };
        may_stop_nodes(&world, &names.iter().map(|n| (*n).to_owned()).collect())
    };
    assert_eq!(ask(&case, &["n2"]), [Refusal::OtherLearner("6".into())]);
    assert_eq!(ask(&case, &["n2", "n3", "n6"]), []);
    case.facts.members.pop();
    assert_eq!(ask(&case, &["n2", "n3"]), []);
    assert_eq!(ask(&case, &["n2", "n3", "n4"]), [Refusal::Quorum { voters: 5, healthy: 2, needed: 3 }]);
    assert_eq!(ask(&case, &["n1", "n2"]), [Refusal::Leader("1".into())]);
    case.facts.members[4].healthy = false;
    assert_eq!(ask(&case, &["n2", "n3"]), [Refusal::Quorum { voters: 5, healthy: 2, needed: 3 }]);
    assert_eq!(ask(&case, &["n2", "n5"]), [], "who is down already is not lost twice");
    case.facts.leader = None;
    assert_eq!(ask(&case, &["elsewhere"]), [], "no member of it");
    assert_eq!(ask(&case, &["n2"]), [Refusal::NoLeader]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    // fault: F40 invariant: I4 harness: D
    /// Whatever is let through leaves a quorum of healthy voters on the membership that results.
    #[test]
    fn what_is_let_through_keeps_a_quorum(
        voters in vec((any::<bool>(), any::<bool>()), 1..7),
        learner in any::<Option<(bool, bool)>>(),
        declared in 1usize..8,
        what in 0usize..4,
        which in 1usize..9,
    ) {
        let mut case = Case::voters(0, declared);
        for (i, (healthy, dead)) in voters.iter().enumerate() {
            case.facts.members.push(member(i + 1, false, *healthy));
            if *dead {
                case.dead.insert(format!("{:x}", i + 1));
            }
        }
        let learner_id = voters.len() + 1;
        if let Some((synced, healthy)) = learner {
            case.facts.members.push(member(learner_id, true, healthy));
            if synced {
                case.synced.insert(format!("{learner_id:x}"));
            }
        }
        let change = [add(9), promote(which), remove(which), stop(which)][what].clone();
        let refused = case.ask(&change);

        let mut after: Vec<(usize, bool)> =
            voters.iter().enumerate().map(|(i, (healthy, dead))| (i + 1, *healthy && !*dead)).collect();
        match &change {
            Change::AddLearner { .. } => {}
            Change::Promote { .. } => after.push((which, learner.is_some_and(|(synced, _)| synced))),
            Change::Remove { .. } => after.retain(|(id, _)| *id != which),
            Change::Stop { .. } => after.iter_mut().filter(|(id, _)| *id == which).for_each(|v| v.1 = false),
        }
        let flags: Vec<bool> = after.iter().map(|(_, h)| *h).collect();
        let before: Vec<bool> = voters.iter().map(|(healthy, dead)| *healthy && !*dead).collect();
        let keeps = quorate(&flags) && quorate(&before);
        if refused.is_empty() {
            prop_assert!(keeps, "let through {change:?} with {:?}", case.facts);
        }
        // And the guard does not cry quorum where there is one: checked where the change is possible at all.
        let possible = match &change {
            Change::AddLearner { .. } => true,
            Change::Promote { .. } => learner.is_some() && which == learner_id,
            _ => which <= voters.len(),
        };
        let cries = refused.iter().any(|r| matches!(r, Refusal::Quorum { .. } | Refusal::NoQuorum { .. } | Refusal::LastVoter));
        if possible {
            prop_assert_eq!(cries, !keeps, "{:?} gives {:?}", change, refused);
        }
    }
}
