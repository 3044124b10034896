//! The quorum guard held against a second writing of its rules. The reference below shares no code with
//! `plan::quorum`: it has its own picture of a cluster, counts majorities by trying every set of voters, and says
//! each rule in the words of the design. The guard may never let through what the reference forbids, and may
//! forbid hardly anything that the reference lets through.

// Helpers of tests are tests; clippy's own exception knows only functions with the attribute.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use rackctl::{
    model::facts::{ClusterFacts, MemberFacts},
    plan::quorum::{self, Change, Refusal, World},
};

/// Memberships that the ordinary suite compares: ten to fifteen seconds in the dev profile.
const CASES: u64 = 1_000_000;
const SETTLE_MS: u64 = 5_000;
/// The guard may refuse this share of what the reference allows.
const STRICTER_MAX: f64 = 0.01;

// ---- The reference ---------------------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seat {
    id: u8,
    /// It has started once, and so told its name.
    started: bool,
    votes: bool,
    answers: bool,
    dead: bool,
    synced: bool,
}

#[derive(Clone, Debug)]
struct Picture {
    seats: Vec<Seat>,
    leader: Option<u8>,
    alarms: u8,
    restarted_ms_ago: Option<u64>,
    declared: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Deed {
    Add { url_of: u8 },
    Promote(u8),
    Remove(u8),
    Stop(u8),
    StopTogether(Vec<u8>),
}

/// Can these voters, of which `up` are there, ever agree? Every set of them is tried: one that is wholly up and
/// outnumbers all others agrees.
fn can_agree(up: &[bool]) -> bool {
    (0u32..(1 << up.len())).any(|set| {
        let (mut inside, mut outside, mut whole) = (0, 0, true);
        for (i, is_up) in up.iter().enumerate() {
            if set >> i & 1 == 1 {
                inside += 1;
                whole &= *is_up;
            } else {
                outside += 1;
            }
        }
        whole && inside > outside
    })
}

fn up(seat: &Seat) -> bool {
    seat.answers && seat.started && !seat.dead
}

/// The rules that the deed breaks, each in a few words.
fn broken(picture: &Picture, deed: &Deed) -> BTreeSet<&'static str> {
    let mut rules = BTreeSet::new();
    let touched: Vec<u8> = match deed {
        Deed::Add { .. } => vec![],
        Deed::Promote(id) | Deed::Remove(id) | Deed::Stop(id) => vec![*id],
        // By name: what never started has none, and what is in no list is nobody's concern.
        Deed::StopTogether(ids) => {
            ids.iter().copied().filter(|id| picture.seats.iter().any(|s| s.id == *id && s.started)).collect()
        }
    };
    if matches!(deed, Deed::StopTogether(_)) && touched.is_empty() {
        return rules;
    }
    // "Refuses while another learner or an unnamed member exists"
    for other in picture.seats.iter().filter(|s| !touched.contains(&s.id)) {
        match (other.started, other.votes) {
            (false, _) => drop(rules.insert("an unnamed member exists")),
            (true, false) => drop(rules.insert("another learner exists")),
            (true, true) => {}
        }
    }
    // "while any alarm is raised"
    if picture.alarms != 0 {
        rules.insert("an alarm is raised");
    }
    // "within the settle time after the last restart"
    if matches!(picture.restarted_ms_ago, Some(ms) if ms < SETTLE_MS) {
        rules.insert("a member was restarted just now");
    }
    // F40, and "without quorum put and get time out": nothing is changed where nobody can agree.
    let led = picture.leader.is_some_and(|id| picture.seats.iter().any(|s| s.id == id && s.votes && !s.dead));
    if !led {
        rules.insert("nobody leads");
    }
    let now: Vec<bool> = picture.seats.iter().filter(|s| s.votes).map(up).collect();
    if !can_agree(&now) {
        rules.insert("no quorum as it stands");
    }
    // The target: the voters that are there after the deed, and whether each is up then.
    let mut target: BTreeMap<u8, bool> = picture.seats.iter().filter(|s| s.votes).map(|s| (s.id, up(s))).collect();
    let mut two_is_fine = true;
    let seat = |id: u8| picture.seats.iter().find(|s| s.id == id);
    match deed {
        Deed::Add { url_of } => {
            // "Peer URLs already exists"
            if seat(*url_of).is_some() {
                rules.insert("the peer URL exists");
            }
            // "member add (also --learner) is refused while any voter has not been connected"
            if target.values().any(|up| !up) {
                rules.insert("a voter is not connected");
            }
        }
        Deed::Promote(id) => match seat(*id) {
            None => drop(rules.insert("member not found")),
            // "can only promote a learner member"
            Some(s) if s.votes => drop(rules.insert("not a learner")),
            Some(s) => {
                // "A new member counts as unhealthy until it is a learner verified in sync, which may then be promoted"
                let fit = s.started && s.synced && !s.dead;
                if !fit {
                    rules.insert("the learner is not verified in sync");
                }
                target.insert(*id, fit);
                // "Two voters are passed through on the way up to the declared size"
                two_is_fine = picture.declared != 1;
            }
        },
        Deed::Remove(id) => match seat(*id) {
            None => drop(rules.insert("member not found")),
            Some(s) if s.votes => {
                target.remove(id);
                // "move leader away → remove old"
                if picture.leader == Some(*id) && !target.is_empty() {
                    rules.insert("it leads");
                }
                // "or when a voter proven dead is removed, and refused as an end state unless declared"
                two_is_fine = s.dead || picture.declared == 2;
            }
            Some(_) => {}
        },
        Deed::Stop(_) | Deed::StopTogether(_) => {
            if matches!(deed, Deed::Stop(id) if seat(*id).is_none()) {
                rules.insert("member not found");
            }
            for id in &touched {
                // F47: "leader is the victim: move-leader first"
                if picture.leader == Some(*id) && target.len() > 1 && target.contains_key(id) {
                    rules.insert("it leads");
                }
                target.entry(*id).and_modify(|up| *up = false);
            }
        }
    }
    let after: Vec<bool> = target.values().copied().collect();
    if !can_agree(&after) {
        rules.insert("no quorum afterwards");
    }
    // Only a deed that makes it two has to answer for two.
    if after.len() == 2 && now.len() != 2 && !two_is_fine {
        rules.insert("two voters as an end");
    }
    rules
}

