//! Secrets of this fleet's runs, in files of their own beside the store (0600), never in the journal.
//!
//! One random key; tokens and sessions are derived from it by HMAC-SHA256. Nothing else is kept, and a
//! resumed run offers a machine the same token as before the crash.

use std::{
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use ring::{
    hmac,
    rand::{SecureRandom, SystemRandom},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::model::{Failure, failure::Cause};

const KEY_BYTES: usize = 32;
/// Length of a token: 128 bits, in hex.
const TOKEN_HEX: usize = 32;

pub struct Keys {
    key: hmac::Key,
    pub folder: PathBuf,
}

impl Keys {
    /// Opens or makes the key in `folder`.
    pub fn open(folder: &Path) -> Result<Keys, Failure> {
        let local =
            |e: std::io::Error| Failure::new(Cause::Local, format!("keys in {}", folder.display()), e.to_string());
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(local)?;
        let path = folder.join("run.key");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) if bytes.len() == KEY_BYTES => bytes,
            Ok(bytes) => {
                return Err(Failure::new(
                    Cause::Local,
                    format!("key {}", path.display()),
                    format!("{} bytes instead of {KEY_BYTES}", bytes.len()),
                ));
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let mut bytes = vec![0; KEY_BYTES];
                SystemRandom::new()
                    .fill(&mut bytes)
                    .map_err(|_| Failure::new(Cause::Local, "keys", "the system gives no random bytes"))?;
                write_private(&path, &bytes).map_err(local)?;
                bytes
            }
            Err(e) => return Err(local(e)),
        };
        Ok(Keys { key: hmac::Key::new(hmac::HMAC_SHA256, &bytes), folder: folder.to_owned() })
    }

    /// A key that is known: simulations are the same at every run.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Keys {
        Keys { key: hmac::Key::new(hmac::HMAC_SHA256, &bytes), folder: PathBuf::new() }
    }

    fn derive(&self, purpose: &str, parts: &[&str]) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(purpose.as_bytes());
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        hex::encode(context.sign())
    }

    /// One-time token of one boot attempt of one node.
    pub fn token(&self, run: &str, node: &str, attempt: u32) -> String {
        let mut token = self.derive("token", &[run, node, &attempt.to_string()]);
        token.truncate(TOKEN_HEX);
        token
    }

    /// Bearer of the reports of one claim.
    pub fn session(&self, run: &str, node: &str, claim: &str) -> String {
        self.derive("session", &[run, node, claim])
    }

    /// Certificate and key of the provisioning API: made once per fleet, pinned by every installer.
    pub fn api(&self) -> Result<Api, Failure> {
        let (certificate, key) = (self.folder.join("api.crt"), self.folder.join("api.key"));
        let local = |e: String| Failure::new(Cause::Local, format!("API key in {}", self.folder.display()), e);
        if !key.exists() || !certificate.exists() {
            let pair = rcgen::KeyPair::generate().map_err(|e| local(e.to_string()))?;
            let parameters =
                rcgen::CertificateParams::new(vec!["rackctl-api".to_owned()]).map_err(|e| local(e.to_string()))?;
            let made = parameters.self_signed(&pair).map_err(|e| local(e.to_string()))?;
            write_private(&certificate, made.pem().as_bytes()).map_err(|e| local(e.to_string()))?;
            write_private(&key, pair.serialize_pem().as_bytes()).map_err(|e| local(e.to_string()))?;
        }
        let chain = CertificateDer::from_pem_file(&certificate).map_err(|e| local(e.to_string()))?;
        let key = PrivateKeyDer::from_pem_file(&key).map_err(|e| local(e.to_string()))?;
        let pin = crate::bmc::tls::pin_of(&chain).map_err(local)?;
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|b| b.with_no_client_auth().with_single_cert(vec![chain], key))
            .map_err(|e| local(e.to_string()))?;
        Ok(Api { pin, config: Arc::new(config) })
    }
}

pub struct Api {
    /// `sha256:HEX` of the public key.
    pub pin: String,
    pub config: Arc<rustls::ServerConfig>,
}

/// Whole or not at all, for the owner alone.
pub fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let next = path.with_extension("new");
    let _ = std::fs::remove_file(&next);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&next, path)
}

/// Equal in a time that does not tell where two texts differ.
pub fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |sum, (x, y)| sum | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    // fault: F34 invariant: I9 harness: D
    #[test]
    fn the_same_after_a_restart_and_different_for_every_attempt() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::open(folder.path()).unwrap();
        let token = keys.token("r", "n1", 1);
        assert_eq!(token.len(), 32);
        assert_eq!(Keys::open(folder.path()).unwrap().token("r", "n1", 1), token);
        assert_ne!(keys.token("r", "n1", 2), token);
        assert_ne!(keys.token("rn", "1", 1), token);
        assert_ne!(keys.token("a", "bc", 1), keys.token("ab", "c", 1), "where a part ends counts");
        assert_ne!(keys.session("r", "n1", "1"), keys.derive("token", &["r", "n1", "1"]));
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(folder.path().join("run.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(same("ab", "ab") && !same("ab", "ac") && !same("ab", "abc"));
    }
}
