//! One session as a state machine: (now, event) → (packets, outcomes, next deadline). No clock, no socket, no chance.
//!
//! The handshake stands in [`super::handshake`]. Retransmission has limits with names; answers that are late, twice or
//! nobody's are dropped and counted; a session that was opened is closed on every way out.

use std::{sync::Arc, time::Duration};

use super::{
    completion::Completion,
    crypto::{Exchange, Keys, MAX_PASSWORD_BYTES, MAX_USER_BYTES, Random, Suite},
    fault::Fault,
    message::{CONSOLE, Command, Effect, Message},
    rakp::Privilege,
    rmcp::{self, MAX_PAYLOAD_BYTES, Packet, Payload, Plus},
};
use crate::model::Secret;

/// What is waited after each sending of the same thing: ten seconds in all, as for a TCP connection.
pub const WAITS: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(3), Duration::from_secs(4)];
/// An Open Session with more suites to come is tried less: some BMCs do not answer to suites that they lack.
pub(super) const WAITS_OF_A_SUITE: usize = 2;
/// The log-out must not hold anybody up.
const WAITS_OF_CLOSE: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(1000)];
/// Inbound packets that may arrive after a later one (6.12.13 asks for 16 at least).
const WINDOW: u32 = 32;

/// Who logs in.
#[derive(Clone)]
pub struct Login {
    pub(super) user: Vec<u8>,
    pub(super) password: Arc<Secret>,
}

impl Login {
    /// # Errors
    /// More bytes than IPMI carries: a BMC would compare the beginning alone.
    pub fn new(user: &str, password: Arc<Secret>) -> Result<Login, Fault> {
        if user.len() > MAX_USER_BYTES {
            return Err(Fault::UserTooLong(user.to_owned()));
        }
        if password.expose().len() > MAX_PASSWORD_BYTES {
            return Err(Fault::PasswordTooLong);
        }
        Ok(Login { user: user.as_bytes().to_vec(), password })
    }
}

pub enum Event<'a> {
    /// Open the session.
    Start,
    Datagram(&'a [u8]),
    /// The deadline of the last [`Step`] has come.
    Tick,
    Ask(&'a Command),
    /// A payload of serial over LAN, with the session's protection around it. Not sent again by this layer.
    Sol(&'a [u8]),
    Close,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Opened {
        suite: Suite,
        privilege: Privilege,
    },
    /// To the last [`Event::Ask`]: its data without the completion code.
    Answered(Result<Vec<u8>, Fault>),
    Sol(Vec<u8>),
    /// No session any more; `None`: closed as asked.
    Ended(Option<Fault>),
}

/// What is to be done now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    pub packets: Vec<Vec<u8>>,
    pub outcomes: Vec<Outcome>,
    /// When [`Event::Tick`] is due; `None`: nothing is waited for.
    pub wake: Option<Duration>,
}

#[derive(Debug)]
pub(super) enum Stage {
    New,
    Asking,
    /// Open Session is sent.
    Opening(Exchange),
    /// RAKP 1 is sent.
    Greeting(Exchange),
    /// RAKP 3 is sent.
    Proving(Exchange),
    /// Set Session Privilege Level is sent.
    Raising,
    Open,
    Closing,
    Ended,
}

/// What waits for an answer.
pub(super) struct Flight {
    what: Flying,
    pub name: &'static str,
    pub tries: u32,
    waits: &'static [Duration],
    began: Duration,
    due: Duration,
}

enum Flying {
    /// Sent again as it is.
    Packet(Vec<u8>),
    /// Sealed anew each time.
    Request { command: Command, sequence: u8 },
}

/// An opened session.
pub(super) struct Link {
    pub keys: Keys,
    pub console_session: u32,
    pub bmc_session: u32,
    sent: u32,
    window: Window,
}

impl Link {
    pub fn new(keys: Keys, exchange: &Exchange) -> Link {
        Link {
            keys,
            console_session: exchange.console_session,
            bmc_session: exchange.bmc_session,
            sent: 0,
            window: Window::default(),
        }
    }
}

/// Which sequence numbers were seen: each is taken once. Packets are authenticated, so a jump ahead is the BMC's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    highest: u32,
    seen: u32,
}

