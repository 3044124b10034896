//! `rackctl man`: one page for the program and one per verb, made from the grammar.

use std::{fs, io};

use clap::CommandFactory;

use super::args::{Cli, host::Man};
use crate::{
    model::{Failure, failure::Cause},
    output::{Exit, Stop, stdout},
};

pub fn run(args: &Man) -> Result<Exit, Stop> {
    let fault = |e: io::Error| Failure::new(Cause::Local, "rackctl man", e.to_string());
    let pages = pages().map_err(fault)?;
    if let Some(dir) = &args.dir {
        fs::create_dir_all(dir).map_err(fault)?;
        for (name, text) in &pages {
            fs::write(dir.join(name), text).map_err(fault)?;
        }
        stdout::note(&format!("{} pages in {}", pages.len(), dir.display()));
        return Ok(Exit::Done);
    }
    let wanted = match &args.verb {
        Some(verb) => format!("rackctl-{}.1", verb.replace(' ', "-")),
        None => "rackctl.1".to_owned(),
    };
    match pages.into_iter().find(|(name, _)| *name == wanted) {
        Some((_, text)) => stdout::print(&text).map(|()| Exit::Done),
        None => {
            let why = "there is no such verb";
            Err(Stop::usage(Failure::new(Cause::Refused, format!("page {wanted}"), why).next("rackctl --help")))
        }
    }
}

/// File name and text of every page, the same on every machine.
pub fn pages() -> io::Result<Vec<(String, String)>> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    add(&command, "rackctl", &mut pages)?;
    Ok(pages)
}

/// The page of a command and those of its verbs: `rackctl-lab-create.1`.
fn add(command: &clap::Command, name: &str, pages: &mut Vec<(String, String)>) -> io::Result<()> {
    let shown = command.clone().display_name(name.to_owned()).disable_help_subcommand(true);
    let mut text = Vec::new();
    clap_mangen::Man::new(shown)
        .title(name)
        .section("1")
        .source(format!("rackctl {}", super::version::VERSION))
        .manual("rackctl manual")
        .render(&mut text)?;
    pages.push((format!("{name}.1"), String::from_utf8(text).map_err(io::Error::other)?));
    for verb in command.get_subcommands().filter(|v| !v.is_hide_set() && v.get_name() != "help") {
        add(verb, &format!("{name}-{}", verb.get_name()), pages)?;
    }
    Ok(())
}
