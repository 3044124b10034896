//! What stands in the roots: first stage, second stage, installed system. Packages in, trees out.

use rackctl_wire::image::layout;

use super::elf;
use super::modules::Chosen;
use super::tree::{Kind, Tree};

/// Applets that get a name of their own.
const APPLETS: &[&str] = &[
    "ash",
    "awk",
    "base64",
    "basename",
    "cat",
    "chmod",
    "chown",
    "clear",
    "cmp",
    "cp",
    "cut",
    "date",
    "dd",
    "df",
    "diff",
    "dirname",
    "dmesg",
    "du",
    "echo",
    "env",
    "expr",
    "false",
    "find",
    "free",
    "grep",
    "gunzip",
    "gzip",
    "head",
    "hexdump",
    "hostname",
    "id",
    "ifconfig",
    "ip",
    "kill",
    "less",
    "ln",
    "logger",
    "ls",
    "lsmod",
    "mkdir",
    "mknod",
    "mktemp",
    "more",
    "mount",
    "mv",
    "nc",
    "netstat",
    "nslookup",
    "pgrep",
    "pidof",
    "ping",
    "printf",
    "ps",
    "pwd",
    "readlink",
    "realpath",
    "reset",
    "rm",
    "rmdir",
    "route",
    "sed",
    "seq",
    "sh",
    "sha256sum",
    "sleep",
    "sort",
    "stat",
    "stty",
    "sync",
    "sysctl",
    "tail",
    "tar",
    "tee",
    "test",
    "time",
    "timeout",
    "top",
    "touch",
    "tr",
    "true",
    "umount",
    "uname",
    "uniq",
    "uptime",
    "vi",
    "wc",
    "wget",
    "which",
    "xargs",
    "xxd",
    "yes",
    "zcat",
];

/// Files taken from packages, by path; libraries follow from them.
const SECOND_STAGE: &[&str] = &[
    "usr/bin/busybox",
    "usr/sbin/sshd",
    "usr/lib/openssh/sftp-server",
    "usr/sbin/mke2fs",
    "usr/sbin/e2fsck",
    "etc/mke2fs.conf",
];
const SYSTEM_MORE: &[&str] =
    &["usr/bin/etcd", "usr/bin/etcdctl", "usr/sbin/resize2fs", "usr/sbin/dumpe2fs", "usr/sbin/tune2fs"];

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
    sshd:x:100:65534:sshd:/run/sshd:/usr/sbin/nologin\n\
    etcd:x:101:101:etcd:/data/etcd:/usr/sbin/nologin\n\
    nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\netcd:x:101:\nnogroup:x:65534:\n";
/// No password is right for anybody.
const SHADOW: &str = "root:*:19000::::::\nsshd:*:19000::::::\netcd:*:19000::::::\nnobody:*:19000::::::\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\n";
const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n";

fn sshd_config() -> String {
    format!(
        "# Written by rackctl: root, by key, and nothing else.\n\
        HostKey {}\nAuthorizedKeysFile {}\nPidFile /run/sshd.pid\n\
        PermitRootLogin prohibit-password\nAuthenticationMethods publickey\nPubkeyAuthentication yes\n\
        PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\n\
        X11Forwarding no\nAllowAgentForwarding no\nAllowTcpForwarding local\nPermitTunnel no\nPermitUserEnvironment no\n\
        UseDNS no\nPrintMotd no\nPrintLastLog no\nLoginGraceTime 30\nMaxStartups 20:30:60\n\
        ClientAliveInterval 15\nClientAliveCountMax 4\n\
        Subsystem sftp /usr/lib/openssh/sftp-server\n",
        layout::HOST_KEY,
        layout::AUTHORIZED_KEYS
    )
}

/// Relative form of an absolute path of [`layout`].
fn inside(path: &str) -> &str {
    path.trim_start_matches('/')
}

/// Libraries are found by name in these directories, as the dynamic linker does without a cache.
fn library_paths(library_dir: &str, name: &str) -> [String; 3] {
    [format!("usr/lib/{library_dir}/{name}"), format!("usr/lib/{name}"), format!("usr/lib64/{name}")]
}

