//! Where installers claim and report: decisions over values, so that they can be tested without a wire.

use std::{collections::BTreeMap, time::Duration};

use rackctl_wire::{ApiError, Claim, ClaimAnswer, Directive, PROTOCOL, Report, Stage, WriteTicket};

use super::keys::{Keys, same};
use crate::{
    model::{Failure, Fleet, failure::Cause},
    plan::wipe_guard,
};

/// Longest time between two reports of a machine that is still there.
pub const SILENCE: Duration = Duration::from_secs(4);

/// What a node's installer is told next.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    Wait(String),
    Write(Box<WriteTicket>),
    Reboot,
    Stop(String),
}

impl Order {
    /// Of a node in a resumed run, until its steps go on. Whoever was told to restart, and is there still, did not hear it.
    pub fn resumed(told_to_reboot: bool) -> Order {
        match told_to_reboot {
            true => Order::Reboot,
            false => Order::Wait("for the resumed run to go on".into()),
        }
    }
}

#[derive(Default)]
struct Seat {
    /// Boot attempt whose token is good now, and until when (time since boot).
    offered: Option<(u32, Duration)>,
    claim: Option<Claim>,
    refused: Option<Failure>,
    report: Option<(Report, Duration)>,
    order: Option<Order>,
    /// The last answer told the machine to restart.
    told_to_reboot: bool,
}

pub struct Desk {
    run: String,
    seats: BTreeMap<String, Seat>,
    authorized_keys: BTreeMap<String, Vec<String>>,
}

/// What a claim leads to; [`Verdict::Granted`] is made durable before it is answered.
pub enum Verdict {
    Granted { answer: ClaimAnswer, first: bool },
    Refused { status: u16, error: ApiError },
}

impl Desk {
    pub fn new(run: &str, fleet: &Fleet) -> Desk {
        let authorized_keys =
            fleet.nodes.iter().map(|(n, node)| (n.clone(), node.ssh.authorized_keys.clone())).collect();
        Desk { run: run.to_owned(), seats: BTreeMap::new(), authorized_keys }
    }

    fn seat(&mut self, node: &str) -> &mut Seat {
        self.seats.entry(node.to_owned()).or_default()
    }

    /// From now on the token of this attempt is good; a claim of an earlier boot no longer counts.
    pub fn offer(&mut self, node: &str, attempt: u32, until: Duration) {
        let seat = self.seat(node);
        if seat.offered.is_none_or(|(a, _)| a != attempt) {
            *seat = Seat::default();
        }
        seat.offered = Some((attempt, until));
    }

    /// A claim that was made durable by an earlier process.
    pub fn restore(&mut self, claim: Claim) {
        let node = claim.node.clone();
        self.seat(&node).claim = Some(claim);
    }

    /// The machine is off: a boot of this attempt that has claimed is gone with its power, and the next one may claim.
    /// Whether there was one.
    pub fn void(&mut self, node: &str) -> bool {
        let seat = self.seat(node);
        let (offered, claimed) = (seat.offered, seat.claim.is_some());
        *seat = Seat { offered, ..Seat::default() };
        claimed
    }

    pub fn withdraw(&mut self, node: &str) {
        self.seat(node).offered = None;
    }

    pub fn order(&mut self, node: &str, order: Order) {
        self.seat(node).order = Some(order);
    }

    pub fn claim_of(&self, node: &str) -> Option<&Claim> {
        self.seats.get(node).and_then(|s| s.claim.as_ref())
    }

    pub fn refusal_of(&self, node: &str) -> Option<&Failure> {
        self.seats.get(node).and_then(|s| s.refused.as_ref())
    }

    pub fn report_of(&self, node: &str) -> Option<&Report> {
        self.seats.get(node).and_then(|s| s.report.as_ref()).map(|(r, _)| r)
    }

    /// Time since the last report; `None`: there was none.
    pub fn silent_for(&self, node: &str, now: Duration) -> Option<Duration> {
        self.seats.get(node).and_then(|s| s.report.as_ref()).map(|(_, at)| now.saturating_sub(*at))
    }

    pub fn told_to_reboot(&self, node: &str) -> bool {
        self.seats.get(node).is_some_and(|s| s.told_to_reboot)
    }

