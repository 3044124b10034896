//! Sessions of the laboratory's BMC: capped, ending by themselves when not used.

use std::time::Duration;

use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Fault,
    build::stamp,
    reply::{Reply, refuse},
    state::{SESSION_CAP, State},
};

#[derive(Clone, Debug)]
pub struct Session {
    pub id: String,
    pub user: String,
    pub context: Option<String>,
    token: String,
    used: OffsetDateTime,
    requests: u64,
}

#[derive(Debug, Default)]
pub struct Sessions {
    list: Vec<Session>,
    count: u64,
}

impl Sessions {
    /// The ids of those that end now.
    pub fn expire(&mut self, now: OffsetDateTime, timeout: Duration) -> Vec<String> {
        let (stay, end): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.list).into_iter().partition(|s| now - s.used < timeout);
        self.list = stay;
        end.into_iter().map(|s| s.id).collect()
    }
    fn open(&mut self, now: OffsetDateTime, user: &str, context: Option<String>) -> Session {
        self.count += 1;
        let session = Session {
            id: self.count.to_string(),
            user: user.to_owned(),
            context,
            token: Uuid::new_v4().simple().to_string(),
            used: now,
            requests: 0,
        };
        self.list.push(session.clone());
        session
    }
    /// The session of a token that is still valid; it is used by this.
    pub fn used(&mut self, now: OffsetDateTime, token: &str) -> Option<Session> {
        let session = self.list.iter_mut().find(|s| s.token == token)?;
        session.used = now;
        session.requests += 1;
        Some(session.clone())
    }
    /// The session that the token is of, used or not.
    pub fn of(&self, token: &str) -> Option<&Session> {
        self.list.iter().find(|s| s.token == token)
    }
    pub fn list(&self) -> &[Session] {
        &self.list
    }
    pub fn delete(&mut self, id: &str) -> bool {
        let before = self.list.len();
        self.list.retain(|s| s.id != id);
        self.list.len() < before
    }
}

impl State {
    /// Opens a session for somebody who is known; its document stands in the collection.
    pub fn open_session(&mut self, now: OffsetDateTime, user: &str, context: Option<String>) -> Reply {
        let cap = self.effective.count(Fault::SessionCap).unwrap_or(SESSION_CAP);
        if self.sessions.list().len() as u64 >= cap {
            let text = "The maximum number of user sessions is reached.";
            let id = if self.has(Fault::SessionCap) { "IDRAC.2.4.RAC0218" } else { "SessionLimitExceeded" };
            return refuse(503, id, text, &[]).header("retry-after", "1");
        }
        let session = self.sessions.open(now, user, context.clone());
        let path = format!("{}/{}", self.places.sessions, session.id);
        let mut body = json!({ "UserName": user, "CreatedTime": stamp(now), "SessionType": "Redfish" });
        if let Some(context) = context {
            body["Context"] = context.into();
        }
        self.docs.resource(path.clone(), "Session.v1_7_1", "User Session", body);
        let body = self.docs.body(&path).cloned().unwrap_or_default();
        let reply = Reply::json(201, body).header("x-auth-token", session.token);
        if self.has(Fault::SessionNoLocation) { reply } else { reply.header("location", path) }
    }

    /// Who a token is of. A session that is dropped silently is forgotten before it is looked for.
    pub fn session_user(&mut self, now: OffsetDateTime, token: &str) -> Option<String> {
        let session = self.sessions.used(now, token)?;
        if self.effective.count(Fault::SessionDrop).is_some_and(|most| session.requests > most) {
            self.end_session(&session.id);
            return None;
        }
        Some(session.user)
    }

    pub fn end_session(&mut self, id: &str) -> bool {
        self.forget_session(id);
        self.sessions.delete(id)
    }
    pub fn forget_session(&mut self, id: &str) {
        let path = format!("{}/{id}", self.places.sessions);
        self.docs.remove(&path);
    }
    pub fn drop_sessions(&mut self) {
        let ids: Vec<String> = self.sessions.list().iter().map(|s| s.id.clone()).collect();
        for id in ids {
            self.end_session(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ending_by_themselves_and_by_order() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let timeout = Duration::from_secs(30);
        let mut sessions = Sessions::default();
        let (first, second) = (sessions.open(now, "root", None), sessions.open(now, "root", None));
        let later = now + Duration::from_secs(20);
        assert_eq!(sessions.used(later, &first.token).map(|s| s.user).as_deref(), Some("root"));
        assert_eq!(sessions.of(&first.token).map(|s| &s.id), Some(&first.id));
        let end = now + Duration::from_secs(40);
        assert_eq!(sessions.expire(end, timeout), [second.id], "only the used one is left");
        assert!(sessions.delete(&first.id) && !sessions.delete(&first.id));
        assert!(sessions.used(end, &first.token).is_none());
    }
}
