//! What real firmware sent (captures) and what it is answered; and bytes that nobody should send.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests, outside of #[test] functions

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
};

use proptest::prelude::*;
use rackctl::{
    model::{
        Mac,
        boot::{BootChoice, BootMachine, BootNetwork, BootObject, BootSubnet, BootTable},
        fleet::{Arch, DhcpMode},
    },
    netboot::{
        dhcp::{Answer, Decision, Destination, Reply, decide, proxy},
        frame, ipxe,
        live::Live,
        ra,
    },
};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn installer() -> BootChoice {
    BootChoice::Installer {
        kernel_sha256: DIGEST.to_owned(),
        initrd_sha256: DIGEST.to_owned(),
        cmdline: vec!["console=ttyS0".to_owned(), "rackctl.server=10.77.0.1:8443".to_owned()],
        seed_json: "{}".to_owned(),
    }
}

fn machine(mac: Mac, arch: Arch, boot: BootChoice) -> BootMachine {
    let address = Ipv4Addr::new(10, 77, 0, 100 + mac.0[5] % 100);
    BootMachine { node: "n1".to_owned(), mac, uuid: None, arch, address, hostname: "n1".to_owned(), boot }
}

fn table(machines: Vec<BootMachine>) -> BootTable {
    let object = |name: &str, digit: char| BootObject {
        sha256: digit.to_string().repeat(64),
        path: PathBuf::from("/nonexistent"),
        size_bytes: 4,
        tftp_name: Some(name.to_owned()),
    };
    BootTable {
        version: 1,
        network: BootNetwork {
            name: "lab".to_owned(),
            interface: "eth0".to_owned(),
            server: SERVER,
            subnets: vec![BootSubnet {
                cidr: "10.77.0.0/24".parse().unwrap(),
                gateway: Some(SERVER),
                relays: vec![Ipv4Addr::new(10, 77, 0, 2)],
                dns: vec![SERVER],
            }],
            dhcp: DhcpMode::Authoritative,
            lease_s: 3600,
            probe_ms: rackctl::model::fleet::PROBE_MS,
            mtu: 1500,
            http_port: 8080,
            api: SocketAddrV4::new(SERVER, 8443),
            api_pin: "sha256:00".to_owned(),
        },
        machines,
        objects: vec![object("undionly.kpxe", 'a'), object("snponly.efi", 'b'), object("ipxe-arm64.efi", 'c')],
    }
}

fn live(machines: Vec<BootMachine>) -> Live {
    Live::without_files(table(machines))
}

/// Frames of a classic pcap file (little-endian, Ethernet).
fn frames(file: &[u8]) -> Vec<&[u8]> {
    assert_eq!(file[..4], [0xd4, 0xc3, 0xb2, 0xa1], "little-endian pcap");
    let mut rest = &file[24..];
    let mut found = Vec::new();
    while rest.len() >= 16 {
        let len = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        found.push(&rest[16..16 + len]);
        rest = &rest[16 + len..];
    }
    found
}

fn captures() -> Option<BTreeMap<String, Vec<u8>>> {
    let shared = std::env::var_os("RACKCTL_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let Ok(dir) = std::fs::read_dir(shared.join("data/pcap")) else {
        eprintln!("SKIPPED: no captures at {} (set RACKCTL_SHARED)", shared.display());
        return None;
    };
    let found: BTreeMap<_, _> = dir
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|e| e == "pcap"))
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).unwrap()))
        .collect();
    assert!(!found.is_empty());
    Some(found)
}

/// DHCP packets that the clients of a capture sent.
fn asked(file: &[u8]) -> Vec<Vec<u8>> {
    frames(file)
        .into_iter()
        .filter_map(frame::read_udp)
        .filter(|(_, _, to, _)| *to == 67)
        .map(|(.., payload)| payload.to_vec())
        .collect()
}

fn mac_of(packet: &[u8]) -> Mac {
    Mac(packet[28..34].try_into().unwrap())
}

