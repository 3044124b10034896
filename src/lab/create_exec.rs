//! Makes the files of a laboratory.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use super::{
    bmc,
    layout::{Layout, MachineLayout},
    manifest,
    process_exec::{self, local},
    qemu::OVMF_VARS,
    simulated::images,
    spec::{Lab, MachineSpec},
};
use crate::model::{Failure, Secret, fleet::BootMode};

/// 128 bits of the kernel's randomness, in hex.
/// As long as IPMI can carry: its BMCs know the same password.
fn password() -> Secret {
    let mut text = uuid::Uuid::new_v4().simple().to_string();
    text.truncate(crate::bmc::ipmi::crypto::MAX_PASSWORD_BYTES);
    Secret::new(text)
}

pub fn folder(path: &Path) -> Result<(), Failure> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| local(format!("make folder {}", path.display()), e))
}

/// Fills the empty directory: `lab.json` first, so that whatever happens next it can be recognised and deleted.
pub fn fill(lab: &Lab, layout: &Layout) -> Result<(), Failure> {
    let what = || format!("lab {}: write its files", lab.name);
    let text = serde_json::to_vec_pretty(lab).map_err(|e| local(what(), e))?;
    process_exec::write_atomically(&layout.lab(), &text, 0o600)?;
    process_exec::write_atomically(&layout.password(), password().expose().as_bytes(), 0o600)?;
    process_exec::run(&keygen(lab, layout))?;
    let mut public = layout.identity().into_os_string();
    public.push(".pub");
    let public = fs::read_to_string(&public).map_err(|e| local(what(), e))?;
    let mut pins = BTreeMap::new();
    for machine in &lab.machines {
        let files = layout.machine(&machine.name);
        folder(&files.dir)?;
        if lab.simulated.is_none() {
            self::machine(machine, &files).map_err(|e| local(what(), e))?;
        }
        pins.insert(machine.name.clone(), new_certificate(machine, &files)?);
    }
    if lab.simulated.is_some() {
        folder(&layout.images())?;
        for file in images::files() {
            let path = layout.images().join(file.name);
            fs::write(&path, &file.content).map_err(|e| local(format!("write {}", path.display()), e))?;
        }
    }
    folder(&layout.inventory())?;
    let inputs = manifest::Inputs { lab, ssh_identity: &layout.identity(), ssh_public: &public, pins: &pins };
    for (file, text) in manifest::files(&inputs) {
        process_exec::write_atomically(&layout.inventory().join(file), text.as_bytes(), 0o644)?;
    }
    Ok(())
}

/// An operator's key without a passphrase: it opens nothing but this laboratory.
fn keygen(lab: &Lab, layout: &Layout) -> Vec<String> {
    let comment = format!("rackctl-lab-{}", lab.name);
    let file = layout.identity().display().to_string();
    ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", &comment, "-f", &file].map(str::to_owned).to_vec()
}

fn machine(machine: &MachineSpec, files: &MachineLayout) -> io::Result<()> {
    let new = || {
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        options
    };
    new().open(files.disk())?.set_len(machine.disk_bytes)?;
    if machine.firmware == BootMode::Uefi {
        io::copy(&mut fs::File::open(OVMF_VARS)?, &mut new().open(files.vars())?)?;
    }
    Ok(())
}

/// A new key and certificate of the machine's BMC in its files; the pin.
pub fn new_certificate(machine: &MachineSpec, files: &MachineLayout) -> Result<String, Failure> {
    let made = bmc::certificate(&format!("bmc-{}", machine.name), Some(machine.bmc_address.into()))?;
    process_exec::write_atomically(&files.bmc_key(), made.key_pem.expose().as_bytes(), 0o600)?;
    process_exec::write_atomically(&files.bmc_certificate(), made.cert_pem.as_bytes(), 0o644)?;
    Ok(made.pin)
}
