//! Texts of sensor and FRU records: a type and length byte, then one of four codes (IPMI 2.0, 43.15; FRU 1.0, 13).

use crate::bmc::redfish::json::clean;

/// The text of bytes in the code that the two upper bits of the type and length byte name.
pub fn decode(kind: u8, bytes: &[u8]) -> String {
    match kind >> 6 {
        // Unspecified: no text, shown as it is.
        0 => hex::encode(bytes),
        1 => bytes.iter().flat_map(|b| [bcd(b >> 4), bcd(b & 0x0F)]).collect::<String>().trim_end().to_owned(),
        2 => six_bit(bytes),
        _ => clean(&bytes.iter().map(|b| char::from(*b)).collect::<String>()),
    }
}

/// "BCD plus".
fn bcd(nibble: u8) -> char {
    match nibble {
        0..=9 => char::from(b'0' + nibble),
        0x0B => '-',
        0x0C => '.',
        _ => ' ',
    }
}

/// Four characters in three bytes, the lowest bits first.
fn six_bit(bytes: &[u8]) -> String {
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let mut word: u32 = three.iter().rev().fold(0, |word, b| word << 8 | u32::from(*b));
        for _ in 0..(three.len() * 8 / 6) {
            text.push(char::from(0x20 + (word & 0x3F) as u8));
            word >>= 6;
        }
    }
    clean(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_codes() {
        assert_eq!(decode(0xC4, b"CPU1"), "CPU1");
        assert_eq!(decode(0xC4, b"A\x1b[m"), "A [m");
        assert_eq!(decode(0x42, &[0x12, 0xC5]), "12.5");
        // "IPMI" in the example of the FRU specification, 13.3.
        assert_eq!(decode(0x83, &[0x29, 0xDC, 0xA6]), "IPMI");
        assert_eq!(decode(0x02, &[0xAB, 0xCD]), "abcd");
    }
}
