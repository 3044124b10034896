//! The script that iPXE fetches, rendered for one machine.
//!
//! Held to what iPXE of 2019 understands (Debian 12 ships `1.0.0+git-20190125`). On UEFI the kernel's own loader finds
//! the initrds by `initrd=NAME` arguments; on BIOS iPXE joins all files after the kernel and ignores the arguments. A
//! script ends after a bounded number of tries, always with an exit code that is not zero: firmware takes zero for a
//! system that ran and was left, and stops at its menu instead of going on to the disk.

use crate::{
    model::{
        Mac,
        boot::{BootChoice, BootMachine},
    },
    netboot::live::Live,
};

/// Tries before the machine is left to its disk; the waits between them.
const TRIES: u32 = 4;
const WAIT_S: [u32; 3] = [2, 5, 15];
const LONGEST_CMDLINE: usize = 1600;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{value}` cannot stand in a boot script: {why}")]
pub struct ScriptError {
    pub what: &'static str,
    pub value: String,
    pub why: &'static str,
}

/// With hyphens: iPXE escapes colons in paths (`%3A`).
pub fn mac_in_url(mac: Mac) -> String {
    mac.to_string().replace(':', "-")
}

pub fn render(live: &Live, machine: &BootMachine) -> Result<String, ScriptError> {
    let network = &live.table.network;
    let node = word("node name", &machine.node)?;
    let base = format!("http://{}:{}", network.server, network.http_port);
    let mut script = format!("#!ipxe\necho rackctl: this is {node} ({} {})\n", machine.mac, machine.address);
    match &machine.boot {
        BootChoice::Withdrawn => {
            script.push_str("echo rackctl: nothing to boot over the network, going on\nexit 1\n");
        }
        BootChoice::LocalDisk => {
            script.push_str(
                "echo rackctl: booting the local disk\n\
                 iseq ${platform} pcbios || exit 1\n\
                 sanboot --no-describe --drive 0x80 || exit 1\n",
            );
        }
        BootChoice::Installer { kernel_sha256, initrd_sha256, cmdline, .. } => {
            let kernel = digest("kernel digest", kernel_sha256)?;
            let initrd = digest("initrd digest", initrd_sha256)?;
            // The kernel joins the files as they are and wants each archive to begin at a multiple of four. The seed
            // is padded; an initrd that is not comes last.
            let padded = live.object(initrd).is_none_or(|object| object.about.size_bytes % 4 == 0);
            let order = if padded { ["initrd.img", "seed.cpio"] } else { ["seed.cpio", "initrd.img"] };
            let mut words = vec![format!("initrd={}", order[0]), format!("initrd={}", order[1])];
            for argument in cmdline {
                words.push(word("kernel argument", argument)?.to_owned());
            }
            let arguments = words.join(" ");
            if arguments.len() > LONGEST_CMDLINE {
                let value = format!("{}…", arguments.chars().take(40).collect::<String>());
                return Err(ScriptError { what: "kernel command line", value, why: "it is longer than 1600 bytes" });
            }
            let fetch = order.map(|name| match name {
                "seed.cpio" => format!("initrd --name seed.cpio {base}/seed/{}.cpio", mac_in_url(machine.mac)),
                _ => format!("initrd --name initrd.img {base}/o/{initrd}"),
            });
            installer(&mut script, node, &format!("kernel --name kernel {base}/o/{kernel} {arguments}"), &fetch);
        }
    }
    Ok(script)
}

/// Each try is written out: a script without counters cannot loop for ever.
fn installer(script: &mut String, node: &str, kernel: &str, initrds: &[String; 2]) {
    for attempt in 1..=TRIES {
        script.push_str(&format!(
            ":try{attempt}\n\
             imgfree\n\
             {kernel} || goto kernel{attempt}\n\
             {} || goto initrd{attempt}\n\
             {} || goto initrd{attempt}\n\
             echo rackctl: starting the installer on {node}\n\
             boot || goto boot{attempt}\n",
            initrds[0], initrds[1],
        ));
        for (part, says) in [
            ("kernel", "could not fetch the kernel"),
            ("initrd", "could not fetch the initrd or the seed (has the run withdrawn this machine?)"),
            ("boot", "the kernel could not be started"),
        ] {
            script.push_str(&format!(
                ":{part}{attempt}\necho rackctl: {node}: {says}: try {attempt} of {TRIES}\ngoto next{attempt}\n"
            ));
        }
        script.push_str(&format!(":next{attempt}\n"));
        match WAIT_S.get(attempt as usize - 1) {
            Some(seconds) => script.push_str(&format!("sleep {seconds}\n")),
            None => script.push_str(&format!(
                "echo rackctl: {node}: giving up on network boot, going on to the disk\n\
                 echo rackctl: on the operator's host: rackctl describe node {node}\n\
                 imgfree\nsleep 5\nexit 1\n"
            )),
        }
    }
}

/// A word that iPXE takes as it stands: printable ASCII, no white space, and nothing that it or its line splitter
/// would read as syntax.
fn word<'a>(what: &'static str, value: &'a str) -> Result<&'a str, ScriptError> {
    let why = if value.is_empty() {
        "it is empty"
    } else if value.len() > 512 {
        "it is longer than 512 bytes"
    } else if !value.bytes().all(|b| b.is_ascii_graphic()) {
        "only printable ASCII without white space is allowed"
    } else if value.contains(['$', '{', '}', '"', '\'', '`', '\\', '#', '|', '&', ';']) {
        "none of $ { } \" ' ` \\ # | & ; is allowed"
    } else {
        return Ok(value);
    };
    Err(ScriptError { what, value: value.escape_default().take(80).collect(), why })
}

fn digest<'a>(what: &'static str, value: &'a str) -> Result<&'a str, ScriptError> {
    if value.len() == 64 && value.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return Ok(value);
    }
    Err(ScriptError {
        what,
        value: value.escape_default().take(80).collect(),
        why: "it must be 64 lower-case hex digits",
    })
}
