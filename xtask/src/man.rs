//! Writes `man/` anew.

use crate::{build, exec::Argv, trouble::Trouble};

pub fn run() -> Result<(), Trouble> {
    let rackctl = build::rackctl(false)?;
    Argv::new(&[&rackctl.to_string_lossy(), "man", "--dir", "man"]).run()
}
