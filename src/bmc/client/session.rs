//! Sessions: one per BMC, told to the ledger, deleted on every way out. A refused password is not tried again.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use reqwest::Method;

use super::{
    Leftover, ROOT, context,
    send::{Auth, Purpose, Request, Wire},
    walk,
};
use crate::{
    bmc::{
        link,
        proof::{Turn, Verdict},
        redfish::wire::{Link, LogIn, ServiceRoot, Session},
    },
    model::{Failure, Secret, failure::Cause},
};

/// For the log-out: it must not hold up an interrupted run.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the root without a credential, then logs in. `limit`: for each of the two; the wait for others who try the same
/// password comes on top.
pub(super) async fn enter(wire: &Wire, limit: Duration) -> Result<ServiceRoot, Failure> {
    let root = within(wire, limit, greet(wire)).await?;
    let turn = turn(wire).await?;
    let result = within(wire, limit, first_log_in(wire, &root)).await;
    settle(wire, turn, &result);
    result.map(|()| root)
}

/// Tells the group what came of the first log-in.
pub(super) fn settle<T>(wire: &Wire, turn: Turn<'_>, result: &Result<T, Failure>) {
    let verdict = match Verdict::of(result) {
        Verdict::Wrong if wire.turned_away.load(Ordering::Relaxed) => Verdict::Account,
        verdict => verdict,
    };
    turn.settle(&wire.node, verdict);
}

pub(super) async fn greet(wire: &Wire) -> Result<ServiceRoot, Failure> {
    let answer = wire.ask(&Request::get(ROOT)).await?;
    let root: ServiceRoot = super::parsed(answer.body);
    if root.systems.is_none() && root.redfish_version.is_none() {
        let what = format!("{}: read the Redfish service root", wire.node);
        return Err(Failure::new(Cause::Malformed, what, "the answer is no Redfish service root"));
    }
    *wire.sessions.lock().unwrap_or_else(PoisonError::into_inner) = sessions_path(&root);
    Ok(root)
}

pub(super) async fn turn(wire: &Wire) -> Result<Turn<'_>, Failure> {
    wire.proof.turn(&wire.node, &wire.username).await
}

pub(super) async fn first_log_in(wire: &Wire, root: &ServiceRoot) -> Result<(), Failure> {
    wire.turned_away.store(false, Ordering::Relaxed);
    log_in(wire).await?;
    // Without a session nothing was sent yet: one request shows whether the password is taken.
    let Some(path) = Link::path(&root.systems).filter(|_| wire.session_uri().is_none() && !wire.proof.accepted())
    else {
        return Ok(());
    };
    let request = Request::get(path);
    let answer = wire.send(&request).await?;
    // One that has to be changed is right: what follows says so where it matters.
    if answer.ok() || answer.wants_new_password() {
        return Ok(());
    }
    wire.turned_away.store(answer.status == 403, Ordering::Relaxed);
    Err(wire.refusal(&request, &answer))
}

pub(super) async fn within<T>(
    wire: &Wire,
    limit: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let late = |_| {
        let what = format!("{}: log in at its BMC", wire.node);
        Err(Failure::new(Cause::Deadline, what, format!("not done within {} s", limit.as_secs())))
    };
    tokio::time::timeout(limit, work).await.unwrap_or_else(late)
}

/// `Links.Sessions` (required by DSP0266 13.3.4.2), else beside the session service.
fn sessions_path(root: &ServiceRoot) -> Option<String> {
    let direct = root.links.as_ref().and_then(|l| Link::path(&l.sessions)).map(str::to_owned);
    direct.or_else(|| Link::path(&root.session_service).map(|s| format!("{}/Sessions", s.trim_end_matches('/'))))
}

/// Logs in anew after the session of `ended` is gone; once, however many requests found that out together.
pub(super) async fn enter_again(wire: &Wire, ended: &Arc<Secret>) -> Result<(), Failure> {
    let _one = wire.relogin.lock().await;
    if !wire.holds(ended) {
        return Ok(());
    }
    let old = wire.session_uri().filter(|uri| !uri.is_empty());
    // The old token stays until there is a new one: a request beside this one must not go out without any.
    if let Err(failure) = log_in(wire).await {
        wire.set_auth(Auth::Anonymous);
        return Err(failure);
    }
    // Most likely gone. Where the 401 had another reason it is not, and would fill the BMC's table.
    if let Some(uri) = old.filter(|old| wire.session_uri().is_none_or(|new| !link::same(&new, old))) {
        let _ = wire.send(&delete(&uri)).await;
    }
    Ok(())
}

