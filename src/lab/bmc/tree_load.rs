//! Reads a recorded Redfish tree (`…/index.json`, the layout of DMTF's mock-ups): a dialect as it was spoken.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{
    documents::Documents,
    paths::{Places, ROOT},
};
use crate::{
    bmc::redfish::json,
    model::{Failure, failure::Cause},
};

/// Folders of one tree; the largest recorded one has under a thousand.
const MAX_FOLDERS: usize = 20_000;

/// A recorded tree: its documents, and which of them live.
#[derive(Clone, Debug)]
pub struct Tree {
    pub documents: Documents,
    pub places: Places,
}

impl Tree {
    /// `dir` holds `redfish/v1/index.json`.
    pub fn load(dir: &Path) -> Result<Tree, Failure> {
        let fail = |why: String| {
            Failure::new(Cause::Malformed, format!("read the Redfish tree {}", dir.display()), why)
                .next("find . -path '*/redfish/v1/index.json'")
        };
        let mut documents = Documents::default();
        let mut folders = vec![(dir.join("redfish"), "/redfish".to_owned())];
        let mut seen = 0;
        while let Some((folder, path)) = folders.pop() {
            seen += 1;
            if seen > MAX_FOLDERS {
                return Err(fail(format!("more than {MAX_FOLDERS} folders")));
            }
            for entry in children(&folder).map_err(|e| fail(format!("{}: {e}", folder.display())))? {
                let name = entry.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
                if entry.is_dir() {
                    folders.push((entry, format!("{path}/{name}")));
                } else if name == "index.json" {
                    let bytes = fs::read(&entry).map_err(|e| fail(format!("{}: {e}", entry.display())))?;
                    let body: Value = json::read(&bytes).map_err(|e| fail(format!("{}: {e}", entry.display())))?;
                    documents.put(path.clone(), body);
                }
            }
        }
        let places =
            Places::of(&documents).ok_or_else(|| fail(format!("no system with a Reset action below {ROOT}")))?;
        Ok(Tree { documents, places })
    }
}

/// Sorted, so that two readings are alike. Links are not followed.
fn children(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_type()?.is_symlink() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}