/// Adds the libraries that the programs in `root` need, from `pool`; the first that is nowhere is the error.
pub fn close_libraries(root: &mut Tree, pool: &Tree, library_dir: &str) -> Result<(), String> {
    let mut todo: Vec<String> = root.iter().map(|(path, _)| path.to_string()).collect();
    while let Some(path) = todo.pop() {
        let Some(bytes) = root.bytes(&path).filter(|bytes| elf::is_elf(bytes)) else { continue };
        let elf = elf::read(&bytes).map_err(|why| format!("/{path}: {why}"))?;
        for name in &elf.needed {
            if library_paths(library_dir, name).iter().any(|p| root.resolve(p).is_some()) {
                continue;
            }
            let found = library_paths(library_dir, name).iter().find_map(|p| pool.bytes(p));
            let found = found.ok_or_else(|| format!("/{path} needs {name}, which no package of the list has"))?;
            let place = format!("usr/lib/{library_dir}/{name}");
            root.put(&place, 0o755, Kind::File(found));
            todo.push(place);
        }
        if let Some(interpreter) = &elf.interpreter {
            let linker = inside(interpreter);
            let name = linker.rsplit('/').next().unwrap_or(linker);
            let place = format!("usr/lib/{library_dir}/{name}");
            if root.get(&place).is_none() {
                let found = library_paths(library_dir, name).iter().find_map(|p| pool.bytes(p));
                let found =
                    found.ok_or_else(|| format!("/{path} needs {interpreter}, which no package of the list has"))?;
                root.put(&place, 0o755, Kind::File(found));
                todo.push(place.clone());
            }
            let link = super::tree::clean_path(linker)?;
            if link != place && root.get(&link).is_none() {
                root.link(&link, &format!("/{place}"));
            }
        }
    }
    Ok(())
}

/// Whether every program of a finished root finds its interpreter and its libraries, and no link is broken.
pub fn check(root: &Tree, library_dir: &str) -> Result<(), String> {
    for (path, entry) in root.iter() {
        match &entry.kind {
            Kind::Dir => {}
            Kind::Link(target) => {
                // What lives in `/run`, `/data` and `/tmp` comes with the boot.
                let later = ["/run/", "/data/", "/tmp", "/proc/"].iter().any(|at| target.starts_with(at));
                if !later && root.resolve(path).is_none() {
                    return Err(format!("/{path} links to {target}, which is not there"));
                }
            }
            Kind::File(bytes) if elf::is_elf(bytes) && !path.ends_with(".ko") => {
                let elf = elf::read(bytes).map_err(|why| format!("/{path}: {why}"))?;
                for name in &elf.needed {
                    if !library_paths(library_dir, name).iter().any(|p| root.bytes(p).is_some()) {
                        return Err(format!("/{path} needs {name}, which is not in the root"));
                    }
                }
                if let Some(linker) = &elf.interpreter
                    && root.bytes(inside(linker)).is_none()
                {
                    return Err(format!("/{path} needs {linker}, which is not in the root"));
                }
            }
            Kind::File(_) => {}
        }
    }
    Ok(())
}

fn take(root: &mut Tree, pool: &Tree, paths: &[&str]) -> Result<(), String> {
    for path in paths {
        let mode = pool.resolve(path).map_or(0o644, |(_, entry)| entry.mode);
        let bytes = pool.bytes(path).ok_or_else(|| format!("no package of the list has /{path}"))?;
        root.put(path, mode, Kind::File(bytes));
    }
    Ok(())
}

/// Node program and kernel modules: what runs first, on installers and on installed systems.
pub fn first_stage(node_program: &[u8], kernel: &Tree, chosen: &Chosen) -> Result<Tree, String> {
    let mut root = Tree::default();
    root.file("init", 0o755, node_program);
    root.link(inside(layout::NODE_PROGRAM), "/init");
    for dir in ["dev", "proc", "sys", "run", "sysroot", "root"] {
        root.dir(dir, 0o755);
    }
    root.dir("tmp", 0o1777);
    let mut list = String::new();
    for path in &chosen.paths {
        let bytes = kernel.bytes(path).ok_or_else(|| format!("/{path} is no file"))?;
        root.put(path, 0o644, Kind::File(bytes));
        list.push_str(&format!("/{path}\n"));
    }
    root.file(inside(layout::MODULES), 0o644, list);
    Ok(root)
}

