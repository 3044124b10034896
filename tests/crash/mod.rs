//! The real program, killed at a system call, and what the machines of a simulated laboratory say of it afterwards.
//!
//! | question | file |
//! |---|---|
//! | where it is killed | [`point`] |
//! | how that is done | [`tracer`] |
//! | a laboratory, seen from outside | [`lab`] |
//! | is it the right world? | [`world`] |
//! | one crash and what came of it | [`case`] |
//! | all of them, several at a time, and the table | [`sweep`] |

pub mod case;
pub mod lab;
pub mod point;
pub mod sweep;
pub mod tracer;
pub mod world;