    pub fn claim(&mut self, fleet: &Fleet, keys: &Keys, claim: &Claim, now: Duration, unix_s: u64) -> Verdict {
        let refused = |status: u16, kind: &str, message: String| Verdict::Refused {
            status,
            error: ApiError { kind: kind.into(), message },
        };
        if claim.protocol != PROTOCOL {
            return refused(
                400,
                "protocol",
                format!("this server speaks version {PROTOCOL}, the installer {}", claim.protocol),
            );
        }
        let run = self.run.clone();
        let authorized_keys = self.authorized_keys.get(&claim.node).cloned().unwrap_or_default();
        let Some(seat) = self.seats.get_mut(&claim.node) else {
            return refused(403, "unknownToken", "no machine of this name is being installed".into());
        };
        let answer = ClaimAnswer {
            protocol: PROTOCOL,
            session: keys.session(&run, &claim.node, &claim.attempt),
            authorized_keys,
            time_unix_s: unix_s,
        };
        let Some((attempt, until)) = seat.offered else {
            return refused(403, "unknownToken", "network boot of this machine was withdrawn".into());
        };
        if !same(&keys.token(&run, &claim.node, attempt), &claim.token) {
            return refused(403, "unknownToken", "the token is not that of this boot".into());
        }
        if let Some(earlier) = &seat.claim {
            // The same boot asks again: its answer was lost. The same keys, or it is somebody else.
            if earlier.attempt == claim.attempt && earlier.installer_host_key == claim.installer_host_key {
                return Verdict::Granted { answer, first: false };
            }
            return refused(409, "tokenUsed", "this token was claimed by another boot".into());
        }
        if now > until {
            return refused(403, "tokenExpired", "the token's time is over".into());
        }
        let Some(node) = fleet.nodes.get(&claim.node) else {
            return refused(403, "unknownToken", "no machine of this name is in the fleet".into());
        };
        if let Err(failure) = wipe_guard::identity(node, claim) {
            let message = failure.why.clone();
            seat.refused = Some(failure);
            return refused(403, "identityMismatch", message);
        }
        Verdict::Granted { answer, first: true }
    }

    /// After the claim was made durable.
    pub fn granted(&mut self, claim: Claim) {
        let node = claim.node.clone();
        let seat = self.seat(&node);
        seat.claim = Some(claim);
        seat.refused = None;
    }

    pub fn report(
        &mut self,
        keys: &Keys,
        bearer: &str,
        report: Report,
        now: Duration,
    ) -> Result<Directive, (u16, ApiError)> {
        let run = self.run.clone();
        let unknown = || (401, ApiError { kind: "unknownSession".into(), message: "no such session".into() });
        let seat = self.seats.get_mut(&report.node).ok_or_else(unknown)?;
        let claim = seat.claim.as_ref().ok_or_else(unknown)?;
        if !same(&keys.session(&run, &report.node, &claim.attempt), bearer) || claim.boot_id != report.boot_id {
            return Err(unknown());
        }
        let failed = report.stage == Stage::Failed;
        seat.report = Some((report, now));
        let directive = match &seat.order {
            None => Directive::Wait { reason: "for the run to go on".into() },
            Some(Order::Wait(reason)) => Directive::Wait { reason: reason.clone() },
            Some(Order::Write(ticket)) if !failed => Directive::Write(ticket.clone()),
            Some(Order::Write(_)) => Directive::Wait { reason: "it failed; somebody must look at it".into() },
            Some(Order::Reboot) => Directive::Reboot,
            Some(Order::Stop(reason)) => Directive::Stop { reason: reason.clone() },
        };
        seat.told_to_reboot = directive == Directive::Reboot;
        Ok(directive)
    }

