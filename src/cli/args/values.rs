//! Values of flags: strings in, typed values or a sentence out.

use std::time::Duration;

use crate::model::{goal::Ceiling, rollout::Count};

/// More machines at once than this has no use and costs descriptors.
pub const CONCURRENCY_MAX: u32 = 512;
const DURATION_MAX_S: u64 = 30 * 86_400;

/// `500ms`, `30s`, `15m`, `2h`, `1d`, and sums of them: `1h30m`. At most 30 days.
pub fn duration(text: &str) -> Result<Duration, String> {
    let fault = || format!("`{text}` is no duration: a number with a unit, as in 500ms, 90s, 15m, 2h, 1d");
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u64 = rest[..digits].parse().map_err(|_| fault())?;
        rest = &rest[digits..];
        let units = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let milliseconds = match &rest[..units] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(fault()),
        };
        rest = &rest[units..];
        let part = number.checked_mul(milliseconds).map(Duration::from_millis);
        total = part.and_then(|p| total.checked_add(p)).ok_or_else(fault)?;
    }
    if text.is_empty() {
        return Err(fault());
    }
    if total > Duration::from_secs(DURATION_MAX_S) {
        return Err(format!("`{text}` is longer than 30 days"));
    }
    Ok(total)
}

/// `reversible`, `reboot`, `data-loss`, or several with commas: the highest counts.
pub fn ceiling(text: &str) -> Result<Ceiling, String> {
    let mut highest = Ceiling::Reversible;
    for word in text.split(',') {
        let one = match word.trim() {
            "reversible" => Ceiling::Reversible,
            "reboot" => Ceiling::Reboot,
            "data-loss" => Ceiling::DataLoss,
            other => {
                return Err(format!("`{other}` is none of reversible, reboot, data-loss"));
            }
        };
        highest = highest.max(one);
    }
    Ok(highest)
}

/// `2`, `25%`: one or more.
pub fn count(text: &str) -> Result<Count, String> {
    let fault = || format!("`{text}` is neither a number of machines, 1 or more, nor a share as in 25%");
    match text.parse() {
        Ok(Count::Number(0) | Count::Percent(0)) | Err(_) => Err(fault()),
        Ok(count) => Ok(count),
    }
}

/// A plan's hash or a prefix of it that a person can compare: at least 8 hex digits.
pub fn hash(text: &str) -> Result<String, String> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    if hex.len() < 8 || hex.len() > 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(format!("`{text}` is no plan hash: 8 to 64 hex digits, as `rackctl plan` prints them"));
    }
    Ok(hex.to_ascii_lowercase())
}

/// `NAME=VALUE`; the value may be empty and may hold `=`.
pub fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not NAME=VALUE")),
    }
}

/// `sha256:` and 64 hex digits: what a BMC's public key hashes to.
pub fn fingerprint(text: &str) -> Result<String, String> {
    let named = if text.starts_with("sha256") { text.to_owned() } else { format!("sha256:{text}") };
    crate::inventory::format::pin(&named)
        .ok_or_else(|| format!("`{text}` is no fingerprint: sha256: and 64 hex digits, or the digest in base64"))
}

/// `NAME=VALUE`, both as they stand.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not NAME=VALUE")),
    }
}

/// An address that a BMC can fetch from: it has a scheme and a host, and no password in it, for it is written down.
pub fn image_url(text: &str) -> Result<String, String> {
    let url: reqwest::Url = text.parse().map_err(|_| format!("`{text}` is no address as in https://HOST/IMAGE"))?;
    if !matches!(url.scheme(), "http" | "https" | "nfs" | "cifs" | "smb" | "tftp" | "ftp" | "sftp" | "scp") {
        return Err(format!("`{}` is nothing that a BMC fetches from: http, https, nfs, cifs, tftp, …", url.scheme()));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(format!("`{text}` names no host"));
    }
    if url.password().is_some() {
        return Err("an address with a password in it would be written into the journal".to_owned());
    }
    Ok(text.to_owned())
}

/// An address, or an existing file as its absolute path.
pub fn image(text: &str) -> Result<String, String> {
    if text.contains("://") {
        return image_url(text);
    }
    let path = std::path::absolute(text).map_err(|e| format!("`{text}`: {e}"))?;
    if !path.is_file() {
        return Err(format!("`{text}` is neither an address as in https://HOST/IMAGE nor a file"));
    }
    path.into_os_string().into_string().map_err(|_| format!("the path of `{text}` is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, milliseconds) in
            [("500ms", 500), ("90s", 90_000), ("1h30m", 5_400_000), ("0s", 0), ("2d", 172_800_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "5", "s", "-1s", "1.5h", "1 h", "31d", "99999999999999999999s", "18446744073709551615d", "5é"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_highest_ceiling_counts() {
        assert_eq!(ceiling("reboot,data-loss"), Ok(Ceiling::DataLoss));
        assert_eq!(ceiling("reboot"), Ok(Ceiling::Reboot));
        assert!(ceiling("").is_err());
        assert!(ceiling("all").is_err());
    }

    #[test]
    fn hashes_and_fingerprints() {
        assert_eq!(hash("sha256:ABCDEF01"), Ok("abcdef01".to_owned()));
        assert!(hash("abc").is_err());
        let hex = "ab".repeat(32);
        assert_eq!(fingerprint(&hex.to_uppercase()), Ok(format!("sha256:{hex}")));
        assert!(fingerprint("sha256:ab").is_err());
    }

    #[test]
    fn pairs_and_addresses() {
        assert_eq!(pair("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert!(pair("=b").is_err() && pair("A").is_err());
        assert!(image_url("https://h/x.iso").is_ok() && image_url("nfs://h/share/x.iso").is_ok());
        for bad in ["x.iso", "file:///x.iso", "https://u:secret@h/x.iso"] {
            let said = image_url(bad).unwrap_err();
            assert!(!said.contains("secret"), "{said}");
        }
    }
}
