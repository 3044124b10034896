//! Reading a password from its source. Each source has a deadline and a size limit; what it says is never shown.

use std::{
    io::Read,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::io::AsyncReadExt;
use zeroize::Zeroize;

use super::redact::remember;
use crate::model::{
    Failure, Secret,
    failure::Cause,
    fleet::{Credential, SecretSource},
};

/// For a helper program and for the keyring.
const LIMIT: Duration = Duration::from_secs(10);
/// Bytes of a password with its line end. A BMC takes 20 to 127.
const MAX_BYTES: usize = 4096;
/// Characters of a helper's last words that are kept for the failure.
const MAX_TOLD: usize = 400;

/// The password of a credential. It is known to the redaction filter before it is returned.
pub async fn password(name: &str, credential: &Credential) -> Result<Secret, Failure> {
    let what = format!("read the password of credential `{name}`");
    let text = match &credential.password_from {
        SecretSource::File(path) => file(&what, path)?,
        SecretSource::Env(variable) => environment(&what, variable)?,
        SecretSource::Keyring(entry) => keyring(&what, entry).await?,
        SecretSource::Exec { .. } => answered(&what, run(&what, &argv(&credential.password_from, None)).await?)?,
        SecretSource::Age(_) | SecretSource::Sops(_) => {
            run(&what, &argv(&credential.password_from, age_identity().as_deref())).await?
        }
    };
    let secret = Secret::new(text.expose().trim_end_matches(['\r', '\n']).to_owned());
    if secret.expose().is_empty() {
        return Err(Failure::new(Cause::Local, what, "the source gives an empty password"));
    }
    if secret.expose().contains(['\n', '\r', '\0']) {
        return Err(Failure::new(Cause::Local, what, "the source gives more than one line"));
    }
    remember(&secret);
    Ok(secret)
}

/// The operator's age key: `SOPS_AGE_KEY_FILE`, else where sops looks for it. `None`: the file is under a passphrase.
fn age_identity() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("SOPS_AGE_KEY_FILE").filter(|v| !v.is_empty()) {
        return Some(named.into());
    }
    let home = || std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".config"));
    let config = std::env::var_os("XDG_CONFIG_HOME").filter(|v| !v.is_empty()).map(PathBuf::from).or_else(home)?;
    Some(config.join("sops/age/keys.txt")).filter(|p| p.is_file())
}

/// The program to run for a source, by argv. Empty for the sources that need none.
fn argv(source: &SecretSource, identity: Option<&Path>) -> Vec<String> {
    let path = |p: &Path| p.display().to_string();
    match source {
        SecretSource::Exec { command } => command.clone(),
        SecretSource::Age(file) => {
            let mut argv: Vec<String> = ["age", "--decrypt"].map(str::to_owned).to_vec();
            // age knows no default place for its key: ours is sops's.
            if let Some(identity) = identity {
                argv.extend(["--identity".to_owned(), path(identity)]);
            }
            argv.extend(["--".to_owned(), path(file)]);
            argv
        }
        SecretSource::Sops(file) => ["sops", "decrypt"].map(str::to_owned).into_iter().chain([path(file)]).collect(),
        SecretSource::File(_) | SecretSource::Env(_) | SecretSource::Keyring(_) => Vec::new(),
    }
}

/// A file that only its owner can read, opened once: what is checked is what is read.
fn file(what: &str, path: &Path) -> Result<Secret, Failure> {
    let local = |e: std::io::Error| Failure::new(Cause::Local, what, format!("{}: {e}", path.display()));
    let mut options = std::fs::OpenOptions::new();
    // Not to hang on a FIFO.
    let mut file = options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path).map_err(local)?;
    let about = file.metadata().map_err(local)?;
    if !about.is_file() {
        return Err(Failure::new(Cause::Local, what, format!("{} is no file", path.display())));
    }
    let mode = about.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        let why = format!("{} can be read by others (mode {mode:04o}): it must be 0600 or less", path.display());
        return Err(Failure::new(Cause::Guard, what, why).next(format!("chmod 600 {}", path.display())));
    }
    let mut text = String::new();
    file.by_ref().take(MAX_BYTES as u64 + 1).read_to_string(&mut text).map_err(local)?;
    let secret = Secret::new(text);
    if secret.expose().len() > MAX_BYTES {
        return Err(Failure::new(Cause::Local, what, format!("{} has more than {MAX_BYTES} bytes", path.display())));
    }
    Ok(secret)
}

