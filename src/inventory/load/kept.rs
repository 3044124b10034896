//! A resolved fleet, kept for verbs that only look: reading it takes a tenth of what reading the manifests takes.
//!
//! It is taken only where every file has the device, inode, size, time of modification and time of change (which no
//! program can set) that it had when it was read, and the same program reads it from the same place. It is written
//! only when all those times lie well before the load began: what changes later bears another time, however coarse the
//! file system's clock is. File systems of other hosts have clocks and caches of their own, and are not kept. What is
//! kept verifies its own digests; whatever is odd about it makes it as if it were not there.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ffi::OsStr,
    fs,
    io::{Read, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::sys::statfs::{self, statfs};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use super::{
    Loaded, Places,
    list::{Listed, Stamp},
};
use crate::{
    inventory::{
        fault::{Fault, Report},
        parallel,
    },
    model::{
        Fleet,
        fleet::{Bmc, Identity, Interface, Location, Node},
    },
};

/// Changes with what is kept and how.
const FORMAT: &str = "kept fleet of rackctl 2";
/// Smaller fleets are read as fast as this is.
const MIN_NODES: usize = 500;
/// Longest that is read or written.
const MAX_BYTES: u64 = 256 << 20;
/// Inventories that are kept, at most.
const MAX_SLOTS: usize = 8;
/// Nodes decoded in one piece: pieces are shared among threads.
const PIECE: usize = 500;
/// Files that were touched this shortly before the load may be touched again without its showing: no file system's
/// clock is coarser.
const SETTLED: Duration = Duration::from_secs(3);
const SUFFIX: &str = "fleet";
/// File systems whose clock is this host's.
const LOCAL: [statfs::FsType; 5] = [
    statfs::EXT4_SUPER_MAGIC,
    statfs::XFS_SUPER_MAGIC,
    statfs::BTRFS_SUPER_MAGIC,
    statfs::TMPFS_MAGIC,
    statfs::OVERLAYFS_SUPER_MAGIC,
];

/// Where one inventory is kept.
pub(super) struct Slot {
    path: PathBuf,
    /// Of all that the load depends on.
    print: String,
    /// No file was touched shortly before.
    settled: bool,
}

/// What a node shares with no other: what it is like in all else is kept once for thousands of them.
#[derive(Serialize, Deserialize)]
struct Own {
    /// Number of the node in [`Rest::alike`] that it is like in all else.
    like: usize,
    name: String,
    labels: BTreeMap<String, String>,
    identity: Identity,
    bmc: Option<Bmc>,
    interfaces: Vec<Interface>,
    location: Location,
    kernel_params: Vec<String>,
}

/// Parts a node into what is its own, and what it may share.
fn part(node: &Node) -> (Own, Node) {
    let mut rest = node.clone();
    let own = Own {
        like: 0,
        name: std::mem::take(&mut rest.name),
        labels: std::mem::take(&mut rest.labels),
        identity: std::mem::take(&mut rest.identity),
        bmc: rest.bmc.take(),
        interfaces: std::mem::take(&mut rest.interfaces),
        location: std::mem::take(&mut rest.location),
        kernel_params: std::mem::take(&mut rest.kernel_params),
    };
    (own, rest)
}

fn join(own: Own, alike: &[Node]) -> Option<Node> {
    let Own { like, name, labels, identity, bmc, interfaces, location, kernel_params } = own;
    Some(Node { name, labels, identity, bmc, interfaces, location, kernel_params, ..alike.get(like)?.clone() })
}

/// What is kept besides the nodes.
#[derive(Serialize, Deserialize)]
struct Rest {
    fleet: Fleet,
    warnings: Vec<Fault>,
    files: Vec<PathBuf>,
    /// What nodes share.
    alike: Vec<Node>,
}

impl Slot {
    /// `None` where nothing may be kept.
    pub(super) fn of(places: &Places, folder: &Path) -> Option<Slot> {
        // Under sudo the folder is another person's.
        if nix::unistd::geteuid().is_root() && std::env::var_os("SUDO_USER").is_some() {
            return None;
        }
        let stamps: Vec<(&Listed, Stamp)> =
            places.files.iter().map(|f| Some((f, f.stamp?))).collect::<Option<Vec<_>>>()?;
        let mut devices = BTreeSet::new();
        for (file, stamp) in &stamps {
            if devices.insert(stamp.device) && !is_local(&places.here.join(&file.name)) {
                return None;
            }
        }
        let program = Stamp::of(&fs::metadata("/proc/self/exe").ok()?);
        let mut which = Print::new();
        which.add(places.here.as_os_str());
        which.add(places.home.as_deref().unwrap_or(Path::new("")).as_os_str());
        places.named.iter().for_each(|path| which.add(path.as_os_str()));
        let which = which.end();
        let mut print = Print::new();
        [FORMAT, env!("CARGO_PKG_VERSION"), &which, &places.id].iter().for_each(|text| print.add(OsStr::new(text)));
        print.stamp(&program);
        for (file, stamp) in &stamps {
            print.add(file.name.as_os_str());
            print.stamp(stamp);
        }
        let path = folder.join(format!("{}.{SUFFIX}", &which[..32]));
        let settled = stamps.iter().all(|(_, stamp)| is_settled(stamp, places.began));
        Some(Slot { path, print: print.end(), settled })
    }

    /// What was kept, if all of it is as it was.
    pub(super) fn get(&self) -> Option<Loaded> {
        decode(&read(&self.path)?, &self.print)
    }

    /// A fault costs speed alone, and the next load finds the same one.
    pub(super) fn put(&self, loaded: &Loaded) {
        if self.settled && loaded.fleet.nodes.len() >= MIN_NODES {
            let _ = encode(loaded, &self.print).map(|bytes| write(&self.path, &bytes));
        }
    }
}

/// The file's times lie so far before `began` that a later change bears others.
fn is_settled(stamp: &Stamp, began: SystemTime) -> bool {
    let Some(limit) = began.duration_since(UNIX_EPOCH).ok().and_then(|d| d.checked_sub(SETTLED)) else { return false };
    let limit = i128::try_from(limit.as_nanos()).unwrap_or(0);
    stamp.modified_ns < limit && stamp.changed_ns < limit
}

fn is_local(path: &Path) -> bool {
    statfs(path).is_ok_and(|about| LOCAL.contains(&about.filesystem_type()))
}

/// A digest over fields that cannot run into each other.
struct Print(Sha256);

impl Print {
    fn new() -> Print {
        Print(Sha256::new())
    }
    fn add(&mut self, text: &OsStr) {
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text.as_bytes());
    }
    fn stamp(&mut self, stamp: &Stamp) {
        for number in [stamp.device, stamp.inode, stamp.size] {
            self.0.update(number.to_le_bytes());
        }
        self.0.update(stamp.modified_ns.to_le_bytes());
        self.0.update(stamp.changed_ns.to_le_bytes());
    }
    fn end(self) -> String {
        hex::encode(self.0.finalize())
    }
}

