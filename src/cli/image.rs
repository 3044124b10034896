//! `rackctl image build|list|verify`

use std::{env, path::PathBuf};

use super::{args::host::Image, globals::Globals};
use crate::{
    model::{Failure, failure::Cause},
    output::{Exit, Stop},
};

/// Where artifacts are kept: `$XDG_DATA_HOME/rackctl/objects`, else below HOME.
pub fn objects_dir() -> Result<PathBuf, Failure> {
    folder("XDG_DATA_HOME", ".local/share").map(|base| base.join("rackctl/objects"))
}

/// Packages by digest; may be deleted at any time: `$XDG_CACHE_HOME/rackctl/packages`, else below HOME.
pub fn cache_dir() -> Result<PathBuf, Failure> {
    folder("XDG_CACHE_HOME", ".cache").map(|base| base.join("rackctl/packages"))
}

/// XDG Base Directory 0.8: relative values do not count.
fn folder(variable: &str, below_home: &str) -> Result<PathBuf, Failure> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(below_home))).ok_or_else(|| {
        let why = format!("neither {variable} nor HOME names an absolute path");
        Failure::new(Cause::Local, "find the folder of the boot artifacts", why).next("export HOME=/root")
    })
}

/// Records of builds that are there.
pub fn builds() -> usize {
    let entries = objects_dir().ok().and_then(|dir| std::fs::read_dir(dir.join("builds")).ok());
    let is_record = |entry: &std::fs::DirEntry| entry.path().extension().is_some_and(|e| e == "json");
    entries.map_or(0, |entries| entries.flatten().filter(is_record).count())
}

pub fn run(globals: &Globals, args: &Image) -> Result<Exit, Stop> {
    super::pending::image(globals, args)
}
