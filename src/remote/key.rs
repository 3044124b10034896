//! SSH host keys as text: `ssh-ed25519 AAAA…`. Pure.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use sha2::{Digest, Sha256};

use crate::model::{Failure, failure::Cause};

/// A public host key that was checked to be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostKey {
    /// `ssh-ed25519`
    pub algorithm: String,
    /// Base64 of the key blob (RFC 4253, section 6.6).
    pub blob: String,
}

impl HostKey {
    /// From `ALGORITHM BASE64 [COMMENT]`; the blob must name the same algorithm.
    pub fn parse(text: &str) -> Result<HostKey, Failure> {
        let refuse = |why: &str| {
            let shown: String = text.chars().filter(|c| !c.is_control()).take(40).collect();
            Failure::new(Cause::Malformed, format!("read SSH host key `{shown}`"), why)
        };
        let mut words = text.split_ascii_whitespace();
        let (Some(algorithm), Some(blob)) = (words.next(), words.next()) else {
            return Err(refuse("it is not of the form `ssh-ed25519 AAAA…`"));
        };
        if text.trim().contains(['\n', '\r']) {
            return Err(refuse("it has more than one line"));
        }
        let bytes = STANDARD.decode(blob).map_err(|e| refuse(&format!("its second word is not base64: {e}")))?;
        let named = bytes.get(..4).and_then(|n| {
            let length = u32::from_be_bytes(n.try_into().ok()?) as usize;
            bytes.get(4..4usize.checked_add(length)?)
        });
        if named != Some(algorithm.as_bytes()) {
            return Err(refuse("its blob is not a key of the algorithm that it names"));
        }
        Ok(HostKey { algorithm: algorithm.into(), blob: blob.into() })
    }

    /// As `ssh` prints it: `SHA256:` and base64 without padding.
    pub fn fingerprint(&self) -> String {
        let bytes = STANDARD.decode(&self.blob).unwrap_or_default();
        format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(bytes)))
    }

    /// What `HostKeyAlgorithms` must be so that the server shows this key and no other.
    pub fn signature_algorithms(&self) -> &str {
        match self.algorithm.as_str() {
            "ssh-rsa" => "rsa-sha2-512,rsa-sha2-256",
            other => other,
        }
    }

    /// The one line of a known_hosts file that knows `alias`.
    pub fn known_hosts_line(&self, alias: &str) -> String {
        format!("{alias} {} {}\n", self.algorithm, self.blob)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // `ssh-keygen -lf` prints this fingerprint for it.
    const FINGERPRINT: &str = "SHA256:YbUqjWVx15TFZjufy6/6+SaDJbTboEIofcxSR/LcjCc";
    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFqRpWnkVtfsVvPxR7vPKvxqpjdR0oW6S6Tj1y5wJd8Q";

    #[test]
    fn text_is_checked() {
        let key = HostKey::parse(&format!("{KEY} comment")).unwrap();
        assert_eq!(key.fingerprint(), FINGERPRINT);
        assert_eq!(key.known_hosts_line("n1"), format!("n1 {KEY}\n"));
        for bad in
            ["", "ssh-ed25519", "ssh-ed25519 %%%", "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAA", &format!("{KEY}\n* {KEY}")]
        {
            assert_eq!(HostKey::parse(bad).unwrap_err().cause, Cause::Malformed, "{bad}");
        }
    }
}
