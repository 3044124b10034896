//! One BMC by itself on a loopback port: for clients that are to be tried against a recorded tree.

use std::{
    fs,
    io::Read,
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
};

use uuid::Uuid;

use super::{Account, Bmc, Description, DriveDescription, FakeChassis, Faults, certificate, serve};
use crate::model::{Failure, Secret, failure::Cause};

/// A password is one line.
const PASSWORD_BYTES: u64 = 1024;
const USER: &str = "admin";

/// What [`alone`] made: it listens, and serves once it is waited for.
pub struct Alone {
    /// `https://127.0.0.1:40123`
    pub url: String,
    /// `sha256:HEX` of its key.
    pub pin: String,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    bmc: Arc<Bmc<FakeChassis>>,
}

/// A machine without hardware behind a BMC of its own or a recorded tree.
pub fn alone(tree: Option<&Path>, password: &Path, listen: SocketAddr, nature: Faults) -> Result<Alone, Failure> {
    let fail = |why: String| Failure::new(Cause::Local, format!("lab bmc serve on {listen}"), why);
    if !listen.ip().is_loopback() {
        let why = "a BMC with a machine that is none listens on loopback addresses alone";
        return Err(Failure::new(Cause::Refused, format!("lab bmc serve on {listen}"), why)
            .next("rackctl lab bmc serve --password-file FILE --listen 127.0.0.1:0"));
    }
    let read = |e: std::io::Error| fail(format!("{}: {e}", password.display()));
    let mut text = String::new();
    fs::File::open(password).map_err(read)?.take(PASSWORD_BYTES).read_to_string(&mut text).map_err(read)?;
    let account = Account { user: USER.into(), password: Secret::new(text.lines().next().unwrap_or_default().into()) };
    let chassis = FakeChassis::new(description());
    let bmc = match tree {
        Some(dir) => Bmc::with_tree(chassis, account, nature, dir)?,
        None => Bmc::new(chassis, account, nature),
    };
    let certificate = certificate("bmc", Some(listen.ip()))?;
    bmc.show_certificate(&certificate.cert_pem);
    let listener = TcpListener::bind(listen).map_err(|e| fail(e.to_string()))?;
    listener.set_nonblocking(true).map_err(|e| fail(e.to_string()))?;
    let at = listener.local_addr().map_err(|e| fail(e.to_string()))?;
    let tls = certificate.server_config()?;
    Ok(Alone { url: format!("https://{at}"), pin: certificate.pin, listener, tls, bmc })
}

impl Alone {
    /// Serves until ^C or SIGTERM.
    pub fn wait(self) -> Result<(), Failure> {
        let fail = |e: std::io::Error| Failure::new(Cause::Local, "lab bmc serve", e.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(fail)?;
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(self.listener).map_err(fail)?;
            let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map_err(fail)?;
            serve(listener, self.tls, self.bmc, async {
                tokio::select! {
                    _ = term.recv() => {}
                    _ = tokio::signal::ctrl_c() => {}
                }
            })
            .await;
            Ok(())
        })
    }
}

/// Two drives, so that there is something to make a RAID of.
fn description() -> Description {
    let drive = |n: u8| DriveDescription { serial: format!("DISK-{n}"), model: "Virtual".into(), size_bytes: 64 << 30 };
    Description {
        manufacturer: "rackctl-lab".into(),
        model: "Machine without hardware".into(),
        serial: "LAB-ALONE-1".into(),
        sku: None,
        uuid: Uuid::from_bytes([0x52, 0x54, 0, 0x77, 0, 0, 0x40, 0, 0x80, 0, 0x52, 0x54, 0, 0x77, 0, 1]),
        macs: vec![crate::model::Mac([0x52, 0x54, 0, 0x77, 0, 1]), crate::model::Mac([0x52, 0x54, 0, 0x77, 0, 2])],
        drives: vec![drive(1), drive(2)],
        memory_bytes: 4 << 30,
        cores: 4,
        uefi: true,
        bios_version: "1.0.0".into(),
    }
}
