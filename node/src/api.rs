//! Client of the provisioning API.

use crate::cmdline::InstallerLine;
use crate::node_error::{NodeError, Result};
use crate::pin;
use rackctl_wire::{ApiError, BODY_MAX_BYTES, Claim, ClaimAnswer, Directive, PROTOCOL, Report};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub enum CallError {
    /// No answer, or one that says "later": worth another try.
    Away(String),
    /// The server has decided: asking again changes nothing.
    Refused { status: u16, error: ApiError },
}

impl CallError {
    pub fn text(&self) -> String {
        match self {
            CallError::Away(text) => text.clone(),
            CallError::Refused { status, error } => format!("{} ({}, HTTP {status})", error.message, error.kind),
        }
    }

    /// The server does not know the session (it was restarted): the claim has to be said again.
    pub fn session_is_gone(&self) -> bool {
        matches!(self, CallError::Refused { status, error } if *status == 401 || error.kind == "unknownSession")
    }
}

pub struct Api {
    base: String,
    http: reqwest::Client,
}

/// Wait before try number `attempt` (from 0): doubles up to 10 s.
pub fn backoff(attempt: u32) -> Duration {
    Duration::from_millis((500u64 << attempt.min(6)).min(10_000))
}

/// Every cause of an error, in one line: reqwest's own text stops at "error sending request".
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl Api {
    pub fn new(line: &InstallerLine) -> Result<Self> {
        let http = reqwest::Client::builder()
            .use_preconfigured_tls(pin::client_config(&line.pin)?)
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_DEADLINE)
            .timeout(REQUEST_DEADLINE)
            .pool_max_idle_per_host(1)
            .build()
            .map_err(|error| NodeError::new("network", chain(&error)))?;
        Ok(Self { base: line.api.clone(), http })
    }

    pub async fn claim(&self, claim: &Claim) -> std::result::Result<ClaimAnswer, CallError> {
        let answer: ClaimAnswer = self.post("claim", None, claim).await?;
        if answer.protocol != PROTOCOL {
            let message = format!("the API speaks protocol {}, this installer {PROTOCOL}", answer.protocol);
            return Err(CallError::Refused { status: 200, error: ApiError { kind: "protocol".into(), message } });
        }
        Ok(answer)
    }

    pub async fn report(&self, session: &str, report: &Report) -> std::result::Result<Directive, CallError> {
        self.post("report", Some(session), report).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        what: &str,
        session: Option<&str>,
        body: &impl Serialize,
    ) -> std::result::Result<T, CallError> {
        let mut request = self.http.post(format!("{}/v1/{what}", self.base)).json(body);
        if let Some(session) = session {
            request = request.bearer_auth(session);
        }
        let mut response = request.send().await.map_err(|error| CallError::Away(chain(&error)))?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| CallError::Away(chain(&error)))? {
            if bytes.len() + chunk.len() > BODY_MAX_BYTES {
                return Err(CallError::Away(format!("the answer to {what} is larger than {BODY_MAX_BYTES} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return serde_json::from_slice(&bytes)
                .map_err(|error| CallError::Away(format!("the answer to {what} is not understood: {error}")));
        }
        Err(refusal(status.as_u16(), &bytes))
    }
}

/// 408, 425, 429 and 5xx mean "later"; the other 4xx (and redirects) are final.
fn refusal(status: u16, body: &[u8]) -> CallError {
    let error = serde_json::from_slice::<ApiError>(body)
        .unwrap_or_else(|_| ApiError { kind: format!("http{status}"), message: "no reason was given".into() });
    if status >= 500 || matches!(status, 408 | 425 | 429) {
        CallError::Away(format!("{} ({}, HTTP {status})", error.message, error.kind))
    } else {
        CallError::Refused { status, error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_are_capped() {
        assert_eq!(backoff(0), Duration::from_millis(500));
        assert_eq!(backoff(3), Duration::from_secs(4));
        assert_eq!(backoff(40), Duration::from_secs(10));
    }

    #[test]
    fn which_refusals_are_final() {
        let body = br#"{"kind":"tokenUsed","message":"the token was used"}"#;
        for (status, last) in
            [(400, true), (401, true), (404, true), (408, false), (429, false), (500, false), (503, false)]
        {
            assert_eq!(matches!(refusal(status, body), CallError::Refused { .. }), last, "{status}");
        }
        assert_eq!(refusal(409, body).text(), "the token was used (tokenUsed, HTTP 409)");
        assert_eq!(refusal(409, b"<html>").text(), "no reason was given (http409, HTTP 409)");
        assert!(refusal(401, b"").session_is_gone());
    }
}
