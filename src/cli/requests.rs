//! `plan --requests`: every request that the plan would send to a BMC, with its body, as the BMC needs it.

use std::{collections::BTreeSet, fmt::Write, time::Duration};

use super::{interrupt, session::Session};
use crate::{
    bmc::{
        self,
        ladder::{Shown, Undo, Wish},
    },
    model::{
        Failure, Mac,
        baseline::{BaselinePart, FirmwareItem, ImageAt, component},
        failure::Cause,
        fleet::Node,
        power::{BootOverride, BootTarget, OverrideFor, PowerAction, PowerState},
    },
    plan::{Plan, StepKind, Subject, Track},
    run::sessions::Stopped,
};

const LOOK: Duration = Duration::from_secs(30);

/// The text, and how the look at each machine ended: one that does not answer is told in its place, and the others go on.
pub async fn text(
    session: &Session,
    plan: &Plan,
    passwords: &bmc::Passwords,
) -> Result<(String, Vec<Result<(), Failure>>), Failure> {
    let ear = interrupt::looks()?;
    let stopped = ear.told();
    let mut out = String::from("\nRequests (log-in and log-out around each group; GETs are not shown):\n");
    let mut ends = Vec::new();
    let names: Vec<String> = plan.tracks.iter().map(|t| t.subject.name().to_owned()).collect();
    let left = crate::run::boot_left(session.store.as_ref(), "", &names).map_err(|e| super::session::failure(&e))?;
    let records = session.store.node_records().map_err(|e| super::session::failure(&e))?;
    let serving: BTreeSet<String> = records.into_iter().filter(|(_, r)| r.may_serve()).map(|(name, _)| name).collect();
    for track in &plan.tracks {
        let Subject::Node(name) = &track.subject else { continue };
        if track.steps.is_empty() {
            continue;
        }
        let undo = left.get(name).map(Vec::as_slice).unwrap_or_default();
        match of_node(session, name, track, passwords, &stopped, (undo, !serving.contains(name))).await {
            Ok(text) => {
                out.push_str(&text);
                ends.push(Ok(()));
            }
            Err(failure) => {
                let _ = writeln!(out, "  {name} cannot be asked: {}", failure.why);
                ends.push(Err(failure));
            }
        }
    }
    Ok((out, ends))
}

async fn of_node(
    session: &Session,
    name: &str,
    track: &Track,
    passwords: &bmc::Passwords,
    stopped: &Stopped,
    about: (&[Undo], bool),
) -> Result<String, Failure> {
    let node = session.node(name)?;
    let ask =
        async |client: &bmc::Client| Ok((client.endpoint().to_owned(), of_track(client, node, track, about).await?));
    let (endpoint, lines) = session.look(node, passwords, LOOK, stopped, ask).await?;
    let mut out = String::new();
    for (step, requests) in lines {
        let _ = writeln!(out, "  {step} at {endpoint}");
        for request in requests {
            match request {
                Ok(lines) => {
                    for (number, line) in lines.iter().enumerate() {
                        let otherwise = if number > 0 { OTHERWISE } else { "" };
                        let _ = writeln!(out, "    {line}{otherwise}");
                    }
                }
                Err(why) => {
                    let _ = writeln!(out, "    cannot be sent: {why}");
                }
            }
        }
    }
    Ok(out)
}

/// Behind what is sent only where the one before does not do.
const OTHERWISE: &str = "   (only if the BMC refuses the one above)";

type Requests = Vec<Result<Vec<String>, String>>;

/// What a step of `power` or `boot set` sends, on one line.
pub async fn of_short(client: &bmc::Client, node: &Node, kind: &StepKind, undo: &[Undo]) -> Result<String, Failure> {
    let together = |lines: Vec<String>| lines.join("; or ");
    match kind {
        StepKind::SetPower { action, force, wait } => {
            let wish = bmc::Wish { action: *action, force: *force, wait: *wait };
            let lines = client.preview_drive(wish).await?;
            Ok(if lines.is_empty() { "nothing: it is so already".to_owned() } else { lines.join("; then ") })
        }
        StepKind::SetBoot { target: BootTarget::None, .. } => {
            let steps: Vec<String> = client.preview_as_ever(undo).await?.into_iter().map(together).collect();
            Ok(if steps.is_empty() { "nothing: it is so already".to_owned() } else { steps.join("; then ") })
        }
        StepKind::SetBoot { target, persistent, url } => {
            let shown =
                preview_boot(client, node, crate::run::boot_wanted(*target, *persistent), url.as_deref()).await?;
            let skipped = |s: &Shown| s.sends.as_ref().err().map(|why| format!("{}: {why}", s.way));
            let why: Vec<String> = shown.iter().filter_map(skipped).collect();
            let ways: Vec<String> = shown
                .into_iter()
                .filter_map(|s| Some((s.way, s.sends.ok()?)))
                .map(|(way, steps)| {
                    let steps: Vec<String> = steps.into_iter().map(together).collect();
                    let steps =
                        if steps.is_empty() { "nothing: it is so already".to_owned() } else { steps.join("; then ") };
                    format!("{way}: {steps}")
                })
                .collect();
            if ways.is_empty() {
                let what = format!("{}: preview", client.node());
                return Err(Failure::new(Cause::Refused, what, why.join("; "))
                    .next(format!("rackctl boot show {}", client.node())));
            }
            Ok(ways.join("; or else "))
        }
        _ => Ok(String::new()),
    }
}

