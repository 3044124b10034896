//! TLS to a BMC: the peer is proven by a pinned public key or by a CA, never by nothing.
//!
//! A pin is `sha256:HEX` of the SubjectPublicKeyInfo (DER, RFC 7469 section 2.4). Dates, names and issuer are not looked
//! at under a pin, the handshake's signature is: a pin without it would prove nothing. The signature is checked
//! against the raw key, so X.509 v1 certificates work too.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use reqwest::Url;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime, pem::PemObject},
};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{
    redfish::json::clean,
    tls_offer::{self, Offer},
};
use crate::model::{Failure, failure::Cause, fleet::Trust};

/// Connect and handshake of [`probe_pin`], each.
const PROBE_SECONDS: u64 = 10;
/// Sessions that may be taken up again: a client talks to one BMC over two connections. The library's own 256 are room
/// for 32 hosts, made beforehand for each of thousands of clients.
const SESSIONS: usize = 8;

/// What the last handshake showed: the way out of rustls for both fingerprints.
#[derive(Clone, Debug, Default)]
pub struct Seen(Arc<Mutex<Option<String>>>);

impl Seen {
    pub fn pin(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    fn set(&self, pin: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(pin);
    }
}

/// `sha256:HEX` of a certificate's SubjectPublicKeyInfo.
pub fn pin_of(certificate: &[u8]) -> Result<String, String> {
    Ok(format!("sha256:{}", hex::encode(Sha256::digest(public_key(certificate)?))))
}

fn public_key(certificate: &[u8]) -> Result<&[u8], String> {
    match X509Certificate::from_der(certificate) {
        Ok((_, parsed)) => Ok(parsed.tbs_certificate.subject_pki.raw),
        Err(e) => Err(format!("its certificate cannot be read: {e}")),
    }
}

#[derive(Debug)]
enum Rule {
    Pin(String),
    Ca(Arc<WebPkiServerVerifier>),
    /// For [`probe_pin`] alone: nothing is sent after the handshake.
    Any,
}

#[derive(Debug)]
struct Verifier {
    rule: Rule,
    seen: Seen,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pin = pin_of(end_entity).map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
        self.seen.set(pin.clone());
        match &self.rule {
            Rule::Pin(expected) if *expected == pin => Ok(ServerCertVerified::assertion()),
            Rule::Pin(_) => Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)),
            Rule::Ca(inner) => inner.verify_server_cert(end_entity, intermediates, name, ocsp, now),
            Rule::Any => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let bad = |e| rustls::Error::InvalidCertificate(e);
        let spki = SubjectPublicKeyInfoDer::from(public_key(cert).map_err(|_| bad(CertificateError::BadEncoding))?);
        let entity = webpki::RawPublicKeyEntity::try_from(&spki).map_err(|_| bad(CertificateError::BadEncoding))?;
        let known = self.provider.signature_verification_algorithms.mapping;
        let (_, algorithms) = known
            .iter()
            .find(|(scheme, _)| *scheme == dss.scheme)
            .ok_or_else(|| bad(CertificateError::BadSignature))?;
        // In TLS 1.2 a scheme does not fix the curve: the key decides which algorithm fits.
        let fits = algorithms.iter().any(|a| entity.verify_signature(*a, message, dss.signature()).is_ok());
        if fits { Ok(HandshakeSignatureValid::assertion()) } else { Err(bad(CertificateError::BadSignature)) }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let bad = rustls::Error::InvalidCertificate(CertificateError::BadEncoding);
        let spki = SubjectPublicKeyInfoDer::from(public_key(cert).map_err(|_| bad)?);
        verify_tls13_signature_with_raw_key(message, &spki, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// One for all: a fleet has thousands of endpoints.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    Arc::clone(&PROVIDER)
}

/// The TLS configuration for one endpoint, and where its handshakes leave what they saw.
pub fn config(node: &str, trust: &Trust) -> Result<(ClientConfig, Seen), Failure> {
    let what = format!("{node}: trust its BMC");
    let provider = provider();
    let rule = match trust {
        Trust::Pin(pin) => {
            let digest = pin.strip_prefix("sha256:").unwrap_or_default();
            if digest.len() != 64 || !digest.bytes().all(|b| b.is_ascii_hexdigit()) {
                let why = format!("the pin `{}` is not `sha256:` with 64 hex digits", clean(pin));
                return Err(Failure::new(Cause::Untrusted, what, why).next(format!("rackctl bmc trust {node}")));
            }
            Rule::Pin(pin.to_ascii_lowercase())
        }
        Trust::Ca(path) => {
            let local = |why: String| Failure::new(Cause::Local, what.clone(), format!("{}: {why}", path.display()));
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_file_iter(path).map_err(|e| local(format!("{e:?}")))? {
                let certificate = certificate.map_err(|e| local(format!("{e:?}")))?;
                roots.add(certificate).map_err(|e| local(e.to_string()))?;
            }
            if roots.is_empty() {
                return Err(local("no certificate in it".into()));
            }
            let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
            Rule::Ca(built.map_err(|e| local(e.to_string()))?)
        }
        Trust::None => {
            let why = "no pin and no CA is set for this BMC, so no password is sent to it";
            return Err(Failure::new(Cause::Untrusted, what, why).next(format!("rackctl bmc trust {node}")));
        }
    };
    let seen = Seen::default();
    Ok((build(rule, seen.clone(), provider).map_err(|e| Failure::new(Cause::Local, what, e.to_string()))?, seen))
}

fn build(rule: Rule, seen: Seen, provider: Arc<CryptoProvider>) -> Result<ClientConfig, rustls::Error> {
    let verifier = Arc::new(Verifier { rule, seen, provider: provider.clone() });
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(config)
}

/// The pin that a BMC shows now, for `bmc trust`: a person compares it. The peer proves that it holds the key.
/// `base_url`: `https://HOST[:PORT]`.
pub async fn probe_pin(base_url: &str) -> Result<String, Failure> {
    let what = format!("{}: read the public key", clean(base_url));
    let fail = |cause, why: String| Failure::new(cause, what.clone(), why);
    let url: Url = base_url.parse().map_err(|e| fail(Cause::Local, format!("no URL: {e}")))?;
    let host = url.host_str().filter(|_| url.scheme() == "https");
    let host = host.ok_or_else(|| fail(Cause::Local, "not of the form https://HOST[:PORT]".into()))?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host.clone()).map_err(|e| fail(Cause::Local, e.to_string()))?;
    let seen = Seen::default();
    let provider = provider();
    let config = build(Rule::Any, seen.clone(), provider).map_err(|e| fail(Cause::Local, e.to_string()))?;
    let limit = std::time::Duration::from_secs(PROBE_SECONDS);
    let late = |step: &str| fail(Cause::Unreachable, format!("no {step} within {PROBE_SECONDS} s"));
    let connect = tokio::net::TcpStream::connect((host, url.port().unwrap_or(443)));
    let stream = tokio::time::timeout(limit, connect).await.map_err(|_| late("connection"))?;
    let stream = stream.map_err(|e| fail(Cause::Unreachable, e.to_string()))?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let shaken =
        tokio::time::timeout(limit, connector.connect(name, stream)).await.map_err(|_| late("TLS handshake"))?;
    if let Err(e) = shaken {
        return Err(match find(&e) {
            Some(fault) => fail(Cause::Refused, explained(fault, &url).await),
            None => fail(Cause::Unreachable, e.to_string()),
        });
    }
    seen.pin().ok_or_else(|| fail(Cause::Malformed, "the handshake showed no certificate".into()))
}

