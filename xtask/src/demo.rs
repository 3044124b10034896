//! `cargo xtask demo`: the product's main job, on machines that are emulated and code that is not.

use std::{env, path::PathBuf, process::ExitCode};

use crate::{
    build,
    exec::Argv,
    setup::{self, needs, root::Root},
    stopwatch::Stopwatch,
    trouble::Trouble,
};

/// Sockets of a laboratory's machines must fit 107 bytes; its name stands in their paths.
const NAME_MAX_CHARS: usize = 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    name: String,
    nodes: u32,
    release: bool,
    keep: bool,
}

impl Options {
    pub fn parse(words: &[String]) -> Result<Options, Trouble> {
        let mut options = Options { name: "demo".into(), nodes: 3, release: false, keep: true };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let (flag, joined) = word.split_once('=').map_or((word.as_str(), None), |(f, v)| (f, Some(v.to_owned())));
            let mut value = || {
                joined
                    .clone()
                    .or_else(|| words.next().cloned())
                    .ok_or_else(|| Trouble::usage(format!("{flag} needs a value")))
            };
            match flag {
                "--nodes" => {
                    let text = value()?;
                    options.nodes = text
                        .parse()
                        .ok()
                        .filter(|n| (1..=9).contains(n))
                        .ok_or_else(|| Trouble::usage(format!("--nodes {text}: a number from 1 to 9 is wanted")))?;
                }
                "--name" => {
                    let text = value()?;
                    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
                    if text.is_empty() || text.len() > NAME_MAX_CHARS || !text.chars().all(good) {
                        let why = format!("--name {text}: up to {NAME_MAX_CHARS} small letters and digits are wanted");
                        return Err(Trouble::usage(why));
                    }
                    options.name = text;
                }
                "--release" => options.release = true,
                "--keep" => options.keep = true,
                "--no-keep" => options.keep = false,
                other => return Err(Trouble::usage(format!("`{other}` is not understood here"))),
            }
        }
        Ok(options)
    }
}

pub fn run(options: &Options) -> Result<ExitCode, Trouble> {
    let mut watch = Stopwatch::start();
    let system = watch.stage("packages", || setup::packages(&needs::DEMO))?;
    if !system.is_debian_12 {
        return Err(Trouble::new(
            "demo",
            format!("installer and system are built from Debian 12's signed index, and this is {}", system.name),
        )
        .next("run it on Debian 12, for instance in a privileged container of debian:bookworm"));
    }
    watch.stage("build the node program", build::node_program)?;
    let program = watch.stage("build rackctl", || build::rackctl(options.release))?;
    let lab = Lab { name: &options.name, program, root: Root::find() };
    // Whatever happens, what root made in the person's folders is the person's.
    let done = bring_up(options, &lab, &mut watch);
    lab.root.give_back()?;
    let exit = done?;
    eprintln!("\nTime of this demonstration");
    eprint!("{}", watch.table());
    eprintln!("\n{}", lab.advice(options));
    Ok(exit)
}

fn bring_up(options: &Options, lab: &Lab<'_>, watch: &mut Stopwatch) -> Result<ExitCode, Trouble> {
    let context = lab.context();
    watch.stage("a laboratory of machines that are off", || lab.create(options.nodes))?;
    // Apart from the plan: that one works in the laboratory's namespace, from which no mirror is reached.
    watch.stage("installer and system, from verified packages", || {
        lab.rackctl(&["--context", &context, "image", "build"]).run()
    })?;
    let scope = ["plan", "--allow", "reboot,data-loss"];
    let hash = watch.stage("plan", || {
        let plan = lab.rackctl(&["--context", &context]).args(scope);
        plan.clone().args(["-o", "jsonpath={.metadata.hash}"]).output().map(|hash| hash.trim().to_owned()).inspect_err(
            |_| {
                // Once more for people: a refusal says why.
                let _ = plan.status();
            },
        )
    })?;
    let apply = lab.rackctl(&["--context", &context, "apply", "--allow", "reboot,data-loss", "--approve", &hash]);
    let status = watch.stage("apply: from powered off to a healthy cluster", || apply.status())?;
    if !status.success() {
        return match status.code() {
            Some(code) => {
                eprintln!("{}", lab.after_failure());
                Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
            }
            None => Err(Trouble::new("apply", status.to_string()).next(lab.typed(&["resume"]))),
        };
    }
    watch.stage("the members, as the cluster says it", || lab.voters(options.nodes))?;
    if !options.keep {
        watch.stage("clean up", || lab.rackctl(&["lab", "delete", lab.name]).run())?;
    }
    Ok(ExitCode::SUCCESS)
}

