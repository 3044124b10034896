//! Several endpoints of one cluster, asked in turn until one answers or time is up.
//!
//! Every request that goes through here may be carried out twice: an answer that is lost on its way is asked for
//! again. So each is one that can be repeated: a read, a lease under an id of our own, or a transaction whose
//! compares fail once it has been carried out. The caller is told when that may have happened.

use std::{
    future::Future,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    client::Client,
    error::{Fault, Kind},
    tls_load::Files,
};
use crate::model::{Failure, Secret, failure::Cause};

/// For one try at one endpoint.
pub const TRY_DEADLINE: Duration = Duration::from_secs(3);
/// After this no further try is begun.
pub const TRIES_DEADLINE: Duration = Duration::from_secs(8);
/// Between two rounds over all endpoints.
const PAUSE: Duration = Duration::from_millis(100);
/// Endpoints of one cluster.
pub const ENDPOINTS_MAX: usize = 16;

pub struct Login {
    pub user: String,
    pub password: Secret,
}

pub struct Pool {
    clients: Vec<Client>,
    /// The one that answered last.
    preferred: AtomicUsize,
    login: Option<Login>,
    token: Mutex<Option<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    pub value: T,
    /// An earlier try of the same request may have been carried out.
    pub repeated: bool,
}

/// Nobody answered as was hoped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unanswered {
    pub fault: Fault,
    /// A try may have been carried out all the same.
    pub unknown: bool,
}

impl Unanswered {
    pub fn failure(&self, what: &str) -> Failure {
        let mut failure = self.fault.failure(what);
        if self.unknown {
            failure.why.push_str("; whether it was carried out is not known");
        }
        failure
    }
}

impl Pool {
    pub fn new(endpoints: &[String], files: &Files, login: Option<Login>) -> Result<Pool, Failure> {
        if endpoints.is_empty() || endpoints.len() > ENDPOINTS_MAX {
            let why = format!("{} endpoints, there must be 1 to {ENDPOINTS_MAX}", endpoints.len());
            return Err(Failure::new(Cause::Local, "make an HTTP client for etcd", why));
        }
        let clients = endpoints.iter().map(|at| Client::with(at, TRY_DEADLINE, files)).collect::<Result<_, _>>()?;
        Ok(Pool { clients, preferred: AtomicUsize::new(0), login, token: Mutex::new(None) })
    }

    pub async fn call<T, F>(&self, ask: impl Fn(Client) -> F + Send) -> Result<Answer<T>, Unanswered>
    where
        F: Future<Output = Result<T, Fault>> + Send,
    {
        let began = Instant::now();
        let first = self.preferred.load(Ordering::Relaxed);
        let mut unknown = false;
        let mut said: Option<Fault> = None;
        loop {
            for step in 0..self.clients.len() {
                let at = (first + step) % self.clients.len();
                let fault = match self.ask_one(&self.clients[at], &ask).await {
                    Ok(value) => {
                        self.preferred.store(at, Ordering::Relaxed);
                        return Ok(Answer { value, repeated: unknown });
                    }
                    Err(fault) => fault,
                };
                unknown |= fault.is_unknown() || matches!(fault, Fault::Malformed(_));
                if !worth_another_endpoint(&fault) {
                    return Err(Unanswered { fault, unknown });
                }
                // "No quorum" from a member that answers says more than silence from one that does not.
                if said.as_ref().is_none_or(|s| s.kind().is_none()) || fault.kind().is_some() {
                    said = Some(fault);
                }
                if began.elapsed() >= TRIES_DEADLINE {
                    break;
                }
            }
            if began.elapsed() + PAUSE >= TRIES_DEADLINE {
                let fault = said.unwrap_or(Fault::Unreachable("no endpoint is known".into()));
                return Err(Unanswered { fault, unknown });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn ask_one<T, F>(&self, client: &Client, ask: &(impl Fn(Client) -> F + Send)) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>> + Send,
    {
        let Some(login) = &self.login else { return ask(client.clone()).await };
        let known = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(token) = known {
            match ask(client.with_token(&token)).await {
                Err(fault) if fault.kind() == Some(Kind::TokenExpired) => {}
                answer => return answer,
            }
        }
        let token = client.authenticate(&login.user, &login.password).await?;
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
        ask(client.with_token(&token)).await
    }
}

fn worth_another_endpoint(fault: &Fault) -> bool {
    fault.is_transient() || matches!(fault, Fault::Malformed(_) | Fault::Etcd(Kind::LearnerUnsupported, _))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(n: usize) -> Pool {
        let endpoints: Vec<String> = (0..n).map(|i| format!("http://127.0.0.1:{}", 1 + i)).collect();
        Pool::new(&endpoints, &Files::default(), None).unwrap()
    }

    #[tokio::test]
    async fn the_next_endpoint_is_asked_and_kept_and_a_lost_answer_is_told() {
        let pool = pool(3);
        let ask = |client: Client| async move {
            match client.endpoint() {
                "http://127.0.0.1:1" => Err(Fault::NotListening("no".into())),
                "http://127.0.0.1:2" => Err(Fault::Deadline(TRY_DEADLINE)),
                at => Ok(at.to_owned()),
            }
        };
        let answer = pool.call(ask).await.unwrap();
        assert_eq!(answer, Answer { value: "http://127.0.0.1:3".into(), repeated: true });
        assert!(!pool.call(ask).await.unwrap().repeated, "the one that answered is asked first");
    }

    #[tokio::test]
    async fn a_refusal_is_final() {
        let refused = pool(2)
            .call(|_| async {
                Err::<(), _>(Fault::Etcd(Kind::Other, "etcdserver: mvcc: database space exceeded".into()))
            })
            .await
            .unwrap_err();
        assert!(!refused.unknown);
        assert_eq!(refused.failure("put").cause, Cause::Refused);
    }

    #[test]
    fn endpoints_have_a_limit() {
        assert!(Pool::new(&[], &Files::default(), None).is_err());
        assert!(Pool::new(&vec!["http://127.0.0.1:1".into(); ENDPOINTS_MAX + 1], &Files::default(), None).is_err());
    }
}
