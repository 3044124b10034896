//! Open Session and RAKP 1 to 4, both ways (IPMI 2.0, 13.17 to 13.24). Total: any bytes are a message or a fault.

use super::{
    bytes::{Reader, Short},
    crypto::{Algorithms, BLOCK, MAX_USER_BYTES},
    status::Status,
};

/// Bit 4 of the role: look the user up by name alone, not by name and privilege.
pub const NAME_ONLY: u8 = 0x10;

/// Privilege levels (table 6-1… as in Set Session Privilege Level).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Privilege {
    User,
    Operator,
    Administrator,
}

impl Privilege {
    pub fn number(self) -> u8 {
        match self {
            Privilege::User => 2,
            Privilege::Operator => 3,
            Privilege::Administrator => 4,
        }
    }
    pub fn of(number: u8) -> Option<Privilege> {
        Some(match number & 0x0F {
            2 => Privilege::User,
            3 => Privilege::Operator,
            // 5: OEM proprietary, above all others.
            4 | 5 => Privilege::Administrator,
            _ => return None,
        })
    }
    pub fn word(self) -> &'static str {
        match self {
            Privilege::User => "USER",
            Privilege::Operator => "OPERATOR",
            Privilege::Administrator => "ADMINISTRATOR",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRequest {
    pub tag: u8,
    /// 0: the highest that the algorithms allow.
    pub privilege: u8,
    pub console_session: u32,
    pub algorithms: Algorithms,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenResponse {
    pub tag: u8,
    pub status: Status,
    pub privilege: u8,
    pub console_session: u32,
    /// `None` with a status that is no success.
    pub granted: Option<(u32, Algorithms)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rakp1 {
    pub tag: u8,
    pub bmc_session: u32,
    pub random: [u8; BLOCK],
    pub role: u8,
    pub user: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rakp2 {
    pub tag: u8,
    pub status: Status,
    pub console_session: u32,
    /// `None` with a status that is no success.
    pub proof: Option<Rakp2Proof>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rakp2Proof {
    pub random: [u8; BLOCK],
    pub guid: [u8; BLOCK],
    pub code: Vec<u8>,
}

/// RAKP 3, and RAKP 4 with the session of the other side: both are a status and a proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    pub tag: u8,
    pub status: Status,
    pub session: u32,
    pub code: Vec<u8>,
}

/// One algorithm as it stands in Open Session: its class, and its number (table 13-9).
fn algorithm(class: u8, number: u8) -> [u8; 8] {
    [class, 0, 0, 8, number, 0, 0, 0]
}

fn algorithms(a: &Algorithms) -> impl Iterator<Item = u8> {
    [algorithm(0, a.authentication), algorithm(1, a.integrity), algorithm(2, a.confidentiality)].into_iter().flatten()
}

fn read_algorithms(reader: &mut Reader<'_>) -> Result<Algorithms, Short> {
    let mut number = || reader.array::<8>("algorithms").map(|[_, _, _, _, number, ..]| number & 0x3F);
    Ok(Algorithms { authentication: number()?, integrity: number()?, confidentiality: number()? })
}

impl OpenRequest {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.tag, self.privilege, 0, 0];
        bytes.extend(self.console_session.to_le_bytes());
        bytes.extend(algorithms(&self.algorithms));
        bytes
    }
    pub fn decode(bytes: &[u8]) -> Result<OpenRequest, Short> {
        let mut reader = Reader::new(bytes);
        let [tag, privilege, _, _] = reader.array("header of Open Session")?;
        let console_session = reader.u32("session ID of the console")?;
        Ok(OpenRequest { tag, privilege: privilege & 0x0F, console_session, algorithms: read_algorithms(&mut reader)? })
    }
}

impl OpenResponse {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.tag, self.status.0, self.privilege, 0];
        bytes.extend(self.console_session.to_le_bytes());
        if let Some((session, granted)) = &self.granted {
            bytes.extend(session.to_le_bytes());
            bytes.extend(algorithms(granted));
        }
        bytes
    }
    pub fn decode(bytes: &[u8]) -> Result<OpenResponse, Short> {
        let mut reader = Reader::new(bytes);
        let [tag, status, privilege, _] = reader.array("header of Open Session")?;
        let console_session = reader.u32("session ID of the console")?;
        let granted = match Status(status) {
            Status::OK => Some((reader.u32("session ID of the BMC")?, read_algorithms(&mut reader)?)),
            _ => None,
        };
        Ok(OpenResponse { tag, status: Status(status), privilege, console_session, granted })
    }
}

impl Rakp1 {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.tag, 0, 0, 0];
        bytes.extend(self.bmc_session.to_le_bytes());
        bytes.extend(self.random);
        let length = self.user.len().min(MAX_USER_BYTES);
        bytes.extend([self.role, 0, 0, length as u8]);
        bytes.extend(self.user.iter().take(length));
        bytes
    }
    pub fn decode(bytes: &[u8]) -> Result<Rakp1, Short> {
        let mut reader = Reader::new(bytes);
        let [tag, ..] = reader.array::<4>("header of RAKP 1")?;
        let bmc_session = reader.u32("session ID of the BMC")?;
        let random = reader.array("random number of the console")?;
        let [role, _, _, length] = reader.array("role")?;
        let user = reader.take(usize::from(length), "user name")?.to_vec();
        Ok(Rakp1 { tag, bmc_session, random, role, user })
    }
}

