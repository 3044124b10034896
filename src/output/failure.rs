//! Failures as people read them: what, why, and the next command to type.

use std::fmt::Write;

use super::{Exit, clean};
use crate::model::Failure;

/// Why a command ends here: the exit code and what is to be said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    pub exit: Exit,
    pub failures: Vec<Failure>,
}

impl Stop {
    /// With a code that the cause alone does not give: locked, needs approval, usage.
    pub fn with(exit: Exit, failure: Failure) -> Self {
        Stop { exit, failures: vec![failure] }
    }
    /// Wrong use of the command line, or a fault in the inventory.
    pub fn usage(failure: Failure) -> Self {
        Stop::with(Exit::Usage, failure)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Stop { exit: Exit::of(failure.cause), failures: vec![failure] }
    }
}

impl From<Vec<Failure>> for Stop {
    fn from(failures: Vec<Failure>) -> Self {
        Stop { exit: Exit::combine(failures.iter().map(|f| Exit::of(f.cause))), failures }
    }
}

/// Ends with a line feed. `color`: ANSI colours are allowed.
///
/// ```text
/// error: n1: set boot override to pxe
///   why:  the BMC took the request and still says hdd
///   next: rackctl boot show n1
/// ```
pub fn render(failure: &Failure, color: bool) -> String {
    let (red, bold, off) = if color { ("\x1b[1;31m", "\x1b[1m", "\x1b[0m") } else { ("", "", "") };
    let mut out = String::new();
    let _ = writeln!(out, "{red}error:{off} {bold}{}{off}", clean::line(&failure.what));
    let why = clean::lines(&failure.why);
    let mut label = "why:  ";
    for line in why.lines() {
        let _ = writeln!(out, "  {label}{line}");
        label = "      ";
    }
    if let Some(next) = &failure.next {
        let _ = writeln!(out, "  next: {bold}{}{off}", clean::line(next));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::failure::Cause;

    fn failure() -> Failure {
        Failure::new(
            Cause::AcceptedButIgnored,
            "n1: set boot override to pxe",
            "the BMC took the request and still says `hdd\u{1b}[0m`\nasked 3 times",
        )
        .next("rackctl boot show n1")
    }

    #[test]
    fn says_what_why_and_next() {
        insta::assert_snapshot!(render(&failure(), false), @r"
        error: n1: set boot override to pxe
          why:  the BMC took the request and still says `hdd^[[0m`
                asked 3 times
          next: rackctl boot show n1
        ");
    }

    #[test]
    fn colours_only_when_allowed() {
        assert!(render(&failure(), true).starts_with("\u{1b}[1;31merror:\u{1b}[0m "));
        assert!(!render(&failure(), false).contains('\u{1b}'));
    }

    #[test]
    fn the_cause_gives_the_exit_code() {
        let guard = Failure::new(Cause::Guard, "n1: wipe", "protected");
        assert_eq!(Stop::from(guard.clone()).exit, Exit::Refused);
        assert_eq!(Stop::from(vec![guard, failure()]).exit, Exit::Failed);
    }
}