/// Whether the two have no TLS in common: what the other side has is worth asking then.
pub fn nothing_in_common(error: &rustls::Error) -> bool {
    use rustls::{AlertDescription as Alert, Error};
    matches!(
        error,
        Error::PeerIncompatible(_)
            | Error::AlertReceived(Alert::ProtocolVersion | Alert::HandshakeFailure | Alert::InsufficientSecurity)
    )
}

/// What TLS the BMC chooses when it may choose freely, asked with a hello that takes anything. No handshake follows,
/// and nothing is sent but the hello. `None`: it does not say.
pub async fn probe_offer(url: &Url) -> Option<Offer> {
    let limit = std::time::Duration::from_secs(PROBE_SECONDS);
    let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_owned();
    let asked = async {
        let mut stream = tokio::net::TcpStream::connect((host, url.port().unwrap_or(443))).await.ok()?;
        let mut random = [0; 32];
        SystemRandom::new().fill(&mut random).ok()?;
        stream.write_all(&tls_offer::hello(random)).await.ok()?;
        let mut bytes = Vec::new();
        while !tls_offer::complete(&bytes) {
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                break;
            }
        }
        tls_offer::answer(&bytes)
    };
    tokio::time::timeout(limit, asked).await.ok()?
}

/// The rustls error inside of a chain, if TLS is what failed.
pub fn find<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut at = Some(error);
    // An io::Error does not show what it wraps as its source: it has to be opened by hand.
    while let Some(error) = at {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        at = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// What a TLS error means for the person who has to mend it.
pub fn explain(error: &rustls::Error) -> String {
    use rustls::{AlertDescription as Alert, Error, PeerIncompatible as Peer};
    match error {
        Error::AlertReceived(Alert::ProtocolVersion)
        | Error::PeerIncompatible(Peer::ServerDoesNotSupportTls12Or13 | Peer::ServerTlsVersionIsDisabledByOurConfig) => {
            "the BMC offers neither TLS 1.2 nor TLS 1.3 (older versions are refused)".to_owned()
        }
        Error::AlertReceived(Alert::HandshakeFailure | Alert::InsufficientSecurity) => {
            "no cipher suite in common: the BMC offers only RSA key exchange, CBC or DHE, or a curve that is not \
             supported (needed: TLS 1.3, or TLS 1.2 with ECDHE and GCM or ChaCha20)"
                .to_owned()
        }
        Error::PeerIncompatible(reason) => format!("its TLS is not compatible: {reason:?}"),
        Error::InvalidMessage(reason) => format!("it does not speak TLS there ({reason:?}): is the port right?"),
        Error::InvalidCertificate(CertificateError::BadSignature) => {
            "it does not hold the key of the certificate that it shows, or signs with one of less than 2048 bits RSA"
                .to_owned()
        }
        Error::InvalidCertificate(reason) => format!("its certificate is not accepted: {reason}"),
        other => clean(&other.to_string()),
    }
}

/// As [`explain`], and what it offers where the two have nothing in common.
pub async fn explained(error: &rustls::Error, url: &Url) -> String {
    let why = explain(error);
    if !nothing_in_common(error) {
        return why;
    }
    let offers = probe_offer(url).await.map_or_else(String::new, |offer| format!(". It chose {offer}"));
    format!("{why}{offers}. Update its firmware, or give the node an `ipmi:` endpoint")
}

/// The failure for a connection that did not come about: both fingerprints where the pin is what differs.
pub async fn untrusted(
    node: &str,
    what: &str,
    trust: &Trust,
    seen: &Seen,
    error: &rustls::Error,
    url: &Url,
) -> Failure {
    let command = format!("rackctl bmc trust {node}");
    match (trust, seen.pin()) {
        (Trust::Pin(expected), Some(pin)) if !expected.eq_ignore_ascii_case(&pin) => {
            let why = format!(
                "its public key has changed: expected {}, seen {pin}. No password was sent. Trust the new key only if \
                 the BMC or its certificate was really replaced",
                clean(expected)
            );
            // Without the key that was just seen: pasted, it would pin whoever answers. The verb shows it and asks.
            Failure::new(Cause::Untrusted, what, why).next(command)
        }
        (Trust::Ca(_), Some(pin)) => {
            let why = format!("{} (its public key is {pin})", explain(error));
            Failure::new(Cause::Untrusted, what, why).next(command)
        }
        _ if matches!(error, rustls::Error::InvalidCertificate(_)) => {
            Failure::new(Cause::Untrusted, what, explain(error))
        }
        _ => Failure::new(Cause::Refused, what, explained(error, url).await),
    }
}
