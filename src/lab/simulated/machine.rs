//! One simulated machine: power, boots, what it is doing. The same verbs as of an emulated one.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Instant,
};

use rackctl_wire::{Disk as ShownDisk, EtcdMember, Stage};
use serde::{Deserialize, Serialize};
use tokio::{sync::Notify, task::JoinHandle};
use uuid::Uuid;

use super::{
    agent::{self, Said},
    console_serve::Console,
    disk::{Disk, DiskState},
    disk_store::DiskStore,
    firmware::{self, Loaded},
    installer,
    site::Site,
    system_serve,
    timing::ms,
};
use crate::{
    lab::{
        layout::MachineLayout,
        machine_exec::{OnGuestReset, Starts},
        process_exec::local,
        qemu::Order,
        spec::{Identity, MachineSpec},
    },
    model::{
        Failure,
        power::{BootTarget, PowerState},
    },
};

/// What it is doing now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Phase {
    #[default]
    Off,
    Firmware,
    /// Nothing to boot was found in this round; another one begins soon.
    NoBootDevice,
    Installer {
        stage: Stage,
    },
    /// The installed system is up.
    System,
}

/// The machine's own account, whatever anybody else believes of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    #[serde(flatten)]
    pub phase: Phase,
    /// Disk writes that began, ever.
    pub wipes: u64,
    /// Firmware starts since the supervisor started, resets included.
    pub boots: u64,
    /// How often power was cut while it was on.
    pub power_cuts: u64,
    pub disk: DiskState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_guid: Option<Uuid>,
    /// Of the installation on the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_sha256: Option<String>,
    /// Whether its etcd member runs.
    pub etcd: bool,
}

/// The boot of an installed system.
#[derive(Clone, Debug)]
pub struct Booted {
    pub boot_id: String,
    pub since: Instant,
    /// Starts of etcd, and its last end.
    pub starts: u32,
    pub last_exit: Option<String>,
}

#[derive(Default)]
struct State {
    phase: Phase,
    starts: Starts,
    power_cuts: u64,
    booted: Option<Booted>,
}

struct Running {
    task: JoinHandle<()>,
    button: Arc<Notify>,
}

pub struct Machine {
    pub spec: MachineSpec,
    pub files: MachineLayout,
    pub(super) site: Arc<Site>,
    pub(super) disk: DiskStore,
    console: Console,
    identity: Mutex<Identity>,
    state: Mutex<State>,
    on_guest_reset: OnceLock<OnGuestReset>,
    power: tokio::sync::Mutex<Option<Running>>,
    me: Weak<Machine>,
}

