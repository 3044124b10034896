//! One machine: a QEMU process under power, none without. What its BMC switches.

use std::{
    fs, io,
    process::{Command, Stdio},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    process::Child,
    sync::{Notify, mpsc, watch},
    time::{sleep, timeout},
};

use super::{
    layout::MachineLayout,
    process::ProcessId,
    process_exec::{self, local},
    qemu::{self, Accel, Order},
    qmp::{self, After},
    qmp_client::Qmp,
    spec::{Identity, MachineSpec},
};
use crate::model::{
    Failure,
    failure::Cause,
    power::{BootTarget, PowerState},
};

/// From SIGKILL to a reaped process.
const GONE: Duration = Duration::from_secs(10);
/// A reset is under way when QEMU says `shutdown`; it starts again within this.
const RESET_POLL: Duration = Duration::from_millis(50);
const RESET_POLLS_MAX: u32 = 100;
/// How much of QEMU's complaints a failure quotes.
const COMPLAINT_MAX: usize = 600;

/// What the BMC says to boot from when the guest resets itself; asked once per reset.
pub type OnGuestReset = Box<dyn Fn() -> Option<BootTarget> + Send + Sync>;

/// Counted since the supervisor started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Starts {
    pub power_on: u64,
    pub guest_reset: u64,
}

pub struct Machine {
    pub spec: MachineSpec,
    pub files: MachineLayout,
    accel: Accel,
    identity: Mutex<Identity>,
    starts: Mutex<Starts>,
    on_guest_reset: OnceLock<OnGuestReset>,
    /// Held while a process is started or ended, so that nobody sees the moment between two of them.
    slot: tokio::sync::Mutex<Option<Running>>,
    /// Whoever watches a process may start the next one.
    me: std::sync::Weak<Machine>,
}

struct Running {
    process: ProcessId,
    qmp: Arc<Qmp>,
    /// Asks the watcher to kill the process.
    kill: Arc<Notify>,
    gone: watch::Receiver<bool>,
}

impl Machine {
    pub fn new(spec: MachineSpec, files: MachineLayout, accel: Accel) -> Arc<Machine> {
        let identity = Mutex::new(spec.identity.clone());
        Arc::new_cyclic(|me| Machine {
            spec,
            files,
            accel,
            identity,
            starts: Mutex::default(),
            on_guest_reset: OnceLock::new(),
            slot: tokio::sync::Mutex::new(None),
            me: me.clone(),
        })
    }

    /// To be set once, before the first power-on. Without it a guest's reset boots in the usual order.
    pub fn set_on_guest_reset(&self, hook: OnGuestReset) {
        // A second hook would be a second BMC of one machine; the first stays.
        let _ = self.on_guest_reset.set(hook);
    }

