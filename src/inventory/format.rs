//! Texts with a form of their own: checked, and turned into values. Pure.

use std::net::Ipv4Addr;

use base64::{Engine, prelude::BASE64_STANDARD};
use ipnet::Ipv4Net;
use uuid::Uuid;

use crate::model::Mac;

/// Checks a text against a JSON Schema `format` of ours. The error says what is expected.
pub fn check(format: &str, text: &str) -> Result<(), String> {
    let ok = |fine: bool, want: &str| if fine { Ok(()) } else { Err(want.to_owned()) };
    match format {
        "rackctl-name" => ok(
            is_name(text),
            "a name: lower-case letters, digits, `-` and `.`, at most 63, beginning and ending with a letter or digit",
        ),
        "rackctl-label" => ok(is_label(text), "a label: letters, digits, `-`, `_` and `.`, at most 63, no space"),
        "rackctl-duration" => duration_ms(text).map(drop),
        "rackctl-size" => size_bytes(text).map(drop),
        "rackctl-count" => percent(text).map(drop),
        "rackctl-cidr" => cidr(text).map(drop),
        "rackctl-interface-address" => interface_address(text).map(drop),
        "rackctl-ipv4" => ipv4(text).map(drop),
        "rackctl-mac" => text.parse::<Mac>().map(drop).map_err(|_| "a MAC address, as in 52:54:00:12:34:56".into()),
        "rackctl-uuid" => {
            ok(text.len() == 36 && Uuid::try_parse(text).is_ok(), "a UUID, as in 4c4c4544-0034-5010-8031-c6c04f474831")
        }
        "rackctl-sha256" => ok(is_sha256(text), "a SHA-256: 64 hex digits"),
        "rackctl-pin" => ok(
            pin(text).is_some(),
            "`sha256:` and 64 hex digits (`rackctl bmc trust` prints it), or the same digest in base64",
        ),
        "rackctl-https-url" => https_url(text),
        "rackctl-webhook-url" => webhook_url(text),
        "rackctl-template" => ok(text.contains("{{"), "true, false, or a parameter, as in \"{{ again }}\""),
        "rackctl-host-port" => ok(is_host_port(text), "HOST or HOST:PORT"),
        "rackctl-file-mode" => ok(
            (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b)),
            "an octal file mode in quotes, as in \"0400\"",
        ),
        "rackctl-time-of-day" => ok(is_time_of_day(text), "a time of day, as in \"08:00\""),
        "rackctl-selector" => super::select::selector(text).map(drop).map_err(|e| e.to_string()),
        "rackctl-version" => ok(is_version(text), "a version, as in \"3.4.23\""),
        _ => Ok(()),
    }
}

fn is_name(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    // Two dots would make a path out of a name that is used as a file name.
    bytes.len() <= 63
        && bytes.iter().all(|b| inner(*b))
        && edge(bytes.first())
        && edge(bytes.last())
        && !text.contains("..")
}

/// A label's value: empty, or letters, digits, `-`, `_`, `.`, with a letter or digit at both ends.
pub(crate) fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |b: Option<&u8>| b.is_none_or(u8::is_ascii_alphanumeric);
    bytes.len() <= 63
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && edge(bytes.first())
        && edge(bytes.last())
        && !text.contains("..")
}

/// A label's key, with or without a prefix: `role`, `example.net/role`.
pub(crate) fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_name(prefix) && !name.is_empty() && is_label(name),
        None => !text.is_empty() && is_label(text),
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The SHA-256 of a public key as `sha256:` and 64 small hex digits, however it was written: with colons, or in base64 as
/// `curl --pinnedpubkey sha256//…` and RFC 7469 have it.
pub(crate) fn pin(text: &str) -> Option<String> {
    let digest = text.strip_prefix("sha256:").or_else(|| text.strip_prefix("sha256//"))?;
    let hex: String = digest.chars().filter(|c| *c != ':').collect();
    if is_sha256(&hex) {
        return Some(format!("sha256:{}", hex.to_ascii_lowercase()));
    }
    let bytes = BASE64_STANDARD.decode(digest).ok().filter(|bytes| bytes.len() == 32)?;
    Some(format!("sha256:{}", hex::encode(bytes)))
}

