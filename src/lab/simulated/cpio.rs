//! A file out of an initramfs: `newc` archives, as the kernel unpacks them. Pure.

const HEADER: usize = 110;
const TRAILER: &str = "TRAILER!!!";

/// The content of `path` in an archive, or in one of several that follow each other; the last one wins.
pub fn find<'a>(archive: &'a [u8], path: &str) -> Option<&'a [u8]> {
    let wanted = path.trim_start_matches('/');
    let (mut rest, mut found) = (archive, None);
    loop {
        // Zeros between archives.
        let zeros = rest.iter().take_while(|b| **b == 0).count();
        rest = &rest[zeros..];
        let Some((name, content, after)) = entry(rest) else { return found };
        if name.trim_start_matches('/') == wanted {
            found = Some(content);
        }
        rest = after;
    }
}

fn entry(bytes: &[u8]) -> Option<(&str, &[u8], &[u8])> {
    let header = bytes.get(..HEADER).filter(|h| h.starts_with(b"070701"))?;
    let field = |index: usize| {
        let at = 6 + index * 8;
        usize::from_str_radix(std::str::from_utf8(header.get(at..at + 8)?).ok()?, 16).ok()
    };
    let (size, name_len) = (field(6)?, field(11)?);
    let name_end = HEADER.checked_add(name_len)?;
    let name = bytes.get(HEADER..name_end.checked_sub(1)?)?;
    let name = std::str::from_utf8(name).ok()?;
    let from = name_end.next_multiple_of(4);
    let to = from.checked_add(size)?;
    let content = bytes.get(from..to)?;
    let after = bytes.get(to.next_multiple_of(4)..).unwrap_or_default();
    let is_last = name == TRAILER;
    Some((if is_last { "" } else { name }, content, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netboot::cpio::one_file;
    use proptest::prelude::*;

    #[test]
    fn what_a_run_packs_is_found_behind_other_archives() {
        let mut both = one_file("etc", "motd", b"hello");
        both.extend(one_file("rackctl", "seed.json", b"{\"a\":1}"));
        assert_eq!(find(&both, rackctl_wire::SEED_PATH), Some(b"{\"a\":1}".as_slice()));
        assert_eq!(find(&both, "etc/motd"), Some(b"hello".as_slice()));
        assert_eq!(find(&both, "etc"), Some(b"".as_slice()));
        assert_eq!(find(&both, "nothing"), None);
        assert_eq!(find(b"a compressed one", "x"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(cut in 0usize..1024, at in 0usize..200, byte: u8) {
            let mut archive = one_file("rackctl", "seed.json", b"{}");
            if let Some(place) = archive.get_mut(at) {
                *place = byte;
            }
            archive.truncate(cut);
            let _ = find(&archive, rackctl_wire::SEED_PATH);
        }
    }
}