fn environment(what: &str, variable: &str) -> Result<Secret, Failure> {
    match std::env::var(variable) {
        Ok(text) => Ok(Secret::new(text)),
        Err(std::env::VarError::NotPresent) => {
            Err(Failure::new(Cause::Local, what, format!("the environment variable {variable} is not set")))
        }
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Failure::new(Cause::Local, what, format!("the environment variable {variable} is no text")))
        }
    }
}

/// Runs a helper: no input, its output is the password, its errors are told. Killed at the deadline with its children.
async fn run(what: &str, argv: &[String]) -> Result<Secret, Failure> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err(Failure::new(Cause::Local, what, "the command is empty"));
    };
    let local = |e: std::io::Error| Failure::new(Cause::Local, what, format!("`{program}`: {e}"));
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own: at the deadline the helper's children go with it.
    let mut child = command.process_group(0).kill_on_drop(true).spawn().map_err(local)?;
    let group = child.id();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let work = async {
        let (out, told, status) =
            tokio::join!(bounded(stdout, MAX_BYTES + 1), bounded(stderr, 64 * 1024), child.wait());
        Ok((out?, told?, status?))
    };
    let ended = tokio::time::timeout(LIMIT, work).await;
    if ended.is_err()
        && let Some(group) = group.and_then(|id| i32::try_from(id).ok())
    {
        let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(group), nix::sys::signal::Signal::SIGKILL);
        let _ = tokio::time::timeout(Duration::from_secs(1), child.wait()).await;
    }
    let late = |_| {
        Failure::new(Cause::Deadline, what, format!("`{program}` did not end within {} s: killed", LIMIT.as_secs()))
    };
    let (mut out, told, status) = ended.map_err(late)?.map_err(local)?;
    if !status.success() {
        out.zeroize();
        let told: String = String::from_utf8_lossy(&told).chars().filter(|c| !c.is_control()).take(MAX_TOLD).collect();
        return Err(Failure::new(Cause::Local, what, format!("`{program}` failed ({status}): {told}")));
    }
    if out.len() > MAX_BYTES {
        out.zeroize();
        return Err(Failure::new(Cause::Local, what, format!("`{program}` gave more than {MAX_BYTES} bytes")));
    }
    String::from_utf8(out).map(|t| Secret::new(t.trim().to_owned())).map_err(|e| {
        e.into_bytes().zeroize();
        Failure::new(Cause::Local, what, format!("`{program}` gave no text"))
    })
}

/// What a plugin answers: a line, or a JSON object as kubectl's plugins answer, `{"status": {"password": "…"}}`.
fn answered(what: &str, text: Secret) -> Result<Secret, Failure> {
    use serde_json::Value;
    // A password may begin with a brace; one that is a whole JSON object is none.
    let Ok(Value::Object(mut object)) = serde_json::from_str(text.expose()) else { return Ok(text) };
    let status = object.get_mut("status").and_then(Value::as_object_mut);
    match status.and_then(|status| status.remove("password")) {
        Some(Value::String(password)) => Ok(Secret::new(password)),
        found => {
            let lacks = if found.is_some() { "is no text" } else { "is not there" };
            let why = format!(
                "the plugin answered JSON whose status.password {lacks}: {{\"status\": {{\"password\": \"…\"}}}} is wanted, or the password alone"
            );
            Err(Failure::new(Cause::Local, what, why))
        }
    }
}