fn is_time_of_day(text: &str) -> bool {
    let two = |part: &str, below: u8| {
        part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit()) && part.parse::<u8>().is_ok_and(|n| n < below)
    };
    text.split_once(':').is_some_and(|(hours, minutes)| two(hours, 24) && two(minutes, 60))
}

fn is_version(text: &str) -> bool {
    let text = text.strip_prefix('v').unwrap_or(text);
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'+' | b'~'));
    let mut parts = text.split('.');
    let number = |part: Option<&str>| part.is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    plain && number(parts.next()) && parts.next().is_some_and(|p| p.starts_with(|c: char| c.is_ascii_digit()))
}

fn is_host(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

fn is_host_port(text: &str) -> bool {
    match text.rsplit_once(':') {
        Some((host, port)) => (is_host(host) || is_ipv6(host)) && port.parse::<u16>().is_ok_and(|p| p > 0),
        None => is_host(text),
    }
}

fn is_ipv6(text: &str) -> bool {
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    inner.is_some_and(|t| t.parse::<std::net::Ipv6Addr>().is_ok())
}

fn https_url(text: &str) -> Result<(), String> {
    let Some(rest) = text.strip_prefix("https://") else {
        return Err("an address that begins with https:// (the BMC's certificate is always checked)".into());
    };
    if rest.contains('@') {
        return Err("an address without user or password: they belong to a Credential".into());
    }
    let host = rest.strip_suffix('/').unwrap_or(rest);
    if host.contains('/') {
        return Err("an address without a path: https://HOST[:PORT]".into());
    }
    if is_host_port(host) || is_ipv6(host) { Ok(()) } else { Err("https://HOST[:PORT]".into()) }
}

/// `http://HOST[:PORT][/PATH]` or https; parameters may stand behind the host.
fn webhook_url(text: &str) -> Result<(), String> {
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return Err("an address that begins with http:// or https://".into());
    };
    if rest.contains('@') {
        return Err("an address without user or password".into());
    }
    let host = rest.split(['/', '?']).next().unwrap_or(rest);
    if is_host_port(host) || is_ipv6(host) { Ok(()) } else { Err("http://HOST[:PORT]/PATH".into()) }
}

const DURATION: &str = "a duration with its unit, as in 30s, 10m, 1h30m";
/// Longest duration: a year. What is longer is a slip.
pub const MAX_DURATION_MS: u64 = 366 * 86_400_000;

/// `1h30m` → milliseconds. Units: ms, s, m, h, d.
pub fn duration_ms(text: &str) -> Result<u64, String> {
    let fault = || DURATION.to_owned();
    let (mut rest, mut total) = (text, 0u64);
    if rest.is_empty() {
        return Err(fault());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().map_err(|_| fault())?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_lowercase).count();
        let unit = match &rest[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(fault()),
        };
        rest = &rest[letters..];
        total = number.checked_mul(unit).and_then(|n| total.checked_add(n)).ok_or_else(fault)?;
    }
    if total > MAX_DURATION_MS { Err("a duration of a year at most".into()) } else { Ok(total) }
}

/// `10m` → seconds, rounded up.
pub fn duration_s(text: &str) -> Result<u64, String> {
    duration_ms(text).map(|ms| ms.div_ceil(1000))
}

/// `400Gi` → bytes. Units: Ki Mi Gi Ti Pi (1024), k M G T P (1000); a `B` may follow.
pub fn size_bytes(text: &str) -> Result<u64, String> {
    let fault = || "a size with its unit, as in 400Gi, 1Ti, 512M".to_owned();
    let bare = text.strip_suffix('B').unwrap_or(text);
    let end = bare.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(bare.len());
    let factor: u64 = match &bare[end..] {
        "" => 1,
        "k" | "K" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "P" => 1_000_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "Pi" => 1 << 50,
        _ => return Err(fault()),
    };
    let number = &bare[..end];
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || part.len() > 6 || (number.contains('.') && part.is_empty()) || part.contains('.') {
        return Err(fault());
    }
    let bytes = whole.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).ok_or_else(fault)?;
    let scale = 10u128.pow(part.len() as u32);
    let more = match part {
        "" => 0,
        digits => u128::from(digits.parse::<u64>().map_err(|_| fault())?) * u128::from(factor) / scale,
    };
    u64::try_from(more).ok().and_then(|m| bytes.checked_add(m)).ok_or_else(fault)
}

