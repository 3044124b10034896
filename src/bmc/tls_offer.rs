//! What TLS an old BMC offers: a ClientHello that takes anything, and what the answer says. Pure; nothing is encrypted.
//!
//! rustls says that there is nothing in common, not what the other side has. The person who has to mend it needs to
//! know. Sources: RFC 5246 7.4.1.2, 7.4.1.3 and 7.4.3; RFC 8422 5.4; the suites' numbers from the TLS registry of IANA.

/// What the BMC chose when it might choose freely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// `0x0301` is TLS 1.0, `0x0303` TLS 1.2.
    pub version: u16,
    pub suite: u16,
    /// Number of the curve of its key exchange, if it is one on curves and was shown.
    pub curve: Option<u16>,
}

/// The suites that are offered to it, with their names: those that rustls has first, then what old BMCs have.
const SUITES: [(u16, &str); 27] = [
    (0xc02b, "ECDHE-ECDSA-AES128-GCM-SHA256"),
    (0xc02f, "ECDHE-RSA-AES128-GCM-SHA256"),
    (0xc02c, "ECDHE-ECDSA-AES256-GCM-SHA384"),
    (0xc030, "ECDHE-RSA-AES256-GCM-SHA384"),
    (0xcca9, "ECDHE-ECDSA-CHACHA20-POLY1305"),
    (0xcca8, "ECDHE-RSA-CHACHA20-POLY1305"),
    (0xc023, "ECDHE-ECDSA-AES128-CBC-SHA256"),
    (0xc027, "ECDHE-RSA-AES128-CBC-SHA256"),
    (0xc028, "ECDHE-RSA-AES256-CBC-SHA384"),
    (0xc009, "ECDHE-ECDSA-AES128-CBC-SHA"),
    (0xc00a, "ECDHE-ECDSA-AES256-CBC-SHA"),
    (0xc013, "ECDHE-RSA-AES128-CBC-SHA"),
    (0xc014, "ECDHE-RSA-AES256-CBC-SHA"),
    (0x009e, "DHE-RSA-AES128-GCM-SHA256"),
    (0x009f, "DHE-RSA-AES256-GCM-SHA384"),
    (0x0067, "DHE-RSA-AES128-CBC-SHA256"),
    (0x006b, "DHE-RSA-AES256-CBC-SHA256"),
    (0x0033, "DHE-RSA-AES128-CBC-SHA"),
    (0x0039, "DHE-RSA-AES256-CBC-SHA"),
    (0x009c, "RSA-AES128-GCM-SHA256"),
    (0x009d, "RSA-AES256-GCM-SHA384"),
    (0x003c, "RSA-AES128-CBC-SHA256"),
    (0x003d, "RSA-AES256-CBC-SHA256"),
    (0x002f, "RSA-AES128-CBC-SHA"),
    (0x0035, "RSA-AES256-CBC-SHA"),
    (0x000a, "RSA-3DES-CBC-SHA"),
    (0x0005, "RSA-RC4-SHA"),
];
const CURVES: [(u16, &str); 4] = [(29, "X25519"), (23, "P-256"), (24, "P-384"), (25, "P-521")];
/// Hash and signature, RFC 5246 7.4.1.4.1; SHA-1 and MD5 too, for that is what old ones have.
const SIGNATURES: [u16; 12] =
    [0x0403, 0x0503, 0x0603, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601, 0x0203, 0x0201, 0x0101];

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const KEY_EXCHANGE: u8 = 12;
/// Bytes of an answer that are looked at: certificates come before the key exchange.
pub const MOST_BYTES: usize = 64 * 1024;

fn counted_u16(list: impl Iterator<Item = u16>) -> Vec<u8> {
    let bytes: Vec<u8> = list.flat_map(u16::to_be_bytes).collect();
    [&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat()
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &(body.len() as u16).to_be_bytes(), body].concat()
}

/// A ClientHello of TLS 1.2 with everything that is known here. `random`: any 32 bytes.
pub fn hello(random: [u8; 32]) -> Vec<u8> {
    let extensions = [
        extension(10, &counted_u16(CURVES.iter().map(|(n, _)| *n))),
        extension(11, &[1, 0]),
        extension(13, &counted_u16(SIGNATURES.into_iter())),
    ]
    .concat();
    // The last one says that we can renegotiate safely (RFC 5746 3.3): some servers refuse without it.
    let suites = counted_u16(SUITES.iter().map(|(n, _)| *n).chain([0x00ff]));
    let body =
        [&[3, 3][..], &random, &[0], &suites, &[1, 0], &(extensions.len() as u16).to_be_bytes(), &extensions].concat();
    let length = (body.len() as u32).to_be_bytes();
    let message = [&[CLIENT_HELLO, length[1], length[2], length[3]][..], &body].concat();
    [&[HANDSHAKE, 3, 1][..], &(message.len() as u16).to_be_bytes(), &message].concat()
}

