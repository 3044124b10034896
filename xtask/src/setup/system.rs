//! Which system this is: os-release(5).

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    /// For people.
    pub name: String,
    /// `bookworm`; empty where there is none.
    pub codename: String,
    /// Debian, Ubuntu, or what calls itself like one.
    pub has_apt: bool,
    pub is_debian_12: bool,
}

pub fn this() -> System {
    parse(&std::fs::read_to_string("/etc/os-release").unwrap_or_default())
}

fn parse(text: &str) -> System {
    let field = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .map(|value| value.trim_matches(['"', '\'']).to_owned())
            .unwrap_or_default()
    };
    let (id, like, name, codename) = (field("ID"), field("ID_LIKE"), field("PRETTY_NAME"), field("VERSION_CODENAME"));
    let has_apt = [id.as_str()].into_iter().chain(like.split_whitespace()).any(|w| matches!(w, "debian" | "ubuntu"));
    System {
        name: if name.is_empty() { "this system".to_owned() } else { name },
        is_debian_12: id == "debian" && codename == "bookworm",
        codename,
        has_apt,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_ubuntu_and_others() {
        let debian = parse("PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_CODENAME=bookworm\nID=debian\n");
        assert!(debian.has_apt && debian.is_debian_12);
        let mint = parse("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\nVERSION_CODENAME=wilma\n");
        assert!(mint.has_apt && !mint.is_debian_12);
        let fedora = parse("NAME=\"Fedora Linux\"\nID=fedora\nPRETTY_NAME=\"Fedora Linux 42\"\n");
        assert_eq!((fedora.has_apt, fedora.name.as_str()), (false, "Fedora Linux 42"));
        assert!(!parse("").has_apt);
    }
}
