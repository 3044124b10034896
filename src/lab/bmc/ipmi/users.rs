//! Users of IPMI (22.26 to 22.30) are the accounts of the BMC: a password that is changed over Redfish is the one over
//! IPMI too, and a lock holds here and there. User 1 is nobody's; user N is the account N - 1.

use serde_json::json;
use time::OffsetDateTime;

use super::{
    Service,
    answer::{Done, done, refuse, special},
    sessions::Known,
};
use crate::{
    bmc::ipmi::{
        bytes::{Reader, Short},
        completion::Completion,
        crypto::{MAX_PASSWORD_BYTES, MAX_USER_BYTES},
        rakp::Privilege,
    },
    lab::bmc::{Fault, chassis::Chassis, paths::ACCOUNTS},
    model::Secret,
};

/// User numbers are 1 to this.
const MAX_USERS: u8 = 16;
const NO_ACCESS: u8 = 0x0F;

fn privilege(role: &str) -> Privilege {
    match role {
        "Administrator" => Privilege::Administrator,
        "Operator" => Privilege::Operator,
        _ => Privilege::User,
    }
}

fn role(privilege: Privilege) -> &'static str {
    match privilege {
        Privilege::Administrator => "Administrator",
        Privilege::Operator => "Operator",
        Privilege::User => "ReadOnly",
    }
}

impl<C: Chassis> Service<C> {
    /// By name, as RAKP asks. An empty name is nobody's, and what IPMI cannot carry is no account of IPMI.
    pub(super) fn look_up(&self, name: &[u8]) -> Option<Known> {
        let state = self.bmc.state();
        let locked = state.accounts.locked(OffsetDateTime::now_utc());
        let usable = |k: &&crate::lab::bmc::accounts::Known| {
            k.enabled && k.ipmi && k.user.as_bytes() == name && k.password.expose().len() <= MAX_PASSWORD_BYTES
        };
        let fits = !name.is_empty() && name.len() <= MAX_USER_BYTES;
        let known = state.accounts.list.iter().filter(|_| fits).find(usable)?;
        if locked.contains(&known.user) {
            return None;
        }
        let mut password = known.password.expose().as_bytes().to_vec();
        if state.has(Fault::IpmiOtherPassword) {
            password.reverse();
            password.push(b'!');
        }
        Some(Known { password, most: privilege(&known.role) })
    }

    /// A password was proven right or wrong: it counts as at any other log-in.
    pub(super) fn proven(&self, name: &[u8], right: bool) {
        if let Ok(name) = std::str::from_utf8(name) {
            self.bmc.state().proven(OffsetDateTime::now_utc(), name, right);
        }
    }

    /// Set and Get User Access, Name and Password.
    pub(super) fn users(&self, command: u8, data: &[u8]) -> Result<Done, Short> {
        let mut reader = Reader::new(data);
        if matches!(command, 0x43 | 0x44) {
            let _ = reader.u8("channel")?;
        }
        let number = reader.u8("user")? & 0x3F;
        if !(1..=MAX_USERS).contains(&number) {
            return Ok(refuse(Completion::INVALID_FIELD));
        }
        let mut state = self.bmc.state();
        let id = u64::from(number) - 1;
        let path = format!("{ACCOUNTS}/{id}");
        let at = state.accounts.list.iter().position(|k| k.id == id.to_string());
        let known = at.and_then(|at| state.accounts.list.get_mut(at));
        // Where nothing of it was refused.
        let whole = |faults: Vec<serde_json::Value>| match faults.is_empty() {
            true => done([]),
            false => refuse(Completion::INVALID_FIELD),
        };
        Ok(match (command, known) {
            (0x43, Some(known)) => match (reader.u8("privilege")? & 0x0F, &mut known.ipmi) {
                (NO_ACCESS, ipmi) => {
                    *ipmi = false;
                    done([])
                }
                (level, ipmi) => match Privilege::of(level) {
                    Some(level) => {
                        *ipmi = true;
                        whole(state.patch_account(&path, &json!({ "RoleId": role(level) })))
                    }
                    None => refuse(Completion::INVALID_FIELD),
                },
            },
            (0x44, known) => {
                let (enabled, level) = match known {
                    Some(k) if k.ipmi => (k.enabled, privilege(&k.role).number()),
                    Some(k) => (k.enabled, NO_ACCESS),
                    None => (false, NO_ACCESS),
                };
                let count = state.accounts.list.iter().filter(|k| k.enabled).count().min(0x3F) as u8;
                let standing = if enabled { 0x40 } else { 0x80 };
                done([MAX_USERS, standing | count, 0x00, 0x30 | level])
            }
            (0x45, known) => {
                let there = known.is_some();
                let name: [u8; MAX_USER_BYTES] = reader.array("user name")?;
                let name: Vec<u8> = name.into_iter().take_while(|b| *b != 0).collect();
                let Ok(name) = String::from_utf8(name) else { return Ok(refuse(Completion::INVALID_FIELD)) };
                match there {
                    // An empty name frees the place; the last account stays.
                    true if name.is_empty() && state.accounts.list.len() > 1 => {
                        state.accounts.list.retain(|k| k.id != id.to_string());
                        state.docs.remove(&path);
                        done([])
                    }
                    true => whole(state.patch_account(&path, &json!({ "UserName": name }))),
                    false if name.is_empty() => done([]),
                    false if number == 1 => refuse(Completion::INVALID_FIELD),
                    false => {
                        state.add_account_at(id, name, Secret::new(String::new()), "ReadOnly");
                        // Without a password nobody gets in by it.
                        let faults = state.patch_account(&path, &json!({ "Enabled": false }));
                        if let Some(new) = state.accounts.list.iter_mut().find(|k| k.id == id.to_string()) {
                            new.ipmi = false;
                        }
                        whole(faults)
                    }
                }
            }
            (0x46, known) => {
                let mut name = [0; MAX_USER_BYTES];
                let bytes = known.map(|k| k.user.as_bytes().to_vec()).unwrap_or_default();
                name.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
                done(name)
            }
            (0x47, Some(known)) => {
                let operation = reader.u8("operation")? & 0x03;
                let bytes: Vec<u8> = reader.rest().iter().copied().take_while(|b| *b != 0).collect();
                match operation {
                    0 | 1 => whole(state.patch_account(&path, &json!({ "Enabled": operation == 1 }))),
                    2 => match std::str::from_utf8(&bytes) {
                        Ok(password) => whole(state.patch_account(&path, &json!({ "Password": password }))),
                        Err(_) => refuse(Completion::INVALID_FIELD),
                    },
                    _ if known.password.expose().as_bytes() != bytes => special(0x80),
                    _ => done([]),
                }
            }
            _ => refuse(Completion::INVALID_FIELD),
        })
    }
}
