//! Level 0: values only. No tokio, no files, no command line.

pub mod approval;
pub mod baseline;
pub mod bmc;
pub mod boot;
pub mod clock;
pub mod facts;
pub mod failure;
pub mod fleet;
pub mod goal;
pub mod lease;
pub mod mac;
pub mod play;
pub mod playbook;
pub mod power;
pub mod rollout;
pub mod secret;

pub use clock::Stamp;
pub use failure::Failure;
pub use fleet::Fleet;
pub use mac::Mac;
pub use secret::Secret;
