//! The one place where requests leave: guards, limits, credentials and the observer are here and nowhere else.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::{Duration, Instant},
};

use reqwest::{Method, Url, header};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::{
    Gate, Login, Observer, Options, RequestLine, SessionLedger, session,
    upload::{Frame, Upload},
};
use crate::{
    bmc::{
        link,
        proof::Proof,
        redfish::{
            json::{self, MAX_BODY_BYTES, clean},
            wire::ErrorBody,
        },
        tls,
    },
    model::{Failure, Secret, failure::Cause, fleet::Trust},
};

/// Requests under way in one BMC at a time.
const MAX_UNDER_WAY: usize = 2;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// One request with its answer. The slowest real answers seen took 23 s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// An image on its way: 512 MiB over a slow management network.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(1_800);
/// How often a "later" (503, 429) is believed.
const BUSY_TRIES: u32 = 4;
/// The longest Retry-After that is waited for at once.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(20);
/// Id of the message that a password must be changed before anything else.
const MUST_CHANGE: &str = "PasswordChangeRequired";
/// Branches that could not be read and are told by name.
const MAX_UNREAD: usize = 32;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::bmc) enum Purpose {
    /// Log-in and log-out: allowed in read-only mode, never answered by another log-in.
    Session,
    Resource,
}

pub(in crate::bmc) struct Request {
    pub method: Method,
    pub path: String,
    pub body: Option<Value>,
    pub if_match: Option<String>,
    pub purpose: Purpose,
    /// Ask again after "later": not for a reset, whose effect is looked at first.
    pub patient: bool,
    /// Instead of `body`.
    pub upload: Option<Upload>,
}

impl Request {
    pub fn get(path: &str) -> Request {
        Request {
            method: Method::GET,
            path: path.to_owned(),
            body: None,
            if_match: None,
            purpose: Purpose::Resource,
            patient: true,
            upload: None,
        }
    }
}

pub(super) struct Answer {
    pub status: u16,
    pub body: Value,
    pub etag: Option<String>,
    pub location: Option<String>,
    pub token: Option<Secret>,
    /// A 401 names Basic among the ways to show a credential (RFC 9110 11.6.1).
    pub takes_basic: bool,
    retry_after: Option<Duration>,
}

impl Answer {
    pub fn ok(&self) -> bool {
        (200..300).contains(&self.status)
    }
    pub fn error(&self) -> ErrorBody {
        super::parsed(self.body.clone())
    }
    /// The password is right, and nothing is done for it until it is changed (DSP0266, password management).
    pub fn wants_new_password(&self) -> bool {
        self.status == 403 && self.error().says(MUST_CHANGE)
    }
    /// `400: PropertyUnknown …`
    pub fn told(&self) -> String {
        match self.error().summary() {
            Some(text) => format!("HTTP {}: {text}", self.status),
            None => format!("HTTP {}", self.status),
        }
    }
}

pub(super) enum Auth {
    Anonymous,
    Basic,
    /// `proven`: it has worked at least once, so a 401 means that the session ended, not that the password is wrong.
    Token {
        token: Arc<Secret>,
        uri: String,
        proven: bool,
    },
}

pub(super) struct Wire {
    pub node: String,
    pub base: Url,
    pub username: String,
    pub password: Arc<Secret>,
    pub proof: Arc<Proof>,
    pub ledger: Arc<dyn SessionLedger>,
    http: reqwest::Client,
    trust: Trust,
    seen: tls::Seen,
    auth: Mutex<Auth>,
    /// Held while logging in again, so that two answered requests do not open two sessions.
    pub relogin: tokio::sync::Mutex<()>,
    /// The service root's link to the sessions, once read.
    pub sessions: Mutex<Option<String>>,
    slots: Semaphore,
    read_only: bool,
    gate: Option<Arc<Gate>>,
    /// Of the lease, when this log-in was begun: with the look that led to it.
    lapses: u64,
    observer: Option<Observer>,
    /// Branches that were there and could not be read, with what the BMC said to it.
    unread: Mutex<BTreeMap<String, String>>,
    /// The password must be changed first: where the account is, as the BMC says with its refusals.
    must_change: Mutex<Option<Vec<String>>>,
    /// The last log-in was turned away for the account's sake: it says nothing of the password.
    pub turned_away: AtomicBool,
}

