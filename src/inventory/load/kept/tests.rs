//! What is kept is what was read, and never what was read before a change.

use std::{
    fs::{File, FileTimes, OpenOptions},
    os::unix::fs::{PermissionsExt, symlink},
    thread::sleep,
};

use super::*;
use crate::inventory::{Source, load_to_look, load_values};

/// More than are worth keeping, in two files.
const NODES: usize = MIN_NODES + 100;

struct Inventory {
    folder: tempfile::TempDir,
}

impl Inventory {
    fn new() -> Inventory {
        let inventory = Inventory { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(inventory.path("nodes")).unwrap();
        fs::write(
            inventory.path("nodes/site.yaml"),
            "apiVersion: rackctl.dev/v1alpha1\nkind: Site\nmetadata: { name: s1 }\nspec: { domain: a.example }\n---\n\
             apiVersion: rackctl.dev/v1alpha1\nkind: Cluster\nmetadata: { name: core }\nspec:\n  \
             driver: { etcd: { version: \"3.4.23\" } }\n  members: { selector: \"rank=first\", size: 3 }\n",
        )
        .unwrap();
        fs::write(inventory.path("nodes/all.yaml"), nodes("a")).unwrap();
        inventory
    }
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
    fn sources(&self) -> Vec<Source> {
        vec![Source::Path(self.path("nodes"))]
    }
    fn kept(&self) -> PathBuf {
        self.path("cache")
    }
    fn slot(&self) -> Slot {
        let places = Places::of(&self.sources(), &mut Vec::new()).unwrap();
        Slot::of(&places, &self.kept()).expect("tests run in a folder of this host")
    }
    /// Files in the cache.
    fn slots(&self) -> Vec<PathBuf> {
        fs::read_dir(self.kept()).map(|d| d.map(|e| e.unwrap().path()).collect()).unwrap_or_default()
    }
    /// As a look reads it.
    fn look(&self) -> Loaded {
        load_to_look(&self.sources(), &self.kept()).unwrap()
    }
    fn rack(&self) -> String {
        self.look().fleet.nodes["n00007"].location.rack.clone().unwrap()
    }
    /// Waits until what was written may be kept, and keeps it.
    fn keep(&self) {
        let newest = || {
            let files = ["nodes/all.yaml", "nodes/site.yaml"].map(|f| Stamp::of(&fs::metadata(self.path(f)).unwrap()));
            files.iter().map(|s| s.changed_ns.max(s.modified_ns)).max().unwrap()
        };
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i128;
        while now() - newest() <= SETTLED.as_nanos() as i128 {
            sleep(Duration::from_millis(100));
        }
        self.look();
        assert_eq!(self.slots().len(), 1);
        assert!(self.slot().get().is_some(), "it is kept and taken");
    }
}

fn nodes(rack: &str) -> String {
    let one = |n: usize| {
        let rank = if n < 3 { "first" } else { "other" };
        format!(
            "---\napiVersion: rackctl.dev/v1alpha1\nkind: Node\nmetadata: {{ name: n{n:05}, labels: {{ rank: {rank} }} }}\n\
             spec: {{ site: s1, identity: {{ serial: SN{n} }}, location: {{ rack: {rack}, unit: 1 }},\n  \
             interfaces: [{{ mac: \"52:54:00:00:{:02x}:{:02x}\" }}] }}\n",
            n / 256,
            n % 256
        )
    };
    (0..NODES).map(one).collect()
}

#[test]
fn what_is_kept_is_what_was_read() {
    let inventory = Inventory::new();
    let read = load_values(&inventory.sources()).unwrap();
    inventory.keep();
    let kept = inventory.slot().get().unwrap();
    assert_eq!(format!("{read:?}"), format!("{kept:?}"));
    assert_eq!(kept.fleet.nodes.len(), NODES);
    assert!(!kept.warnings.is_empty() || kept.fleet.clusters["core"].members.len() == 3);
}

#[test]
fn everything_that_an_inventory_can_say_is_kept() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources: Vec<Source> = super::super::default_sources(own);
    let loaded = load_values(&sources).unwrap();
    assert!(!loaded.fleet.playbooks.is_empty() && !loaded.fleet.images.is_empty());
    let bytes = encode(&loaded, "print").unwrap();
    assert_eq!(format!("{:?}", decode(&bytes, "print").unwrap()), format!("{loaded:?}"));
}

#[test]
fn a_file_that_was_touched_just_now_is_not_kept() {
    let inventory = Inventory::new();
    inventory.look();
    assert_eq!(inventory.slots(), Vec::<PathBuf>::new(), "a change in the same tick would not show");
    assert!(!inventory.slot().settled);
    let stamp = Stamp::of(&fs::metadata(inventory.path("nodes/all.yaml")).unwrap());
    let at = |ns: i128| UNIX_EPOCH + Duration::from_nanos(u64::try_from(stamp.changed_ns + ns).unwrap());
    let settled = SETTLED.as_nanos() as i128;
    assert!(!is_settled(&stamp, at(settled)) && is_settled(&stamp, at(settled + 1)));
    assert!(!is_settled(&stamp, at(-1)), "a file from the future");
}