impl Machine {
    pub fn new(spec: MachineSpec, files: MachineLayout, site: Arc<Site>) -> Result<Arc<Machine>, Failure> {
        let (identity, disk) = (Mutex::new(spec.identity.clone()), DiskStore::open(&files.simulated_disk())?);
        Ok(Arc::new_cyclic(|me| Machine {
            console: Console::new(files.clone()),
            spec,
            files,
            site,
            disk,
            identity,
            state: Mutex::default(),
            on_guest_reset: OnceLock::new(),
            power: tokio::sync::Mutex::new(None),
            me: me.clone(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_on_guest_reset(&self, hook: OnGuestReset) {
        // A second hook would be a second BMC of one machine; the first stays.
        let _ = self.on_guest_reset.set(hook);
    }

    pub fn identity(&self) -> Identity {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_identity(&self, identity: Identity) {
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = identity;
    }

    pub fn starts(&self) -> Starts {
        self.state().starts
    }

    pub fn account(&self) -> Account {
        let disk = self.disk.get();
        let state = self.state();
        Account {
            phase: state.phase,
            wipes: disk.wipes,
            boots: state.starts.power_on + state.starts.guest_reset,
            power_cuts: state.power_cuts,
            disk: disk.state,
            disk_guid: disk.guid,
            generation: disk.node.as_ref().map(|n| n.generation),
            run: disk.node.map(|n| n.run),
            system_sha256: disk.system_sha256,
            etcd: self.site.cloud.running(&self.spec.name),
        }
    }

    pub(super) fn say(&self, text: &str) {
        self.console.say(text);
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.state().phase = phase;
    }

    pub(super) fn booted(&self) -> Option<Booted> {
        self.state().booted.clone()
    }

    pub(super) fn set_booted(&self, booted: Option<Booted>) {
        self.state().booted = booted;
    }

    pub(super) fn disk_shown(&self) -> ShownDisk {
        self.disk.get().shown(&self.identity().disk_serial, self.spec.disk_bytes)
    }

    /// What its kernel would show of it beside the disk.
    pub(super) fn hardware_shown(&self) -> rackctl_wire::Hardware {
        let nic = rackctl_wire::Nic {
            name: "eth0".to_owned(),
            mac: self.spec.mac.to_string(),
            driver: Some("virtio_net".to_owned()),
            link: Some(true),
            speed_mbps: None,
        };
        rackctl_wire::Hardware {
            uefi: self.spec.firmware == crate::model::fleet::BootMode::Uefi,
            cpu: None,
            interfaces: vec![nic],
        }
    }

    /// A disk with somebody else's data takes the place of the one that it has. The count of wipes goes on.
    pub fn put_foreign_disk(&self) -> Result<(), Failure> {
        self.disk
            .change(|disk| *disk = Disk { state: DiskState::Foreign, wipes: disk.wipes, ..Disk::default() })
            .map_err(|why| local(format!("{}: change its disk", self.spec.name), why))
    }

    /// Its etcd member, where the member is told to listen for clients.
    pub(super) fn start_member(&self, member: &EtcdMember) -> Result<(), String> {
        let listen = listen(&member.listen_client_urls);
        let started = listen.and_then(|listen| self.site.cloud.start(member, listen));
        if let Some(booted) = self.state().booted.as_mut() {
            booted.starts += 1;
            booted.last_exit = started.as_ref().err().cloned();
        }
        started
    }

    pub fn bmc_lag(&self) -> std::time::Duration {
        ms(self.site.timing.bmc_lag_ms)
    }

    /// A command over SSH, where the installed system is up.
    pub fn command(&self, words: &[String], stdin: &str) -> Said {
        agent::run(self, words, stdin)
    }

    pub async fn power(&self) -> PowerState {
        match self.power.lock().await.as_ref() {
            Some(running) if !running.task.is_finished() => PowerState::On,
            _ => PowerState::Off,
        }
    }

    /// Starts it unless it is on. `boot`: what the BMC's override says.
    pub async fn power_on(&self, boot: Option<BootTarget>) {
        let mut power = self.power.lock().await;
        if power.as_ref().is_some_and(|running| !running.task.is_finished()) {
            return;
        }
        let Some(me) = self.me.upgrade() else { return };
        self.state().starts.power_on += 1;
        let button = Arc::new(Notify::new());
        let task = tokio::spawn(me.live(boot, button.clone()));
        *power = Some(Running { task, button });
    }

    /// Cuts its power: whatever it was doing ends between two instructions.
    pub async fn power_off(&self) {
        let mut power = self.power.lock().await;
        let Some(running) = power.take() else { return };
        if !running.task.is_finished() {
            self.state().power_cuts += 1;
        }
        running.task.abort();
        // Everything that it held is given back when this returns.
        let _ = running.task.await;
        self.set_phase(Phase::Off);
        self.say("power off");
    }

    /// Presses the power button: an installed system goes down, nothing else listens.
    pub async fn shutdown(&self) {
        if let Some(running) = self.power.lock().await.as_ref()
            && self.state().phase == Phase::System
        {
            running.button.notify_one();
        }
    }

    async fn live(self: Arc<Self>, boot: Option<BootTarget>, button: Arc<Notify>) {
        let work = async {
            let mut target = boot;
            while self.boot(target, &button).await == After::StartAgain {
                target = self.on_guest_reset.get().and_then(|hook| hook());
                self.state().starts.guest_reset += 1;
            }
        };
        tokio::select! {
            () = work => {}
            () = async { self.console.serve().await; std::future::pending().await } => {}
        }
        self.set_phase(Phase::Off);
        self.say("power off");
    }

    /// From the first instruction of the firmware on.
    async fn boot(&self, target: Option<BootTarget>, button: &Notify) -> After {
        let mut order = Order::of(target);
        loop {
            self.set_phase(Phase::Firmware);
            self.say(&format!("{} {}: {order:?}", self.spec.name, self.identity().serial));
            tokio::time::sleep(ms(self.site.timing.self_test_ms)).await;
            let network_first = order != Order::DiskFirst;
            let mut is_disk = !network_first && self.disk.get().is_bootable();
            if !is_disk {
                match firmware::network_boot(self).await {
                    Ok(Loaded::Kernel(kernel)) => {
                        installer::run(self, kernel).await;
                        return After::StartAgain;
                    }
                    Ok(Loaded::Disk | Loaded::Nothing) => self.say("nothing to boot over the network"),
                    Err(why) => self.say(&format!("network boot: {why}")),
                }
                is_disk = self.disk.get().is_bootable();
            }
            if is_disk {
                self.say("booting from disk");
                system_serve::run(self, button).await;
                return After::StaysOff;
            }
            self.set_phase(Phase::NoBootDevice);
            self.say("no bootable device");
            tokio::time::sleep(ms(self.site.timing.round_ms)).await;
            // The override was for the first round.
            order = Order::DiskFirst;
        }
    }
}

/// The first of the URLs, as a socket address: a member of ours is told one.
fn listen(urls: &str) -> Result<SocketAddr, String> {
    let first = urls.split(',').next().unwrap_or_default();
    let address = first.strip_prefix("http://").and_then(|a| a.trim_end_matches('/').parse().ok());
    address.ok_or_else(|| format!("listen-client-urls: {first} is no http://ADDRESS:PORT"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    StartAgain,
    StaysOff,
}
