//! What the images need to know of an ELF file: interpreter, needed libraries, module information
//! (System V ABI, gABI chapters 4 and 5; 64-bit little-endian only).

const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PT_LOAD: u32 = 1;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
/// Entries of a dynamic section or sections of a file that are looked at before it is called malformed.
const ENTRIES_MAX: usize = 65_536;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elf {
    /// `e_machine`: 62 x86-64, 183 AArch64.
    pub machine: u16,
    /// `PT_INTERP`: a program with one is dynamic.
    pub interpreter: Option<String>,
    /// `DT_NEEDED`, in order.
    pub needed: Vec<String>,
}

pub fn is_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x7fELF")
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], String> {
    at.checked_add(N)
        .and_then(|end| bytes.get(at..end))
        .and_then(|slice| slice.try_into().ok())
        .ok_or_else(|| format!("ends before byte {at}+{N}"))
}
fn u16_at(bytes: &[u8], at: usize) -> Result<u16, String> {
    array(bytes, at).map(u16::from_le_bytes)
}
fn u32_at(bytes: &[u8], at: usize) -> Result<u32, String> {
    array(bytes, at).map(u32::from_le_bytes)
}
fn u64_at(bytes: &[u8], at: usize) -> Result<u64, String> {
    array(bytes, at).map(u64::from_le_bytes)
}
fn place(value: u64) -> Result<usize, String> {
    usize::try_from(value).map_err(|_| format!("offset {value} is out of range"))
}
fn text_at(bytes: &[u8], at: usize) -> Result<String, String> {
    let rest = bytes.get(at..).ok_or_else(|| format!("string at {at} is outside the file"))?;
    let end = rest.iter().take(4096).position(|b| *b == 0).ok_or("string without end")?;
    String::from_utf8(rest[..end].to_vec()).map_err(|_| "string is no UTF-8".to_string())
}

fn head(bytes: &[u8]) -> Result<(), String> {
    if !is_elf(bytes) {
        return Err("no ELF file".into());
    }
    if bytes.get(4..6) != Some(&[2, 1]) {
        return Err("no 64-bit little-endian ELF file".into());
    }
    Ok(())
}

pub fn read(bytes: &[u8]) -> Result<Elf, String> {
    head(bytes)?;
    let mut elf = Elf { machine: u16_at(bytes, 18)?, ..Elf::default() };
    let (table, size, count) = (place(u64_at(bytes, 32)?)?, u16_at(bytes, 54)? as usize, u16_at(bytes, 56)? as usize);
    let mut loads = Vec::new();
    let mut dynamic = None;
    for index in 0..count {
        let at = table.checked_add(index * size).ok_or("program header out of range")?;
        let (offset, address, length) = (u64_at(bytes, at + 8)?, u64_at(bytes, at + 16)?, u64_at(bytes, at + 32)?);
        match u32_at(bytes, at)? {
            PT_INTERP => elf.interpreter = Some(text_at(bytes, place(offset)?)?),
            PT_DYNAMIC => dynamic = Some((place(offset)?, place(length)?)),
            PT_LOAD => loads.push((address, offset, length)),
            _ => {}
        }
    }
    let Some((start, length)) = dynamic else { return Ok(elf) };
    let mut names = Vec::new();
    let mut strings = None;
    for index in 0..(length / 16).min(ENTRIES_MAX) {
        let at = start.checked_add(index * 16).ok_or("dynamic section out of range")?;
        match (u64_at(bytes, at)?, u64_at(bytes, at + 8)?) {
            (0, _) => break,
            (DT_NEEDED, value) => names.push(value),
            (DT_STRTAB, value) => strings = Some(value),
            _ => {}
        }
    }
    if names.is_empty() {
        return Ok(elf);
    }
    let address = strings.ok_or("needs libraries and has no string table")?;
    let base = loads
        .iter()
        .find(|(from, _, length)| address >= *from && address - from < *length)
        .map(|(from, offset, _)| offset.saturating_add(address - from))
        .ok_or("string table is in no segment")?;
    for name in names {
        elf.needed.push(text_at(bytes, place(base.saturating_add(name))?)?);
    }
    Ok(elf)
}

/// The bytes of the section with this name.
pub fn section<'a>(bytes: &'a [u8], name: &str) -> Result<Option<&'a [u8]>, String> {
    head(bytes)?;
    let (table, size) = (place(u64_at(bytes, 40)?)?, u16_at(bytes, 58)? as usize);
    let (count, names) = (u16_at(bytes, 60)? as usize, u16_at(bytes, 62)? as usize);
    let header = |index: usize| -> Result<(usize, usize, usize), String> {
        let at = table.checked_add(index * size).ok_or("section header out of range")?;
        Ok((u32_at(bytes, at)? as usize, place(u64_at(bytes, at + 24)?)?, place(u64_at(bytes, at + 32)?)?))
    };
    let (_, strings, _) = header(names)?;
    for index in 0..count.min(ENTRIES_MAX) {
        let (label, offset, length) = header(index)?;
        if text_at(bytes, strings.saturating_add(label))? == name {
            let end = offset.checked_add(length).ok_or("section out of range")?;
            return bytes.get(offset..end).map(Some).ok_or_else(|| format!("section {name} is outside the file"));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_very_test_program_is_dynamic_and_needs_libc() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let elf = read(&bytes).unwrap();
        assert!(elf.interpreter.unwrap().contains("ld-linux"));
        assert!(elf.needed.iter().any(|name| name.starts_with("libc.so")), "{:?}", elf.needed);
        assert!(section(&bytes, ".text").unwrap().is_some_and(|text| !text.is_empty()));
        assert_eq!(section(&bytes, ".modinfo").unwrap(), None);
    }

    #[test]
    fn cut_files_are_errors_and_never_panics() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        for length in [0, 3, 4, 6, 19, 40, 63, 64, 100, 500] {
            assert!(read(&bytes[..length]).is_err(), "{length}");
            assert!(section(&bytes[..length], ".text").is_err(), "{length}");
        }
        let mut wild = bytes[..4096].to_vec();
        for at in 16..64 {
            let before = std::mem::replace(&mut wild[at], 0xff);
            let _ = (read(&wild), section(&wild, ".text"));
            wild[at] = before;
        }
    }
}