/// Fixed field at `236` and options behind it.
fn option(message: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = &message[240..];
    loop {
        match rest {
            [255, ..] | [] => return None,
            [0, after @ ..] => rest = after,
            [code, len, after @ ..] => {
                let (value, after) = after.split_at(usize::from(*len));
                if *code == wanted {
                    return Some(value);
                }
                rest = after;
            }
            [_] => return None,
        }
    }
}

/// One line of what a reply says.
fn says(decision: &Decision) -> String {
    match decision {
        Decision::Ignore { reason, .. } => format!("ignored: {reason}"),
        Decision::Reply(Reply { answer, client, message, destination, .. }) => {
            let text =
                |code| option(message, code).map(|v| String::from_utf8_lossy(v).into_owned()).unwrap_or_default();
            let to = match destination {
                Destination::Raw { .. } => "frame",
                Destination::Broadcast => "broadcast",
                other => panic!("{other:?}"),
            };
            format!("{client} -> {answer:?} to {to} class={} file={}", text(60), text(67))
        }
    }
}

#[test]
fn every_client_of_the_captures_is_told_its_loader() {
    let Some(captures) = captures() else { return };
    let mut seen = String::new();
    for (name, file) in &captures {
        let packets = asked(file);
        assert!(!packets.is_empty(), "{name}");
        let arch = if name.starts_with("arm") { Arch::Arm64 } else { Arch::Amd64 };
        let mut macs: Vec<Mac> = packets.iter().map(|p| mac_of(p)).collect();
        macs.sort();
        macs.dedup();
        let mut lines: Vec<String> = Vec::new();
        for packet in packets {
            let machines = macs.iter().map(|mac| machine(*mac, arch, installer())).collect();
            let mut live = live(machines);
            // The captured client asks for the address that its own server gave.
            if let Some(address) = option(&packet, 50) {
                let mac = mac_of(&packet);
                let address = Ipv4Addr::from(<[u8; 4]>::try_from(address).unwrap());
                let mut table = live.table.clone();
                for machine in table.machines.iter_mut().filter(|m| m.mac == mac) {
                    machine.address = address;
                }
                live = Live::without_files(table);
            }
            let line = says(&decide(&live, &packet));
            if lines.last() != Some(&line) {
                lines.push(line);
            }
        }
        seen.push_str(&format!("{name}\n  {}\n", lines.join("\n  ")));
    }
    insta::assert_snapshot!("captures", seen);
}

// fault: F34 invariant: I9 harness: N
#[test]
fn withdrawn_machines_get_an_address_and_nothing_that_boots() {
    let Some(captures) = captures() else { return };
    for (name, file) in &captures {
        for packet in asked(file) {
            if packet[242] != 1 {
                continue;
            }
            let arch = if name.starts_with("arm") { Arch::Arm64 } else { Arch::Amd64 };
            let live = live(vec![machine(mac_of(&packet), arch, BootChoice::Withdrawn)]);
            let Decision::Reply(reply) = decide(&live, &packet) else { panic!("{name}") };
            assert_eq!(reply.message[16..20], reply.address.octets(), "{name}: address");
            if reply.client.starts_with("PXE") {
                // Told to fetch what is not there: the quickest way on to the disk.
                assert_eq!(option(&reply.message, 67), Some(&b"nothing-to-boot"[..]), "{name}");
                assert!(live.tftp_object("nothing-to-boot").is_none());
                continue;
            }
            assert_eq!(reply.message[20..24], [0; 4], "{name}: no next server");
            assert!(reply.message[108..236].iter().all(|b| *b == 0), "{name}: no file");
            for code in [43, 60, 66, 67] {
                assert_eq!(option(&reply.message, code), None, "{name}: option {code}");
            }
        }
    }
}

#[test]
fn the_captured_router_solicitation_is_answered() {
    let Some(captures) = captures() else { return };
    let solicitations: Vec<_> =
        frames(&captures["bios-rom-ra.pcap"]).into_iter().filter_map(ra::read).map(|s| s.mac.to_string()).collect();
    assert_eq!(solicitations, ["52:54:00:77:00:00"]);
}

