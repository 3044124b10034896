//! The pin proves the key only because the handshake's signature is checked: in TLS 1.2 by code of ours.

use rustls::{
    ServerConfig, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};

use super::*;
use crate::{bmc::tls::probe_pin, model::failure::Cause};

#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// A BMC that shows one certificate and signs with the key of another.
async fn server(
    shown: &Certificate,
    key: &Certificate,
    version: &'static SupportedProtocolVersion,
) -> (String, tokio::task::JoinHandle<()>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = vec![CertificateDer::from_pem_slice(shown.cert_pem.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.key_pem.expose().as_bytes()).unwrap();
    let certified = CertifiedKey::new(chain, provider.key_provider.load_private_key(key).unwrap());
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    let config = builder.with_no_client_auth().with_cert_resolver(Arc::new(Always(Arc::new(certified))));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let account = Account { user: "root".into(), password: Secret::new(PASSWORD.into()) };
    let bmc = Bmc::new(FakeChassis::new(description()), account, quick());
    (url, tokio::spawn(serve(listener, Arc::new(config), bmc, std::future::pending())))
}

// fault: F13 invariant: I17 harness: P
#[tokio::test]
async fn a_stolen_certificate_without_its_key_is_refused() {
    let options = || Options {
        read_only: true,
        deadline: Duration::from_secs(5),
        ledger: Arc::new(crate::bmc::NoLedger),
        observer: None,
        gate: None,
    };
    let (own, other) = (certificate("own", None).unwrap(), certificate("other", None).unwrap());
    for version in [&TLS12, &TLS13] {
        for (key, honest) in [(&own, true), (&other, false)] {
            let (url, task) = server(&own, key, version).await;
            let node = node("n1", url.clone(), Trust::Pin(own.pin.clone()));
            match Client::open(&node, &passwords(PASSWORD), options()).await {
                Ok(client) => assert!(honest && client.close().await.is_ok(), "{version:?}"),
                Err(failure) => {
                    assert!(!honest && failure.cause == Cause::Untrusted, "{version:?}: {failure}");
                    assert!(failure.why.contains("does not hold the key"), "{failure}");
                }
            }
            assert_eq!(probe_pin(&url).await.ok(), honest.then(|| own.pin.clone()), "{version:?}");
            task.abort();
        }
    }
}
