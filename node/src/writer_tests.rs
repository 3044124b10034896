//! The writer against a file, with a real ext4 where mke2fs is installed.

use super::*;
use crate::marker::tests::ticket;
use rackctl_wire::image::PartitionSpec;
use std::cell::{Cell, RefCell};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const SIZE: u64 = 256 << 20;
const IDENTITY: Identity = Identity { host_key: "KEY", host_key_public: "ssh-ed25519 AAAA" };

struct FileVolume {
    dir: tempfile::TempDir,
    file: std::fs::File,
    ext4: Cell<Option<u64>>,
    /// Byte that the medium gives back changed.
    rotten: Cell<Option<u64>>,
    /// Writes up to the one that fails.
    writes_left: Cell<Option<u32>>,
    written: Cell<u64>,
}

impl FileVolume {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file =
            std::fs::OpenOptions::new().create_new(true).read(true).write(true).open(dir.path().join("disk")).unwrap();
        file.set_len(SIZE).unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        Self {
            dir,
            file,
            ext4: Cell::default(),
            rotten: Cell::default(),
            writes_left: Cell::default(),
            written: Cell::default(),
        }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn marked(&self) -> bool {
        self.data().join(marker::INSTALLED).exists()
    }
}

impl Volume for FileVolume {
    fn size(&self) -> u64 {
        SIZE
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Some(left) = self.writes_left.get() {
            self.writes_left.set(Some(left.checked_sub(1).ok_or_else(|| io::Error::other("injected"))?));
        }
        assert!(offset + bytes.len() as u64 <= SIZE, "write past the end");
        self.written.set(self.written.get() + bytes.len() as u64);
        self.file.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)?;
        if let Some(at) = self.rotten.get().and_then(|at| at.checked_sub(offset))
            && let Some(byte) = buffer.get_mut(at as usize)
        {
            *byte ^= 0x10;
        }
        Ok(())
    }

    fn reread_table(&self) -> Result<()> {
        Ok(())
    }

    fn make_ext4(&self, _number: usize, partition: &Partition, label: &str) -> Result<()> {
        let path = self.dir.path().join("disk").display().to_string();
        let extended = [format!("offset={}", partition.offset_bytes())];
        let mut arguments = crate::volume::mke2fs_arguments(label, partition.guid, &extended, &path);
        arguments.push(format!("{}k", partition.size_bytes() / 1024));
        match std::process::Command::new("/usr/sbin/mke2fs").args(&arguments).output() {
            Ok(output) => assert!(output.status.success(), "{output:?}"),
            Err(_) => eprintln!("SKIPPED: mke2fs is not installed"),
        }
        self.ext4.set(Some(partition.offset_bytes()));
        Ok(())
    }

    fn with_data(
        &self,
        number: usize,
        partition: &Partition,
        _read_only: bool,
        work: &mut dyn FnMut(&Path) -> Result<()>,
    ) -> Result<()> {
        assert_eq!((number, partition.name.as_str()), (5, "data"));
        work(&self.data())
    }
}

#[derive(Default)]
struct Seen(RefCell<Vec<Stage>>, Cell<u64>);

impl Watch for Seen {
    fn enter(&self, stage: Stage) {
        self.0.borrow_mut().push(stage);
    }

    fn bytes(&self, done: u64, total: u64) {
        assert!(done <= total);
        self.1.set(done);
    }
}

fn part(entry: &str, bytes: &[u8]) -> Part {
    Part { entry: entry.into(), size_bytes: bytes.len() as u64, sha256: hex(&Sha256::digest(bytes)) }
}