impl Window {
    pub fn take(&mut self, number: u32) -> bool {
        if number == 0 {
            return false;
        }
        if number > self.highest {
            let jump = number - self.highest;
            self.seen = self.seen.checked_shl(jump).unwrap_or(0) | 1;
            self.highest = number;
            return true;
        }
        let behind = self.highest - number;
        if behind >= WINDOW || self.seen & (1 << behind) != 0 {
            return false;
        }
        self.seen |= 1 << behind;
        true
    }
}

pub struct Session {
    pub(super) login: Login,
    pub(super) random: Random,
    pub(super) stage: Stage,
    pub(super) flight: Option<Flight>,
    pub(super) link: Option<Link>,
    /// Suites that are still to be tried, the present one first.
    pub(super) suites: &'static [Suite],
    pub(super) privilege: Privilege,
    pub(super) tag: u8,
    /// Handshakes begun anew after the password had been proven.
    pub(super) restarts: u32,
    sequence: u8,
    /// An answer to what flies came with a number that was used before.
    misnumbered: bool,
    /// Packets that were nobody's, broken, late or twice.
    pub dropped: u64,
}

impl Session {
    pub fn new(login: Login, seed: [u8; 32]) -> Session {
        Session {
            login,
            random: Random::new(seed),
            stage: Stage::New,
            flight: None,
            link: None,
            suites: &Suite::ALL,
            privilege: Privilege::Administrator,
            tag: 0,
            restarts: 0,
            sequence: 0,
            misnumbered: false,
            dropped: 0,
        }
    }

