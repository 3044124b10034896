//! A boot table made ready to serve: indexed by MAC and address, its objects memory-mapped.
//!
//! Nothing is served that is not in here, so a path can name no other file (traversal is impossible by construction).

use std::{
    collections::HashMap,
    fs::File,
    net::Ipv4Addr,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use bytes::Bytes;

use crate::model::{
    Failure, Mac,
    boot::{BootMachine, BootObject, BootTable},
    failure::Cause,
};

/// An object that can be served: what the table says of it, and its bytes.
#[derive(Clone, Debug)]
pub struct Object {
    pub about: BootObject,
    pub bytes: Bytes,
}

/// An immutable, indexed table.
#[derive(Debug)]
pub struct Live {
    pub table: BootTable,
    by_mac: HashMap<Mac, usize>,
    by_address: HashMap<Ipv4Addr, usize>,
    objects: HashMap<String, Object>,
    by_tftp_name: HashMap<String, String>,
}

impl Live {
    /// Maps the table's objects. Maps that `before` holds of the same object are used again.
    ///
    /// The files must not be shortened while they are served: a mapped page behind the end of a file kills the process
    /// (SIGBUS). The image store only ever adds files under their digest, so they never change.
    pub fn load(table: BootTable, before: Option<&Live>) -> Result<Live, Failure> {
        let mut objects = HashMap::with_capacity(table.objects.len());
        for about in &table.objects {
            let known = before.and_then(|live| live.objects.get(&about.sha256)).filter(|o| o.about.path == about.path);
            let bytes = match known {
                Some(object) => object.bytes.clone(),
                None => map(&about.path)?,
            };
            if bytes.len() as u64 != about.size_bytes {
                let why =
                    format!("{} has {} bytes, the table says {}", about.path.display(), bytes.len(), about.size_bytes);
                return Err(Failure::new(Cause::Mismatch, format!("serve object {}", about.sha256), why)
                    .next("rackctl image verify"));
            }
            objects.insert(about.sha256.clone(), Object { about: about.clone(), bytes });
        }
        Ok(Live::index(table, objects))
    }

    /// The table without its files: what the decisions need. Tests and decisions use it; nothing can be fetched.
    pub fn without_files(table: BootTable) -> Live {
        let objects = table
            .objects
            .iter()
            .map(|about| (about.sha256.clone(), Object { about: about.clone(), bytes: Bytes::new() }))
            .collect();
        Live::index(table, objects)
    }

    fn index(table: BootTable, objects: HashMap<String, Object>) -> Live {
        let by_mac = table.machines.iter().enumerate().map(|(i, m)| (m.mac, i)).collect();
        let by_address = table.machines.iter().enumerate().map(|(i, m)| (m.address, i)).collect();
        let by_tftp_name = table
            .objects
            .iter()
            .filter_map(|o| o.tftp_name.as_ref().map(|name| (name.clone(), o.sha256.clone())))
            .collect();
        Live { table, by_mac, by_address, objects, by_tftp_name }
    }

    pub fn machine(&self, mac: Mac) -> Option<&BootMachine> {
        self.by_mac.get(&mac).and_then(|i| self.table.machines.get(*i))
    }

    pub fn machine_at(&self, address: Ipv4Addr) -> Option<&BootMachine> {
        self.by_address.get(&address).and_then(|i| self.table.machines.get(*i))
    }

    /// By lower-case hex digest.
    pub fn object(&self, sha256: &str) -> Option<&Object> {
        self.objects.get(sha256)
    }

    pub fn tftp_object(&self, name: &str) -> Option<&Object> {
        self.by_tftp_name.get(name).and_then(|sha256| self.objects.get(sha256))
    }
}

fn map(path: &Path) -> Result<Bytes, Failure> {
    let fault = |error: std::io::Error| {
        Failure::new(Cause::Local, format!("serve {}", path.display()), error.to_string()).next("rackctl image list")
    };
    let file = File::open(path).map_err(fault)?;
    let meta = file.metadata().map_err(fault)?;
    if !meta.is_file() {
        return Err(fault(std::io::Error::other("not a regular file")));
    }
    if meta.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the map is read-only and private to this process's readers; the file is content-addressed and never
    // written again once it bears its digest (see `Live::load` on shortened files).
    let map = unsafe { memmap2::Mmap::map(&file) }.map_err(fault)?;
    Ok(Bytes::from_owner(map))
}

/// The table in force. Readers take a snapshot and keep it for one packet or request.
#[derive(Clone, Debug)]
pub struct Current(Arc<RwLock<Arc<Live>>>);

impl Current {
    pub fn new(live: Live) -> Current {
        Current(Arc::new(RwLock::new(Arc::new(live))))
    }
    pub fn get(&self) -> Arc<Live> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
    pub fn replace(&self, live: Live) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(live);
    }
}
