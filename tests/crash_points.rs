//! Killed at any point, resumed: the same world.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests, outside of #[test] functions

mod crash;
