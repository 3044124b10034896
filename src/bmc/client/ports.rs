//! What the machine's network ports hear of their switches.

use super::{Client, ground::Ground, walk::Source};
use crate::{
    bmc::{
        neighbours::{self, Neighbour},
        redfish::wire::{Link, port as wire},
    },
    model::Failure,
};

const MAX_ADAPTERS: usize = 32;
const MAX_PORTS: usize = 32;

/// Empty: no port heard anything, or the BMC does not tell.
pub async fn gather_neighbours<S: Source>(ground: &Ground<'_, S>) -> Result<Vec<Neighbour>, Failure> {
    let mut found = Vec::new();
    for (_, chassis) in ground.chassis().await? {
        let Some(path) = Link::path(&chassis.adapters) else { continue };
        for (_, adapter) in ground.members::<wire::Adapter>(path, MAX_ADAPTERS).await?.unwrap_or_default() {
            let Some(ports) = Link::path(&adapter.ports).or(Link::path(&adapter.old_ports)) else { continue };
            let ports = ground.members::<wire::Port>(ports, MAX_PORTS).await?.unwrap_or_default();
            found.extend(ports.iter().filter_map(|(path, port)| neighbours::neighbour(path, port)));
        }
    }
    Ok(found)
}

impl Client {
    /// What LLDP told the machine's ports, as far as the BMC passes it on.
    pub async fn neighbours(&self) -> Result<Vec<Neighbour>, Failure> {
        self.limited("read what its ports hear", async {
            let view = self.fresh_view(false).await?;
            gather_neighbours(&self.ground(&view)).await
        })
        .await
    }
}