impl Wire {
    pub fn new(node: &str, url: &str, trust: &Trust, login: &Login, options: &Options) -> Result<Wire, Failure> {
        let what = format!("{node}: connect to its BMC");
        let local = |why: String| Failure::new(Cause::Local, what.clone(), why);
        let base: Url = url.parse().map_err(|e| local(format!("`{}` is no URL: {e}", clean(url))))?;
        if base.scheme() != "https" || base.host_str().is_none() {
            return Err(local(format!("`{}` is not of the form https://HOST[:PORT]", clean(url))));
        }
        let (config, seen) = tls::config(node, trust)?;
        let http = reqwest::Client::builder()
            .use_preconfigured_tls(config)
            .redirect(reqwest::redirect::Policy::none())
            // A BMC stands in the management network: a proxy from the environment would get the password.
            .no_proxy()
            .http1_only()
            .pool_max_idle_per_host(MAX_UNDER_WAY)
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("rackctl/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| local(e.to_string()))?;
        Ok(Wire {
            node: node.to_owned(),
            base,
            username: login.username.clone(),
            password: login.password.clone(),
            proof: login.proof.clone(),
            ledger: options.ledger.clone(),
            http,
            trust: trust.clone(),
            seen,
            auth: Mutex::new(Auth::Anonymous),
            relogin: tokio::sync::Mutex::new(()),
            sessions: Mutex::new(None),
            slots: Semaphore::new(MAX_UNDER_WAY),
            read_only: options.read_only,
            gate: options.gate.clone(),
            lapses: options.gate.as_ref().map_or(0, |gate| gate.lapses()),
            observer: options.observer.clone(),
            unread: Mutex::default(),
            must_change: Mutex::default(),
            turned_away: AtomicBool::new(false),
        })
    }

    fn auth(&self) -> std::sync::MutexGuard<'_, Auth> {
        self.auth.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub fn set_auth(&self, auth: Auth) {
        *self.auth() = auth;
    }
    pub fn session_uri(&self) -> Option<String> {
        match &*self.auth() {
            Auth::Token { uri, .. } => Some(uri.clone()),
            _ => None,
        }
    }
    /// The token in use, and whether it has worked already.
    fn token(&self) -> Option<(Arc<Secret>, bool)> {
        match &*self.auth() {
            Auth::Token { token, proven, .. } => Some((token.clone(), *proven)),
            _ => None,
        }
    }

    /// Whether this very token is still the one in use.
    pub fn holds(&self, token: &Arc<Secret>) -> bool {
        self.token().is_some_and(|(held, _)| Arc::ptr_eq(&held, token))
    }

    /// Sends, and asks again where the BMC says "later" or where the session has ended. Any status is an answer.
    pub async fn send(&self, request: &Request) -> Result<Answer, Failure> {
        let (mut tries, mut again) = (0, false);
        loop {
            tries += 1;
            let token = self.token();
            let answer = self.once(request).await?;
            if answer.wants_new_password() {
                *self.must_change.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(answer.error().args_of(MUST_CHANGE));
            }
            if answer.status == 401
                && request.purpose == Purpose::Resource
                && !again
                && let Some((token, true)) = token
            {
                again = true;
                // Worked before, works no more: the session timed out or the BMC restarted. The new token is unproven,
                // so a second 401 ends it: no password is ever tried twice in a row.
                Box::pin(session::enter_again(self, &token)).await?;
                continue;
            }
            let later = matches!(answer.status, 503 | 429) && request.patient && tries < BUSY_TRIES;
            if !later {
                return Ok(answer);
            }
            let pause = answer.retry_after.unwrap_or(Duration::from_secs(1 << tries.min(4)));
            tokio::time::sleep(pause.min(MAX_RETRY_AFTER)).await;
        }
    }

    /// As [`Wire::send`], and a status that is no success is a failure.
    pub async fn ask(&self, request: &Request) -> Result<Answer, Failure> {
        let answer = self.send(request).await?;
        if answer.ok() { Ok(answer) } else { Err(self.refusal(request, &answer)) }
    }

    pub fn what(&self, request: &Request) -> String {
        format!("{}: {} {}", self.node, request.method, clean(&request.path))
    }

    /// Whether the BMC has taken the log-in: from then on a 403 is about what was asked for, not about who asks.
    fn is_known(&self) -> bool {
        match &*self.auth() {
            Auth::Anonymous => false,
            Auth::Basic => self.proof.accepted(),
            Auth::Token { .. } => true,
        }
    }

    /// The failure that a status stands for.
    pub fn refusal(&self, request: &Request, answer: &Answer) -> Failure {
        let told = answer.told();
        let user = clean(&self.username);
        let log_in = request.purpose == Purpose::Session && request.method == Method::POST;
        if answer.wants_new_password() {
            let why = format!("the password of `{user}` is right and must be changed before anything else ({told})");
            return Failure::new(Cause::Unauthorized, self.what(request), why)
                .next(format!("rackctl bmc users {} --set-password {user}", self.node));
        }
        let cause = match answer.status {
            401 => Cause::Unauthorized,
            403 if log_in || !self.is_known() => Cause::Unauthorized,
            503 | 429 => Cause::Busy,
            _ => Cause::Refused,
        };
        let why = match answer.status {
            300..=399 => format!("{told}: redirects of a BMC are not followed"),
            401 => {
                format!("the BMC refuses user `{user}` ({told}); the password is not tried again")
            }
            403 if cause == Cause::Unauthorized => {
                format!("the BMC turns user `{user}` away: the account is locked, expired or may not log in ({told})")
            }
            403 => format!("user `{user}` may not do this ({told})"),
            _ => told,
        };
        let failure = Failure::new(cause, self.what(request), why);
        match answer.status {
            300..=399 => {
                failure.next(format!("put the address that its BMC is reached at into the manifest of {}", self.node))
            }
            403 => failure.next(format!("rackctl bmc users {}", self.node)),
            _ => failure,
        }
    }

    /// Set once the BMC has said that the password must be changed: paths of the account, as far as it names them.
    pub fn must_change(&self) -> Option<Vec<String>> {
        self.must_change.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn unread_now(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a look was answered with. A 404 says that there is no such thing; a 403 or a 500 does not.
    pub fn note_read(&self, request: &Request, answer: &Answer) {
        let plain = !request.path.contains('?');
        match answer.status {
            200..300 => drop(self.unread_now().remove(&request.path)),
            403 | 500 | 502 | 504.. if plain && !answer.wants_new_password() => {
                let mut unread = self.unread_now();
                if unread.len() < MAX_UNREAD || unread.contains_key(&request.path) {
                    unread.insert(request.path.clone(), self.refusal(request, answer).why);
                }
            }
            _ => {}
        }
    }

    /// `/redfish/v1/Chassis: user `root` may not do this (HTTP 403)`, in the order of paths.
    pub fn unread(&self) -> Vec<String> {
        self.unread_now().iter().map(|(path, why)| format!("{}: {why}", clean(path))).collect()
    }

    async fn once(&self, request: &Request) -> Result<Answer, Failure> {
        let what = || self.what(request);
        if self.read_only && request.method != Method::GET && request.purpose != Purpose::Session {
            return Err(Failure::new(Cause::Guard, what(), "this run may only read: the request was not sent"));
        }
        let url =
            link::resolve(&self.base, &request.path).map_err(|why| Failure::new(Cause::Malformed, what(), why))?;
        let _slot = self.slots.acquire().await.map_err(|e| Failure::new(Cause::Local, what(), e.to_string()))?;
        // After the wait for a slot: this is the last moment before it leaves.
        if let Some(gate) =
            self.gate.as_ref().filter(|_| request.method != Method::GET && request.purpose != Purpose::Session)
        {
            gate.check_since(self.lapses, &what())?;
        }
        let limit = match (&request.upload, &self.gate) {
            // Each part of it leaves under the lease, however often that is renewed meanwhile.
            (Some(_), _) => UPLOAD_TIMEOUT,
            (None, gate) => gate.as_ref().map_or(REQUEST_TIMEOUT, |gate| REQUEST_TIMEOUT.min(gate.longest())),
        };
        let started = Instant::now();
        // On the heap: each caller up to the run's loop would hold it once more.
        let result = tokio::time::timeout(limit, Box::pin(self.exchange(request, url))).await;
        let result = result.unwrap_or_else(|_| {
            let why = format!("no whole answer within {} s", limit.as_secs());
            Err(Failure::new(Cause::Unreachable, what(), why))
        });
        if let Some(observer) = &self.observer {
            observer(&RequestLine {
                node: self.node.clone(),
                method: request.method.to_string(),
                path: request.path.clone(),
                status: result.as_ref().ok().map(|a| a.status),
                took: started.elapsed(),
            });
        }
        result
    }

    async fn exchange(&self, request: &Request, url: Url) -> Result<Answer, Failure> {
        let what = self.what(request);
        let mut builder = self.http.request(request.method.clone(), url);
        builder = builder.header(header::ACCEPT, "application/json").header("OData-Version", "4.0");
        builder = builder.header(header::ACCEPT_ENCODING, "identity");
        let log_in = request.purpose == Purpose::Session && request.method == Method::POST;
        if !log_in {
            builder = self.signed(builder, &what)?;
        }
        if let Some(etag) = &request.if_match {
            builder = builder.header(header::IF_MATCH, etag);
        }
        if let Some(body) = &request.body {
            builder = builder.json(body);
        }
        if let Some(upload) = &request.upload {
            let frame = Frame::of(upload, &format!("rackctl-{}", uuid::Uuid::new_v4().simple()));
            builder = builder.header(header::CONTENT_TYPE, frame.content_type.clone());
            builder = builder.header(header::CONTENT_LENGTH, frame.length(upload));
            builder = builder.body(reqwest::Body::wrap_stream(frame.body(upload, self.gate.clone())));
        }
        let mut response = match builder.send().await {
            Ok(response) => response,
            Err(e) => return Err(self.no_answer(&what, &e).await),
        };
        let header =
            |name: header::HeaderName| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let status = response.status().as_u16();
        let etag = header(header::ETAG);
        let location = header(header::LOCATION);
        let retry_after = header(header::RETRY_AFTER).and_then(|v| v.trim().parse().ok()).map(Duration::from_secs);
        let encoding = header(header::CONTENT_ENCODING).filter(|e| e != "identity");
        let token = header(header::HeaderName::from_static("x-auth-token")).map(Secret::new);
        let challenges = response.headers().get_all(header::WWW_AUTHENTICATE);
        let basic = |v: &header::HeaderValue| v.to_str().is_ok_and(|v| v.to_ascii_lowercase().contains("basic"));
        let takes_basic = challenges.iter().any(basic);
        let malformed = |why: String| Failure::new(Cause::Malformed, what.clone(), why);
        let mut bytes = Vec::new();
        loop {
            let chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(e) => return Err(self.no_answer(&what, &e).await),
            };
            if bytes.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(malformed(json::JsonFault::Size(bytes.len() + chunk.len()).to_string()));
            }
            bytes.extend_from_slice(&chunk);
        }
        // iLO 4 and 5 pack also where identity was asked for (ansible _redfish_utils.py:4173).
        match encoding.map(|e| e.to_ascii_lowercase()).as_deref() {
            Some("gzip" | "x-gzip") if !bytes.is_empty() => {
                bytes = json::unpack(&bytes).map_err(|fault| malformed(fault.to_string()))?;
            }
            None | Some("gzip" | "x-gzip") => {}
            Some(other) => {
                return Err(malformed(format!("the answer is packed ({}), which was not asked for", clean(other))));
            }
        }
        let body = match json::read(&bytes) {
            Ok(body) => body,
            // Error pages are often HTML: the status says enough.
            Err(json::JsonFault::Syntax(_)) if !(200..300).contains(&status) => Value::Null,
            Err(fault) => return Err(malformed(fault.to_string())),
        };
        drop(bytes);
        if status < 400
            && request.purpose == Purpose::Resource
            && let Auth::Token { proven, .. } = &mut *self.auth()
        {
            *proven = true;
        }
        Ok(Answer { status, body, etag, location, token, takes_basic, retry_after })
    }

    /// Opens a stream of events: its beginning has a limit, it has none.
    pub async fn stream(&self, request: &Request) -> Result<reqwest::Response, Failure> {
        let what = || self.what(request);
        let url =
            link::resolve(&self.base, &request.path).map_err(|why| Failure::new(Cause::Malformed, what(), why))?;
        let builder = self.http.get(url).header(header::ACCEPT, "text/event-stream");
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, self.signed(builder, &what())?.send()).await;
        let response = match answer {
            Ok(Ok(response)) => response,
            Ok(Err(e)) => return Err(self.no_answer(&what(), &e).await),
            Err(_) => {
                let why = format!("no answer within {} s", REQUEST_TIMEOUT.as_secs());
                return Err(Failure::new(Cause::Unreachable, what(), why));
            }
        };
        match response.status().as_u16() {
            200..=299 => Ok(response),
            status => Err(Failure::new(Cause::Refused, what(), format!("HTTP {status}"))),
        }
    }

