//! Cipher suites 17 and 3, and nothing weaker: what RAKP proves, the keys of a session, sealing and opening
//! (IPMI 2.0, 13.28 to 13.32; tables 13-17 to 13-20).

use aes::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit, block_padding::NoPadding};
use ring::hmac;
use zeroize::Zeroize;

use super::rmcp::{self, PacketFault, Payload, Plus};

/// Blocks of AES, initialisation vectors, random numbers of RAKP.
pub const BLOCK: usize = 16;
/// HMAC's key of a user: the password with zeros behind it (13.31).
pub const MAX_PASSWORD_BYTES: usize = 20;
pub const MAX_USER_BYTES: usize = 16;
/// K1 and K2 are made of constants this long with either hash (13.32).
const CONSTANT_BYTES: usize = 20;

/// Tried in this order. Suite 0 and all that lack authentication, integrity or encryption have no name here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// RAKP-HMAC-SHA256, HMAC-SHA256-128, AES-CBC-128.
    Seventeen,
    /// RAKP-HMAC-SHA1, HMAC-SHA1-96, AES-CBC-128.
    Three,
}

/// Algorithm numbers as they stand in Open Session: authentication, integrity, confidentiality.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Algorithms {
    pub authentication: u8,
    pub integrity: u8,
    pub confidentiality: u8,
}

impl Suite {
    pub const ALL: [Suite; 2] = [Suite::Seventeen, Suite::Three];

    pub fn number(self) -> u8 {
        match self {
            Suite::Seventeen => 17,
            Suite::Three => 3,
        }
    }
    pub fn algorithms(self) -> Algorithms {
        match self {
            Suite::Seventeen => Algorithms { authentication: 3, integrity: 4, confidentiality: 1 },
            Suite::Three => Algorithms { authentication: 1, integrity: 1, confidentiality: 1 },
        }
    }
    pub fn of(algorithms: Algorithms) -> Option<Suite> {
        Suite::ALL.into_iter().find(|suite| suite.algorithms() == algorithms)
    }
    fn hash(self) -> hmac::Algorithm {
        match self {
            Suite::Seventeen => hmac::HMAC_SHA256,
            Suite::Three => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        }
    }
    /// Of a whole digest: RAKP 2 and 3.
    pub fn digest_bytes(self) -> usize {
        match self {
            Suite::Seventeen => 32,
            Suite::Three => 20,
        }
    }
    /// Of a cut one: RAKP 4 and packets.
    pub fn check_bytes(self) -> usize {
        match self {
            Suite::Seventeen => 16,
            Suite::Three => 12,
        }
    }
}

/// A whole digest of the suite's hash.
pub fn digest(suite: Suite, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut context = hmac::Context::with_key(&hmac::Key::new(suite.hash(), key));
    for part in parts {
        context.update(part);
    }
    context.sign().as_ref().to_vec()
}

/// Compared without telling by its time where the first difference is.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (x, y)| differs | (x ^ y)) == 0
}

/// What both sides said in a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    pub suite: Suite,
    pub console_session: u32,
    pub bmc_session: u32,
    pub console_random: [u8; BLOCK],
    pub bmc_random: [u8; BLOCK],
    pub bmc_guid: [u8; BLOCK],
    /// The whole byte of RAKP 1, the look-up bit included.
    pub role: u8,
    pub user: Vec<u8>,
}

impl Exchange {
    fn user_length(&self) -> [u8; 1] {
        [u8::try_from(self.user.len()).unwrap_or(u8::MAX)]
    }

    /// RAKP 2: the BMC knows the password (13.31).
    pub fn bmc_proof(&self, password: &[u8]) -> Vec<u8> {
        digest(
            self.suite,
            password,
            &[
                &self.console_session.to_le_bytes(),
                &self.bmc_session.to_le_bytes(),
                &self.console_random,
                &self.bmc_random,
                &self.bmc_guid,
                &[self.role],
                &self.user_length(),
                &self.user,
            ],
        )
    }

