//! Who asks: by a session's token, by Basic auth, or by the log-in itself; and what a wrong password costs.

use axum::{body::Bytes, http::HeaderMap};
use base64::{Engine, prelude::BASE64_STANDARD};
use time::OffsetDateTime;

use super::{
    Bmc, Fault,
    accounts::Verdict,
    chassis::Chassis,
    reply::{self, Reply, refuse},
};
use crate::bmc::redfish::wire::LogIn;

/// Who asks.
pub enum Asker {
    Nobody,
    Known(String),
    Refused(Reply),
}

/// By session token or by Basic auth.
pub fn asker<C: Chassis>(bmc: &Bmc<C>, now: OffsetDateTime, headers: &HeaderMap) -> Asker {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    if let Some(token) = text("x-auth-token") {
        let user = bmc.state().session_user(now, token);
        return user.map_or_else(|| Asker::Refused(reply::unauthorized()), Asker::Known);
    }
    let Some(encoded) = text("authorization").and_then(|a| a.strip_prefix("Basic ")) else { return Asker::Nobody };
    let decoded = BASE64_STANDARD.decode(encoded.trim()).ok().and_then(|b| String::from_utf8(b).ok());
    let Some((user, password)) = decoded.as_deref().and_then(|pair| pair.split_once(':')) else { return Asker::Nobody };
    let verdict = bmc.state().try_password(now, user, password);
    match verdict {
        Verdict::Known => Asker::Known(user.to_owned()),
        verdict => Asker::Refused(wrong(bmc, verdict)),
    }
}

/// The answer to a wrong password, or to any while the account is locked.
fn wrong<C: Chassis>(bmc: &Bmc<C>, verdict: Verdict) -> Reply {
    let text = "While accessing the resource, the service received an authorization error.";
    if verdict == Verdict::Locked && bmc.now_faults().has(Fault::LockoutForbidden) {
        return refuse(403, "ResourceAtUriUnauthorized", "The account is locked.", &[]);
    }
    refuse(401, "ResourceAtUriUnauthorized", text, &["", "unauthorized"])
        .header("www-authenticate", "Basic realm=\"BMC\"")
}

/// From the second wrong password on.
pub async fn delay<C: Chassis>(bmc: &Bmc<C>) {
    let time = bmc.now_faults().time(Fault::LogInDelay);
    let again = bmc.state().accounts.wrong() > 1;
    if let (Some(time), true) = (time, again) {
        tokio::time::sleep(time).await;
    }
}

pub async fn log_in_reply<C: Chassis>(bmc: &Bmc<C>, now: OffsetDateTime, bytes: &Bytes) -> Reply {
    let Ok(log_in) = serde_json::from_slice::<LogIn>(bytes) else { return reply::malformed() };
    let verdict = bmc.state().try_password(now, &log_in.user, &log_in.password);
    if verdict == Verdict::Known {
        return bmc.state().open_session(now, &log_in.user, log_in.context);
    }
    delay(bmc).await;
    wrong(bmc, verdict)
}
