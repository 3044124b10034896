//! A text that never reaches a plan, an event, a journal or a log.

use std::fmt;

use zeroize::Zeroize;

/// Not `Serialize`, not `Clone`, not printed: invariant 7. Wiped when dropped.
pub struct Secret(String);

impl Secret {
    pub fn new(text: String) -> Self {
        Secret(text)
    }
    /// The one way to the text. Call it where it crosses a wire and nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}
