//! What is changed in BMCs: by the client, and by the verbs of the program.

// Helpers of tests are tests; clippy's own exception knows only functions with the attribute.
#![allow(clippy::unwrap_used, clippy::panic)]

mod client;
mod lab;
mod small;
mod verbs;