async fn log_in(wire: &Wire) -> Result<(), Failure> {
    let path = wire.sessions.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(path) = path else {
        wire.set_auth(Auth::Basic);
        return Ok(());
    };
    wire.ledger.opening(&wire.node);
    let mut context = Some(context(wire.ledger.mark().as_deref()));
    loop {
        let log_in = LogIn {
            user: wire.username.clone(),
            password: wire.password.expose().to_owned(),
            context: context.clone(),
        };
        let request = Request {
            method: Method::POST,
            body: serde_json::to_value(&log_in).ok(),
            purpose: Purpose::Session,
            ..Request::get(&path)
        };
        let answer = wire.send(&request).await?;
        match (answer.status, &answer.token) {
            (200..300, Some(token)) => {
                let from_body = answer.body.get("@odata.id").and_then(|v| v.as_str()).map(str::to_owned);
                // Some BMCs give an address of their own in Location: only its path on this host is of use.
                let local = |l: &String| link::resolve(&wire.base, l).ok().map(|u| u.path().to_owned());
                let uri = answer.location.as_ref().and_then(local).or(from_body.as_ref().and_then(local));
                let uri = uri.unwrap_or_default();
                wire.set_auth(Auth::Token {
                    token: Arc::new(Secret::new(token.expose().to_owned())),
                    uri: uri.clone(),
                    proven: false,
                });
                wire.ledger.opened(&wire.node, &uri);
                return Ok(());
            }
            // No sessions here, or none free (iDRAC: 503 RAC0218): Basic auth does the same without one.
            (200..300, None) | (404 | 405 | 501, _) | (503 | 429, _) => {
                wire.ledger.closed(&wire.node);
                wire.set_auth(Auth::Basic);
                return Ok(());
            }
            // Right, and to be changed: where no session is given for that, Basic auth reaches the account (DSP0266).
            (403, _) if answer.wants_new_password() => {
                wire.ledger.closed(&wire.node);
                wire.set_auth(Auth::Basic);
                return Ok(());
            }
            (400, _) if context.is_some() && (answer.error().says("Property") || answer.told().contains("Context")) => {
                context = None;
            }
            _ => {
                wire.ledger.closed(&wire.node);
                wire.turned_away.store(answer.status == 403, Ordering::Relaxed);
                let mut failure = wire.refusal(&request, &answer);
                failure.what = format!("{}: log in at its BMC as `{}`", wire.node, wire.username);
                return Err(failure);
            }
        }
    }
}

fn delete(path: &str) -> Request {
    Request { method: Method::DELETE, purpose: Purpose::Session, ..Request::get(path) }
}

/// Deletes our session. Gone already (404), or refused because it is gone (401, iDRAC9 7.00), is done.
pub(super) async fn leave(wire: &Wire) -> Result<(), Failure> {
    let Some(mut uri) = wire.session_uri() else { return Ok(()) };
    if uri.is_empty() {
        let found = tokio::time::timeout(LEAVE_TIMEOUT, own_session(wire)).await;
        uri = found.ok().and_then(Result::ok).flatten().unwrap_or_default();
    }
    if uri.is_empty() {
        let what = format!("{}: log out of its BMC", wire.node);
        return Err(Failure::new(
            Cause::Malformed,
            what,
            "the BMC did not say where the session is, and it cannot be told from others: it ends by itself",
        ));
    }
    let request = delete(&uri);
    let late = |_| Err(Failure::new(Cause::Deadline, wire.what(&request), "no answer to the log-out"));
    let answer = tokio::time::timeout(LEAVE_TIMEOUT, wire.send(&request)).await.unwrap_or_else(late)?;
    if !answer.ok() && !matches!(answer.status, 401 | 404) {
        return Err(wire.refusal(&request, &answer));
    }
    wire.set_auth(Auth::Anonymous);
    wire.ledger.closed(&wire.node);
    Ok(())
}

