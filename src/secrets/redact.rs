//! The last filter on all output: knows every loaded secret, also in base64, hex and URL form.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    sync::{OnceLock, PoisonError, RwLock},
};

use base64::{Engine, prelude::*};
use zeroize::Zeroize;

use crate::model::Secret;

/// Shorter secrets are not looked for: they would blot out ordinary text.
pub const MIN_LENGTH: usize = 4;
const BLOT: &str = "[secret]";

/// A set of texts that must not be shown. Wiped when dropped; not `Debug`.
#[derive(Default)]
pub struct Redactor {
    forms: Vec<String>,
}

impl Drop for Redactor {
    fn drop(&mut self) {
        self.forms.iter_mut().for_each(Zeroize::zeroize);
    }
}

impl Redactor {
    pub fn new() -> Self {
        Redactor::default()
    }

    pub fn remember(&mut self, secret: &Secret) {
        for form in forms(secret.expose()) {
            if !self.forms.contains(&form) {
                self.forms.push(form);
            }
        }
    }

    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut found: Vec<(usize, usize)> = Vec::new();
        for form in &self.forms {
            let mut from = 0;
            // Also overlapping ones: what is left of a half-covered secret would still be a part of it.
            while let Some(at) = text.get(from..).and_then(|rest| rest.find(form.as_str())) {
                let start = from + at;
                found.push((start, start + form.len()));
                from = start + text.get(start..).and_then(|t| t.chars().next()).map_or(1, char::len_utf8);
            }
        }
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        found.sort_unstable();
        let (mut shown, mut covered) = (String::with_capacity(text.len()), 0);
        for (start, end) in found {
            if start >= covered {
                shown.push_str(text.get(covered..start).unwrap_or_default());
                shown.push_str(BLOT);
            }
            covered = covered.max(end);
        }
        shown.push_str(text.get(covered..).unwrap_or_default());
        Cow::Owned(shown)
    }
}

/// The texts under which a secret may show.
fn forms(secret: &str) -> BTreeSet<String> {
    let mut forms = BTreeSet::new();
    for text in [secret, secret.trim()] {
        if text.chars().count() < MIN_LENGTH {
            continue;
        }
        forms.insert(text.to_owned());
        forms.insert(url(text, "%20", true));
        forms.insert(url(text, "+", true));
        forms.insert(url(text, "%20", false));
        forms.insert(hex::encode(text));
        forms.insert(hex::encode_upper(text));
        forms.extend(base64(text.as_bytes()));
        // As a JSON string and as Rust prints it, where quotes or backslashes stand in it.
        forms.extend(serde_json::to_string(text).ok().map(|t| t.trim_matches('"').to_owned()));
        forms.insert(format!("{text:?}").trim_matches('"').to_owned());
    }
    forms.retain(|f| f.chars().count() >= MIN_LENGTH);
    forms
}

/// Whole, and as it stands inside of a longer text (`user:password` in Basic auth): the characters that do not depend
/// on what stands before or after, for each of the three offsets.
fn base64(bytes: &[u8]) -> Vec<String> {
    let mut forms = vec![BASE64_STANDARD_NO_PAD.encode(bytes), BASE64_URL_SAFE_NO_PAD.encode(bytes)];
    for offset in 0..3usize {
        let padded: Vec<u8> = std::iter::repeat_n(0, offset).chain(bytes.iter().copied()).collect();
        let skip = (offset * 8).div_ceil(6);
        let whole = padded.len() * 8 / 6;
        for encoded in [BASE64_STANDARD_NO_PAD.encode(&padded), BASE64_URL_SAFE_NO_PAD.encode(&padded)] {
            // Shorter ones would match by chance.
            forms.extend(encoded.get(skip..whole).filter(|f| f.len() >= MIN_LENGTH).map(str::to_owned));
        }
    }
    forms
}

