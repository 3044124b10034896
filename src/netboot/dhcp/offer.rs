//! What a client is told to boot: one table, from (client, boot choice) to loader.

use crate::{
    model::{
        boot::{BootChoice, BootMachine},
        fleet::Arch,
    },
    netboot::{dhcp::request::Client, ipxe, live::Live},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Boot {
    /// An address alone.
    Nothing,
    /// A file name for TFTP, at our address.
    Tftp(String),
    /// A URL for UEFI HTTP Boot, with `HTTPClient` echoed in option 60.
    Http(String),
    /// The URL of the machine's iPXE script.
    Script(String),
}

/// No object has this name: TFTP answers "file not found", and the firmware goes on to its next boot device.
pub const NO_FILE: &str = "nothing-to-boot";

/// iPXE's script for one machine.
pub fn script_url(live: &Live, machine: &BootMachine) -> String {
    let network = &live.table.network;
    format!("http://{}:{}/boot/{}.ipxe", network.server, network.http_port, ipxe::mac_in_url(machine.mac))
}

/// `Err` says why the client must not be answered at all.
pub fn boot(live: &Live, machine: &BootMachine, client: &Client) -> Result<Boot, String> {
    let withdrawn = matches!(machine.boot, BootChoice::Withdrawn);
    let (loader, arch, http) = match client {
        Client::Plain(_) | Client::UBoot => return Ok(Boot::Nothing),
        // A refused file ends UEFI's try within seconds. Without a boot file it asks again and again for a minute.
        Client::Pxe(_) if withdrawn => return Ok(Boot::Tftp(NO_FILE.to_owned())),
        _ if withdrawn => return Ok(Boot::Nothing),
        Client::Ipxe => return Ok(Boot::Script(script_url(live, machine))),
        Client::Pxe(0) => ("undionly.kpxe", Arch::Amd64, false),
        Client::Pxe(7 | 9) => ("snponly.efi", Arch::Amd64, false),
        Client::Pxe(11) => ("ipxe-arm64.efi", Arch::Arm64, false),
        Client::Http(16) => ("snponly.efi", Arch::Amd64, true),
        Client::Http(19) => ("ipxe-arm64.efi", Arch::Arm64, true),
        Client::Pxe(other) | Client::Http(other) => {
            return Err(format!("{}: no loader for architecture {other} (option 93)", machine.node));
        }
    };
    if arch != machine.arch {
        return Err(format!("{}: the firmware says {client}, the inventory says {:?}", machine.node, machine.arch));
    }
    let object = live.tftp_object(loader).ok_or_else(|| format!("{}: no loader {loader} in this run", machine.node))?;
    let network = &live.table.network;
    Ok(if http {
        Boot::Http(format!("http://{}:{}/o/{}", network.server, network.http_port, object.about.sha256))
    } else {
        Boot::Tftp(loader.to_owned())
    })
}
