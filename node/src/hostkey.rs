//! SSH host keys (ed25519) in OpenSSH's own format (PROTOCOL.key of OpenSSH, RFC 8709).

use crate::node_error::{NodeError, Result};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};

const KIND: &str = "ssh-ed25519";
/// Unencrypted keys are padded to the block size of the cipher `none`.
const BLOCK: usize = 8;

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

    fn blob(&self) -> Vec<u8> {
        let mut blob = Vec::new();
        string(&mut blob, KIND.as_bytes());
        string(&mut blob, &self.public);
        blob
    }

    /// `ssh-ed25519 AAAA…`
    pub fn public_line(&self) -> String {
        format!("{KIND} {}", base64(&self.blob()))
    }

    /// Contents of `ssh_host_ed25519_key`.
    pub fn private_file(&self) -> Result<String> {
        let check = random::<4>()?;
        let mut private = Vec::new();
        private.extend(check);
        private.extend(check);
        string(&mut private, KIND.as_bytes());
        string(&mut private, &self.public);
        let mut pair = self.seed.to_vec();
        pair.extend(self.public);
        string(&mut private, &pair);
        string(&mut private, b"");
        let mut pad = 1;
        while !private.len().is_multiple_of(BLOCK) {
            private.push(pad);
            pad += 1;
        }
        let mut file = b"openssh-key-v1\0".to_vec();
        string(&mut file, b"none");
        string(&mut file, b"none");
        string(&mut file, b"");
        file.extend(1u32.to_be_bytes());
        string(&mut file, &self.blob());
        string(&mut file, &private);
        let text = base64(&file);
        let lines: Vec<&str> =
            text.as_bytes().chunks(70).map(|line| std::str::from_utf8(line).unwrap_or_default()).collect();
        Ok(format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----\n", lines.join("\n")))
    }
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u32).to_be_bytes());
    out.extend(bytes);
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = ALPHABET[(word >> (18 - 6 * place) & 63) as usize];
            out.push(if place <= chunk.len() { letter as char } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::OpenOptionsExt;
    use std::process::Command;

    #[test]
    fn base64_of_the_rfc() {
        for (plain, encoded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

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