/// As the run does it: the interface that the machine boots from is the one of the inventory.
async fn preview_boot(
    client: &bmc::Client,
    node: &Node,
    want: BootOverride,
    url: Option<&str>,
) -> Result<Vec<Shown>, Failure> {
    let macs: Vec<Mac> = node.provision().map(|i| i.mac).into_iter().collect();
    client.preview_boot(&Wish { want, macs: &macs, url, keeps: true, surer: false }).await
}

/// The ways in their order, each named; every line after the first of a way is for where that one does not do.
fn of_ways(shown: Vec<Shown>) -> Requests {
    let mut all = Requests::new();
    for Shown { way, sends } in shown {
        let first = all.is_empty();
        match sends {
            Ok(steps) if steps.is_empty() => all.push(Ok(vec![format!("nothing: the {way} is so already")])),
            Ok(steps) => all.extend(steps.into_iter().map(|mut lines| {
                if let (false, Some(line)) = (first, lines.first_mut()) {
                    line.push_str(&format!("   ({way}: only where nothing above holds)"));
                }
                Ok(lines)
            })),
            Err(why) => all.push(Err(format!("{way}: {why}"))),
        }
    }
    all
}

/// Each step that sends something, with what it sends.
async fn of_track(
    client: &bmc::Client,
    node: &Node,
    track: &Track,
    (undo, force): (&[Undo], bool),
) -> Result<Vec<(String, Requests)>, Failure> {
    let power = client.power().await?;
    let mut all = Vec::new();
    for step in &track.steps {
        let reset = |action| vec![bmc::client::Operation::Reset(action)];
        let sent: Requests = match &step.kind {
            StepKind::BootInstaller { target, mode } => {
                let wanted = BootOverride { target: *target, lasts: OverrideFor::Once, mode: Some(*mode) };
                let mut sent = Requests::new();
                if power != PowerState::Off {
                    sent.extend(client.preview(&reset(PowerAction::ForceOff)).await?);
                }
                sent.extend(of_ways(preview_boot(client, node, wanted, None).await?));
                sent.extend(client.preview(&reset(PowerAction::On)).await?);
                sent
            }
            // What the installer's boot changes beside the override is put back too: known only once it is changed.
            StepKind::WithdrawNetboot => {
                let set = track.steps.iter().any(|s| matches!(s.kind, StepKind::BootInstaller { .. }));
                match set {
                    true => client.preview(&[bmc::client::Operation::SetBoot(BootOverride::CLEARED)]).await?,
                    false => client.preview_as_ever(undo).await?.into_iter().map(Ok).collect(),
                }
            }
            StepKind::Baseline(part) => of_part(client, part, force).await?,
            StepKind::PowerOn => client.preview(&reset(PowerAction::On)).await?,
            _ => continue,
        };
        if !sent.is_empty() {
            all.push((step.id.to_string(), sent));
        }
    }
    Ok(all)
}

