//! What ssh's own messages mean. Pure. Texts: OpenSSH `sshconnect.c`, `sshconnect2.c`, `packet.c`.

use super::key::HostKey;
use crate::model::{Failure, failure::Cause};

/// ssh's exit code for "it was me, not the remote command".
pub const SSH_FAILED: i32 = 255;

/// Why ssh could not do it, from its log.
pub fn failure(what: &str, expected: &HostKey, log: &str) -> Failure {
    let said = last_line(log);
    if log.contains("IDENTIFICATION HAS CHANGED") || log.contains("Host key verification failed") {
        let seen = seen_fingerprint(log).unwrap_or_else(|| "another key, which ssh did not name".into());
        let why = format!("the host key is not the pinned one: expected {}, seen {seen}", expected.fingerprint());
        return Failure::new(Cause::Untrusted, what, why);
    }
    if log.contains("no matching host key type") {
        let why = format!("the host has no {} key; expected {} ({said})", expected.algorithm, expected.fingerprint());
        return Failure::new(Cause::Untrusted, what, why);
    }
    if log.contains("Permission denied (") || log.contains("Too many authentication failures") {
        return Failure::new(Cause::Unauthorized, what, said);
    }
    if log.contains("UNPROTECTED PRIVATE KEY FILE") || log.contains("Bad owner or permissions") {
        return Failure::new(Cause::Local, what, said);
    }
    let why = if said.is_empty() { "ssh ended without a word".into() } else { said };
    Failure::new(Cause::Unreachable, what, why)
}

/// After `The fingerprint for the ED25519 key sent by the remote host is`.
fn seen_fingerprint(log: &str) -> Option<String> {
    let after = &log[log.find("sent by the remote host is")?..];
    let start = after.find("SHA256:")?;
    Some(after[start..].chars().take_while(|c| !c.is_whitespace()).collect::<String>().trim_end_matches('.').into())
}

fn last_line(log: &str) -> String {
    let line = log.lines().map(str::trim).rfind(|l| !l.is_empty()).unwrap_or_default();
    clean(line, 300)
}

/// Foreign text: no control characters, and not more than so many characters.
pub fn clean(text: &str, most: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> HostKey {
        HostKey::parse("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFqRpWnkVtfsVvPxR7vPKvxqpjdR0oW6S6Tj1y5wJd8Q").unwrap()
    }

    #[test]
    fn a_changed_key_names_both_fingerprints() {
        let log = "@@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nThe fingerprint for the ED25519 key sent by the remote host is\nSHA256:abcDEF+/123.\nHost key verification failed.\n";
        let f = failure("w", &key(), log);
        assert_eq!(f.cause, Cause::Untrusted);
        assert!(f.why.contains(&key().fingerprint()) && f.why.ends_with("seen SHA256:abcDEF+/123"), "{}", f.why);
    }

    #[test]
    fn causes_follow_the_words() {
        for (log, cause) in [
            ("ssh: connect to host 10.0.0.1 port 22: Connection refused", Cause::Unreachable),
            ("root@10.0.0.1: Permission denied (publickey).", Cause::Unauthorized),
            (
                "Unable to negotiate with 10.0.0.1 port 22: no matching host key type found. Their offer: rsa",
                Cause::Untrusted,
            ),
            ("", Cause::Unreachable),
        ] {
            assert_eq!(failure("w", &key(), log).cause, cause, "{log}");
        }
        assert_eq!(failure("w", &key(), "a\x1b[31mb").why, "a[31mb");
    }
}
