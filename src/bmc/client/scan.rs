//! Who answers as a BMC at an address: asked without a credential, so that no password goes to a stranger.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use super::{
    Login, NoLedger, Options,
    send::Wire,
    session::{greet, within},
};
use crate::{
    bmc::{read, tls},
    model::{Failure, Secret, fleet::Trust},
};

/// A Redfish service as its root, which needs no credential, tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub address: IpAddr,
    /// `https://HOST[:PORT]`
    pub url: String,
    /// Of the key that it proved to hold.
    pub pin: String,
    pub vendor: Option<String>,
    pub product: Option<String>,
    /// `RedfishVersion`
    pub version: Option<String>,
}

/// What is at an address. `Ok(None)`: nothing listens there. `Err`: something does, and it is no Redfish service, or its
/// TLS is too old.
///
/// # Errors
/// See above; they name the address.
pub async fn scan(at: SocketAddr, connect: Duration, limit: Duration) -> Result<Option<Found>, Failure> {
    let stream = tokio::time::timeout(connect, tokio::net::TcpStream::connect(at)).await;
    if !matches!(stream, Ok(Ok(_))) {
        return Ok(None);
    }
    drop(stream);
    let url = url(at);
    let pin = tls::probe_pin(&url).await?;
    let options = Options { read_only: true, deadline: limit, ledger: Arc::new(NoLedger), observer: None, gate: None };
    // Never sent: only the root is read.
    let nobody = Login::new("", Arc::new(Secret::new(String::new())));
    let wire = Wire::new(&at.to_string(), &url, &Trust::Pin(pin.clone()), &nobody, &options)?;
    let root = within(&wire, limit, greet(&wire)).await?;
    Ok(Some(Found {
        address: at.ip(),
        url,
        pin,
        vendor: read::text(&root.vendor).or_else(|| root.oem.as_ref().and_then(|o| o.keys().next().cloned())),
        product: read::text(&root.product),
        version: read::text(&root.redfish_version),
    }))
}

fn url(at: SocketAddr) -> String {
    match at.port() {
        443 if at.is_ipv4() => format!("https://{}", at.ip()),
        443 => format!("https://[{}]", at.ip()),
        _ => format!("https://{at}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_urls() {
        assert_eq!(url("10.0.0.1:443".parse().unwrap()), "https://10.0.0.1");
        assert_eq!(url("10.0.0.1:8443".parse().unwrap()), "https://10.0.0.1:8443");
        assert_eq!(url("[fd00::1]:443".parse().unwrap()), "https://[fd00::1]");
        assert_eq!(url("[fd00::1]:8443".parse().unwrap()), "https://[fd00::1]:8443");
    }
}
