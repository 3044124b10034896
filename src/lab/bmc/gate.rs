//! What happens to a request before anybody looks at it: faults of the HTTP server in a BMC.

use super::{
    Fault,
    reply::{self, Reply},
    state::State,
};

impl State {
    /// Whether the request ends here. `path` is without a slash at its end.
    pub fn gate(&mut self, path: &str) -> Option<Reply> {
        let root = path == "/redfish/v1" || path == "/redfish";
        if self.spend(Fault::Busy) {
            return Some(reply::busy(true));
        }
        if self.spend(Fault::BusySilent) {
            return Some(reply::busy(false));
        }
        if let Some(url) = self.effective.text(Fault::Redirect).filter(|_| !root) {
            return Some(Reply::empty(307).header("location", format!("{url}{path}")));
        }
        let below = self.effective.text(Fault::Forbidden).is_some_and(|prefix| path.starts_with(prefix));
        (below && !root).then(reply::forbidden)
    }

    /// What a known user may not do all the same.
    pub fn gate_user(&self, path: &str, user: &str) -> Option<Reply> {
        let account = path.starts_with(super::paths::ACCOUNTS) || path.starts_with(&self.places.sessions);
        if !self.has(Fault::PasswordExpired) || account || self.accounts.renewed(user) {
            return None;
        }
        let text = "The password provided for this account must be changed before access is granted.";
        Some(reply::refuse(403, "PasswordChangeRequired", text, &[super::paths::ACCOUNTS]))
    }
}
