//! `bmc login`: a password is asked for, tried at one machine, and kept where the inventory reads it from.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    bmc,
    cli::{
        args::bmc::LogIn,
        ask,
        globals::Globals,
        interrupt, seen,
        session::{Session, block_on},
        targets::{self, Nothing},
    },
    inventory::template::credential_for,
    model::{Failure, failure::Cause, fleet::Credential},
    output::{Exit, Stop, stdout},
    secrets,
};

const LOOK: Duration = Duration::from_secs(30);

/// A credential as these nodes read it.
struct Group {
    name: String,
    credential: Credential,
    nodes: Vec<String>,
}

pub fn run(globals: &Globals, args: &LogIn) -> Result<Exit, Stop> {
    let session = Session::open(globals)?;
    let status = seen::status_for(globals, &session.fleet, &args.targets)?;
    let names = targets::nodes(&session.fleet, &status, &args.targets, Nothing::IsRefused)?;
    session.enter(&names)?;
    block_on(async { login(globals, &session, &names, args).await })
}

async fn login(globals: &Globals, session: &Session, names: &[String], args: &LogIn) -> Result<Exit, Stop> {
    if globals.read_only {
        return Err(Failure::new(Cause::Guard, "bmc login", "--read-only: nothing is kept").into());
    }
    let groups = groups(session, names)?;
    if args.password_stdin && groups.len() > 1 {
        let list: Vec<&str> = groups.iter().map(|g| g.name.as_str()).collect();
        let why = format!("these nodes use several ({}), and standard input holds one", list.join(", "));
        return Err(Stop::usage(Failure::new(Cause::Refused, "bmc login --password-stdin", why)));
    }
    for group in &groups {
        secrets::can_keep(&group.name, &group.credential)?;
    }
    for group in &groups {
        let prompt = format!("password of `{}` ({}, {})", group.credential.username, group.name, spoken(&group.nodes));
        let password = Arc::new(ask::password(&prompt, args.password_stdin)?);
        let at = attempt(session, group, &password).await?;
        secrets::keep(&group.name, &group.credential, &password).await?;
        stdout::note(&format!("{}: the BMC of {at} takes it; it is kept", group.name));
    }
    Ok(Exit::Done)
}

/// At the first machine that answers. One that refuses it ends the search: the rest would lock their accounts.
async fn attempt(session: &Session, group: &Group, password: &Arc<crate::model::Secret>) -> Result<String, Failure> {
    let mut passwords = bmc::Passwords::new();
    passwords.insert(&group.name, &group.credential.username, Arc::clone(password));
    let ear = interrupt::looks()?;
    let stopped = ear.told();
    let mut last = None;
    for name in &group.nodes {
        match session.look(session.node(name)?, &passwords, LOOK, &stopped, async |_: &bmc::Client| Ok(())).await {
            Ok(()) => return Ok(name.clone()),
            Err(failure) if matches!(failure.cause, Cause::Unreachable | Cause::Deadline | Cause::Busy) => {
                last = Some(failure);
            }
            Err(failure) => {
                let why = format!("{}; it was not kept", failure.why);
                return Err(Failure { why, ..failure });
            }
        }
    }
    Err(last.unwrap_or_else(|| Failure::new(Cause::Guard, "bmc login", "no node is named")))
}

fn groups(session: &Session, names: &[String]) -> Result<Vec<Group>, Failure> {
    let mut groups: BTreeMap<String, Vec<Group>> = BTreeMap::new();
    for name in names {
        let node = session.node(name)?;
        for endpoint in node.bmc.iter().flat_map(|b| &b.endpoints) {
            let Some(credential) = session.fleet.credentials.get(&endpoint.credential) else { continue };
            let credential = credential_for(credential, node)?;
            let alike = groups.entry(endpoint.credential.clone()).or_default();
            match alike.iter_mut().find(|g| g.credential == credential) {
                Some(group) if group.nodes.last() == Some(name) => {}
                Some(group) => group.nodes.push(name.clone()),
                None => alike.push(Group { name: endpoint.credential.clone(), credential, nodes: vec![name.clone()] }),
            }
        }
    }
    let all: Vec<Group> = groups.into_values().flatten().collect();
    if all.is_empty() {
        let why = "the inventory gives these nodes no BMC with a credential";
        return Err(Failure::new(Cause::Guard, "bmc login", why).next("rackctl get credentials"));
    }
    Ok(all)
}

fn spoken(nodes: &[String]) -> String {
    match nodes {
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
        [] => String::new(),
    }
}
