//! An SSH host key of a simulated machine: made in it, as real ones are.

use ring::{
    rand::{SecureRandom, SystemRandom},
    signature::{Ed25519KeyPair, KeyPair},
};
use serde::{Deserialize, Serialize};

/// Both halves as OpenSSH writes them. It opens nothing but this simulated machine.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostKey {
    pub private: String,
    /// `ssh-ed25519 AAAA…`
    pub public: String,
}

impl std::fmt::Debug for HostKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HostKey({})", self.public)
    }
}

pub fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0u8; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| "the kernel gave no random bytes".to_owned())?;
    Ok(bytes)
}

impl HostKey {
    pub fn generate() -> Result<HostKey, String> {
        let seed = random::<32>()?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|e| format!("make a host key: {e}"))?;
        let public: [u8; 32] =
            pair.public_key().as_ref().try_into().map_err(|_| "a public key of another length".to_owned())?;
        Ok(HostKey {
            private: rackctl_wire::openssh::private_file(&seed, &public, random()?),
            public: rackctl_wire::openssh::public_line(&public),
        })
    }
}