const MAC: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 101);

/// A client's packet with these fields.
struct Ask {
    kind: u8,
    flags: u8,
    ciaddr: Ipv4Addr,
    giaddr: Ipv4Addr,
    options: Vec<(u8, Vec<u8>)>,
}

impl Ask {
    fn new(kind: u8) -> Ask {
        Ask { kind, flags: 0, ciaddr: Ipv4Addr::UNSPECIFIED, giaddr: Ipv4Addr::UNSPECIFIED, options: vec![] }
    }
    fn with(mut self, code: u8, value: &[u8]) -> Ask {
        self.options.push((code, value.to_vec()));
        self
    }
    fn bytes(&self) -> Vec<u8> {
        let mut packet = vec![0u8; 240];
        packet[..4].copy_from_slice(&[1, 1, 6, 0]);
        packet[4..8].copy_from_slice(&[9, 8, 7, 6]);
        packet[10] = self.flags;
        packet[12..16].copy_from_slice(&self.ciaddr.octets());
        packet[24..28].copy_from_slice(&self.giaddr.octets());
        packet[28..34].copy_from_slice(&MAC.0);
        packet[236..240].copy_from_slice(&[99, 130, 83, 99]);
        packet.extend_from_slice(&[53, 1, self.kind]);
        for (code, value) in &self.options {
            packet.extend_from_slice(&[*code, value.len() as u8]);
            packet.extend_from_slice(value);
        }
        packet.push(255);
        packet
    }
    fn decide(&self) -> Decision {
        decide(&live(vec![machine(MAC, Arch::Amd64, installer())]), &self.bytes())
    }
    fn reply(&self) -> Reply {
        match self.decide() {
            Decision::Reply(reply) => reply,
            other => panic!("{other:?}"),
        }
    }
    fn ignored(&self) -> String {
        match self.decide() {
            Decision::Ignore { reason, .. } => reason,
            Decision::Reply(reply) => panic!("{reply:?}"),
        }
    }
}

// fault: F24 harness: N
#[test]
fn replies_go_where_rfc_2131_says() {
    let relay = Ipv4Addr::new(10, 77, 0, 2);
    assert_eq!(Ask::new(1).reply().destination, Destination::Raw { mac: MAC, address: ADDRESS });
    assert_eq!(Ask { flags: 0x80, ..Ask::new(1) }.reply().destination, Destination::Broadcast);
    assert_eq!(Ask { giaddr: relay, flags: 0x80, ..Ask::new(1) }.reply().destination, Destination::Relay(relay));
    assert_eq!(Ask { ciaddr: ADDRESS, ..Ask::new(3) }.reply().destination, Destination::Client(ADDRESS));
    let nak = Ask::new(3).with(50, &[10, 77, 0, 9]).reply();
    assert_eq!((nak.answer, nak.destination), (Answer::Nak, Destination::NakBroadcast));
    let nak = Ask { giaddr: relay, ..Ask::new(3) }.with(50, &[10, 77, 0, 9]).reply();
    assert_eq!((nak.answer, nak.destination), (Answer::Nak, Destination::Relay(relay)));
    assert_eq!(nak.message[10], 0x80, "the relay is asked to broadcast it");
}

#[test]
fn states_of_rfc_2131_are_told_apart() {
    let own = ADDRESS.octets();
    assert_eq!(Ask::new(3).with(50, &own).with(54, &SERVER.octets()).reply().answer, Answer::Ack, "selecting");
    assert_eq!(Ask::new(3).with(50, &own).reply().answer, Answer::Ack, "init-reboot");
    assert_eq!(Ask { ciaddr: ADDRESS, ..Ask::new(3) }.reply().answer, Answer::Ack, "renewing");
    assert!(Ask::new(3).with(50, &own).with(54, &[10, 77, 0, 66]).ignored().contains("another DHCP server"));
    assert!(Ask::new(3).ignored().contains("without an address"));
    let informed = Ask { ciaddr: ADDRESS, ..Ask::new(8) }.reply();
    assert_eq!(informed.answer, Answer::Ack);
    assert_eq!(informed.message[16..20], [0; 4], "no address in the answer to INFORM");
    assert_eq!(option(&informed.message, 51), None, "no lease either");
    assert!(Ask::new(4).ignored().contains("declines"));
    assert!(Ask::new(7).ignored().contains("released"));
}

