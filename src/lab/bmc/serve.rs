//! The listener: TLS, then HTTP/1.1, bounded.

use std::{future::Future, sync::Arc, time::Duration};

use hyper::{
    header::{CONNECTION, HeaderValue},
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};
use tokio_rustls::TlsAcceptor;

use super::{Bmc, answer, chassis::Chassis, spoil};

/// Connections at a time: more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 32;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// After an accept that failed (no more file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown` is there; open connections end with it.
pub async fn serve<C: Chassis>(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    bmc: Arc<Bmc<C>>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let router = answer::router(bmc.clone());
    let mut tasks = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        while tasks.try_join_next().is_some() {}
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let stream = tokio::select! {
            _ = &mut shutdown => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        // A certificate that was replaced serves from the next connection on.
        let acceptor = TlsAcceptor::from(bmc.replaced_tls().unwrap_or_else(|| tls.clone()));
        let inner = TowerToHyperService::new(router.clone());
        let (bmc, served) = (bmc.clone(), bmc.replaced_pin());
        let service = service_fn(move |request| {
            // Its web server starts anew with a new certificate: connections under the old one end.
            let over = bmc.replaced_pin() != served;
            let answering = (!over).then(|| inner.call(request));
            let (bmc, served) = (bmc.clone(), served.clone());
            async move {
                let Some(answering) = answering else { return Err(std::io::Error::other("served anew")) };
                let Ok(mut response) = answering.await;
                if bmc.replaced_pin() != served {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                // An answer that is to be lost: an error here closes the connection before a byte of it is sent.
                let lost = response.extensions().get::<spoil::Lost>().is_some();
                if lost { Err(std::io::Error::other("answer lost on purpose")) } else { Ok(response) }
            }
        });
        tasks.spawn(async move {
            let _slot = slot;
            let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await else { return };
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
            // How a client ends its connection is its own business.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
