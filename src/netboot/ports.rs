//! Who holds a port: for the message when ours cannot be opened.

use std::{fs, path::Path};

/// `udp` or `tcp`; the name and id of a process that holds the port, if `/proc` shows it to us.
pub fn holder(protocol: &str, port: u16) -> Option<String> {
    let table = fs::read_to_string(format!("/proc/self/net/{protocol}")).ok()?;
    let inode = inodes(&table, port, protocol == "tcp").into_iter().next()?;
    let wanted = format!("socket:[{inode}]");
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let path = process.path();
        let Some(id) = path.file_name().and_then(|n| n.to_str()).filter(|n| n.bytes().all(|b| b.is_ascii_digit()))
        else {
            continue;
        };
        if holds(&path, &wanted) {
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
            let name: String = name.trim().chars().filter(|c| c.is_ascii_graphic()).collect();
            return Some(format!("{name} (process {id})"));
        }
    }
    None
}

fn holds(process: &Path, wanted: &str) -> bool {
    fs::read_dir(process.join("fd"))
        .map(|fds| fds.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == wanted)))
        .unwrap_or(false)
}

/// Inodes of the sockets bound to this port, from `/proc/net/udp` or `tcp` (listening ones only).
fn inodes(table: &str, port: u16, listening: bool) -> Vec<u64> {
    let wanted = format!("{port:04X}");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (local, state) = (fields.get(1)?, fields.get(3)?);
            let here = local.rsplit_once(':')?.1 == wanted && (!listening || *state == "0A");
            here.then(|| fields.get(9)?.parse().ok()).flatten()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_ourselves() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let found = holder("udp", port).unwrap();
        assert!(found.ends_with(&format!("(process {})", std::process::id())), "{found}");
    }

    #[test]
    fn reads_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 00000000:0043 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0 0\n";
        assert_eq!(inodes(table, 67, false), [4711]);
        assert_eq!(inodes(table, 68, false), [0u64; 0]);
    }
}
