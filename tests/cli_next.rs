//! The commands that messages name are commands that there are.

#![allow(clippy::unwrap_used)] // helpers of tests, outside of #[test] functions

use std::{fs, path::Path};

use clap::CommandFactory;
use rackctl::cli::args::Cli;

/// Strings that begin with the program's name and are no commands.
const TITLES: [&str; 4] = ["manual", "manifests", "node", "help"];

#[test]
fn every_command_that_a_message_names_exists() {
    let mut command = Cli::command();
    command.build();
    let (mut files, mut faults, mut checked) = (Vec::new(), Vec::new(), 0);
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for (at, start) in ["\"rackctl ", "`rackctl "].iter().flat_map(|s| text.match_indices(s)) {
            let line = text[..at].lines().count().max(1);
            let comment = text[..at].rsplit('\n').next().unwrap_or_default().trim_start().starts_with("//");
            let end = start.chars().next().unwrap();
            let said = text[at + start.len()..].split([end, '\n', ';', ',', '(']).next().unwrap_or_default();
            let words: Vec<&str> = said.split_whitespace().take_while(|w| *w != "--" && *w != "#").collect();
            let Some(first) = words.first() else { continue };
            if comment || TITLES.contains(first) {
                continue;
            }
            checked += 1;
            if let Err(why) = check(&command, &words) {
                faults.push(format!("{}:{line}: rackctl {said}: {why}", file.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(checked > 40, "{checked} commands were found: is the search still right?");
}

fn collect(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

fn check(root: &clap::Command, words: &[&str]) -> Result<(), String> {
    let mut here = root;
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        // What stands behind is of some verb that is not said.
        if *word == "…" || word.starts_with('{') && here.has_subcommands() {
            return Ok(());
        }
        if let Some(flag) = word.strip_prefix("--") {
            let flag = flag.split('=').next().unwrap_or(flag);
            let known = here
                .get_arguments()
                .find(|a| a.get_long() == Some(flag) || a.get_all_aliases().unwrap_or_default().contains(&flag));
            let arg = known.ok_or_else(|| format!("`{}` has no flag --{flag}", here.get_name()))?;
            if arg.get_action().takes_values() && !word.contains('=') {
                words.next();
            }
        } else if let Some(verb) = here.find_subcommand(word) {
            here = verb;
        } else if here.has_subcommands() && !matches!(word.chars().next(), Some('…' | '{' | '-')) {
            return Err(format!("`{}` has no verb `{word}`", here.get_name()));
        }
    }
    Ok(())
}
