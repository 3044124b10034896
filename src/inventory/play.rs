//! A playbook and its parameters → [`Play`]: values of their types, nodes chosen, texts filled in. Pure; every fault at
//! once.

use std::collections::BTreeMap;

use super::{
    fault::did_you_mean,
    format::{self, duration_ms},
    select, template,
};
use crate::model::{
    Failure, Fleet,
    failure::Cause,
    fleet::Lifecycle,
    goal::Scope,
    play::{Act, BoundStep, Play, Recovery, Target},
    playbook::{
        Choice, FailurePlan, Flag, NotifyStep, OnFailure, Parameter, ParameterType, PlayStep, PlayVerb, Playbook, Then,
        WaitStep,
    },
};

/// Where a step says nothing else.
pub const GATE_DEADLINE_MS: u64 = 600_000;
pub const EXEC_DEADLINE_MS: u64 = 600_000;
pub const APPROVE_DEADLINE_MS: u64 = 86_400_000;
pub const RETRY_DELAY_MS: u64 = 10_000;
/// Longest value of a parameter, in bytes: it stands in argv and in the journal.
pub const VALUE_MAX: usize = 4_096;

/// Binds a playbook of the fleet. `set`: what the caller says, as `--set NAME=VALUE`.
pub fn bind(fleet: &Fleet, name: &str, set: &[(String, String)]) -> Result<Play, Vec<Failure>> {
    let Some(playbook) = fleet.playbooks.get(name) else {
        let why = match did_you_mean(name, fleet.playbooks.keys().map(String::as_str)) {
            Some(help) => format!("there is none of this name; {help}"),
            None if fleet.playbooks.is_empty() => "the inventory has no playbooks".to_owned(),
            None => "there is none of this name".to_owned(),
        };
        return Err(vec![fault(format!("playbook {name}"), why).next("rackctl get playbooks")]);
    };
    let mut binder = Binder { fleet, name, playbook, values: BTreeMap::new(), faults: Vec::new() };
    binder.parameters(set);
    let mut steps = Vec::new();
    for (number, step) in playbook.steps.iter().enumerate() {
        let id = format!("play/{:02}-{}", number + 1, step.verb.word());
        steps.extend(binder.step(step, id));
    }
    match binder.faults {
        faults if !faults.is_empty() => Err(faults),
        _ => {
            let parameters = binder.values.into_iter().filter_map(|(k, v)| Some((k, v?))).collect();
            Ok(Play { playbook: name.to_owned(), parameters, steps })
        }
    }
}

fn fault(what: impl Into<String>, why: impl Into<String>) -> Failure {
    Failure::new(Cause::Refused, what, why)
}

/// What a value of this type must be; the error says so. `known` tells of names of nodes (`true`) and clusters.
pub fn fits(
    of: ParameterType,
    value: &str,
    known: &dyn Fn(ParameterType, &str) -> Result<(), String>,
) -> Result<(), String> {
    if value.len() > VALUE_MAX {
        return Err(format!("it is longer than {VALUE_MAX} bytes"));
    }
    if value.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return Err("it holds control characters".into());
    }
    match of {
        ParameterType::Text => Ok(()),
        ParameterType::Node | ParameterType::Cluster => known(of, value),
        ParameterType::Selector => select::selector(value).map(drop).map_err(|e| e.to_string()),
        ParameterType::Duration => duration_ms(value).map(drop).map_err(|want| format!("`{value}` is not {want}")),
        ParameterType::Bool if matches!(value, "true" | "false") => Ok(()),
        ParameterType::Bool => Err(format!("`{value}` is neither `true` nor `false`")),
        ParameterType::Number => {
            let digits = value.strip_prefix('-').unwrap_or(value);
            let plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            match value.parse::<f64>() {
                Ok(number) if plain && number.is_finite() => Ok(()),
                _ => Err(format!("`{value}` is no number")),
            }
        }
    }
}

