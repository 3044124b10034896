//! The system's UUID by Get System GUID (IPMI 2.0, 22.14). Three byte orders are in use and nothing says which; a UUID's
//! own version and variant bits decide, and where they leave both ends possible the answer is none.

use uuid::{Uuid, Variant};

use super::{
    bytes::{Reader, Short},
    message::{Command, Effect, function},
};

/// App 0x37.
pub fn get() -> Command {
    Command::new(function::APP, 0x37, "get system GUID", Effect::Reads, [])
}

pub fn read(data: &[u8]) -> Result<Option<Uuid>, Short> {
    let bytes: [u8; 16] = Reader::new(data).array("GUID")?;
    let mut reversed = bytes;
    reversed.reverse();
    let sound = |u: &Uuid| u.get_variant() == Variant::RFC4122 && matches!(u.get_version_num(), 1 | 3 | 4 | 5 | 7);
    // As IPMI says: the last byte first.
    let by_ipmi = Some(Uuid::from_bytes(reversed)).filter(sound);
    // As SMBIOS does (the first three fields little-endian), else as RFC 9562 does: one is the other with fields
    // swapped, which whoever compares identities knows about.
    let others = [Uuid::from_bytes_le(bytes), Uuid::from_bytes(bytes)];
    let other = others.into_iter().find(sound);
    Ok(match (by_ipmi, other) {
        (Some(one), None) | (None, Some(one)) => Some(one),
        (Some(a), Some(b)) if a == b => Some(a),
        _ => None,
    })
}

/// As IPMI says: the last byte first.
pub fn encode(uuid: Uuid) -> [u8; 16] {
    let mut bytes = uuid.into_bytes();
    bytes.reverse();
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_three_orders_or_none() {
        let uuid: Uuid = "6f2b8a54-1111-4222-8333-444455556666".parse().unwrap();
        assert_eq!(read(&encode(uuid)), Ok(Some(uuid)));
        assert_eq!(read(&uuid.to_bytes_le()), Ok(Some(uuid)));
        assert_eq!(read(uuid.as_bytes()), Ok(Some(uuid)));
        assert_eq!(read(&[0; 16]), Ok(None));
        assert_eq!(read(&[0xFF; 16]), Ok(None));
        // Sound from either end: nobody can say which machine it is.
        let mut twice = [0; 16];
        (twice[6], twice[8], twice[7], twice[9], twice[0]) = (0x41, 0x81, 0x80, 0x40, 1);
        assert_eq!(read(&twice), Ok(None));
    }
}
