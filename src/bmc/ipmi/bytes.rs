//! Reading foreign bytes: every step says whether they were there.

/// Ran out of bytes, with what was being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer ends before its {0}")]
pub struct Short(pub &'static str);

/// A place in foreign bytes. Numbers are little-endian, as everywhere in IPMI.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
    pub fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], Short> {
        let (head, tail) = self.rest.split_at_checked(count).ok_or(Short(what))?;
        self.rest = tail;
        Ok(head)
    }
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Short> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(Short(what))?;
        self.rest = tail;
        Ok(*head)
    }
    pub fn u8(&mut self, what: &'static str) -> Result<u8, Short> {
        self.array::<1>(what).map(|[byte]| byte)
    }
    pub fn u16(&mut self, what: &'static str) -> Result<u16, Short> {
        self.array(what).map(u16::from_le_bytes)
    }
    pub fn u32(&mut self, what: &'static str) -> Result<u32, Short> {
        self.array(what).map(u32::from_le_bytes)
    }
}

/// The two's complement that makes the sum of all bytes zero (IPMB 1.0, 2.8.1; FRU 1.0, 16).
pub fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_there_and_says_what_is_not() {
        let mut reader = Reader::new(&[1, 2, 3, 4, 5, 6, 7]);
        assert_eq!((reader.u8("a"), reader.u16("b"), reader.u32("c")), (Ok(1), Ok(0x0302), Ok(0x0706_0504)));
        assert_eq!(reader.u8("end"), Err(Short("end")));
        assert_eq!(checksum(&[0x20, 0x18]), 0xC8);
        assert_eq!(checksum(&[]), 0);
    }
}
