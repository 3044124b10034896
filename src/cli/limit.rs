//! `--timeout`: the whole command gives up. A run is interrupted, as ^C would, and can be resumed.

use std::{
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use super::{args::Verb, interrupt};
use crate::{
    model::{Failure, failure::Cause},
    output::{Exit, stdout},
};

/// Verbs over single machines have this long to say what they saw when their own wait, which is as long as the limit, is
/// over; what has not ended then is cut off.
pub const LAST_WORDS: Duration = Duration::from_secs(3);
/// For the log-outs of what was cut off.
pub const LOG_OUTS: Duration = Duration::from_secs(8);
/// Whatever blocks them is not waited for.
const AT_LAST: Duration = LAST_WORDS.saturating_add(LOG_OUTS).saturating_add(Duration::from_secs(4));

/// When the command began.
static BEGAN: OnceLock<Instant> = OnceLock::new();

/// When a limit of the whole command is over.
pub fn over_at(limit: Duration) -> Instant {
    *BEGAN.get_or_init(Instant::now) + limit
}

/// What a machine's row says that had not ended by then.
pub fn failure(node: &str, doing: &str, limit: Duration) -> Failure {
    let why = format!("not done within {limit:?} (--timeout); what it was told already still happens");
    Failure::new(Cause::Deadline, format!("{node}: {doing}"), why).next(format!("rackctl power status {node}"))
}
/// Looks have this long to close their log-ins and to show what they know by then.
const LAST_LOOK: Duration = Duration::from_secs(25);

/// Watches from a thread of its own, so that nothing that blocks can outlast it.
pub fn start(after: Duration, verb: &Verb, color: bool) {
    let runs = matches!(
        verb,
        Verb::Apply(_) | Verb::Install(_) | Verb::Join(_) | Verb::Run(_) | Verb::Playbook(_) | Verb::Resume(_)
    ) || matches!(verb, Verb::Inspect(args) if args.boot)
        || matches!(verb, Verb::Bmc(args) if args.verb.minds_interrupts());
    let grace = if matches!(verb, Verb::Power(_) | Verb::Boot(_)) { AT_LAST } else { Duration::ZERO };
    over_at(after);
    thread::spawn(move || {
        thread::sleep(after);
        // Looks end as by ^C, and say themselves that it was the time.
        let rest = if interrupt::end_looks() { LAST_LOOK } else { grace };
        thread::sleep(rest);
        if runs {
            stdout::note(&format!("warning: the {after:?} of --timeout are over"));
            // To ourselves: the same way out as ^C, which drains what is in hand.
            if nix::sys::signal::raise(nix::sys::signal::Signal::SIGINT).is_ok() {
                return;
            }
        }
        let why = "nothing more is waited for; what machines were told already still happens";
        let failure = Failure::new(Cause::Deadline, format!("not done within {after:?} (--timeout)"), why);
        stdout::failure(&failure, color);
        std::process::exit(i32::from(Exit::Failed.code()));
    });
}
