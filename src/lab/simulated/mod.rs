//! A laboratory without machines: the parts of a fleet simulated well enough that rackctl cannot tell.

pub mod etcd;
