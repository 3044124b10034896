//! Certificates that a BMC serves. Pure.

use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde::Serialize;

use super::{
    link,
    read::text,
    redfish::{
        json::clean,
        wire::security::{Certificate as Wire, DistinguishedName},
    },
    tls,
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    pub id: String,
    pub path: String,
    pub subject: Option<String>,
    pub issuer: Option<String>,
    /// As the BMC writes them, RFC 3339.
    pub valid_from: Option<String>,
    pub valid_until: Option<String>,
    pub serial: Option<String>,
    /// It is the one of the BMC's HTTPS server.
    pub https: bool,
}

/// The pin by which a certificate in PEM is known once it is served.
///
/// # Errors
/// It is no certificate.
pub fn pin_of_pem(pem: &str) -> Result<String, String> {
    let der =
        CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| "it holds no certificate in PEM".to_owned())?;
    tls::pin_of(&der)
}

pub fn certificate(path: &str, certificate: &Wire, https: bool) -> Certificate {
    let name = |n: &Option<DistinguishedName>| {
        let n = n.as_ref()?;
        text(&n.common_name).or(text(&n.organization))
    };
    Certificate {
        id: text(&certificate.id).unwrap_or_else(|| clean(link::last_segment(path))),
        path: path.to_owned(),
        subject: name(&certificate.subject),
        issuer: name(&certificate.issuer),
        valid_from: text(&certificate.from),
        valid_until: text(&certificate.until),
        serial: text(&certificate.serial),
        https,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bmc::redfish::wire::parse;

    #[test]
    fn names_and_times_are_shown_as_far_as_told() {
        let read = certificate(
            "/c/1",
            &parse(
                json!({"Subject": {"CommonName": "bmc-1"}, "Issuer": {"Organization": "Contoso"}, "ValidNotAfter": "2030-01-01T00:00:00Z"}),
            ),
            true,
        );
        assert_eq!((read.subject.as_deref(), read.issuer.as_deref()), (Some("bmc-1"), Some("Contoso")));
        assert_eq!((read.id.as_str(), read.valid_from, read.https), ("1", None, true));
    }

    #[test]
    fn a_file_without_a_certificate_is_told() {
        assert_eq!(pin_of_pem("-----BEGIN NOTHING-----"), Err("it holds no certificate in PEM".to_owned()));
    }
}