struct Lab<'a> {
    name: &'a str,
    program: PathBuf,
    root: Root,
}

impl Lab<'_> {
    fn context(&self) -> String {
        format!("lab-{}", self.name)
    }

    fn rackctl(&self, words: &[&str]) -> Argv {
        self.root.argv(&[&self.program.to_string_lossy()]).args(words.iter().copied())
    }

    /// What a person would type, in this laboratory's context.
    fn typed(&self, words: &[&str]) -> String {
        let program = self.program.strip_prefix(env::current_dir().unwrap_or_default()).unwrap_or(&self.program);
        let sudo = if self.root.needs_sudo() { "sudo -E " } else { "" };
        format!("{sudo}{} --context {} {}", program.display(), self.context(), words.join(" "))
    }

    /// Deletes the one of that name, and makes another.
    fn create(&self, nodes: u32) -> Result<(), Trouble> {
        let there = self.rackctl(&["lab", "list", "-o", "name"]).output()?;
        if there.lines().any(|line| line.rsplit('/').next() == Some(self.name)) {
            self.rackctl(&["lab", "delete", self.name]).run()?;
        }
        self.rackctl(&["lab", "create", self.name, "--nodes", &nodes.to_string()]).run()
    }

    /// Shows the members, and holds their number against the machines'.
    fn voters(&self, nodes: u32) -> Result<(), Trouble> {
        let get = self.rackctl(&["--context", &self.context(), "get", "members"]);
        get.run()?;
        let template = "jsonpath={range .items[*]}{.status.role} {.status.healthy}{\"\\n\"}{end}";
        let voters = healthy_voters(&get.args(["-o", template]).output()?);
        match voters == nodes as usize {
            true => Ok(()),
            false => Err(Trouble::new("members", format!("{voters} healthy voters, {nodes} are wanted"))
                .next(self.typed(&["apply"]))),
        }
    }

    fn after_failure(&self) -> String {
        format!(
            "\nThe run did not end well. Go on with it:\n  {}\nWhat was recorded:\n  {}\n  {}",
            self.typed(&["resume"]),
            self.typed(&["runs"]),
            self.typed(&["get", "events"]),
        )
    }

    fn advice(&self, options: &Options) -> String {
        if !options.keep {
            return "The laboratory is deleted again.".to_owned();
        }
        let plain = self.typed(&[]).replace(&format!(" --context {}", self.context()), "");
        let lines: [String; 6] = [
            self.typed(&["get", "nodes", "-o", "wide"]),
            self.typed(&["describe", "node", "n1"]),
            format!("{}    # `~.` leaves", self.typed(&["console", "n1"])),
            self.typed(&["ssh", "n1"]),
            format!("{}    # finds every step done", self.typed(&["apply"])),
            format!("{}lab delete {}", plain, self.name),
        ];
        format!("The laboratory goes on running. To try next:\n  {}", lines.join("\n  "))
    }
}

/// Lines of role and health.
fn healthy_voters(text: &str) -> usize {
    text.lines().filter(|line| matches!(line.split_once(' '), Some(("leader" | "voter", "true")))).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, Trouble> {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_and_their_faults() {
        let all = parse("--nodes 5 --name=try2 --release --no-keep").unwrap();
        assert_eq!(all, Options { name: "try2".into(), nodes: 5, release: true, keep: false });
        assert_eq!(parse("").unwrap(), Options { name: "demo".into(), nodes: 3, release: false, keep: true });
        for wrong in ["--nodes", "--nodes 0", "--nodes many", "--name a/b", "--name", "stray"] {
            assert_eq!(parse(wrong).unwrap_err().code, 2, "{wrong}");
        }
    }

    #[test]
    fn learners_and_the_sick_are_no_voters() {
        assert_eq!(healthy_voters("leader true\nvoter true\nlearner true\nvoter false\n\n"), 2);
    }
}