// fault: F11 F24 invariant: I5 harness: N
#[test]
fn unknown_relays_and_machines_get_nothing() {
    assert!(Ask { giaddr: Ipv4Addr::new(10, 9, 9, 9), ..Ask::new(1) }.ignored().contains("no relay"));
    let strange = decide(&live(vec![]), &Ask::new(1).bytes());
    assert!(matches!(strange, Decision::Ignore { mac: Some(MAC), .. }), "{strange:?}");
}

// fault: F24 harness: N
#[test]
fn relay_information_goes_back_to_the_relay_last() {
    let ask = Ask { giaddr: Ipv4Addr::new(10, 77, 0, 2), ..Ask::new(1) }.with(82, &[1, 2, 7, 8, 151, 1, 3]);
    let message = ask.reply().message;
    assert_eq!(option(&message, 82), Some(&[1u8, 2, 7, 8, 151, 1, 3][..]));
    let end = message.iter().rposition(|b| *b == 255).unwrap();
    assert_eq!(message[end - 9..end - 7], [82, 7]);
}

// fault: F23 invariant: I5 harness: N
#[test]
fn another_uuid_is_another_machine() {
    let uuid: uuid::Uuid = "00112233-4455-6677-8899-aabbccddeeff".parse().unwrap();
    let with = |bytes: [u8; 16]| {
        let mut known = machine(MAC, Arch::Amd64, installer());
        known.uuid = Some(uuid);
        decide(&live(vec![known]), &Ask::new(1).with(97, &[&[0u8][..], &bytes].concat()).bytes())
    };
    for same in [*uuid.as_bytes(), uuid.to_bytes_le(), [0; 16]] {
        assert!(matches!(with(same), Decision::Reply(_)), "{same:?}");
    }
    assert!(matches!(with([7; 16]), Decision::Ignore { reason, .. } if reason.contains("not the same machine")));
}

#[test]
fn ipxe_is_known_bare_and_with_its_length_in_front() {
    for user in [&b"iPXE"[..], b"\x04iPXE", b"\x03abc\x04iPXE"] {
        let reply = Ask::new(1).with(60, b"PXEClient:Arch:00007").with(93, &[0, 7]).with(77, user).reply();
        assert_eq!(option(&reply.message, 67), Some(&b"http://10.77.0.1:8080/boot/52-54-00-00-00-01.ipxe"[..]));
        assert_eq!(option(&reply.message, 175), Some(&[0xb0u8, 1, 1][..]), "no wait for a proxy");
    }
}

#[test]
fn a_name_that_is_no_text_hides_no_option_behind_it() {
    let reply = Ask::new(1).with(12, &[0xff, 0xfe]).with(94, &[1]).with(60, b"PXEClient").with(93, &[0, 0]).reply();
    assert_eq!(option(&reply.message, 67), Some(&b"undionly.kpxe"[..]));
    assert_eq!(option(&reply.message, 43), Some(&[6u8, 1, 8, 255][..]));
}

#[test]
fn firmware_of_another_architecture_is_not_this_machine() {
    assert!(Ask::new(1).with(60, b"PXEClient").with(93, &[0, 11]).ignored().contains("arm64"));
    assert!(Ask::new(1).with(60, b"PXEClient").with(93, &[0, 6]).ignored().contains("no loader"));
}

