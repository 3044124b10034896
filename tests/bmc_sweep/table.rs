//! What each lie does to each verb, and what becomes of several together. Nothing here asks the product: this is what a
//! person who knows the lies says beforehand.
//!
//! A lie without a row is borne: the verb succeeds. A row is where the lie is met, and as what it ends there. Of several
//! the one that is met first decides. What is met before the log-in is through, and is not about credential or key,
//! leads to the next endpoint.

use crate::draw::{Case, Verb, Ways};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    Recovered,
    Fails(Cause),
}

/// As the program writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    Unreachable,
    Deadline,
    Untrusted,
    Unauthorized,
    AcceptedButIgnored,
    Refused,
    Busy,
    Malformed,
    Guard,
}

impl Cause {
    pub fn word(self) -> &'static str {
        match self {
            Cause::Unreachable => "unreachable",
            Cause::Deadline => "deadline",
            Cause::Untrusted => "untrusted",
            Cause::Unauthorized => "unauthorized",
            Cause::AcceptedButIgnored => "acceptedButIgnored",
            Cause::Refused => "refused",
            Cause::Busy => "busy",
            Cause::Malformed => "malformed",
            Cause::Guard => "guard",
        }
    }
}

/// Where a lie is met, in the order of a conversation with a BMC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Met {
    /// Connection and key.
    Reach,
    /// What is asked without a credential.
    Greeting,
    LogIn,
    /// Finding the system, and reading it.
    System,
    /// Choosing what to send.
    Choice,
    /// The request that changes something.
    Act,
    /// Looking at what came of it.
    After,
}

struct Row {
    lie: &'static str,
    verbs: &'static [Verb],
    met: Met,
    cause: Cause,
}

const fn row(lie: &'static str, verbs: &'static [Verb], met: Met, cause: Cause) -> Row {
    Row { lie, verbs, met, cause }
}

use Cause::{AcceptedButIgnored, Busy, Deadline, Guard, Malformed, Refused, Unauthorized, Unreachable, Untrusted};
use Met::{Act, After, Choice, Greeting, LogIn, Reach, System};
use Verb::{Clear, Cycle, Off, On, Set, Shut, Status, Update};

const ALL: &[Verb] = &Verb::ALL;
const POWER: &[Verb] = &[On, Off, Shut, Cycle];
const BOOT: &[Verb] = &[Set, Clear];

/// Over Redfish.
const REDFISH: &[Row] = &[
    row("@silent", ALL, Reach, Unreachable),
    row("@other-key", ALL, Reach, Untrusted),
    // Four tries a request, three attempts of a step; a look and an update have one.
    row("busy=7", &[Status, Update], Greeting, Busy),
    row("busy=60", ALL, Greeting, Busy),
    row("redirect", ALL, LogIn, Refused),
    row("links-away", ALL, LogIn, Malformed),
    row("@old-password", ALL, LogIn, Unauthorized),
    row("password-expired", ALL, System, Unauthorized),
    row("root-no-links", ALL, System, Malformed),
    row("forbidden=/redfish/v1/Systems", ALL, System, Refused),
    row("hostile-body=oversized", ALL, System, Malformed),
    row("hostile-body=nested", ALL, System, Malformed),
    row("hostile-body=not-json", ALL, System, Malformed),
    row("hostile-body=truncated", ALL, System, Malformed),
    row("hostile-body=short-length", ALL, System, Malformed),
    // Its connection breaks before the end that was announced.
    row("hostile-body=long-length", ALL, System, Unreachable),
    row("hostile-body=html", ALL, System, Malformed),
    // An inventory of firmware without an item is none.
    row("members-null", &[Update], System, Guard),
    // Not offered: nothing is sent.
    row("reset-types=On,ForceOff", &[Shut], Choice, Refused),
    row("reset-types=On,GracefulShutdown", &[Off, Cycle], Choice, Refused),
    row("boot-targets=None,Hdd,Cd", &[Set], Choice, Refused),
    row("boot-full-set-required", BOOT, Act, Refused),
    row("boot-no-override", BOOT, Act, Refused),
    row("if-match-refused", BOOT, Act, Refused),
    row("boot-disabled-after-200", &[Set], After, AcceptedButIgnored),
    row("boot-pxe-is-next", &[Set], After, AcceptedButIgnored),
    row("boot-mode-reverts", BOOT, After, AcceptedButIgnored),
    row("power-null", POWER, After, AcceptedButIgnored),
    row("power-unknown", POWER, After, AcceptedButIgnored),
    // The second attempt waits for the end of a transition that never ends.
    row("power-stuck", &[On, Off, Cycle], After, Deadline),
    row("task-fails", &[Update], After, Refused),
    row("task-endless", &[Update], After, Deadline),
];

