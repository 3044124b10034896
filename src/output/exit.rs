//! The exit codes: a contract with scripts (`docs`, `rackctl --help`).

use crate::model::failure::Cause;

/// How a command ended. The numbers never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// Done, and verified.
    Done = 0,
    /// Failed. Also `diff` when something differs and `doctor` when something needed is missing.
    Failed = 1,
    /// Wrong usage, or a fault in the inventory.
    Usage = 2,
    /// A guard refused it on every node.
    Refused = 3,
    /// Some nodes are done, some are not.
    Partial = 4,
    /// Locked by another operator.
    Locked = 5,
    /// Needs approval of the printed hash.
    NeedsApproval = 6,
    /// The outcome of a destructive step cannot be observed: a person must look.
    NeedsPerson = 7,
    /// Interrupted; the run can be resumed.
    Interrupted = 130,
}

/// Every code with its meaning, for help texts and man pages.
pub const MEANINGS: [(Exit, &str); 9] = [
    (Exit::Done, "done, verified"),
    (Exit::Failed, "failed"),
    (Exit::Usage, "usage, or a fault in the inventory"),
    (Exit::Refused, "refused by a guard on every node"),
    (Exit::Partial, "some nodes done, some not"),
    (Exit::Locked, "locked by another operator"),
    (Exit::NeedsApproval, "needs approval (prints the hash)"),
    (Exit::NeedsPerson, "needs a person: the outcome of a destructive step cannot be observed"),
    (Exit::Interrupted, "interrupted; the run can be resumed"),
];

impl Exit {
    pub const fn code(self) -> u8 {
        self as u8
    }
    /// What a lone failure of this cause means for the whole command.
    pub const fn of(cause: Cause) -> Exit {
        match cause {
            Cause::Guard => Exit::Refused,
            Cause::Interrupted => Exit::Interrupted,
            Cause::NeedsPerson => Exit::NeedsPerson,
            _ => Exit::Failed,
        }
    }
    /// The code of a command over several nodes, from the codes of its nodes.
    ///
    /// A step whose outcome nobody can see outranks everything; an interruption comes next. All the
    /// same is that code; anything mixed with a success is [`Exit::Partial`].
    pub fn combine(each: impl IntoIterator<Item = Exit>) -> Exit {
        let mut all: Vec<Exit> = each.into_iter().collect();
        for outranking in [Exit::NeedsPerson, Exit::Interrupted] {
            if all.contains(&outranking) {
                return outranking;
            }
        }
        let done = all.contains(&Exit::Done);
        all.retain(|e| *e != Exit::Done);
        match (all.first(), done) {
            (None, _) => Exit::Done,
            (Some(_), true) => Exit::Partial,
            (Some(first), false) if all.iter().all(|e| e == first) => *first,
            (Some(_), false) => Exit::Failed,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        std::process::ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // invariant: I20 harness: D
    #[test]
    fn numbers_are_the_contract() {
        let codes: Vec<u8> = MEANINGS.iter().map(|(e, _)| e.code()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 130]);
    }

    // invariant: I20 harness: D
    #[test]
    fn nodes_combine_to_one_code() {
        use Exit::*;
        for (each, whole) in [
            (vec![], Done),
            (vec![Done, Done], Done),
            (vec![Refused, Refused], Refused),
            (vec![Refused, Failed], Failed),
            (vec![Done, Refused], Partial),
            (vec![Done, Failed], Partial),
            (vec![Done, NeedsPerson, Interrupted], NeedsPerson),
            (vec![Done, Interrupted], Interrupted),
        ] {
            assert_eq!(Exit::combine(each.clone()), whole, "{each:?}");
        }
    }
}
