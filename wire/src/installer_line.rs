//! The installer's kernel command line, as values. The keys are those of [`crate::cmdline`].

use std::net::IpAddr;

use crate::cmdline as keys;

/// Which word of the line is missing or wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineError(pub String);

impl std::fmt::Display for LineError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LineError {}

/// `key=value` words; double quotes hold blanks together, as in the kernel's own parser.
pub fn words(line: &str) -> Vec<(String, String)> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for c in line.chars().chain(std::iter::once(' ')) {
        match c {
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => {
                if !word.is_empty() {
                    let (key, value) = word.split_once('=').unwrap_or((&word, ""));
                    words.push((key.to_owned(), value.to_owned()));
                    word.clear();
                }
            }
            c => word.push(c),
        }
    }
    words
}

/// The last value wins, as everywhere on the kernel's command line.
pub fn value<'a>(words: &'a [(String, String)], key: &str) -> Option<&'a str> {
    words.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

/// SHA-256, lower-case hex, without the prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sha256Hex(pub String);

impl Sha256Hex {
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let good = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        good.then(|| Self(hex.to_owned()))
    }
}

/// `ADDRESS/PREFIX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    pub address: IpAddr,
    pub prefix: u8,
}

impl Network {
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let prefix: u8 = prefix.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        (prefix <= most).then_some(Self { address, prefix })
    }
}

/// Six octets, lower case, with colons.
pub fn mac(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    let good = parts.len() == 6 && parts.iter().all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
    good.then(|| parts.join(":").to_ascii_lowercase())
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallerLine {
    pub node: String,
    pub api: String,
    pub pin: Sha256Hex,
    pub assets: String,
    pub stage2: Sha256Hex,
    pub system: Sha256Hex,
    pub mac: String,
    pub address: Network,
    pub gateway: Option<IpAddr>,
}

impl InstallerLine {
    pub fn parse(line: &str) -> Result<Self, LineError> {
        let words = words(line);
        let get = |key: &str| {
            value(&words, key)
                .filter(|value| !value.is_empty())
                .ok_or_else(|| LineError(format!("{key} is missing on the kernel command line")))
        };
        let wrong = |key: &str| LineError(format!("{key} on the kernel command line is not valid"));
        let sha = |key: &str| Sha256Hex::parse(get(key)?).ok_or_else(|| wrong(key));
        let url = |key: &str, scheme: &str| {
            let value = get(key)?.trim_end_matches('/');
            value.starts_with(scheme).then(|| value.to_owned()).ok_or_else(|| wrong(key))
        };
        Ok(Self {
            node: get(keys::NODE)?.to_owned(),
            api: url(keys::API, "https://")?,
            pin: sha(keys::PIN)?,
            assets: url(keys::ASSETS, "http://")?,
            stage2: sha(keys::STAGE2)?,
            system: sha(keys::SYSTEM)?,
            mac: mac(get(keys::MAC)?).ok_or_else(|| wrong(keys::MAC))?,
            address: Network::parse(get(keys::ADDRESS)?).ok_or_else(|| wrong(keys::ADDRESS))?,
            gateway: match value(&words, keys::GATEWAY).filter(|value| !value.is_empty()) {
                Some(text) => Some(text.parse().map_err(|_| wrong(keys::GATEWAY))?),
                None => None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn line() -> String {
        format!(
            "console=ttyS0 rackctl.node=n1 rackctl.api=https://10.0.2.2:8443/ rackctl.pin=sha256:{HEX} \
             rackctl.assets=http://10.0.2.2:8080 rackctl.stage2=sha256:{HEX} rackctl.system=sha256:{HEX} \
             rackctl.mac=52:54:00:AA:bb:01 rackctl.address=10.0.2.15/24 rackctl.gateway=10.0.2.2\n"
        )
    }

    #[test]
    fn the_whole_line() {
        let parsed = InstallerLine::parse(&line()).unwrap();
        assert_eq!(parsed.api, "https://10.0.2.2:8443");
        assert_eq!(parsed.mac, "52:54:00:aa:bb:01");
        assert_eq!(parsed.address, Network { address: "10.0.2.15".parse().unwrap(), prefix: 24 });
        assert_eq!(parsed.gateway, Some("10.0.2.2".parse().unwrap()));
    }

    #[test]
    fn each_missing_or_wrong_key_is_named() {
        for key in ["node", "api", "pin", "assets", "stage2", "system", "mac", "address"] {
            let without = line().replace(&format!("rackctl.{key}="), "other.key=");
            let message = InstallerLine::parse(&without).unwrap_err().0;
            assert!(message.contains(&format!("rackctl.{key}")), "{message}");
        }
        for (from, to, key) in [
            ("https://", "http://", "rackctl.api"),
            ("10.0.2.15/24", "10.0.2.15/33", "rackctl.address"),
            ("52:54", "52:5", "rackctl.mac"),
            ("gateway=10.0.2.2", "gateway=x", "rackctl.gateway"),
            ("sha256:0", "sha256:G", "rackctl.pin"),
        ] {
            let message = InstallerLine::parse(&line().replacen(from, to, 1)).unwrap_err().0;
            assert!(message.contains(key), "{message}");
        }
    }

    #[test]
    fn quotes_and_repetitions() {
        let words = words("a=\"b c\" a=d flag x=\n");
        assert_eq!(value(&words, "a"), Some("d"));
        assert_eq!(words[0].1, "b c");
        assert_eq!(value(&words, "flag"), Some(""));
    }
}
