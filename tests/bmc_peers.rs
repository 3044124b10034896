//! The laboratory's BMC under validators and clients that nobody here wrote: DMTF's protocol validator, its service
//! validator, redfishtool, and sushy. They come from PyPI into a virtual environment; where it cannot be made, the test
//! says so and ends.
//!
//! `RACKCTL_DSP8010` names a folder of DMTF's CSDL files (`ServiceRoot_v1.xml` and so on, of DSP8010), which the service
//! validator needs.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests, outside of #[test] functions

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

const PASSWORD: &str = "correct-horse-1";
const PACKAGES: [&str; 4] =
    ["redfish_protocol_validator==1.3.2", "redfish_service_validator==3.1.8", "sushy==5.14.0", "redfishtool==1.1.8"];
const FAILURES_MOST: u64 = 20;
const PASSES_LEAST: u64 = 100;
/// Assertions that fail, each explained in docs/LAB_BMC.md.
const EXPLAINED: [&str; 1] = ["SERV_EVENT_POST_RESP"];

/// The virtual environment's folder of programs; `None`, loudly, where it cannot be had.
fn peers() -> Option<PathBuf> {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bmc-peers");
    // Each test is a process of its own: one makes it, the others wait.
    let lock = fs::File::create(place.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let done = place.join("done");
    if fs::read_to_string(&done).is_ok_and(|text| text == PACKAGES.join("\n")) {
        return Some(place.join("bin"));
    }
    let run = |command: &mut Command| {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
    };
    let _ = fs::remove_dir_all(&place);
    if !run(Command::new("python3").args(["-m", "venv"]).arg(&place)) {
        eprintln!("SKIPPED: no virtual environment of Python can be made (python3 -m venv)");
        return None;
    }
    let mut pip = Command::new(place.join("bin/pip"));
    if !run(pip.args(["install", "--quiet", "--disable-pip-version-check", "--retries", "1"]).args(PACKAGES)) {
        eprintln!("SKIPPED: Redfish validators and clients cannot be installed (pip install {})", PACKAGES.join(" "));
        return None;
    }
    fs::write(done, PACKAGES.join("\n")).unwrap();
    Some(place.join("bin"))
}

/// A BMC on a loopback port; ended when dropped.
struct Served {
    child: Child,
    url: String,
    folder: tempfile::TempDir,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn served() -> Served {
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    fs::write(&password, PASSWORD).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_rackctl"))
        .args(["lab", "bmc", "serve", "--password-file"])
        .arg(&password)
        .args(["--fault", "power-lag=200ms", "--fault", "task-time=200ms"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut url = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    Served { child, url: url.trim().to_owned(), folder }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A program of the virtual environment, given BMC and credentials; it verifies no certificate.
fn peer(bin: &Path, program: &str, served: &Served) -> Command {
    let mut command = Command::new(bin.join(program));
    // Whatever the host says of certificates would be believed more than the option not to look at them.
    for name in ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "http_proxy", "https_proxy", "HTTPS_PROXY"] {
        command.env_remove(name);
    }
    command.env("NO_PROXY", "127.0.0.1").env("PYTHONWARNINGS", "ignore").current_dir(served.folder.path());
    command.stdin(Stdio::null());
    command
}

/// The number after `word: `.
fn number(text: &str, word: &str) -> u64 {
    let after = text.split_once(&format!("{word}: ")).unwrap_or_else(|| panic!("no {word} in {text}")).1;
    after.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

#[test]
fn dmtfs_protocol_validator_passes_it() {
    let Some(bin) = peers() else { return };
    let served = served();
    let mut command = peer(&bin, "rf_protocol_validator", &served);
    command.args(["-r", &served.url, "-u", "admin", "-p", PASSWORD, "--no-cert-check", "--avoid-http-redirect"]);
    let output = command.arg("--report-dir").arg(served.folder.path()).output().unwrap();
    let text = said(&output);
    let summary = text.lines().find(|l| l.starts_with("Summary")).unwrap_or_else(|| panic!("{text}"));
    println!("{summary}");
    let mut files = fs::read_dir(served.folder.path()).unwrap().flatten().map(|e| e.path());
    let report = files.find(|p| p.extension().is_some_and(|e| e == "tsv")).unwrap();
    let failed: Vec<String> = fs::read_to_string(report)
        .unwrap()
        .lines()
        .map(|line| line.split('\t').map(str::to_owned).collect::<Vec<_>>())
        .filter(|cells| cells.get(4).is_some_and(|result| result == "FAIL"))
        .map(|cells| cells.join(" | "))
        .collect();
    failed.iter().for_each(|line| println!("{line}"));
    let unexplained: Vec<&String> =
        failed.iter().filter(|line| !EXPLAINED.contains(&line.split(" | ").next().unwrap_or_default())).collect();
    assert!(unexplained.is_empty(), "{unexplained:#?}");
    assert!(number(summary, "PASS") >= PASSES_LEAST && number(summary, "FAIL") <= FAILURES_MOST, "{summary}");
}

#[test]
fn dmtfs_service_validator_finds_no_error() {
    let Some(bin) = peers() else { return };
    let served = served();
    let mut command = peer(&bin, "rf_service_validator", &served);
    command.args(["-r", &served.url, "-u", "admin", "-p", PASSWORD, "--logdir"]).arg(served.folder.path());
    let schemas = match std::env::var_os("RACKCTL_DSP8010") {
        Some(folder) => {
            command.arg("--skipschema");
            PathBuf::from(folder)
        }
        // It loads them from DMTF's site by itself.
        None => Path::new(env!("CARGO_TARGET_TMPDIR")).join("dsp8010"),
    };
    let output = command.arg("--schema_directory").arg(&schemas).output().unwrap();
    if !schemas.join("ServiceRoot_v1.xml").exists() {
        eprintln!("SKIPPED: DMTF's schemas cannot be had (set RACKCTL_DSP8010 to a folder of DSP8010's CSDL files)");
        return;
    }
    let text = said(&output);
    // A table of one row: passed, warned, failed, not tested.
    let row = text.lines().filter(|l| l.starts_with('|')).nth(1).unwrap_or_else(|| panic!("{text}"));
    let numbers: Vec<u64> = row.split('|').filter_map(|cell| cell.trim().parse().ok()).collect();
    println!("passed, warned, failed, not tested: {numbers:?}");
    let [passed, _, failed, _] = numbers[..] else { panic!("{row}") };
    let log = fs::read_dir(served.folder.path()).unwrap().flatten().flat_map(|e| fs::read_dir(e.path()));
    let log = log.flatten().flatten().map(|e| e.path()).find(|p| p.to_string_lossy().contains("Debug"));
    let faults = log.map(|p| fs::read_to_string(p).unwrap()).unwrap_or_default();
    let faults: Vec<&str> = faults.lines().filter(|l| l.contains(" FAIL - ")).collect();
    assert!(passed > 1000 && failed == 0, "{row}\n{}", faults.join("\n"));
}

#[test]
fn sushy_and_redfishtool_drive_power_and_boot() {
    let Some(bin) = peers() else { return };
    let served = served();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bmc_peers/sushy_drives.py");
    let output = peer(&bin, "python", &served).arg(script).args([&served.url, "admin", PASSWORD]).output().unwrap();
    assert!(said(&output).contains("sushy drove it"), "{}", said(&output));
    let host = served.url.trim_start_matches("https://");
    let tool = |words: &[&str]| {
        let mut command = peer(&bin, "redfishtool", &served);
        command.args(["-r", host, "-u", "admin", "-p", PASSWORD, "-S", "Always", "Systems", "-I", "1"]).args(words);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", said(&output));
        said(&output)
    };
    tool(&["setBootOverride", "Once", "Pxe"]);
    assert!(tool(&[]).contains(r#""BootSourceOverrideTarget": "Pxe""#));
    tool(&["reset", "On"]);
    let on = (0..20).any(|_| tool(&["-P", "PowerState"]).contains(r#""PowerState": "On""#));
    assert!(on, "redfishtool does not see it go on");
    assert!(tool(&[]).contains(r#""BootSourceOverrideEnabled": "Disabled""#), "once means once");
}
