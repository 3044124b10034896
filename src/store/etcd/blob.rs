//! Values that are too large for one request, in pieces that are named by their content.
//!
//! etcd takes requests of 1.5 MiB (`--max-request-bytes` of a server that was not told otherwise). A value above
//! [`INLINE_MAX_BYTES`] is a list of the SHA-256 of its pieces, after a `#`, with which no JSON begins.

use sha2::{Digest, Sha256};

/// Larger values are cut. Base64 makes an answer a third larger still.
pub(super) const INLINE_MAX_BYTES: usize = 512 << 10;
/// Of one piece.
pub(super) const CHUNK_BYTES: usize = 512 << 10;
/// Of one value, as a list of pieces and whole.
pub(super) const VALUE_MAX_BYTES: usize = 256 << 20;
/// What one transaction carries, well under etcd's limit.
pub(super) const TXN_MAX_BYTES: usize = 1 << 20;

const MARK: u8 = b'#';

/// A value as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packed {
    pub value: Vec<u8>,
    /// To be written first.
    pub chunks: Vec<(String, Vec<u8>)>,
}

/// `always`: also what is small, so that equal ones are kept once.
pub(super) fn pack(value: Vec<u8>, always: bool) -> Packed {
    if value.len() <= INLINE_MAX_BYTES && !always {
        return Packed { value, chunks: Vec::new() };
    }
    let chunks: Vec<(String, Vec<u8>)> =
        value.chunks(CHUNK_BYTES).map(|piece| (hex::encode(Sha256::digest(piece)), piece.to_vec())).collect();
    let list: Vec<&str> = chunks.iter().map(|(digest, _)| digest.as_str()).collect();
    let mut kept = vec![MARK];
    kept.extend_from_slice(list.join(" ").as_bytes());
    Packed { value: kept, chunks }
}

/// The pieces of which a kept value is made; `None`: it is the value itself.
pub(super) fn pieces(kept: &[u8]) -> Option<Vec<String>> {
    let (mark, list) = kept.split_first()?;
    (*mark == MARK).then(|| String::from_utf8_lossy(list).split_whitespace().map(str::to_owned).collect())
}

/// Whether this is the piece of that name.
pub(super) fn genuine(digest: &str, piece: &[u8]) -> bool {
    hex::encode(Sha256::digest(piece)) == digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_values_go_there_and_back() {
        let small = pack(b"{}".to_vec(), false);
        assert_eq!((small.chunks.len(), pieces(&small.value)), (0, None));
        let value: Vec<u8> = (0..CHUNK_BYTES * 2 + 5).map(|i| (i % 251) as u8).collect();
        let packed = pack(value.clone(), false);
        let names = pieces(&packed.value).unwrap();
        assert_eq!(names.len(), 3);
        let back: Vec<u8> = packed.chunks.iter().flat_map(|(_, piece)| piece.clone()).collect();
        assert_eq!(back, value);
        assert!(packed.chunks.iter().zip(&names).all(|((name, piece), n)| name == n && genuine(n, piece)));
        assert!(!genuine(&names[0], b"other"));
        assert_eq!(pack(b"{}".to_vec(), true).chunks.len(), 1);
    }
}
