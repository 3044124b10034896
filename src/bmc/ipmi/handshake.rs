//! From nothing to an open session: capabilities, Open Session, RAKP 1 to 4, privilege (IPMI 2.0, 13.15 to 13.24).
//!
//! A password is proven once. What the BMC says against it ends the log-in, whatever suites are left; suites follow
//! each other only where the BMC speaks about algorithms.

use std::time::Duration;

use super::{
    completion::Completion,
    crypto::{self, Exchange, Suite},
    fault::Fault,
    message::{CONSOLE, Command, Effect, Message, function},
    rakp::{NAME_ONLY, OpenRequest, OpenResponse, Privilege, Proof, Rakp1, Rakp2},
    rmcp::{self, Payload, Plus},
    session::{Link, Outcome, Session, Stage, Step, WAITS, WAITS_OF_A_SUITE},
    status::Status,
};

/// "The channel that this came by."
const THIS_CHANNEL: u8 = 0x0E;
/// Handshakes begun anew because packets were lost after the password had been proven.
const MAX_RESTARTS: u32 = 2;
pub const NAME_ASKING: &str = "Get Channel Authentication Capabilities";
const NAME_OPENING: &str = "Open Session";
const NAME_GREETING: &str = "RAKP 1";
const NAME_PROVING: &str = "RAKP 3";

/// App 0x38 (22.13), with the wish for the IPMI 2.0 data.
pub fn capabilities_request() -> Command {
    let data = [0x80 | THIS_CHANNEL, Privilege::Administrator.number()];
    Command::new(function::APP, 0x38, NAME_ASKING, Effect::Reads, data)
}

/// App 0x3B (22.18).
pub fn set_privilege(privilege: Privilege) -> Command {
    Command::new(function::APP, 0x3B, "Set Session Privilege Level", Effect::Reads, [privilege.number()])
}

/// App 0x3C (22.19).
pub fn close_session(id: u32) -> Command {
    Command::new(function::APP, 0x3C, "Close Session", Effect::Reads, id.to_le_bytes())
}

impl Session {
    pub(super) fn begin(&mut self, now: Duration, step: &mut Step) {
        self.stage = Stage::Asking;
        let message = Message::request(&capabilities_request(), 0).encode();
        self.fly(now, NAME_ASKING, rmcp::bare(&message), WAITS.len(), step);
    }

    pub(super) fn capabilities(&mut self, now: Duration, message: &[u8], step: &mut Step) -> bool {
        let Ok(message) = Message::decode(message) else { return false };
        let ours = message.to == CONSOLE && message.function == function::APP | 1 && message.command == 0x38;
        if !matches!(self.stage, Stage::Asking) || !ours {
            return false;
        }
        match message.data.as_slice() {
            // Channel, authentication types with the bit "IPMI 2.0 data follows", status, what the channel speaks.
            [0, _, types, _, speaks, ..] if types & 0x80 != 0 && speaks & 0x02 == 0 => {
                self.end(Some(Fault::NotIpmi2), step);
            }
            [0, _, types, ..] if types & 0x80 == 0 => self.end(Some(Fault::NotIpmi2), step),
            // A BMC of before IPMI 2.0 does not know the bit that was asked with.
            [code, ..] if matches!(Completion(*code), Completion::INVALID_FIELD | Completion::LENGTH) => {
                self.end(Some(Fault::NotIpmi2), step);
            }
            [0, ..] => self.open_session(now, step),
            [code, ..] => self.end(Some(Fault::Completed(Completion(*code))), step),
            [] => return false,
        }
        true
    }

    /// With the first of the suites that are left.
    fn open_session(&mut self, now: Duration, step: &mut Step) {
        let Some(suite) = self.suites.first().copied() else {
            return self.end(Some(Fault::NoSuite("no suite is left".into())), step);
        };
        let exchange = Exchange {
            suite,
            console_session: self.random.session_id(),
            bmc_session: 0,
            console_random: self.random.block(),
            bmc_random: [0; crypto::BLOCK],
            bmc_guid: [0; crypto::BLOCK],
            role: NAME_ONLY | self.privilege.number(),
            user: self.login.user.clone(),
        };
        let request = OpenRequest {
            tag: self.next_tag(),
            privilege: self.privilege.number(),
            console_session: exchange.console_session,
            algorithms: suite.algorithms(),
        };
        self.stage = Stage::Opening(exchange);
        let tries = if self.suites.len() > 1 { WAITS_OF_A_SUITE } else { WAITS.len() };
        self.fly(now, NAME_OPENING, rmcp::open(Payload::OpenRequest, &request.encode()), tries, step);
    }

    fn next_tag(&mut self) -> u8 {
        self.tag = self.tag.wrapping_add(1);
        self.tag
    }

    /// The next suite, where there is one.
    fn other_suite(&mut self, now: Duration, why: String, step: &mut Step) {
        match self.suites {
            [_, rest @ ..] if !rest.is_empty() => {
                self.suites = rest;
                self.open_session(now, step);
            }
            _ => self.end(Some(Fault::NoSuite(why)), step),
        }
    }

    /// No answer within the tries of the present stage.
    pub(super) fn silent(&mut self, now: Duration, fault: Fault, step: &mut Step) {
        match self.stage {
            Stage::Opening(_) if self.suites.len() > 1 => self.other_suite(now, fault.to_string(), step),
            // The BMC has proven that it knows the password: a packet was lost, nothing was refused.
            Stage::Proving(_) | Stage::Raising if self.restarts < MAX_RESTARTS => {
                self.restarts += 1;
                step.packets.extend(self.farewell());
                self.link = None;
                self.open_session(now, step);
            }
            _ => self.end(Some(fault), step),
        }
    }