    /// With the credential in use.
    fn signed(&self, builder: reqwest::RequestBuilder, what: &str) -> Result<reqwest::RequestBuilder, Failure> {
        Ok(match &*self.auth() {
            Auth::Anonymous => builder,
            Auth::Basic => builder.basic_auth(&self.username, Some(self.password.expose())),
            Auth::Token { token, .. } => {
                let mut value = header::HeaderValue::from_str(token.expose())
                    .map_err(|_| Failure::new(Cause::Malformed, what, "the BMC's session token is no header value"))?;
                value.set_sensitive(true);
                builder.header("X-Auth-Token", value)
            }
        })
    }

    async fn no_answer(&self, what: &str, error: &reqwest::Error) -> Failure {
        if let Some(fault) = tls::find(error) {
            return tls::untrusted(&self.node, what, &self.trust, &self.seen, fault, &self.base).await;
        }
        let mut deepest: &dyn std::error::Error = error;
        while let Some(inner) = deepest.source() {
            deepest = inner;
        }
        let host = self.base.origin().ascii_serialization();
        let why = match error.is_connect() {
            true if error.is_timeout() => format!("{host} does not answer within {} s", CONNECT_TIMEOUT.as_secs()),
            true => format!("no connection to {host}: {}", clean(&deepest.to_string())),
            false => format!("the answer broke off: {}", clean(&deepest.to_string())),
        };
        Failure::new(Cause::Unreachable, what, why)
    }
}