/// First line: format, fingerprint, digest of the second line. Second line: length and digest of each piece, as JSON.
/// Then the pieces: [`Rest`], then nodes.
fn encode(loaded: &Loaded, print: &str) -> Option<Vec<u8>> {
    let Loaded { fleet, warnings, files } = loaded;
    let rest = Fleet {
        id: fleet.id.clone(),
        context: fleet.context.clone(),
        sites: fleet.sites.clone(),
        networks: fleet.networks.clone(),
        hardware_classes: fleet.hardware_classes.clone(),
        profiles: fleet.profiles.clone(),
        nodes: BTreeMap::new(),
        clusters: fleet.clusters.clone(),
        images: fleet.images.clone(),
        credentials: fleet.credentials.clone(),
        playbooks: fleet.playbooks.clone(),
        places: fleet.places.clone(),
        origins: fleet.origins.clone(),
    };
    let (mut alike, mut nodes) = (Vec::new(), Vec::with_capacity(fleet.nodes.len()));
    let mut numbers: HashMap<String, usize> = HashMap::new();
    for node in fleet.nodes.values() {
        let (mut own, rest) = part(node);
        own.like = *numbers.entry(serde_json::to_string(&rest).ok()?).or_insert_with(|| {
            alike.push(rest);
            alike.len() - 1
        });
        nodes.push(own);
    }
    let rest = Rest { fleet: rest, warnings: warnings.clone(), files: files.clone(), alike };
    let mut pieces = vec![serde_json::to_vec(&rest).ok()?];
    for piece in nodes.chunks(PIECE) {
        pieces.push(serde_json::to_vec(piece).ok()?);
    }
    let index: Vec<(usize, String)> = pieces.iter().map(|p| (p.len(), digest(p))).collect();
    let index = serde_json::to_string(&index).ok()?;
    let mut bytes = format!("{FORMAT} {print} {}\n{index}\n", digest(index.as_bytes())).into_bytes();
    pieces.iter().for_each(|piece| bytes.extend_from_slice(piece));
    (bytes.len() as u64 <= MAX_BYTES).then_some(bytes)
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

enum Piece {
    Rest(Box<Rest>),
    Nodes(Vec<Own>),
}

fn decode(bytes: &[u8], print: &str) -> Option<Loaded> {
    let (first, behind) = line(bytes)?;
    let (second, mut behind) = line(behind)?;
    if first != format!("{FORMAT} {print} {}", digest(second)).as_bytes() {
        return None;
    }
    let index: Vec<(usize, String)> = serde_json::from_slice(second).ok()?;
    let mut pieces = Vec::with_capacity(index.len());
    for (number, (length, want)) in index.into_iter().enumerate() {
        let (piece, more) = behind.split_at_checked(length)?;
        pieces.push((number == 0, piece, want));
        behind = more;
    }
    if !behind.is_empty() {
        return None;
    }
    let decoded = parallel::pieces(pieces, 1, &mut Report::default(), |pieces, _| {
        let one = |(first, bytes, want): (bool, &[u8], String)| match (digest(bytes) == want, first) {
            (false, _) => None,
            (true, true) => json(bytes).map(|rest| Piece::Rest(Box::new(rest))),
            (true, false) => json(bytes).map(Piece::Nodes),
        };
        pieces.into_iter().map(one).collect()
    });
    let (mut rest, mut nodes) = (None, Vec::new());
    for piece in decoded {
        match piece? {
            Piece::Rest(one) => rest = Some(one),
            Piece::Nodes(some) => nodes.extend(some),
        }
    }
    let Rest { mut fleet, warnings, files, alike } = *rest?;
    let nodes = nodes.into_iter().map(|own| join(own, &alike).map(|node| (node.name.clone(), node)));
    fleet.nodes = nodes.collect::<Option<_>>()?;
    Some(Loaded { fleet, warnings, files })
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|b| *b == b'\n')?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// Of a plain file that nobody but its owner, who is us, can write.
fn read(path: &Path) -> Option<Vec<u8>> {
    let odd = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
    let file = fs::OpenOptions::new().read(true).custom_flags(odd.bits()).open(path).ok()?;
    let about = file.metadata().ok()?;
    let ours = about.is_file() && about.uid() == nix::unistd::geteuid().as_raw() && about.mode() & 0o022 == 0;
    if !ours || about.size() > MAX_BYTES {
        return None;
    }
    let mut bytes = Vec::with_capacity(usize::try_from(about.size()).ok()? + 1);
    file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Whole or not at all; its digests tell what a crash left.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new().prefix(".").tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path).map_err(|e| e.error)?;
    // The ones that were written longest ago make room.
    let mut slots: Vec<(SystemTime, PathBuf)> = fs::read_dir(folder)?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let path = entry.path();
            let ours = path.extension() == Some(OsStr::new(SUFFIX));
            Some((entry.metadata().ok()?.modified().ok()?, path)).filter(|_| ours)
        })
        .collect();
    slots.sort();
    slots.iter().rev().skip(MAX_SLOTS).try_for_each(|(_, old)| fs::remove_file(old))
}

#[cfg(test)]
mod tests;
