//! iPXE's script language, as much of it as boot scripts use: text in, commands out. Pure.

use std::collections::BTreeMap;

/// A script that does not end by itself is ended after so many commands.
pub const STEPS_MAX: usize = 10_000;

/// One command and what is done where it fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub words: Vec<String>,
    pub or: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    pub lines: Vec<Line>,
    labels: BTreeMap<String, usize>,
}

impl Script {
    /// `settings` stand for `${NAME}`; a name that is not among them becomes nothing, as iPXE has it.
    pub fn parse(text: &str, settings: &[(&str, &str)]) -> Result<Script, String> {
        let mut lines = text.lines();
        if lines.next().map(str::trim) != Some("#!ipxe") {
            return Err("it does not begin with #!ipxe".into());
        }
        let mut script = Script::default();
        for line in lines.map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(label) = line.strip_prefix(':') {
                script.labels.insert(label.trim().to_owned(), script.lines.len());
                continue;
            }
            let line = expand(line, settings);
            let (command, or) = match line.split_once("||") {
                Some((command, or)) => (command, Some(words(or))),
                None => (line.as_str(), None),
            };
            script.lines.push(Line { words: words(command), or });
        }
        Ok(script)
    }

    /// Where execution goes on after `goto LABEL`.
    pub fn label(&self, name: &str) -> Option<usize> {
        self.labels.get(name).copied()
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

fn expand(line: &str, settings: &[(&str, &str)]) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let Some((name, after)) = after.split_once('}') else {
            out.push_str("${");
            rest = after;
            continue;
        };
        out.push_str(settings.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value));
        rest = after;
    }
    out.push_str(rest);
    out
}

/// `--name NAME URL ARGUMENTS…`: the name (else the URL's last part), the URL, and the rest.
pub fn image(words: &[String]) -> Option<(String, String, Vec<String>)> {
    let mut name = None;
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        match word.as_str() {
            "--name" | "-n" => name = Some(rest.next()?.clone()),
            option if option.starts_with('-') => return None,
            url => {
                let name = name.unwrap_or_else(|| url.rsplit('/').next().unwrap_or(url).to_owned());
                return Some((name, url.to_owned(), rest.cloned().collect()));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_run_serves_is_understood() {
        let text = "#!ipxe\necho hello\n:try1\nkernel --name kernel http://s/o/k initrd=a b=c || goto kernel1\n\
                    iseq ${platform} pcbios || exit 1\n:kernel1\nexit 1\n";
        let script = Script::parse(text, &[("platform", "efi")]).unwrap();
        assert_eq!(script.lines.len(), 4);
        assert_eq!((script.label("try1"), script.label("kernel1"), script.label("x")), (Some(1), Some(3), None));
        assert_eq!(script.lines[1].or, Some(vec!["goto".into(), "kernel1".into()]));
        let (name, url, arguments) = image(&script.lines[1].words[1..]).unwrap();
        assert_eq!(
            (name.as_str(), url.as_str(), arguments.join(" ").as_str()),
            ("kernel", "http://s/o/k", "initrd=a b=c")
        );
        assert_eq!(script.lines[2].words, ["iseq", "efi", "pcbios"]);
        assert!(Script::parse("<html>", &[]).is_err());
    }

    #[test]
    fn names_and_settings_at_the_edges() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(image(&words("http://s/a/b.img")).unwrap().0, "b.img");
        assert_eq!(image(&words("--name x")), None);
        assert_eq!(image(&words("--autofree http://s")), None);
        assert_eq!(expand("a ${x} ${y", &[("x", "1")]), "a 1 ${y");
    }
}
