//! Both state machines on a network that loses, repeats and reorders packets by a seed, under a clock of numbers.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use super::super::sessions::{Arrived, Known, Sessions};
use crate::{
    bmc::ipmi::{
        Suite,
        chassis::{self, Control},
        crypto::Random,
        message::Command,
        rakp::Privilege,
        session::{Event, Login, Outcome, Session, Step},
    },
    model::Secret,
};

/// How bad the network is, of 256.
#[derive(Clone, Copy, Debug)]
struct Weather {
    lost: u8,
    twice: u8,
    late: u8,
}

struct World {
    console: Session,
    bmc: Sessions,
    weather: Weather,
    chance: Random,
    now: Duration,
    /// By arrival and a number that keeps them apart.
    wires: BTreeMap<(Duration, u64), (bool, Vec<u8>)>,
    count: u64,
    wake: Option<Duration>,
    outcomes: Vec<Outcome>,
    /// Commands that the BMC carried out.
    carried_out: Vec<Vec<u8>>,
}

impl World {
    fn new(seed: u8, weather: Weather, password: &str) -> World {
        let login = Login::new("root", std::sync::Arc::new(Secret::new(password.into()))).unwrap();
        World {
            console: Session::new(login, [seed; 32]),
            bmc: Sessions::new([seed ^ 0xFF; 32], [7; 16]),
            weather,
            chance: Random::new([seed ^ 0x5A; 32]),
            now: Duration::ZERO,
            wires: BTreeMap::new(),
            count: 0,
            wake: None,
            outcomes: Vec::new(),
            carried_out: Vec::new(),
        }
    }

    fn put(&mut self, towards_bmc: bool, packet: Vec<u8>) {
        let [lost, twice, late, by, ..] = self.chance.block();
        let copies = if lost < self.weather.lost {
            0
        } else if twice < self.weather.twice {
            2
        } else {
            1
        };
        for copy in 0..copies {
            let delay = 2 + u64::from(if late < self.weather.late { by } else { 0 }) + copy * 40;
            self.count += 1;
            self.wires.insert((self.now + Duration::from_millis(delay), self.count), (towards_bmc, packet.clone()));
        }
    }

    fn give(&mut self, event: Event<'_>) {
        let Step { packets, outcomes, wake } = self.console.handle(self.now, event);
        self.wake = wake;
        self.outcomes.extend(outcomes);
        for packet in packets {
            self.put(true, packet);
        }
    }

    fn at_bmc(&mut self, packet: &[u8]) {
        let look_up = |name: &[u8]| {
            (name == b"root").then(|| Known { password: b"secret".to_vec(), most: Privilege::Administrator })
        };
        let arrived = self.bmc.receive(self.now, packet, &Suite::ALL, Privilege::Administrator, look_up);
        let reply = match arrived {
            Arrived::Reply(packet) => Some(packet),
            Arrived::Bare(message) => {
                let answer = message.answer(0, &[1, 0x80, 4, 2, 0, 0, 0, 0]).encode();
                Some(crate::bmc::ipmi::rmcp::bare(&answer))
            }
            Arrived::Request { session, message } => {
                let (data, ends): (&[u8], bool) = match (message.function, message.command) {
                    (6, 0x3B) => (&[4], false),
                    (6, 0x3C) => (&[], true),
                    (0, 0x01) => (&[1, 0, 0], false),
                    _ => {
                        self.carried_out.push(message.data.clone());
                        (&[], false)
                    }
                };
                let answer = message.answer(0, data);
                let packet = self.bmc.reply(session, &message, &answer);
                if ends {
                    self.bmc.close(session);
                }
                packet
            }
            Arrived::Sol { .. } | Arrived::Nothing => None,
        };
        if let Some(packet) = reply {
            self.put(false, packet);
        }
    }

