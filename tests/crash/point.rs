//! Where a process is killed: at the n-th time that it, or one of its children, enters a system call.

use std::{fmt, str::FromStr};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Any thread of rackctl itself: all of it dies.
    Main,
    /// Any thread of any process that it started: that process dies.
    Child,
}

pub const ROLES: [Role; 2] = [Role::Main, Role::Child];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    Fsync,
    Fdatasync,
    Pwrite64,
    /// Also `renameat` and `renameat2`.
    Rename,
    Sendto,
    Connect,
    Execve,
}

/// Names and numbers; the place is what the filter tells the tracer.
pub const CALLS: [(Call, &str, &[i64]); 7] = [
    (Call::Fsync, "fsync", &[libc::SYS_fsync]),
    (Call::Fdatasync, "fdatasync", &[libc::SYS_fdatasync]),
    (Call::Pwrite64, "pwrite64", &[libc::SYS_pwrite64]),
    (Call::Rename, "rename", &[libc::SYS_rename, libc::SYS_renameat, libc::SYS_renameat2]),
    (Call::Sendto, "sendto", &[libc::SYS_sendto]),
    (Call::Connect, "connect", &[libc::SYS_connect]),
    (Call::Execve, "execve", &[libc::SYS_execve]),
];

/// `main:fsync:12`
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    pub role: Role,
    pub call: Call,
    /// From 1.
    pub number: u64,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Role::Main { "main" } else { "child" })
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(CALLS.iter().find(|(call, ..)| call == self).map_or("", |(_, name, _)| *name))
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.role, self.call, self.number)
    }
}

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Point, String> {
        let wrong = || format!("`{text}` is no point; one is main:fsync:12");
        let parts: Vec<&str> = text.split(':').collect();
        let [role, call, number] = parts[..] else { return Err(wrong()) };
        Ok(Point {
            role: ROLES.into_iter().find(|r| r.to_string() == role).ok_or_else(wrong)?,
            call: CALLS.into_iter().find(|(_, name, _)| *name == call).ok_or_else(wrong)?.0,
            number: number.parse().map_err(|_| wrong())?,
        })
    }
}

#[test]
fn points_are_read_as_they_are_written() {
    for (call, ..) in CALLS {
        for role in ROLES {
            let point = Point { role, call, number: 12 };
            assert_eq!(point.to_string().parse(), Ok(point));
        }
    }
    assert!("main:fsync".parse::<Point>().is_err() && "main:open:1".parse::<Point>().is_err());
}