/// The session of ours whose address the BMC did not give, among those that it lists.
async fn own_session(wire: &Wire) -> Result<Option<String>, Failure> {
    let path = wire.sessions.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(path) = path else { return Ok(None) };
    let members = walk::collection(wire, &path, walk::MAX_SESSIONS).await?;
    let list: Vec<(String, Session)> = walk::each(wire, members).await?;
    Ok(which_is_own(&list, &wire.username, wire.ledger.mark().as_deref()).map(str::to_owned))
}

/// By the mark that no other log-in has; else by the user, where one session alone is this user's. We are logged in, so
/// ours is among them.
fn which_is_own<'a>(list: &'a [(String, Session)], user: &str, mark: Option<&str>) -> Option<&'a str> {
    let marked = |s: &Session| mark.is_some() && s.context.as_deref() == Some(context(mark).as_str());
    let by_mark: Vec<&str> = list.iter().filter(|(_, s)| marked(s)).map(|(path, _)| path.as_str()).collect();
    // One whose user is not told may be anybody's.
    let ours = |s: &Session| s.user.as_deref().is_none_or(|u| u == user);
    let by_user: Vec<&(String, Session)> = list.iter().filter(|(_, s)| ours(s)).collect();
    match (by_mark.as_slice(), by_user.as_slice()) {
        ([one], _) => Some(one),
        // A word of another's tells that it is not ours.
        ([], [(path, one)]) if one.user.is_some() && one.context.as_deref().is_none_or(str::is_empty) => Some(path),
        _ => None,
    }
}

/// A session is a leftover by its context, or by its address where the BMC keeps no contexts: an address alone may have
/// been given to somebody else meanwhile.
pub(super) async fn delete_leftovers(wire: &Wire, root: &ServiceRoot, left: &[Leftover]) -> Result<u32, Failure> {
    let own = wire.session_uri().unwrap_or_default();
    let contexts: BTreeSet<String> = left.iter().map(|l| context(l.mark.as_deref())).collect();
    let recorded = |uri: &str| left.iter().filter_map(|l| l.uri.as_deref()).any(|r| link::same(r, uri));
    let Some(collection) = sessions_path(root) else { return Ok(0) };
    let mut deleted = 0;
    for member in walk::collection(wire, &collection, walk::MAX_SESSIONS).await? {
        if link::same(&member, &own) {
            continue;
        }
        let session: Session = match walk::get(wire, &member).await {
            Ok((session, _)) => session,
            // Ended while we looked.
            Err(failure) if failure.cause == Cause::Refused => continue,
            Err(failure) => return Err(failure),
        };
        let doomed = match session.context.as_deref().filter(|c| !c.is_empty()) {
            Some(word) => contexts.contains(word),
            None => recorded(&member),
        };
        if !doomed {
            continue;
        }
        let request = delete(&member);
        let answer = wire.send(&request).await?;
        match answer.status {
            200..300 => deleted += 1,
            401 | 404 => {}
            _ => return Err(wire.refusal(&request, &answer)),
        }
    }
    Ok(deleted)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bmc::redfish::wire::parse;

    #[test]
    fn ones_own_session_is_told_by_its_mark_or_by_being_the_only_one() {
        let list = |all: &[(&str, &str, &str)]| -> Vec<(String, Session)> {
            let one = |(path, user, word): &(&str, &str, &str)| {
                ((*path).to_owned(), parse(json!({"UserName": user, "Context": word})))
            };
            all.iter().map(one).collect()
        };
        let own = |all: &[(&str, &str, &str)], mark| which_is_own(&list(all), "root", mark).map(str::to_owned);
        let mine = "rackctl m1";
        assert_eq!(own(&[("/1", "root", "rackctl m2"), ("/2", "root", mine)], Some("m1")).as_deref(), Some("/2"));
        assert_eq!(own(&[("/1", "root", ""), ("/2", "admin", "")], Some("m1")).as_deref(), Some("/1"));
        assert_eq!(own(&[("/1", "root", ""), ("/2", "root", "")], Some("m1")), None, "either may be another's");
        assert_eq!(own(&[("/1", "root", "rackctl m2")], Some("m1")), None, "another log-in's");
        assert_eq!(own(&[("/1", "root", mine), ("/2", "root", mine)], Some("m1")), None);
        assert_eq!(own(&[], Some("m1")), None);
    }
}
