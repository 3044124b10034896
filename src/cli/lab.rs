//! `rackctl lab`

use std::path::Path;

use super::{args::lab::Lab, globals::Globals};
use crate::output::{Exit, Stop};

pub fn run(globals: &Globals, args: &Lab) -> Result<Exit, Stop> {
    super::pending::lab(globals, args)
}

pub fn supervisor(_dir: &Path) -> Result<Exit, Stop> {
    Err(super::pending::elsewhere("__lab-supervisor"))
}
