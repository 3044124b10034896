//! What the supervisor does once it stands in its namespace: machines, BMCs, the control socket, and the end.

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    signal::unix::{SignalKind, signal},
    sync::{Notify, Semaphore},
    time::timeout,
};

use super::{
    control::{LINE_MAX, LabStatus, Request, Response},
    layout::Layout,
    machine::Machine,
    machine_exec, preflight_exec,
    process_exec::local,
    qemu::Accel,
    seat::Seat,
    simulated,
    spec::{self, Lab},
};
use crate::model::{Failure, failure::Cause};

/// A question is small and comes at once.
const QUESTION_MAX: u64 = 64 * 1024;
const QUESTION: Duration = Duration::from_secs(10);
/// Questions that are answered at the same time; more wait.
const ASKERS_MAX: usize = 64;

struct Floor {
    lab: Lab,
    layout: Layout,
    seats: BTreeMap<String, Seat>,
    end: Notify,
}

/// Until SIGTERM, SIGINT or a `shutdown`. `ready` is called once every BMC has answered.
pub async fn serve(lab: &Lab, layout: &Layout, ready: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    let what = || format!("lab {}: serve", lab.name);
    let accel = Accel::from_word(std::env::var(preflight_exec::ACCEL_VARIABLE).ok().as_deref()).unwrap_or_default();
    let mut term = signal(SignalKind::terminate()).map_err(|e| local(what(), e))?;
    let mut int = signal(SignalKind::interrupt()).map_err(|e| local(what(), e))?;
    let mut seats = BTreeMap::new();
    let site = match &lab.simulated {
        Some(timing) => Some(simulated::Site::open(timing.clone(), &layout.control(), &lab.machines)?),
        None => None,
    };
    for spec in &lab.machines {
        let files = layout.machine(&spec.name);
        let machine = match &site {
            Some(site) => Machine::Simulated(simulated::Machine::new(spec.clone(), files, site.clone())?),
            None => Machine::Emulated(machine_exec::Machine::new(spec.clone(), files, accel)),
        };
        seats.insert(spec.name.clone(), Seat::open(machine, layout).await?);
    }
    for seat in seats.values() {
        seat.answers().await?;
    }
    let listener = UnixListener::bind(layout.control()).map_err(|e| local(what(), e))?;
    std::fs::set_permissions(layout.control(), std::fs::Permissions::from_mode(0o600)).map_err(|e| local(what(), e))?;
    let floor = Arc::new(Floor { lab: lab.clone(), layout: layout.clone(), seats, end: Notify::new() });
    ready()?;
    eprintln!("{}: {} machines in {}", lab.name, floor.seats.len(), lab.netns());
    let askers = Arc::new(Semaphore::new(ASKERS_MAX));
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.map_err(|e| local(what(), e))?;
                if let Ok(permit) = askers.clone().acquire_owned().await {
                    let floor = floor.clone();
                    tokio::spawn(async move {
                        answer(&floor, stream).await;
                        drop(permit);
                    });
                }
            }
            _ = term.recv() => break,
            _ = int.recv() => break,
            () = floor.end.notified() => break,
        }
    }
    eprintln!("{}: ending", lab.name);
    let mut worst = Ok(());
    for seat in floor.seats.values() {
        if let Err(failure) = seat.machine.power_off().await {
            eprintln!("{failure}");
            worst = Err(failure);
        }
    }
    worst
}

async fn answer(floor: &Arc<Floor>, stream: UnixStream) {
    let (reader, mut writer) = stream.into_split();
    let mut line = Vec::new();
    let mut reader = BufReader::new(reader).take(QUESTION_MAX);
    if !matches!(timeout(QUESTION, reader.read_until(b'\n', &mut line)).await, Ok(Ok(n)) if n > 0) {
        return;
    }
    let response = match serde_json::from_slice::<Request>(&line) {
        Ok(request) => handle(floor, request).await.unwrap_or_else(|failure| Response::Failed { failure }),
        Err(error) => Response::Failed {
            failure: Failure::new(
                Cause::Malformed,
                format!("lab {}: read a control request", floor.lab.name),
                error.to_string(),
            ),
        },
    };
    let mut line = serde_json::to_vec(&response).unwrap_or_default();
    line.push(b'\n');
    if line.len() as u64 > LINE_MAX {
        eprintln!("an answer of {} bytes is longer than the asker will read", line.len());
    }
    // Who went away without reading has lost interest.
    let _ = timeout(QUESTION, writer.write_all(&line)).await;
}

impl Floor {
    fn seat(&self, node: &str) -> Result<&Seat, Failure> {
        self.seats.get(node).ok_or_else(|| spec::unknown_node(&self.lab.name, node, &self.lab.machines))
    }
}

async fn handle(floor: &Arc<Floor>, request: Request) -> Result<Response, Failure> {
    match request {
        Request::Status => {
            let mut machines = Vec::new();
            for machine in &floor.lab.machines {
                machines.push(floor.seat(&machine.name)?.status().await?);
            }
            let status = LabStatus {
                name: floor.lab.name.clone(),
                pid: std::process::id() as i32,
                netns: floor.lab.netns(),
                dir: floor.layout.dir.clone(),
                machines,
            };
            Ok(Response::Status { status })
        }
        Request::Requests { node } => Ok(Response::Requests { requests: floor.seat(&node)?.requests()? }),
        Request::Faults { node, faults } => {
            floor.seat(&node)?.set_faults(faults);
            Ok(Response::Done)
        }
        Request::ShowFaults { node } => {
            let (faults, nature) = floor.seat(&node)?.faults();
            Ok(Response::Faults { faults, nature })
        }
        Request::SwapCertificate { node } => {
            floor.seat(&node)?.swap_certificate().await.map(|pin| Response::CertificateSwapped { pin })
        }
        Request::SetIdentity { node, bmc_serial, uuid, disk_serial } => {
            floor.seat(&node)?.set_identity(bmc_serial, uuid, disk_serial).await?;
            Ok(Response::Done)
        }
        Request::Node { node, words, stdin } => match &floor.seat(&node)?.machine {
            Machine::Simulated(machine) => Ok(Response::Node { said: machine.command(&words, &stdin) }),
            Machine::Emulated(_) => Err(Failure::new(
                Cause::Refused,
                format!("{node}: run a command on it"),
                "it is an emulated machine and has an SSH server of its own",
            )),
        },
        Request::ForeignDisk { node } => match &floor.seat(&node)?.machine {
            Machine::Simulated(machine) => machine.put_foreign_disk().map(|()| Response::Done),
            Machine::Emulated(machine) => Err(Failure::new(
                Cause::Refused,
                format!("{node}: change its disk"),
                format!("it is an emulated machine, its disk is {}", machine.files.disk().display()),
            )),
        },
        Request::Shutdown => {
            floor.end.notify_one();
            Ok(Response::Done)
        }
    }
}