    /// Until there is an outcome.
    fn run(&mut self) -> Outcome {
        for _ in 0..10_000 {
            if !self.outcomes.is_empty() {
                return self.outcomes.remove(0);
            }
            let packet = self.wires.keys().next().copied();
            match (packet, self.wake) {
                (Some(key), wake) if wake.is_none_or(|wake| key.0 <= wake) => {
                    self.now = self.now.max(key.0);
                    let (towards_bmc, bytes) = self.wires.remove(&key).unwrap();
                    if towards_bmc {
                        self.at_bmc(&bytes);
                    } else {
                        self.give(Event::Datagram(&bytes));
                    }
                }
                (_, Some(wake)) => {
                    self.now = self.now.max(wake);
                    self.give(Event::Tick);
                }
                (_, None) => panic!("nothing is waited for and nothing came"),
            }
        }
        panic!("it does not end");
    }

    fn ask(&mut self, command: &Command) -> Outcome {
        self.give(Event::Ask(command));
        self.run()
    }
}

const FAIR: Weather = Weather { lost: 0, twice: 0, late: 0 };

#[test]
fn in_fair_weather_everything_is_sent_once() {
    let mut world = World::new(1, FAIR, "secret");
    world.give(Event::Start);
    assert_eq!(world.run(), Outcome::Opened { suite: Suite::Seventeen, privilege: Privilege::Administrator });
    assert_eq!(world.ask(&chassis::status()), Outcome::Answered(Ok(vec![1, 0, 0])));
    world.give(Event::Close);
    assert_eq!(world.run(), Outcome::Ended(None));
    assert_eq!((world.count, world.console.dropped), (14, 0), "seven questions and seven answers");
    assert_eq!(world.bmc.count(world.now), 0);
}

#[test]
fn a_wrong_password_is_found_before_it_is_sent_and_told_once() {
    let mut world = World::new(2, Weather { lost: 0, twice: 255, late: 0 }, "other");
    world.give(Event::Start);
    assert!(matches!(world.run(), Outcome::Ended(Some(crate::bmc::ipmi::Fault::WrongPassword))));
    while let Some(key) = world.wires.keys().next().copied() {
        let (towards_bmc, bytes) = world.wires.remove(&key).unwrap();
        if towards_bmc {
            world.at_bmc(&bytes);
        } else {
            world.give(Event::Datagram(&bytes));
        }
    }
    assert_eq!(world.bmc.wrong_passwords, 1);
    assert_eq!(world.bmc.count(world.now), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever the network does short of losing everything: the session opens, each question has its own answer, what
    /// acts is carried out at most once, and the end is an end.
    #[test]
    fn in_foul_weather_nothing_is_mixed_up(seed: u8, lost in 0u8..50, twice in 0u8..120, late in 0u8..160, acts in 0u8..4) {
        let mut world = World::new(seed, Weather { lost, twice, late }, "secret");
        world.give(Event::Start);
        match world.run() {
            Outcome::Opened { .. } => {}
            // Four packets of the same kind lost in a row: rare, and said.
            Outcome::Ended(Some(crate::bmc::ipmi::Fault::NoAnswer { .. } | crate::bmc::ipmi::Fault::NoSuite(_))) => return Ok(()),
            other => return Err(TestCaseError::fail(format!("{other:?}"))),
        }
        for number in 0..acts {
            match world.ask(&chassis::status()) {
                Outcome::Answered(Ok(data)) => prop_assert_eq!(data, vec![1, 0, 0]),
                Outcome::Answered(Err(crate::bmc::ipmi::Fault::Dropped(_))) => return Ok(()),
                other => return Err(TestCaseError::fail(format!("{other:?}"))),
            }
            let before = world.carried_out.len();
            let outcome = world.ask(&Control::Cycle.command());
            let after = world.carried_out.len();
            match outcome {
                Outcome::Answered(Ok(_)) => prop_assert_eq!(after, before + 1, "round {}", number),
                Outcome::Answered(Err(_)) => prop_assert!(after <= before + 1),
                other => return Err(TestCaseError::fail(format!("{other:?}"))),
            }
        }
        world.give(Event::Close);
        prop_assert_eq!(world.run(), Outcome::Ended(None));
    }
}
