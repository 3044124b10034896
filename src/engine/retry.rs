//! Retry policy as data: which failures of which steps are worth another attempt, how often, and from where.

use crate::{model::failure::Cause, plan::StepKind};

/// One line of the policy.
pub struct Rule {
    /// Words of the steps that it is about.
    pub steps: &'static [&'static str],
    pub causes: &'static [Cause],
    /// Attempts in all.
    pub attempts: u32,
    /// The step of the same track from which the next attempt begins; `None`: the failed one.
    pub from: Option<&'static str>,
    /// Before the next attempt; doubled with each.
    pub pause_ms: u64,
}

/// What may pass by itself. A refusal, a mismatch, a wrong password or certificate never does (and a second try at a
/// password locks accounts).
const PASSING: &[Cause] = &[Cause::Unreachable, Cause::Deadline, Cause::Busy];

pub const RULES: &[Rule] = &[
    // A machine that never reached the installer is booted again with a new token.
    Rule {
        steps: &["await-claim", "boot-installer"],
        causes: PASSING,
        attempts: StepKind::BOOT_ATTEMPTS,
        from: Some("boot-installer"),
        pause_ms: 1_000,
    },
    // A BMC that took the request and did nothing is asked once more, later.
    Rule {
        steps: &["boot-installer", "withdraw-netboot", "leave-installer", "power-on", "set-power", "set-boot"],
        causes: &[Cause::AcceptedButIgnored],
        attempts: 2,
        from: None,
        pause_ms: 5_000,
    },
    Rule {
        steps: &[
            "withdraw-netboot",
            "leave-installer",
            "power-on",
            "check-identity",
            "set-boot",
            "bring-firmware",
            "bring-bios",
            "add-learner",
            "start-member",
            "promote",
            "verify-member",
        ],
        causes: PASSING,
        attempts: 3,
        from: None,
        pause_ms: 1_000,
    },
    // What was taken and not applied is not asked for again by itself, for each time restarts the machine: whoever
    // resumes the run has it asked for anew.
    Rule {
        steps: &["restart-into-firmware"],
        causes: &[Cause::AcceptedButIgnored],
        attempts: 1,
        from: Some("bring-firmware"),
        pause_ms: 0,
    },
    Rule {
        steps: &["restart-into-bios"],
        causes: &[Cause::AcceptedButIgnored],
        attempts: 1,
        from: Some("bring-bios"),
        pause_ms: 0,
    },
    // Only where asking again cannot restart a machine twice: what is found by looking decides.
    Rule { steps: &["set-power"], causes: PASSING, attempts: 3, from: None, pause_ms: 2_000 },
];

/// Attempts to leave a node safe, in all; longer than a BMC takes to answer again after a dropped connection.
pub const FINALIZER_ATTEMPTS: u32 = 5;
/// Before the second; doubled with each.
const FINALIZER_PAUSE_MS: u64 = 3_000;
/// A BMC that refuses while its machine starts, or took the request and did nothing, may do it later.
const FINALIZER_CAUSES: &[Cause] =
    &[Cause::Unreachable, Cause::Deadline, Cause::Busy, Cause::AcceptedButIgnored, Cause::Refused];

/// Pause before the next attempt of a finalizer that failed so, if one is left.
pub fn finalizer(cause: Cause, attempt: u32) -> Option<u64> {
    let left = attempt < FINALIZER_ATTEMPTS && FINALIZER_CAUSES.contains(&cause);
    left.then(|| FINALIZER_PAUSE_MS << attempt.saturating_sub(1).min(6))
}

/// Whether it may pass by itself.
pub fn passes(cause: Cause) -> bool {
    PASSING.contains(&cause)
}

/// The step of the same track from which another attempt of this one begins, if that is not the step itself.
pub fn begins_at(kind: &StepKind) -> Option<&'static str> {
    RULES.iter().filter(|r| r.steps.contains(&kind.word())).find_map(|r| r.from)
}

/// The rule for a step that failed so, if another attempt is left.
pub fn rule(kind: &StepKind, cause: Cause, attempt: u32) -> Option<&'static Rule> {
    RULES.iter().find(|r| r.steps.contains(&kind.word()) && r.causes.contains(&cause)).filter(|r| attempt < r.attempts)
}

impl Rule {
    /// Pause before attempt `next` (2 is the first repetition).
    pub fn pause(&self, next: u32) -> u64 {
        self.pause_ms << next.saturating_sub(2).min(6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // invariant: I14 harness: D
    #[test]
    fn what_was_not_applied_is_asked_for_anew_by_a_person_alone() {
        use crate::model::baseline::{BaselinePart, InForce};
        let restart = |into| StepKind::Baseline(BaselinePart::Restart { into, stays_off: false });
        for (kind, from) in [
            (restart(InForce::Firmware(Default::default())), "bring-firmware"),
            (restart(InForce::Bios(Default::default())), "bring-bios"),
        ] {
            assert_eq!(begins_at(&kind), Some(from), "whoever resumes begins there");
            for cause in [Cause::AcceptedButIgnored, Cause::Unreachable, Cause::Deadline] {
                assert!(rule(&kind, cause, 1).is_none(), "each attempt restarts the machine: {cause:?}");
            }
        }
    }

    #[test]
    fn what_never_passes_is_never_tried_again() {
        let never = [
            Cause::Untrusted,
            Cause::Unauthorized,
            Cause::Mismatch,
            Cause::Guard,
            Cause::Malformed,
            Cause::NeedsPerson,
            Cause::Interrupted,
        ];
        for rule in RULES {
            assert!(never.iter().all(|cause| !rule.causes.contains(cause)), "{:?}", rule.steps);
            assert!(!rule.steps.contains(&"write-disk"), "a disk is written under one ticket");
            assert!(!rule.steps.contains(&"bootstrap"), "a cluster is made once");
        }
        assert!(
            finalizer(Cause::Unauthorized, 1).is_none() && finalizer(Cause::Unreachable, FINALIZER_ATTEMPTS).is_none()
        );
        assert_eq!((finalizer(Cause::Busy, 1), finalizer(Cause::Deadline, 3)), (Some(3_000), Some(12_000)));
        assert!(rule(&StepKind::AwaitClaim, Cause::Deadline, 3).is_none(), "three boots in all");
        assert_eq!(
            rule(&StepKind::AwaitClaim, Cause::Deadline, 1).map(|r| (r.pause(2), r.pause(3))),
            Some((1_000, 2_000))
        );
    }
}
