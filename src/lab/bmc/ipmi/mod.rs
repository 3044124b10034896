//! The laboratory's BMC speaks IPMI 2.0: cipher suites 17 and 3 over UDP, on the state that its Redfish side has too.
//!
//! [`sessions`] is sans-I/O; [`answer`] carries commands out; [`records`] is what a BMC keeps beside the machine (event
//! log, sensors); [`users`] are the accounts, those of Redfish; [`serve`] is the socket, with the serial console behind it.

mod answer;
mod boot;
mod records;
mod serve;
mod sessions;
#[cfg(test)]
mod tests;
mod users;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ring::rand::{SecureRandom, SystemRandom};

pub use serve::serve;

use super::{Bmc, chassis::Chassis};
use records::Records;
use sessions::Sessions;

/// IPMI's part of one BMC.
pub struct Service<C> {
    bmc: Arc<Bmc<C>>,
    began: Instant,
    inside: Mutex<Inside>,
}

struct Inside {
    sessions: Sessions,
    records: Records,
    /// That have arrived.
    packets: u64,
}

impl<C: Chassis> Service<C> {
    /// # Errors
    /// The operating system gives no random numbers.
    pub fn new(bmc: Arc<Bmc<C>>) -> Result<Arc<Self>, String> {
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).map_err(|_| "no random numbers from the system")?;
        let guid = crate::bmc::ipmi::guid::encode(bmc.description.uuid);
        let records = Records::new(&bmc.description);
        let inside = Inside { sessions: Sessions::new(seed, guid), records, packets: 0 };
        Ok(Arc::new(Service { bmc, began: Instant::now(), inside: Mutex::new(inside) }))
    }

    /// A poisoned lock is taken over, as in [`Bmc`].
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub fn bmc(&self) -> &Arc<Bmc<C>> {
        &self.bmc
    }
    pub fn open_sessions(&self) -> usize {
        let now = self.now();
        self.inside().sessions.count(now)
    }
    /// Forgets all sessions without a word, as a restart of a BMC does.
    pub fn drop_sessions(&self) {
        self.inside().sessions.forget();
    }
    /// How often a password was proven wrong.
    pub fn wrong_passwords(&self) -> u32 {
        self.inside().sessions.wrong_passwords
    }
}
