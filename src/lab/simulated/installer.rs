//! The installer of a simulated machine: what `node/src/installer` says and does, over the same protocol.

use std::{net::IpAddr, time::Duration, time::Instant};

use rackctl_wire::{
    API_PATIENCE_S, Claim, Directive, MachineIds, PROTOCOL, REPORT_INTERVAL_MS, Seed, Stage, WriteTicket,
    installer_line::InstallerLine, ticket,
};
use tokio::sync::watch;

use super::{
    firmware::{self, Kernel},
    host_key::{HostKey, random},
    http_client::{Api, CallError, Http},
    machine::{Machine, Phase},
    progress::Progress,
    timing::{API_WAIT_MAX, ms},
};

/// A little less than what was promised, as the real one has it.
const INTERVAL: Duration = Duration::from_millis(REPORT_INTERVAL_MS * 8 / 10);

/// For the last report of a boot.
const LAST_WORD: Duration = Duration::from_secs(2);

/// Everything that is known before the first word to the server.
struct Boot<'a> {
    machine: &'a Machine,
    line: InstallerLine,
    seed: Seed,
    boot_id: String,
    system_key: HostKey,
    since: Instant,
}

/// Returns where the machine restarts itself; otherwise it stays until its power is cut.
pub async fn run(machine: &Machine, kernel: Kernel) {
    if let Err(why) = install(machine, kernel).await {
        machine.say(&format!("FAILED: {why}"));
        std::future::pending::<()>().await;
    }
}

fn seed(bytes: Option<&[u8]>, node: &str) -> Result<Seed, String> {
    let bytes = bytes.ok_or("there is no seed in the initramfs")?;
    // The error's text must not quote the token.
    let seed: Seed = serde_json::from_slice(bytes).map_err(|e| format!("the seed is not valid (line {})", e.line()))?;
    if seed.protocol != PROTOCOL {
        return Err(format!("the seed speaks protocol {}, this is {PROTOCOL}", seed.protocol));
    }
    if seed.node != node {
        return Err(format!("the seed is for {}, the command line for {node}", seed.node));
    }
    Ok(seed)
}

async fn install(machine: &Machine, kernel: Kernel) -> Result<(), String> {
    let since = Instant::now();
    tokio::time::sleep(ms(machine.site.timing.kernel_ms)).await;
    let line = InstallerLine::parse(&kernel.line).map_err(|e| e.to_string())?;
    machine.say(&format!("installer of node {}", line.node));
    let seed = seed(kernel.seed.as_deref(), &line.node)?;
    let IpAddr::V4(address) = line.address.address else {
        return Err("a simulated machine has IPv4 only".into());
    };
    let _address = firmware::take(machine, address)?;
    let installer_key = HostKey::generate()?;
    let boot_id = uuid::Uuid::new_v4().to_string();
    let boot = Boot { machine, seed, boot_id, system_key: HostKey::generate()?, since, line };
    let api = Api::new(address, &boot.line.api, &boot.line.pin)?;
    let claim = boot.claim(&installer_key)?;
    let session = boot.patiently(&api, &claim).await?;
    machine.say("claimed");
    let progress = Progress::new(boot.line.node.clone(), boot.boot_id.clone(), since);
    let (orders, directives) = watch::channel(None);
    let work = async {
        match boot.bring_up(address, &progress).await {
            Ok(()) => boot.enter(&progress, Stage::Ready),
            Err((kind, why)) => boot.fail(&progress, kind, &why),
        }
        boot.follow(address, &progress, directives).await;
    };
    tokio::select! {
        () = work => Ok(()),
        why = boot.report(&api, claim, session, &progress, orders) => Err(why),
    }
}

