//! What a machine does before there is an operating system: network boot by DHCP, TFTP and iPXE's script.

use std::{net::Ipv4Addr, sync::Arc};

use rackctl_wire::SEED_PATH;

use super::{
    address_socket::Address,
    cpio,
    dhcp::{self, Ask, Client, Program, Told},
    host_key::random,
    http_client::{Broken, Http},
    machine::Machine,
    script::{self, STEPS_MAX, Script},
    tftp_client,
    timing::{DHCP_TRIES, ms},
};
use crate::model::fleet::BootMode;

/// A second answer is waited for where the first one says nothing of a file: a proxy may give it.
const PROXY_WAIT: std::time::Duration = std::time::Duration::from_millis(100);

/// A kernel that was loaded, as far as the machine needs it.
pub struct Kernel {
    pub line: String,
    /// The file [`SEED_PATH`] of its initramfs.
    pub seed: Option<Vec<u8>>,
}

pub enum Loaded {
    Kernel(Kernel),
    /// The script says: the local disk.
    Disk,
    /// The script ended without anything to boot.
    Nothing,
}

/// `Err` says why nothing came of it; the firmware then goes on to its next device.
pub async fn network_boot(machine: &Machine) -> Result<Loaded, String> {
    let (address, told) = lease(machine, Program::Firmware).await?;
    let file = told.file.ok_or("the DHCP answer names nothing to boot")?;
    let server = told.next_server.ok_or("the DHCP answer names no server")?;
    let loader = tftp_client::fetch(address.address, server, &file).await?;
    machine.say(&format!("loaded {file}, {} bytes; starting it", loader.len()));
    drop(address);
    let (address, told) = lease(machine, Program::Ipxe).await?;
    let Some(url) = told.file else { return Ok(Loaded::Nothing) };
    let http = Http::new(address.address)?;
    let (text, _) = http.get(&url).await.map_err(Broken::why)?;
    let platform = if machine.spec.firmware == BootMode::Bios { "pcbios" } else { "efi" };
    let text = String::from_utf8(text).map_err(|_| format!("{url}: no text"))?;
    let script = Script::parse(&text, &[("platform", platform)]).map_err(|why| format!("{url}: {why}"))?;
    Run { machine, http, kernel: None, initrds: Vec::new() }.script(&script).await
}

/// An address that stands, and what came with it.
async fn lease(machine: &Machine, program: Program) -> Result<(Address, Told), String> {
    let client = Client {
        mac: machine.spec.mac,
        uuid: machine.identity().uuid,
        mode: machine.spec.firmware,
        program,
        xid: u32::from_be_bytes(random()?),
    };
    let segment = &machine.site.segment;
    let mut seat = segment.seat(&client);
    let fault = |e: std::io::Error| format!("DHCP: {e}");
    for attempt in 0..DHCP_TRIES {
        let wait = ms(machine.site.timing.dhcp_ms << attempt);
        seat.ask(Ask::Discover).map_err(fault)?;
        let Some(mut offer) = seat.reply(dhcp::OFFER, wait).await else { continue };
        while (offer.address.is_none() || offer.file.is_none())
            && let Some(other) = seat.reply(dhcp::OFFER, PROXY_WAIT).await
        {
            offer = together(offer, other);
        }
        let (Some(address), Some(server)) = (offer.address, offer.server) else { continue };
        seat.ask(Ask::Request { address, server }).map_err(fault)?;
        let Some(ack) = seat.reply(dhcp::ACK, wait).await else { continue };
        let up = take(machine, address)?;
        machine.say(&format!("DHCP: {address} from {server}"));
        return Ok((up, together(ack, offer)));
    }
    Err("DHCP: no answer".into())
}

/// Address and server of one, the file of whichever names one.
fn together(first: Told, second: Told) -> Told {
    let (with_address, other) = if first.address.is_some() { (first, second) } else { (second, first) };
    let (file, next_server) = match with_address.file {
        Some(file) => (Some(file), with_address.next_server),
        None => (other.file, other.next_server.or(with_address.next_server)),
    };
    Told { file, next_server, ..with_address }
}

