//! Sessions of the laboratory's BMC: capped, ending by themselves when not used.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

/// As XCC and OpenBMC have it.
pub const MAX_SESSIONS: usize = 16;

#[derive(Clone, Debug)]
pub struct Session {
    pub id: String,
    pub user: String,
    pub context: Option<String>,
    pub created: OffsetDateTime,
    token: String,
    used: OffsetDateTime,
}

#[derive(Debug)]
pub struct Sessions {
    timeout: Duration,
    list: Vec<Session>,
    count: u64,
}

impl Sessions {
    pub fn new(timeout: Duration) -> Self {
        Sessions { timeout, list: Vec::new(), count: 0 }
    }
    fn expire(&mut self, now: OffsetDateTime) {
        let timeout = self.timeout;
        self.list.retain(|s| now - s.used < timeout);
    }
    /// The id and the token; `None`: all are in use.
    pub fn open(&mut self, now: OffsetDateTime, user: &str, context: Option<String>) -> Option<(String, String)> {
        self.expire(now);
        if self.list.len() >= MAX_SESSIONS {
            return None;
        }
        self.count += 1;
        let id = self.count.to_string();
        let token = Uuid::new_v4().simple().to_string();
        let (user, given) = (user.to_owned(), token.clone());
        self.list.push(Session { id: id.clone(), user, context, created: now, token, used: now });
        Some((id, given))
    }
    /// The user of a token that is still valid.
    pub fn user(&mut self, now: OffsetDateTime, token: &str) -> Option<String> {
        self.expire(now);
        let session = self.list.iter_mut().find(|s| s.token == token)?;
        session.used = now;
        Some(session.user.clone())
    }
    /// The session that the token is of, used or not.
    pub fn of(&self, token: &str) -> Option<&Session> {
        self.list.iter().find(|s| s.token == token)
    }
    pub fn list(&mut self, now: OffsetDateTime) -> Vec<Session> {
        self.expire(now);
        self.list.clone()
    }
    pub fn delete(&mut self, id: &str) -> bool {
        let before = self.list.len();
        self.list.retain(|s| s.id != id);
        self.list.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capped_and_ending() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let mut sessions = Sessions::new(Duration::from_secs(30));
        let (id, token) = sessions.open(now, "root", None).unwrap();
        for _ in 1..MAX_SESSIONS {
            assert!(sessions.open(now, "root", None).is_some());
        }
        assert!(sessions.open(now, "root", None).is_none());
        let later = now + Duration::from_secs(20);
        assert_eq!(sessions.user(later, &token).as_deref(), Some("root"));
        assert_eq!(sessions.of(&token).map(|s| &s.id), Some(&id));
        let end = now + Duration::from_secs(40);
        assert_eq!(sessions.list(end).len(), 1, "only the used one is left");
        assert!(sessions.delete(&id) && !sessions.delete(&id));
        assert_eq!(sessions.user(end, &token), None);
    }
}