struct Bundle {
    manifest: Manifest,
    entries: Vec<(&'static str, Vec<u8>)>,
}

fn bundle() -> Bundle {
    let pattern = |seed: u8, length: usize| (0..length).map(|i| (i as u8).wrapping_mul(31) ^ seed).collect::<Vec<u8>>();
    let entries = vec![
        ("boot.img", vec![0xeb; 440]),
        ("core.img", pattern(1, 50_000)),
        ("esp.img", pattern(2, 3 << 20)),
        ("root.squashfs", pattern(3, (2 << 20) + 777)),
    ];
    let spec = |name: &str, kind, first_lba, size_bytes, fill| PartitionSpec {
        name: name.into(),
        kind,
        first_lba,
        size_bytes,
        fill,
    };
    let filled = |index: usize| Fill::Part(part(entries[index].0, &entries[index].1));
    let manifest = Manifest {
        protocol: PROTOCOL,
        name: "test".into(),
        arch: "amd64".into(),
        boot_code: Some(part("boot.img", &entries[0].1)),
        partitions: vec![
            spec("bios", gpt::TYPE_BIOS_BOOT, Some(2048), 1 << 20, filled(1)),
            spec("esp", gpt::TYPE_ESP, None, 16 << 20, filled(2)),
            spec("root-a", gpt::TYPE_LINUX, None, 32 << 20, filled(3)),
            spec("root-b", gpt::TYPE_LINUX, None, 32 << 20, Fill::Empty),
            spec("data", gpt::TYPE_LINUX, None, 0, Fill::Ext4 { label: "data".into() }),
        ],
    };
    Bundle { manifest, entries }
}

impl Bundle {
    fn tar(&self) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut add = |name: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, bytes).unwrap();
        };
        add(MANIFEST_NAME, &serde_json::to_vec(&self.manifest).unwrap());
        for (name, bytes) in &self.entries {
            add(name, bytes);
        }
        builder.into_inner().unwrap()
    }

    fn write(&self, volume: &FileVolume) -> Result<Vec<Stage>> {
        let seen = Seen::default();
        write(volume, self.tar().as_slice(), &ticket(), &IDENTITY, "x86_64", &seen)?;
        Ok(seen.0.into_inner())
    }
}

#[test]
fn a_whole_write() {
    let volume = FileVolume::new();
    // Marks of a former life: a ZFS label at the end, an old table with a partition that is wiped.
    volume.file.write_all_at(b"old!", SIZE - 300_000).unwrap();
    volume.file.write_all_at(b"XFSB", 150 << 20).unwrap();
    let old = Partition {
        kind: gpt::TYPE_LINUX,
        guid: uuid::Uuid::from_u128(9),
        first_lba: (150 << 20) / 512,
        last_lba: (160 << 20) / 512,
        name: "old".into(),
    };
    let old = Table { disk_guid: uuid::Uuid::from_u128(8), partitions: vec![old] }.encode(SIZE, &[]).unwrap();
    volume.file.write_all_at(&old.head, 0).unwrap();
    let bundle = bundle();
    assert_eq!(bundle.write(&volume).unwrap(), [Stage::Writing, Stage::ReadBack, Stage::BootSetup]);
    let table = old_table(&volume).unwrap();
    assert_eq!(table, gpt::layout(&bundle.manifest, SIZE, ticket().disk_guid).unwrap());
    for ((_, bytes), name) in bundle.entries[1..].iter().zip(["bios", "esp", "root-a"]) {
        let mut seen = vec![0; bytes.len()];
        volume.file.read_exact_at(&mut seen, table.partition(name).unwrap().offset_bytes()).unwrap();
        assert!(seen == *bytes, "{name}");
    }
    let mut boot = [0; 512];
    volume.file.read_exact_at(&mut boot, 0).unwrap();
    assert_eq!((&boot[..440], &boot[510..]), ([0xeb; 440].as_slice(), [0x55, 0xaa].as_slice()));
    let mut gone = [1; 4];
    for at in [SIZE - 300_000, 150 << 20] {
        volume.file.read_exact_at(&mut gone, at).unwrap();
        assert_eq!(gone, [0; 4], "{at}");
    }
    assert!(volume.marked() && volume.ext4.get().is_some());
    if Path::new("/usr/sbin/mke2fs").exists() {
        let mut magic = [0; 2];
        volume.file.read_exact_at(&mut magic, volume.ext4.get().unwrap() + 0x438).unwrap();
        assert_eq!(magic, [0x53, 0xef]);
    }
}

