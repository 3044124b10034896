//! A directory tree in memory: what packages are unpacked into and images are written from.
//!
//! Sorted by path, owned by root, without times: two builds of the same inputs see the same tree.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Symlinks followed before a path is called a loop.
const LINKS_MAX: usize = 16;

/// Debian's merged `/usr`: packages of bookworm still ship both spellings.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Dir,
    File(Arc<Vec<u8>>),
    Link(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Permission bits, 12 bits.
    pub mode: u32,
    pub kind: Kind,
}

/// Paths are relative, without `.`, `..` or a leading slash: `usr/bin/busybox`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    entries: BTreeMap<String, Entry>,
}

/// `./lib/x` → `usr/lib/x`; refuses what would leave the tree. The root itself is `""`.
pub fn clean_path(raw: &str) -> Result<String, String> {
    if raw.starts_with('/') {
        return Err(format!("{raw}: absolute path"));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in raw.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(format!("{raw}: leaves its root")),
            part if part.contains('\0') => return Err(format!("{raw}: NUL in path")),
            part => parts.push(part),
        }
    }
    if parts.first().is_some_and(|first| MERGED.contains(first)) {
        parts.insert(0, "usr");
    }
    Ok(parts.join("/"))
}

impl Tree {
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path)
    }

    pub fn put(&mut self, path: &str, mode: u32, kind: Kind) {
        let mut end = 0;
        while let Some(at) = path[end..].find('/') {
            self.entries.entry(path[..end + at].to_string()).or_insert(Entry { mode: 0o755, kind: Kind::Dir });
            end += at + 1;
        }
        self.entries.insert(path.to_string(), Entry { mode: mode & 0o7777, kind });
    }

    pub fn dir(&mut self, path: &str, mode: u32) {
        self.put(path, mode, Kind::Dir);
    }

    pub fn file(&mut self, path: &str, mode: u32, bytes: impl Into<Vec<u8>>) {
        self.put(path, mode, Kind::File(Arc::new(bytes.into())));
    }

    pub fn link(&mut self, path: &str, target: &str) {
        self.put(path, 0o777, Kind::Link(target.to_string()));
    }

    /// The links that make `/bin`, `/lib`… of a merged `/usr`.
    pub fn merged_usr_links(&mut self) {
        for name in MERGED {
            self.dir(&format!("usr/{name}"), 0o755);
            self.link(name, &format!("usr/{name}"));
        }
    }

    /// Takes over what `other` has; a path that both have must be the same, directories aside.
    pub fn merge(&mut self, other: &Tree) -> Result<(), String> {
        for (path, entry) in other.iter() {
            match self.entries.get(path) {
                Some(mine) if mine == entry => {}
                Some(Entry { kind: Kind::Dir, .. }) if entry.kind == Kind::Dir => {}
                Some(_) => return Err(format!("/{path} comes from two packages and differs")),
                None => self.put(path, entry.mode, entry.kind.clone()),
            }
        }
        Ok(())
    }

    /// The path that `path` names after all symlinks, and its entry.
    pub fn resolve(&self, path: &str) -> Option<(String, &Entry)> {
        let mut todo: Vec<String> = path.split('/').rev().filter(|p| !p.is_empty()).map(str::to_string).collect();
        let mut done: Vec<String> = Vec::new();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            match part.as_str() {
                "." => continue,
                ".." => {
                    done.pop();
                    continue;
                }
                _ => done.push(part),
            }
            // A package may link through `/lib`, which only a whole root has as a link.
            if done.len() == 1 && MERGED.contains(&done[0].as_str()) && !self.entries.contains_key(&done[0]) {
                done.insert(0, "usr".to_string());
            }
            if let Some(Entry { kind: Kind::Link(target), .. }) = self.entries.get(&done.join("/")) {
                links += 1;
                if links > LINKS_MAX {
                    return None;
                }
                done.pop();
                if target.starts_with('/') {
                    done.clear();
                }
                todo.extend(target.split('/').rev().filter(|p| !p.is_empty()).map(str::to_string));
            }
        }
        let path = done.join("/");
        self.entries.get(&path).map(|entry| (path, entry))
    }

    /// Bytes of the file that `path` names.
    pub fn bytes(&self, path: &str) -> Option<Arc<Vec<u8>>> {
        match &self.resolve(path)?.1.kind {
            Kind::File(bytes) => Some(Arc::clone(bytes)),
            _ => None,
        }
    }

    /// Bytes in all files.
    pub fn content_bytes(&self) -> u64 {
        self.entries.values().map(|e| if let Kind::File(b) = &e.kind { b.len() as u64 } else { 0 }).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_the_tree_are_refused() {
        assert_eq!(clean_path("./lib/x86_64-linux-gnu/libc.so.6").unwrap(), "usr/lib/x86_64-linux-gnu/libc.so.6");
        assert_eq!(clean_path("./").unwrap(), "");
        assert_eq!(clean_path("usr/lib/x").unwrap(), "usr/lib/x");
        for bad in ["/etc/passwd", "../x", "a/../../b", "usr/..", "a\0b"] {
            assert!(clean_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn links_are_followed_inside_the_tree_and_loops_end() {
        let mut tree = Tree::default();
        tree.file("usr/lib/libz.so.1.2", 0o644, *b"z");
        tree.link("usr/lib/libz.so.1", "libz.so.1.2");
        tree.link("usr/lib64/ld", "/lib/libz.so.1");
        tree.link("usr/a", "b");
        tree.link("usr/b", "a");
        assert_eq!(tree.resolve("usr/lib/libz.so.1").unwrap().0, "usr/lib/libz.so.1.2");
        assert_eq!(tree.bytes("usr/lib64/ld").unwrap().as_slice(), b"z");
        assert!(tree.resolve("usr/a").is_none());
        assert!(tree.resolve("usr/lib/none").is_none());
    }

    #[test]
    fn two_packages_may_share_directories_but_no_file() {
        let (mut one, mut two) = (Tree::default(), Tree::default());
        one.file("etc/x", 0o644, *b"1");
        two.file("etc/x", 0o644, *b"2");
        let message = one.merge(&two).unwrap_err();
        assert!(message.contains("/etc/x"), "{message}");
        let copy = one.clone();
        one.merge(&copy).unwrap();
        assert_eq!(one, copy);
    }
}