// ---- The guard, asked about the same picture -------------------------------------------------------------------

fn url(id: u8) -> String {
    format!("http://10.0.0.{id}:2380")
}
fn hex(id: u8) -> String {
    format!("{:x}", 0xa000 + u32::from(id))
}
fn name(id: u8) -> String {
    format!("n{id}")
}

/// Everything that the guard is given, owned.
struct Given {
    facts: ClusterFacts,
    synced: BTreeSet<String>,
    dead: BTreeSet<String>,
    since_restart: Option<Duration>,
    declared: usize,
}

impl Given {
    fn of(picture: &Picture) -> Given {
        let ids = |want: fn(&Seat) -> bool| picture.seats.iter().filter(|s| want(s)).map(|s| hex(s.id)).collect();
        let member = |s: &Seat| MemberFacts {
            id: hex(s.id),
            name: if s.started { name(s.id) } else { String::new() },
            peer_urls: vec![url(s.id)],
            client_urls: vec![],
            learner: !s.votes,
            healthy: s.answers,
            version: None,
            raft_index: None,
        };
        Given {
            facts: ClusterFacts {
                cluster_id: "c".into(),
                members: picture.seats.iter().map(member).collect(),
                leader: picture.leader.map(hex),
                alarms: (0..picture.alarms).map(|i| format!("NOSPACE on member {i}")).collect(),
            },
            synced: ids(|s| s.synced),
            dead: ids(|s| s.dead),
            since_restart: picture.restarted_ms_ago.map(Duration::from_millis),
            declared: picture.declared,
        }
    }

    fn ask(&self, deed: &Deed) -> Vec<Refusal> {
        let world = World {
            facts: &self.facts,
            declared: self.declared,
            synced: &self.synced,
            dead: &self.dead,
            since_restart: self.since_restart,
            settle: Duration::from_millis(SETTLE_MS),
        };
        let change = match deed {
            Deed::Add { url_of } => Change::AddLearner { peer_url: url(*url_of) },
            Deed::Promote(id) => Change::Promote { id: hex(*id) },
            Deed::Remove(id) => Change::Remove { id: hex(*id) },
            Deed::Stop(id) => Change::Stop { id: hex(*id) },
            Deed::StopTogether(ids) => {
                return quorum::may_stop_nodes(&world, &ids.iter().map(|id| name(*id)).collect());
            }
        };
        quorum::refusals(&world, &change)
    }
}

fn asked(picture: &Picture, deed: &Deed) -> Vec<Refusal> {
    Given::of(picture).ask(deed)
}

// ---- Pictures at random ----------------------------------------------------------------------------------------

/// SplitMix64: the same cases on every host.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
    fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }
}