/// `25%` → 25. At most 100.
pub fn percent(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('%').filter(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    number
        .and_then(|n| n.parse().ok())
        .filter(|n| *n <= 100)
        .ok_or_else(|| "a number, or a share from 0% to 100%".into())
}

/// `10.77.0.0/24`: a network, with no bit set behind the prefix.
pub fn cidr(text: &str) -> Result<Ipv4Net, String> {
    let net: Ipv4Net = text.parse().map_err(|_| "an IPv4 network, as in 10.77.0.0/24".to_owned())?;
    if net.addr() == net.network() {
        Ok(net)
    } else {
        Err(format!("a network; {} is an address in it: {}", text, net.trunc()))
    }
}

/// `10.77.0.11/24`: an address with the prefix of its network.
pub fn interface_address(text: &str) -> Result<Ipv4Net, String> {
    let net: Ipv4Net = text.parse().map_err(|_| "an IPv4 address with its prefix, as in 10.77.0.11/24".to_owned())?;
    if net.prefix_len() < 31 && (net.addr() == net.network() || net.addr() == net.broadcast()) {
        return Err(format!("the address of a machine; {} is the network's or its broadcast address", net.addr()));
    }
    Ok(net)
}

pub fn ipv4(text: &str) -> Result<Ipv4Addr, String> {
    text.parse().map_err(|_| "an IPv4 address, as in 10.77.0.1".into())
}

/// A word for a kernel command line: nothing in it can end the word or begin an expansion.
pub fn kernel_word(text: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'$' | b'"' | b'\'' | b'`' | b'\\');
    if !text.is_empty() && text.len() <= 1024 && text.bytes().all(plain) {
        Ok(())
    } else {
        Err("one kernel argument without white space, quotes, `$` or `\\`".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration_ms("1h30m"), Ok(5_400_000));
        assert_eq!(duration_s("1500ms"), Ok(2));
        assert_eq!(duration_s("10m"), Ok(600));
        for text in ["", "10", "s", "10 m", "1y", "-1s", "99999999999999999999s", "400d", "1.5h"] {
            assert!(duration_ms(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size_bytes("400Gi"), Ok(400 << 30));
        assert_eq!(size_bytes("1.5Ti"), Ok(3 << 39));
        assert_eq!(size_bytes("512MB"), Ok(512_000_000));
        for text in ["", "Gi", "1.Gi", "1..5Gi", "4 Gi", "-1Gi", "99999999Pi", "1.2.3Gi"] {
            assert!(size_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses() {
        assert!(cidr("10.77.0.1/24").is_err_and(|e| e.contains("10.77.0.0/24")));
        assert!(interface_address("10.77.0.255/24").is_err());
        assert!(interface_address("10.77.0.11").is_err());
        assert!(check("rackctl-https-url", "https://10.0.0.11").is_ok());
        assert!(check("rackctl-https-url", "https://[fe80::1]:8443").is_ok());
        for url in ["http://10.0.0.11", "https://u:p@h", "https://h/redfish/v1", "https://", "file:///etc/passwd"] {
            assert!(check("rackctl-https-url", url).is_err(), "{url}");
        }
    }

    #[test]
    fn names_cannot_be_paths() {
        for name in ["", "-a", "a-", "A", "a/b", "..", "a..b", "a b", "a\n", &"a".repeat(64)] {
            assert!(check("rackctl-name", name).is_err(), "{name:?}");
        }
        assert!(check("rackctl-name", "n1.fra1").is_ok());
    }

    #[test]
    fn kernel_words_cannot_leave_their_word() {
        for word in ["", "a b", "a\nb", "${net0}", "a\"b", "a'b", "ä"] {
            assert!(kernel_word(word).is_err(), "{word:?}");
        }
        assert!(kernel_word("console=ttyS0,115200").is_ok());
    }
}
