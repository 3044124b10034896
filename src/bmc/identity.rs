//! Is the machine behind this BMC the one of the inventory? Pure comparison, both values in each mismatch.

use uuid::Uuid;

use super::read::placeholder;
use crate::model::{
    facts::BmcFacts,
    fleet::{Identity, SerialFrom},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// `serial` or `uuid`.
    pub field: &'static str,
    pub expected: String,
    /// `None`: the BMC shows none, or a placeholder.
    pub seen: Option<String>,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.seen {
            Some(seen) => write!(f, "{}: the inventory says {}, the BMC says {seen}", self.field, self.expected),
            None => write!(f, "{}: the inventory says {}, the BMC shows none", self.field, self.expected),
        }
    }
}

/// What agreed, for reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matched {
    /// `serial`, `uuid`; empty where the inventory names neither.
    pub fields: Vec<&'static str>,
    /// The BMC shows the UUID with its first three fields in the other byte order (SMBIOS 2.6, 7.2.1); said, not refused.
    pub uuid_byte_swapped: bool,
}

/// Compares what the inventory names; what it does not name is not compared.
/// A named value that the BMC does not show is a mismatch: an identity that cannot be checked is not proven.
pub fn compare(expected: &Identity, facts: &BmcFacts) -> Result<Matched, Vec<Mismatch>> {
    let (mut matched, mut mismatches) = (Matched::default(), Vec::new());
    if let Some(serial) = expected.serial.as_deref().map(str::trim).filter(|s| !placeholder(s)) {
        let seen = match expected.serial_from {
            SerialFrom::SerialNumber => &facts.serial,
            SerialFrom::Sku => &facts.sku,
        };
        let real =
            |text: &Option<String>| text.as_deref().map(str::trim).filter(|s| !placeholder(s)).map(str::to_owned);
        let same = |seen: &Option<String>| seen.as_deref().is_some_and(|s| s.eq_ignore_ascii_case(serial));
        let seen = real(seen);
        // Dell's service tag stands in SKU, whatever the inventory says of where to look: SerialNumber is a board's.
        let maker = facts.manufacturer.as_deref().unwrap_or_default().to_lowercase();
        let tag = maker.starts_with("dell").then(|| real(&facts.sku)).flatten();
        if same(&seen) || same(&tag) {
            matched.fields.push("serial");
        } else {
            let (expected, seen) = (serial.to_owned(), tag.or(seen));
            mismatches.push(Mismatch { field: "serial", expected, seen });
        }
    }
    if let Some(uuid) = expected.uuid.filter(|u| !u.is_nil()) {
        let seen = facts.uuid.filter(|u| !u.is_nil());
        if seen == Some(uuid) {
            matched.fields.push("uuid");
        } else if seen == Some(swapped(uuid)) {
            matched.fields.push("uuid");
            matched.uuid_byte_swapped = true;
        } else {
            mismatches.push(Mismatch { field: "uuid", expected: uuid.to_string(), seen: seen.map(|u| u.to_string()) });
        }
    }
    if mismatches.is_empty() { Ok(matched) } else { Err(mismatches) }
}

/// The same UUID with time-low, time-mid and time-high in the other byte order.
pub fn swapped(uuid: Uuid) -> Uuid {
    Uuid::from_bytes(uuid.to_bytes_le())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::power::PowerState;

    fn facts(serial: &str, sku: &str, uuid: &str) -> BmcFacts {
        BmcFacts {
            endpoint: String::new(),
            manufacturer: None,
            model: None,
            serial: Some(serial.into()),
            sku: Some(sku.into()),
            uuid: Uuid::parse_str(uuid).ok(),
            power: PowerState::On,
            boot: None,
            boot_targets: vec![],
            drives: vec![],
            macs: vec![],
            cores: None,
            memory_bytes: None,
            bios_version: None,
            bmc_version: None,
            unread: vec![],
        }
    }
    const UUID: &str = "00112233-4455-6677-8899-aabbccddeeff";
    const SWAPPED: &str = "33221100-5544-7766-8899-aabbccddeeff";

    fn identity(serial: &str, from: SerialFrom) -> Identity {
        Identity { serial: Some(serial.into()), uuid: Uuid::parse_str(UUID).ok(), serial_from: from }
    }

    #[test]
    fn dell_serial_stands_in_sku() {
        let facts = facts("CNFCP0012345", "7ABC123", UUID);
        assert!(compare(&identity("7ABC123", SerialFrom::Sku), &facts).is_ok());
        let wrong = compare(&identity("7ABC123", SerialFrom::SerialNumber), &facts).unwrap_err();
        assert_eq!(wrong.len(), 1);
        assert_eq!(wrong[0].to_string(), "serial: the inventory says 7ABC123, the BMC says CNFCP0012345");
    }

    #[test]
    fn a_service_tag_is_found_where_the_maker_keeps_it() {
        let dell = BmcFacts { manufacturer: Some("Dell Inc.".into()), ..facts("CNFCP0012345", "7ABC123", UUID) };
        let tag = identity("7ABC123", SerialFrom::SerialNumber);
        assert!(compare(&tag, &dell).is_ok());
        let other = BmcFacts { sku: Some("7XYZ999".into()), ..dell };
        let wrong = compare(&tag, &other).unwrap_err();
        assert_eq!(wrong[0].to_string(), "serial: the inventory says 7ABC123, the BMC says 7XYZ999");
        // A SKU of anybody else is a kind of machine: it stands for many.
        let hpe = BmcFacts { manufacturer: Some("HPE".into()), ..facts("MXQ1", "P18606-B21", UUID) };
        assert!(compare(&identity("P18606-B21", SerialFrom::SerialNumber), &hpe).is_err());
    }

    #[test]
    fn a_uuid_of_zeros_and_an_address_is_one_machines() {
        let made = "00000000-0000-0000-0000-7cc25550a8ff";
        let smc = facts("S1", "", made);
        let of = |uuid: &str| Identity { serial: None, uuid: Uuid::parse_str(uuid).ok(), ..Identity::default() };
        assert_eq!(compare(&of(made), &smc).map(|m| m.fields), Ok(vec!["uuid"]));
        assert!(compare(&of("00000000-0000-0000-0000-7cc25550a8fe"), &smc).is_err());
    }

    #[test]
    fn swapped_uuid_is_accepted_and_said() {
        let matched = compare(&identity("A", SerialFrom::SerialNumber), &facts("a ", "", SWAPPED)).unwrap();
        assert_eq!((matched.fields, matched.uuid_byte_swapped), (vec!["serial", "uuid"], true));
        assert!(!compare(&identity("A", SerialFrom::SerialNumber), &facts("A", "", UUID)).unwrap().uuid_byte_swapped);
    }

    // fault: F55 invariant: I5 harness: D
    #[test]
    fn what_cannot_be_checked_is_not_proven() {
        let list =
            compare(&identity("A", SerialFrom::SerialNumber), &facts("To be filled by O.E.M.", "", "x")).unwrap_err();
        assert_eq!(list.iter().map(|m| (m.field, &m.seen)).collect::<Vec<_>>(), [("serial", &None), ("uuid", &None)]);
        let silent = Identity::default();
        assert_eq!(compare(&silent, &facts("B", "", UUID)), Ok(Matched::default()));
    }
}
