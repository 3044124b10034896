//! `etcd://HOST:PORT,HOST:PORT[/PREFIX][?ca=FILE&cert=FILE&key=FILE&user=NAME&password-file=FILE]`

use std::{fmt, path::PathBuf};

use crate::{
    etcd::{pool_client::ENDPOINTS_MAX, tls_load::Files},
    model::{Failure, failure::Cause},
};

pub const SCHEME: &str = "etcd://";
const PORT: u16 = 2379;
const PREFIX: &str = "/rackctl";
/// Of the prefix, so that keys stay short.
const PREFIX_MAX_BYTES: usize = 200;

/// Where a store lies. Nothing in it is secret: the password's file is named, not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdUrl {
    /// Names or addresses, IPv6 without brackets, each with its port.
    pub hosts: Vec<(String, u16)>,
    /// `/a/b`: begins with a slash and ends without one.
    pub prefix: String,
    /// With a CA the endpoints are spoken to over TLS, without one they are not.
    pub files: Files,
    pub user: Option<(String, PathBuf)>,
}

impl EtcdUrl {
    pub fn parse(text: &str) -> Result<EtcdUrl, Failure> {
        let bad = |why: String| {
            Failure::new(Cause::Refused, format!("--store {text}"), why)
                .next("rackctl --store etcd://HOST:PORT,HOST:PORT/PREFIX …")
        };
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| bad(format!("it does not begin with {SCHEME}")))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (list, path) = rest.split_once('/').map_or((rest, ""), |(list, path)| (list, path));
        let hosts = list.split(',').map(host).collect::<Result<Vec<_>, _>>().map_err(&bad)?;
        if hosts.len() > ENDPOINTS_MAX {
            return Err(bad(format!("{} endpoints, at most {ENDPOINTS_MAX}", hosts.len())));
        }
        let path = path.trim_matches('/');
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        if !path.chars().all(fits) || path.contains("//") || path.len() > PREFIX_MAX_BYTES {
            let why = format!("the prefix `{path}` is not of letters, digits and `-_./`, or is too long");
            return Err(bad(why));
        }
        let prefix = if path.is_empty() { PREFIX.to_owned() } else { format!("/{path}") };
        let (files, user) = options(query).map_err(&bad)?;
        Ok(EtcdUrl { hosts, prefix, files, user })
    }

    /// As the client wants them.
    pub fn endpoints(&self) -> Vec<String> {
        let scheme = if self.files.ca.is_some() { "https" } else { "http" };
        self.hosts.iter().map(|(host, port)| format!("{scheme}://{}:{port}", bracketed(host))).collect()
    }
}

/// Short: what tells one store from another.
impl fmt::Display for EtcdUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> = self.hosts.iter().map(|(host, port)| format!("{}:{port}", bracketed(host))).collect();
        write!(f, "{SCHEME}{}{}", hosts.join(","), self.prefix)
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

fn host(text: &str) -> Result<(String, u16), String> {
    if text.contains('@') {
        return Err("a password does not belong into a URL: ?user=NAME&password-file=FILE".into());
    }
    let (name, port) = match text.strip_prefix('[').and_then(|t| t.split_once(']')) {
        Some((address, rest)) => {
            address.parse::<std::net::Ipv6Addr>().map_err(|_| format!("`{address}` is no IPv6 address"))?;
            (address, rest.strip_prefix(':').map_or((!rest.is_empty()).then_some(rest), Some))
        }
        None => text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port))),
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || "-.:".contains(c);
    if name.is_empty() || !name.chars().all(fits) {
        return Err(format!("`{text}` is no HOST:PORT"));
    }
    let port = match port {
        None => PORT,
        Some(port) => port.parse().ok().filter(|p| *p != 0).ok_or_else(|| format!("`{port}` is no port"))?,
    };
    Ok((name.to_ascii_lowercase(), port))
}

type Options = (Files, Option<(String, PathBuf)>);

fn options(query: &str) -> Result<Options, String> {
    let (mut ca, mut cert, mut key, mut user, mut password) = (None, None, None, None, None);
    // A base for the reader of queries: it knows percent signs.
    let url = reqwest::Url::parse(&format!("x://x/?{query}")).map_err(|e| e.to_string())?;
    for (name, value) in url.query_pairs().filter(|_| !query.is_empty()) {
        let place = match name.as_ref() {
            "ca" => &mut ca,
            "cert" => &mut cert,
            "key" => &mut key,
            "user" => &mut user,
            "password-file" => &mut password,
            other => {
                return Err(format!("`{other}` is none of ca, cert, key, user, password-file"));
            }
        };
        if value.is_empty() || place.is_some() {
            return Err(format!("`{name}` is empty, or given twice"));
        }
        *place = Some(value.into_owned());
    }
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert.into(), key.into())),
        (None, None) => None,
        _ => return Err("`cert` and `key` go together".into()),
    };
    if identity.is_some() && ca.is_none() {
        return Err("`cert` needs `ca`: TLS is spoken to servers that a CA vouches for".into());
    }
    let user = match (user, password) {
        (Some(user), Some(file)) => Some((user, file.into())),
        (None, None) => None,
        _ => return Err("`user` and `password-file` go together".into()),
    };
    Ok((Files { ca: ca.map(PathBuf::from), identity }, user))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write() {
        let url =
            EtcdUrl::parse("etcd://a:1,B.example,[fd00::1]:3/site/fra?ca=/c.pem&cert=/m.pem&key=/m%20k.pem").unwrap();
        assert_eq!(url.endpoints(), ["https://a:1", "https://b.example:2379", "https://[fd00::1]:3"]);
        assert_eq!(url.prefix, "/site/fra");
        assert_eq!(url.files.identity, Some(("/m.pem".into(), "/m k.pem".into())));
        assert_eq!(url.to_string(), "etcd://a:1,b.example:2379,[fd00::1]:3/site/fra");
        let plain = EtcdUrl::parse("etcd://10.0.0.1/").unwrap();
        assert_eq!((plain.endpoints(), plain.prefix.as_str()), (vec!["http://10.0.0.1:2379".into()], "/rackctl"));
        let user = EtcdUrl::parse("etcd://a?user=u&password-file=/p").unwrap().user;
        assert_eq!(user, Some(("u".into(), "/p".into())));
    }

    #[test]
    fn what_makes_no_sense_says_why() {
        for (url, why) in [
            ("sqlite:/x", "does not begin"),
            ("etcd://", "no HOST:PORT"),
            ("etcd://a,,b", "no HOST:PORT"),
            ("etcd://a:0", "no port"),
            ("etcd://a:99999", "no port"),
            ("etcd://[x]:1", "no IPv6"),
            ("etcd://u:p@a:1", "password"),
            ("etcd://a/p x", "prefix"),
            ("etcd://a?insecure=1", "none of"),
            ("etcd://a?cert=/c", "go together"),
            ("etcd://a?cert=/c&key=/k", "needs `ca`"),
            ("etcd://a?ca=/c&ca=/d", "given twice"),
            ("etcd://a?user=u", "go together"),
        ] {
            let failure = EtcdUrl::parse(url).unwrap_err();
            assert!(failure.why.contains(why), "{url}: {failure}");
            assert!(failure.next.is_some());
        }
    }
}
