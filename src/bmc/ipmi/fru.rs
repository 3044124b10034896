//! The field-replaceable-unit inventory: who made it, what it is, its serial numbers (IPMI 2.0, 34; Platform Management
//! FRU Information Storage Definition 1.0).

use serde::Serialize;

use super::{
    bytes::{Reader, Short, checksum},
    fault::Fault,
    message::{Command, Effect, function},
    text,
};

/// Of the system itself.
pub const SYSTEM: u8 = 0;
/// Fields of one area.
const MAX_FIELDS: usize = 64;
const END: u8 = 0xC1;

/// Storage 0x10.
pub fn get_info(unit: u8) -> Command {
    Command::new(function::STORAGE, 0x10, "inventory area", Effect::Reads, [unit])
}

/// Bytes of the whole area. Those that count in words (bit 0 of the last byte) are not read.
pub fn read_info(data: &[u8]) -> Result<u16, Fault> {
    let mut reader = Reader::new(data);
    let size = reader.u16("size of the inventory")?;
    match reader.u8("access to the inventory")? & 0x01 {
        0 => Ok(size),
        _ => Err(Fault::Senseless("the inventory is accessed by words, which no BMC that rackctl knows does".into())),
    }
}

/// Storage 0x11.
pub fn get(unit: u8, offset: u16, count: u8) -> Command {
    let [low, high] = offset.to_le_bytes();
    Command::new(function::STORAGE, 0x11, "read the inventory", Effect::Reads, [unit, low, high, count])
}

/// The bytes of an answer: as many as it says that there are.
pub fn read(data: &[u8]) -> Result<&[u8], Short> {
    let mut reader = Reader::new(data);
    let count = reader.u8("number of bytes")?;
    reader.take(usize::from(count), "inventory")
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    pub chassis_part: Option<String>,
    pub chassis_serial: Option<String>,
    pub board_manufacturer: Option<String>,
    pub board_product: Option<String>,
    pub board_serial: Option<String>,
    pub board_part: Option<String>,
    /// Minutes since 1996-01-01.
    pub board_made: Option<u32>,
    pub manufacturer: Option<String>,
    pub product: Option<String>,
    pub part: Option<String>,
    pub version: Option<String>,
    pub serial: Option<String>,
    pub asset_tag: Option<String>,
    /// Areas that are there and cannot be believed, with the reason.
    pub broken: Vec<String>,
}

/// The inventory of all bytes. An area that is broken is named and left out; the others count.
pub fn decode(bytes: &[u8]) -> Result<Inventory, Fault> {
    let header: [u8; 8] = Reader::new(bytes).array("header of the inventory")?;
    if header[0] & 0x0F != 1 {
        return Err(Fault::Senseless(format!("the inventory has format {}, only 1 is known", header[0] & 0x0F)));
    }
    if checksum(&header) != 0 {
        return Err(Fault::Senseless("the checksum of the inventory's header is wrong".into()));
    }
    let [_, _, chassis, board, product, ..] = header;
    let mut inventory = Inventory::default();
    let areas: [(&str, u8, Apply); 3] =
        [("chassis", chassis, set_chassis), ("board", board, set_board), ("product", product, set_product)];
    for (name, offset, apply) in areas {
        if offset == 0 {
            continue;
        }
        let result = area(bytes, offset).and_then(|body| apply(&mut inventory, body));
        if let Err(why) = result {
            inventory.broken.push(format!("{name}: {why}"));
        }
    }
    Ok(inventory)
}

type Apply = fn(&mut Inventory, &[u8]) -> Result<(), String>;

/// An area without version, length and checksum.
fn area(bytes: &[u8], offset: u8) -> Result<&[u8], String> {
    let from = usize::from(offset) * 8;
    let length = bytes.get(from + 1).map(|l| usize::from(*l) * 8).ok_or("it begins behind the end")?;
    let all = bytes.get(from..from + length).filter(|all| all.len() >= 8).ok_or("it ends behind the end")?;
    if checksum(all) != 0 {
        return Err("its checksum is wrong".into());
    }
    Ok(all.get(2..all.len() - 1).unwrap_or_default())
}

/// Fields up to the end mark; empty ones are none.
fn fields(mut body: &[u8]) -> Result<Vec<Option<String>>, String> {
    let mut found = Vec::new();
    while let Some((code, rest)) = body.split_first() {
        if *code == END {
            return Ok(found);
        }
        if found.len() >= MAX_FIELDS {
            return Err(format!("more than {MAX_FIELDS} fields"));
        }
        let (value, rest) = rest.split_at_checked(usize::from(code & 0x3F)).ok_or("a field ends behind its end")?;
        let value = text::decode(*code, value);
        found.push((!value.is_empty()).then_some(value));
        body = rest;
    }
    Err("it has no end mark".into())
}