    pub fn identity(&self) -> Identity {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes effect at the next start, as a swapped disk or board would.
    pub fn set_identity(&self, identity: Identity) {
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = identity;
    }

    pub fn starts(&self) -> Starts {
        *self.starts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub async fn pid(&self) -> Option<i32> {
        self.slot.lock().await.as_ref().map(|running| running.process.pid)
    }

    /// As QEMU answers now.
    pub async fn power(&self) -> Result<PowerState, Failure> {
        for _ in 0..RESET_POLLS_MAX {
            let slot = self.slot.lock().await;
            let Some(running) = slot.as_ref() else { return Ok(PowerState::Off) };
            if *running.gone.borrow() {
                return Ok(PowerState::Off);
            }
            if qmp::is_on(&running.qmp.status().await?) {
                return Ok(PowerState::On);
            }
            // Stopped, and the watcher has not yet decided whether it starts again.
            drop(slot);
            sleep(RESET_POLL).await;
        }
        Ok(PowerState::Off)
    }

    /// Starts it unless it is on. `boot`: what the BMC's override says, `None` without one.
    pub async fn power_on(&self, boot: Option<BootTarget>) -> Result<(), Failure> {
        let mut slot = self.slot.lock().await;
        if slot.as_ref().is_some_and(|running| !*running.gone.borrow()) {
            return Ok(());
        }
        self.start(&mut slot, Order::of(boot)).await?;
        self.count(|starts| starts.power_on += 1);
        Ok(())
    }

    /// Cuts its power: nothing is asked of the guest.
    pub async fn power_off(&self) -> Result<(), Failure> {
        let mut slot = self.slot.lock().await;
        let Some(mut running) = slot.take() else { return Ok(()) };
        running.kill.notify_one();
        // A sender that is gone has ended its process too.
        let is_gone = timeout(GONE, running.gone.wait_for(|gone| *gone)).await.is_ok();
        match is_gone {
            true => Ok(()),
            false => {
                let pid = running.process.pid;
                *slot = Some(running);
                Err(Failure::new(
                    Cause::Deadline,
                    format!("{}: power off", self.spec.name),
                    format!("process {pid} is not gone {} s after SIGKILL", GONE.as_secs()),
                ))
            }
        }
    }

    /// Presses the power button: the guest may listen.
    pub async fn shutdown(&self) -> Result<(), Failure> {
        let slot = self.slot.lock().await;
        match slot.as_ref() {
            Some(running) => running.qmp.command("system_powerdown").await.map(drop),
            None => Ok(()),
        }
    }

    fn count(&self, change: impl FnOnce(&mut Starts)) {
        change(&mut self.starts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    async fn start(&self, slot: &mut Option<Running>, order: Order) -> Result<(), Failure> {
        let what = || format!("{}: start QEMU", self.spec.name);
        for stale in [self.files.qmp_socket(), self.files.serial_socket()] {
            process_exec::remove_if_there(&stale)?;
        }
        let log = || fs::OpenOptions::new().create(true).append(true).open(self.files.qemu_log());
        let argv = qemu::argv(&self.spec, &self.identity(), &self.files, order, self.accel);
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).stdin(Stdio::null());
        command.stdout(log().map_err(|e| local(what(), e))?).stderr(log().map_err(|e| local(what(), e))?);
        process_exec::die_with_parent(&mut command);
        let mut command = tokio::process::Command::from(command);
        let mut child = command.kill_on_drop(true).spawn().map_err(|e| local(what(), e))?;
        // Not reaped yet, so the id is certainly this process.
        let process = child.id().and_then(|pid| process_exec::identify(pid as i32));
        let socket = self.files.qmp_socket();
        let connected = tokio::select! {
            connected = Qmp::connect(&self.spec.name, &socket) => connected,
            status = child.wait() => Err(Failure::new(Cause::Local, what(), self.complaint(status))),
        };
        let (connected, process) = match (connected, process) {
            (Ok(connected), Some(process)) => (connected, process),
            (Ok(_), None) => {
                let status = child.wait().await;
                return Err(Failure::new(Cause::Local, what(), self.complaint(status)));
            }
            (Err(failure), _) => {
                // Kills and reaps; a child that is gone already is no fault.
                let _ = child.kill().await;
                return Err(failure.next(format!("tail {}", self.files.qemu_log().display())));
            }
        };
        let text = serde_json::to_vec(&process).map_err(|e| local(what(), e))?;
        process_exec::write_atomically(&self.files.pid(), &text, 0o644)?;
        let (qmp, events) = connected;
        let kill = Arc::new(Notify::new());
        let (gone_sender, gone) = watch::channel(false);
        if let Some(me) = self.me.upgrade() {
            tokio::spawn(me.watch(Watched { child, events, kill: kill.clone(), gone: gone_sender }));
        }
        *slot = Some(Running { process, qmp: Arc::new(qmp), kill, gone });
        Ok(())
    }

    fn complaint(&self, status: io::Result<std::process::ExitStatus>) -> String {
        let log = fs::read(self.files.qemu_log()).unwrap_or_default();
        let tail = String::from_utf8_lossy(&log[log.len().saturating_sub(COMPLAINT_MAX)..]).trim().to_owned();
        match status {
            Ok(status) => format!("it ended at once with {status}: {tail}"),
            Err(error) => format!("{error}: {tail}"),
        }
    }

    /// Lives as long as one QEMU process and reaps it.
    fn watch(self: Arc<Self>, mut watched: Watched) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let reason = tokio::select! {
                reason = watched.events.recv() => reason,
                _ = watched.child.wait() => None,
                () = watched.kill.notified() => {
                    watched.end(&self).await;
                    return;
                }
            };
            let again = reason.as_deref().map(qmp::after) == Some(After::StartAgain);
            let mut slot = tokio::select! {
                slot = self.slot.lock() => slot,
                // Someone cuts the power and holds the slot while it waits for us.
                () = watched.kill.notified() => {
                    watched.end(&self).await;
                    return;
                }
            };
            watched.end(&self).await;
            if !slot.as_ref().is_some_and(|running| Arc::ptr_eq(&running.kill, &watched.kill)) {
                return;
            }
            *slot = None;
            eprintln!(
                "{}: stopped: {}",
                self.spec.name,
                reason.as_deref().unwrap_or("QEMU ended without a word; see qemu.log")
            );
            if again {
                let target = self.on_guest_reset.get().and_then(|hook| hook());
                match self.start(&mut slot, Order::of(target)).await {
                    Ok(()) => self.count(|starts| starts.guest_reset += 1),
                    Err(failure) => eprintln!("{}: not started again after its reset: {failure}", self.spec.name),
                }
            }
        })
    }
}

struct Watched {
    child: Child,
    events: mpsc::Receiver<String>,
    kill: Arc<Notify>,
    gone: watch::Sender<bool>,
}