#[test]
fn no_change_is_missed() {
    let inventory = Inventory::new();
    inventory.keep();
    assert_eq!(inventory.rack(), "a");
    // As long as before, and with the time of modification set back: the time of change tells.
    let path = inventory.path("nodes/all.yaml");
    let before = fs::metadata(&path).unwrap();
    let mut file = OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
    file.write_all(nodes("b").as_bytes()).unwrap();
    file.set_times(FileTimes::new().set_modified(before.modified().unwrap())).unwrap();
    drop(file);
    let after = fs::metadata(&path).unwrap();
    assert_eq!((before.len(), before.modified().unwrap()), (after.len(), after.modified().unwrap()));
    assert_eq!(inventory.rack(), "b");
    // Another file in its place.
    inventory.keep();
    fs::write(inventory.path("next"), nodes("c")).unwrap();
    fs::rename(inventory.path("next"), &path).unwrap();
    assert_eq!(inventory.rack(), "c");
    // One more file, and one less.
    inventory.keep();
    let more = inventory.path("nodes/more.yaml");
    fs::write(&more, "apiVersion: rackctl.dev/v1alpha1\nkind: Site\nmetadata: { name: s2 }\nspec: {}\n").unwrap();
    assert!(inventory.look().fleet.sites.contains_key("s2"));
    fs::remove_file(&more).unwrap();
    assert!(!inventory.look().fleet.sites.contains_key("s2"));
    // A fault is found, whatever was kept before it.
    fs::write(&more, "kind: Nothing\n").unwrap();
    assert!(load_to_look(&inventory.sources(), &inventory.kept()).is_err());
}

#[test]
fn damage_changes_nothing_but_speed() {
    let inventory = Inventory::new();
    inventory.keep();
    let slot = inventory.slots().remove(0);
    let whole = fs::read(&slot).unwrap();
    let read = format!("{:?}", load_values(&inventory.sources()).unwrap());
    // A bit anywhere, a missing end, something behind it, nothing at all.
    let places = (0..60).map(|i| i * whole.len() / 60).chain([whole.len() - 1]);
    let flipped = places.map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x20;
        bytes
    });
    let cut = [0, 1, whole.len() / 2, whole.len() - 1].map(|end| whole[..end].to_vec());
    let longer = [[whole.as_slice(), b" "].concat()];
    for bytes in flipped.chain(cut).chain(longer) {
        assert!(decode(&bytes, &inventory.slot().print).is_none());
    }
    fs::write(&slot, &whole[..whole.len() / 2]).unwrap();
    assert!(inventory.slot().get().is_none());
    assert_eq!(format!("{:?}", inventory.look()), read);
    assert!(inventory.slot().get().is_some(), "and it was kept again");
    // Of another program, or another inventory.
    assert!(decode(&whole, "0123").is_none());
    // What others may have written, and what is no file.
    fs::set_permissions(&slot, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(inventory.slot().get().is_none());
    let elsewhere = inventory.path("elsewhere");
    fs::rename(&slot, &elsewhere).unwrap();
    symlink(&elsewhere, &slot).unwrap();
    assert!(inventory.slot().get().is_none());
    assert_eq!(format!("{:?}", inventory.look()), read);
    // A folder that cannot be written.
    let no_folder = inventory.path("nodes/site.yaml");
    assert_eq!(format!("{:?}", load_to_look(&inventory.sources(), &no_folder).unwrap()), read);
}

#[test]
fn old_slots_make_room_and_other_files_stay() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("other"), "x").unwrap();
    for number in 0..MAX_SLOTS + 3 {
        write(&folder.path().join(format!("{number:03}.{SUFFIX}")), b"x").unwrap();
        sleep(Duration::from_millis(12));
    }
    let mut names: Vec<String> =
        fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names.len(), MAX_SLOTS + 1);
    assert_eq!((names[0].as_str(), names[MAX_SLOTS].as_str()), ("003.fleet", "other"));
}

#[test]
fn text_from_a_pipe_is_not_kept() {
    let places = Places::of(&[Source::Stdin(nodes("a"))], &mut Vec::new()).unwrap();
    assert!(Slot::of(&places, Path::new("/nowhere")).is_none());
    let (reader, writer) = nix::unistd::pipe().unwrap();
    drop(File::from(writer));
    let path = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
    let places = Places::of(&[Source::Path(path.into())], &mut Vec::new()).unwrap();
    assert!(Slot::of(&places, Path::new("/nowhere")).is_none());
}
