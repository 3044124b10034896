//! `cargo xtask fuzz`: what a BMC may send, made up by libFuzzer under coverage. A crash is kept as a file, and told
//! with the command that replays it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{
    build::target_dir,
    exec::{Argv, root},
    setup::{self, needs},
    trouble::Trouble,
};

/// Each is a program `fuzz-NAME` of the package in `fuzz/`, with inputs to begin from in `fuzz/seeds/NAME`.
const TARGETS: [Target; 2] =
    [Target { name: "redfish", most: 65_536, text: true }, Target { name: "ipmi", most: 4_096, text: false }];
const DEFAULT: Duration = Duration::from_secs(60);
/// One input.
const INPUT_LIMIT_S: u32 = 10;
const MEMORY_MB: u32 = 2_048;
/// Real trees, where they are at hand: inputs to begin from, read and never copied into the repository.
const SHARED: &str = "data/redfish";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Target {
    name: &'static str,
    /// Bytes of an input at most.
    most: usize,
    /// Text alone.
    text: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    targets: Vec<Target>,
    time: Duration,
}

/// Every target, a minute each.
impl Default for Options {
    fn default() -> Options {
        Options { targets: TARGETS.to_vec(), time: DEFAULT }
    }
}

impl Options {
    pub fn parse(words: &[String]) -> Result<Options, Trouble> {
        let mut options = Options::default();
        let mut words = words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| Trouble::usage(format!("{word} wants a value")));
            match word {
                "--seconds" => {
                    let text = value()?;
                    let seconds = text.parse().ok().filter(|s| *s > 0);
                    let wrong = || Trouble::usage(format!("--seconds wants a number from 1, not `{text}`"));
                    options.time = Duration::from_secs(seconds.ok_or_else(wrong)?);
                }
                "--only" => {
                    let text = value()?;
                    options.targets.retain(|t| t.name == text);
                    if options.targets.is_empty() {
                        let names = TARGETS.map(|t| t.name).join(", ");
                        return Err(Trouble::usage(format!("there is no target `{text}`; there are: {names}")));
                    }
                }
                other => return Err(Trouble::usage(format!("`{other}` is no flag of `cargo xtask fuzz`"))),
            }
        }
        Ok(options)
    }
}

pub fn run(options: &Options) -> Result<(), Trouble> {
    setup::packages(&needs::FUZZ)?;
    let wrapper = root().join("fuzz/rustc.sh");
    Argv::new(&["cargo", "build", "--locked", "--package", "rackctl-fuzz", "--features", "engine"])
        .env("RUSTC_WORKSPACE_WRAPPER", wrapper.to_string_lossy())
        .run()?;
    // Each has a core of its own where there are two.
    let mut running = Vec::new();
    for target in &options.targets {
        running.push((*target, Running::start(*target, options.time)?));
    }
    let results: Vec<_> = running.into_iter().map(|(target, running)| (target, running.wait())).collect();
    let mut failed = None;
    for (target, result) in results {
        match result {
            Ok(told) => eprintln!("fuzz {}: no crash; {told}", target.name),
            Err(trouble) => {
                eprintln!("{trouble}");
                failed = Some(trouble);
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

struct Running {
    child: Child,
    program: PathBuf,
    log: PathBuf,
    crashes: PathBuf,
}

impl Running {
    fn start(target: Target, time: Duration) -> Result<Running, Trouble> {
        let what = format!("fuzz {}", target.name);
        let fail = |e: std::io::Error| Trouble::new(what.clone(), e.to_string());
        let home = target_dir().join("fuzz").join(target.name);
        let (corpus, crashes, log) = (home.join("corpus"), home.join("crashes"), home.join("log"));
        fs::create_dir_all(&corpus).map_err(fail)?;
        fs::create_dir_all(&crashes).map_err(fail)?;
        let program = target_dir().join("debug").join(format!("fuzz-{}", target.name));
        let mut words = vec![
            format!("-max_total_time={}", time.as_secs()),
            format!("-max_len={}", target.most),
            format!("-timeout={INPUT_LIMIT_S}"),
            format!("-rss_limit_mb={MEMORY_MB}"),
            format!("-only_ascii={}", u8::from(target.text)),
            format!("-artifact_prefix={}/", crashes.display()),
            "-print_final_stats=1".to_owned(),
            corpus.display().to_string(),
            root().join("fuzz/seeds").join(target.name).display().to_string(),
        ];
        if target.text
            && let Some(trees) = shared()
        {
            words.push(trees.display().to_string());
        }
        eprintln!("+ {} {}  # its words go to {}", program.display(), words.join(" "), log.display());
        let out = fs::File::create(&log).map_err(fail)?;
        let child = Command::new(&program)
            .args(&words)
            .current_dir(root())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(out)
            .spawn()
            .map_err(fail)?;
        Ok(Running { child, program, log, crashes })
    }

    /// What it says of its work; trouble names the input that broke it.
    fn wait(mut self) -> Result<String, Trouble> {
        let what = self.program.display().to_string();
        let status = self.child.wait().map_err(|e| Trouble::new(&what, e.to_string()))?;
        let log = String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned();
        if status.success() {
            return Ok(summary(&log));
        }
        let why = format!("ended with {status}; its words are in {}", self.log.display());
        let input = crash(&log).unwrap_or_else(|| format!("{}/…", self.crashes.display()));
        Err(Trouble::new(&what, why).next(format!("{what} {input}")))
    }
}

/// The recorded trees beside the repository.
fn shared() -> Option<PathBuf> {
    let named = std::env::var_os("RACKCTL_SHARED").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| root().parent().unwrap_or(Path::new("/")).join("shared")).join(SHARED);
    folder.is_dir().then_some(folder)
}

/// `1203344 inputs, 3021 kept, coverage 8123`, of libFuzzer's last words.
fn summary(log: &str) -> String {
    let stat = |name: &str| {
        let line = log.lines().rev().find(|l| l.contains(name))?;
        line.split_once(name)?.1.split_whitespace().next().map(str::to_owned)
    };
    let told = [
        ("inputs tried", stat("stat::number_of_executed_units:")),
        ("places reached (cov)", stat(" cov: ")),
        ("MB at most", stat("stat::peak_rss_mb:")),
    ];
    told.into_iter().filter_map(|(what, n)| Some(format!("{} {what}", n?))).collect::<Vec<_>>().join(", ")
}

/// The file that libFuzzer wrote the input to.
fn crash(log: &str) -> Option<String> {
    log.lines().find_map(|l| l.split_once("Test unit written to ").map(|(_, path)| path.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Result<Options, Trouble> {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn flags() {
        assert_eq!(options("").unwrap().targets.len(), TARGETS.len());
        let one = options("--only ipmi --seconds 1800").unwrap();
        assert_eq!((one.targets.len(), one.time.as_secs()), (1, 1_800));
        for wrong in ["--only snmp", "--seconds 0", "--seconds", "--minutes 3"] {
            assert_eq!(options(wrong).unwrap_err().code, 2, "{wrong}");
        }
    }

    #[test]
    fn words_of_libfuzzer() {
        let log = "#4 INITED cov: 12 ft: 30\n#90 DONE   cov: 812 ft: 3000 corp: 9/8b\n\
                   stat::number_of_executed_units: 90\nstat::peak_rss_mb:              61\n";
        assert_eq!(summary(log), "90 inputs tried, 812 places reached (cov), 61 MB at most");
        assert_eq!(crash("x\nTest unit written to /t/crash-1\n"), Some("/t/crash-1".to_owned()));
        assert_eq!(crash(log), None);
    }
}
