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
}

impl Etcd {
    pub fn start(binary: &Path, folder: &Path, member: &EtcdMember) -> Etcd {
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
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Etcd { child, member: member.clone(), folder: folder.into(), binary: binary.into() }
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn restart(&mut self) {
        self.kill();
        *self = Etcd::start(&self.binary.clone(), &self.folder.clone(), &self.member.clone());
    }

    /// SIGSTOP: it keeps its sockets and answers nothing.
    pub fn freeze(&self) {
        assert!(Command::new("kill").args(["-STOP", &self.child.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}
