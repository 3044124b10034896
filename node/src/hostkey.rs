//! SSH host keys (ed25519): made here; written as [`rackctl_wire::openssh`] says.

use crate::node_error::{NodeError, Result};
use rackctl_wire::openssh;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};

pub struct HostKey {
    seed: [u8; 32],
    public: [u8; 32],
}

pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0u8; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NodeError::new("io", "the kernel gave no random bytes"))?;
    Ok(bytes)
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl HostKey {
    pub fn generate() -> Result<Self> {
        Self::from_seed(random()?)
    }

    fn from_seed(seed: [u8; 32]) -> Result<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|e| NodeError::io("making a host key", e))?;
        let public = pair.public_key().as_ref().try_into().map_err(|e| NodeError::io("making a host key", e))?;
        Ok(Self { seed, public })
    }

    /// `ssh-ed25519 AAAA…`
    pub fn public_line(&self) -> String {
        openssh::public_line(&self.public)
    }

    /// Contents of `ssh_host_ed25519_key`.
    pub fn private_file(&self) -> Result<String> {
        Ok(openssh::private_file(&self.seed, &self.public, random()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::OpenOptionsExt;
    use std::process::Command;

    #[test]
    fn public_key_of_rfc_8032_test_1() {
        let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let bytes: Vec<u8> = (0..32).map(|i| u8::from_str_radix(&seed[2 * i..2 * i + 2], 16).unwrap()).collect();
        let key = HostKey::from_seed(bytes.try_into().unwrap()).unwrap();
        assert_eq!(hex(&key.public), "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
    }

    #[test]
    fn openssh_reads_the_file() {
        let key = HostKey::generate().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
        std::io::Write::write_all(&mut file, key.private_file().unwrap().as_bytes()).unwrap();
        let Ok(output) = Command::new("ssh-keygen").arg("-y").arg("-f").arg(&path).output() else {
            eprintln!("SKIPPED: ssh-keygen is not installed");
            return;
        };
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), key.public_line());
        assert_ne!(key.public_line(), HostKey::generate().unwrap().public_line());
    }
}