impl Rakp2 {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.tag, self.status.0, 0, 0];
        bytes.extend(self.console_session.to_le_bytes());
        if let Some(proof) = &self.proof {
            bytes.extend(proof.random);
            bytes.extend(proof.guid);
            bytes.extend(&proof.code);
        }
        bytes
    }
    pub fn decode(bytes: &[u8]) -> Result<Rakp2, Short> {
        let mut reader = Reader::new(bytes);
        let [tag, status, _, _] = reader.array("header of RAKP 2")?;
        let console_session = reader.u32("session ID of the console")?;
        let proof = match Status(status) {
            Status::OK => Some(Rakp2Proof {
                random: reader.array("random number of the BMC")?,
                guid: reader.array("GUID of the BMC")?,
                code: reader.rest().to_vec(),
            }),
            _ => None,
        };
        Ok(Rakp2 { tag, status: Status(status), console_session, proof })
    }
}

impl Proof {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.tag, self.status.0, 0, 0];
        bytes.extend(self.session.to_le_bytes());
        bytes.extend(&self.code);
        bytes
    }
    pub fn decode(bytes: &[u8]) -> Result<Proof, Short> {
        let mut reader = Reader::new(bytes);
        let [tag, status, _, _] = reader.array("header of RAKP")?;
        let session = reader.u32("session ID")?;
        Ok(Proof { tag, status: Status(status), session, code: reader.rest().to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bmc::ipmi::crypto::Suite;

    #[test]
    fn open_session_as_the_specification_lays_it_out() {
        let request =
            OpenRequest { tag: 1, privilege: 4, console_session: 0xA4A3_A2A1, algorithms: Suite::Three.algorithms() };
        let bytes = request.encode();
        assert_eq!(hex::encode(&bytes), "01040000a1a2a3a4000000080100000001000008010000000200000801000000");
        assert_eq!(OpenRequest::decode(&bytes), Ok(request));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_a_fault(bytes in proptest::collection::vec(any::<u8>(), 0..90)) {
            let _ = (OpenRequest::decode(&bytes), OpenResponse::decode(&bytes), Rakp1::decode(&bytes));
            let _ = (Rakp2::decode(&bytes), Proof::decode(&bytes));
        }

        #[test]
        fn what_is_written_is_read(
            tag: u8, session: u32, random: [u8; 16], guid: [u8; 16], role: u8, refused in 1u8..,
            user in proptest::collection::vec(any::<u8>(), 0..=16),
            code in proptest::collection::vec(any::<u8>(), 0..=32),
        ) {
            let one = Rakp1 { tag, bmc_session: session, random, role, user };
            prop_assert_eq!(Rakp1::decode(&one.encode()), Ok(one));
            let two = Rakp2 { tag, status: Status::OK, console_session: session,
                proof: Some(Rakp2Proof { random, guid, code: code.clone() }) };
            prop_assert_eq!(Rakp2::decode(&two.encode()), Ok(two));
            let no = Rakp2 { tag, status: Status(refused), console_session: session, proof: None };
            prop_assert_eq!(Rakp2::decode(&no.encode()), Ok(no));
            let three = Proof { tag, status: Status(refused), session, code };
            prop_assert_eq!(Proof::decode(&three.encode()), Ok(three));
            for suite in Suite::ALL {
                let open = OpenResponse { tag, status: Status::OK, privilege: 4, console_session: session,
                    granted: Some((7, suite.algorithms())) };
                prop_assert_eq!(OpenResponse::decode(&open.encode()), Ok(open));
            }
        }
    }
}
