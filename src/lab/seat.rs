//! One machine with its BMC before it: what the operator's side of a rack slot is.

use std::{
    fs,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use uuid::Uuid;

use super::{
    bmc::{self, Account, Bmc, Certificate, Chassis, Description, DriveDescription, Faults, Snapshot, ipmi},
    control::MachineStatus,
    create_exec,
    layout::Layout,
    machine::Machine,
    manifest::BMC_USER,
    process_exec::local,
};
use crate::{
    bmc::redfish::wire::{EnabledWord, ModeWord},
    model::{
        Failure, Secret,
        failure::Cause,
        fleet::BootMode,
        power::{BootOverride, BootTarget, OverrideFor, PowerState},
    },
};

pub const BMC_PORT: u16 = 443;
pub const IPMI_PORT: u16 = 623;
/// A BMC that serves completes a handshake within this.
const HANDSHAKE: Duration = Duration::from_secs(20);

/// The machine as its BMC sees it.
pub struct Slot(Machine);

impl Slot {
    /// The BMC keeps a text; the supervisor's log has it too.
    fn said<T>(&self, result: Result<T, Failure>) -> Result<T, String> {
        result.map_err(|failure| {
            eprintln!("{failure}");
            failure.to_string()
        })
    }
}

impl Chassis for Slot {
    fn description(&self) -> Description {
        let spec = self.0.spec();
        let identity = self.0.identity();
        let simulated = matches!(self.0, Machine::Simulated(_));
        Description {
            manufacturer: "rackctl-lab".into(),
            model: if simulated { "Simulated machine" } else { "Laboratory machine" }.into(),
            serial: identity.serial,
            sku: None,
            uuid: identity.uuid,
            macs: vec![spec.mac],
            drives: vec![DriveDescription {
                serial: identity.disk_serial,
                model: "virtio-blk".into(),
                size_bytes: spec.disk_bytes,
            }],
            memory_bytes: u64::from(spec.memory_mib) << 20,
            cores: 1,
            uefi: spec.firmware == BootMode::Uefi,
            bios_version: match (simulated, spec.firmware) {
                (true, _) => "simulated",
                (false, BootMode::Uefi) => "OVMF",
                (false, BootMode::Bios) => "SeaBIOS",
            }
            .into(),
        }
    }
    async fn power(&self) -> PowerState {
        self.said(self.0.power().await).unwrap_or(PowerState::Unknown)
    }
    async fn power_on(&self, boot: Option<BootTarget>) -> Result<(), String> {
        self.said(self.0.power_on(boot).await)
    }
    async fn power_off(&self) -> Result<(), String> {
        self.said(self.0.power_off().await)
    }
    async fn shutdown(&self) -> Result<(), String> {
        self.said(self.0.shutdown().await)
    }
}

type SharedBmc = Arc<Mutex<Arc<Bmc<Slot>>>>;

pub struct Seat {
    pub machine: Machine,
    layout: Layout,
    /// Replaced whole when the board is.
    bmc: SharedBmc,
    serving: tokio::sync::Mutex<Option<Serving>>,
}

struct Serving {
    stop: watch::Sender<()>,
    tasks: [JoinHandle<()>; 2],
}

fn current(bmc: &SharedBmc) -> Arc<Bmc<Slot>> {
    bmc.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn new_bmc(machine: &Machine, layout: &Layout) -> Result<Arc<Bmc<Slot>>, Failure> {
    let path = layout.password();
    let password = fs::read_to_string(&path).map_err(|e| local(format!("read {}", path.display()), e))?;
    let account = Account { user: BMC_USER.into(), password: Secret::new(password.trim_end().to_owned()) };
    let what = || format!("{}: make its BMC", machine.spec().name);
    let quick = match machine {
        Machine::Emulated(_) => Faults::default(),
        Machine::Simulated(m) => {
            let lag = m.bmc_lag().as_millis();
            let texts = [format!("power-lag={lag}ms"), format!("power-off-time={lag}ms")];
            Faults::parse(texts.iter().map(String::as_str)).map_err(|why| local(what(), why))?
        }
    };
    let nature = machine.spec().bmc_faults.over(&quick);
    let bmc = Bmc::new(Slot(machine.clone()), account, nature);
    let path = machine.files().bmc_certificate();
    bmc.show_certificate(&fs::read_to_string(&path).map_err(|e| local(format!("read {}", path.display()), e))?);
    Ok(bmc)
}

impl Seat {
    /// The machine stays off; its BMC serves when this returns.
    pub async fn open(machine: Machine, layout: &Layout) -> Result<Seat, Failure> {
        let bmc = Arc::new(Mutex::new(new_bmc(&machine, layout)?));
        let asked = bmc.clone();
        machine.set_on_guest_reset(Box::new(move || current(&asked).on_guest_reset()));
        let seat = Seat { machine, layout: layout.clone(), bmc, serving: tokio::sync::Mutex::new(None) };
        seat.serve().await?;
        Ok(seat)
    }

    /// (Re)starts the listener with the certificate and the BMC that are there now.
    async fn serve(&self) -> Result<(), Failure> {
        let spec = self.machine.spec();
        let mut serving = self.serving.lock().await;
        if let Some(old) = serving.take() {
            // It may have ended by itself.
            drop(old.stop);
            for task in old.tasks {
                if let Err(error) = task.await {
                    eprintln!("{}: its BMC's listener ended: {error}", spec.name);
                }
            }
        }
        let tls = self.certificate()?.server_config()?;
        let at = (IpAddr::from(spec.bmc_address), BMC_PORT);
        let listener = TcpListener::bind(at)
            .await
            .map_err(|e| local(format!("{}: open its BMC on {}", spec.name, spec.bmc_address), e))?;
        let socket = UdpSocket::bind((IpAddr::from(spec.bmc_address), IPMI_PORT))
            .await
            .map_err(|e| local(format!("{}: open its BMC's IPMI on {}", spec.name, spec.bmc_address), e))?;
        let bmc = current(&self.bmc);
        let service = ipmi::Service::new(bmc.clone())
            .map_err(|why| local(format!("{}: start its BMC's IPMI", spec.name), why))?;
        let console = Some(self.machine.files().serial_socket());
        let (stop, stopped) = watch::channel(());
        // Ends when the sender is dropped.
        let ended = |mut stopped: watch::Receiver<()>| async move { while stopped.changed().await.is_ok() {} };
        let redfish = bmc::serve(listener, tls, bmc, ended(stopped.clone()));
        let tasks = [tokio::spawn(redfish), tokio::spawn(ipmi::serve(socket, service, console, ended(stopped)))];
        *serving = Some(Serving { stop, tasks });
        Ok(())
    }

    fn certificate(&self) -> Result<Certificate, Failure> {
        let files = self.machine.files();
        let read = |path: std::path::PathBuf| {
            fs::read_to_string(&path).map_err(|e| local(format!("read {}", path.display()), e))
        };
        let cert_pem = read(files.bmc_certificate())?;
        let key_pem = Secret::new(read(files.bmc_key())?);
        let what = || format!("{}: read the certificate of its BMC", self.machine.spec().name);
        let der = CertificateDer::from_pem_slice(cert_pem.as_bytes()).map_err(|e| local(what(), format!("{e:?}")))?;
        let pin = crate::bmc::tls::pin_of(&der).map_err(|why| local(what(), why))?;
        Ok(Certificate { cert_pem, key_pem, pin })
    }

    /// Completes a TLS handshake as a client that trusts this one certificate. No request is sent: the BMC's log of
    /// requests stays what others asked.
    pub async fn answers(&self) -> Result<(), Failure> {
        let spec = self.machine.spec();
        let what = || format!("{}: reach its BMC on {}", spec.name, spec.bmc_address);
        let der = CertificateDer::from_pem_slice(self.certificate()?.cert_pem.as_bytes())
            .map_err(|e| local(what(), format!("{e:?}")))?;
        let mut roots = RootCertStore::empty();
        roots.add(der).map_err(|e| local(what(), e))?;
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| local(what(), e))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::from(IpAddr::from(spec.bmc_address));
        let handshake = async {
            let stream = TcpStream::connect((spec.bmc_address, BMC_PORT)).await?;
            TlsConnector::from(Arc::new(config)).connect(name, stream).await
        };
        match timeout(HANDSHAKE, handshake).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Failure::new(Cause::Unreachable, what(), error.to_string())),
            Err(_) => Err(Failure::new(Cause::Deadline, what(), format!("no handshake in {} s", HANDSHAKE.as_secs()))),
        }
    }

    /// What its BMC was asked, oldest first (as many as it keeps).
    pub fn requests(&self) -> Result<Vec<Value>, Failure> {
        let (entries, _) = current(&self.bmc).log();
        entries.iter().map(serde_json::to_value).collect::<Result<_, _>>().map_err(|e| local("write a log entry", e))
    }

    pub fn set_faults(&self, faults: Faults) {
        current(&self.bmc).set_faults(faults);
    }
    /// Those set while it runs, and those that it was made with.
    pub fn faults(&self) -> (Faults, Faults) {
        let bmc = current(&self.bmc);
        (bmc.faults(), bmc.nature())
    }

    /// The pin of the new certificate. The inventory keeps the old one: nothing else would be a surprise.
    pub async fn swap_certificate(&self) -> Result<String, Failure> {
        let pin = create_exec::new_certificate(self.machine.spec(), self.machine.files())?;
        current(&self.bmc).show_certificate(&self.certificate()?.cert_pem);
        self.serve().await?;
        Ok(pin)
    }

    /// Another board: its BMC starts with an empty log, and takes the override and the faults over.
    pub async fn set_identity(
        &self,
        bmc_serial: Option<String>,
        uuid: Option<Uuid>,
        disk_serial: Option<String>,
    ) -> Result<(), Failure> {
        let what = || format!("{}: set its identity", self.machine.spec().name);
        let mut identity = self.machine.identity();
        for text in [&bmc_serial, &disk_serial].into_iter().flatten() {
            // It becomes a word of a QEMU option.
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
            if text.is_empty() || text.len() > 20 || !text.bytes().all(plain) {
                let why = format!("`{text}` is not 1 to 20 letters, digits, `-`, `_` and `.`");
                return Err(Failure::new(Cause::Refused, what(), why));
            }
        }
        identity.serial = bmc_serial.unwrap_or(identity.serial);
        identity.uuid = uuid.unwrap_or(identity.uuid);
        identity.disk_serial = disk_serial.unwrap_or(identity.disk_serial);
        self.machine.set_identity(identity);
        let old = current(&self.bmc);
        let new = new_bmc(&self.machine, &self.layout)?;
        new.restore(old.snapshot());
        new.set_faults(old.faults());
        *self.bmc.lock().unwrap_or_else(PoisonError::into_inner) = new;
        self.serve().await
    }

    pub async fn status(&self) -> Result<MachineStatus, Failure> {
        let (machine, bmc) = (&self.machine, current(&self.bmc));
        let (entries, dropped) = bmc.log();
        Ok(MachineStatus {
            name: machine.spec().name.clone(),
            lifecycle: machine.spec().lifecycle,
            firmware: machine.spec().firmware,
            power: machine.power().await?,
            pid: machine.pid().await,
            bmc: format!("https://{}", machine.spec().bmc_address),
            bmc_pin: bmc.replaced_pin().map_or_else(|| self.certificate().map(|c| c.pin), Ok)?,
            boot_override: boot_override(bmc.snapshot()),
            requests: entries.len() as u64 + dropped,
            writes: bmc.writes().len() as u64,
            sessions: bmc.open_sessions() as u64,
            starts: machine.starts(),
            identity: machine.identity(),
            serial_log: machine.files().serial_log(),
            simulated: machine.account(),
        })
    }
}

fn boot_override(snapshot: Snapshot) -> BootOverride {
    let boot = snapshot.boot;
    BootOverride {
        target: boot.target,
        lasts: match boot.enabled {
            EnabledWord::Once => OverrideFor::Once,
            EnabledWord::Continuous => OverrideFor::Persistent,
            EnabledWord::Disabled | EnabledWord::Unknown => OverrideFor::Disabled,
        },
        mode: match boot.mode {
            ModeWord::Uefi => Some(BootMode::Uefi),
            ModeWord::Legacy => Some(BootMode::Bios),
            ModeWord::Unknown => None,
        },
    }
}
