//! What a step asks for, done: a run of its own, a look at a cluster or a machine, a program, a word to somebody.

use std::{
    collections::BTreeSet,
    io::BufRead,
    time::{Duration, Instant},
};

use super::{
    super::{
        apply::{self, Order, Step},
        args::run::{Limits, Resume},
        globals::Globals,
        resume,
        session::{Session, block_on},
        short::{self, Short},
    },
    aside,
    watch::Watch,
};
use crate::{
    bmc,
    engine::play::{End, PlayEffect, PlayEvent, child_run},
    model::{
        Failure,
        approval::Envelope,
        failure::Cause,
        goal::Goal,
        play::{Act, Play, Target},
        playbook::OnOff,
        power::{PowerAction, PowerState},
    },
    output::{Exit, Stop, stdout},
    run::{
        clock,
        play::{Told, exec, gate_client, notify_client},
        sessions::{self, Stopped},
    },
    store::{Approval, Holder, RunRecord, RunState},
};

/// Between two looks at a machine's power, and at approvals.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const ASK_EVERY: Duration = Duration::from_secs(1);
/// For one look at a BMC.
const LOOK: Duration = Duration::from_secs(30);
/// Of a look after which no other is of use.
const FINAL: [Cause; 3] = [Cause::Unauthorized, Cause::Untrusted, Cause::Interrupted];
/// For a machine to change its power.
const CHANGE: Duration = Duration::from_secs(180);
/// A program of a `notify`.
const NOTIFY_DEADLINE: Duration = Duration::from_secs(60);

pub struct Steps<'a> {
    /// As its steps speak: within a playbook.
    pub globals: &'a Globals,
    pub session: &'a Session,
    pub bound: Play,
    pub run: &'a str,
    pub limits: &'a Limits,
    pub approvals: &'a [String],
    pub watch: &'a Watch,
}

