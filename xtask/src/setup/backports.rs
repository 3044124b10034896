//! The source of backports, derived from the host's own sources. Pure.
//!
//! Where `qemu-utils` is installed from bookworm-backports, bookworm's `qemu-system-common` breaks it, and apt would
//! remove it: then the QEMU family has to come from backports as well.

/// A `.sources` file (deb822) for backports with the host's archive and key; `None` where no source of `codename` is.
pub fn source(files: &[(String, String)], codename: &str) -> Option<String> {
    let (uri, signed) = files.iter().find_map(|(name, text)| {
        if name.ends_with(".sources") { deb822(text, codename) } else { one_line(text, codename) }
    })?;
    let mut text = format!("Types: deb\nURIs: {uri}\nSuites: {codename}-backports\nComponents: main\n");
    if let Some(signed) = signed {
        text.push_str(&format!("Signed-By: {signed}\n"));
    }
    Some(text)
}

/// sources.list(5), "DEB822-STYLE FORMAT": the first stanza with that suite.
fn deb822(text: &str, codename: &str) -> Option<(String, Option<String>)> {
    let text: String = text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    text.split("\n\n").find_map(|stanza| {
        let field = |key: &str| {
            stanza.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case(key).then(|| value.trim().to_owned())
            })
        };
        let has = |key: &str, word: &str| field(key).is_some_and(|v| v.split_whitespace().any(|w| w == word));
        let off = field("Enabled").is_some_and(|v| v.eq_ignore_ascii_case("no"));
        if off || !has("Types", "deb") || !has("Suites", codename) {
            return None;
        }
        // A key may also stand in the file itself, over several lines: that one is not copied.
        let signed = field("Signed-By").filter(|value| value.starts_with('/'));
        Some((field("URIs")?.split_whitespace().next()?.to_owned(), signed))
    })
}

/// `deb [signed-by=/path] URI SUITE COMPONENT…`
fn one_line(text: &str, codename: &str) -> Option<(String, Option<String>)> {
    text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("deb ")?.trim_start();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => ("", rest),
        };
        let mut words = rest.split_whitespace();
        let uri = words.next()?;
        let signed = options.split_whitespace().find_map(|o| o.strip_prefix("signed-by=")).map(str::to_owned);
        (words.next()? == codename).then(|| (uri.to_owned(), signed))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "Types: deb\n# a snapshot\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\nTypes: deb\nURIs: http://mirror.example/debian-security\nSuites: bookworm-security\nComponents: main\n";

    fn of(name: &str, text: &str) -> Option<String> {
        source(&[("other.list".into(), "deb http://x.example y main".into()), (name.into(), text.into())], "bookworm")
    }

    #[test]
    fn archive_and_key_are_the_hosts() {
        let wanted = "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm-backports\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n";
        assert_eq!(of("debian.sources", DEBIAN).as_deref(), Some(wanted));
        let line = "# deb http://a.example bookworm main\ndeb [arch=amd64 signed-by=/k.gpg] http://b.example/debian bookworm main contrib\n";
        let wanted = "Types: deb\nURIs: http://b.example/debian\nSuites: bookworm-backports\nComponents: main\nSigned-By: /k.gpg\n";
        assert_eq!(of("sources.list", line).as_deref(), Some(wanted));
        let plain = of("sources.list", "deb http://b.example/debian bookworm main").unwrap();
        assert!(!plain.contains("Signed-By"), "{plain}");
    }

    #[test]
    fn without_a_source_of_the_release_there_is_none() {
        assert_eq!(of("debian.sources", &DEBIAN.replace("Suites: bookworm bookworm-updates", "Suites: trixie")), None);
        assert_eq!(of("debian.sources", &format!("Enabled: no\n{DEBIAN}")), None);
    }
}
