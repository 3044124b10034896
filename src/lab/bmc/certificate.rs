//! A self-signed certificate for one BMC, as they ship with one.

use std::{net::IpAddr, sync::Arc};

use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::model::{Failure, Secret, failure::Cause};

pub struct Certificate {
    pub cert_pem: String,
    pub key_pem: Secret,
    /// `sha256:HEX` of the SubjectPublicKeyInfo: what `bmc trust` would write.
    pub pin: String,
}

/// Makes a key (ECDSA P-256) and a certificate for `name`, valid at `address` too.
pub fn certificate(name: &str, address: Option<IpAddr>) -> Result<Certificate, Failure> {
    let fail =
        |e: rcgen::Error| Failure::new(Cause::Local, format!("make a certificate for BMC {name}"), e.to_string());
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(fail)?;
    let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(fail)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names.extend(address.map(SanType::IpAddress));
    let cert = params.self_signed(&key).map_err(fail)?;
    let pin = crate::bmc::tls::pin_of(cert.der())
        .map_err(|why| Failure::new(Cause::Local, format!("make a certificate for BMC {name}"), why))?;
    Ok(Certificate { cert_pem: cert.pem(), key_pem: Secret::new(key.serialize_pem()), pin })
}

impl Certificate {
    /// The server's side of TLS, 1.2 and 1.3.
    pub fn server_config(&self) -> Result<Arc<rustls::ServerConfig>, Failure> {
        let fail = |why: String| Failure::new(Cause::Local, "set up TLS of a BMC", why);
        let chain = CertificateDer::pem_slice_iter(self.cert_pem.as_bytes()).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|e| fail(format!("{e:?}")))?;
        let key =
            PrivateKeyDer::from_pem_slice(self.key_pem.expose().as_bytes()).map_err(|e| fail(format!("{e:?}")))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|e| fail(e.to_string()))?.with_no_client_auth();
        Ok(Arc::new(builder.with_single_cert(chain, key).map_err(|e| fail(e.to_string()))?))
    }
}
