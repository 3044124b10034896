//! The listeners of all members, and the handle to their world.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener as StdListener},
    os::fd::AsRawFd as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, State},
    http::{Response, StatusCode, Uri, header::CONTENT_TYPE},
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rackctl_wire::EtcdMember;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};

use super::{
    answer::Answer,
    world::{Timing, World},
};

/// Connections to one member at a time: more wait in the listener's queue.
const CONNECTIONS_MAX: usize = 64;
const BODY_MAX_BYTES: usize = 2 << 20;
const HEADER_DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks of a call that waits for a quorum.
const LOOK: Duration = Duration::from_millis(10);
/// After an accept that failed (no more file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// All simulated clusters of a laboratory. Clones share them; the listeners end with the last one.
#[derive(Clone, Debug)]
pub struct Cloud(Arc<Inside>);

#[derive(Debug)]
struct Inside {
    began: Instant,
    timing: Timing,
    world: Mutex<World>,
    doors: Mutex<BTreeMap<String, Door>>,
}

/// The listener of a member: closed when dropped.
#[derive(Debug)]
struct Door {
    listener: StdListener,
    closed: watch::Sender<bool>,
}

impl Drop for Door {
    fn drop(&mut self) {
        // At once, not when its task comes to it: who restarts the member finds the port free.
        let _ = nix::sys::socket::shutdown(self.listener.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        let _ = self.closed.send(true);
    }
}

impl Default for Cloud {
    fn default() -> Self {
        Cloud::new(Timing::default())
    }
}

impl Cloud {
    pub fn new(timing: Timing) -> Cloud {
        let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        let world = Mutex::new(World::new(timing, unix_ms));
        Cloud(Arc::new(Inside { began: Instant::now(), timing, world, doors: Mutex::default() }))
    }

    /// Starts the member of node `member.name`, its gateway on `listen`; a Tokio runtime must be running.
    /// An error is what etcd would have written last: it has ended.
    pub fn start(&self, member: &EtcdMember, listen: SocketAddr) -> Result<(), String> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|e| e.to_string())?;
        if self.running(&member.name) {
            return Err(format!("{}: its member runs already", member.name));
        }
        let bind = |e: std::io::Error| format!("listen tcp {listen}: bind: {e}");
        let listener = StdListener::bind(listen).map_err(bind)?;
        listener.set_nonblocking(true).map_err(bind)?;
        let accepting = listener.try_clone().map_err(bind)?;
        let (closed, closing) = watch::channel(false);
        let door = Door { listener, closed };
        self.look(|world, now| world.start(now, member))?;
        let asked = Asked { inside: Arc::downgrade(&self.0), node: member.name.clone() };
        lock(&self.0.doors).insert(member.name.clone(), door);
        runtime.spawn(serve(accepting, asked, closing));
        Ok(())
    }

    /// The process ends as if killed; its data stays. No member, nothing to do.
    pub fn stop(&self, node: &str) {
        self.look(|world, now| world.stop(now, node));
    }

    pub fn running(&self, node: &str) -> bool {
        self.look(|world, now| world.running(now, node))
    }

    /// Ends the process and erases the node's data directories: its disk was wiped.
    pub fn wipe(&self, node: &str) {
        self.look(|world, now| world.wipe(now, node));
    }

    /// Why its last process ended by itself; `None` while one runs, and after a stop.
    pub fn last_exit(&self, node: &str) -> Option<String> {
        self.look(|world, _| world.last_exit(node).map(str::to_string))
    }

    /// Whether the node's data directory for this token holds anything.
    pub fn has_data(&self, node: &str, token: &str) -> bool {
        self.look(|world, _| world.has_data(node, token))
    }

    fn look<T>(&self, call: impl FnOnce(&mut World, u64) -> T) -> T {
        self.0.look(call)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inside {
    fn look<T>(&self, call: impl FnOnce(&mut World, u64) -> T) -> T {
        let now = self.began.elapsed().as_millis() as u64;
        let mut world = lock(&self.world);
        let result = call(&mut world, now);
        // Whoever has ended by now does not listen any more.
        let live: Vec<&str> = world.live().collect();
        lock(&self.doors).retain(|node, _| live.contains(&node.as_str()));
        result
    }
}

#[derive(Clone, Debug)]
struct Asked {
    /// Weak: the listeners do not keep the world.
    inside: std::sync::Weak<Inside>,
    node: String,
}

async fn serve(listener: StdListener, asked: Asked, mut closing: watch::Receiver<bool>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let router =
        Router::new().fallback(answer).layer(DefaultBodyLimit::max(BODY_MAX_BYTES)).with_state(Arc::new(asked));
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let stream = tokio::select! {
            _ = closing.changed() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) if *closing.borrow() => return,
                Err(_) => {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let service = TowerToHyperService::new(router.clone());
        let mut closing = closing.clone();
        tokio::spawn(async move {
            let _slot = slot;
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEADER_DEADLINE);
            tokio::select! {
                _ = closing.changed() => {}
                // How a client ends its connection is its own business.
                _ = http.serve_connection(TokioIo::new(stream), service) => {}
            }
        });
    }
}

async fn answer(State(asked): State<Arc<Asked>>, uri: Uri, body: Bytes) -> Response<Body> {
    let began = Instant::now();
    loop {
        let Some(inside) = asked.inside.upgrade() else { return gone().await };
        let patience = Duration::from_millis(inside.timing.request_ms);
        let mut said = inside.look(|world, now| world.answer(now, &asked.node, uri.path(), &body));
        drop(inside);
        if let Answer::Wait(at_last) = said {
            if began.elapsed() < patience {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            said = *at_last;
        }
        return match said {
            Answer::Json { status, body } => json(status, body.to_string()),
            Answer::NotFound => json(404, "Not Found\n".into()),
            Answer::Gone | Answer::Wait(_) => gone().await,
        };
    }
}

/// A process that has ended says nothing: the connection is cut from outside.
async fn gone() -> Response<Body> {
    std::future::pending().await
}

fn json(status: u16, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, axum::http::HeaderValue::from_static("application/json"));
    response
}