fn set_chassis(inventory: &mut Inventory, body: &[u8]) -> Result<(), String> {
    let (_kind, body) = body.split_first().ok_or("it is empty")?;
    let mut fields = fields(body)?.into_iter();
    let mut next = || fields.next().flatten();
    (inventory.chassis_part, inventory.chassis_serial) = (next(), next());
    Ok(())
}

fn set_board(inventory: &mut Inventory, body: &[u8]) -> Result<(), String> {
    let ([_language, a, b, c], body) = body.split_first_chunk::<4>().ok_or("it is empty")?;
    let made = u32::from_le_bytes([*a, *b, *c, 0]);
    let mut fields = fields(body)?.into_iter();
    let mut next = || fields.next().flatten();
    inventory.board_made = (made != 0).then_some(made);
    (inventory.board_manufacturer, inventory.board_product) = (next(), next());
    (inventory.board_serial, inventory.board_part) = (next(), next());
    Ok(())
}

fn set_product(inventory: &mut Inventory, body: &[u8]) -> Result<(), String> {
    let (_language, body) = body.split_first().ok_or("it is empty")?;
    let mut fields = fields(body)?.into_iter();
    let mut next = || fields.next().flatten();
    (inventory.manufacturer, inventory.product, inventory.part) = (next(), next(), next());
    (inventory.version, inventory.serial, inventory.asset_tag) = (next(), next(), next());
    Ok(())
}

/// The bytes of an inventory, as a BMC keeps them.
pub fn encode(inventory: &Inventory) -> Vec<u8> {
    let chassis = closed(&[0x17], [&inventory.chassis_part, &inventory.chassis_serial]);
    let [a, b, c, _] = inventory.board_made.unwrap_or(0).to_le_bytes();
    let board = closed(
        &[0, a, b, c],
        [
            &inventory.board_manufacturer,
            &inventory.board_product,
            &inventory.board_serial,
            &inventory.board_part,
            // The FRU file's name.
            &None,
        ],
    );
    let product = closed(
        &[0],
        [
            &inventory.manufacturer,
            &inventory.product,
            &inventory.part,
            &inventory.version,
            &inventory.serial,
            &inventory.asset_tag,
            &None,
        ],
    );
    let mut at = 1u8;
    let mut header = vec![1, 0];
    for area in [&chassis, &board, &product] {
        header.push(at);
        at = at.saturating_add((area.len() / 8) as u8);
    }
    header.extend([0, 0]);
    header.push(checksum(&header));
    [header, chassis, board, product].concat()
}

fn closed<const N: usize>(head: &[u8], fields: [&Option<String>; N]) -> Vec<u8> {
    let mut bytes = vec![1, 0];
    bytes.extend(head);
    for field in fields {
        let text: Vec<u8> = field.iter().flat_map(|t| t.bytes()).take(63).collect();
        // One character alone would look like the end mark.
        let text = if text.len() == 1 { [text, vec![b' ']].concat() } else { text };
        bytes.push(0xC0 | text.len() as u8);
        bytes.extend(text);
    }
    bytes.push(END);
    while bytes.len() % 8 != 7 {
        bytes.push(0);
    }
    bytes[1] = ((bytes.len() + 1) / 8) as u8;
    bytes.push(checksum(&bytes));
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn some() -> Inventory {
        let text = |t: &str| Some(t.to_owned());
        Inventory {
            chassis_serial: text("CH-1"),
            board_manufacturer: text("Contoso"),
            board_product: text("Board 7"),
            board_serial: text("B-0001"),
            board_made: Some(12_345_678),
            manufacturer: text("Contoso"),
            product: text("R1"),
            serial: text("LAB-0001"),
            ..Inventory::default()
        }
    }

    #[test]
    fn read_as_written() {
        let bytes = encode(&some());
        assert_eq!(bytes.len() % 8, 0);
        assert_eq!(decode(&bytes), Ok(some()));
    }

    #[test]
    fn a_broken_area_is_named_and_the_others_count() {
        let mut bytes = encode(&some());
        let at = usize::from(bytes[3]) * 8 + 9;
        bytes[at] ^= 1;
        let read = decode(&bytes).unwrap();
        assert_eq!(read.broken, ["board: its checksum is wrong"]);
        assert_eq!((read.board_serial, read.serial.as_deref()), (None, Some("LAB-0001")));
        bytes[0] = 2;
        assert!(decode(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_inventory_or_a_fault(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0usize..3) {
            let _ = (decode(&bytes), read_info(&bytes), read(&bytes));
            // With checksums that hold, so that the insides are reached.
            let mut whole = vec![1, 0, 0, 0, 0, 0, 0];
            whole[2 + at] = 1;
            whole.push(checksum(&whole));
            let mut area = vec![1, 0];
            area.extend(bytes);
            while area.len() % 8 != 7 { area.push(0); }
            area[1] = ((area.len() + 1) / 8) as u8;
            area.push(checksum(&area));
            whole.extend(area);
            let _ = decode(&whole);
        }
    }
}
