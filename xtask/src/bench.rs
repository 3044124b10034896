//! `cargo xtask bench scale`: figures of an optimised build, against their targets.

use crate::{exec::Argv, trouble::Trouble};

pub fn run(rest: &[String]) -> Result<(), Trouble> {
    match rest {
        [what] if what == "scale" => Argv::new(&["cargo", "bench", "--bench", "scale"]).run(),
        _ => Err(Trouble::usage("`cargo xtask bench` wants one word: scale".to_owned())),
    }
}