#[test]
fn what_was_written_is_known_again_and_only_for_its_ticket() {
    let volume = FileVolume::new();
    assert!(!already_written(&volume, &ticket(), &IDENTITY).unwrap());
    bundle().write(&volume).unwrap();
    let written = volume.written.get();
    let fresh = Identity { host_key: "NEW KEY", host_key_public: "ssh-ed25519 BBBB" };
    assert!(already_written(&volume, &ticket(), &fresh).unwrap());
    assert_eq!(volume.written.get(), written, "nothing was written to the disk itself");
    assert_eq!(std::fs::read_to_string(volume.data().join(marker::HOST_KEY)).unwrap(), "NEW KEY");
    let mut other = ticket();
    other.id = "t-2".into();
    assert!(!already_written(&volume, &other, &IDENTITY).unwrap());
    let mut other = ticket();
    other.disk_guid = uuid::Uuid::nil();
    assert!(!already_written(&volume, &other, &IDENTITY).unwrap());
}

// fault: F52 invariant: I11 harness: K
#[test]
fn a_write_that_breaks_off_anywhere_is_never_called_complete_and_can_be_repeated() {
    let mut broken = 0;
    for writes in 0..200 {
        let volume = FileVolume::new();
        volume.writes_left.set(Some(writes));
        if bundle().write(&volume).is_ok() {
            assert!(volume.marked());
            break;
        }
        broken += 1;
        assert!(!volume.marked(), "after {writes} writes");
        volume.writes_left.set(None);
        if writes % 5 == 0 {
            assert!(!already_written(&volume, &ticket(), &IDENTITY).unwrap());
            bundle().write(&volume).unwrap();
            assert!(already_written(&volume, &ticket(), &IDENTITY).unwrap());
        }
    }
    assert!((15..199).contains(&broken), "{broken}");
}

#[test]
fn a_rotten_medium_is_seen() {
    let bundle = bundle();
    let table = gpt::layout(&bundle.manifest, SIZE, ticket().disk_guid).unwrap();
    for at in [3, 600, SIZE - 500, table.partitions[2].offset_bytes() + (2 << 20) + 770] {
        let volume = FileVolume::new();
        volume.rotten.set(Some(at));
        assert_eq!(bundle.write(&volume).unwrap_err().kind, "digestMismatch", "byte {at}");
        assert!(!volume.marked());
    }
}

#[test]
fn bundles_that_lie() {
    let refuse = |change: &dyn Fn(&mut Bundle), kind: &str, untouched: bool| {
        let mut bundle = bundle();
        change(&mut bundle);
        let volume = FileVolume::new();
        let error = bundle.write(&volume).unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert_eq!(volume.written.get() == 0, untouched, "{error}");
        assert!(!volume.marked());
    };
    refuse(&|b| b.manifest.protocol = 9, "protocol", true);
    refuse(&|b| b.manifest.arch = "arm64".into(), "unsupported", true);
    refuse(&|b| b.manifest.partitions[2].size_bytes = 1 << 20, "space", true);
    refuse(&|b| b.manifest.partitions[2].size_bytes = SIZE, "space", true);
    refuse(&|b| b.manifest.partitions[4].name = "other".into(), "unsupported", true);
    refuse(&|b| b.entries[3].1[5] ^= 1, "digestMismatch", false);
    refuse(&|b| b.entries.truncate(3), "unsupported", false);
    refuse(&|b| b.entries[2].0 = "other", "unsupported", false);
    let error =
        write(&FileVolume::new(), b"".as_slice(), &ticket(), &IDENTITY, "x86_64", &Seen::default()).unwrap_err();
    assert_eq!(error.kind, "unsupported");
}
