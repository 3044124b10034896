//! `cargo xtask bench bmc`: `rackctl power status --all` over thousands of BMCs, beside curl and, where it is at hand, a
//! bare client (the floor). Figures against their targets; no test, for a busy host would fail it.
//!
//! Everything happens in a network namespace of its own. The BMCs are programs of their own too: what they work is not
//! rackctl's, but it is of the same processors, and the bound says how much.

// A benchmark that cannot go on has nothing to measure.
#![allow(clippy::unwrap_used, clippy::panic)]

mod inventory;
mod ipmi;
mod measure;
mod mock;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use measure::{Took, of_several};
use mock::{Counts, Mocks};

const TRIES: usize = 5;
/// Answers take so long, each drawn anew (ms).
const LATENCY_MS: (u64, u64) = (50, 200);
const CONCURRENCY: usize = 512;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => apart(),
        ["inside"] => inside(),
        ["mock", folder] => mock::run(Path::new(folder), LATENCY_MS),
        ["ipmi", count] => ipmi::run(count.parse().unwrap()),
        other => panic!("not understood: {other:?}"),
    }
}

/// Once more, in a namespace where every address is ours.
fn apart() {
    let me = std::env::current_exe().unwrap();
    let status = Command::new("unshare").args(["--net", "--"]).arg(me).arg("inside").status().unwrap();
    assert!(status.success(), "the benchmark ended with {status}; it needs root, for a network namespace");
}

fn inside() {
    for words in [["link", "set", "lo", "up"].as_slice(), &["address", "add", "127.0.0.0/8", "dev", "lo"]] {
        // The second is there already on most kernels.
        let _ = Command::new("ip").args(words).status().unwrap();
    }
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bench-bmc");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let open_files = measure::raise_open_files();
    println!("{} processors, {open_files} open files", measure::cores());
    redfish(&folder, 10_000);
    redfish(&folder, 1_000);
    ipmi(&folder, 1_000);
}

fn redfish(folder: &Path, count: usize) {
    println!("-- {count} BMCs over TLS, answers after {} to {} ms, {CONCURRENCY} at once", LATENCY_MS.0, LATENCY_MS.1);
    let mut mocks = Mocks::start(folder);
    let hosts = mock::addresses(count);
    let manifests = folder.join(format!("redfish-{count}.yaml"));
    std::fs::write(&manifests, inventory::redfish(&hosts, &mocks.pin)).unwrap();

    let (mine, asked) = mocks.during(|| of_several(TRIES, || rackctl(&manifests, folder, count)));
    let requests = asked.requests as f64 / TRIES as f64;
    println!("   rackctl: {}", mine.words(requests));
    println!(
        "     {requests:.0} requests and {} handshakes a turn, {:.2} a BMC; targets {}",
        asked.handshakes / TRIES as u64,
        requests / count as f64,
        if count == 10_000 { "1.3 x the bound, 0.35 ms of processors a request, 64 MB" } else { "1.5 s" }
    );
    let config = folder.join(format!("curl-{count}"));
    std::fs::write(&config, inventory::curl(&hosts)).unwrap();
    let (curl, asked_by_curl) = mocks.during(|| of_several(3, || with_curl(&config, &mocks_pin(&manifests), count)));
    println!("   curl --parallel: {}", curl.words(asked_by_curl.requests as f64 / 3.0));

    let latency = requests * (LATENCY_MS.0 + LATENCY_MS.1) as f64 / 2e3 / CONCURRENCY as f64;
    match floor(folder) {
        None => println!("   SKIPPED: the floor; its source is not beside this repository (RACKCTL_SHARED)"),
        Some(program) => {
            let (bare, asked) = mocks.during(|| of_several(TRIES, || sweep(&program, count)));
            println!("   a bare client: {}", bare.words(asked.requests as f64 / TRIES as f64));
            // What a bare client and the BMCs work for one request, on all processors.
            let each = (bare.worked_s + asked.worked_s / TRIES as f64) * TRIES as f64 / asked.requests as f64;
            let work = requests * each / measure::cores() as f64;
            let bound = latency.max(work);
            println!(
                "   bound of these requests: latency {latency:.2} s, processors {work:.2} s; rackctl takes {:.2} x the larger",
                mine.clock_s / bound
            );
        }
    }
    mocks.stop();
}

