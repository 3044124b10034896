//! A disk that may be written: the kernel's block device, or a file in tests.

use crate::children;
use crate::mounts;
use crate::node_error::{Doing, NodeError, Result};
use crate::sshd::in_root;
use rackctl_wire::gpt::Partition;
use rackctl_wire::image::layout;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

nix::ioctl_none!(blkrrpart, 0x12, 95);
nix::ioctl_none!(blkflsbuf, 0x12, 97);

/// Alignment that O_DIRECT asks for at most.
const DIRECT_ALIGN: usize = 4096;
const NODE_WAIT: Duration = Duration::from_secs(10);

pub trait Volume {
    fn size(&self) -> u64;
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    fn sync(&self) -> io::Result<()>;
    /// From here on, reads come from the medium and not from memory.
    fn drop_cache(&self) -> io::Result<()>;
    /// Fills the buffer from the medium; `offset` is a multiple of 512.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Has the kernel look at the new partition table.
    fn reread_table(&self) -> Result<()>;
    /// `number` counts from 1.
    fn make_ext4(&self, number: usize, partition: &Partition, label: &str) -> Result<()>;
    fn with_data(
        &self,
        number: usize,
        partition: &Partition,
        read_only: bool,
        work: &mut dyn FnMut(&Path) -> Result<()>,
    ) -> Result<()>;
}

/// Options after the program's name. The UUID follows from the partition's, so that a repeated write is the same.
pub fn mke2fs_arguments(label: &str, uuid: uuid::Uuid, extended: &[String], target: &str) -> Vec<String> {
    let mut options = vec!["nodiscard".to_owned(), "lazy_itable_init=1".to_owned()];
    options.extend_from_slice(extended);
    let text =
        ["-q", "-F", "-t", "ext4", "-m", "1", "-L", label, "-U", &uuid.to_string(), "-E", &options.join(","), target]
            .map(String::from);
    text.to_vec()
}

pub struct BlockDevice {
    path: PathBuf,
    file: File,
    size: u64,
    /// Root with `mke2fs`.
    tools: PathBuf,
}

impl BlockDevice {
    /// `name` as in sysfs. A disk that is in use is refused.
    pub fn open(name: &str, size: u64, tools: &Path) -> Result<Self> {
        let sector = crate::files::line(Path::new("/sys/block").join(name).join("queue/logical_block_size"));
        if sector.as_deref().is_some_and(|sector| sector != "512") {
            let message = format!("{name} has sectors of {} bytes, only 512 are supported", sector.unwrap_or_default());
            return Err(NodeError::new("unsupported", message));
        }
        let path = Path::new("/dev").join(name);
        let opening = || format!("opening {}", path.display());
        // Exclusively first: fails while the disk or a part of it is mounted or in an array. Not kept,
        // because it would keep mke2fs and mount from the partitions.
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        drop(options.clone().custom_flags(libc::O_EXCL).open(&path).doing(opening())?);
        let file = options.open(&path).doing(opening())?;
        Ok(Self { path, file, size, tools: tools.to_owned() })
    }

    fn node(&self, number: usize) -> Result<PathBuf> {
        let path = partition_node(&self.path, number);
        let began = Instant::now();
        while !path.exists() {
            if began.elapsed() > NODE_WAIT {
                return Err(NodeError::new("io", format!("{} does not appear", path.display())));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(path)
    }
}

/// `/dev/vda` → `/dev/vda1`, `/dev/nvme0n1` → `/dev/nvme0n1p1`.
pub fn partition_node(disk: &Path, number: usize) -> PathBuf {
    let text = disk.display().to_string();
    let p = if text.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
    PathBuf::from(format!("{text}{p}{number}"))
}

/// Reads past the page cache, or (where the file system cannot) through it.
pub fn read_direct(path: &Path, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let direct = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path);
    let Ok(file) = direct else {
        return File::open(path)?.read_exact_at(buffer, offset);
    };
    let length = buffer.len().div_ceil(512) * 512;
    let mut space = vec![0u8; length + DIRECT_ALIGN];
    let start = space.as_ptr().align_offset(DIRECT_ALIGN);
    let aligned = space.get_mut(start..start + length).ok_or(io::ErrorKind::OutOfMemory)?;
    match file.read_exact_at(aligned, offset) {
        Ok(()) => {
            buffer.copy_from_slice(&aligned[..buffer.len()]);
            Ok(())
        }
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => File::open(path)?.read_exact_at(buffer, offset),
        Err(error) => Err(error),
    }
}

impl Volume for BlockDevice {
    fn size(&self) -> u64 {
        self.size
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn drop_cache(&self) -> io::Result<()> {
        // SAFETY: an ioctl without argument on an open descriptor.
        unsafe { blkflsbuf(self.file.as_raw_fd()) }?;
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        read_direct(&self.path, buffer, offset)
    }

    fn reread_table(&self) -> Result<()> {
        // Someone who has just looked at the disk (the kernel itself) makes it busy for a moment.
        let began = Instant::now();
        loop {
            // SAFETY: an ioctl without argument on an open descriptor.
            match unsafe { blkrrpart(self.file.as_raw_fd()) } {
                Ok(_) => return Ok(()),
                Err(nix::errno::Errno::EBUSY) if began.elapsed() < NODE_WAIT => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                Err(error) => return Err(NodeError::io("reading the new partition table", error)),
            }
        }
    }

    fn make_ext4(&self, number: usize, partition: &Partition, label: &str) -> Result<()> {
        let node = self.node(number)?;
        let mut command = Command::new(layout::MKE2FS);
        command.args(mke2fs_arguments(label, partition.guid, &[], &node.display().to_string()));
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        in_root(&mut command, Some(&self.tools));
        let (status, text) = children::output(&mut command).doing("running mke2fs")?;
        if !status.success() {
            return Err(NodeError::new("io", format!("mke2fs on {}: {status}: {text}", node.display())));
        }
        Ok(())
    }

    fn with_data(
        &self,
        number: usize,
        _partition: &Partition,
        read_only: bool,
        work: &mut dyn FnMut(&Path) -> Result<()>,
    ) -> Result<()> {
        let at = Path::new("/mnt/data");
        mounts::device(&self.node(number)?, "ext4", at, read_only)?;
        let result = work(at);
        let synced = if read_only {
            Ok(())
        } else {
            File::open(at)
                .and_then(|dir| nix::unistd::syncfs(&dir).map_err(io::Error::from))
                .doing("syncing the data partition")
        };
        let unmounted = mounts::unmount(at);
        result.and(synced).and(unmounted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_partitions() {
        assert_eq!(partition_node(Path::new("/dev/vda"), 5), Path::new("/dev/vda5"));
        assert_eq!(partition_node(Path::new("/dev/nvme0n1"), 2), Path::new("/dev/nvme0n1p2"));
    }

    #[test]
    fn direct_reads_of_any_length() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let bytes: Vec<u8> = (0..10_000u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, [bytes.as_slice(), &[0; 240]].concat()).unwrap();
        for length in [1usize, 511, 512, 4096, 9_000] {
            let mut buffer = vec![0; length];
            read_direct(&path, &mut buffer, 512).unwrap();
            assert_eq!(buffer, bytes[512..512 + length]);
        }
    }
}
