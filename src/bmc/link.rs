//! Where a link of a BMC may lead: to the same BMC, nowhere else.

use reqwest::Url;

/// Resolves `link` (a path or an absolute URL) against the endpoint. `Err` says why it is not followed.
pub fn resolve(base: &Url, link: &str) -> Result<Url, String> {
    let shown = super::redfish::json::clean(link);
    if link.len() > 2048 {
        return Err(format!("a link of {} bytes", link.len()));
    }
    if link.is_empty() || link.chars().any(|c| c.is_control() || c == '\\') {
        return Err(format!("the link `{shown}` is not a path"));
    }
    let mut url = base.join(link).map_err(|e| format!("the link `{shown}` cannot be read: {e}"))?;
    if url.origin() != base.origin() || !url.username().is_empty() || url.password().is_some() {
        return Err(format!("the link `{shown}` leads away from {}", base.origin().ascii_serialization()));
    }
    url.set_fragment(None);
    Ok(url)
}

/// The last segment of a path, without trailing slashes: a resource's id where it says none.
pub fn last_segment(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)
}

/// Whether two paths name the same resource: trailing slashes do not count.
pub fn same(a: &str, b: &str) -> bool {
    a.trim_end_matches('/') == b.trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_on_the_host() {
        let base: Url = "https://10.0.0.1:8443".parse().unwrap();
        for good in
            ["/redfish/v1/Systems/1", "https://10.0.0.1:8443/redfish/v1/Systems/1", "/redfish/v1/Systems/1#/Boot"]
        {
            assert_eq!(
                resolve(&base, good).map(|u| u.to_string()),
                Ok("https://10.0.0.1:8443/redfish/v1/Systems/1".into())
            );
        }
        for bad in [
            "",
            "//evil/x",
            "https://evil/redfish",
            "https://10.0.0.1/redfish",
            "http://10.0.0.1:8443/",
            "/\\evil",
            "/a\nb",
            "https://u:p@10.0.0.1:8443/",
            "file:///etc/passwd",
            "\\\\evil\\x",
        ] {
            assert!(resolve(&base, bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn last_segments() {
        assert_eq!(last_segment("/redfish/v1/Systems/1/"), "1");
        assert_eq!(last_segment("x"), "x");
    }
}
