//! GRUB for both firmwares, laid down by our own code: no `grub-install`, no device, no root.
//!
//! BIOS: `boot.img` (first 440 bytes of the disk) loads `core.img` from the `bios` partition by
//! absolute LBA. UEFI: one program at the removable-media path. Both read the same
//! `/grub/grub.cfg` of the ESP they were started from. Offsets: GRUB 2.06,
//! `include/grub/i386/pc/boot.h` and `grub-core/boot/i386/pc/diskboot.S`.

use std::path::Path;

use rackctl_wire::image::layout;

const SECTOR: usize = 512;
/// `boot.img`: where the LBA of `core.img` stands (8 bytes).
const KERNEL_SECTOR: usize = 0x5c;
/// `boot.img`: a jump over the check of the drive number; two NOPs make it distrust the BIOS as `grub-install` does for hard disks.
const DRIVE_CHECK: usize = 0x66;
const DRIVE_CHECK_JUMP: u8 = 0xeb;
const NOP: u8 = 0x90;
pub const BOOT_CODE_BYTES: usize = 440;
/// `core.img`: the only block list entry of its first sector: LBA (8), sectors (2), segment (2).
const BLOCK_LIST: usize = SECTOR - 12;
const KERNEL_SEGMENT: u16 = 0x820;

/// Where the `bios` partition begins, and how long it is.
pub const CORE_LBA: u64 = 2048;
pub const CORE_MAX_BYTES: u64 = 1 << 20;
/// Number of the ESP in the partition table, which `core.img` counts on.
pub const ESP_NUMBER: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Bios,
    Efi,
}

impl Target {
    pub fn format(self) -> &'static str {
        match self {
            Target::Bios => "i386-pc",
            Target::Efi => "x86_64-efi",
        }
    }

    fn modules(self) -> Vec<&'static str> {
        let mut modules =
            vec!["part_gpt", "fat", "normal", "linux", "loadenv", "probe", "test", "echo", "minicmd", "sleep"];
        if self == Target::Bios {
            modules.extend(["biosdisk", "serial"]);
        }
        modules
    }
}

/// Runs the unpacked `grub-mkimage` with the unpacked libraries, so that the host's versions do not matter.
pub fn mkimage_argv(target: Target, root: &Path, out: &Path) -> Vec<String> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let prefix = match target {
        // No disk name: the disk that the BIOS booted.
        Target::Bios => format!("(,gpt{ESP_NUMBER})/grub"),
        // No device: the one that the firmware loaded the program from.
        Target::Efi => "/grub".to_string(),
    };
    let mut argv = vec![
        text(&root.join("usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")),
        "--library-path".to_string(),
        text(&root.join("usr/lib/x86_64-linux-gnu")),
        text(&root.join("usr/bin/grub-mkimage")),
        "--directory".to_string(),
        text(&root.join("usr/lib/grub").join(target.format())),
        "--format".to_string(),
        target.format().to_string(),
        "--prefix".to_string(),
        prefix,
        "--output".to_string(),
        text(out),
    ];
    argv.extend(target.modules().into_iter().map(str::to_string));
    argv
}

/// The boot code of the disk, made to load from [`CORE_LBA`].
pub fn boot_code(boot_img: &[u8]) -> Result<Vec<u8>, String> {
    if boot_img.len() != SECTOR || boot_img[510..] != [0x55, 0xaa] {
        return Err("boot.img is no boot sector".into());
    }
    if boot_img[DRIVE_CHECK] != DRIVE_CHECK_JUMP {
        return Err(format!("boot.img has {:#x} where its drive check should stand", boot_img[DRIVE_CHECK]));
    }
    let mut code = boot_img[..BOOT_CODE_BYTES].to_vec();
    code[KERNEL_SECTOR..KERNEL_SECTOR + 8].copy_from_slice(&CORE_LBA.to_le_bytes());
    code[DRIVE_CHECK..DRIVE_CHECK + 2].copy_from_slice(&[NOP, NOP]);
    Ok(code)
}

