//! etcd: its arguments, and where its things stand.

use crate::node_error::{NodeError, Result};
use rackctl_wire::EtcdMember;
use rackctl_wire::image::layout;
use std::path::{Path, PathBuf};
use std::process::Command;

pub const CONFIG: &str = "/data/etcd.json";
/// The configuration of a member that was told to stop: kept for its status, never started.
pub const STOPPED: &str = "/data/etcd.stopped.json";
pub const LOG: &str = "/data/log/etcd.log";
const DATA: &str = "/data/etcd";

fn refused(error: rackctl_wire::member::MemberError) -> NodeError {
    NodeError::new(error.kind, error.message)
}

/// Own data directory for every bootstrap: data of a former cluster is never found by a new one.
pub fn data_dir(member: &EtcdMember) -> Result<PathBuf> {
    Ok(Path::new(DATA).join(rackctl_wire::member::folder(member).map_err(refused)?))
}

/// Refuses what must not run here. `generation` is that of the installation, `known` the member that it was told to
/// run before.
pub fn check(member: &EtcdMember, generation: u64, known: Option<&EtcdMember>) -> Result<()> {
    rackctl_wire::member::check(member, generation, known).map_err(refused)
}

/// Options after the program's name: `--flag=value`, so that no value can be taken for a flag.
pub fn arguments(member: &EtcdMember, data: &Path) -> Vec<String> {
    [
        ("name", member.name.as_str()),
        ("data-dir", &data.display().to_string()),
        ("initial-cluster", &member.initial_cluster),
        ("initial-cluster-state", &member.initial_cluster_state),
        ("initial-cluster-token", &member.initial_cluster_token),
        ("listen-client-urls", &member.listen_client_urls),
        ("advertise-client-urls", &member.advertise_client_urls),
        ("listen-peer-urls", &member.listen_peer_urls),
        ("initial-advertise-peer-urls", &member.initial_advertise_peer_urls),
        ("logger", "zap"),
        ("log-outputs", "stderr"),
    ]
    .iter()
    .map(|(flag, value)| format!("--{flag}={value}"))
    .collect()
}

pub fn command(member: &EtcdMember, data: &Path) -> Command {
    let mut command = Command::new(layout::ETCD);
    command.args(arguments(member, data)).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

pub fn has_data(data: &Path) -> bool {
    std::fs::read_dir(data.join("member/wal"))
        .into_iter()
        .flatten()
        .any(|entry| entry.is_ok_and(|entry| entry.path().extension().is_some_and(|extension| extension == "wal")))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use rackctl_wire::PROTOCOL;

    pub fn member() -> EtcdMember {
        EtcdMember {
            protocol: PROTOCOL,
            generation: 3,
            cluster: "main".into(),
            name: "n1".into(),
            initial_cluster_state: "new".into(),
            initial_cluster: "n1=http://10.0.0.1:2380".into(),
            initial_cluster_token: "0b8f4c1e-6a".into(),
            listen_client_urls: "http://10.0.0.1:2379".into(),
            advertise_client_urls: "http://10.0.0.1:2379".into(),
            listen_peer_urls: "http://10.0.0.1:2380".into(),
            initial_advertise_peer_urls: "http://10.0.0.1:2380".into(),
        }
    }

    #[test]
    fn what_is_refused() {
        assert!(check(&member(), 3, None).is_ok());
        assert_eq!(check(&member(), 4, None).unwrap_err().kind, "wrongGeneration");
        for token in ["", "..", "a/b", "a b", &"x".repeat(129)] {
            let mut bad = member();
            bad.initial_cluster_token = token.into();
            assert_eq!(check(&bad, 3, None).unwrap_err().kind, "invalid", "{token}");
        }
        let mut bad = member();
        bad.initial_cluster_state = "force".into();
        assert_eq!(check(&bad, 3, None).unwrap_err().kind, "invalid");
    }

    #[test]
    fn every_value_has_its_flag() {
        let mut member = member();
        member.name = "--force-new-cluster".into();
        let arguments = arguments(&member, &data_dir(&member).unwrap());
        assert_eq!(arguments[0], "--name=--force-new-cluster");
        assert_eq!(arguments[1], "--data-dir=/data/etcd/0b8f4c1e-6a");
        assert!(arguments.contains(&"--initial-cluster-state=new".to_owned()));
        assert!(arguments.iter().all(|argument| argument.starts_with("--") && argument.contains('=')));
    }

    #[test]
    fn a_log_is_data() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!has_data(dir.path()));
        std::fs::create_dir_all(dir.path().join("member/wal")).unwrap();
        assert!(!has_data(dir.path()));
        std::fs::write(dir.path().join("member/wal/0000000000000000-0000000000000000.wal"), "").unwrap();
        assert!(has_data(dir.path()));
    }
}