/// One to nine members. Faults are rare enough that many pictures let something through, and common enough that
/// each stands alone and together with each other in thousands of them.
fn picture(dice: &mut Dice) -> (Picture, Deed) {
    let size = 1 + dice.below(9) as u8;
    let learners = match dice.below(20) {
        0..12 => 0,
        12..19 => 1,
        _ => 2,
    };
    let ill = [0, 0, 15, 50][dice.below(4) as usize];
    let mut seats = Vec::new();
    for id in 1..=size {
        let votes = size < 2 || u64::from(size - id) >= learners;
        let answers = !dice.percent(ill);
        seats.push(Seat {
            id,
            started: !dice.percent(if votes { 1 } else { 15 }),
            votes,
            answers,
            dead: dice.percent(if answers { 1 } else { 50 }),
            synced: dice.percent(if votes { 5 } else { 70 }),
        });
    }
    let leader = match dice.below(100) {
        0..4 => None,
        4..7 => Some(1 + dice.below(12) as u8),
        7..30 => Some(1 + dice.below(u64::from(size)) as u8),
        _ => seats.iter().find(|s| s.votes && up(s)).map(|s| s.id),
    };
    let picture = Picture {
        leader,
        alarms: if dice.percent(4) { 1 + dice.below(2) as u8 } else { 0 },
        restarted_ms_ago: match dice.below(10) {
            0 => Some(dice.below(2 * SETTLE_MS)),
            1 => Some(SETTLE_MS - 1 + dice.below(3)),
            2..5 => Some(SETTLE_MS + dice.below(100_000)),
            _ => None,
        },
        declared: if dice.percent(50) {
            1 + dice.below(9) as usize
        } else {
            (usize::from(size) + dice.below(3) as usize).saturating_sub(1).max(1)
        },
        seats,
    };
    let anyone = |dice: &mut Dice| {
        let nobody = u64::from(dice.percent(3));
        1 + dice.below(u64::from(size) + nobody) as u8
    };
    let deed = match dice.below(5) {
        0 => Deed::Add { url_of: if dice.percent(90) { 200 } else { anyone(dice) } },
        1 => Deed::Promote(if dice.percent(80) { size } else { anyone(dice) }),
        2 => Deed::Remove(anyone(dice)),
        3 => Deed::Stop(anyone(dice)),
        _ => Deed::StopTogether((0..=dice.below(4)).map(|_| anyone(dice)).collect()),
    };
    (picture, deed)
}

// fault: F40 F47 F48 invariant: I4 harness: D
#[test]
fn a_million_memberships_agree_with_the_reference() {
    let began = Instant::now();
    let (mut allowed, mut laxer, mut stricter) = (0u64, Vec::new(), 0u64);
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    let mut dice = Dice(1);
    for _ in 0..CASES {
        let (picture, deed) = picture(&mut dice);
        let (rules, refused) = (broken(&picture, &deed), asked(&picture, &deed));
        for rule in &rules {
            *seen.entry(rule).or_default() += 1;
        }
        allowed += u64::from(rules.is_empty());
        match (rules.is_empty(), refused.is_empty()) {
            (false, true) => laxer.push(format!("{deed:?} breaks {rules:?}: {picture:?}")),
            (true, false) => {
                stricter += 1;
                for reason in refused {
                    let word: String = format!("{reason:?}").chars().take_while(|c| c.is_alphanumeric()).collect();
                    *reasons.entry(word).or_default() += 1;
                }
            }
            _ => {}
        }
    }
    let share = stricter as f64 / allowed as f64;
    println!(
        "{CASES} memberships in {:.1} s: {allowed} allowed by the reference, {} laxer, {stricter} stricter \
         ({:.3} % of those allowed: {reasons:?}); rules broken: {seen:?}",
        began.elapsed().as_secs_f64(),
        laxer.len(),
        100.0 * share
    );
    assert_eq!(laxer.len(), 0, "the guard lets through, for one, {}", laxer[0]);
    assert!(share <= STRICTER_MAX, "{:.3} % of what is allowed is refused: {reasons:?}", 100.0 * share);
    // A comparison of refusals alone, or one that never meets a rule, would show nothing.
    assert!(allowed > CASES / 10, "only {allowed} were allowed");
    for rule in [
        "an unnamed member exists",
        "another learner exists",
        "an alarm is raised",
        "a member was restarted just now",
        "nobody leads",
        "no quorum as it stands",
        "the peer URL exists",
        "a voter is not connected",
        "member not found",
        "not a learner",
        "the learner is not verified in sync",
        "it leads",
        "no quorum afterwards",
        "two voters as an end",
    ] {
        assert!(seen.get(rule).is_some_and(|n| *n > 100), "the rule `{rule}` was hardly met: {seen:?}");
    }
}

