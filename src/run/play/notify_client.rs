//! A webhook of a `notify` step: one POST of JSON, to a plain address or to a pinned one.

use std::time::Duration;

use super::Told;
use crate::{
    bmc::tls,
    model::{Failure, failure::Cause, fleet::Trust},
    secrets::redact,
};

/// From the connection to the answer's head.
const DEADLINE: Duration = Duration::from_secs(10);

/// Says it. Done is an answer of 200 to 299; no redirect is followed, and no proxy asked.
pub async fn post(url: &str, pin: Option<&str>, told: &Told<'_>) -> Result<(), Failure> {
    let what = format!("{}: notify {url}", told.step);
    let fail = |cause, why: String| Failure::new(cause, what.clone(), redact(&why).into_owned());
    let trust = pin.map(|pin| Trust::Pin(pin.to_owned()));
    let mut builder =
        reqwest::Client::builder().timeout(DEADLINE).no_proxy().redirect(reqwest::redirect::Policy::none());
    let (config, seen) = tls::config("the webhook", trust.as_ref().unwrap_or(&Trust::Pin(NO_PIN.to_owned())))?;
    builder = builder.use_preconfigured_tls(config);
    let client = builder.build().map_err(|e| fail(Cause::Local, e.to_string()))?;
    let answer = client.post(url).json(told).send().await.map_err(|error| match tls::find(&error) {
        Some(fault) => {
            let shown = seen.pin().map(|p| format!("; it shows {p}")).unwrap_or_default();
            fail(Cause::Untrusted, format!("{}{shown}", tls::explain(fault)))
        }
        None if error.is_timeout() => fail(Cause::Deadline, format!("no answer within {} s", DEADLINE.as_secs())),
        None => fail(Cause::Unreachable, chain(&error)),
    })?;
    match answer.status() {
        status if status.is_success() => Ok(()),
        status => Err(fail(Cause::Refused, format!("it answers {status}"))),
    }
}

/// Stands where plain http leaves nothing to pin: it fits no key.
const NO_PIN: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// The error and what is behind it; reqwest's own line names the address alone.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(inner) = at {
        text = format!("{text}: {inner}");
        at = inner.source();
    }
    text
}