    /// RAKP 3: the console knows it.
    pub fn console_proof(&self, password: &[u8]) -> Vec<u8> {
        let console = self.console_session.to_le_bytes();
        digest(self.suite, password, &[&self.bmc_random, &console, &[self.role], &self.user_length(), &self.user])
    }

    /// The session integrity key; without a BMC key of its own (Kg) the password stands for it.
    fn session_key(&self, password: &[u8]) -> Vec<u8> {
        digest(
            self.suite,
            password,
            &[&self.console_random, &self.bmc_random, &[self.role], &self.user_length(), &self.user],
        )
    }

    /// RAKP 4: the BMC has the same session key.
    pub fn bmc_check(&self, password: &[u8]) -> Vec<u8> {
        let mut key = self.session_key(password);
        let bmc = self.bmc_session.to_le_bytes();
        let mut check = digest(self.suite, &key, &[&self.console_random, &bmc, &self.bmc_guid]);
        key.zeroize();
        check.truncate(self.suite.check_bytes());
        check
    }

    pub fn keys(&self, password: &[u8]) -> Keys {
        let mut session = self.session_key(password);
        let mut first = digest(self.suite, &session, &[&[1; CONSTANT_BYTES]]);
        let mut second = digest(self.suite, &session, &[&[2; CONSTANT_BYTES]]);
        let mut aes = [0; BLOCK];
        for (to, from) in aes.iter_mut().zip(&second) {
            *to = *from;
        }
        let integrity = hmac::Key::new(self.suite.hash(), &first);
        session.zeroize();
        first.zeroize();
        second.zeroize();
        Keys { suite: self.suite, integrity, aes }
    }
}

/// K1 and K2 of a session.
pub struct Keys {
    suite: Suite,
    integrity: hmac::Key,
    aes: [u8; BLOCK],
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.aes.zeroize();
    }
}

impl Keys {
    fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        let mut code = hmac::sign(&self.integrity, bytes).as_ref().to_vec();
        code.truncate(self.suite.check_bytes());
        code
    }

    /// A whole packet of the session. `vector` must not have been used before with these keys.
    pub fn seal(&self, kind: Payload, session: u32, sequence: u32, payload: &[u8], vector: [u8; BLOCK]) -> Vec<u8> {
        // 1, 2, 3, … and their number, up to a whole block (13.29.2).
        let mut plain = payload.to_vec();
        let pad = (BLOCK - (plain.len() + 1) % BLOCK) % BLOCK;
        plain.extend((1..=pad).map(|i| i as u8));
        plain.push(pad as u8);
        let length = plain.len();
        let cipher = cbc::Encryptor::<aes::Aes128>::new(&self.aes.into(), &vector.into());
        // Whole blocks: there is nothing that could be refused.
        let _ = cipher.encrypt_padded_mut::<NoPadding>(&mut plain, length);
        let mut sealed = vector.to_vec();
        sealed.append(&mut plain);
        rmcp::sealed(kind, session, sequence, &sealed, |signed| self.sign(signed))
    }

    /// The payload of a packet of the session, its integrity checked before anything else.
    pub fn open(&self, packet: &Plus<'_>) -> Result<Vec<u8>, PacketFault> {
        if !packet.authenticated || !packet.encrypted {
            return Err(PacketFault::Unprotected);
        }
        let cut = packet.signed.len().checked_sub(self.suite.check_bytes()).ok_or(PacketFault::Integrity)?;
        let (signed, code) = packet.signed.split_at_checked(cut).ok_or(PacketFault::Integrity)?;
        if !same(&self.sign(signed), code) {
            return Err(PacketFault::Integrity);
        }
        let (vector, text) = packet.payload.split_first_chunk::<BLOCK>().ok_or(PacketFault::Padding)?;
        let mut plain = text.to_vec();
        let cipher = cbc::Decryptor::<aes::Aes128>::new(&self.aes.into(), &(*vector).into());
        cipher.decrypt_padded_mut::<NoPadding>(&mut plain).map_err(|_| PacketFault::Padding)?;
        let pad = usize::from(plain.pop().ok_or(PacketFault::Padding)?);
        let end = plain.len().checked_sub(pad).ok_or(PacketFault::Padding)?;
        // Some BMCs write other bytes than 1, 2, 3, … there; the integrity check has vouched for all of them.
        plain.truncate(end);
        Ok(plain)
    }
}

