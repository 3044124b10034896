//! `cargo xtask bench scale|bmc`: figures of an optimised build, against their targets.

use crate::{exec::Argv, trouble::Trouble};

pub fn run(rest: &[String]) -> Result<(), Trouble> {
    match rest {
        [what] if ["scale", "bmc"].contains(&what.as_str()) => Argv::new(&["cargo", "bench", "--bench", what]).run(),
        _ => Err(Trouble::usage("`cargo xtask bench` wants one word: scale or bmc".to_owned())),
    }
}
