//! `rackctl schema`

use super::globals::Globals;
use crate::{
    inventory::schema,
    output::{Exit, Format, Stop, stdout},
};

pub fn run(globals: &Globals) -> Result<Exit, Stop> {
    // A schema is JSON whatever a table would be.
    let format = if globals.format.is_for_people() { &Format::Json } else { &globals.format };
    stdout::print(&format.render_one(&schema::combined(), |_| String::new()))?;
    Ok(Exit::Done)
}
