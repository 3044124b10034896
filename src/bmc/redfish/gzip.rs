//! Bodies that come packed although `identity` was asked for: iLO 4 and 5 do so (ansible _redfish_utils.py:4173).
//! One member of RFC 1952, unpacked under a limit and checked.

/// What it held. `most`: bytes of it.
///
/// # Errors
/// Says what is wrong with it, in words.
pub fn unpack(bytes: &[u8], most: usize) -> Result<Vec<u8>, String> {
    let (data, [c0, c1, c2, c3, s0, s1, s2, s3]) = member(bytes).ok_or("its gzip header or end is broken")?;
    let text = miniz_oxide::inflate::decompress_to_vec_with_limit(data, most).map_err(|fault| match fault.status {
        miniz_oxide::inflate::TINFLStatus::HasMoreOutput => format!("unpacked it has more than {most} bytes"),
        other => format!("it cannot be unpacked ({other:?})"),
    })?;
    let (sum, size) = (u32::from_le_bytes([c0, c1, c2, c3]), u32::from_le_bytes([s0, s1, s2, s3]));
    if crc32(&text) != sum || text.len() as u64 != u64::from(size) {
        return Err("its checksum is not that of what was unpacked".into());
    }
    Ok(text)
}

/// The compressed data, and the eight bytes behind it (RFC 1952, 2.3).
fn member(bytes: &[u8]) -> Option<(&[u8], [u8; 8])> {
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    const CHECK: u8 = 2;
    let ([0x1f, 0x8b, 8, flags, ..], mut rest) = bytes.split_first_chunk::<10>()? else { return None };
    if flags & EXTRA != 0 {
        let (length, after) = rest.split_first_chunk::<2>()?;
        rest = after.get(usize::from(u16::from_le_bytes(*length))..)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = rest.iter().position(|b| *b == 0)?;
            rest = rest.get(end + 1..)?;
        }
    }
    if flags & CHECK != 0 {
        rest = rest.get(2..)?;
    }
    let (data, end) = rest.split_last_chunk::<8>()?;
    Some((data, *end))
}

/// CRC-32 of RFC 1952, 8, bit by bit: answers are small.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    };
    !bytes.iter().fold(!0, step)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `printf '{"a":1}' | gzip -9n`, and the same with a name before it.
    const PACKED: [u8; 27] = [
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255, 0xab, 0x56, 0x4a, 0x54, 0xb2, 0x32, 0xac, 0x05, 0, 0xaf, 0xac, 0x1b, 0x56,
        7, 0, 0, 0,
    ];

    #[test]
    fn what_was_packed_elsewhere_is_read() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(unpack(&PACKED, 100).as_deref(), Ok(br#"{"a":1}"#.as_slice()));
        let mut named = PACKED[..10].to_vec();
        named[3] = 8;
        named.extend(b"a.json\0");
        named.extend(&PACKED[10..]);
        assert_eq!(unpack(&named, 100).as_deref(), Ok(br#"{"a":1}"#.as_slice()));
    }

    #[test]
    fn what_is_too_much_or_wrong_is_said() {
        assert!(unpack(&PACKED, 6).is_err_and(|why| why.contains("more than 6 bytes")));
        assert!(unpack(&PACKED[..20], 100).is_err());
        let mut wrong = PACKED;
        wrong[20] ^= 1;
        assert!(unpack(&wrong, 100).is_err_and(|why| why.contains("checksum")));
        assert!(unpack(b"{}", 100).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_text_or_a_reason(bytes in proptest::collection::vec(any::<u8>(), 0..200), flags: u8) {
            let _ = unpack(&bytes, 1000);
            let mut member = vec![0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 0];
            member.extend(bytes);
            prop_assert!(unpack(&member, 1000).is_ok_and(|t| t.len() <= 1000) || unpack(&member, 1000).is_err());
        }
    }
}
