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
simulate [--runs N] [--seed S] [--nodes N|mixed] [--faults none|crash|light|heavy|all] [--plain] [--jobs J] [--log]
    --runs N     worlds, with the seeds S, S+1, … (default 100)
    --seed S     first seed (default 1)
    --nodes N    machines in each (default 20); mixed: 3 to 40, one world of 500 has 200 and one of 5,000 has 1,000
    --faults P   what goes wrong (default all: none, crash, light, heavy by turns, as the seed says)
    --plain      default rollouts alone, and nothing of what is rare
    --jobs J     threads (default 1)
    --log        print the whole log of each world
";

struct Options {
    runs: u64,
    seed: u64,
    /// `None`: mixed.
    nodes: Option<usize>,
    /// `None`: by turns.
    faults: Option<Profile>,
    plain: bool,
    jobs: usize,
    log: bool,
}

fn parse(arguments: &[String]) -> Result<Options, String> {
    let mut options = Options { runs: 100, seed: 1, nodes: Some(20), faults: None, plain: false, jobs: 1, log: false };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} wants a value"));
        let number = |text: &String| text.parse::<u64>().map_err(|_| format!("`{text}` is no number"));
        match word.as_str() {
            "--runs" => options.runs = number(value()?)?,
            "--seed" => options.seed = number(value()?)?,
            "--nodes" => {
                let text = value()?;
                options.nodes = if text == "mixed" { None } else { Some(number(text)? as usize) };
            }
            "--plain" => options.plain = true,
            "--jobs" => options.jobs = number(value()?)?.max(1) as usize,
            "--faults" => {
                let word = value()?;
                let profile = || Profile::parse(word).ok_or(format!("there is no profile `{word}`"));
                options.faults = if word == "all" { None } else { Some(profile()?) };
            }
            "--log" => options.log = true,
            other => return Err(format!("there is no option `{other}`")),
        }
    }
    Ok(options)
}

impl Options {
    fn scenario(&self, seed: u64) -> Scenario {
        let nodes = self.nodes.unwrap_or(match seed {
            _ if seed % 5_000 == 4_999 => 1_000,
            _ if seed % 500 == 499 => 200,
            // Spread, and yet the seed's alone.
            _ => 3 + (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as usize % 38,
        });
        let turns = [Profile::None, Profile::Crash, Profile::Light, Profile::Heavy];
        let faults = self.faults.unwrap_or(turns[(seed % 4) as usize]);
        Scenario { seed, nodes, faults, plain: self.plain }
    }
}

/// Processor time of this process, which other load on the machine does not change.
fn cpu_s() -> Option<f64> {
    const TICKS_PER_S: f64 = 100.0;
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<f64>().ok();
    Some(((next()? + next()?) / TICKS_PER_S).max(0.01))
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
                    let report = simulate(options.scenario(seed));
                    virtual_ms.fetch_add(report.took_ms, Ordering::Relaxed);
                    let _one_at_a_time = printing.lock();
                    if options.log {
                        println!("{}", report.log().join("\n"));
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
    let core = cpu_s().map_or("?".to_owned(), |s| format!("{:.0}", options.runs as f64 * 60.0 / s));
    println!(
        "{} worlds of {} nodes ({}{}), seeds {} to {}, in {:.1} s: {core} a minute and core, {:.0} virtual \
         hours; {broken} broke an invariant",
        options.runs,
        options.nodes.map_or("3 to 1,000".to_owned(), |n| n.to_string()),
        options.faults.map_or("all faults", Profile::word),
        if options.plain { ", plain" } else { "" },
        options.seed,
        (options.seed + options.runs).saturating_sub(1),
        took.as_secs_f64(),
        virtual_ms.into_inner() as f64 / 3_600_000.0
    );
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
