//! What is asked of BMCs by the program itself: no log-in is left behind, whatever ends the command; what it says of some
//! machines when others fail; passwords that are kept, and networks that are searched.

// Helpers of tests are tests; clippy's own exception knows only functions with the attribute.
#![allow(clippy::unwrap_used, clippy::panic)]

mod fleet;
mod interrupts;
mod users;
mod verbs;