impl Steps<'_> {
    /// Does it to its end, and gives back what is to be said of it. Nothing for what is no effect.
    pub fn carry_out(&self, effect: PlayEffect) -> Option<PlayEvent> {
        let (step, attempt, end) = match effect {
            PlayEffect::RunGoal { step, attempt, act, run } => {
                let end = self.goal(&step, attempt, &act, &run);
                (step, attempt, end)
            }
            PlayEffect::Gate { step, attempt, cluster, healthy_ms, deadline_ms } => {
                let end = aside(|| self.gate(&step, &cluster, healthy_ms, deadline_ms));
                (step, attempt, end)
            }
            PlayEffect::AwaitPower { step, attempt, node, power, deadline_ms } => {
                let end = aside(|| self.power(&step, &node, power, deadline_ms));
                (step, attempt, end)
            }
            PlayEffect::Exec { step, attempt, command, deadline_ms } => {
                let end = self.program(&step, attempt, &command, Duration::from_millis(deadline_ms), None);
                (step, attempt, end)
            }
            PlayEffect::Notify { step, attempt, message, to } => {
                let end = self.notify(&step, attempt, &message, &to);
                (step, attempt, end)
            }
            PlayEffect::AskApproval { step, attempt, message, hash, until_ms } => {
                let end = self.approval(&step, &message, &hash, until_ms);
                (step, attempt, end)
            }
            PlayEffect::AskPerson { step, attempt, message } => {
                let end = self.person(&step, &message);
                (step, attempt, end)
            }
            PlayEffect::Wait { until_ms } => {
                self.sleep_until(until_ms);
                return Some(PlayEvent::Tick);
            }
            PlayEffect::Mark(_) | PlayEffect::Finished(_) => return None,
        };
        Some(PlayEvent::Ended { step, attempt, end })
    }

    /// Waits for `work`, or until something is wished.
    fn unless_wished(&self, work: impl Future<Output = Result<(), Failure>>) -> End {
        let done = block_on(async {
            Ok(tokio::select! {
                result = work => Some(result),
                () = self.watch.heard() => None,
            })
        });
        came_of(done)
    }

    /// As [`Self::unless_wished`], for what logs in: it is told, and comes to its own end.
    fn until_wished(&self, work: impl AsyncFnOnce(&Stopped) -> Result<(), Failure>) -> End {
        let (tell, stopped) = tokio::sync::watch::channel(false);
        came_of(block_on(async {
            let work = work(&stopped);
            tokio::pin!(work);
            Ok(tokio::select! {
                result = work.as_mut() => Some(result),
                () = self.watch.heard() => {
                    tell.send_replace(true);
                    let _ = work.await;
                    None
                }
            })
        }))
    }

    fn goal(&self, step: &str, attempt: u32, act: &Act, run: &str) -> End {
        let Some(goal) = act.goal() else {
            return End::Failed(Failure::new(Cause::Local, step, "it makes no run"));
        };
        // What an earlier attempt left open is gone on with, not overtaken: only its run knows what is in hand.
        let mut run = run.to_owned();
        for earlier in 1..attempt {
            let id = child_run(self.run, step, earlier);
            match self.session.store.run(&id) {
                Ok(Some(record)) if record.state.is_open() => run = id,
                Ok(_) => {}
                Err(error) => return End::Failed(error.to_failure()),
            }
        }
        let before = match self.session.store.run(&run) {
            Ok(before) => before,
            Err(error) => return End::Failed(error.to_failure()),
        };
        self.watch.hand_on_to(Some(&run));
        let result = match &before {
            Some(record) if record.state.is_open() => aside(|| self.again(record)),
            Some(record) => ended(record),
            None => aside(|| self.begin(&goal, &run)),
        };
        self.watch.hand_on_to(None);
        self.end_of(step, &run, result)
    }

    fn begin(&self, goal: &Goal, run: &str) -> Result<Exit, Stop> {
        if !goal.is_short() {
            let stopped = || self.watch.wished();
            let step = Step { run, parent: self.run, approvals: self.approvals, stopped: &stopped };
            let order = Order { goal, limits: self.limits, kept: None, step: Some(step), id: None };
            return apply::run(self.globals, self.session, &order);
        }
        let power = matches!(goal, Goal::Power { .. });
        if let Goal::Power { action, nodes, .. } = goal
            && *action != PowerAction::On
            && !self.limits.yes
        {
            super::super::power::confirm(self.session, power_word(*action), &nodes.0)?;
        }
        let short = Short {
            heading: if power { "POWER" } else { "BOOT" },
            field: if power { "power" } else { "boot" },
            ask: None,
            secret: None,
            stagger: Duration::ZERO,
            patience: CHANGE,
            limit: None,
            hint: "",
        };
        short::begin(self.globals, self.session, goal, &short, run)
    }

    /// Goes on with the step's run from its own journal.
    fn again(&self, record: &RunRecord) -> Result<Exit, Stop> {
        let approve = self.approvals.iter().filter(|a| record.plan_hash.starts_with(a.as_str())).cloned().collect();
        let args =
            Resume { run: Some(record.id.clone()), approve, yes: false, settle: None, expires: self.limits.expires };
        resume::step(self.globals, self.session.clone(), record, &args)
    }

    /// What the end of a step's run means for the playbook.
    fn end_of(&self, step: &str, run: &str, result: Result<Exit, Stop>) -> End {
        let (exit, failures) = match result {
            Ok(exit) => (exit, Vec::new()),
            Err(stop) => (stop.exit, stop.failures),
        };
        let more = failures.len().saturating_sub(1);
        let said = failures.into_iter().next().map(|mut failure| {
            if more > 0 {
                failure.why = format!("{} (and {more} more: rackctl logs {run})", failure.why);
            }
            // What goes on is the playbook.
            failure.next = failure.next.map(|next| next.replace(run, self.run));
            failure
        });
        // What was refused whole never became a run.
        let made = matches!(self.session.store.run(run), Ok(Some(_)));
        let look = match made {
            true => format!("rackctl logs {run}"),
            false => format!("rackctl run {} … --dry-run", self.bound.playbook),
        };
        let or = |cause, why: &str| {
            said.clone().unwrap_or_else(|| Failure::new(cause, format!("{step}: run {run}"), why).next(look.clone()))
        };
        match exit {
            Exit::Done => End::Done(None),
            Exit::Interrupted => End::Interrupted,
            Exit::NeedsApproval => {
                let mut failure = or(Cause::Guard, "it needs approval");
                let resume = format!("rackctl resume {}", self.run);
                if !failure.next.as_ref().is_some_and(|n| n.contains(&resume)) {
                    let before = failure.next.map(|n| format!("{n}; then ")).unwrap_or_default();
                    failure.next = Some(format!("{before}{resume}"));
                }
                End::Parked(failure)
            }
            // A run of which nobody can tell the end is no failure like others.
            Exit::NeedsPerson => {
                let failure = or(Cause::NeedsPerson, "its outcome cannot be observed");
                End::Failed(Failure { cause: Cause::NeedsPerson, ..failure })
            }
            Exit::Refused => End::Failed(or(Cause::Guard, "every node was refused")),
            Exit::Partial => End::Failed(or(Cause::Refused, "some nodes are done, some are not")),
            Exit::Failed | Exit::Usage | Exit::Locked => End::Failed(or(Cause::Refused, "it failed")),
        }
    }

    fn gate(&self, step: &str, cluster: &str, healthy_ms: u64, deadline_ms: u64) -> End {
        let members = self.session.fleet.clusters.get(cluster).map(|c| c.members.clone()).unwrap_or_default();
        if let Err(failure) = self.session.enter(&members) {
            return End::Failed(failure);
        }
        let told = |why: &str| stdout::note(&format!("{step}: {cluster}: {why}"));
        self.unless_wished(gate_client::healthy(&self.session.fleet, cluster, healthy_ms, deadline_ms, told))
    }

    fn power(&self, step: &str, name: &str, wanted: OnOff, deadline_ms: u64) -> End {
        let names = [name.to_owned()];
        if let Err(failure) = self.session.enter(&names) {
            return End::Failed(failure);
        }
        let wanted = if wanted == OnOff::On { PowerState::On } else { PowerState::Off };
        self.until_wished(async |stopped: &Stopped| {
            let node = self.session.node(name)?;
            let passwords = self.session.passwords(&names).await?;
            let until = Instant::now() + Duration::from_millis(deadline_ms);
            loop {
                let why = match self.look(node, &passwords, stopped).await {
                    Ok(state) if state == wanted => return Ok(()),
                    Ok(state) => format!("it is {}", crate::output::resource::power_word(state)),
                    Err(failure) if FINAL.contains(&failure.cause) => return Err(failure),
                    Err(failure) => failure.why,
                };
                if Instant::now() + LOOK_EVERY > until {
                    let word = crate::output::resource::power_word(wanted);
                    let why = format!("not {word} within {} s: {why}", deadline_ms / 1_000);
                    let failure = Failure::new(Cause::Deadline, format!("{step}: wait for {name}"), why);
                    return Err(failure.next(format!("rackctl power status {name}")));
                }
                let _ = tokio::time::timeout(LOOK_EVERY, sessions::stop(stopped)).await;
            }
        })
    }

    async fn look(
        &self,
        node: &crate::model::fleet::Node,
        passwords: &bmc::Passwords,
        stopped: &Stopped,
    ) -> Result<PowerState, Failure> {
        let power = async |client: &bmc::Client| client.power().await;
        self.session.look(node, passwords, LOOK, stopped, power).await
    }

    fn told<'t>(&'t self, step: &'t str, attempt: u32, message: Option<&'t str>) -> Told<'t> {
        Told {
            version: Told::VERSION,
            run: self.run,
            playbook: &self.bound.playbook,
            step,
            title: self.bound.step(step).map_or(step, |s| s.title.as_str()),
            attempt,
            parameters: &self.bound.parameters,
            message,
        }
    }

    /// Not cut off by a wish: whether it did its work could not be told afterwards. It has a deadline.
    fn program(&self, step: &str, attempt: u32, command: &[String], deadline: Duration, message: Option<&str>) -> End {
        let told = self.told(step, attempt, message);
        let line = |text: &str| stdout::note(&format!("{step}: {text}"));
        match block_on(async { Ok(exec::program(command, &told, deadline, line).await?) }) {
            Ok(note) => End::Done(note),
            Err(stop) => End::Failed(first(stop)),
        }
    }

    fn notify(&self, step: &str, attempt: u32, message: &str, to: &Target) -> End {
        match to {
            Target::Command { command } => self.program(step, attempt, command, NOTIFY_DEADLINE, Some(message)),
            Target::Url { url, pin } => {
                let told = self.told(step, attempt, Some(message));
                match block_on(async { Ok(notify_client::post(url, pin.as_deref(), &told).await?) }) {
                    Ok(()) => End::Done(None),
                    Err(stop) => End::Failed(first(stop)),
                }
            }
        }
    }

    fn approval(&self, step: &str, message: &str, hash: &str, until_ms: u64) -> End {
        let me = Holder::this();
        let words = format!("playbook {}, run {}, {step}: {message}", self.bound.playbook, self.run);
        let envelope = Envelope { kinds: BTreeSet::from([words]), ..Envelope::default() };
        let now = clock::unix_ms();
        let asked =
            Approval { plan_hash: hash.to_owned(), envelope, approver: me.clone(), at_ms: now, expires_ms: until_ms };
        if let Err(error) = self.session.store.put_approval(&asked) {
            return End::Failed(error.to_failure());
        }
        stdout::note(&format!("{step}: {message}"));
        stdout::note(&format!(
            "waiting until {} for another operator than {}: rackctl approve {}",
            crate::model::clock::utc(until_ms),
            me.user,
            &hash[..hash.len().min(12)]
        ));
        let left = Duration::from_millis(until_ms.saturating_sub(now));
        let end = Instant::now() + left;
        self.unless_wished(async {
            loop {
                let now = clock::unix_ms();
                let given = self.session.store.approvals(hash).map_err(|e| e.to_failure())?;
                if let Some(by) = given.iter().find(|a| a.approver.user != me.user && now < a.expires_ms) {
                    stdout::note(&format!("{step}: approved by {}", by.approver));
                    return Ok(());
                }
                if now >= until_ms || Instant::now() >= end {
                    let why = format!("nobody but {} approved it in time", me.user);
                    let failure = Failure::new(Cause::Deadline, format!("{step}: approval"), why);
                    return Err(failure.next(format!("rackctl run {} …", self.bound.playbook)));
                }
                tokio::time::sleep(ASK_EVERY).await;
            }
        })
    }

    fn person(&self, step: &str, message: &str) -> End {
        if !stdout::stdin_is_terminal() {
            let failure = Failure::new(Cause::Guard, format!("{step}: wait for a person"), message.to_owned());
            return End::Parked(failure.next(format!("rackctl resume {}", self.run)));
        }
        stdout::note(message);
        stdout::note("Press Enter to go on; ^C leaves, and the run can be resumed:");
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        match read {
            Ok(_) if self.watch.wished() => End::Interrupted,
            Ok(1..) => End::Done(None),
            // Standard input was closed: nobody is there.
            _ => {
                let failure = Failure::new(Cause::Guard, format!("{step}: wait for a person"), message.to_owned());
                End::Parked(failure.next(format!("rackctl resume {}", self.run)))
            }
        }
    }

    /// By the wall clock, for the moment may be of an earlier process; never longer than it was at the beginning.
    fn sleep_until(&self, until_ms: u64) {
        let end = Instant::now() + Duration::from_millis(until_ms.saturating_sub(clock::unix_ms()));
        let _ = self.unless_wished(async {
            while clock::unix_ms() < until_ms && Instant::now() < end {
                let left = until_ms.saturating_sub(clock::unix_ms()).clamp(1, 1_000);
                tokio::time::sleep(Duration::from_millis(left)).await;
            }
            Ok(())
        });
    }
}