/// Percent-encoded (RFC 3986 2.1), with upper or lower hex digits.
fn url(text: &str, space: &str, upper: bool) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => out.push_str(space),
            b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => out.push(char::from(b)),
            b if upper => out.push_str(&format!("%{b:02X}")),
            b => out.push_str(&format!("%{b:02x}")),
        }
    }
    out
}

fn registry() -> &'static RwLock<Redactor> {
    static REGISTRY: OnceLock<RwLock<Redactor>> = OnceLock::new();
    REGISTRY.get_or_init(RwLock::default)
}

/// From now on this secret is blotted out by [`redact`], in the whole process.
pub fn remember(secret: &Secret) {
    registry().write().unwrap_or_else(PoisonError::into_inner).remember(secret);
}

/// The text without any secret that this process has loaded.
pub fn redact(text: &str) -> Cow<'_, str> {
    registry().read().unwrap_or_else(PoisonError::into_inner).redact(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with(secrets: &[&str]) -> Redactor {
        let mut redactor = Redactor::new();
        secrets.iter().for_each(|s| redactor.remember(&Secret::new((*s).to_owned())));
        redactor
    }

    #[test]
    fn all_forms_are_blotted_out() {
        let secret = "p@ss word/\"1";
        let redactor = with(&[secret]);
        for shown in [
            secret.to_owned(),
            "p%40ss%20word%2F%221".to_owned(),
            "p%40ss+word%2F%221".to_owned(),
            hex::encode(secret),
            hex::encode_upper(secret),
            BASE64_STANDARD.encode(secret),
            serde_json::to_string(secret).unwrap(),
        ] {
            let line = format!("before {shown} after");
            let redacted = redactor.redact(&line);
            assert!(redacted.starts_with("before ") && redacted.ends_with(" after"), "{redacted}");
            assert!(redacted.contains(BLOT) && !redacted.contains(&shown), "{redacted}");
        }
    }

    #[test]
    fn basic_auth_does_not_give_it_away_whatever_the_user_is_called() {
        let redactor = with(&["calvin-and-hobbes"]);
        for user in ["root", "admin", "a", "ab", "abc"] {
            let header = BASE64_STANDARD.encode(format!("{user}:calvin-and-hobbes"));
            let redacted = redactor.redact(&header).into_owned();
            assert!(redacted.contains(BLOT), "{user}: {redacted}");
            assert!(redacted.replace(BLOT, "").len() <= 12, "{user}: {redacted}");
        }
    }

    #[test]
    fn short_ones_and_ordinary_text_stay() {
        let redactor = with(&["abc", "longenough"]);
        assert!(matches!(redactor.redact("abc and alphabet"), Cow::Borrowed("abc and alphabet")));
        assert_eq!(with(&["secret", "secret-longer"]).redact("x secret-longer"), "x [secret]");
        assert_eq!(with(&["abcdef", "defghi"]).redact("<abcdefghi> <ääää>"), "<[secret]> <ääää>", "overlapping");
        assert_eq!(with(&["aaaa", "äöüß"]).redact("aaaaaa äöüß"), "[secret] [secret]");
    }

    #[test]
    fn the_registry_serves_the_whole_process() {
        remember(&Secret::new("only-in-this-test-Zq7".into()));
        assert_eq!(redact("a only-in-this-test-Zq7 b"), "a [secret] b");
    }

    proptest! {
        // invariant: I10 harness: D
        #[test]
        fn no_secret_survives(secret in "[ -~]{4,40}", before in "[a-z ]{0,20}", after in "[a-z ]{0,20}") {
            prop_assume!(secret.trim().len() >= MIN_LENGTH && !BLOT.contains(secret.trim()));
            let redactor = with(&[&secret]);
            for shown in [secret.clone(), hex::encode(&secret), BASE64_STANDARD.encode(&secret)] {
                let line = format!("{before}{shown}{after}");
                let redacted = redactor.redact(&line);
                prop_assert!(!redacted.contains(&shown), "{}", redacted);
            }
        }
    }
}