/// Over IPMI.
const IPMI: &[Row] = &[
    row("ipmi-off", ALL, Reach, Unreachable),
    row("ipmi-old", ALL, Greeting, Refused),
    row("ipmi-no-room=1", &[Status, Update], LogIn, Busy),
    row("ipmi-mute=rakp2", ALL, LogIn, Unreachable),
    row("ipmi-other-password", ALL, LogIn, Unauthorized),
    row("ipmi-privilege=user", ALL, LogIn, Unauthorized),
    row("@old-password", ALL, LogIn, Unauthorized),
    // What IPMI does not have is said before anything is asked.
    row("*", &[Update], System, Refused),
    row("ipmi-busy=60", ALL, System, Busy),
    row("ipmi-sequence=same", ALL, System, Malformed),
    row("ipmi-boot-ignored", BOOT, After, AcceptedButIgnored),
    row("ipmi-boot-invalid", &[Set], After, AcceptedButIgnored),
];

/// Of the machine or of the BMC's heart, whatever it is asked by.
const BOTH: &[Row] = &[
    row("ignore-boot-override", BOOT, After, AcceptedButIgnored),
    row("power-noop", POWER, After, AcceptedButIgnored),
    row("shutdown-ignored", &[Shut], After, AcceptedButIgnored),
];

/// A lie that another one takes the edge off.
fn blunted(case: &Case, row: &Row) -> bool {
    let mode_is_sent = case.has("maker=Supermicro") && !case.has("boot-mode-read-only") && !case.has("boot-no-mode");
    match row.lie {
        // No ETag, no If-Match.
        "if-match-refused" => case.has("etag-missing") && !case.has("if-match-required"),
        // The maker whose mode is sent every time.
        "boot-full-set-required" => case.verb == Set && mode_is_sent,
        // Seen, and the mode is sent with it; where none is shown nobody can tell.
        "boot-mode-reverts" => !case.has("boot-mode-read-only") || case.has("boot-no-mode"),
        // The maker who is known for it.
        "boot-pxe-is-next" => case.has("maker=Supermicro"),
        _ => false,
    }
}

/// What an answer that was lost makes of "taken and ignored": whether it was taken is not known.
fn unknown(case: &Case, cause: Cause) -> Cause {
    let waits = POWER.contains(&case.verb) && case.has("lose-reset-answer");
    if waits && cause == AcceptedButIgnored { Deadline } else { cause }
}

/// Where it ends over one way; `None`: it does not.
fn met(case: &Case, own: &[Row]) -> Option<(Met, Cause)> {
    let here = |row: &&Row| {
        row.verbs.contains(&case.verb) && (row.lie == "*" || case.lies.contains(&row.lie)) && !blunted(case, row)
    };
    own.iter().chain(BOTH).filter(here).map(|row| (row.met, row.cause)).min_by_key(|(met, _)| *met)
}

/// The end, and whether anything that changes something was sent that could have been taken.
pub fn expected(case: &Case) -> (End, bool) {
    let end = |found: Option<(Met, Cause)>| match found {
        None => (End::Recovered, case.verb != Status),
        Some((met, cause)) => (End::Fails(unknown(case, cause)), met >= Act && case.verb != Status),
    };
    match case.ways {
        Ways::Ipmi => end(met(case, IPMI)),
        Ways::Redfish => end(met(case, REDFISH)),
        Ways::RedfishThenIpmi => match met(case, REDFISH) {
            // The same machine with the same password is behind the next one.
            Some((at, cause)) if at <= LogIn && !matches!(cause, Unauthorized | Untrusted) => end(met(case, IPMI)),
            found => end(found),
        },
    }
}

/// What a boot after it would be overridden to, where the verb succeeded.
pub fn boots_from_network(case: &Case) -> bool {
    case.verb == Set && !case.has("boot-not-honoured")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_the_first_that_is_met_decides() {
        let of = |verb, ways, lies: &[&'static str]| expected(&Case { number: 0, verb, ways, lies: lies.to_vec() });
        let fails = |cause, sent| (End::Fails(cause), sent);
        assert_eq!(of(On, Ways::Redfish, &["session-cap=0"]), (End::Recovered, true));
        assert_eq!(of(On, Ways::Redfish, &["power-noop", "@other-key"]), fails(Untrusted, false));
        assert_eq!(of(On, Ways::RedfishThenIpmi, &["redirect"]), (End::Recovered, true));
        assert_eq!(of(On, Ways::RedfishThenIpmi, &["redirect", "power-noop"]), fails(AcceptedButIgnored, true));
        assert_eq!(of(On, Ways::RedfishThenIpmi, &["@old-password"]), fails(Unauthorized, false));
        assert_eq!(of(Status, Ways::Redfish, &["power-noop"]), (End::Recovered, false));
        assert_eq!(of(Set, Ways::Redfish, &["boot-pxe-is-next", "maker=Supermicro"]), (End::Recovered, true));
        assert_eq!(of(Shut, Ways::Redfish, &["lose-reset-answer", "power-noop"]), fails(Deadline, true));
        assert_eq!(of(Update, Ways::Ipmi, &["ipmi-busy=60"]), fails(Refused, false));
    }
}