    /// Only these suites, in this order.
    pub fn with_suites(self, suites: &'static [Suite]) -> Session {
        Session { suites, ..self }
    }

    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open)
    }

    pub fn handle(&mut self, now: Duration, event: Event<'_>) -> Step {
        let mut step = Step::default();
        match event {
            Event::Start => {
                if matches!(self.stage, Stage::New) {
                    self.begin(now, &mut step);
                }
            }
            Event::Datagram(bytes) => self.received(now, bytes, &mut step),
            Event::Tick => self.tick(now, &mut step),
            Event::Ask(command) => self.ask(now, command, &mut step),
            Event::Sol(payload) => {
                if self.is_open() && payload.len() <= MAX_PAYLOAD_BYTES / 2 {
                    step.packets.extend(self.seal(Payload::Sol, payload));
                }
            }
            Event::Close => self.close(now, &mut step),
        }
        step.wake = self.flight.as_ref().map(|flight| flight.due);
        step
    }

    /// Something that is sent as it is until it is answered.
    pub(super) fn fly(&mut self, now: Duration, name: &'static str, packet: Vec<u8>, tries: usize, step: &mut Step) {
        let waits = WAITS.get(..tries.min(WAITS.len())).unwrap_or(&WAITS);
        self.launch(now, name, Flying::Packet(packet), waits, step);
    }

    fn launch(&mut self, now: Duration, name: &'static str, what: Flying, waits: &'static [Duration], step: &mut Step) {
        self.misnumbered = false;
        self.flight = Some(Flight { what, name, tries: 0, waits, began: now, due: now });
        self.send_flight(now, step);
    }

    pub(super) fn request(&mut self, now: Duration, command: Command, step: &mut Step) {
        self.sequence = (self.sequence + 1) & 0x3F;
        let waits: &'static [Duration] = if matches!(self.stage, Stage::Closing) { &WAITS_OF_CLOSE } else { &WAITS };
        let name = command.name;
        self.launch(now, name, Flying::Request { command, sequence: self.sequence }, waits, step);
    }

    /// Sends what flies (again), and says when the next time is.
    fn send_flight(&mut self, now: Duration, step: &mut Step) {
        let Some(mut flight) = self.flight.take() else { return };
        let wait = match &flight.what {
            // One that acts is sent once and waited for as long as the others are in all.
            Flying::Request { command, .. } if command.effect == Effect::Acts => flight.waits.iter().sum(),
            _ => flight.waits.get(flight.tries as usize).copied().unwrap_or_default(),
        };
        match &flight.what {
            Flying::Packet(packet) => step.packets.push(packet.clone()),
            Flying::Request { command, sequence } => {
                let message = Message::request(command, *sequence).encode();
                step.packets.extend(self.seal(Payload::Ipmi, &message));
            }
        }
        flight.tries += 1;
        flight.due = now + wait;
        self.flight = Some(flight);
    }

    fn seal(&mut self, kind: Payload, payload: &[u8]) -> Option<Vec<u8>> {
        let vector = self.random.block();
        let link = self.link.as_mut()?;
        link.sent = link.sent.checked_add(1).unwrap_or(1);
        Some(link.keys.seal(kind, link.bmc_session, link.sent, payload, vector))
    }

    fn tick(&mut self, now: Duration, step: &mut Step) {
        let Some(flight) = self.flight.as_ref().filter(|flight| flight.due <= now) else { return };
        let acts = matches!(&flight.what, Flying::Request { command, .. } if command.effect == Effect::Acts);
        if !acts && (flight.tries as usize) < flight.waits.len() {
            return self.send_flight(now, step);
        }
        let fault = Fault::NoAnswer {
            stage: flight.name,
            tries: flight.tries,
            seconds: now.saturating_sub(flight.began).as_secs(),
        };
        let name = flight.name;
        match &self.stage {
            Stage::Open if acts => {
                self.flight = None;
                step.outcomes.push(Outcome::Answered(Err(Fault::AnswerLost)));
            }
            Stage::Open => {
                let fault = if self.misnumbered { Fault::Misnumbered(name) } else { Fault::Dropped(name) };
                step.outcomes.push(Outcome::Answered(Err(fault.clone())));
                self.end(Some(fault), step);
            }
            Stage::Closing => self.end(None, step),
            _ => self.silent(now, fault, step),
        }
    }

    /// Nothing more is expected of the BMC; a session that is open is closed without waiting for its answer.
    pub(super) fn end(&mut self, fault: Option<Fault>, step: &mut Step) {
        self.flight = None;
        if self.link.is_some() && !matches!(self.stage, Stage::Closing) {
            step.packets.extend(self.farewell());
        }
        self.link = None;
        self.stage = Stage::Ended;
        step.outcomes.push(Outcome::Ended(fault));
    }

    /// Close Session as one packet, for whoever has no time to wait for its answer.
    pub fn farewell(&mut self) -> Option<Vec<u8>> {
        let id = self.link.as_ref()?.bmc_session;
        self.sequence = (self.sequence + 1) & 0x3F;
        let message = Message::request(&super::handshake::close_session(id), self.sequence).encode();
        self.seal(Payload::Ipmi, &message)
    }

    fn ask(&mut self, now: Duration, command: &Command, step: &mut Step) {
        match &self.stage {
            // A request that somebody stopped waiting for is forgotten: its answer will fit nothing.
            Stage::Open => self.request(now, command.clone(), step),
            _ => step.outcomes.push(Outcome::Answered(Err(Fault::Closed))),
        }
    }

    fn close(&mut self, now: Duration, step: &mut Step) {
        match (&self.stage, &self.link) {
            (Stage::Closing | Stage::Ended, _) => {}
            (_, Some(link)) => {
                let command = super::handshake::close_session(link.bmc_session);
                self.stage = Stage::Closing;
                self.request(now, command, step);
            }
            _ => self.end(None, step),
        }
    }

    fn received(&mut self, now: Duration, bytes: &[u8], step: &mut Step) {
        let taken = match rmcp::parse(bytes) {
            Ok(Packet::Bare(message)) => self.capabilities(now, message, step),
            Ok(Packet::Plus(plus)) if plus.session == 0 && !plus.encrypted => self.handshake(now, &plus, step),
            Ok(Packet::Plus(plus)) => self.protected(now, &plus, step),
            // Broken packets are not the session's end: anybody can send one.
            Ok(Packet::Ping { .. } | Packet::Pong { .. }) | Err(_) => false,
        };
        if !taken {
            self.dropped += 1;
        }
    }

    fn protected(&mut self, now: Duration, plus: &Plus<'_>, step: &mut Step) -> bool {
        let Some(link) = self.link.as_mut().filter(|link| link.console_session == plus.session) else { return false };
        let Ok(payload) = link.keys.open(plus) else { return false };
        if !link.window.take(plus.sequence) {
            let awaited = |message: Message| self.command_of(&message).is_some();
            self.misnumbered |= plus.kind == Payload::Ipmi && Message::decode(&payload).is_ok_and(awaited);
            return false;
        }
        match plus.kind {
            Payload::Sol if self.is_open() => {
                step.outcomes.push(Outcome::Sol(payload));
                true
            }
            Payload::Ipmi => Message::decode(&payload).is_ok_and(|message| self.answer(now, message, step)),
            _ => false,
        }
    }

    /// The command that waits, where this is its answer.
    fn command_of(&self, message: &Message) -> Option<&Command> {
        let Some(Flight { what: Flying::Request { command, sequence }, .. }) = &self.flight else { return None };
        let ours = message.to == CONSOLE
            && message.function == command.function | 1
            && message.command == command.number
            && message.sequence == *sequence;
        ours.then_some(command)
    }

    /// An answer to the request that waits, and to no other.
    fn answer(&mut self, now: Duration, message: Message, step: &mut Step) -> bool {
        let ours = self.command_of(&message).is_some();
        let (true, Some((code, data))) = (ours, message.data.split_first()) else { return false };
        let result = match Completion(*code) {
            Completion::OK => Ok(data.to_vec()),
            code => Err(Fault::Completed(code)),
        };
        self.flight = None;
        match self.stage {
            Stage::Raising => self.raised(now, result, step),
            Stage::Closing => self.end(None, step),
            _ => step.outcomes.push(Outcome::Answered(result)),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_ipmi_cannot_carry_is_refused_before_anything_is_sent() {
        let password = |n: usize| Arc::new(Secret::new("p".repeat(n)));
        assert!(Login::new(&"u".repeat(16), password(20)).is_ok());
        assert_eq!(Login::new(&"u".repeat(17), password(1)).err(), Some(Fault::UserTooLong("u".repeat(17))));
        assert_eq!(Login::new("u", password(21)).err(), Some(Fault::PasswordTooLong));
        assert_eq!(Login::new("u", password(200)).err(), Some(Fault::PasswordTooLong));
    }

    #[test]
    fn each_number_is_taken_once_and_late_ones_within_the_window() {
        let mut window = Window::default();
        let taken: Vec<bool> =
            [1, 2, 2, 5, 4, 4, 3, 0, 40, 8, 9, 100, u32::MAX, u32::MAX].map(|n| window.take(n)).into();
        assert_eq!(taken, [true, true, false, true, true, false, true, false, true, false, true, true, true, false]);
    }

    proptest! {
        #[test]
        fn no_number_is_taken_twice(numbers in proptest::collection::vec(0u32..80, 0..200)) {
            let (mut window, mut seen) = (Window::default(), std::collections::BTreeSet::new());
            for number in numbers {
                if window.take(number) {
                    prop_assert!(seen.insert(number));
                }
            }
        }
    }
}
