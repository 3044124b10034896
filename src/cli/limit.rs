//! `--timeout`: the whole command gives up. A run is interrupted, as ^C would, and can be resumed.

use std::{thread, time::Duration};

use super::{args::Verb, interrupt};
use crate::{
    model::{Failure, failure::Cause},
    output::{Exit, stdout},
};

/// Power verbs have this long to say what they saw when their own wait, which is as long as the limit, is over.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// Looks have this long to close their log-ins and to show what they know by then.
const LAST_LOOK: Duration = Duration::from_secs(25);

/// Watches from a thread of its own, so that nothing that blocks can outlast it.
pub fn start(after: Duration, verb: &Verb, color: bool) {
    let runs = matches!(
        verb,
        Verb::Apply(_) | Verb::Install(_) | Verb::Join(_) | Verb::Run(_) | Verb::Playbook(_) | Verb::Resume(_)
    ) || matches!(verb, Verb::Inspect(args) if args.boot)
        || matches!(verb, Verb::Bmc(args) if args.verb.minds_interrupts());
    let grace = if matches!(verb, Verb::Power(_)) { LAST_WORDS } else { Duration::ZERO };
    thread::spawn(move || {
        thread::sleep(after + grace);
        if runs {
            stdout::note(&format!("warning: the {after:?} of --timeout are over"));
            // To ourselves: the same way out as ^C, which drains what is in hand.
            if nix::sys::signal::raise(nix::sys::signal::Signal::SIGINT).is_ok() {
                return;
            }
        }
        // Looks end as by ^C, and say themselves that it was the time.
        if interrupt::end_looks() {
            thread::sleep(LAST_LOOK);
        }
        let why = "nothing more is waited for; what machines were told already still happens";
        let failure = Failure::new(Cause::Deadline, format!("not done within {after:?} (--timeout)"), why);
        stdout::failure(&failure, color);
        std::process::exit(i32::from(Exit::Failed.code()));
    });
}
