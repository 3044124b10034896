//! The command line of QEMU for one start of one machine. Pure.

use std::path::{Path, PathBuf};

use super::{
    layout::MachineLayout,
    netns::{self, Argv},
    spec::{Identity, MachineSpec},
};
use crate::model::{fleet::BootMode, power::BootTarget};

pub const PROGRAM: &str = "qemu-system-x86_64";
pub const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
pub const OVMF_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
pub const IPXE_ROM: &str = "/usr/lib/ipxe/qemu/pxe-virtio.rom";
pub const SEABIOS: &str = "/usr/share/seabios/bios-256k.bin";

/// What executes the guests. TCG unless `RACKCTL_LAB_ACCEL=kvm`: a /dev/kvm that opens may still run no guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accel {
    #[default]
    Tcg,
    Kvm,
}

impl Accel {
    /// From the value of `RACKCTL_LAB_ACCEL`; `None` for a word that is not known.
    pub fn from_word(word: Option<&str>) -> Option<Accel> {
        match word {
            None | Some("") | Some("tcg") => Some(Accel::Tcg),
            Some("kvm") => Some(Accel::Kvm),
            Some(_) => None,
        }
    }
}

/// What the firmware tries first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    NetworkFirst,
    /// The network, and of its ways UEFI HTTP Boot first; BIOS machines have PXE only.
    HttpFirst,
    DiskFirst,
}

impl Order {
    /// `None` is what the machine does by itself: its disk, then the network.
    pub fn of(target: Option<BootTarget>) -> Order {
        match target {
            Some(BootTarget::Pxe) => Order::NetworkFirst,
            Some(BootTarget::Http) => Order::HttpFirst,
            Some(BootTarget::None | BootTarget::Disk | BootTarget::Cd | BootTarget::Setup) | None => Order::DiskFirst,
        }
    }
}

fn text(path: &Path) -> String {
    // A comma ends an option of QEMU; doubled it is a comma.
    path.display().to_string().replace(',', ",,")
}

/// The whole argument list.
///
/// A guest that resets or powers off stops QEMU's clock and no more (`-action`): the supervisor hears of it over
/// QMP, asks the BMC what applies now, and starts anew, so that a one-time override is looked up at every boot.
pub fn argv(machine: &MachineSpec, identity: &Identity, files: &MachineLayout, order: Order, accel: Accel) -> Argv {
    let (disk_index, net_index) = match order {
        Order::NetworkFirst | Order::HttpFirst => (2, 1),
        Order::DiskFirst => (1, 2),
    };
    let uefi = machine.firmware == BootMode::Uefi;
    // The option ROM is iPXE on BIOS; OVMF brings its own PXE client and must not be given another.
    let rom = if uefi { PathBuf::new() } else { PathBuf::from(IPXE_ROM) };
    let mut all: Argv = vec![PROGRAM.into()];
    let mut add = |words: &[&str]| all.extend(words.iter().map(|w| (*w).to_owned()));
    add(&["-name", &format!("{},process=rackctl-{}", identity.serial, machine.name)]);
    match accel {
        Accel::Tcg => add(&["-accel", "tcg,thread=multi", "-cpu", "qemu64"]),
        Accel::Kvm => add(&["-accel", "kvm", "-cpu", "host"]),
    }
    // graphics=off: SeaBIOS then speaks on the serial port.
    add(&["-machine", "q35,graphics=off", "-m", &machine.memory_mib.to_string(), "-smp", "1"]);
    add(&["-nodefaults", "-no-user-config", "-display", "none", "-vga", "none"]);
    add(&["-action", "reboot=shutdown,shutdown=pause"]);
    add(&["-uuid", &identity.uuid.to_string()]);
    add(&[
        "-smbios",
        &format!(
            "type=1,manufacturer=rackctl-lab,product=Laboratory machine,serial={},uuid={}",
            identity.serial, identity.uuid
        ),
    ]);
    if uefi {
        add(&["-drive", &format!("if=pflash,format=raw,unit=0,readonly=on,file={OVMF_CODE}")]);
        add(&["-drive", &format!("if=pflash,format=raw,unit=1,file={}", text(&files.vars()))]);
        // Names of fw_cfg are QEMU's and OVMF's; IPv6 is not on the bridge and its timeouts would precede the next try.
        add(&["-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n"]);
        if order == Order::HttpFirst {
            add(&["-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n"]);
        }
    }
    // cache=unsafe: what the guest wrote is in the host's page cache when QEMU is killed, and that is all a machine's
    // power cut can take here; only a crash of the host loses more.
    add(&[
        "-drive",
        &format!(
            "if=none,id=disk0,format=raw,cache=unsafe,discard=unmap,detect-zeroes=unmap,file={}",
            text(&files.disk())
        ),
    ]);
    add(&["-device", &format!("virtio-blk-pci,drive=disk0,serial={},bootindex={disk_index}", identity.disk_serial)]);
    // The ROM is for the modern device id, 1041, and QEMU corrects the id in its own default ROM only.
    add(&["-netdev", &format!("tap,id=net0,ifname={},script=no,downscript=no,vhost=off", netns::tap(machine))]);
    add(&[
        "-device",
        &format!(
            "virtio-net-pci,netdev=net0,mac={},romfile={},bootindex={net_index},disable-legacy=on,disable-modern=off",
            machine.mac,
            text(&rom)
        ),
    ]);
    add(&["-object", "rng-random,id=rng0,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng0"]);
    add(&[
        "-chardev",
        &format!(
            "socket,id=serial0,server=on,wait=off,path={},logfile={},logappend=on",
            text(&files.serial_socket()),
            text(&files.serial_log())
        ),
    ]);
    add(&["-serial", "chardev:serial0"]);
    add(&["-chardev", &format!("socket,id=qmp0,server=on,wait=off,path={}", text(&files.qmp_socket()))]);
    add(&["-mon", "chardev=qmp0,mode=control"]);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::spec::{Lab, Spec};

    fn line(i: usize, order: Order, accel: Accel) -> String {
        let lab = Lab::plan(&Spec::new("demo"), uuid::Uuid::nil(), 0).unwrap();
        let m = &lab.machines[i];
        argv(m, &m.identity, &crate::lab::layout::Layout::new("/d,x").machine(&m.name), order, accel).join("\n")
    }

    #[test]
    fn uefi_from_the_network() {
        insta::assert_snapshot!(line(0, Order::NetworkFirst, Accel::Tcg));
    }

    #[test]
    fn bios_from_the_disk() {
        insta::assert_snapshot!(line(2, Order::DiskFirst, Accel::Kvm));
    }

    #[test]
    fn what_the_bmc_says_becomes_an_order() {
        assert_eq!(Order::of(Some(BootTarget::Pxe)), Order::NetworkFirst);
        assert_eq!(Order::of(Some(BootTarget::Http)), Order::HttpFirst);
        for target in [None, Some(BootTarget::None), Some(BootTarget::Disk), Some(BootTarget::Setup)] {
            assert_eq!(Order::of(target), Order::DiskFirst, "{target:?}");
        }
    }

    #[test]
    fn the_accelerator_is_never_guessed() {
        assert_eq!(Accel::from_word(None), Some(Accel::Tcg));
        assert_eq!(Accel::from_word(Some("kvm")), Some(Accel::Kvm));
        assert_eq!(Accel::from_word(Some("hvf")), None);
    }
}
