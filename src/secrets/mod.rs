//! Level 3: passwords from where the inventory says they are, and the filter that keeps them out of everything shown.
//!
//! Pure: [`redact`](mod@redact) and the argv of the helper programs; I/O: [`load`], [`keep`](mod@keep).

mod keep;
mod load;
mod redact;

pub use keep::{can_keep, keep};
pub use load::password;
pub use redact::{MIN_LENGTH, Redactor, redact, remember};