    /// Why the installer stopped, as a failure of the step that waits for it.
    pub fn installer_failure(&self, node: &str) -> Option<Failure> {
        let report = self.report_of(node).filter(|r| r.stage == Stage::Failed)?;
        let (kind, message) =
            report.error.as_ref().map_or(("unknown", "it gives no reason"), |e| (e.kind.as_str(), e.message.as_str()));
        let cause = match kind {
            "digestMismatch" | "diskNotFound" => Cause::Mismatch,
            "network" => Cause::Unreachable,
            _ => Cause::Refused,
        };
        Some(
            Failure::new(cause, format!("{node}: installer"), format!("{kind}: {message}"))
                .next(format!("rackctl console {node}")),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fleet::{Interface, Node};
    use rackctl_wire::MachineIds;

    pub(super) fn node(name: &str) -> Node {
        serde_json::from_value(serde_json::json!({
            "name": name, "labels": {}, "site": null, "hardwareClass": null, "profile": null, "lifecycle": "active",
            "management": "full", "protect": false,
            "identity": {"serial": "S1", "uuid": "11111111-2222-3333-4444-555555555555", "serialFrom": "serialNumber"},
            "bmc": null, "interfaces": [], "disks": {}, "location": {}, "arch": "amd64", "bootMode": "uefi", "bootMethod": "pxe",
            "console": null, "minimum": {}, "image": null, "kernelParams": [], "install": null, "services": [],
            "ssh": {"user": null, "identity": null, "authorizedKeys": ["ssh-ed25519 AAAA op"]}, "dns": []
        }))
        .unwrap()
    }

    fn fleet() -> Fleet {
        let mut fleet = Fleet::default();
        let mut n1 = node("n1");
        n1.interfaces.push(Interface {
            name: None,
            mac: "52:54:00:00:00:01".parse().unwrap(),
            network: None,
            role: None,
            addresses: vec![],
        });
        fleet.nodes.insert("n1".into(), n1);
        fleet
    }

    fn claim(token: &str, attempt: &str) -> Claim {
        Claim {
            protocol: PROTOCOL,
            node: "n1".into(),
            token: token.into(),
            attempt: attempt.into(),
            mac: "52:54:00:00:00:01".into(),
            machine: MachineIds {
                uuid: Some("11111111-2222-3333-4444-555555555555".parse().unwrap()),
                serial: Some("S1".into()),
                ..MachineIds::default()
            },
            installer_host_key: format!("ssh-ed25519 {attempt}"),
            system_host_key: "ssh-ed25519 S".into(),
            boot_id: attempt.into(),
            cores: 1,
            memory_bytes: 1 << 29,
        }
    }

    fn report(boot: &str, stage: Stage) -> Report {
        Report {
            protocol: PROTOCOL,
            node: "n1".into(),
            boot_id: boot.into(),
            stage,
            done_bytes: None,
            total_bytes: None,
            disks: None,
            hardware: None,
            ticket: None,
            error: None,
            uptime_ms: 1,
            stage_started_ms: vec![],
        }
    }

    fn kind(verdict: Verdict) -> String {
        match verdict {
            Verdict::Granted { first, .. } => format!("granted {first}"),
            Verdict::Refused { error, .. } => error.kind,
        }
    }

    // fault: F34 invariant: I5 I9 harness: D
    #[test]
    fn one_claim_a_token_and_the_same_answer_to_the_same_boot() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::open(folder.path()).unwrap();
        let fleet = fleet();
        let mut desk = Desk::new("r", &fleet);
        let now = Duration::from_secs(10);
        let token = keys.token("r", "n1", 1);
        assert_eq!(
            kind(desk.claim(&fleet, &keys, &claim(&token, "a"), now, 0)),
            "unknownToken",
            "nothing is offered yet"
        );
        desk.offer("n1", 1, Duration::from_secs(100));
        assert_eq!(kind(desk.claim(&fleet, &keys, &claim("guess", "a"), now, 0)), "unknownToken");
        assert_eq!(kind(desk.claim(&fleet, &keys, &claim(&token, "a"), Duration::from_secs(101), 0)), "tokenExpired");
        assert_eq!(kind(desk.claim(&fleet, &keys, &claim(&token, "a"), now, 0)), "granted true");
        desk.granted(claim(&token, "a"));
        assert_eq!(kind(desk.claim(&fleet, &keys, &claim(&token, "a"), now, 0)), "granted false");
        assert_eq!(kind(desk.claim(&fleet, &keys, &claim(&token, "b"), now, 0)), "tokenUsed");
        desk.offer("n1", 2, Duration::from_secs(100));
        assert_eq!(
            kind(desk.claim(&fleet, &keys, &claim(&token, "a"), now, 0)),
            "unknownToken",
            "the old boot's token is void"
        );
    }

    // fault: F52 invariant: I9 I11 harness: D
    #[test]
    fn what_claimed_before_its_power_was_cut_is_forgotten_and_the_next_boot_claims() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::open(folder.path()).unwrap();
        let fleet = fleet();
        let mut desk = Desk::new("r", &fleet);
        let token = keys.token("r", "n1", 1);
        desk.offer("n1", 1, Duration::from_secs(100));
        assert!(!desk.void("n1"), "nobody had claimed");
        desk.granted(claim(&token, "a"));
        assert!(desk.void("n1") && desk.claim_of("n1").is_none());
        assert_eq!(kind(desk.claim(&fleet, &keys, &claim(&token, "b"), Duration::ZERO, 0)), "granted true");
        desk.granted(claim(&token, "b"));
        let report = |boot| report(boot, Stage::Ready);
        let bearer = |boot: &str| keys.session("r", "n1", boot);
        assert!(desk.report(&keys, &bearer("a"), report("a"), Duration::ZERO).is_err(), "the boot that is gone");
        assert!(desk.report(&keys, &bearer("b"), report("b"), Duration::ZERO).is_ok());
    }