impl Watched {
    async fn end(&mut self, machine: &Machine) {
        if let Err(error) = self.child.kill().await {
            eprintln!("{}: end QEMU: {error}", machine.spec.name);
        }
        if let Err(failure) = process_exec::remove_if_there(&machine.files.pid()) {
            eprintln!("{failure}");
        }
        self.gone.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{
        layout::Layout,
        netns, preflight, preflight_exec,
        spec::{Lab, Spec},
    };
    use std::{
        os::{fd::AsFd, unix::fs::FileExt},
        path::Path,
        sync::atomic::{AtomicU32, Ordering},
        time::Instant,
    };

    /// A boot sector that says R on the serial port, waits a second (INT 15h AH=86h), and then does `last`.
    fn boot_sector(last: &[u8]) -> Vec<u8> {
        let mut code =
            vec![0xba, 0xf8, 0x03, 0xb0, b'R', 0xee, 0xb4, 0x86, 0xb9, 0x0f, 0x00, 0xba, 0x40, 0x42, 0xcd, 0x15];
        code.extend_from_slice(last);
        code.extend([0xf4, 0xeb, 0xfd]);
        code.resize(510, 0);
        code.extend([0x55, 0xaa]);
        code
    }
    /// `out 0x64, 0xfe`: the keyboard controller resets the machine.
    const RESET: [u8; 4] = [0xb0, 0xfe, 0xe6, 0x64];
    /// `out 0x604, 0x2000`: soft off through ACPI's PM1a control register, where SeaBIOS puts it.
    const SOFT_OFF: [u8; 7] = [0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef];

    async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !is_so().await {
            assert!(Instant::now() < end, "not within 60 s: {what}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    struct Network(String);
    impl Drop for Network {
        fn drop(&mut self) {
            let _ = process_exec::run(&netns::remove(&self.0));
        }
    }

    #[test]
    fn a_guest_reset_asks_the_bmc_again_and_a_guest_power_off_stays_off() {
        let name = format!("t{}", std::process::id());
        if let Err(failure) = preflight::check(&name, &preflight_exec::look()) {
            eprintln!("SKIPPED: {failure} ({})", failure.next.as_deref().unwrap_or_default());
            return;
        }
        let mut lab = Lab::plan(&Spec::new(&name), uuid::Uuid::new_v4(), 0).unwrap();
        lab.machines.retain(|m| m.firmware == crate::model::fleet::BootMode::Bios);
        let network = Network(lab.netns());
        for argv in netns::make(&lab) {
            process_exec::run(&argv).unwrap();
        }
        // This thread alone enters it, and the machine is started by this thread.
        let entered = fs::File::open(Path::new("/run/netns").join(lab.netns())).unwrap();
        nix::sched::setns(entered.as_fd(), nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let files = Layout::new(dir.path()).machine(&lab.machines[0].name);
        fs::create_dir(&files.dir).unwrap();
        let disk = fs::File::create(files.disk()).unwrap();
        disk.set_len(1 << 20).unwrap();
        disk.write_all_at(&boot_sector(&RESET), 0).unwrap();
        let machine = Machine::new(lab.machines[0].clone(), files.clone(), Accel::Tcg);
        let asked = Arc::new(AtomicU32::new(0));
        let hook = asked.clone();
        machine.set_on_guest_reset(Box::new(move || {
            hook.fetch_add(1, Ordering::Relaxed);
            Some(BootTarget::Disk)
        }));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            assert_eq!(machine.power().await, Ok(PowerState::Off));
            machine.power_on(None).await.unwrap();
            assert_eq!(machine.power().await, Ok(PowerState::On));
            let first = machine.pid().await;
            until("two resets", async || asked.load(Ordering::Relaxed) >= 2).await;
            until("it is on again", async || machine.pid().await.is_some_and(|pid| Some(pid) != first)).await;
            assert!(machine.starts().guest_reset >= 1);
            machine.power_off().await.unwrap();
            assert_eq!((machine.power().await, machine.pid().await), (Ok(PowerState::Off), None));
            assert!(!files.pid().exists());

            disk.write_all_at(&boot_sector(&SOFT_OFF), 0).unwrap();
            let resets = asked.load(Ordering::Relaxed);
            machine.power_on(Some(BootTarget::Disk)).await.unwrap();
            until("the guest has switched itself off", async || machine.power().await == Ok(PowerState::Off)).await;
            assert_eq!(asked.load(Ordering::Relaxed), resets, "a power-off is no reset");
            let log = String::from_utf8_lossy(&fs::read(files.serial_log()).unwrap()).into_owned();
            // The firmware's own last words may come after the letter.
            let said = log.rsplit("Booting from Hard Disk").next().unwrap_or_default();
            assert!(said.contains('R'), "the console is recorded: {said:?}");
            assert!(log.matches("SeaBIOS (version").count() >= 3, "over all boots: {log}");
        });
        drop(network);
    }
}
