//! Paths inside a manifest are relative to it: made absolute before values flow from one manifest to another. Pure.

use std::{
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use super::{
    kinds::Kind,
    yaml::{Tree, Value},
};

/// What stands at a place.
#[derive(Clone, Copy)]
enum Is {
    Path,
    /// `./nix#attribute`
    Flake,
    /// The first word of a command.
    Command,
}

const NODE_VALUES: &[(&str, Is)] = &[
    ("ssh.identity", Is::Path),
    ("bmc.endpoints.*.tls.ca", Is::Path),
    ("firmwareImages.*.file", Is::Path),
    ("install.driver.nixosAnywhere.flake", Is::Flake),
    ("install.driver.exec.command", Is::Command),
    ("install.secrets.*.from.file", Is::Path),
    ("install.secrets.*.from.age", Is::Path),
    ("install.secrets.*.from.sops", Is::Path),
    ("install.secrets.*.from.exec.command", Is::Command),
];

fn places(kind: Kind) -> &'static [(&'static str, Is)] {
    match kind {
        Kind::Credential => &[
            ("passwordFrom.file", Is::Path),
            ("passwordFrom.age", Is::Path),
            ("passwordFrom.sops", Is::Path),
            ("passwordFrom.exec.command", Is::Command),
        ],
        Kind::Site | Kind::HardwareClass | Kind::Profile | Kind::Node => NODE_VALUES,
        Kind::Cluster => {
            &[("driver.etcd.tls.ca", Is::Path), ("driver.exec.command", Is::Command), ("backup.to", Is::Path)]
        }
        Kind::Image => &[
            ("build.nix", Is::Flake),
            ("files.kernel.path", Is::Path),
            ("files.initrd.path", Is::Path),
            ("files.stage2.path", Is::Path),
            ("files.system.path", Is::Path),
            ("files.loaders.*.path", Is::Path),
        ],
        Kind::Playbook => &[
            ("steps.*.exec.command", Is::Command),
            ("steps.*.notify.command", Is::Command),
            ("steps.*.onFailure.*.exec.command", Is::Command),
            ("steps.*.onFailure.*.notify.command", Is::Command),
            ("steps.*.onFailure.steps.*.exec.command", Is::Command),
            ("steps.*.onFailure.steps.*.notify.command", Is::Command),
        ],
        Kind::Network => &[],
    }
}

/// Makes the paths of an object's `spec` absolute. `base`: the absolute folder of its manifest.
pub(crate) fn anchor(kind: Kind, spec: &mut Tree, base: &Path, home: Option<&Path>) {
    for (place, is) in places(kind) {
        let steps: Vec<&str> = place.split('.').collect();
        at(spec, &steps, &mut |tree| match (is, &mut tree.value) {
            (Is::Path, Value::Text(text)) => *text = absolute(text, base, home),
            (Is::Flake, Value::Text(text)) => *text = flake(text, base, home),
            (Is::Command, Value::List(words)) => {
                if let Some(Tree { value: Value::Text(program), .. }) = words.first()
                    && ["./", "../", "~/"].iter().any(|p| program.starts_with(p))
                    && let Some(Tree { value: Value::Text(program), .. }) = Arc::make_mut(words).first_mut()
                {
                    *program = absolute(program, base, home);
                }
            }
            _ => {}
        });
    }
}

fn at(tree: &mut Tree, steps: &[&str], act: &mut dyn FnMut(&mut Tree)) {
    let Some((step, rest)) = steps.split_first() else { return act(tree) };
    match &mut tree.value {
        Value::Map(entries) if *step == "*" => {
            Arc::make_mut(entries).iter_mut().for_each(|e| at(&mut e.value, rest, act));
        }
        Value::List(items) if *step == "*" => Arc::make_mut(items).iter_mut().for_each(|item| at(item, rest, act)),
        Value::Map(entries) if entries.iter().any(|e| e.key == *step) => {
            Arc::make_mut(entries).iter_mut().filter(|e| e.key == *step).for_each(|e| at(&mut e.value, rest, act));
        }
        _ => {}
    }
}

/// Absolute and without `.` and `..`; `~/` is the home folder.
pub(crate) fn absolute(text: &str, base: &Path, home: Option<&Path>) -> String {
    let path = match (text.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => base.join(text),
    };
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain.to_string_lossy().into_owned()
}

fn flake(text: &str, base: &Path, home: Option<&Path>) -> String {
    let (place, attribute) = text.split_once('#').map_or((text, None), |(p, a)| (p, Some(a)));
    let local = place == "." || place == ".." || ["./", "../", "~/"].iter().any(|p| place.starts_with(p));
    match (local, attribute) {
        (false, _) => text.to_owned(),
        (true, Some(attribute)) => format!("{}#{attribute}", absolute(place, base, home)),
        (true, None) => absolute(place, base, home),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_absolute() {
        let base = Path::new("/fleet/inventory");
        let home = Some(Path::new("/home/op"));
        assert_eq!(absolute("pki/ca.pem", base, home), "/fleet/inventory/pki/ca.pem");
        assert_eq!(absolute("../pki/./ca.pem", base, home), "/fleet/pki/ca.pem");
        assert_eq!(absolute("~/.ssh/id", base, home), "/home/op/.ssh/id");
        assert_eq!(absolute("/etc/x", base, home), "/etc/x");
        assert_eq!(flake("./nix#{{ node.name }}", base, home), "/fleet/inventory/nix#{{ node.name }}");
        assert_eq!(flake("github:owner/repo#x", base, home), "github:owner/repo#x");
        assert_eq!(flake(".#x", base, home), "/fleet/inventory#x");
    }
}
