//! Whom to trust and who we are: PEM files. etcd's certificates are verified by a CA, never skipped.

use std::{path::Path, path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::model::{Failure, failure::Cause};

/// Files in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// The CA that signed the servers' certificates.
    pub ca: Option<PathBuf>,
    /// Our own certificate and its key, where the servers ask for one: both or none.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Without a CA nobody is trusted: such a configuration serves plain HTTP alone.
pub fn config(what: &str, files: &Files) -> Result<ClientConfig, Failure> {
    let local = |path: &Path, why: String| Failure::new(Cause::Local, what, format!("{}: {why}", path.display()));
    let mut roots = RootCertStore::empty();
    if let Some(path) = &files.ca {
        for certificate in certificates(path).map_err(|why| local(path, why))? {
            roots.add(certificate).map_err(|e| local(path, e.to_string()))?;
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| Failure::new(Cause::Local, what, e.to_string()))?
        .with_root_certificates(roots);
    let Some((certificate, key)) = &files.identity else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates(certificate).map_err(|why| local(certificate, why))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| local(key, e.to_string()))?;
    builder.with_client_auth_cert(chain, private).map_err(|e| local(key, e.to_string()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(|e| e.to_string())?.collect();
    let all = all.map_err(|e| e.to_string())?;
    if all.is_empty() { Err("no certificate in it".into()) } else { Ok(all) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, "nothing").unwrap();
        let failure = config("open", &Files { ca: Some(ca.clone()), identity: None }).unwrap_err();
        assert!(failure.why.contains("ca.pem") && failure.why.contains("no certificate"), "{failure}");
        let gone = folder.path().join("gone.pem");
        let failure = config("open", &Files { ca: None, identity: Some((gone, ca)) }).unwrap_err();
        assert!(failure.why.contains("gone.pem"), "{failure}");
    }
}
