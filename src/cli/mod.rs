//! Level 5: a file a verb. Strings become goals here, and outcomes become exit codes.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::output::{Exit, Stop, stdout};
use args::{Cli, Verb, globals::LogFormat, run::PlaybookVerb};
use globals::{Color, Env, Globals};

pub mod apply;
pub mod approve;
pub mod args;
pub mod ask;
pub mod audit;
pub mod bmc;
pub mod complete;
pub mod completion;
pub mod conduct;
pub mod config;
pub mod context;
pub mod control;
pub mod describe;
pub mod diff;
pub mod doctor;
pub mod explain;
pub mod get;
pub mod globals;
pub mod image;
pub mod inspect;
pub mod interrupt;
pub mod lab;
pub mod limit;
pub mod lock;
pub mod logs;
pub mod looks;
pub mod man;
mod manifest;
pub mod opened;
pub mod paths;
pub mod play;
pub mod power;
pub mod prepare;
pub mod requests;
pub mod resume;
pub mod schema;
pub mod seen;
pub mod session;
pub mod short;
pub mod ssh;
pub mod standing;
pub mod state;
pub mod store;
pub mod targets;
pub mod validate;
pub mod version;

/// The variable with which a shell asks for completions.
pub const COMPLETE_VAR: &str = "RACKCTL_COMPLETE";

/// The whole program. Called by `main` before anything else but the TLS provider.
pub fn main() -> ExitCode {
    if let Some(exit) = version::at_once() {
        return exit;
    }
    if std::env::var_os(COMPLETE_VAR).is_some() {
        clap_complete::CompleteEnv::with_factory(Cli::command).var(COMPLETE_VAR).complete();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help goes to standard output, faults to standard error; a closed one is nobody's fault.
        Err(said) => {
            let _ = said.print();
            return ExitCode::from(u8::try_from(said.exit_code()).unwrap_or(Exit::Usage.code()));
        }
    };
    match &cli.verb {
        Verb::Netboot { fd } => return crate::netboot::child::main(*fd),
        Verb::LabSupervisor { dir } => return lab::supervisor(dir),
        Verb::LabNode { control, node } => return lab::node(control, node),
        _ => {}
    }
    let color = Color::decide(cli.globals.color, &Env::read());
    if cli.globals.log_format == Some(LogFormat::Json) {
        stdout::messages_as_json();
    }
    if let Some(after) = cli.globals.timeout {
        limit::start(after, &cli.verb, color.stderr);
    }
    match run(&cli) {
        Ok(exit) => exit.into(),
        Err(stop) => {
            let stop = looks::by_time(stop, cli.globals.timeout);
            report(&stop, color);
            stop.exit.into()
        }
    }
}

fn report(stop: &Stop, color: Color) {
    for one in &stop.failures {
        stdout::failure(one, color.stderr);
    }
}

fn run(cli: &Cli) -> Result<Exit, Stop> {
    let bare = || Globals::bare(&cli.globals);
    let full = || Globals::load(&cli.globals);
    match &cli.verb {
        // These work whatever the state of files, contexts and inventory is.
        Verb::Version(_) => version::run(&bare()),
        Verb::Completion(args) => completion::run(args),
        Verb::Man(args) => man::run(args),
        Verb::Schema(_) => schema::run(&bare()),
        Verb::Explain(args) => explain::run(&bare(), args),
        Verb::Config(args) => config::run(&bare(), args),
        Verb::Lab(args) => lab::run(&bare(), args),

        Verb::Get(args) => get::run(&full()?, args),
        Verb::Describe(args) => describe::run(&full()?, args),
        Verb::Validate(_) => validate::run(&full()?),
        Verb::Doctor(args) => doctor::run(&full()?, args),
        Verb::Image(args) => image::run(&full()?, args),
        Verb::Runs(_) => get::run(&full()?, &get::of("runs")),
        Verb::Lock(args) => lock::lock(&full()?, args),
        Verb::Audit(args) => audit::audit(&cli.globals, args),
        Verb::Store(args) => store::store(&full()?, args),
        Verb::State(args) => state::state(&full()?, args),

        // What plans, runs, or speaks to machines.
        Verb::Diff(args) => diff::run(&full()?, args),
        Verb::Plan(args) => apply::plan(&full()?, args),
        Verb::Apply(args) => apply::apply(&full()?, args),
        Verb::Install(args) => apply::install(&full()?, args),
        Verb::Join(args) => apply::join(&full()?, args),
        Verb::Upgrade(args) => apply::upgrade(&full()?, args),
        Verb::Power(args) => power::power(&full()?, args),
        Verb::Boot(args) => power::boot(&full()?, args),
        Verb::Bmc(args) => bmc::bmc(&full()?, args),
        Verb::Inspect(args) => inspect::inspect(&full()?, args),
        Verb::Console(args) => ssh::console(&full()?, args),
        Verb::Ssh(args) => ssh::ssh(&full()?, args),
        Verb::Logs(args) => logs::logs(&full()?, args),
        Verb::Run(args) => play::run(&full()?, args),
        Verb::Playbook(args) => match &args.verb {
            PlaybookVerb::Run(args) => play::run(&full()?, args),
            PlaybookVerb::List => get::run(&full()?, &get::of("playbooks")),
        },
        Verb::Resume(args) => resume::resume(&full()?, args),
        Verb::Pause(args) => control::pause(&full()?, args),
        Verb::Abort(args) => control::abort(&full()?, args),
        Verb::Approve(args) => approve::approve(&full()?, args),
        // Processes of ours: `main` has run them before anything else.
        Verb::Netboot { .. } | Verb::LabSupervisor { .. } | Verb::LabNode { .. } => Ok(Exit::Done),
    }
}
