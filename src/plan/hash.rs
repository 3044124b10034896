//! A plan's name: SHA-256 over what matters, so that an approval means the same thing later.

use sha2::{Digest, Sha256};

use super::Plan;

impl Plan {
    /// Material facts alone: identity, disks, membership, versions, digests, steps. No time, no power state,
    /// no reason in words.
    pub fn hash(&self) -> String {
        let mut bare = self.clone();
        for track in &mut bare.tracks {
            track.found.clear();
            track.disrupts = false;
            for step in &mut track.steps {
                step.why.clear();
            }
        }
        for refusal in &mut bare.refusals {
            refusal.why.clear();
            refusal.next = None;
        }
        let text = serde_json::to_vec(&bare).unwrap_or_default();
        hex::encode(Sha256::digest(text))
    }

    /// First twelve digits: what people type.
    pub fn short_hash(&self) -> String {
        self.hash().chars().take(12).collect()
    }
}
