//! One file in a `newc` cpio archive, as the Linux kernel unpacks it into its first file system
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

/// Archives are padded to a multiple of this, so that another archive may follow.
pub const BLOCK: usize = 512;

/// `/DIR/NAME` with mode 0600 in a directory of mode 0700, both root's. Names must be plain ASCII without `/`.
pub fn one_file(dir: &str, name: &str, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 3 * BLOCK);
    entry(&mut out, 1, dir, 0o040_700, &[]);
    entry(&mut out, 2, &format!("{dir}/{name}"), 0o100_600, content);
    entry(&mut out, 0, "TRAILER!!!", 0, &[]);
    pad(&mut out, BLOCK);
    out
}

fn entry(out: &mut Vec<u8>, inode: u32, name: &str, mode: u32, content: &[u8]) {
    let links = if mode & 0o040_000 != 0 { 2 } else { 1 };
    let fields = [inode, mode, 0, 0, links, 0, content.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    pad(out, 4);
    out.extend_from_slice(content);
    pad(out, 4);
}

fn pad(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_the_file_with_its_mode_and_ends_on_a_block() {
        let archive = one_file("rackctl", "seed.json", b"{\"a\":1}");
        assert_eq!(archive.len() % BLOCK, 0);
        let text = String::from_utf8_lossy(&archive).into_owned();
        assert!(text.starts_with("07070100000001000041c0"), "{text}");
        assert!(text.contains("0707010000000200008180"));
        assert!(text.contains("rackctl/seed.json\0"));
        assert!(text.contains("{\"a\":1}"));
        assert!(text.contains("TRAILER!!!"));
    }
}