/// How a run that has ended stands for its step.
fn ended(record: &RunRecord) -> Result<Exit, Stop> {
    match record.state {
        RunState::Succeeded => Ok(Exit::Done),
        state => {
            let why = format!("it ended as {}", format!("{state:?}").to_lowercase());
            let failure = Failure::new(Cause::Refused, format!("run {}", record.id), why);
            Err(stop_of(failure.next(format!("rackctl logs {}", record.id))))
        }
    }
}

fn stop_of(failure: Failure) -> Stop {
    failure.into()
}

/// `None`: something was wished meanwhile.
fn came_of(done: Result<Option<Result<(), Failure>>, Stop>) -> End {
    match done {
        Ok(Some(Ok(()))) => End::Done(None),
        Ok(Some(Err(failure))) => End::Failed(failure),
        Ok(None) => End::Interrupted,
        Err(stop) => End::Failed(first(stop)),
    }
}

fn first(stop: Stop) -> Failure {
    let mut failures = stop.failures.into_iter();
    failures.next().unwrap_or_else(|| Failure::new(Cause::Local, "step", "it could not be done"))
}

fn power_word(action: PowerAction) -> &'static str {
    match action {
        PowerAction::On => "power on",
        PowerAction::GracefulShutdown | PowerAction::ForceOff => "power off",
        PowerAction::PowerCycle => "power cycle",
        PowerAction::GracefulRestart | PowerAction::ForceRestart => "power reset",
    }
}
