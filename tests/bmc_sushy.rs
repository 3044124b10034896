//! Verbs against a BMC that nobody here wrote: sushy-tools' emulator with fake machines, behind TLS and Basic auth.
//! Each succeeds, or says exactly what that BMC lacks.

// Helpers of tests are tests; clippy's own exception knows only functions with the attribute.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

const PACKAGE: &str = "sushy-tools==2.2";
const PASSWORD: &str = "correct horse";

/// A Python environment with the emulator, made once a target folder; `None`, loudly, where it cannot be had.
fn python() -> Option<PathBuf> {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sushy-tools-2.2");
    if place.join("bin/sushy-emulator").exists() && place.join("whole").exists() {
        return Some(place);
    }
    let _ = fs::remove_dir_all(&place);
    let quiet = |program: &Path, words: &[&str]| {
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|s| s.success())
    };
    let pip = place.join("bin/pip");
    let made = quiet(Path::new("python3"), &["-m", "venv", place.to_str().unwrap()])
        && quiet(&pip, &["install", "--quiet", PACKAGE, "bcrypt"]);
    if !made {
        eprintln!("SKIPPED: {PACKAGE} cannot be had (python3 -m venv, pip install {PACKAGE})");
        return None;
    }
    fs::write(place.join("whole"), "").unwrap();
    Some(place)
}

struct Emulator {
    child: Child,
    folder: tempfile::TempDir,
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Emulator {
    fn start(python: &Path) -> Emulator {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let certificate = rackctl::lab::bmc::certificate("localhost", Some("127.0.0.1".parse().unwrap())).unwrap();
        fs::write(at("cert.pem"), &certificate.cert_pem).unwrap();
        fs::write(at("key.pem"), certificate.key_pem.expose()).unwrap();
        let hash = Command::new(python.join("bin/python"))
            .args([
                "-c",
                "import bcrypt, sys; print(bcrypt.hashpw(sys.argv[1].encode(), bcrypt.gensalt(4)).decode())",
                PASSWORD,
            ])
            .output()
            .unwrap();
        assert!(hash.status.success(), "{}", String::from_utf8_lossy(&hash.stderr));
        fs::write(at("users"), format!("admin:{}", String::from_utf8(hash.stdout).unwrap())).unwrap();
        let config = format!(
            "SUSHY_EMULATOR_AUTH_FILE = {:?}\nSUSHY_EMULATOR_STATE_DIR = {:?}\n",
            at("users").to_str().unwrap(),
            folder.path().to_str().unwrap()
        );
        fs::write(at("config.py"), config).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = fs::File::create(at("log")).unwrap();
        let child = Command::new(python.join("bin/sushy-emulator"))
            .args(["--fake", "--interface", "127.0.0.1", "--port", &port.to_string(), "--config"])
            .arg(at("config.py"))
            .arg("--ssl-certificate")
            .arg(at("cert.pem"))
            .arg("--ssl-key")
            .arg(at("key.pem"))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut emulator = Emulator { child, folder };
        let until = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = emulator.child.try_wait().unwrap();
            let log = || fs::read_to_string(emulator.folder.path().join("log")).unwrap_or_default();
            assert!(ended.is_none() && Instant::now() < until, "the emulator does not listen: {ended:?}\n{}", log());
            std::thread::sleep(Duration::from_millis(100));
        }
        let secret = emulator.folder.path().join("password");
        fs::write(&secret, PASSWORD).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let inventory = format!(
            "apiVersion: rackctl.dev/v1alpha1
kind: Credential
metadata: {{ name: bmc }}
spec: {{ username: admin, passwordFrom: {{ file: {secret:?} }} }}
---
apiVersion: rackctl.dev/v1alpha1
kind: Node
metadata: {{ name: n1 }}
spec:
  bmc: {{ endpoints: [{{ redfish: \"https://127.0.0.1:{port}\", credential: bmc, tls: {{ pin: \"{pin}\" }} }}] }}
  interfaces: [{{ name: eno1, mac: \"52:54:00:00:00:01\", addresses: [10.77.0.11/24] }}]
",
            secret = secret.to_str().unwrap(),
            pin = certificate.pin,
        );
        fs::write(emulator.folder.path().join("fleet.yaml"), inventory).unwrap();
        emulator
    }

    fn rackctl(&self, words: &[&str]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_rackctl"))
            .args(["-f", "fleet.yaml", "--store", "sqlite:state.db"])
            .args(words)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let said = (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr));
        println!("rackctl {}: {}\n{}{}", words.join(" "), said.0, said.1, said.2);
        assert!(!said.2.contains("panicked") && !said.2.contains("\"error\":"), "raw JSON or a panic: {}", said.2);
        assert!(!said.1.contains(PASSWORD) && !said.2.contains(PASSWORD));
        said
    }

    /// Exit 0, or 3 with a sentence that names what is not there.
    fn shows_or_lacks(&self, words: &[&str]) -> bool {
        let (code, _, err) = self.rackctl(words);
        match code {
            0 => true,
            3 => {
                assert!(err.contains("this BMC offers no ") && err.contains("looked at "), "{words:?}: {err}");
                false
            }
            code => panic!("{words:?} ended with {code}: {err}"),
        }
    }
}

#[test]
fn verbs_do_what_they_say_or_say_what_is_missing() {
    let Some(python) = python() else { return };
    let emulator = Emulator::start(&python);

    let (code, out, err) = emulator.rackctl(&["bmc", "info", "n1", "-o", "json"]);
    assert_eq!(code, 0, "{err}");
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(said["items"][0]["metadata"]["name"], "n1");
    assert!(said["items"][0]["status"]["facts"]["uuid"].is_string(), "{out}");

    let (code, out, err) = emulator.rackctl(&["power", "status", "n1"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("off") || out.contains("on"), "{out}");

    // This BMC makes every override a lasting one: read back, taken knowingly, and said with what clears it.
    let (code, out, err) = emulator.rackctl(&["boot", "set", "pxe", "n1"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("pxe persistent") && out.contains("rackctl boot set none"), "{out}");
    let (code, out, err) = emulator.rackctl(&["boot", "set", "none", "n1"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("no override"), "{out}");
    let (code, _, err) = emulator.rackctl(&["boot", "set", "pxe", "n1", "--persistent"]);
    assert_eq!(code, 0, "{err}");
    let (code, out, err) = emulator.rackctl(&["boot", "show", "n1"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("pxe"), "{out}");

    let mut shown = Vec::new();
    for verb in ["log", "sensors", "bios", "firmware", "raid", "users", "cert", "media", "screenshot"] {
        if emulator.shows_or_lacks(&["bmc", verb, "n1"]) {
            shown.push(verb);
        }
    }
    println!("it has: {shown:?}");
    // A wrong password is a refusal, told once, and no crash.
    fs::write(emulator.folder.path().join("password"), "wrong").unwrap();
    let (code, _, err) = emulator.rackctl(&["bmc", "sensors", "n1"]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("refuses user `admin`"), "{err}");
}
