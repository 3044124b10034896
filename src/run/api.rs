//! The provisioning API: HTTPS with our own key, claims and reports alone.

use std::{convert::Infallible, net::SocketAddrV4, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, header::AUTHORIZATION},
    response::{IntoResponse, Response},
    routing::post,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use rackctl_wire::{ApiError, BODY_MAX_BYTES, Claim, Directive, Report};
use tokio::{net::TcpListener, sync::Semaphore};

use super::{World, clock, desk::Verdict};
use crate::{
    model::{Failure, failure::Cause},
    store::{Draft, RecordKind},
};

/// Machines that talk to us at once, at most; the rest wait for their turn.
const CONNECTIONS_MAX: usize = 512;
/// For a handshake, and for a request's head.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// A connection without a request is closed.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(3_600);

pub async fn listen(at: SocketAddrV4) -> Result<TcpListener, Failure> {
    TcpListener::bind(at).await.map_err(|e| {
        Failure::new(Cause::Local, format!("listen for claims on {at}"), e.to_string())
            .next("rackctl doctor".to_owned())
    })
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, tls: Arc<rustls::ServerConfig>, world: Arc<World>) {
    let router = Router::new()
        .route("/v1/claim", post(claim))
        .route("/v1/report", post(report))
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .with_state(world);
    let acceptor = tokio_rustls::TlsAcceptor::from(tls);
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let (acceptor, router) = (acceptor.clone(), router.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let Ok(Ok(stream)) = tokio::time::timeout(HEAD_DEADLINE, acceptor.accept(stream)).await else { return };
            let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let router = router.clone();
                async move {
                    let answer = tower_call(router, request).await;
                    Ok::<_, Infallible>(answer)
                }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_DEADLINE)
                .serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(CONNECTION_DEADLINE, connection).await;
        });
    }
}

async fn tower_call(router: Router, request: hyper::Request<hyper::body::Incoming>) -> Response {
    use hyper_util::service::TowerToHyperService;
    let service = TowerToHyperService::new(router);
    match hyper::service::Service::call(&service, request.map(axum::body::Body::new)).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

fn refuse(status: u16, error: ApiError) -> Response {
    (StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), Json(error)).into_response()
}

fn malformed(error: &serde_json::Error) -> Response {
    refuse(400, ApiError { kind: "malformed".into(), message: error.to_string() })
}

async fn claim(State(world): State<Arc<World>>, body: Bytes) -> Response {
    let claim: Claim = match serde_json::from_slice(&body) {
        Ok(claim) => claim,
        Err(error) => return malformed(&error),
    };
    let mut desk = world.desk();
    let verdict = desk.claim(&world.fleet, &world.keys, &claim, clock::since_boot(), clock::unix_ms() / 1_000);
    match verdict {
        Verdict::Refused { status, error } => {
            drop(desk);
            world.desk_changed.notify_waiters();
            refuse(status, error)
        }
        Verdict::Granted { answer, first } => {
            if first {
                // Durable before it is answered: after a crash the same boot must be known again.
                let mut kept = claim.clone();
                kept.token = String::new();
                let draft = Draft {
                    subject: claim.node.clone(),
                    step: format!("{}/await-claim", claim.node),
                    attempt: 1,
                    kind: RecordKind::Fact,
                    body: serde_json::json!({ "claim": kept }),
                };
                if let Err(error) = world.append(draft) {
                    return refuse(503, ApiError { kind: "store".into(), message: error.to_string() });
                }
                desk.granted(claim);
            }
            drop(desk);
            world.desk_changed.notify_waiters();
            Json(answer).into_response()
        }
    }
}

async fn report(State(world): State<Arc<World>>, headers: HeaderMap, body: Bytes) -> Response {
    let report: Report = match serde_json::from_slice(&body) {
        Ok(report) => report,
        Err(error) => return malformed(&error),
    };
    let bearer = headers
        .get(AUTHORIZATION)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.strip_prefix("Bearer "))
        .unwrap_or_default()
        .to_owned();
    let answer = world.desk().report(&world.keys, &bearer, report, clock::since_boot());
    world.desk_changed.notify_waiters();
    match answer {
        Ok(directive) => {
            if matches!(directive, Directive::Write(_) | Directive::Reboot)
                && let Err(error) = world.renew()
            {
                // The true fence: a ticket leaves only while the locks are ours, in the store, now.
                return refuse(503, ApiError { kind: "fenced".into(), message: error.to_string() });
            }
            Json(directive).into_response()
        }
        Err((status, error)) => refuse(status, error),
    }
}