fn userland(pool: &Tree, library_dir: &str, paths: &[&str]) -> Result<Tree, String> {
    let mut root = Tree::default();
    root.merged_usr_links();
    take(&mut root, pool, paths)?;
    for applet in APPLETS {
        root.link(&format!("usr/bin/{applet}"), "busybox");
    }
    root.file("etc/passwd", 0o644, PASSWD);
    root.file("etc/group", 0o644, GROUP);
    root.file("etc/shadow", 0o600, SHADOW);
    root.file("etc/nsswitch.conf", 0o644, NSSWITCH);
    root.file("etc/hosts", 0o644, HOSTS);
    root.file("etc/shells", 0o644, "/bin/sh\n");
    root.file("etc/profile", 0o644, "export PATH=/usr/sbin:/usr/bin:/sbin:/bin\nexport ETCDCTL_API=3\n");
    root.file(inside(layout::SSHD_CONFIG), 0o644, sshd_config());
    root.link("etc/resolv.conf", "/run/resolv.conf");
    root.link("etc/mtab", "/proc/self/mounts");
    root.dir("root", 0o700);
    close_libraries(&mut root, pool, library_dir)?;
    Ok(root)
}

/// What the installer fetches: to be unpacked over the first stage.
pub fn second_stage(pool: &Tree, library_dir: &str, os_release: &str) -> Result<Tree, String> {
    let mut root = userland(pool, library_dir, SECOND_STAGE)?;
    root.file("etc/os-release", 0o644, os_release);
    check(&root, library_dir)?;
    Ok(root)
}

/// The root of an installed machine; `extra` packages are taken whole.
pub fn system(
    node_program: &[u8],
    pool: &Tree,
    extra: &Tree,
    library_dir: &str,
    os_release: &str,
) -> Result<Tree, String> {
    let paths: Vec<&str> = SECOND_STAGE.iter().chain(SYSTEM_MORE).copied().collect();
    let mut root = userland(pool, library_dir, &paths)?;
    root.file("etc/os-release", 0o644, os_release);
    root.file(inside(layout::NODE_PROGRAM), 0o755, node_program);
    root.link("usr/sbin/init", layout::NODE_PROGRAM);
    root.link("usr/bin/rackctl-node", layout::NODE_PROGRAM);
    for dir in ["dev", "proc", "sys", "run", "data", "boot", "var"] {
        root.dir(dir, 0o755);
    }
    root.dir("tmp", 0o1777);
    root.merge(extra)?;
    close_libraries(&mut root, pool, library_dir)?;
    check(&root, library_dir)?;
    Ok(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program and libraries of this host: real ELF files.
    fn pool() -> Option<(Tree, &'static str)> {
        let dir = "x86_64-linux-gnu";
        let mut pool = Tree::default();
        for name in ["libc.so.6", "libgcc_s.so.1", "libm.so.6", "ld-linux-x86-64.so.2"] {
            let bytes = std::fs::read(format!("/lib/{dir}/{name}")).ok()?;
            pool.file(&format!("usr/lib/{dir}/{name}"), 0o644, bytes);
        }
        Some((pool, dir))
    }

    #[test]
    fn libraries_are_added_and_a_missing_one_is_named() {
        let Some((pool, dir)) = pool() else {
            eprintln!("SKIPPED: this host has no /lib/x86_64-linux-gnu");
            return;
        };
        let mut root = Tree::default();
        root.merged_usr_links();
        root.file("usr/bin/program", 0o755, std::fs::read(std::env::current_exe().unwrap()).unwrap());
        let bare = root.clone();
        assert!(check(&bare, dir).unwrap_err().contains("which is not in the root"));
        close_libraries(&mut root, &pool, dir).unwrap();
        check(&root, dir).unwrap();
        assert!(root.bytes("usr/lib/x86_64-linux-gnu/libc.so.6").is_some());
        assert!(root.bytes("lib64/ld-linux-x86-64.so.2").is_some());
        let message = close_libraries(&mut bare.clone(), &Tree::default(), dir).unwrap_err();
        assert!(message.contains("/usr/bin/program needs lib"), "{message}");
    }

    #[test]
    fn a_root_has_no_key_no_password_and_no_second_way_in() {
        let config = sshd_config();
        for line in ["PasswordAuthentication no", "UsePAM no", "PermitRootLogin prohibit-password"] {
            assert!(config.lines().any(|l| l == line), "{line}");
        }
        assert!(SHADOW.lines().all(|line| line.split(':').nth(1) == Some("*")));
        assert!(PASSWD.lines().all(|line| line.split(':').nth(1) == Some("x")));
    }

    #[test]
    fn broken_links_are_found() {
        let mut root = Tree::default();
        root.link("etc/x", "/nowhere");
        assert!(check(&root, "x").unwrap_err().contains("/etc/x links to /nowhere"));
        let mut root = Tree::default();
        root.link("etc/resolv.conf", "/run/resolv.conf");
        check(&root, "x").unwrap();
    }
}
