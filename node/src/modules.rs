//! Kernel modules, from a list in load order. Hardware that is not there is no error.

use crate::console::say;
use rackctl_wire::image::layout;
use std::ffi::CString;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::Path;

/// No module of a distribution's kernel is larger.
const MODULE_MAX_BYTES: u64 = 64 << 20;

pub fn paths(list: &str) -> Vec<&str> {
    list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// Loads all that can be loaded and says which could not be.
pub fn load_all() {
    let Ok(list) = std::fs::read_to_string(layout::MODULES) else {
        say(format!("{} is not there: going on with what is built into the kernel", layout::MODULES));
        return;
    };
    let mut loaded = 0;
    for path in paths(&list) {
        match load(&Path::new("/").join(path)) {
            Ok(()) => loaded += 1,
            Err(error) if matches!(error.raw_os_error(), Some(libc::EEXIST) | Some(libc::ENODEV)) => {}
            Err(error) => say(format!("module {path} is passed over: {error}")),
        }
    }
    say(format!("{loaded} kernel modules loaded"));
}

fn load(path: &Path) -> std::io::Result<()> {
    let file = std::fs::File::open(path)?;
    let none = CString::default();
    let code = if path.extension().is_some_and(|extension| extension == "xz") {
        let mut image = Vec::new();
        xz2::read::XzDecoder::new(file).take(MODULE_MAX_BYTES).read_to_end(&mut image)?;
        // SAFETY: the image and the empty parameter string live through the call, the length is the image's.
        unsafe { libc::syscall(libc::SYS_init_module, image.as_ptr(), image.len(), none.as_ptr()) }
    } else {
        // SAFETY: a descriptor that is open through the call, and an empty parameter string.
        unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), none.as_ptr(), 0) }
    };
    if code == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_list_keeps_its_order() {
        assert_eq!(super::paths("# first\n/lib/b.ko\n\n  lib/a.ko.xz \n"), ["/lib/b.ko", "lib/a.ko.xz"]);
    }
}