/// What has come so far says: `None`, more is needed, or nothing can be learnt (an alert, another protocol).
pub fn answer(bytes: &[u8]) -> Option<Offer> {
    let mut offer: Option<Offer> = None;
    let messages = handshakes(bytes);
    let mut rest = messages.as_slice();
    while let Some((kind, body, after)) = message(rest) {
        match kind {
            SERVER_HELLO => {
                let version = number(body, 0)?;
                let session = usize::from(*body.get(34)?);
                offer = Some(Offer { version, suite: number(body, 35 + session)?, curve: None });
            }
            // A named curve (3) and its number.
            KEY_EXCHANGE if body.first() == Some(&3) => {
                if let Some(offer) = &mut offer {
                    offer.curve = number(body, 1);
                }
            }
            _ => {}
        }
        rest = after;
    }
    offer
}

/// Whether `answer` would say no more with more bytes: the hello is done (14), or it was an alert.
pub fn complete(bytes: &[u8]) -> bool {
    let messages = handshakes(bytes);
    let mut rest = messages.as_slice();
    while let Some((kind, _, after)) = message(rest) {
        if kind == 14 {
            return true;
        }
        rest = after;
    }
    bytes.first().is_some_and(|kind| *kind != HANDSHAKE) || bytes.len() >= MOST_BYTES
}

/// The bodies of all whole handshake records, one after the other.
fn handshakes(mut bytes: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while let [HANDSHAKE, _, _, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some(body) = rest.get(..length) else { break };
        all.extend_from_slice(body);
        bytes = rest.get(length..).unwrap_or_default();
    }
    all
}

fn message(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let [kind, a, b, c, rest @ ..] = bytes else { return None };
    let length = usize::try_from(u32::from_be_bytes([0, *a, *b, *c])).ok()?;
    Some((*kind, rest.get(..length)?, rest.get(length..)?))
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

impl std::fmt::Display for Offer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.version {
            0x0300 => f.write_str("SSL 3.0")?,
            0x0301..=0x0303 => write!(f, "TLS 1.{}", self.version - 0x0301)?,
            other => write!(f, "version {other:#06x}")?,
        }
        match SUITES.iter().find(|(n, _)| *n == self.suite) {
            Some((_, name)) => write!(f, " with {name}")?,
            None => write!(f, " with the suite {:#06x}", self.suite)?,
        }
        match self.curve.map(|c| (c, CURVES.iter().find(|(n, _)| *n == c))) {
            Some((_, Some((_, name)))) => write!(f, " on {name}"),
            Some((number, None)) => write!(f, " on the curve {number}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(messages: &[u8]) -> Vec<u8> {
        [&[HANDSHAKE, 3, 3][..], &(messages.len() as u16).to_be_bytes(), messages].concat()
    }
    fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u32).to_be_bytes();
        [&[kind, length[1], length[2], length[3]][..], body].concat()
    }
    fn server_hello(version: u16, suite: u16) -> Vec<u8> {
        let body = [&version.to_be_bytes()[..], &[7; 32], &[2, 1, 2], &suite.to_be_bytes(), &[0]].concat();
        handshake(SERVER_HELLO, &body)
    }

    #[test]
    fn what_it_chose_is_said_in_words() {
        let old = record(&server_hello(0x0301, 0x002f));
        assert_eq!(answer(&old).unwrap().to_string(), "TLS 1.0 with RSA-AES128-CBC-SHA");
        let curve = handshake(KEY_EXCHANGE, &[3, 0, 25, 1, 4]);
        let both = [record(&server_hello(0x0303, 0xc030)), record(&curve), record(&handshake(14, &[]))].concat();
        assert_eq!(answer(&both).unwrap().to_string(), "TLS 1.2 with ECDHE-RSA-AES256-GCM-SHA384 on P-521");
        assert!(complete(&both) && !complete(&old));
        assert_eq!(answer(&both[..both.len() - 12]).unwrap().curve, None, "half a message says nothing");
        assert_eq!(answer(&[21, 3, 1, 0, 2, 2, 40]), None, "an alert");
        assert!(complete(&[21, 3, 1, 0, 2, 2, 40]) && complete(b"HTTP/1.1 400"));
        assert_eq!(
            Offer { version: 0x0304, suite: 1, curve: Some(9) }.to_string(),
            "version 0x0304 with the suite 0x0001 on the curve 9"
        );
    }

    #[test]
    fn one_record_may_bear_several_messages() {
        let all = [server_hello(0x0302, 0xc013), handshake(KEY_EXCHANGE, &[3, 0, 23]), handshake(14, &[])].concat();
        assert_eq!(answer(&record(&all)).unwrap().to_string(), "TLS 1.1 with ECDHE-RSA-AES128-CBC-SHA on P-256");
    }

    #[test]
    fn the_hello_is_well_formed() {
        let bytes = hello([9; 32]);
        assert_eq!(usize::from(u16::from_be_bytes([bytes[3], bytes[4]])), bytes.len() - 5);
        let (kind, body, rest) = message(&bytes[5..]).unwrap();
        assert_eq!((kind, rest.len()), (CLIENT_HELLO, 0));
        assert_eq!(usize::from(number(body, 35).unwrap()), 2 * (SUITES.len() + 1));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = (answer(&bytes), complete(&bytes));
            let _ = answer(&record(&bytes)).map(|o| o.to_string());
        }
    }
}
