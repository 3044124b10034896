//! Runs the few foreign tools: argv only, a deadline, a limit on output. And the cache of packages.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::apt::{Index, download_argv, parse_policy, parse_show, policy_argv, show_argv};
use super::packages::Pin;
use crate::model::Failure;
use crate::model::failure::Cause;

pub const TOOL_DEADLINE: Duration = Duration::from_secs(120);
pub const DOWNLOAD_DEADLINE: Duration = Duration::from_secs(900);
/// Largest output of a tool: a kernel package unpacks to about 100 MB, the full one to 450 MB.
const OUTPUT_MAX_BYTES: u64 = 1 << 30;
const STDERR_MAX_BYTES: u64 = 64 << 10;

/// The Debian package that has a tool.
fn package_of(tool: &str) -> &'static str {
    match tool {
        "dpkg-deb" => "dpkg",
        _ => "apt",
    }
}

/// Standard output of a program that ended well within its deadline.
pub fn run(what: &str, argv: &[String], dir: &Path, deadline: Duration) -> Result<Vec<u8>, Failure> {
    let (tool, args) = argv.split_first().ok_or_else(|| Failure::new(Cause::Local, what, "no command"))?;
    let mut child = Command::new(tool)
        .args(args)
        .current_dir(dir)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| {
            let failure = Failure::new(Cause::Local, what, format!("{tool}: {e}"));
            match e.kind() {
                std::io::ErrorKind::NotFound => failure.next(format!("apt-get install {}", package_of(tool))),
                _ => failure,
            }
        })?;
    let reader = |stream: Option<Box<dyn Read + Send>>, limit: u64| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let result = match stream {
                Some(stream) => stream.take(limit + 1).read_to_end(&mut bytes).map(|_| ()),
                None => Ok(()),
            };
            result.map(|()| bytes)
        })
    };
    let out = reader(child.stdout.take().map(|s| Box::new(s) as Box<dyn Read + Send>), OUTPUT_MAX_BYTES);
    let err = reader(child.stderr.take().map(|s| Box::new(s) as Box<dyn Read + Send>), STDERR_MAX_BYTES);
    let begun = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begun.elapsed() < deadline => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) => {
                // Both may fail only if the child is gone, which is what is wanted.
                let _ = child.kill();
                let _ = child.wait();
                return Err(Failure::new(
                    Cause::Deadline,
                    what,
                    format!("{tool} took more than {} s", deadline.as_secs()),
                ));
            }
            Err(e) => return Err(Failure::new(Cause::Local, what, format!("{tool}: {e}"))),
        }
    };
    let lost = || Failure::new(Cause::Local, what, format!("{tool}: its output could not be read"));
    let bytes = out.join().map_err(|_| lost())?.map_err(|_| lost())?;
    let said = err.join().map_err(|_| lost())?.map_err(|_| lost())?;
    if bytes.len() as u64 > OUTPUT_MAX_BYTES {
        return Err(Failure::new(Cause::Malformed, what, format!("{tool} wrote more than {OUTPUT_MAX_BYTES} bytes")));
    }
    if !status.success() {
        let said = String::from_utf8_lossy(&said);
        let last: Vec<&str> = said.lines().filter(|l| !l.trim().is_empty()).collect();
        let tail = last.iter().rev().take(3).rev().copied().collect::<Vec<_>>().join("; ");
        return Err(Failure::new(Cause::Local, what, format!("{tool} ended with {status}: {tail}")));
    }
    Ok(bytes)
}

/// What apt's index has of these names.
pub fn index(names: &[String], dir: &Path) -> Result<Index, Failure> {
    let what = "read apt's index";
    // A name that is gone makes apt-cache complain; what it has of the others counts.
    let show = |names: &[String]| run(what, &show_argv(names), dir, TOOL_DEADLINE);
    let text = String::from_utf8_lossy(&show(names)?).into_owned();
    let mut index = Index { offers: parse_show(&text), ..Index::default() };
    let policy = run(what, &policy_argv(names), dir, TOOL_DEADLINE)?;
    index.candidates = parse_policy(&String::from_utf8_lossy(&policy));
    // Second look, for the kernels behind metapackages.
    let kernels: Vec<String> =
        names.iter().filter_map(|name| index.kernel_behind(name)).filter(|kernel| !names.contains(kernel)).collect();
    if !kernels.is_empty() {
        index.offers.extend(parse_show(&String::from_utf8_lossy(&show(&kernels)?)));
        let policy = run(what, &policy_argv(&kernels), dir, TOOL_DEADLINE)?;
        index.candidates.extend(parse_policy(&String::from_utf8_lossy(&policy)));
    }
    Ok(index)
}

pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Packages by digest: `packages/<sha256>.deb`.
pub struct PackageCache {
    dir: PathBuf,
}

impl PackageCache {
    pub fn open(cache: &Path) -> Result<PackageCache, Failure> {
        let dir = cache.join("packages");
        std::fs::create_dir_all(&dir)
            .map_err(|e| Failure::new(Cause::Local, "open the package cache", format!("{}: {e}", dir.display())))?;
        Ok(PackageCache { dir })
    }

    pub fn path(&self, pin: &Pin) -> PathBuf {
        self.dir.join(format!("{}.deb", pin.sha256))
    }

    /// Those that are not there, or not with the right size.
    pub fn missing(&self, pins: &[Pin]) -> Vec<Pin> {
        let there =
            |pin: &Pin| std::fs::metadata(self.path(pin)).is_ok_and(|m| m.is_file() && m.len() == pin.size_bytes);
        pins.iter().filter(|pin| !there(pin)).cloned().collect()
    }

    /// Downloads into a private directory and takes over what has the digest of a pin.
    pub fn download(&self, pins: &[Pin]) -> Result<(), Failure> {
        let what = "download packages";
        let local = |e: std::io::Error| Failure::new(Cause::Local, what, format!("{}: {e}", self.dir.display()));
        let temp = tempfile::Builder::new().prefix("download-").tempdir_in(&self.dir).map_err(local)?;
        run(what, &download_argv(pins), temp.path(), DOWNLOAD_DEADLINE).map_err(|f| f.next("apt-get update"))?;
        for entry in std::fs::read_dir(temp.path()).map_err(local)? {
            let path = entry.map_err(local)?.path();
            let digest = sha256_hex(&std::fs::read(&path).map_err(local)?);
            if let Some(pin) = pins.iter().find(|pin| pin.sha256 == digest) {
                std::fs::rename(&path, self.path(pin)).map_err(local)?;
            }
        }
        match self.missing(pins).first() {
            None => Ok(()),
            Some(pin) => Err(Failure::new(
                Cause::Mismatch,
                what,
                format!("{} {}: what came does not have SHA-256 {}", pin.name, pin.version, pin.sha256),
            )
            .next("apt-get update")),
        }
    }

    /// The package's files as a tar archive, after its digest was checked.
    pub fn unpack(&self, pin: &Pin) -> Result<Vec<u8>, Failure> {
        let what = format!("unpack {} {}", pin.name, pin.version);
        let path = self.path(pin);
        let bytes =
            std::fs::read(&path).map_err(|e| Failure::new(Cause::Local, &what, format!("{}: {e}", path.display())))?;
        let digest = sha256_hex(&bytes);
        if digest != pin.sha256 {
            return Err(Failure::new(Cause::Mismatch, what, format!("SHA-256 is {digest}, pinned is {}", pin.sha256))
                .next(format!("rm {}", path.display())));
        }
        let argv = ["dpkg-deb".to_string(), "--fsys-tarfile".to_string(), path.to_string_lossy().into_owned()];
        run(&what, &argv, &self.dir, TOOL_DEADLINE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| w.to_string()).collect()
    }

    #[test]
    fn a_tool_that_is_missing_fails_or_hangs_says_so() {
        let here = Path::new("/");
        assert_eq!(run("x", &argv(&["echo", "a b"]), here, TOOL_DEADLINE).unwrap(), b"a b\n");
        let missing = run("x", &argv(&["no-such-tool-of-ours"]), here, TOOL_DEADLINE).unwrap_err();
        assert_eq!(missing.next.as_deref(), Some("apt-get install apt"));
        let failed = run("x", &argv(&["ls", "/no/such/place"]), here, TOOL_DEADLINE).unwrap_err();
        assert!(failed.why.contains("No such file"), "{}", failed.why);
        let slow = run("x", &argv(&["sleep", "20"]), here, Duration::from_millis(50)).unwrap_err();
        assert_eq!(slow.cause, Cause::Deadline);
    }

    #[test]
    fn a_cached_package_with_other_content_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let cache = PackageCache::open(dir.path()).unwrap();
        let pin =
            Pin { wanted: "a1".into(), name: "a1".into(), version: "1".into(), sha256: "0".repeat(64), size_bytes: 3 };
        assert_eq!(cache.missing(std::slice::from_ref(&pin)).len(), 1);
        std::fs::write(cache.path(&pin), b"abc").unwrap();
        assert!(cache.missing(std::slice::from_ref(&pin)).is_empty());
        assert_eq!(cache.unpack(&pin).unwrap_err().cause, Cause::Mismatch);
    }
}