// ---- What the design names, by name ----------------------------------------------------------------------------

fn voter(id: u8) -> Seat {
    Seat { id, started: true, votes: true, answers: true, dead: false, synced: false }
}
fn learner(id: u8) -> Seat {
    Seat { votes: false, synced: true, ..voter(id) }
}

/// Healthy voters, the first of which leads.
fn healthy(voters: u8, declared: usize) -> Picture {
    let seats = (1..=voters).map(voter).collect();
    Picture { seats, leader: Some(1), alarms: 0, restarted_ms_ago: None, declared }
}

/// Both say so.
fn refused(picture: &Picture, deed: &Deed) -> Vec<Refusal> {
    let refusals = asked(picture, deed);
    assert!(!refusals.is_empty(), "the guard lets {deed:?} through");
    assert!(!broken(picture, deed).is_empty(), "the reference lets {deed:?} through");
    refusals
}

fn let_through(picture: &Picture, deed: &Deed) {
    assert_eq!(asked(picture, deed), [], "{deed:?}");
    assert_eq!(broken(picture, deed), BTreeSet::new(), "{deed:?}");
}

// invariant: I4 harness: D
#[test]
fn one_grows_to_two_three_and_five() {
    let mut picture = healthy(1, 5);
    for id in 2..=5 {
        let_through(&picture, &Deed::Add { url_of: id });
        picture.seats.push(Seat { started: false, synced: false, answers: false, ..learner(id) });
        refused(&picture, &Deed::Promote(id));
        picture.seats[usize::from(id) - 1] = Seat { synced: false, ..learner(id) };
        refused(&picture, &Deed::Promote(id));
        picture.seats[usize::from(id) - 1] = learner(id);
        let_through(&picture, &Deed::Promote(id));
        picture.seats[usize::from(id) - 1] = voter(id);
    }
}

// invariant: I4 harness: D
#[test]
fn a_member_is_replaced_by_a_spare_without_losing_tolerance() {
    let mut picture = healthy(3, 3);
    let_through(&picture, &Deed::Add { url_of: 4 });
    picture.seats.push(learner(4));
    let_through(&picture, &Deed::Promote(4));
    picture.seats[3] = voter(4);
    assert!(refused(&picture, &Deed::Remove(1)).contains(&Refusal::Leader(hex(1))));
    picture.leader = Some(2);
    let_through(&picture, &Deed::Remove(1));
}

// fault: F42 invariant: I4 harness: D
#[test]
fn a_dead_member_is_removed_first_and_replaced_then() {
    let mut picture = healthy(3, 3);
    picture.seats[2] = Seat { answers: false, ..voter(3) };
    // Not proven dead: three would end as two.
    assert_eq!(refused(&picture, &Deed::Remove(3)), [Refusal::TwoVoters]);
    assert_eq!(refused(&picture, &Deed::Add { url_of: 4 }), [Refusal::UnhealthyVoter(hex(3))]);
    picture.seats[2].dead = true;
    let_through(&picture, &Deed::Remove(3));
    picture.seats.pop();
    let_through(&picture, &Deed::Add { url_of: 4 });
    picture.seats.push(learner(4));
    let_through(&picture, &Deed::Promote(4));
}

// fault: F48 invariant: I4 harness: D
#[test]
fn an_alarm_refuses_everything() {
    let mut picture = healthy(3, 5);
    picture.alarms = 1;
    for deed in [Deed::Add { url_of: 4 }, Deed::Remove(3), Deed::Stop(3), Deed::StopTogether(vec![3])] {
        assert!(refused(&picture, &deed).iter().any(|r| matches!(r, Refusal::Alarm(_))), "{deed:?}");
    }
}

// fault: F40 invariant: I4 harness: D
#[test]
fn without_a_leader_or_a_quorum_nothing_is_touched() {
    let mut picture = healthy(3, 5);
    picture.leader = None;
    let deeds = [Deed::Add { url_of: 4 }, Deed::Remove(3), Deed::Stop(3), Deed::StopTogether(vec![3])];
    for deed in &deeds {
        assert!(refused(&picture, deed).contains(&Refusal::NoLeader), "{deed:?}");
    }
    // Two of four: the removal of one would make it two of three, and cannot be agreed on.
    let mut even = healthy(4, 3);
    (even.seats[2].answers, even.seats[3].answers) = (false, false);
    even.seats[3].dead = true;
    let lost = Refusal::NoQuorum { voters: 4, healthy: 2, needed: 3 };
    for deed in [Deed::Add { url_of: 5 }, Deed::Remove(4), Deed::Stop(2)] {
        assert!(refused(&even, &deed).contains(&lost), "{deed:?}");
    }
}

