//! Accounts of the BMC (IPMI 2.0, 22.26 to 22.30).

use super::{
    bytes::{Reader, Short},
    crypto::{MAX_PASSWORD_BYTES, MAX_USER_BYTES},
    fault::Fault,
    message::{Command, Effect, function},
    rakp::Privilege,
};
use crate::{bmc::redfish::json::clean, model::Secret};

/// "The channel that this came by."
const THIS_CHANNEL: u8 = 0x0E;
const NO_ACCESS: u8 = 0x0F;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// User numbers are 1 to this.
    pub most: u8,
    pub enabled_users: u8,
    /// `None`: no access, or a level below USER.
    pub privilege: Option<Privilege>,
    pub ipmi_messaging: bool,
    /// `None`: the BMC does not say.
    pub enabled: Option<bool>,
}

/// App 0x44.
pub fn get_access(user: u8) -> Command {
    Command::new(function::APP, 0x44, "user access", Effect::Reads, [THIS_CHANNEL, user])
}

pub fn read_access(data: &[u8]) -> Result<Access, Short> {
    let [most, counted, _fixed, access] = Reader::new(data).array("user access")?;
    Ok(Access {
        most: most & 0x3F,
        enabled_users: counted & 0x3F,
        privilege: Privilege::of(access),
        ipmi_messaging: access & 0x10 != 0,
        enabled: match counted >> 6 {
            1 => Some(true),
            2 => Some(false),
            _ => None,
        },
    })
}

/// App 0x46.
pub fn get_name(user: u8) -> Command {
    Command::new(function::APP, 0x46, "user name", Effect::Reads, [user])
}

/// Empty: no such user.
pub fn read_name(data: &[u8]) -> Result<String, Short> {
    let bytes: [u8; MAX_USER_BYTES] = Reader::new(data).array("user name")?;
    let name: Vec<u8> = bytes.into_iter().take_while(|b| *b != 0).collect();
    Ok(clean(&String::from_utf8_lossy(&name)))
}

/// App 0x45.
///
/// # Errors
/// The name has more bytes than fit.
pub fn set_name(user: u8, name: &str) -> Result<Command, Fault> {
    if name.len() > MAX_USER_BYTES {
        return Err(Fault::UserTooLong(name.to_owned()));
    }
    let mut data = vec![user];
    data.extend(name.bytes());
    data.resize(1 + MAX_USER_BYTES, 0);
    Ok(Command::new(function::APP, 0x45, "set user name", Effect::Sets, data))
}

/// App 0x43: privilege on this channel, IPMI messages allowed. `None`: no access.
pub fn set_access(user: u8, privilege: Option<Privilege>) -> Command {
    let level = privilege.map_or(NO_ACCESS, Privilege::number);
    // "Change bits", IPMI messaging, this channel.
    let data = [0x80 | 0x10 | THIS_CHANNEL, user, level, 0];
    Command::new(function::APP, 0x43, "set user access", Effect::Sets, data)
}

/// App 0x47 with a password of 20 bytes.
///
/// # Errors
/// The password has more bytes than fit.
pub fn set_password(user: u8, password: &Secret) -> Result<Command, Fault> {
    if password.expose().len() > MAX_PASSWORD_BYTES {
        return Err(Fault::PasswordTooLong);
    }
    let mut data = vec![0x80 | user, 0x02];
    data.extend(password.expose().bytes());
    data.resize(2 + MAX_PASSWORD_BYTES, 0);
    Ok(Command::new(function::APP, 0x47, "set user password", Effect::Sets, data))
}

/// App 0x47: is this its password? What was set is read back so.
///
/// # Errors
/// The password has more bytes than fit.
pub fn test_password(user: u8, password: &Secret) -> Result<Command, Fault> {
    let mut command = set_password(user, password)?;
    (command.name, command.effect) = ("test user password", Effect::Reads);
    if let Some(operation) = command.data.get_mut(1) {
        *operation = 0x03;
    }
    Ok(command)
}

/// App 0x47: enable or disable.
pub fn enable(user: u8, on: bool) -> Command {
    let name = if on { "enable user" } else { "disable user" };
    Command::new(function::APP, 0x47, name, Effect::Sets, [user, u8::from(on)])
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub number: u8,
    pub name: String,
    pub access: Access,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_access() {
        assert_eq!(read_name(b"root\0\0\0\0\0\0\0\0\0\0\0\0"), Ok("root".into()));
        assert_eq!(read_name(b"root"), Err(Short("user name")));
        let access = read_access(&[0x10, 0x42, 0x01, 0x34]).unwrap();
        assert_eq!((access.most, access.enabled, access.privilege), (16, Some(true), Some(Privilege::Administrator)));
        assert_eq!(read_access(&[16, 1, 1, 0x0F]).unwrap().privilege, None);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(set_name(2, &"n".repeat(17)).is_err());
        assert!(set_password(2, &Secret::new("p".repeat(21))).is_err());
        assert_eq!(set_password(2, &Secret::new("p".repeat(20))).unwrap().data.len(), 22);
        assert_eq!(set_name(3, "ops").unwrap().data.len(), 17);
    }
}
