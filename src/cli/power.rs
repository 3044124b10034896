//! `power` and `boot`: short looks and changes over a selection, each verified.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use serde_json::json;

use super::{
    args::{
        Targets,
        act::{Boot, BootVerb, Power, PowerVerb},
    },
    globals::Globals,
    session::{Session, block_on, stop},
    targets::{self, Nothing},
};
use crate::{
    bmc,
    model::{
        Failure,
        failure::Cause,
        fleet::Management,
        power::{BootOverride, OverrideFor, PowerAction, PowerState},
    },
    output::{
        Exit, Stop, Table,
        resource::{self, Status},
    },
    run::clock,
    store::Holder,
};

const LOOK: Duration = Duration::from_secs(30);
const CHANGE: Duration = Duration::from_secs(180);

/// One node's row: what it is now, or why that is not known.
type Row = (String, Result<String, Failure>);

pub fn power(globals: &Globals, args: &Power) -> Result<Exit, Stop> {
    let (targets, nothing) = match &args.verb {
        PowerVerb::Status { targets } => (targets, Nothing::MeansAll),
        verb => (&verb.action().map(|(_, a)| a).ok_or_else(no_action)?.targets, Nothing::IsRefused),
    };
    let Some((action, options)) = args.verb.action() else {
        return over(globals, targets, nothing, "POWER", "power", false, Duration::ZERO, |client| {
            Box::pin(async move { Ok(resource::power_word(client.power().await?).to_owned()) })
        });
    };
    let force = options.force;
    let wait = !options.no_wait;
    if options.dry_run {
        return preview(globals, targets, bmc::client::Operation::Reset(action));
    }
    over(globals, targets, nothing, "POWER", "power", true, options.stagger.unwrap_or_default(), move |client| {
        Box::pin(async move {
            change_power(client, action, force, wait).await?;
            Ok(resource::power_word(client.power().await?).to_owned())
        })
    })
}

fn no_action() -> Stop {
    Stop::usage(Failure::new(Cause::Refused, "power", "no action is named"))
}

async fn change_power(client: &bmc::Client, action: PowerAction, force: bool, wait: bool) -> Result<(), Failure> {
    if !wait {
        return client.reset(action).await;
    }
    match action {
        PowerAction::On => client.set_power(true, force, CHANGE).await,
        PowerAction::ForceOff | PowerAction::GracefulShutdown => client.set_power(false, force, CHANGE).await,
        PowerAction::PowerCycle => {
            client.set_power(false, force, CHANGE).await?;
            client.set_power(true, force, CHANGE).await
        }
        PowerAction::ForceRestart | PowerAction::GracefulRestart => {
            let before = client.last_reset_time().await?;
            client.reset(action).await?;
            restarted(client, before).await
        }
    }
}