/// `core.img`, made to load its own rest from behind its first sector.
pub fn core(core_img: &[u8]) -> Result<Vec<u8>, String> {
    if core_img.len() < 2 * SECTOR || core_img.len() as u64 > CORE_MAX_BYTES {
        return Err(format!("core.img has {} bytes", core_img.len()));
    }
    let mut core = core_img.to_vec();
    core.resize(core.len().next_multiple_of(SECTOR), 0);
    let rest = (core.len() / SECTOR - 1) as u16;
    let entry = &core[BLOCK_LIST..SECTOR];
    let segment = u16::from_le_bytes([entry[10], entry[11]]);
    if segment != KERNEL_SEGMENT || core[BLOCK_LIST - 12..BLOCK_LIST].iter().any(|b| *b != 0) {
        return Err(format!("core.img has an unknown block list (segment {segment:#x})"));
    }
    core[BLOCK_LIST..BLOCK_LIST + 8].copy_from_slice(&(CORE_LBA + 1).to_le_bytes());
    core[BLOCK_LIST + 8..BLOCK_LIST + 10].copy_from_slice(&rest.to_le_bytes());
    Ok(core)
}

/// What both boots of a machine put on the kernel's command line: the last console is `/dev/console`;
/// a panic restarts, so that a bad slot is counted.
pub const COMMON_ARGS: &str = "console=tty0 console=ttyS0,115200 panic=10 loglevel=5";

/// The configuration; see [`layout`] for the environment it keeps.
pub fn config() -> String {
    let (boot, slot, esp, trial) = (layout::BOOT, layout::SLOT, layout::ESP, layout::TRY);
    format!(
        r#"# Written by rackctl. The environment block beside this file says which slot boots:
# default_slot: the good one; try_slot with try_left in 1..3: one on trial.
if [ "$grub_platform" = pc ]; then
  if serial --unit=0 --speed=115200; then terminal_output console serial; fi
fi
set default_slot=a
set try_slot=
set try_left=0
load_env default_slot try_slot try_left
probe --set=esp --part-uuid $root
function start {{
  if linux /slot-$1/vmlinuz {boot}=system {slot}=$1 {esp}=$esp $2 {COMMON_ARGS}; then
    if initrd /slot-$1/initrd; then boot; fi
  fi
  echo "rackctl: slot $1 does not boot"
}}
set left=
if [ -n "$try_slot" ]; then
  if [ "$try_left" = 3 ]; then set left=2; fi
  if [ "$try_left" = 2 ]; then set left=1; fi
  if [ "$try_left" = 1 ]; then set left=0; fi
fi
if [ -n "$left" ]; then
  set try_left=$left
  # A trial that cannot be counted is not made.
  if save_env try_left; then start $try_slot {trial}=1; fi
fi
start $default_slot
if [ "$default_slot" = a ]; then start b; else start a; fi
echo "rackctl: no slot of this disk boots; back to the firmware"
sleep 5
exit
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_sector_points_at_core_and_keeps_off_the_partition_table() {
        let mut img = vec![0x11u8; 512];
        img[510..].copy_from_slice(&[0x55, 0xaa]);
        img[DRIVE_CHECK] = DRIVE_CHECK_JUMP;
        let code = boot_code(&img).unwrap();
        assert_eq!(code.len(), 440);
        assert_eq!(code[0x5c..0x64], 2048u64.to_le_bytes());
        assert_eq!(code[0x66..0x68], [0x90, 0x90]);
        img[DRIVE_CHECK] = 0;
        assert!(boot_code(&img).is_err());
        assert!(boot_code(&[0; 512]).is_err());
    }

    #[test]
    fn core_lists_its_own_sectors() {
        let mut img = vec![0u8; 512 * 3 + 7];
        img[510..512].copy_from_slice(&KERNEL_SEGMENT.to_le_bytes());
        let core = core(&img).unwrap();
        assert_eq!(core.len(), 512 * 4);
        assert_eq!(core[500..508], 2049u64.to_le_bytes());
        assert_eq!(core[508..510], 3u16.to_le_bytes());
        img[510] = 0;
        assert!(super::core(&img).is_err());
        assert!(super::core(&[0; 512]).is_err());
    }

    #[test]
    fn argv_names_no_tool_of_the_host() {
        let argv = mkimage_argv(Target::Bios, Path::new("/c/g"), Path::new("/c/o"));
        assert!(argv[0].starts_with("/c/g/") && argv[3] == "/c/g/usr/bin/grub-mkimage");
        assert!(argv.windows(2).any(|w| w == ["--prefix", "(,gpt2)/grub"]));
        assert!(argv.iter().any(|a| a == "biosdisk"));
        assert!(!mkimage_argv(Target::Efi, Path::new("/c"), Path::new("/o")).iter().any(|a| a == "biosdisk"));
    }
}
