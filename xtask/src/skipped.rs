//! Tests that could not look at what they are about, as their own `SKIPPED:` lines in the JUnit report tell.

/// Each line once, in order.
pub fn lines(junit: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in junit.lines() {
        if let Some(at) = line.find("SKIPPED:") {
            let text = plain(&line[at..]);
            if !found.contains(&text) {
                found.push(text);
            }
        }
    }
    found
}

/// Up to the end of the element, with XML's five entities resolved.
fn plain(text: &str) -> String {
    let text = text.split_once("</").map_or(text, |(before, _)| before);
    [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")]
        .into_iter()
        .fold(text.trim().to_owned(), |text, (entity, sign)| text.replace(entity, sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_once_and_readable() {
        let junit = "<testcase name=\"a\"><system-err>SKIPPED: no &quot;etcd&quot; &amp; no net\n</system-err></testcase>\n<system-err>SKIPPED: no &quot;etcd&quot; &amp; no net</system-err>\nok\n";
        assert_eq!(lines(junit), ["SKIPPED: no \"etcd\" & no net"]);
        assert!(lines("nothing").is_empty());
    }
}
