//! Boots a written system disk in QEMU, under BIOS and under UEFI, up to the node program's first
//! words. Needs what `image_build` needs, `qemu-system-x86_64` and OVMF; skipped loudly without.
//! `RACKCTL_BOOT_MARK` (default `rackctl-node`) is what the serial console must say.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rackctl::image::{Artifacts, BuildSpec, archive, build};
use rackctl::model::fleet::{Arch, Image};
use rackctl_wire::gpt::layout;
use rackctl_wire::image::layout::grubenv;
use rackctl_wire::image::{Fill, Manifest};
use rackctl_wire::{InterfaceConfig, NodeConfig, NodeStatus};

const DISK_BYTES: u64 = 2 << 30;
const DISK_GUID: uuid::Uuid = uuid::Uuid::from_u128(0x1234_5678_1234_4234_8234_1234_5678_9abc);
const MAC: &str = "52:54:00:12:34:56";
const BOOT_DEADLINE: Duration = Duration::from_secs(180);

fn artifacts(dir: &Path) -> Option<Artifacts> {
    let node_program = PathBuf::from(std::env::var_os("RACKCTL_NODE_PROGRAM")?);
    let cache_dir = dir.join("cache");
    std::fs::create_dir_all(&cache_dir).unwrap();
    let image = Image::Distro { distro: "debian-12".into(), arch: Arch::Amd64, packages: Vec::new() };
    let objects_dir = dir.join("objects");
    let spec = BuildSpec {
        image: &image,
        arch: Arch::Amd64,
        cache_dir: &cache_dir,
        objects_dir: &objects_dir,
        node_program: &node_program,
    };
    Some(build(&spec, &mut |_| {}).unwrap())
}

/// Lays the bundle down as the installer does, with `mke2fs` of this host for `data`.
fn write_disk(artifacts: &Artifacts, path: &Path, data: &Path) {
    let bundle = std::fs::read(&artifacts.system.path).unwrap();
    let parts: BTreeMap<String, Vec<u8>> =
        archive::read_parts(&archive::decompress(&bundle).unwrap()).unwrap().into_iter().collect();
    let manifest: Manifest = serde_json::from_slice(&parts["manifest.json"]).unwrap();
    let table = layout(&manifest, DISK_BYTES, DISK_GUID).unwrap();
    let boot = manifest.boot_code.as_ref().map_or(&[][..], |part| &parts[&part.entry]);
    let encoded = table.encode(DISK_BYTES, boot).unwrap();
    let mut disk = std::fs::File::create(path).unwrap();
    disk.set_len(DISK_BYTES).unwrap();
    let mut put = |at: u64, bytes: &[u8]| {
        disk.seek(SeekFrom::Start(at)).unwrap();
        disk.write_all(bytes).unwrap();
    };
    put(0, &encoded.head);
    put(DISK_BYTES - encoded.tail.len() as u64, &encoded.tail);
    for spec in &manifest.partitions {
        let place = table.partition(&spec.name).unwrap();
        match &spec.fill {
            Fill::Part(part) => put(place.offset_bytes(), &parts[&part.entry]),
            Fill::Empty => {}
            Fill::Ext4 { label } => {
                let status = Command::new("mke2fs")
                    .args(["-q", "-F", "-t", "ext4", "-L", label, "-d"])
                    .arg(data)
                    .arg("-E")
                    .arg(format!("offset={},root_owner=0:0", place.offset_bytes()))
                    .arg(path)
                    .arg(format!("{}k", place.size_bytes() / 1024))
                    .status()
                    .unwrap();
                assert!(status.success());
            }
        }
    }
}

/// The environment block of a written disk, after it was set to `values` if there are any.
fn environment(disk: &Path, values: Option<&[(&str, &str)]>) -> BTreeMap<String, String> {
    let mut file = std::fs::File::options().read(true).write(true).open(disk).unwrap();
    let mut front = vec![0; 64 << 20];
    file.read_exact(&mut front).unwrap();
    // The header alone stands in GRUB's own program too.
    let mark = b"# GRUB Environment Block\ndefault_slot=";
    let at = front.windows(mark.len()).position(|window| window == mark).unwrap();
    if let Some(values) = values {
        let values = values.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let block = grubenv::render(&values).unwrap();
        file.seek(SeekFrom::Start(at as u64)).unwrap();
        file.write_all(&block).unwrap();
        return values;
    }
    grubenv::parse(&front[at..at + grubenv::BYTES]).unwrap()
}

struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Seconds until the console said `mark`, and all that it said.
fn boot(arguments: &[String], console: &Path, mark: &str) -> (f64, String) {
    let log = std::fs::File::create(console).unwrap();
    let begun = Instant::now();
    let child = Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg,thread=multi", "-cpu", "qemu64", "-m", "768", "-nodefaults", "-display", "none"])
        .args(["-no-reboot", "-serial", "stdio", "-device", "virtio-rng-pci"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log)
        .spawn()
        .unwrap();
    let mut machine = Machine(child);
    loop {
        let mut text = String::new();
        let mut bytes = Vec::new();
        std::fs::File::open(console).unwrap().read_to_end(&mut bytes).unwrap();
        text.push_str(&String::from_utf8_lossy(&bytes));
        if text.contains(mark) {
            return (begun.elapsed().as_secs_f64(), text);
        }
        let ended = machine.0.try_wait().unwrap();
        assert!(ended.is_none() && begun.elapsed() < BOOT_DEADLINE, "no {mark:?} on the console:\n{text}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_written_disk_boots_under_both_firmwares() {
    let temp = tempfile::tempdir().unwrap();
    let dir = std::env::var_os("RACKCTL_IMAGE_DIR").map_or(temp.path().to_path_buf(), PathBuf::from);
    let ovmf = Path::new("/usr/share/OVMF/OVMF_CODE_4M.fd");
    if !ovmf.exists() || Command::new("qemu-system-x86_64").arg("--version").output().is_err() {
        eprintln!("SKIPPED: no qemu-system-x86_64, or no OVMF");
        return;
    }
    let Some(artifacts) = artifacts(&dir) else {
        eprintln!("SKIPPED: RACKCTL_NODE_PROGRAM does not name the static node program");
        return;
    };
    let mark = std::env::var("RACKCTL_BOOT_MARK").unwrap_or_else(|_| "rackctl-node".to_string());
    let disk = temp.path().join("disk.raw");
    write_disk(&artifacts, &disk, &empty(temp.path()));
    if let Some(keep) = std::env::var_os("RACKCTL_KEEP_DISK") {
        std::fs::copy(&disk, keep).unwrap();
    }
    let drive = |read_only: &str| {
        vec![
            "-drive".to_string(),
            format!("if=none,id=d0,format=raw,file={}{read_only}", disk.display()),
            "-device".to_string(),
            "virtio-blk-pci,drive=d0,serial=RACKDISK1".to_string(),
        ]
    };
    let (seconds, text) = boot(&drive(""), &temp.path().join("bios.log"), &mark);
    eprintln!("BIOS: {seconds:.1} s\n{}", tail(&text));

    // A slot on trial that has no kernel: one try is taken, then the good slot boots.
    environment(&disk, Some(&[("default_slot", "a"), ("try_slot", "b"), ("try_left", "2")]));
    let (seconds, text) = boot(&drive(""), &temp.path().join("trial.log"), &mark);
    eprintln!("BIOS, failed trial: {seconds:.1} s");
    assert!(text.contains("slot b does not boot"), "{text}");
    assert_eq!(environment(&disk, None)["try_left"], "1");
    let vars = temp.path().join("vars.fd");
    std::fs::copy("/usr/share/OVMF/OVMF_VARS_4M.fd", &vars).unwrap();
    let mut arguments = drive("");
    for (file, read_only) in [(ovmf, ",readonly=on"), (vars.as_path(), "")] {
        arguments.extend(["-drive".to_string(), format!("if=pflash,format=raw,file={}{read_only}", file.display())]);
    }
    let (seconds, text) = boot(&arguments, &temp.path().join("uefi.log"), &mark);
    eprintln!("UEFI, failed trial: {seconds:.1} s\n{}", tail(&text));
    assert!(text.contains("slot b does not boot"), "{text}");
    assert_eq!(environment(&disk, None)["try_left"], "0");

    // No tries are left: the good slot without a word.
    let (seconds, text) = boot(&arguments, &temp.path().join("uefi2.log"), &mark);
    eprintln!("UEFI: {seconds:.1} s");
    assert!(!text.contains("slot b does not boot"), "{text}");
    assert_eq!(environment(&disk, None)["try_left"], "0");
}

fn empty(temp: &Path) -> PathBuf {
    let dir = temp.join("empty");
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

fn keygen(path: &Path) -> String {
    let status =
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"]).arg(path).status();
    assert!(status.unwrap().success());
    std::fs::read_to_string(path.with_extension("pub")).unwrap().trim().to_string()
}

/// What the installer leaves on `data`.
fn data_files(temp: &Path, operator: &str, system_sha256: &str) -> PathBuf {
    let dir = temp.join("data");
    std::fs::create_dir_all(dir.join("ssh")).unwrap();
    let config = NodeConfig {
        protocol: rackctl_wire::PROTOCOL,
        node: "n1".into(),
        fleet: "test".into(),
        run: "r1".into(),
        generation: 1,
        hostname: "n1".into(),
        interfaces: vec![InterfaceConfig {
            mac: MAC.into(),
            addresses: vec!["10.0.2.15/24".into()],
            gateway: Some("10.0.2.2".into()),
        }],
        authorized_keys: vec![operator.to_string()],
        dns: Vec::new(),
    };
    std::fs::write(dir.join("node.json"), serde_json::to_vec(&config).unwrap()).unwrap();
    let installed = serde_json::json!({
        "protocol": rackctl_wire::PROTOCOL, "ticket": "t1", "systemSha256": system_sha256, "diskGuid": DISK_GUID,
    });
    std::fs::write(dir.join("installed.json"), installed.to_string()).unwrap();
    keygen(&dir.join("ssh/ssh_host_ed25519_key"));
    std::fs::write(dir.join("ssh/authorized_keys"), format!("{operator}\n")).unwrap();
    dir
}

/// Seconds until the machine says its status over SSH, and what it says.
fn until_ssh(arguments: &[String], temp: &Path, port: u16) -> (f64, String) {
    let console = temp.join(format!("console-{port}.log"));
    let begun = Instant::now();
    let child = Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg,thread=multi", "-cpu", "qemu64", "-m", "768", "-nodefaults", "-display", "none"])
        .args(["-no-reboot", "-serial", "stdio", "-device", "virtio-rng-pci"])
        .args(["-netdev", &format!("user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22")])
        .args(["-device", &format!("virtio-net-pci,netdev=n0,mac={MAC},romfile=")])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&console).unwrap())
        .spawn()
        .unwrap();
    let mut machine = Machine(child);
    loop {
        let ssh = Command::new("ssh")
            .args([
                "-F",
                "/dev/null",
                "-o",
                "BatchMode=yes",
                "-o",
                "ConnectTimeout=5",
                "-o",
                "StrictHostKeyChecking=yes",
            ])
            .arg("-o")
            .arg(format!("UserKnownHostsFile={}", temp.join("known_hosts").display()))
            .arg("-i")
            .arg(temp.join("operator"))
            .args([
                "-p",
                &port.to_string(),
                "root@127.0.0.1",
                "etcd --version && etcdctl version && e2fsck -V && exec rackctl-node status",
            ])
            .output()
            .unwrap();
        if ssh.status.success() {
            return (begun.elapsed().as_secs_f64(), String::from_utf8(ssh.stdout).unwrap());
        }
        let ended = machine.0.try_wait().unwrap();
        let said = String::from_utf8_lossy(&std::fs::read(&console).unwrap()).into_owned();
        let why = String::from_utf8_lossy(&ssh.stderr).into_owned();
        assert!(ended.is_none() && begun.elapsed() < BOOT_DEADLINE, "no answer by SSH: {why}\n{said}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The system itself, with a real node program: BIOS and UEFI, up to its answer over SSH.
#[test]
fn an_installed_system_answers_by_ssh_under_both_firmwares() {
    let temp = tempfile::tempdir().unwrap();
    let dir = std::env::var_os("RACKCTL_IMAGE_DIR").map_or(temp.path().to_path_buf(), PathBuf::from);
    let ovmf = Path::new("/usr/share/OVMF/OVMF_CODE_4M.fd");
    if !ovmf.exists() || Command::new("qemu-system-x86_64").arg("--version").output().is_err() {
        eprintln!("SKIPPED: no qemu-system-x86_64, or no OVMF");
        return;
    }
    let Some(artifacts) = artifacts(&dir) else {
        eprintln!("SKIPPED: RACKCTL_NODE_PROGRAM does not name the static node program");
        return;
    };
    let operator = keygen(&temp.path().join("operator"));
    let data = data_files(temp.path(), &operator, &artifacts.system.sha256);
    let host_key = std::fs::read_to_string(data.join("ssh/ssh_host_ed25519_key.pub")).unwrap();
    let disk = temp.path().join("disk.raw");
    write_disk(&artifacts, &disk, &data);
    let mut arguments: Vec<String> = vec![
        "-drive".into(),
        format!("if=none,id=d0,format=raw,file={}", disk.display()),
        "-device".into(),
        "virtio-blk-pci,drive=d0,serial=RACKDISK1".into(),
    ];
    for firmware in ["BIOS", "UEFI"] {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        std::fs::write(temp.path().join("known_hosts"), format!("[127.0.0.1]:{port} {host_key}")).unwrap();
        if firmware == "UEFI" {
            let vars = temp.path().join("vars.fd");
            std::fs::copy("/usr/share/OVMF/OVMF_VARS_4M.fd", &vars).unwrap();
            for (file, read_only) in [(ovmf, ",readonly=on"), (vars.as_path(), "")] {
                arguments.extend(["-drive".into(), format!("if=pflash,format=raw,file={}{read_only}", file.display())]);
            }
        }
        let (seconds, said) = until_ssh(&arguments, temp.path(), port);
        eprintln!("{firmware}: SSH after {seconds:.1} s: {said}");
        let status: NodeStatus = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        assert_eq!((status.slot.as_str(), status.root_disk_guid), ("a", DISK_GUID));
        assert_eq!(status.root_disk_serial.as_deref(), Some("RACKDISK1"));
        assert_eq!(status.system_sha256, artifacts.system.sha256);
        assert_eq!(status.config.hostname, "n1");
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