/// What a part of a baseline sends. `force`: nothing that is kept runs on the machine. A restart is left out where everything is in force by then.
async fn of_part(client: &bmc::Client, part: &BaselinePart, force: bool) -> Result<Requests, Failure> {
    let line = |method: &str, (path, body): (String, serde_json::Value)| vec![format!("{method} {path} {body}")];
    let redfish = client.redfish(part.word())?;
    Ok(match part {
        BaselinePart::Firmware { component: name, image, .. } => {
            let items = redfish.firmware().await?;
            let seen: Vec<FirmwareItem> = items.iter().map(crate::run::firmware_item).collect();
            let image = match image {
                ImageAt::Url(url) => bmc::client::Image::Address(url.clone()),
                ImageAt::File { path, .. } => bmc::client::Image::File(path.clone()),
            };
            match component(&seen, name) {
                Ok(item) => {
                    vec![redfish.preview_update(&image, Some(&item.id)).await.map(|l| vec![l]).map_err(|f| f.why)]
                }
                Err(why) => vec![Err(why)],
            }
        }
        BaselinePart::Volume { name, raid, drives } => {
            let wish = bmc::volumes::Wish { raid: raid.clone(), drives: drives.clone(), name: Some(name.clone()) };
            vec![bmc::volumes::create(&redfish.volumes().await?, &wish).map(|request| line("POST", request))]
        }
        BaselinePart::Bios { attributes } => {
            let bios = redfish.bios().await?;
            vec![bios.typed(attributes).map(|typed| line("PATCH", bios.ways.patch(&typed)))]
        }
        BaselinePart::Restart { stays_off, .. } => {
            let one = |line| Ok(vec![line]);
            let cycle = bmc::Wish { action: PowerAction::PowerCycle, force, wait: true };
            let mut sent: Requests = match client.preview_drive(cycle).await {
                Ok(lines) => lines.into_iter().map(one).collect(),
                Err(failure) if failure.cause == Cause::Refused => vec![Err(failure.why)],
                Err(failure) => return Err(failure),
            };
            if *stays_off {
                let off = if force { PowerAction::ForceOff } else { PowerAction::GracefulShutdown };
                sent.extend(client.preview(&[bmc::client::Operation::Reset(off)]).await?);
            }
            sent
        }
        BaselinePart::AwaitService { .. } => Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        cli::globals::Globals,
        lab::bmc::{Account, Bmc, Description, FakeChassis, Faults, certificate, serve},
        model::{
            Secret,
            facts::Facts,
            fleet::BootMode,
            goal::{Goal, Scope},
        },
        plan::Known,
    };

    const PASSWORD: &str = "correct horse";

    /// A BMC that answers, and where it does.
    async fn bmc() -> (String, String, tokio::task::JoinHandle<()>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let made = certificate("bmc-n1", None).unwrap();
        let description = Description {
            manufacturer: "Contoso".into(),
            model: "R1".into(),
            serial: "LAB-0001".into(),
            sku: None,
            uuid: "4c4c4544-0034-5010-8031-c6c04f474831".parse().unwrap(),
            macs: vec!["52:54:00:00:00:01".parse().unwrap()],
            drives: vec![],
            memory_bytes: 4 << 30,
            cores: 4,
            uefi: true,
            bios_version: "1".into(),
        };
        let account = Account { user: "root".into(), password: Secret::new(PASSWORD.into()) };
        let lab = Bmc::new(FakeChassis::new(description), account, Faults::default());
        let tls = made.server_config().unwrap();
        (url, made.pin, tokio::spawn(serve(listener, tls, lab, std::future::pending())))
    }

    fn node(name: &str, url: &str, pin: &str, at: u8) -> String {
        format!(
            "apiVersion: rackctl.dev/v1alpha1\nkind: Node\nmetadata: {{ name: {name} }}\nspec:\n  bmc: {{ endpoints: [{{ \
             redfish: '{url}', credential: lab, tls: {{ pin: '{pin}' }} }}] }}\n  interfaces: [{{ name: eno1, mac: \
             '52:54:00:00:00:0{at}', role: provision, addresses: [10.77.0.1{at}/24] }}]\n---\n"
        )
    }

    #[tokio::test]
    async fn every_way_to_boot_is_shown_and_a_bmc_that_is_away_in_its_place() {
        let (url, pin, serving) = bmc().await;
        // Nobody listens there any more.
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = [
            node("n1", &format!("https://{closed}"), &pin, 2),
            node("n2", &url, &pin, 1),
            "apiVersion: rackctl.dev/v1alpha1\nkind: Credential\nmetadata: { name: lab }\nspec: { username: root, \
             passwordFrom: { env: RACKCTL_TEST_UNSET } }\n"
                .to_owned(),
        ]
        .concat();
        let source = crate::inventory::Source::Stdin(text);
        let fleet = crate::inventory::load(&[source]).unwrap_or_else(|faults| panic!("{faults}")).fleet;
        let home = tempfile::tempdir().unwrap();
        let store = format!("sqlite:{}", home.path().join("state.db").display());
        let session = Session::with_fleet(&Globals { store: Some(store), ..Globals::default() }, fleet).unwrap();
        let scope = Scope(vec!["n1".into(), "n2".into()]);
        let goal = Goal::Power { nodes: scope, action: PowerAction::On, force: false, wait: true, lose_quorum: false };
        let (artifacts, generations) = Default::default();
        let known = Known { artifacts: &artifacts, cluster_generations: &generations };
        let mut plan = crate::plan::plan(&session.fleet, &Facts::default(), &goal, &known);
        for track in &mut plan.tracks {
            track.push(
                StepKind::BootInstaller { target: BootTarget::Pxe, mode: BootMode::Uefi },
                "to be installed".to_owned(),
            );
        }
        let mut passwords = bmc::Passwords::new();
        passwords.insert("lab", "root", Arc::new(Secret::new(PASSWORD.into())));
        let (text, ends) = super::text(&session, &plan, &passwords).await.unwrap();
        assert!(ends.len() == 2 && ends[0].is_err() && ends[1].is_ok(), "{text}");
        assert!(text.contains("n1 cannot be asked: "), "{text}");
        let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("no {what}: {text}"));
        assert!(at("BootSourceOverrideTarget") < at("\"BootOrder\""), "{text}");
        assert!(
            at("boot order: only where nothing above holds") < at("IPMI boot flags: the inventory names no"),
            "{text}"
        );
        assert!(at("IPMI boot flags") < at("\"ResetType\":\"On\""), "{text}");
        serving.abort();
    }
}