/// Reads up to `limit` bytes and then the rest into nothing, so that the helper does not block on a full pipe.
async fn bounded(pipe: Option<impl tokio::io::AsyncRead + Unpin>, limit: usize) -> std::io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    if let Some(mut pipe) = pipe {
        (&mut pipe).take(limit as u64).read_to_end(&mut kept).await?;
        tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    }
    Ok(kept)
}

pub(super) fn no_keyring(what: &str, why: String) -> Failure {
    let next = "keep the password elsewhere: passwordFrom with exec, file, age or sops";
    Failure::new(Cause::Local, what, why).next(next)
}

/// Service and user of `SERVICE/USER`.
pub(super) fn keyring_entry(what: &str, entry: &str) -> Result<(String, String), Failure> {
    let (service, user) = entry
        .split_once('/')
        .filter(|(s, u)| !s.is_empty() && !u.is_empty())
        .ok_or_else(|| no_keyring(what, format!("`{entry}` is not of the form SERVICE/USER")))?;
    Ok((service.to_owned(), user.to_owned()))
}

/// `service/user` of the desktop's or the kernel's keyring. The library blocks, so it has a thread of its own.
async fn keyring(what: &str, entry: &str) -> Result<Secret, Failure> {
    let fail = |why: String| no_keyring(what, why);
    let (service, user) = keyring_entry(what, entry)?;
    let look = tokio::task::spawn_blocking(move || {
        keyring::Entry::new(&service, &user).and_then(|entry| entry.get_password()).map(Secret::new)
    });
    let found = tokio::time::timeout(LIMIT, look).await;
    let found =
        found.map_err(|_| fail(format!("the keyring did not answer within {} s (is it locked?)", LIMIT.as_secs())))?;
    match found.map_err(|e| fail(e.to_string()))? {
        Ok(secret) => Ok(secret),
        Err(keyring::Error::NoEntry) => Err(fail(format!("the keyring of this host has no entry `{entry}`"))),
        Err(keyring::Error::NoStorageAccess(e) | keyring::Error::PlatformFailure(e)) => {
            Err(fail(format!("this host offers no keyring to this user: {e}")))
        }
        Err(e) => Err(fail(e.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(source: SecretSource) -> Credential {
        Credential { username: "root".into(), password_from: source }
    }
    fn sh(script: &str) -> Credential {
        from(SecretSource::Exec { command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec() })
    }

    #[tokio::test]
    async fn a_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pw");
        std::fs::write(&path, "hunter22\n").unwrap();
        let credential = from(SecretSource::File(path.clone()));
        for (mode, fine) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o620, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            match password("lab", &credential).await {
                Ok(secret) => assert!(fine && secret.expose() == "hunter22", "{mode:o}"),
                Err(failure) => {
                    assert!(!fine && failure.cause == Cause::Guard && failure.why.contains("mode 0"), "{failure}")
                }
            }
        }
        assert_eq!(super::super::redact("x hunter22"), "x [secret]");
        let none = from(SecretSource::File(PathBuf::from("/nonexistent/pw")));
        assert!(password("lab", &none).await.is_err_and(|f| f.cause == Cause::Local && f.what.contains("`lab`")));
    }

    #[tokio::test]
    async fn helpers_give_their_output_and_are_killed_at_the_deadline() {
        assert_eq!(password("x", &sh("printf ' s3cret \\n'")).await.unwrap().expose(), "s3cret");
        let failure = password("x", &sh("echo no such thing >&2; exit 3")).await.unwrap_err();
        assert!(failure.why.contains("no such thing") && failure.why.contains('3'), "{failure}");
        assert!(password("x", &sh("true")).await.is_err_and(|f| f.why.contains("empty")));
        assert!(password("x", &sh("echo a; echo b")).await.is_err_and(|f| f.why.contains("one line")));
        let noisy = password("x", &sh("head -c 200000 /dev/zero | tr '\\0' x")).await;
        assert!(noisy.is_err_and(|f| f.why.contains("more than")));
        let missing = from(SecretSource::Exec { command: vec!["/nonexistent/helper".into()] });
        assert!(password("x", &missing).await.is_err_and(|f| f.cause == Cause::Local));
        assert!(password("x", &from(SecretSource::Exec { command: vec![] })).await.is_err());
    }

    #[tokio::test]
    async fn a_plugin_may_answer_json_and_json_is_never_the_password() {
        let json = |text: &str| sh(&format!("cat <<'END'\n{text}\nEND"));
        let whole = r#"{"apiVersion": "rackctl.dev/v1alpha1",
            "kind": "ExecCredential", "status": {"password": "s3cret json", "expires": "2030-01-01T00:00:00Z"}}"#;
        assert_eq!(password("x", &json(whole)).await.unwrap().expose(), "s3cret json");
        for (text, why) in [
            (r#"{"password": "s3cret"}"#, "is not there"),
            (r#"{"status": {"token": "s3cret"}}"#, "is not there"),
            (r#"{"status": {"password": 7}}"#, "is no text"),
            (r#"{"status": {"password": ""}}"#, "empty password"),
            (r#"{"status": {"password": "a\nb"}}"#, "more than one line"),
        ] {
            let failure = password("x", &json(text)).await.unwrap_err();
            assert!(failure.why.contains(why) && !failure.to_string().contains("s3cret"), "{text}: {failure}");
        }
        for plain in ["{not json", "\"quoted\"", "12345678", "{}x"] {
            assert_eq!(password("x", &json(plain)).await.unwrap().expose(), plain);
        }
    }

    // invariant: I18 harness: P
    #[tokio::test]
    async fn a_helper_that_hangs_is_killed_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let note = folder.path().join("pid");
        let script = format!("sleep 300 & echo $! > {}; wait", note.display());
        let started = std::time::Instant::now();
        let failure = password("x", &sh(&script)).await.unwrap_err();
        assert_eq!(failure.cause, Cause::Deadline);
        assert!(started.elapsed() < LIMIT + Duration::from_secs(3));
        let pid = std::fs::read_to_string(&note).unwrap().trim().to_owned();
        // A zombie whose new parent has not looked yet is dead as well.
        let gone = || std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |s| s.contains(") Z "));
        for _ in 0..20 {
            if gone() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the helper's child {pid} lives");
    }

    #[tokio::test]
    async fn the_environment_and_the_keyring_say_what_is_missing() {
        let failure = password("x", &from(SecretSource::Env("RACKCTL_TEST_NOT_SET".into()))).await.unwrap_err();
        assert!(failure.why.contains("RACKCTL_TEST_NOT_SET is not set"), "{failure}");
        // PATH is set wherever tests run.
        assert!(password("x", &from(SecretSource::Env("PATH".into()))).await.is_ok());
        let failure = password("x", &from(SecretSource::Keyring("no-slash".into()))).await.unwrap_err();
        assert!(failure.why.contains("SERVICE/USER"), "{failure}");
        let failure = password("x", &from(SecretSource::Keyring("rackctl-test-none/root".into()))).await.unwrap_err();
        assert!(failure.why.contains("keyring") && failure.next.is_some(), "{failure}");
    }

    #[test]
    fn foreign_tools_by_argv() {
        let age = SecretSource::Age("/a b/x.age".into());
        assert_eq!(argv(&age, None), ["age", "--decrypt", "--", "/a b/x.age"]);
        assert_eq!(argv(&age, Some(Path::new("/k"))), ["age", "--decrypt", "--identity", "/k", "--", "/a b/x.age"]);
        assert_eq!(argv(&SecretSource::Sops("/x.enc".into()), None), ["sops", "decrypt", "/x.enc"]);
    }
}