impl Boot<'_> {
    fn claim(&self, installer_key: &HostKey) -> Result<Claim, String> {
        let identity = self.machine.identity();
        Ok(Claim {
            protocol: PROTOCOL,
            node: self.line.node.clone(),
            token: self.seed.token.clone(),
            attempt: hex::encode(random::<16>()?),
            mac: self.line.mac.clone(),
            machine: MachineIds {
                uuid: Some(identity.uuid),
                serial: Some(identity.serial),
                macs: vec![self.machine.spec.mac.to_string()],
                ..MachineIds::default()
            },
            installer_host_key: installer_key.public.clone(),
            system_host_key: self.system_key.public.clone(),
            boot_id: self.boot_id.clone(),
            cores: 1,
            memory_bytes: u64::from(self.machine.spec.memory_mib) << 20,
        })
    }

    /// Tries until the server answers, or has been away for [`API_PATIENCE_S`].
    async fn patiently(&self, api: &Api, claim: &Claim) -> Result<String, String> {
        let until = Instant::now() + Duration::from_secs(API_PATIENCE_S);
        let mut wait = ms(self.machine.site.timing.api_ms);
        loop {
            match api.claim(claim).await {
                Ok(answer) => return Ok(answer.session),
                Err(refused @ CallError::Refused { .. }) => return Err(format!("the claim: {refused}")),
                Err(away) if Instant::now() > until => return Err(format!("the claim: {away}; giving up")),
                Err(away) => {
                    self.machine.say(&format!("the API does not answer the claim, trying again: {away}"));
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(API_WAIT_MAX);
                }
            }
        }
    }

    fn enter(&self, progress: &Progress, stage: Stage) {
        self.machine.set_phase(Phase::Installer { stage });
        self.machine.say(&format!("{stage:?}"));
        progress.enter(stage);
    }

    fn fail(&self, progress: &Progress, kind: &str, why: &str) {
        self.machine.say(&format!("FAILED: {why} ({kind})"));
        progress.fail(kind, why);
        self.machine.set_phase(Phase::Installer { stage: Stage::Failed });
    }

    async fn bring_up(&self, from: std::net::Ipv4Addr, progress: &Progress) -> Result<(), (&'static str, String)> {
        self.enter(progress, Stage::SecondStage);
        let http = Http::new(from).map_err(|why| ("network", why))?;
        http.object(&self.line.assets, &self.line.stage2).await?;
        self.enter(progress, Stage::Examining);
        progress.found(vec![self.machine.disk_shown()], self.machine.hardware_shown());
        Ok(())
    }

    /// Reports until the server has been away for too long; why it stopped.
    async fn report(
        &self,
        api: &Api,
        claim: Claim,
        mut session: String,
        progress: &Progress,
        orders: watch::Sender<Option<Directive>>,
    ) -> String {
        let mut away_since: Option<Instant> = None;
        let mut pause = INTERVAL;
        loop {
            let report = progress.report();
            match api.report(&session, &report).await {
                Ok(directive) => {
                    progress.answered(report.stage);
                    away_since = None;
                    pause = INTERVAL;
                    orders.send_if_modified(|last| {
                        let new = last.as_ref() != Some(&directive);
                        *last = Some(directive);
                        new
                    });
                }
                Err(error) if error.session_is_gone() => match self.patiently(api, &claim).await {
                    Ok(again) => session = again,
                    Err(why) => return why,
                },
                Err(error) => {
                    let since = away_since.get_or_insert_with(|| {
                        self.machine.say(&format!("the API is away: {error}"));
                        Instant::now()
                    });
                    if since.elapsed() > Duration::from_secs(API_PATIENCE_S) {
                        return format!("the API has been away for {API_PATIENCE_S} s: no more reports");
                    }
                    pause = pause.min(ms(self.machine.site.timing.api_ms) * 2);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = progress.changed() => {}
            }
        }
    }

    /// Does what the last directive says, one at a time. Returns with the restart.
    async fn follow(
        &self,
        from: std::net::Ipv4Addr,
        progress: &Progress,
        mut directives: watch::Receiver<Option<Directive>>,
    ) {
        let mut begun: Option<String> = None;
        while directives.changed().await.is_ok() {
            let directive = directives.borrow_and_update().clone();
            match directive {
                Some(Directive::Wait { reason }) => self.machine.say(&format!("waiting: {reason}")),
                Some(Directive::Stop { reason }) => self.machine.say(&format!("STOPPED: {reason}")),
                Some(Directive::Reboot) => {
                    self.enter(progress, Stage::Restarting);
                    let _ = tokio::time::timeout(LAST_WORD, progress.told(Stage::Restarting)).await;
                    return;
                }
                Some(Directive::Write(ticket)) if begun.is_none() && progress.stage() == Stage::Ready => {
                    begun = Some(ticket.id.clone());
                    progress.ticket(&ticket.id);
                    match self.carry_out(from, &ticket, progress).await {
                        Ok(()) => self.enter(progress, Stage::Written),
                        Err((kind, why)) => self.fail(progress, kind, &why),
                    }
                }
                Some(Directive::Write(ticket)) if begun.as_ref() != Some(&ticket.id) => {
                    self.machine.say(&format!("ticket {} is not carried out: this boot has come too far", ticket.id));
                }
                Some(Directive::Write(_)) | None => {}
            }
        }
        // The reporter has ended, and says why.
        std::future::pending::<()>().await;
    }

    async fn carry_out(
        &self,
        from: std::net::Ipv4Addr,
        order: &WriteTicket,
        progress: &Progress,
    ) -> Result<(), (&'static str, String)> {
        let machine = self.machine;
        self.enter(progress, Stage::Fetching);
        let disk =
            ticket::disk_of(order, &self.line.system, &[machine.disk_shown()]).map_err(|e| (e.kind, e.message))?;
        machine.say(&format!("ticket {} is for disk {} ({} bytes)", order.id, disk.name, disk.size_bytes));
        let io = |why: String| ("io", why);
        if machine.disk.get().bears(order) {
            machine.say("the disk bears this ticket's system already, whole");
            return machine.disk.change(|disk| disk.identify(order, &self.system_key)).map_err(io);
        }
        let http = Http::new(from).map_err(|why| ("network", why))?;
        http.object(&self.line.assets, &self.line.system).await?;
        // Durable before the first byte: a machine whose power is cut now has a disk that was wiped.
        machine.disk.change(|disk| disk.begin(order)).map_err(io)?;
        machine.site.cloud.wipe(&machine.spec.name);
        self.enter(progress, Stage::Writing);
        tokio::time::sleep(ms(machine.site.timing.write_ms)).await;
        self.enter(progress, Stage::ReadBack);
        self.enter(progress, Stage::BootSetup);
        machine.disk.change(|disk| disk.complete(order, &self.system_key)).map_err(io)?;
        machine.say(&format!("written in {} ms since the kernel started", self.since.elapsed().as_millis()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_of_another_node_or_without_sense_is_refused_without_its_token() {
        let text = |protocol: u32, node: &str| format!(r#"{{"protocol":{protocol},"node":"{node}","token":"s3cr3t"}}"#);
        assert_eq!(seed(Some(text(1, "n1").as_bytes()), "n1").unwrap().token, "s3cr3t");
        for (bytes, node) in [(text(2, "n1"), "n1"), (text(1, "n2"), "n1"), ("{\"token\":\"s3cr3t\"".into(), "n1")] {
            let why = seed(Some(bytes.as_bytes()), node).err().unwrap();
            assert!(!why.contains("s3cr3t"), "{why}");
        }
        assert!(seed(None, "n1").is_err());
    }
}