/// The BMC's own mark of a reset must change, where it keeps one; the machine must be on in any case.
async fn restarted(client: &bmc::Client, before: Option<String>) -> Result<(), Failure> {
    let until = clock::since_boot() + CHANGE;
    loop {
        let (power, last) = (client.power().await?, client.last_reset_time().await?);
        if power == PowerState::On && (last.is_none() || last != before) {
            return Ok(());
        }
        if clock::since_boot() > until {
            return Err(Failure::new(
                Cause::AcceptedButIgnored,
                format!("{}: restart", client.node()),
                "the BMC took the request and shows no reset",
            )
            .next(format!("rackctl power reset {} --force", client.node())));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

pub fn boot(globals: &Globals, args: &Boot) -> Result<Exit, Stop> {
    match &args.verb {
        BootVerb::Show { targets } => {
            over(globals, targets, Nothing::MeansAll, "BOOT", "boot", false, Duration::ZERO, |client| {
                Box::pin(async move { Ok(bmc::boot::words(client.boot().await?)) })
            })
        }
        BootVerb::Set { target, targets, persistent, dry_run } => {
            let lasts = if *persistent { OverrideFor::Persistent } else { OverrideFor::Once };
            let wanted = match (*target).into() {
                crate::model::power::BootTarget::None => BootOverride::CLEARED,
                target => BootOverride { target, lasts, mode: None },
            };
            if *dry_run {
                return preview(globals, targets, bmc::client::Operation::SetBoot(wanted));
            }
            over(globals, targets, Nothing::IsRefused, "BOOT", "boot", true, Duration::ZERO, move |client| {
                Box::pin(async move {
                    client.set_boot(wanted).await?;
                    Ok(bmc::boot::words(client.boot().await?))
                })
            })
        }
    }
}

type Doing<'a> = std::pin::Pin<Box<dyn Future<Output = Result<String, Failure>> + Send + 'a>>;

/// One operation over a selection. Changing ones hold the nodes' locks and respect `protect` and `management`.
#[allow(clippy::too_many_arguments)]
fn over(
    globals: &Globals,
    targets: &Targets,
    nothing: Nothing,
    heading: &str,
    field: &str,
    changes: bool,
    stagger: Duration,
    operation: impl for<'a> Fn(&'a bmc::Client) -> Doing<'a> + Send + Sync,
) -> Result<Exit, Stop> {
    let session = Session::open(globals)?;
    let status = Status { now: clock::unix_ms(), ..Status::default() };
    let names = targets::nodes(&session.fleet, &status, targets, nothing)?;
    // The drivers would send nothing either; said at once, whatever state the machines are in.
    if changes && session.read_only {
        let why = "--read-only: no machine is changed";
        return Err(Failure::new(Cause::Guard, field, why).into());
    }
    session.enter(&names)?;
    block_on(async {
        let mut fence = None;
        if changes {
            let locks: Vec<String> = names.iter().map(|n| format!("node/{n}")).collect();
            fence = Some(session.store.lock(&locks, heading, &Holder::this(), clock::unix_ms()).map_err(|e| stop(&e))?);
        }
        let rows = async {
            let passwords = session.passwords(&names).await?;
            if fence.is_some() {
                session.sweep(&passwords).await?;
            }
            Ok::<_, Failure>(each(&session, &names, &passwords, changes, stagger, &operation).await)
        }
        .await;
        if let Some(fence) = &fence {
            session.store.unlock(fence).map_err(|e| stop(&e))?;
        }
        show(globals, rows?, heading, field)
    })
}

async fn each(
    session: &Session,
    names: &[String],
    passwords: &Arc<bmc::Passwords>,
    changes: bool,
    stagger: Duration,
    operation: &(impl for<'a> Fn(&'a bmc::Client) -> Doing<'a> + Send + Sync),
) -> Vec<Row> {
    let mut rows: Vec<Row> = stream::iter(names.iter().enumerate().map(|(index, name)| async move {
        if !stagger.is_zero() {
            tokio::time::sleep(stagger * u32::try_from(index).unwrap_or(u32::MAX)).await;
        }
        let result = async {
            let node = session.node(name)?;
            if changes {
                allowed(name, node)?;
            }
            let client = session.bmc(node, passwords, if changes { CHANGE } else { LOOK }).await?;
            let result = operation(&client).await;
            let _ = client.close().await;
            result
        }
        .await;
        (name.clone(), result)
    }))
    .buffer_unordered(session.concurrency.max(1))
    .collect()
    .await;
    rows.sort_by_key(|(name, _)| names.iter().position(|n| n == name));
    rows
}

fn allowed(name: &str, node: &crate::model::fleet::Node) -> Result<(), Failure> {
    let refuse = |why: &str| {
        Err(Failure::new(Cause::Guard, format!("{name}: change"), why.to_owned())
            .next(format!("rackctl describe node {name}")))
    };
    if node.protect {
        return refuse("it is protected (`protect: true`): no power, boot or disk change");
    }
    if node.management == Management::Observe {
        return refuse("`management: observe` lets rackctl look only");
    }
    Ok(())
}

fn show(globals: &Globals, rows: Vec<Row>, heading: &str, field: &str) -> Result<Exit, Stop> {
    let items: Vec<serde_json::Value> = rows
        .iter()
        .map(|(name, result)| {
            let status = match result {
                Ok(value) => json!({ field: value }),
                Err(failure) => json!({ "failure": failure }),
            };
            json!({ "apiVersion": "rackctl.dev/v1alpha1", "kind": "Node", "metadata": { "name": name }, "spec": {}, "status": status })
        })
        .collect();
    globals.print(&items, |_| {
        let mut table = Table::new(["NAME", heading]);
        for (name, result) in &rows {
            table.row([name.as_str(), result.as_ref().map_or("unknown", String::as_str)]);
        }
        table
    })?;
    let exit = Exit::combine(rows.iter().map(|(_, r)| r.as_ref().err().map_or(Exit::Done, |f| Exit::of(f.cause))));
    let failures: Vec<Failure> = rows.into_iter().filter_map(|(_, r)| r.err()).collect();
    if failures.is_empty() { Ok(exit) } else { Err(Stop { exit, failures }) }
}

/// What would be sent, with nothing sent but reads.
fn preview(globals: &Globals, targets: &Targets, operation: bmc::client::Operation) -> Result<Exit, Stop> {
    over(globals, targets, Nothing::IsRefused, "REQUESTS", "requests", false, Duration::ZERO, move |client| {
        Box::pin(async move {
            let view = client.system_view().await?;
            let requests = bmc::client::requests_preview(&view, operation)
                .map_err(|why| Failure::new(Cause::Refused, format!("{}: preview", client.node()), why))?;
            Ok(requests.iter().map(|r| format!("{} {} {}", r.method, r.path, r.body)).collect::<Vec<_>>().join("; "))
        })
    })
}
