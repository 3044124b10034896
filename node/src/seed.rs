//! The seed: read once, then gone from the file system.

use crate::node_error::{Doing, NodeError, Result};
use rackctl_wire::{BODY_MAX_BYTES, PROTOCOL, SEED_PATH, Seed};

pub fn take(node: &str) -> Result<Seed> {
    let bytes = std::fs::read(SEED_PATH).doing(format_args!("reading {SEED_PATH}"))?;
    std::fs::remove_file(SEED_PATH).doing(format_args!("removing {SEED_PATH}"))?;
    parse(&bytes, node)
}

fn parse(bytes: &[u8], node: &str) -> Result<Seed> {
    if bytes.len() > BODY_MAX_BYTES {
        return Err(NodeError::new("seed", "the seed is too large"));
    }
    // The error's text must not quote the token.
    let seed: Seed = serde_json::from_slice(bytes)
        .map_err(|error| NodeError::new("seed", format!("the seed is not valid (line {})", error.line())))?;
    if seed.protocol != PROTOCOL {
        return Err(NodeError::new(
            "protocol",
            format!("the seed speaks protocol {}, this is {PROTOCOL}", seed.protocol),
        ));
    }
    if seed.node != node {
        return Err(NodeError::new("seed", format!("the seed is for {}, the command line for {node}", seed.node)));
    }
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_and_bad_seeds() {
        let text = |protocol: u32, node: &str| format!(r#"{{"protocol":{protocol},"node":"{node}","token":"s3cr3t"}}"#);
        assert_eq!(parse(text(1, "n1").as_bytes(), "n1").ok().map(|s| s.token), Some("s3cr3t".into()));
        assert_eq!(parse(text(2, "n1").as_bytes(), "n1").err().map(|e| e.kind), Some("protocol"));
        assert_eq!(parse(text(1, "n2").as_bytes(), "n1").err().map(|e| e.kind), Some("seed"));
        let broken = parse(br#"{"token":"s3cr3t""#, "n1").err().unwrap();
        assert!(!broken.message.contains("s3cr3t"));
    }
}