#[test]
fn a_proxy_gives_no_address_and_answers_at_4011() {
    let live = live(vec![machine(MAC, Arch::Amd64, installer())]);
    let from = SocketAddrV4::new(ADDRESS, 68);
    let pxe = |kind| Ask::new(kind).with(60, b"PXEClient").with(93, &[0, 7]).bytes();
    let Decision::Reply(offer) = proxy::decide(&live, &pxe(1), 67, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68)) else {
        panic!()
    };
    assert_eq!(offer.message[16..20], [0; 4]);
    assert_eq!((offer.answer, offer.destination), (Answer::Offer, Destination::Broadcast));
    let Decision::Reply(ack) = proxy::decide(&live, &pxe(3), 4011, from) else { panic!() };
    assert_eq!((ack.answer, ack.destination), (Answer::Ack, Destination::Back(from)));
    assert!(matches!(proxy::decide(&live, &pxe(3), 67, from), Decision::Ignore { quiet: true, .. }));
    assert!(matches!(proxy::decide(&live, &Ask::new(1).bytes(), 67, from), Decision::Ignore { .. }));
}

#[test]
fn the_installers_script() {
    let live = live(vec![machine(MAC, Arch::Amd64, installer())]);
    insta::assert_snapshot!("installer", ipxe::render(&live, live.machine(MAC).unwrap()).unwrap());
}

#[test]
fn every_script_ends_and_never_with_success() {
    for boot in [installer(), BootChoice::LocalDisk, BootChoice::Withdrawn] {
        let live = live(vec![machine(MAC, Arch::Amd64, boot)]);
        let script = ipxe::render(&live, live.machine(MAC).unwrap()).unwrap();
        assert!(script.ends_with("exit 1\n"), "{script}");
        let label = |line: &str, before: &str| line.find(before).map(|at| line[at + before.len()..].trim().to_owned());
        let lines: Vec<&str> = script.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            if let Some(to) = label(line, "goto ") {
                let target = lines.iter().position(|l| *l == format!(":{to}")).unwrap();
                assert!(target > number, "a jump back could loop: {line}");
            }
        }
    }
}

proptest! {
    // invariant: I19 harness: D
    #[test]
    fn any_bytes_are_decided_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let live = live(vec![machine(MAC, Arch::Amd64, installer())]);
        let _ = decide(&live, &bytes);
    }

    #[test]
    fn any_options_behind_a_good_header_are_decided_without_panic(
        tail in proptest::collection::vec(any::<u8>(), 0..400), hlen in any::<u8>(), kind in 0u8..10,
    ) {
        let mut packet = Ask::new(kind).bytes();
        packet.pop();
        packet.extend_from_slice(&tail);
        packet[2] = hlen;
        let live = live(vec![machine(MAC, Arch::Amd64, installer())]);
        let _ = decide(&live, &packet);
        packet[2] = 6;
        if let Decision::Reply(reply) = decide(&live, &packet) {
            prop_assert_eq!(reply.mac, MAC);
            prop_assert!(reply.message.len() >= 300);
            prop_assert!(reply.answer == Answer::Nak || reply.message[16..20] == ADDRESS.octets() || kind == 8);
        }
    }

    #[test]
    fn no_value_becomes_syntax_in_a_script(argument in ".{0,40}", node in ".{1,12}") {
        let mut machine = machine(MAC, Arch::Amd64, BootChoice::Installer {
            kernel_sha256: DIGEST.to_owned(),
            initrd_sha256: DIGEST.to_owned(),
            cmdline: vec![argument.clone()],
            seed_json: String::new(),
        });
        machine.node = node.clone();
        let live = live(vec![machine]);
        if let Ok(script) = ipxe::render(&live, live.machine(MAC).unwrap()) {
            for value in [&argument, &node] {
                prop_assert!(value.bytes().all(|b| b.is_ascii_graphic()) && !value.contains('$'));
            }
            let plain = ipxe::render(&self::live(vec![self::machine(MAC, Arch::Amd64, installer())]), &self::machine(MAC, Arch::Amd64, installer())).unwrap();
            prop_assert_eq!(script.lines().count(), plain.lines().count());
        }
    }
}