fn ipmi(folder: &Path, count: usize) {
    println!("-- {count} BMCs over IPMI, cipher suite 17, {CONCURRENCY} at once; target 1 s");
    let mut bmcs = ipmi::Bmcs::start(count);
    let manifests = folder.join("ipmi.yaml");
    std::fs::write(&manifests, inventory::ipmi(&ipmi::addresses(count))).unwrap();
    let mine = of_several(TRIES, || rackctl(&manifests, folder, count));
    println!("   rackctl: {}", mine.words(count as f64));
    bmcs.stop();
}

/// The whole command, as its caller sees it, with a state of its own; every machine must be told as on.
fn rackctl(manifests: &Path, folder: &Path, count: usize) -> Took {
    let state = folder.join("state");
    let _ = std::fs::remove_dir_all(&state);
    std::fs::create_dir_all(&state).unwrap();
    let (took, out) = measure::run(
        Command::new(env!("CARGO_BIN_EXE_rackctl"))
            .arg("-f")
            .arg(manifests)
            .arg("--store")
            .arg(format!("sqlite:{}/state.db", state.display()))
            .args(["--concurrency", &CONCURRENCY.to_string(), "power", "status", "--all"])
            .env("BMC_PASSWORD", mock::PASSWORD)
            .env("XDG_CACHE_HOME", folder.join("cache")),
        &folder.join("out"),
    );
    let on = out.lines().filter(|line| line.split_whitespace().any(|word| word == "on")).count();
    assert_eq!(on, count, "{}", out.lines().take(5).collect::<Vec<_>>().join("\n"));
    took
}

fn mocks_pin(manifests: &Path) -> String {
    let text = std::fs::read_to_string(manifests).unwrap();
    text.split("sha256:").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

/// One request a BMC, with the same key pinned.
fn with_curl(config: &Path, pin: &str, count: usize) -> Took {
    let (took, out) = measure::run(
        Command::new("curl")
            .args(["-sk", "--pinnedpubkey", &format!("sha256//{pin}"), "-u", &format!("root:{}", mock::PASSWORD)])
            .args(["--parallel", "--parallel-immediate", "--parallel-max", &CONCURRENCY.min(300).to_string(), "-K"])
            .arg(config)
            .args(["-w", "%{http_code}\n"]),
        &config.with_extension("out"),
    );
    assert_eq!(out.lines().filter(|line| *line == "200").count(), count);
    took
}

/// The bare client of the side-by-side harness, built where its source is at hand.
fn floor(folder: &Path) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("shared");
    let shared = std::env::var_os("RACKCTL_SHARED").map_or(beside, PathBuf::from);
    let kit = shared.join("bench/kit/Cargo.toml");
    if !kit.is_file() {
        return None;
    }
    let target = folder.parent().unwrap().join("bench-kit");
    let program = target.join("release/sweep");
    if !program.is_file() {
        let built = Command::new("cargo")
            .args(["build", "--release", "--quiet", "--bin", "sweep", "--manifest-path"])
            .arg(&kit)
            .arg("--target-dir")
            .arg(&target)
            .status();
        assert!(built.unwrap().success(), "the floor's client does not build");
    }
    Some(program)
}

fn sweep(program: &Path, count: usize) -> Took {
    let (took, out) = measure::run(
        Command::new(program)
            .args(["https", "8443"])
            .args([count, CONCURRENCY].map(|n| n.to_string()))
            .arg(mock::SYSTEM),
        &program.with_extension("out"),
    );
    assert!(out.contains(&format!("\"ok\":{count},")), "{out}");
    took
}

/// Of the mocks, while something went on.
impl Mocks {
    fn during<T>(&mut self, work: impl FnOnce() -> T) -> (T, Counts) {
        let before = self.counts();
        let result = work();
        (result, self.counts() - before)
    }
}
