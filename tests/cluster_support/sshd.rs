//! A real sshd on a loopback port.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{debian, free_port};

pub struct Sshd {
    child: Child,
    pub port: u16,
    pub folder: tempfile::TempDir,
    /// Public host key, `ssh-ed25519 AAAA…`.
    pub host_key: String,
    pub user: String,
}

/// The program and the folder of libraries that it needs beside the system's.
pub fn program() -> Option<(PathBuf, Option<PathBuf>)> {
    let installed = Path::new("/usr/sbin/sshd");
    if installed.exists() {
        return Some((installed.into(), None));
    }
    let program = debian("openssh-server")?.join("usr/sbin/sshd");
    let libraries = debian("libwrap0")?.join("usr/lib");
    let folder = fs::read_dir(libraries).unwrap().map(|e| e.unwrap().path()).find(|p| p.join("libwrap.so.0").exists());
    Some((program, folder))
}

/// Becomes sshd where its unprivileged user does not exist: in a mount namespace of its own, with an
/// `/etc/passwd` that has one more line. `$1` is that file, the rest is the command.
const WITH_USER: &str = r#"mount --bind "$1" /etc/passwd && shift && exec "$@""#;

fn command(program: &Path, folder: &Path) -> Command {
    let root = fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m)).unwrap() == 0;
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    if !root || passwd.lines().any(|l| l.starts_with("sshd:")) {
        return Command::new(program);
    }
    let file = folder.join("passwd");
    fs::write(&file, format!("{passwd}sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n")).unwrap();
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", WITH_USER, "sh"]).arg(file).arg(program);
    command
}

pub fn keygen(path: &Path) -> String {
    let made =
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"]).arg(path).status();
    assert!(made.unwrap().success());
    let text = fs::read_to_string(path.with_extension("pub")).unwrap();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

impl Sshd {
    /// `None`, loudly, where there is no sshd.
    pub fn start() -> Option<Sshd> {
        let (program, libraries) = program()?;
        if !Command::new("ssh").arg("-V").stderr(Stdio::null()).status().is_ok_and(|s| s.success()) {
            eprintln!("SKIPPED: no ssh on this host");
            return None;
        }
        // sshd wants its privilege separation directory when root starts it.
        let _ = fs::create_dir_all("/run/sshd");
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let host_key = keygen(&at("host"));
        let login = keygen(&at("id"));
        fs::write(at("authorized"), format!("{login}\n")).unwrap();
        fs::set_permissions(at("authorized"), fs::Permissions::from_mode(0o600)).unwrap();
        let port = free_port();
        let config = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\nLogLevel INFO\n\
             SetEnv PATH={}:/usr/bin:/bin\n\
             MaxStartups 100\n",
            at("host").display(),
            at("authorized").display(),
            at("bin").display()
        );
        fs::create_dir(at("bin")).unwrap();
        fs::write(at("sshd_config"), config).unwrap();
        let log = fs::File::create(at("log")).unwrap();
        let mut command = command(&program, folder.path());
        if let Some(libraries) = libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        let child = command
            .args(["-D", "-e", "-f"])
            .arg(at("sshd_config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let user =
            String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap().trim().to_string();
        let sshd = Sshd { child, port, folder, host_key, user };
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if began.elapsed() > Duration::from_secs(10) {
                panic!("sshd does not listen: {}", fs::read_to_string(sshd.folder.path().join("log")).unwrap());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(sshd)
    }

    /// A shell script that remote commands find under this name.
    pub fn provide(&self, name: &str, body: &str) {
        let path = self.folder.path().join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn identity(&self) -> PathBuf {
        self.folder.path().join("id")
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
