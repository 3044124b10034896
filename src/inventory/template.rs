//! `{{ node.name }}`, `{{ node.serial }}`, `{{ node.labels.x }}` in texts. Pure.

use std::collections::BTreeMap;

use super::fault::did_you_mean;
use crate::model::{
    Failure,
    failure::Cause,
    fleet::{Credential, Node, SecretSource},
};

/// What a template may speak of.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    pub name: &'a str,
    pub serial: Option<&'a str>,
    pub labels: &'a BTreeMap<String, String>,
}

impl<'a> From<&'a Node> for About<'a> {
    fn from(node: &'a Node) -> Self {
        About { name: &node.name, serial: node.identity.serial.as_deref(), labels: &node.labels }
    }
}

/// What is wrong with a template, and what would mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateFault {
    pub message: String,
    pub help: Option<String>,
}

fn fault(message: String, help: Option<String>) -> TemplateFault {
    TemplateFault { message, help }
}

/// The variables of a text, in order, without white space around them.
pub fn variables(text: &str) -> Result<Vec<&str>, TemplateFault> {
    pieces(text).map(|pieces| pieces.into_iter().filter_map(|(_, variable)| variable).collect())
}

/// Text and the variable behind it.
fn pieces(text: &str) -> Result<Vec<(&str, Option<&str>)>, TemplateFault> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((inside, behind)) = after.split_once("}}") else {
            return Err(fault("`{{` without `}}`".into(), Some("write {{ node.name }}".into())));
        };
        found.push((before, Some(inside.trim())));
        rest = behind;
    }
    found.push((rest, None));
    Ok(found)
}

/// Fills a text in with what `value` gives for each variable.
pub fn fill(text: &str, value: &mut dyn FnMut(&str) -> Result<String, TemplateFault>) -> Result<String, TemplateFault> {
    let mut out = String::with_capacity(text.len());
    for (before, variable) in pieces(text)? {
        out.push_str(before);
        if let Some(variable) = variable {
            out.push_str(&value(variable)?);
        }
    }
    Ok(out)
}

/// The one variable that a text is, if it is nothing else.
pub fn alone(text: &str) -> Option<&str> {
    match pieces(text.trim()).ok()?.as_slice() {
        [("", Some(variable)), ("", None)] => Some(variable),
        _ => None,
    }
}

/// Is it a variable about a node? The error says which there are.
pub fn known(variable: &str) -> Result<(), TemplateFault> {
    let label = variable.strip_prefix("node.labels.").is_some_and(super::format::is_label_key);
    if label || matches!(variable, "node.name" | "node.serial") {
        return Ok(());
    }
    let help = did_you_mean(variable, ["node.name", "node.serial"])
        .unwrap_or_else(|| "known are node.name, node.serial and node.labels.KEY".into());
    Err(fault(format!("unknown template variable `{variable}`"), Some(help)))
}

/// Fills a text in. What is filled in cannot change the meaning of what stands around it: names and labels are plain
/// words, and a serial with anything else in it is refused.
pub fn render(text: &str, about: About<'_>) -> Result<String, TemplateFault> {
    let mut out = String::with_capacity(text.len());
    for (before, variable) in pieces(text)? {
        out.push_str(before);
        let Some(variable) = variable else { continue };
        known(variable)?;
        let value = match variable {
            "node.name" => about.name,
            "node.serial" => about.serial.ok_or_else(|| {
                fault(
                    format!("node {} has no serial for `{{{{ node.serial }}}}`", about.name),
                    Some(format!("set spec.identity.serial of {}, or use {{{{ node.name }}}}", about.name)),
                )
            })?,
            other => {
                let key = other.trim_start_matches("node.labels.");
                about.labels.get(key).map(String::as_str).ok_or_else(|| {
                    let near = did_you_mean(key, about.labels.keys().map(String::as_str));
                    let help = near.or_else(|| Some(format!("set metadata.labels.{key} of {}", about.name)));
                    fault(format!("node {} has no label `{key}`", about.name), help)
                })?
            }
        };
        let plain = value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if !plain || value.contains("..") || value.is_empty() {
            let message = format!(
                "the {variable} of node {} cannot stand in a text: only letters, digits, `-`, `_`, `.`",
                about.name
            );
            return Err(fault(message, None));
        }
        out.push_str(value);
    }
    Ok(out)
}

/// A credential as it is for one node: templates in its source filled in.
pub fn credential_for(credential: &Credential, node: &Node) -> Result<Credential, Failure> {
    let about = About::from(node);
    let fill = |text: &str| {
        render(text, about).map_err(|f| {
            let failure = Failure::new(Cause::Local, format!("{}: find the BMC's password", node.name), f.message);
            match f.help {
                Some(help) => failure.next(help),
                None => failure,
            }
        })
    };
    let path = |p: &std::path::Path| match p.to_str() {
        Some(text) => fill(text).map(Into::into),
        None => Ok(p.to_owned()),
    };
    let password_from = match &credential.password_from {
        SecretSource::Keyring(text) => SecretSource::Keyring(fill(text)?),
        SecretSource::Exec { command } => {
            SecretSource::Exec { command: command.iter().map(|w| fill(w)).collect::<Result<_, _>>()? }
        }
        SecretSource::Env(text) => SecretSource::Env(fill(text)?),
        SecretSource::File(p) => SecretSource::File(path(p)?),
        SecretSource::Age(p) => SecretSource::Age(path(p)?),
        SecretSource::Sops(p) => SecretSource::Sops(path(p)?),
    };
    Ok(Credential { username: fill(&credential.username)?, password_from })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str, serial: Option<&str>) -> Result<String, String> {
        let labels = BTreeMap::from([("role".to_owned(), "worker".to_owned())]);
        render(text, About { name: "n1", serial, labels: &labels }).map_err(|f| f.message)
    }

    #[test]
    fn fills_in() {
        assert_eq!(
            rendered("a/{{node.name}}-{{ node.labels.role }}/{{ node.serial }}.age", Some("F54")),
            Ok("a/n1-worker/F54.age".into())
        );
        assert_eq!(rendered("plain }} text", None), Ok("plain }} text".into()));
    }

    #[test]
    fn refuses_what_it_does_not_know_and_what_would_break_out() {
        assert!(rendered("{{ node.nmae }}", None).is_err_and(|m| m.contains("unknown")));
        assert!(rendered("{{ node.name", None).is_err());
        assert!(rendered("{{ node.labels.rack }}", None).is_err_and(|m| m.contains("no label `rack`")));
        for serial in ["../../etc", "a/b", "a b", "${x}", "a\nb", ""] {
            assert!(rendered("{{ node.serial }}", Some(serial)).is_err(), "{serial:?}");
        }
    }
}