    // fault: F55 invariant: I5 harness: D
    #[test]
    fn another_machine_is_refused_with_both_values() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::open(folder.path()).unwrap();
        let fleet = fleet();
        let mut desk = Desk::new("r", &fleet);
        desk.offer("n1", 1, Duration::from_secs(100));
        let mut other = claim(&keys.token("r", "n1", 1), "a");
        other.machine.serial = Some("S2".into());
        let verdict = desk.claim(&fleet, &keys, &other, Duration::ZERO, 0);
        let Verdict::Refused { error, .. } = verdict else { panic!("granted") };
        assert_eq!(error.kind, "identityMismatch");
        assert!(error.message.contains("S1") && error.message.contains("S2"), "{}", error.message);
        assert!(desk.refusal_of("n1").is_some());
    }

    // fault: F23 F55 invariant: I5 harness: D
    #[test]
    fn another_mac_or_a_mac_alone_is_no_identity() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::open(folder.path()).unwrap();
        let fleet = fleet();
        let mut desk = Desk::new("r", &fleet);
        desk.offer("n1", 1, Duration::from_secs(100));
        let good = claim(&keys.token("r", "n1", 1), "a");
        let other = Claim { mac: "52:54:00:00:00:02".into(), ..good.clone() };
        let bare = Claim { machine: MachineIds::default(), ..good.clone() };
        for wrong in [other, bare] {
            assert_eq!(kind(desk.claim(&fleet, &keys, &wrong, Duration::ZERO, 0)), "identityMismatch");
        }
        assert_eq!(kind(desk.claim(&fleet, &keys, &good, Duration::ZERO, 0)), "granted true");
        desk.granted(good.clone());
        let stranger = Claim { installer_host_key: "ssh-ed25519 other".into(), ..good.clone() };
        assert_eq!(kind(desk.claim(&fleet, &keys, &stranger, Duration::ZERO, 0)), "tokenUsed");
        desk.withdraw("n1");
        assert_eq!(kind(desk.claim(&fleet, &keys, &good, Duration::ZERO, 0)), "unknownToken", "withdrawn");
    }

    // invariant: I17 harness: D
    #[test]
    fn reports_need_the_session_of_the_claim() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::open(folder.path()).unwrap();
        let fleet = fleet();
        let mut desk = Desk::new("r", &fleet);
        desk.offer("n1", 1, Duration::from_secs(100));
        desk.granted(claim(&keys.token("r", "n1", 1), "a"));
        let report = report("a", Stage::Ready);
        assert_eq!(desk.report(&keys, "guess", report.clone(), Duration::ZERO).unwrap_err().0, 401);
        let session = keys.session("r", "n1", "a");
        assert!(matches!(desk.report(&keys, &session, report.clone(), Duration::ZERO), Ok(Directive::Wait { .. })));
        desk.order("n1", Order::Reboot);
        assert_eq!(desk.report(&keys, &session, report.clone(), Duration::ZERO), Ok(Directive::Reboot));
        assert!(desk.told_to_reboot("n1"));
        let ticket: WriteTicket = serde_json::from_value(serde_json::json!({
            "id": "t", "diskSerial": "D", "diskSizeBytes": 1, "diskGuid": uuid::Uuid::nil(), "systemSha256": "",
            "node": { "protocol": PROTOCOL, "node": "n1", "fleet": "f", "run": "r", "generation": 1, "hostname": "n1",
                "interfaces": [], "authorizedKeys": [], "dns": [] }
        }))
        .unwrap();
        desk.order("n1", Order::Write(Box::new(ticket)));
        let mut ask = |stage| desk.report(&keys, &session, Report { stage, ..report.clone() }, Duration::ZERO);
        assert!(matches!(ask(Stage::Ready), Ok(Directive::Write(_))));
        assert!(matches!(ask(Stage::Failed), Ok(Directive::Wait { .. })), "what failed does not write on");
    }
}
