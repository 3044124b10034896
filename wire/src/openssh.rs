//! ed25519 keys in OpenSSH's own format (PROTOCOL.key of OpenSSH, RFC 8709): pure, the key pair is the caller's.

const KIND: &str = "ssh-ed25519";
/// Unencrypted keys are padded to the block size of the cipher `none`.
const BLOCK: usize = 8;

fn blob(public: &[u8; 32]) -> Vec<u8> {
    let mut blob = Vec::new();
    string(&mut blob, KIND.as_bytes());
    string(&mut blob, public);
    blob
}

/// `ssh-ed25519 AAAA…`
pub fn public_line(public: &[u8; 32]) -> String {
    format!("{KIND} {}", base64(&blob(public)))
}

/// Contents of `ssh_host_ed25519_key`: a secret. `check` is random; it tells a reader whether it decrypted rightly.
pub fn private_file(seed: &[u8; 32], public: &[u8; 32], check: [u8; 4]) -> String {
    let mut private = Vec::new();
    private.extend(check);
    private.extend(check);
    string(&mut private, KIND.as_bytes());
    string(&mut private, public);
    let mut pair = seed.to_vec();
    pair.extend(public);
    string(&mut private, &pair);
    string(&mut private, b"");
    let mut pad = 1;
    while !private.len().is_multiple_of(BLOCK) {
        private.push(pad);
        pad += 1;
    }
    let mut file = b"openssh-key-v1\0".to_vec();
    string(&mut file, b"none");
    string(&mut file, b"none");
    string(&mut file, b"");
    file.extend(1u32.to_be_bytes());
    string(&mut file, &blob(public));
    string(&mut file, &private);
    let text = base64(&file);
    let lines: Vec<&str> =
        text.as_bytes().chunks(70).map(|line| std::str::from_utf8(line).unwrap_or_default()).collect();
    format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----\n", lines.join("\n"))
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u32).to_be_bytes());
    out.extend(bytes);
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = ALPHABET[(word >> (18 - 6 * place) & 63) as usize];
            out.push(if place <= chunk.len() { letter as char } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_the_rfc() {
        for (plain, encoded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }
}
