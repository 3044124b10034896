//! The BMC's own certificate: a request for one, and its replacement (CertificateService). What is replaced serves.

use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};

use super::{
    Certificate,
    actions::certificate_path,
    paths::CERTIFICATES,
    reply::{self, Reply, refuse},
    state::State,
};
use crate::model::Secret;

const REPLACE: &str = "CertificateService.ReplaceCertificate";
const CSR: &str = "CertificateService.GenerateCSR";

impl State {
    /// A new key, which waits for its certificate, and the request for one.
    pub fn generate_csr(&mut self, sent: &Value) -> Reply {
        let Some(name) = sent["CommonName"].as_str().filter(|n| !n.is_empty()) else {
            return reply::parameter_missing(CSR, "CommonName");
        };
        let collection = sent["CertificateCollection"]["@odata.id"].as_str().map(super::paths::bare);
        if collection.as_deref() != Some(CERTIFICATES) {
            return reply::parameter_missing(CSR, "CertificateCollection");
        }
        let made = || -> Result<(String, String), rcgen::Error> {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            let mut params = CertificateParams::new(vec![name.to_owned()])?;
            params.distinguished_name.push(DnType::CommonName, name);
            for (property, kind) in [
                ("Organization", DnType::OrganizationName),
                ("OrganizationalUnit", DnType::OrganizationalUnitName),
                ("City", DnType::LocalityName),
                ("State", DnType::StateOrProvinceName),
                ("Country", DnType::CountryName),
            ] {
                if let Some(text) = sent[property].as_str() {
                    params.distinguished_name.push(kind, text);
                }
            }
            Ok((params.serialize_request(&key)?.pem()?, key.serialize_pem()))
        };
        match made() {
            Ok((csr, key)) => {
                self.requested_key = Some(Secret::new(key));
                Reply::json(
                    200,
                    json!({ "@odata.type": "#CertificateService.v1_1_0.GenerateCSRResponse", "CSRString": csr,
                            "CertificateCollection": { "@odata.id": CERTIFICATES } }),
                )
            }
            Err(error) => refuse(400, "GeneralError", &format!("The request cannot be made: {error}."), &[]),
        }
    }

    pub fn replace_certificate(&mut self, sent: &Value) -> Reply {
        let Some(text) = sent["CertificateString"].as_str() else {
            return reply::parameter_missing(REPLACE, "CertificateString");
        };
        if sent["CertificateType"].as_str() != Some("PEM") {
            return reply::parameter_value(REPLACE, "CertificateType", &sent["CertificateType"].to_string());
        }
        let uri = sent["CertificateUri"]["@odata.id"].as_str().unwrap_or_default();
        if !certificate_path(uri) {
            return reply::parameter_value(REPLACE, "CertificateUri", uri);
        }
        let key = if text.contains("PRIVATE KEY") {
            Some(Secret::new(text.to_owned()))
        } else {
            self.requested_key.as_ref().map(|key| Secret::new(key.expose().to_owned()))
        };
        let Some(key_pem) = key else {
            let text = "There is no key for this certificate: request one first, or send its key with it.";
            return refuse(400, "GeneralError", text, &[]);
        };
        let pin = CertificateDer::from_pem_slice(text.as_bytes())
            .map_err(|e| format!("{e:?}"))
            .and_then(|der| crate::bmc::tls::pin_of(&der));
        let made = pin.map(|pin| Certificate { cert_pem: text.to_owned(), key_pem, pin });
        // A certificate that does not serve is refused here, not at the next handshake.
        let checked = made.and_then(|c| c.server_config().map(|_| c).map_err(|failure| failure.why.clone()));
        match checked {
            Ok(certificate) => {
                let path = format!("{CERTIFICATES}/1");
                let shown = public(text);
                self.docs.merge(&path, &json!({ "CertificateString": shown, "CertificateType": "PEM" }));
                self.certificate = Some(certificate);
                self.requested_key = None;
                Reply::empty(204)
            }
            Err(why) => refuse(400, "GeneralError", &format!("The certificate cannot be used: {why}."), &[]),
        }
    }
}

/// Without the key, if one came with it.
fn public(pem: &str) -> String {
    let (mut out, mut secret) = (String::new(), false);
    for line in pem.lines() {
        secret |= line.contains("PRIVATE KEY") && line.contains("BEGIN");
        if !secret {
            out.push_str(line);
            out.push('\n');
        }
        secret &= !(line.contains("PRIVATE KEY") && line.contains("END"));
    }
    out
}