// invariant: I4 harness: D
#[test]
fn within_the_settle_time_nothing_is_touched() {
    let mut picture = healthy(3, 5);
    for (ms, quiet) in [(0, false), (SETTLE_MS - 1, false), (SETTLE_MS, true)] {
        picture.restarted_ms_ago = Some(ms);
        match quiet {
            false => assert!(matches!(refused(&picture, &Deed::Stop(3))[..], [Refusal::Settling { .. }])),
            true => let_through(&picture, &Deed::Stop(3)),
        }
    }
}

// invariant: I4 harness: D
#[test]
fn another_learner_or_an_unnamed_member_is_waited_for() {
    let mut picture = healthy(4, 5);
    picture.seats.push(learner(5));
    for deed in [Deed::Add { url_of: 6 }, Deed::Remove(3), Deed::Stop(3)] {
        assert_eq!(refused(&picture, &deed), [Refusal::OtherLearner(hex(5))], "{deed:?}");
    }
    picture.seats[4].started = false;
    for deed in [Deed::Add { url_of: 6 }, Deed::Remove(3), Deed::Stop(3)] {
        assert_eq!(refused(&picture, &deed), [Refusal::Unnamed(hex(5))], "{deed:?}");
    }
    // F41, F46: a learner that is stuck, or was added and never started, can be taken out again.
    let_through(&picture, &Deed::Remove(5));
}

// fault: F47 invariant: I4 harness: D
#[test]
fn the_leader_is_never_the_victim() {
    let picture = healthy(3, 3);
    for deed in [Deed::Stop(1), Deed::StopTogether(vec![1]), Deed::Remove(1)] {
        assert!(refused(&picture, &deed).contains(&Refusal::Leader(hex(1))), "{deed:?}");
    }
    let_through(&picture, &Deed::Stop(2));
}

// invariant: I4 harness: D
#[test]
fn two_voters_are_passed_through_and_are_no_end() {
    let mut up = healthy(1, 1);
    up.seats.push(learner(2));
    assert_eq!(refused(&up, &Deed::Promote(2)), [Refusal::TwoVoters]);
    for declared in [2, 3] {
        up.declared = declared;
        let_through(&up, &Deed::Promote(2));
    }
    assert_eq!(refused(&healthy(3, 3), &Deed::Remove(3)), [Refusal::TwoVoters]);
    let_through(&healthy(3, 2), &Deed::Remove(3));
}

// fault: F41 invariant: I4 harness: D
#[test]
fn a_learner_votes_only_when_it_is_named_in_sync_and_alive() {
    for seat in [
        Seat { started: false, ..learner(4) },
        Seat { synced: false, ..learner(4) },
        Seat { dead: true, answers: false, ..learner(4) },
        voter(4),
    ] {
        let mut picture = healthy(3, 5);
        picture.seats.push(seat);
        refused(&picture, &Deed::Promote(4));
    }
    assert!(refused(&healthy(3, 5), &Deed::Promote(4)).contains(&Refusal::UnknownMember(hex(4))));
    // A new voter counts at once: of four, three must be there, and one is missing already.
    let mut picture = healthy(3, 5);
    picture.seats[1].answers = false;
    picture.seats.push(Seat { dead: true, ..learner(4) });
    assert!(refused(&picture, &Deed::Promote(4)).contains(&Refusal::Quorum { voters: 4, healthy: 2, needed: 3 }));
}

// fault: F46 invariant: I4 harness: D
#[test]
fn a_peer_url_is_given_once() {
    assert_eq!(refused(&healthy(3, 5), &Deed::Add { url_of: 2 }), [Refusal::PeerUrlTaken { by: hex(2) }]);
}

// invariant: I4 harness: D
#[test]
fn the_last_voter_and_the_last_majority_stay() {
    assert_eq!(refused(&healthy(1, 1), &Deed::Remove(1)), [Refusal::LastVoter]);
    assert_eq!(refused(&healthy(1, 1), &Deed::Stop(1)), [Refusal::Quorum { voters: 1, healthy: 0, needed: 1 }]);
    let many = Deed::StopTogether(vec![2, 3, 4]);
    assert_eq!(refused(&healthy(5, 5), &many), [Refusal::Quorum { voters: 5, healthy: 2, needed: 3 }]);
    let_through(&healthy(5, 5), &Deed::StopTogether(vec![2, 3]));
}