/// Unpredictable numbers from one seed of the operating system: HMAC-SHA256 over a counter. The state machine stays a
/// function of its inputs.
pub struct Random {
    key: hmac::Key,
    count: u64,
}

impl Random {
    pub fn new(mut seed: [u8; 32]) -> Random {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &seed);
        seed.zeroize();
        Random { key, count: 0 }
    }
    pub fn block(&mut self) -> [u8; BLOCK] {
        self.count += 1;
        let tag = hmac::sign(&self.key, &self.count.to_le_bytes());
        tag.as_ref().first_chunk::<BLOCK>().copied().unwrap_or_default()
    }
    /// Never 0, which means "no session".
    pub fn session_id(&mut self) -> u32 {
        let [a, b, c, d, ..] = self.block();
        u32::from_le_bytes([a, b, c, d]).max(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exchange(suite: Suite) -> Exchange {
        Exchange {
            suite,
            console_session: 0xA0A1_A2A3,
            bmc_session: 0x0200_0402,
            console_random: std::array::from_fn(|i| i as u8),
            bmc_random: std::array::from_fn(|i| 0x10 + i as u8),
            bmc_guid: std::array::from_fn(|i| 0xF0 + i as u8),
            role: 0x14,
            user: b"admin".to_vec(),
        }
    }

    include!("vectors.rs");

    #[test]
    fn the_handshake_agrees_with_another_implementation() {
        for (suite, bmc, console, check, packet) in VECTORS {
            let e = exchange(suite);
            assert_eq!(hex::encode(e.bmc_proof(b"correct horse")), bmc);
            assert_eq!(hex::encode(e.console_proof(b"correct horse")), console);
            assert_eq!(hex::encode(e.bmc_check(b"correct horse")), check);
            let keys = e.keys(b"correct horse");
            let sealed = keys.seal(Payload::Ipmi, e.bmc_session, 7, b"hello, BMC", [0x5A; BLOCK]);
            assert_eq!(hex::encode(sealed), packet);
        }
    }

    #[test]
    fn suite_0_has_no_name() {
        assert_eq!(Suite::of(Algorithms { authentication: 0, integrity: 0, confidentiality: 0 }), None);
        assert_eq!(Suite::of(Algorithms { authentication: 1, integrity: 1, confidentiality: 0 }), None);
        assert_eq!(Suite::of(Suite::Three.algorithms()), Some(Suite::Three));
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_and_what_is_changed_does_not(
            payload in proptest::collection::vec(any::<u8>(), 0..300),
            at: usize,
            bit in 0u8..8,
            three: bool,
        ) {
            let e = exchange(if three { Suite::Three } else { Suite::Seventeen });
            let keys = e.keys(b"p");
            let mut packet = keys.seal(Payload::Sol, 9, 3, &payload, [7; BLOCK]);
            let rmcp::Packet::Plus(plus) = rmcp::parse(&packet).unwrap() else { unreachable!() };
            prop_assert_eq!(keys.open(&plus), Ok(payload));
            // RMCP's own header is not covered.
            let at = 4 + at % (packet.len() - 4);
            packet[at] ^= 1 << bit;
            if let Ok(rmcp::Packet::Plus(plus)) = rmcp::parse(&packet) {
                prop_assert!(keys.open(&plus).is_err());
            }
        }
    }
}
