//! The installed system of a simulated machine: its address, SSH on port 22, and its etcd member.

use std::{fs, os::fd::OwnedFd, os::unix::fs::OpenOptionsExt, path::Path, process::Stdio, time::Instant};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
};

use super::{
    disk::Disk,
    firmware,
    machine::{Booted, Machine, Phase},
    node_client, sshd,
    timing::ms,
};
use crate::lab::process_exec;

/// sshd's own limit of sessions that have not logged in yet is this large.
const CONNECTIONS_MAX: usize = 100;

/// Returns when somebody presses the power button; otherwise it runs until its power is cut.
pub async fn run(machine: &Machine, button: &Notify) {
    if let Err(why) = up(machine, button).await {
        machine.say(&format!("FAILED: the system cannot start: {why}"));
        std::future::pending::<()>().await;
    }
}

async fn up(machine: &Machine, button: &Notify) -> Result<(), String> {
    tokio::time::sleep(ms(machine.site.timing.kernel_ms)).await;
    let disk = machine.disk.get();
    let address = address(&disk, machine).ok_or("its configuration gives this machine no IPv4 address")?;
    let _address = firmware::take(machine, address)?;
    let config = prepare(machine, &disk)?;
    let listener = TcpListener::bind((address, 22)).await.map_err(|e| format!("listen on {address}:22: {e}"))?;
    machine.say(&format!("{} is up as {address}", machine.spec.name));
    let _running = Running::begin(machine);
    if let Some(member) = disk.etcd.as_ref().filter(|_| disk.etcd_enabled) {
        match machine.start_member(member) {
            Ok(()) => machine.say("etcd started"),
            Err(why) => machine.say(&format!("etcd is not started: {why}")),
        }
    }
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            () = button.notified() => {
                machine.say("the power button: going down");
                return Ok(());
            }
            accepted = listener.accept(), if sessions.len() < CONNECTIONS_MAX => {
                let (stream, _) = accepted.map_err(|e| format!("accept on {address}:22: {e}"))?;
                match serve(&machine.site.sshd, stream, &config, &machine.files.sshd_log()) {
                    // Killed with the machine: the set is dropped with it.
                    Ok(mut child) => drop(sessions.spawn(async move { child.wait().await })),
                    Err(why) => machine.say(&format!("sshd: {why}")),
                }
            }
            Some(_) = sessions.join_next() => {}
        }
    }
}

/// That of the interface which the machine has.
fn address(disk: &Disk, machine: &Machine) -> Option<std::net::Ipv4Addr> {
    let mac = machine.spec.mac.to_string();
    let interface = disk.node.as_ref()?.interfaces.iter().find(|i| i.mac.eq_ignore_ascii_case(&mac))?;
    interface.addresses.iter().find_map(|a| a.split('/').next()?.parse().ok())
}

/// What the SSH server reads, as the disk says.
fn prepare(machine: &Machine, disk: &Disk) -> Result<std::path::PathBuf, String> {
    let (Some(node), Some(key)) = (&disk.node, &disk.host_key) else { return Err("its disk has no identity".into()) };
    let files = &machine.files;
    let command = node_client::command(&machine.site.control, &machine.spec.name);
    let config = sshd::config(&files.ssh_host_key(), &files.authorized_keys(), &command)
        .map_err(|failure| failure.to_string())?;
    let keys: String = node.authorized_keys.iter().map(|key| format!("{key}\n")).collect();
    for (path, text) in
        [(files.ssh_host_key(), key.private.as_str()), (files.authorized_keys(), &keys), (files.sshd_config(), &config)]
    {
        write_private(&path, text).map_err(|e| format!("write {}: {e}", path.display()))?;
    }
    Ok(files.sshd_config())
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    std::io::Write::write_all(&mut file, text.as_bytes())
}

/// One connection, one sshd: standard input and output are the connection.
fn serve(program: &Path, stream: TcpStream, config: &Path, log: &Path) -> Result<tokio::process::Child, String> {
    let fault = |e: std::io::Error| e.to_string();
    let stream = stream.into_std().map_err(fault)?;
    stream.set_nonblocking(false).map_err(fault)?;
    let other = stream.try_clone().map_err(fault)?;
    let log = fs::OpenOptions::new().create(true).append(true).open(log).map_err(fault)?;
    let mut command = std::process::Command::new(program);
    command.args(["-i", "-e", "-f"]).arg(config).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    // For an sshd that was unpacked and not installed.
    command.envs(std::env::var_os("LD_LIBRARY_PATH").map(|folders| ("LD_LIBRARY_PATH", folders)));
    command.stdin(Stdio::from(OwnedFd::from(stream))).stdout(Stdio::from(OwnedFd::from(other))).stderr(log);
    process_exec::die_with_parent(&mut command);
    tokio::process::Command::from(command).kill_on_drop(true).spawn().map_err(fault)
}

/// While it stands, the machine answers as an installed one.
struct Running<'a>(&'a Machine);

impl<'a> Running<'a> {
    fn begin(machine: &'a Machine) -> Running<'a> {
        let boot_id = uuid::Uuid::new_v4().to_string();
        machine.set_booted(Some(Booted { boot_id, since: Instant::now(), starts: 0, last_exit: None }));
        machine.set_phase(Phase::System);
        Running(machine)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.set_booted(None);
        self.0.site.cloud.stop(&self.0.spec.name);
    }
}