/// The machine has this address from now on, until what is given back is dropped.
pub fn take(machine: &Machine, address: Ipv4Addr) -> Result<Address, String> {
    let fault = |e: std::io::Error| format!("take the address {address}: {e}");
    let up = Arc::clone(&machine.site.interface).up(address).map_err(fault)?;
    machine.site.segment.announce(address).map_err(fault)?;
    Ok(up)
}

/// A script that is running.
struct Run<'a> {
    machine: &'a Machine,
    http: Http,
    kernel: Option<String>,
    initrds: Vec<Vec<u8>>,
}

enum Step {
    Next,
    Failed(String),
    Go(usize),
    End(Loaded),
}

impl Run<'_> {
    async fn script(mut self, script: &Script) -> Result<Loaded, String> {
        let mut at = 0;
        for _ in 0..STEPS_MAX {
            let Some(line) = script.lines.get(at) else { return Ok(Loaded::Nothing) };
            at += 1;
            let mut step = self.command(script, &line.words).await;
            if let (Step::Failed(why), Some(or)) = (&step, &line.or) {
                self.machine.say(why);
                step = self.command(script, or).await;
            }
            match step {
                Step::Next => {}
                Step::Go(to) => at = to,
                Step::End(loaded) => return Ok(loaded),
                Step::Failed(why) => return Err(why),
            }
        }
        Err(format!("the boot script did not end within {STEPS_MAX} commands"))
    }

    async fn command(&mut self, script: &Script, words: &[String]) -> Step {
        let Some((command, arguments)) = words.split_first() else { return Step::Next };
        match (command.as_str(), arguments) {
            ("echo", _) => self.machine.say(&arguments.join(" ")),
            ("imgfree", _) => {
                self.kernel = None;
                self.initrds.clear();
            }
            ("kernel" | "initrd", _) => return self.image(command == "kernel", arguments).await,
            ("sleep", [seconds, ..]) => {
                let seconds: u64 = seconds.parse().unwrap_or(1);
                tokio::time::sleep(ms(seconds.min(600) * self.machine.site.timing.script_second_ms)).await;
            }
            ("iseq", [a, b]) if a == b => {}
            ("iseq", _) => return Step::Failed("iseq: not equal".into()),
            ("goto", [label]) => {
                return script.label(label).map_or_else(|| Step::Failed(format!("no label {label}")), Step::Go);
            }
            ("exit", _) => return Step::End(Loaded::Nothing),
            ("sanboot", _) => return Step::End(Loaded::Disk),
            ("boot", _) => {
                let Some(line) = self.kernel.take() else { return Step::Failed("boot: no kernel".into()) };
                let seed = self.initrds.iter().rev().find_map(|archive| cpio::find(archive, SEED_PATH));
                return Step::End(Loaded::Kernel(Kernel { line, seed: seed.map(<[u8]>::to_vec) }));
            }
            _ => return Step::Failed(format!("{command}: command not found")),
        }
        Step::Next
    }

    async fn image(&mut self, is_kernel: bool, words: &[String]) -> Step {
        let Some((name, url, arguments)) = script::image(words) else {
            return Step::Failed(format!("{}: not understood", words.join(" ")));
        };
        match self.http.get(&url).await {
            Ok((bytes, total)) => {
                self.machine.say(&format!("{name}: {total} bytes"));
                if is_kernel {
                    self.kernel = Some(arguments.join(" "));
                } else {
                    self.initrds.push(bytes);
                }
                Step::Next
            }
            Err(broken) => Step::Failed(broken.why()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_gives_the_file_and_another_server_the_address() {
        let ip = |last| Some(Ipv4Addr::new(10, 0, 0, last));
        let address = Told { kind: 2, address: ip(9), server: ip(1), next_server: ip(1), file: None };
        let proxy = Told { kind: 2, address: None, server: ip(2), next_server: ip(2), file: Some("x".into()) };
        for told in [together(address.clone(), proxy.clone()), together(proxy, address)] {
            assert_eq!((told.address, told.server), (ip(9), ip(1)));
            assert_eq!((told.next_server, told.file.as_deref()), (ip(2), Some("x")));
        }
    }
}