    pub(super) fn handshake(&mut self, now: Duration, plus: &Plus<'_>, step: &mut Step) -> bool {
        match plus.kind {
            Payload::OpenResponse => {
                OpenResponse::decode(plus.payload).is_ok_and(|response| self.opened(now, &response, step))
            }
            Payload::Rakp2 => Rakp2::decode(plus.payload).is_ok_and(|two| self.greeted(now, two, step)),
            Payload::Rakp4 => Proof::decode(plus.payload).is_ok_and(|four| self.proven(now, &four, step)),
            _ => false,
        }
    }

    fn opened(&mut self, now: Duration, response: &OpenResponse, step: &mut Step) -> bool {
        let Stage::Opening(exchange) = &self.stage else { return false };
        if response.tag != self.tag || response.console_session != exchange.console_session {
            return false;
        }
        let Some((bmc_session, algorithms)) = response.granted else {
            self.refused(now, NAME_OPENING, response.status, step);
            return true;
        };
        let mut exchange = exchange.clone();
        if Suite::of(algorithms) != Some(exchange.suite) || bmc_session == 0 {
            self.end(Some(Fault::OtherAlgorithms), step);
            return true;
        }
        exchange.bmc_session = bmc_session;
        let one = Rakp1 {
            tag: self.next_tag(),
            bmc_session,
            random: exchange.console_random,
            role: exchange.role,
            user: exchange.user.clone(),
        };
        self.stage = Stage::Greeting(exchange);
        self.fly(now, NAME_GREETING, rmcp::open(Payload::Rakp1, &one.encode()), WAITS.len(), step);
        true
    }

    fn greeted(&mut self, now: Duration, two: Rakp2, step: &mut Step) -> bool {
        let Stage::Greeting(exchange) = &self.stage else { return false };
        if two.tag != self.tag || two.console_session != exchange.console_session {
            return false;
        }
        let Some(proof) = two.proof else {
            self.refused(now, NAME_GREETING, two.status, step);
            return true;
        };
        let exchange = Exchange { bmc_random: proof.random, bmc_guid: proof.guid, ..exchange.clone() };
        let password = self.login.password.expose().as_bytes();
        let agrees = crypto::same(&exchange.bmc_proof(password), &proof.code);
        let (status, code) = match agrees {
            true => (Status::OK, exchange.console_proof(password)),
            // The BMC is told, so that it frees what it keeps for this log-in (13.22).
            false => (Status::INVALID_INTEGRITY_CHECK, Vec::new()),
        };
        let three = Proof { tag: self.next_tag(), status, session: exchange.bmc_session, code };
        let packet = rmcp::open(Payload::Rakp3, &three.encode());
        if agrees {
            self.stage = Stage::Proving(exchange);
            self.fly(now, NAME_PROVING, packet, WAITS.len(), step);
        } else {
            step.packets.push(packet);
            self.end(Some(Fault::WrongPassword), step);
        }
        true
    }

    fn proven(&mut self, now: Duration, four: &Proof, step: &mut Step) -> bool {
        let Stage::Proving(exchange) = &self.stage else { return false };
        if four.tag != self.tag || four.session != exchange.console_session {
            return false;
        }
        if four.status != Status::OK {
            self.refused(now, NAME_PROVING, four.status, step);
            return true;
        }
        let password = self.login.password.expose().as_bytes();
        if !crypto::same(&exchange.bmc_check(password), &four.code) {
            self.end(Some(Fault::OtherBmcKey), step);
            return true;
        }
        self.link = Some(Link::new(exchange.keys(password), exchange));
        self.stage = Stage::Raising;
        self.request(now, set_privilege(self.privilege), step);
        true
    }

    /// A status that is no success: what it is about decides what follows.
    fn refused(&mut self, now: Duration, stage: &'static str, status: Status, step: &mut Step) {
        if status.is_about_algorithms() {
            return self.other_suite(now, status.to_string(), step);
        }
        if status.is_about_role() {
            if self.privilege == Privilege::Administrator {
                self.privilege = Privilege::Operator;
                return self.open_session(now, step);
            }
            return self.end(Some(Fault::NoPrivilege(status.to_string())), step);
        }
        let fault = match status.is_about_login() {
            true => Fault::LoginRefused(status),
            false => Fault::Refused { stage, status },
        };
        self.end(Some(fault), step);
    }

    /// The answer to Set Session Privilege Level.
    pub(super) fn raised(&mut self, now: Duration, result: Result<Vec<u8>, Fault>, step: &mut Step) {
        match result {
            Ok(_) => {
                self.stage = Stage::Open;
                let suite = self.suites.first().copied().unwrap_or(Suite::Seventeen);
                step.outcomes.push(Outcome::Opened { suite, privilege: self.privilege });
            }
            // 0x80 and 0x81: above what the user or the channel may have.
            Err(Fault::Completed(Completion(0x80..=0x82) | Completion::PRIVILEGE))
                if self.privilege == Privilege::Administrator =>
            {
                self.privilege = Privilege::Operator;
                self.request(now, set_privilege(self.privilege), step);
            }
            Err(fault @ Fault::Completed(Completion(0x80..=0x82) | Completion::PRIVILEGE)) => {
                self.end(Some(Fault::NoPrivilege(fault.to_string())), step);
            }
            Err(fault) => self.end(Some(fault), step),
        }
    }
}
