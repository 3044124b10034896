//! Many simulated worlds, one after the other or on several threads: `cargo xtask simulate --help`.
//!
//! Prints one line for each world that breaks an invariant, with what replays it, and a summary. Exit 1 when one broke.

use std::{
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use rackctl::sim::{Profile, Scenario, simulate};

const USAGE: &str = "\
simulate [--runs N] [--seed S] [--nodes N] [--faults none|crash|light|heavy] [--jobs J] [--log]
    --runs N     worlds, with the seeds S, S+1, … (default 100)
    --seed S     first seed (default 1)
    --nodes N    machines in each (default 20)
    --faults P   what goes wrong (default heavy)
    --jobs J     threads (default 1)
    --log        print the whole log of each world
";

struct Options {
    runs: u64,
    seed: u64,
    nodes: usize,
    faults: Profile,
    jobs: usize,
    log: bool,
}

fn parse(arguments: &[String]) -> Result<Options, String> {
    let mut options = Options { runs: 100, seed: 1, nodes: 20, faults: Profile::Heavy, jobs: 1, log: false };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} wants a value"));
        let number = |text: &String| text.parse::<u64>().map_err(|_| format!("`{text}` is no number"));
        match word.as_str() {
            "--runs" => options.runs = number(value()?)?,
            "--seed" => options.seed = number(value()?)?,
            "--nodes" => options.nodes = number(value()?)? as usize,
            "--jobs" => options.jobs = number(value()?)?.max(1) as usize,
            "--faults" => {
                let word = value()?;
                options.faults = Profile::parse(word).ok_or(format!("there is no profile `{word}`"))?;
            }
            "--log" => options.log = true,
            other => return Err(format!("there is no option `{other}`")),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|a| a == "--help" || a == "-h") {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let options = match parse(&arguments) {
        Ok(options) => options,
        Err(why) => {
            eprint!("{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let began = Instant::now();
    let (next, broken, virtual_ms) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let printing = Mutex::new(());
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= options.runs {
                        return;
                    }
                    let seed = options.seed + index;
                    let report = simulate(Scenario { seed, nodes: options.nodes, faults: options.faults });
                    virtual_ms.fetch_add(report.took_ms, Ordering::Relaxed);
                    let _one_at_a_time = printing.lock();
                    if options.log {
                        println!("{}", report.log.join("\n"));
                    }
                    if !report.violations.is_empty() {
                        broken.fetch_add(1, Ordering::Relaxed);
                        println!("{}", report.line());
                        if options.runs == 1 {
                            println!("{}", report.around.join("\n"));
                            for violation in &report.violations {
                                println!("{violation:?}");
                            }
                        }
                    }
                }
            });
        }
    });
    let (took, broken) = (began.elapsed(), broken.into_inner());
    println!(
        "{} worlds of {} nodes ({}) in {:.1} s ({:.0} a minute), {:.1} virtual hours; {broken} broke an invariant",
        options.runs,
        options.nodes,
        options.faults.word(),
        took.as_secs_f64(),
        options.runs as f64 * 60.0 / took.as_secs_f64(),
        virtual_ms.into_inner() as f64 / 3_600_000.0
    );
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
