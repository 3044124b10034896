//! What can go wrong between two packets, typed: decisions look at these, people read them as a `Failure`.

use super::{bytes::Short, completion::Completion, rmcp::PacketFault, status::Status};
use crate::model::failure::Cause;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("user name `{0}` has more than 16 bytes, the most that IPMI carries")]
    UserTooLong(String),
    #[error(
        "the password has more than 20 bytes, the most that IPMI carries: the BMC would compare its beginning only"
    )]
    PasswordTooLong,
    #[error("no answer to {stage} within {seconds} s ({tries} tries)")]
    NoAnswer { stage: &'static str, tries: u32, seconds: u64 },
    #[error("the BMC speaks IPMI 1.5 only: its sessions are not encrypted, so none is opened")]
    NotIpmi2,
    #[error("the BMC offers neither cipher suite 17 nor 3 ({0}); suite 0 and suites without encryption are refused")]
    NoSuite(String),
    #[error("the BMC answered with algorithms that were not proposed: nothing is sent to it")]
    OtherAlgorithms,
    #[error("the BMC refuses the password; it is not tried again")]
    WrongPassword,
    #[error("the BMC refuses user or password ({0}); they are not tried again")]
    LoginRefused(Status),
    #[error(
        "the BMC proves itself with another key: it has a BMC key (Kg) beside the password, which rackctl does not use"
    )]
    OtherBmcKey,
    #[error("the user may be neither ADMINISTRATOR nor OPERATOR at this BMC ({0})")]
    NoPrivilege(String),
    #[error("{stage} was refused ({status})")]
    Refused { stage: &'static str, status: Status },
    #[error("{0}")]
    Completed(Completion),
    /// A completion code of this command (0x80 to 0xBE), with its own words.
    #[error("IPMI completion code 0x{0:02x}: {1}")]
    CompletedWith(u8, &'static str),
    /// Requests of an open session get no answer any more.
    #[error("the session is gone: no answer to {0}, as when a BMC restarted or dropped it")]
    Dropped(&'static str),
    /// Every answer to this carried a number that the BMC had used before: taking one would be taking a replay.
    #[error(
        "the BMC numbers its packets wrongly: its answers to {0} carry a number that it used before, and are not taken"
    )]
    Misnumbered(&'static str),
    #[error("the answer was lost: whether it happened can only be seen, so it is not sent again")]
    AnswerLost,
    #[error("{0}")]
    Short(#[from] Short),
    #[error("the answer makes no sense: {0}")]
    Senseless(String),
    #[error("{0}")]
    Packet(#[from] PacketFault),
    #[error("the session is closed")]
    Closed,
    #[error("{0}")]
    NoWay(String),
    #[error("{0}")]
    Local(String),
}

impl Fault {
    pub fn cause(&self) -> Cause {
        match self {
            Fault::UserTooLong(_) | Fault::PasswordTooLong => Cause::Guard,
            Fault::NoAnswer { .. } | Fault::Dropped(_) | Fault::AnswerLost | Fault::NoWay(_) => Cause::Unreachable,
            Fault::WrongPassword | Fault::LoginRefused(_) | Fault::NoPrivilege(_) | Fault::OtherBmcKey => {
                Cause::Unauthorized
            }
            Fault::NotIpmi2 | Fault::NoSuite(_) | Fault::OtherAlgorithms => Cause::Refused,
            Fault::Refused { status, .. } if status.is_busy() => Cause::Busy,
            Fault::Refused { .. } => Cause::Refused,
            Fault::Completed(code) if code.is_busy() => Cause::Busy,
            Fault::Completed(Completion::PRIVILEGE) => Cause::Unauthorized,
            Fault::Completed(_) | Fault::CompletedWith(..) => Cause::Refused,
            Fault::Short(_) | Fault::Senseless(_) | Fault::Packet(_) | Fault::Misnumbered(_) => Cause::Malformed,
            Fault::Closed | Fault::Local(_) => Cause::Local,
        }
    }

    /// The code that the BMC completed with, where it answered.
    pub fn code(&self) -> Option<u8> {
        match self {
            Fault::Completed(code) => Some(code.0),
            Fault::CompletedWith(code, _) => Some(*code),
            _ => None,
        }
    }
}