/// `when`, taken apart before anything is filled in: a value cannot change what is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When<'a> {
    Is(&'a str),
    IsNot(&'a str),
    Same(&'a str, &'a str),
    Differs(&'a str, &'a str),
}

pub fn when(text: &str) -> Result<When<'_>, String> {
    let (left, right) = (str::trim, str::trim);
    if let Some((a, b)) = text.split_once("==") {
        return Ok(When::Same(left(a), right(b)));
    }
    if let Some((a, b)) = text.split_once("!=") {
        return Ok(When::Differs(left(a), right(b)));
    }
    let bare = text.trim();
    match bare.strip_prefix('!') {
        Some(flag) if template::alone(flag).is_some() => Ok(When::IsNot(flag.trim())),
        None if template::alone(bare).is_some() || matches!(bare, "true" | "false") => Ok(When::Is(bare)),
        _ => Err("`when` is \"{{ flag }}\", \"!{{ flag }}\", \"{{ a }} == b\" or \"{{ a }} != b\"".into()),
    }
}

struct Binder<'a> {
    fleet: &'a Fleet,
    name: &'a str,
    playbook: &'a Playbook,
    /// `None`: its fault was told already.
    values: BTreeMap<String, Option<String>>,
    faults: Vec<Failure>,
}

impl Binder<'_> {
    fn add(&mut self, place: &str, why: impl Into<String>) {
        let next = format!("rackctl explain playbook; rackctl describe playbook {}", self.name);
        self.faults.push(fault(format!("playbook {}: {place}", self.name), why).next(next));
    }

    fn parameters(&mut self, set: &[(String, String)]) {
        let declared = &self.playbook.parameters;
        for (index, (name, _)) in set.iter().enumerate() {
            let what = format!("--set {name}=…");
            if !declared.contains_key(name) {
                let names = || declared.keys().map(String::as_str);
                let why = match (did_you_mean(name, names()), declared.is_empty()) {
                    (Some(help), _) => format!("playbook {} has no such parameter; {help}", self.name),
                    (None, true) => format!("playbook {} has no parameters", self.name),
                    (None, false) => {
                        let known = names().collect::<Vec<_>>().join(", ");
                        format!("playbook {} has no such parameter; it has {known}", self.name)
                    }
                };
                self.faults.push(fault(what, why).next(format!("rackctl describe playbook {}", self.name)));
            } else if set[..index].iter().any(|(n, _)| n == name) {
                self.faults.push(fault(what, "it is set twice"));
            }
        }
        for (name, parameter) in declared {
            let value = match set.iter().rev().find(|(n, _)| n == name) {
                Some((_, value)) => Some(value.clone()),
                None => parameter.default.as_ref().map(ToString::to_string),
            };
            let value = self.value(name, parameter, value);
            self.values.insert(name.clone(), value);
        }
    }

    fn value(&mut self, name: &str, parameter: &Parameter, value: Option<String>) -> Option<String> {
        let of = parameter.of.word();
        let Some(value) = value else {
            let about = parameter.description.as_ref().map(|d| format!(": {d}")).unwrap_or_default();
            let why = format!("it has no value and no default; a {of} is wanted{about}");
            let next = format!("rackctl run {} --set {name}=…", self.name);
            self.faults.push(fault(format!("parameter {name}"), why).next(next));
            return None;
        };
        let fleet = self.fleet;
        let known = |of: ParameterType, value: &str| {
            let (kind, names): (_, Vec<&str>) = match of {
                ParameterType::Cluster => ("cluster", fleet.clusters.keys().map(String::as_str).collect()),
                _ => ("node", fleet.nodes.keys().map(String::as_str).collect()),
            };
            if names.contains(&value) {
                return Ok(());
            }
            let help = did_you_mean(value, names).map(|h| format!("; {h}")).unwrap_or_default();
            Err(format!("no {kind} is named `{value}`{help}"))
        };
        match fits(parameter.of, &value, &known) {
            Ok(()) => Some(value),
            Err(why) => {
                let next = format!("rackctl run {} --set {name}=…", self.name);
                self.faults.push(fault(format!("parameter {name} ({of})"), why).next(next));
                None
            }
        }
    }

    /// A text filled in. `None`: a parameter of it has a fault of its own, or one was told now.
    fn text(&mut self, place: &str, text: &str) -> Option<String> {
        let mut lost = false;
        let values = &self.values;
        let filled = template::fill(text, &mut |variable| match values.get(variable) {
            Some(Some(value)) => Ok(value.clone()),
            // Unknown ones are faults of the inventory; they do not come so far.
            _ => {
                lost = true;
                Ok(String::new())
            }
        });
        match filled {
            Ok(text) if !lost => Some(text),
            Ok(_) => None,
            Err(fault) => {
                self.add(place, fault.message);
                None
            }
        }
    }

    fn duration(&mut self, place: &str, text: Option<&String>, default_ms: u64) -> Option<u64> {
        let Some(text) = text else { return Some(default_ms) };
        let text = self.text(place, text)?;
        match duration_ms(&text) {
            Ok(ms) => Some(ms),
            Err(want) => {
                self.add(place, format!("`{text}` is not {want}"));
                None
            }
        }
    }

    fn flag(&mut self, place: &str, flag: &Flag) -> Option<bool> {
        match flag {
            Flag::Set(value) => Some(*value),
            Flag::Template(text) => {
                let text = self.text(place, text)?;
                self.truth(place, &text)
            }
        }
    }

    fn truth(&mut self, place: &str, text: &str) -> Option<bool> {
        match text {
            "true" => Some(true),
            "false" => Some(false),
            other => {
                self.add(place, format!("`{other}` is neither `true` nor `false`"));
                None
            }
        }
    }

    fn named(&mut self, place: &str, text: &str, of: ParameterType) -> Option<String> {
        let name = self.text(place, text)?;
        let there = match of {
            ParameterType::Cluster => self.fleet.clusters.contains_key(&name),
            _ => self.fleet.nodes.contains_key(&name),
        };
        if !there {
            self.add(place, format!("no {} is named `{name}`", of.word()));
        }
        there.then_some(name)
    }

    /// The nodes that a step is for, in the inventory's order.
    fn nodes(&mut self, place: &str, choice: &Choice<'_>) -> Option<Scope> {
        let all: Vec<&str> = self.fleet.nodes.keys().map(String::as_str).collect();
        let picked: Vec<String> = if let Some(node) = choice.node {
            vec![self.named(&format!("{place}.node"), node, ParameterType::Node)?]
        } else if let Some(words) = choice.nodes {
            let place = format!("{place}.nodes");
            let words: Option<Vec<String>> = words.iter().map(|w| self.text(&place, w)).collect();
            let chosen = select::ranges(&words?).and_then(|set| set.pick(all));
            match chosen {
                Ok(names) => names.into_iter().map(str::to_owned).collect(),
                Err(error) => {
                    self.add(&place, error.to_string());
                    return None;
                }
            }
        } else if let Some(text) = choice.selector {
            let place = format!("{place}.selector");
            let text = self.text(&place, text)?;
            let selector = match select::selector(&text) {
                Ok(selector) => selector,
                Err(error) => {
                    self.add(&place, error.to_string());
                    return None;
                }
            };
            let chosen: Vec<String> =
                self.fleet.nodes.values().filter(|n| selector.matches(n)).map(|n| n.name.clone()).collect();
            if chosen.is_empty() {
                self.add(&place, format!("the selector `{text}` matches no node"));
            }
            chosen
        } else {
            let active = self.fleet.nodes.values().filter(|n| n.lifecycle == Lifecycle::Active);
            active.map(|n| n.name.clone()).collect()
        };
        if picked.is_empty() && choice.selector.is_none() {
            self.add(place, "it is for no node");
        }
        (!picked.is_empty()).then_some(Scope(picked))
    }

    /// `None`: a fault of it was told.
    fn step(&mut self, step: &PlayStep, id: String) -> Option<BoundStep> {
        let place = id.clone();
        let act = self.act(&step.verb, &place);
        let skipped = match &step.when {
            Some(text) => self.when(&format!("{place}: when"), text)?,
            None => None,
        };
        let title = match &step.name {
            Some(name) => self.text(&place, name),
            None => act.as_ref().map(Act::text),
        };
        let on_failure = self.recovery(step.on_failure.as_ref(), &id)?;
        Some(BoundStep { id, title: title?, act: act?, skipped, on_failure })
    }

    /// Outer `None`: a fault; inner: it is done; else why it is passed over.
    fn when(&mut self, place: &str, text: &str) -> Option<Option<String>> {
        let parts = match when(text) {
            Ok(parts) => parts,
            Err(why) => {
                self.add(place, why);
                return None;
            }
        };
        let (holds, read) = match parts {
            When::Is(flag) | When::IsNot(flag) => {
                let value = self.text(place, flag)?;
                let wanted = matches!(parts, When::Is(_));
                (self.truth(place, &value)? == wanted, format!("{}{value}", if wanted { "" } else { "!" }))
            }
            When::Same(a, b) | When::Differs(a, b) => {
                let (a, b) = (self.text(place, a)?, self.text(place, b)?);
                let same = matches!(parts, When::Same(..));
                ((a == b) == same, format!("{a} {} {b}", if same { "==" } else { "!=" }))
            }
        };
        Some((!holds).then(|| format!("when: {text} ({read})")))
    }

    fn recovery(&mut self, on_failure: Option<&OnFailure>, id: &str) -> Option<Recovery> {
        let stop = FailurePlan::default();
        let plan = match on_failure {
            None => stop,
            Some(OnFailure::Then(then)) => FailurePlan { then: *then, ..stop },
            Some(OnFailure::Steps(steps)) => FailurePlan { steps: steps.clone(), then: Then::Stop, ..stop },
            Some(OnFailure::Plan(plan)) => plan.clone(),
        };
        let delay_ms = self.duration(&format!("{id}: onFailure.delay"), plan.delay.as_ref(), RETRY_DELAY_MS);
        let mut steps = Vec::new();
        for (number, step) in plan.steps.iter().enumerate() {
            steps.extend(self.step(step, format!("{id}/{:02}-{}", number + 1, step.verb.word())));
        }
        Some(Recovery { retry: plan.retry, delay_ms: delay_ms?, steps, then: plan.then })
    }

    fn act(&mut self, verb: &PlayVerb, place: &str) -> Option<Act> {
        Some(match verb {
            PlayVerb::Apply(s) => Act::Apply { nodes: self.nodes(place, &s.choice())?, allow: s.allow },
            PlayVerb::Install(s) => {
                let nodes = self.nodes(place, &s.choice());
                let reinstall = self.flag(place, &s.reinstall)?;
                Act::Install { nodes: nodes?, reinstall }
            }
            PlayVerb::Join(s) => Act::Join { nodes: self.nodes(place, &s.choice())? },
            PlayVerb::Power(s) => {
                let nodes = self.nodes(place, &s.choice());
                let force = self.flag(place, &s.force)?;
                let lose_quorum = self.flag(place, &s.lose_quorum)?;
                Act::Power { nodes: nodes?, action: s.action, force, lose_quorum }
            }
            PlayVerb::Boot(s) => {
                let nodes = self.nodes(place, &s.choice());
                let persistent = self.flag(place, &s.persistent)?;
                Act::Boot { nodes: nodes?, target: s.target, persistent }
            }
            PlayVerb::Gate(s) => {
                let cluster = self.named(place, &s.cluster, ParameterType::Cluster);
                let healthy_ms = self.duration(place, Some(&s.healthy), 0)?;
                self.gate(place, cluster?, healthy_ms, s.deadline.as_ref())?
            }
            PlayVerb::Approve(s) => {
                let message = self.text(place, &s.message);
                let deadline_ms = self.duration(place, s.deadline.as_ref(), APPROVE_DEADLINE_MS)?;
                Act::Approve { message: message?, deadline_ms }
            }
            PlayVerb::Wait(s) => self.wait(place, s)?,
            PlayVerb::Exec(s) => {
                let command = self.command(place, &s.command);
                let deadline_ms = self.duration(place, s.deadline.as_ref(), EXEC_DEADLINE_MS)?;
                Act::Exec { command: command?, deadline_ms, repeatable: s.repeatable }
            }
            PlayVerb::Notify(s) => self.notify(place, s)?,
            PlayVerb::Pause(s) => Act::Pause { message: self.text(place, &s.message)? },
            PlayVerb::Replace(_)
            | PlayVerb::Decommission(_)
            | PlayVerb::Cordon(_)
            | PlayVerb::Uncordon(_)
            | PlayVerb::Drain(_)
            | PlayVerb::Upgrade(_)
            | PlayVerb::Recover(_) => {
                let word = verb.word();
                let why = format!("`{word}` is not in this version: the playbook loads, and cannot be run");
                self.faults.push(fault(format!("playbook {}: {place}", self.name), why).next("rackctl version"));
                return None;
            }
        })
    }

    fn gate(&mut self, place: &str, cluster: String, healthy_ms: u64, deadline: Option<&String>) -> Option<Act> {
        let deadline_ms = self.duration(place, deadline, GATE_DEADLINE_MS.saturating_add(healthy_ms))?;
        if deadline_ms <= healthy_ms {
            let why = format!("healthy for {healthy_ms} ms cannot be seen within a deadline of {deadline_ms} ms");
            self.add(place, why);
            return None;
        }
        Some(Act::Gate { cluster, healthy_ms, deadline_ms })
    }

    fn wait(&mut self, place: &str, step: &WaitStep) -> Option<Act> {
        let Some(condition) = &step.condition else {
            return Some(Act::Wait { for_ms: self.duration(place, step.duration.as_ref(), 0)? });
        };
        match (&condition.cluster, &condition.node) {
            (Some(cluster), None) => {
                let cluster = self.named(place, cluster, ParameterType::Cluster);
                let healthy_ms = self.duration(place, condition.healthy.as_ref(), 0)?;
                self.gate(place, cluster?, healthy_ms, step.deadline.as_ref())
            }
            (None, Some(node)) => {
                let node = self.named(place, node, ParameterType::Node);
                let deadline_ms = self.duration(place, step.deadline.as_ref(), GATE_DEADLINE_MS)?;
                let Some(power) = condition.power else {
                    self.add(place, "`for: { node: … }` wants `power: on` or `power: off`");
                    return None;
                };
                Some(Act::AwaitPower { node: node?, power, deadline_ms })
            }
            _ => {
                self.add(place, "`for` is a cluster or a node");
                None
            }
        }
    }

    /// Each word stays one word, whatever a parameter holds.
    fn command(&mut self, place: &str, words: &[String]) -> Option<Vec<String>> {
        let words: Option<Vec<String>> = words.iter().map(|w| self.text(place, w)).collect();
        let words = words?;
        if words.first().is_none_or(|program| program.trim().is_empty()) {
            self.add(place, "no program is named");
            return None;
        }
        Some(words)
    }

    fn notify(&mut self, place: &str, step: &NotifyStep) -> Option<Act> {
        let message = self.text(place, &step.message);
        let to = match (&step.command, &step.url) {
            (Some(command), None) => Target::Command { command: self.command(place, command)? },
            (None, Some(url)) => {
                // What is filled in cannot leave its part of the address.
                let values = self.values.clone();
                let filled = template::fill(url, &mut |variable| {
                    Ok(values.get(variable).cloned().flatten().map(|v| encoded(&v)).unwrap_or_default())
                });
                let url = filled.unwrap_or_else(|_| url.clone());
                if let Err(want) = webhook(&url, step.pin.is_some()) {
                    self.add(place, want);
                    return None;
                }
                Target::Url { url, pin: step.pin.as_ref().map(|p| p.to_ascii_lowercase()) }
            }
            _ => {
                self.add(place, "a `notify` has exactly one of `command` and `url`");
                return None;
            }
        };
        Some(Act::Notify { message: message?, to })
    }
}

/// An address and whether a pin stands beside it: https is checked against a pin alone, http has none.
pub fn webhook(url: &str, pinned: bool) -> Result<(), String> {
    format::check("rackctl-webhook-url", url).map_err(|want| format!("`{url}` is not {want}"))?;
    match (url.starts_with("https://"), pinned) {
        (true, false) => Err("an https address wants a `pin`: no certificate authority is trusted here".into()),
        (false, true) => Err("a `pin` means nothing with http".into()),
        _ => Ok(()),
    }
}

/// Percent-encoded but for RFC 3986's unreserved characters.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect()
}

#[cfg(test)]
#[path = "play_tests.rs"]
mod tests;
