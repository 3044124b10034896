use clap::{CommandFactory, Parser};

use super::{
    Cli, Verb,
    act::{BootVerb, PowerVerb},
    run::GoalWord,
};
use crate::model::{goal::Ceiling, power::PowerAction};

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("rackctl").chain(line.split_whitespace()))
}

fn cli(line: &str) -> Cli {
    parse(line).unwrap_or_else(|e| panic!("{line}: {e}"))
}

#[test]
fn the_grammar_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn global_flags_stand_before_and_behind_the_verb() {
    for line in
        ["-f a -i b --read-only -o json -vv get nodes", "get nodes --filename a --inventory b --read-only -o json -vv"]
    {
        let globals = cli(line).globals;
        assert_eq!(globals.filename, ["a", "b"].map(std::path::PathBuf::from), "{line}");
        assert!(globals.read_only && globals.verbose == 2 && globals.output == Some(crate::output::Format::Json));
    }
    let globals = cli("get nodes --timeout 1m30s --concurrency 8 --color never --log-format json").globals;
    assert_eq!((globals.timeout.map(|t| t.as_secs()), globals.concurrency), (Some(90), Some(8)));
}

#[test]
fn goals_split_into_word_and_machines() {
    for (line, word, names) in [
        ("plan", GoalWord::Apply, vec![]),
        ("plan n1 n2", GoalWord::Apply, vec!["n1", "n2"]),
        ("plan install n1", GoalWord::Install, vec!["n1"]),
        ("plan join", GoalWord::Join, vec![]),
    ] {
        let Verb::Plan(plan) = cli(line).verb else { panic!("{line}") };
        let (got, targets) = plan.goal.split();
        assert_eq!((got, targets.names), (word, names.into_iter().map(str::to_owned).collect()), "{line}");
    }
    let Verb::Apply(apply) = cli("apply --allow reboot,data-loss --max-wipes 3 --yes --approve 3F2A9C01").verb else {
        panic!()
    };
    assert_eq!(apply.goal.allow, Some(Ceiling::DataLoss));
    assert_eq!((apply.limits.max_wipes, apply.limits.approve.as_deref()), (Some(3), Some("3f2a9c01")));
    assert!(parse("apply n1 --plan p.json").is_err(), "a kept plan has its own goal");
}

#[test]
fn power_asks_first_and_forces_when_told() {
    let action = |line: &str| match cli(line).verb {
        Verb::Power(power) => power.verb.action().map(|(action, _)| action),
        _ => None,
    };
    assert_eq!(action("power off n1"), Some(PowerAction::GracefulShutdown));
    assert_eq!(action("power off n1 --force"), Some(PowerAction::ForceOff));
    assert_eq!(action("power reset n1"), Some(PowerAction::GracefulRestart));
    assert_eq!(action("power on n1 --stagger 2s --no-wait"), Some(PowerAction::On));
    assert_eq!(action("power status --all"), None);
    assert!(matches!(cli("power status -l a=b").verb, Verb::Power(p) if matches!(p.verb, PowerVerb::Status { .. })));
}

#[test]
fn boot_set_names_target_and_machines() {
    let Verb::Boot(boot) = cli("boot set pxe n1 n[2-4] --persistent").verb else { panic!() };
    let BootVerb::Set { targets, persistent, .. } = boot.verb else { panic!() };
    assert_eq!((targets.names, persistent), (vec!["n1".to_owned(), "n[2-4]".to_owned()], true));
    assert!(parse("boot set floppy n1").is_err());
}

#[test]
fn unknown_words_get_suggestions_and_exit_2() {
    for (line, hint) in [("gett nodes", "'get'"), ("get nodes --refres", "'--refresh'"), ("power of n1", "'off'")] {
        let fault = parse(line).unwrap_err();
        assert_eq!(fault.exit_code(), 2, "{line}");
        assert!(fault.to_string().contains(hint), "{line}: {fault}");
    }
    let fault = parse("get nodes -o jsn").unwrap_err();
    assert!(fault.exit_code() == 2 && fault.to_string().contains("did you mean `json`?"), "{fault}");
}

#[test]
fn every_verb_has_help_and_no_hidden_one_shows() {
    let mut command = Cli::command();
    let help = command.render_long_help().to_string();
    assert!(!help.contains("__"), "{help}");
    for verb in command.get_subcommands().filter(|v| !v.is_hide_set()) {
        assert!(verb.get_about().is_some(), "{} says nothing of itself", verb.get_name());
    }
    insta::assert_snapshot!(help);
}
