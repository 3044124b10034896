//! The EFI system partition: a FAT32 image that holds only what was written to it.
//!
//! FAT keeps its tables and the first files at the front, so the image ends after the last byte in
//! use and the rest of the partition need not be written at all.

use std::io::{Cursor, Error, ErrorKind, Read, Result as IoResult, Seek, SeekFrom, Write};

use fatfs::{Date, DateTime, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider, format_volume};

use super::tree::{Kind, Tree};

/// 4 KiB clusters × 65,525 (the least that makes it FAT32) with room for two slots.
pub const SIZE_BYTES: u64 = 300 << 20;
const CLUSTER_BYTES: u32 = 4096;
/// Fixed, so that two builds are the same; machines are told apart by the partition's GUID.
const VOLUME_ID: u32 = 0x7261_636b;
const LABEL: [u8; 11] = *b"RACKCTL-ESP";

/// A disk of `size` bytes of which only the front is held.
struct Front {
    bytes: Vec<u8>,
    size: u64,
    at: u64,
}

impl Read for Front {
    fn read(&mut self, out: &mut [u8]) -> IoResult<usize> {
        let left = self.size.saturating_sub(self.at);
        let count = (out.len() as u64).min(left) as usize;
        let from = (self.at as usize).min(self.bytes.len());
        let held = count.min(self.bytes.len() - from);
        out[..held].copy_from_slice(&self.bytes[from..from + held]);
        out[held..count].fill(0);
        self.at += count as u64;
        Ok(count)
    }
}

impl Write for Front {
    fn write(&mut self, data: &[u8]) -> IoResult<usize> {
        let end = self.at + data.len() as u64;
        if end > self.size {
            return Err(Error::new(ErrorKind::WriteZero, "past the end of the partition"));
        }
        if end as usize > self.bytes.len() && data.iter().any(|b| *b != 0) {
            self.bytes.resize(end as usize, 0);
        }
        // Zeros past what is held change nothing; zeros inside it do.
        let from = (self.at as usize).min(self.bytes.len());
        let held = data.len().min(self.bytes.len() - from);
        self.bytes[from..from + held].copy_from_slice(&data[..held]);
        self.at = end;
        Ok(data.len())
    }
    fn flush(&mut self) -> IoResult<()> {
        Ok(())
    }
}

impl Seek for Front {
    fn seek(&mut self, to: SeekFrom) -> IoResult<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "seek before the start"))?;
        Ok(self.at)
    }
}

/// 1 January 2000: a date that every reader takes.
#[derive(Debug)]
struct Fixed;

impl TimeProvider for Fixed {
    fn get_current_date(&self) -> Date {
        Date { year: 2000, month: 1, day: 1 }
    }
    fn get_current_date_time(&self) -> DateTime {
        DateTime { date: self.get_current_date(), time: Time { hour: 0, min: 0, sec: 0, millis: 0 } }
    }
}

fn options() -> FsOptions {
    FsOptions::new().update_accessed_date(false).time_provider(&Fixed)
}

pub fn write(tree: &Tree) -> Result<Vec<u8>, String> {
    let fail = |e: Error| format!("FAT image: {e}");
    let mut disk = Front { bytes: Vec::new(), size: SIZE_BYTES, at: 0 };
    let format = FormatVolumeOptions::new()
        .fat_type(FatType::Fat32)
        .bytes_per_cluster(CLUSTER_BYTES)
        .volume_id(VOLUME_ID)
        .volume_label(LABEL);
    format_volume(&mut disk, format).map_err(fail)?;
    {
        let fs = FileSystem::new(&mut disk, options()).map_err(fail)?;
        for (path, entry) in tree.iter() {
            match &entry.kind {
                Kind::Dir => {
                    fs.root_dir().create_dir(path).map_err(fail)?;
                }
                Kind::File(bytes) => {
                    fs.root_dir().create_file(path).and_then(|mut file| file.write_all(bytes)).map_err(fail)?;
                }
                Kind::Link(_) => return Err(format!("FAT image: {path}: FAT has no links")),
            }
        }
        fs.unmount().map_err(fail)?;
    }
    let mut bytes = disk.bytes;
    bytes.resize(bytes.len().next_multiple_of(CLUSTER_BYTES as usize), 0);
    Ok(bytes)
}

pub fn read(bytes: &[u8]) -> Result<Tree, String> {
    let fail = |e: Error| format!("FAT image: {e}");
    let disk = Front { bytes: bytes.to_vec(), size: SIZE_BYTES, at: 0 };
    let fs = FileSystem::new(disk, options()).map_err(fail)?;
    if fs.volume_id() != VOLUME_ID || fs.fat_type() != FatType::Fat32 {
        return Err(format!("FAT image: volume {:08x} of type {:?}", fs.volume_id(), fs.fat_type()));
    }
    let mut tree = Tree::default();
    let mut todo = vec![String::new()];
    while let Some(path) = todo.pop() {
        let dir = if path.is_empty() { fs.root_dir() } else { fs.root_dir().open_dir(&path).map_err(fail)? };
        for entry in dir.iter() {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name();
            if name == "." || name == ".." {
                continue;
            }
            let path = if path.is_empty() { name } else { format!("{path}/{name}") };
            if entry.is_dir() {
                tree.dir(&path, 0o755);
                todo.push(path);
            } else {
                let mut data = Cursor::new(Vec::new());
                std::io::copy(&mut entry.to_file(), &mut data).map_err(fail)?;
                tree.file(&path, 0o644, data.into_inner());
            }
        }
    }
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_is_short_deterministic_and_readable() {
        let mut tree = Tree::default();
        tree.file("EFI/BOOT/BOOTX64.EFI", 0o644, vec![1; 200_000]);
        tree.file("grub/grub.cfg", 0o644, *b"set timeout=0\n");
        tree.file("slot-a/vmlinuz", 0o644, vec![9; 3_000_000]);
        let bytes = write(&tree).unwrap();
        assert_eq!(bytes, write(&tree).unwrap());
        assert!(bytes.len() < 5 << 20, "{}", bytes.len());
        assert_eq!(&bytes[510..512], &[0x55, 0xaa]);
        assert_eq!(read(&bytes).unwrap(), tree);
    }
}
