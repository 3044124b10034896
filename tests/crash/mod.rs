//! The real program, killed at a system call, and what the machines of a simulated laboratory say of it afterwards.

pub mod point;
pub mod tracer;
