//! Certificates (DSP8010, Certificate and CertificateService).

use serde::Serialize;

use super::{Action, Link};

resource! {
    CertificateService {
        "@odata.id" odata_id: String,
        "CertificateLocations" locations: Link,
        "Actions" actions: CertificateActions,
    } lists {}
}
resource! { CertificateActions { "#CertificateService.ReplaceCertificate" replace: Action, } lists {} }
resource! { CertificateLocations { "Links" links: CertificateLinks, } lists {} }
resource! { CertificateLinks {} lists { "Certificates" certificates: Link, } }
resource! { NetworkProtocol { "HTTPS" https: Https, } lists {} }
resource! { Https { "Certificates" certificates: Link, "Port" port: u16, } lists {} }
resource! {
    Certificate {
        "@odata.id" odata_id: String,
        "Id" id: String,
        "Name" name: String,
        "CertificateString" pem: String,
        "CertificateType" kind: String,
        "Subject" subject: DistinguishedName,
        "Issuer" issuer: DistinguishedName,
        "ValidNotBefore" from: String,
        "ValidNotAfter" until: String,
        "SerialNumber" serial: String,
        "Fingerprint" fingerprint: String,
    } lists {}
}
resource! {
    DistinguishedName {
        "CommonName" common_name: String,
        "Organization" organization: String,
    } lists {}
}

/// Body of ReplaceCertificate. No `Debug`: the text may hold a private key.
#[derive(Serialize)]
pub struct ReplaceCertificate<'a> {
    #[serde(rename = "CertificateString")]
    pub pem: &'a str,
    #[serde(rename = "CertificateType")]
    pub kind: &'static str,
    #[serde(rename = "CertificateUri")]
    pub uri: Link,
}
