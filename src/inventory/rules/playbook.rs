//! Parameters and names in playbooks.

use super::{Rules, each_text, items};
use crate::inventory::{
    fault::{Report, did_you_mean},
    kinds::Kind,
    template::variables,
    yaml::Tree,
};

pub(super) fn check(rules: &Rules<'_>, report: &mut Report) {
    for playbook in rules.of(Kind::Playbook) {
        let Some(spec) = playbook.spec() else { continue };
        let parameters: Vec<&str> =
            spec.get("parameters").map(Tree::entries).unwrap_or_default().iter().map(|e| &*e.key).collect();
        for (index, step) in items(spec, &["steps"]) {
            let path = format!("spec.steps[{index}]");
            each_text(step, &path, &mut |tree, text, path| match variables(text) {
                Ok(used) => {
                    for name in used.into_iter().filter(|name| !parameters.contains(name)) {
                        let help = did_you_mean(name, parameters.iter().copied())
                            .or_else(|| Some("declare it under spec.parameters".into()));
                        report.add(tree.at, path, format!("unknown template variable `{name}`"), help);
                    }
                }
                Err(fault) => report.add(tree.at, path, fault.message, fault.help),
            });
            for verb in step.entries() {
                let at = format!("{path}.{}", verb.key);
                rules.refer(Kind::Cluster, verb.value.get("cluster"), || format!("{at}.cluster"), report);
                for field in ["node", "with"] {
                    rules.refer(Kind::Node, verb.value.get(field), || format!("{at}.{field}"), report);
                }
            }
        }
    }
}
