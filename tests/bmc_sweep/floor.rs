//! A hundred simulated BMCs that listen for Redfish over TLS and for IPMI, the inventory that names them, and the
//! program that is let loose on them.

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rackctl::{
    lab::bmc::{
        Account, Bmc, Chassis, Description, DriveDescription, FakeChassis, Faults, LogEntry, certificate, ipmi, serve,
    },
    model::{Mac, Secret, power::PowerState},
};
use serde_json::Value;
use tokio::net::{TcpListener, UdpSocket};

use crate::{
    draw::{Case, Verb, Ways},
    table::{self, Cause, End},
};

const USER: &str = "root";
const PASSWORD: &str = "correct horse 7";
const FORMER: &str = "former horse 6";
/// What the program gives a machine to come on or off.
pub const PATIENCE: Duration = Duration::from_secs(12);
/// Longer than any command of the sweep may take: what is not back then hangs.
const HANG: Duration = Duration::from_secs(170);

pub struct Machine {
    pub name: String,
    pub bmc: Arc<Bmc<FakeChassis>>,
    pub ipmi: Arc<ipmi::Service<FakeChassis>>,
    redfish_at: String,
    ipmi_at: String,
    pin: String,
    before: Before,
}

/// What was there when a case began.
#[derive(Default)]
struct Before {
    log: usize,
    boots: usize,
    cuts: u32,
    wrong: u32,
}

/// What a case left behind.
pub struct After {
    /// Requests of the case.
    pub log: Vec<LogEntry>,
    pub boots: usize,
    pub cuts: u32,
    pub on: bool,
    pub sessions: usize,
    pub locked: Vec<String>,
    /// Log-ins that were refused for their password.
    pub wrong: u32,
}

impl Machine {
    async fn make(name: &str, number: usize) -> Machine {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let redfish_at = format!("https://{}", listener.local_addr().unwrap());
        let ipmi_at = socket.local_addr().unwrap().to_string();
        let certificate = certificate(name, Some([127, 0, 0, 1].into())).unwrap();
        let account = Account { user: USER.into(), password: Secret::new(PASSWORD.into()) };
        let chassis = FakeChassis::new(description(number));
        let bmc = Bmc::new(chassis, account, Faults::parse(["power-lag=300ms"]).unwrap());
        let ipmi = ipmi::Service::new(bmc.clone()).unwrap();
        tokio::spawn(serve(listener, certificate.server_config().unwrap(), bmc.clone(), std::future::pending()));
        tokio::spawn(ipmi::serve(socket, ipmi.clone(), None, std::future::pending()));
        let pin = certificate.pin.clone();
        Machine { name: name.into(), bmc, ipmi, redfish_at, ipmi_at, pin, before: Before::default() }
    }

    /// As the case wants it: its lies, and the state that the verb starts from.
    pub async fn prepare(&mut self, case: &Case, stranger: &str) {
        let redirect = format!("redirect=https://{stranger}");
        let word = |lie: &&'static str| if *lie == "redirect" { redirect.clone() } else { (*lie).to_owned() };
        let lies: Vec<String> = case.lies.iter().filter(|l| !l.starts_with('@')).map(word).collect();
        let faults = Faults::parse(lies.iter().map(String::as_str)).unwrap_or_else(|why| panic!("{case}: {why}"));
        self.bmc.set_faults(Faults::default());
        let chassis = self.bmc.chassis();
        if case.verb.begins_on() {
            chassis.power_on(None).await.unwrap()
        } else {
            chassis.power_off().await.unwrap()
        }
        if case.has("post-lock") {
            self.bmc.on_guest_reset();
        }
        let (target, enabled) = if case.verb == Verb::Clear { ("pxe", "Once") } else { ("none", "Disabled") };
        let boot = serde_json::json!({ "boot": { "target": target, "enabled": enabled, "mode": "UEFI" } });
        self.bmc.restore(serde_json::from_value(boot).unwrap());
        self.bmc.set_faults(faults);
        let (log, dropped) = self.bmc.log();
        assert_eq!(dropped, 0);
        self.before = Before {
            log: log.len(),
            boots: chassis.boots().len(),
            cuts: chassis.cuts(),
            wrong: self.ipmi.wrong_passwords(),
        };
    }

    pub async fn after(&self) -> After {
        let (log, dropped) = self.bmc.log();
        assert_eq!(dropped, 0, "{}: the log is too short", self.name);
        let log = log[self.before.log..].to_vec();
        let over_redfish = log.iter().filter(|l| l.status == 401 && l.user.is_none() && l.session.is_none()).count();
        let chassis = self.bmc.chassis();
        After {
            boots: chassis.boots().len() - self.before.boots,
            cuts: chassis.cuts() - self.before.cuts,
            on: chassis.power().await == PowerState::On,
            sessions: self.bmc.open_sessions() + self.ipmi.open_sessions(),
            locked: self.bmc.locked_accounts(),
            wrong: self.ipmi.wrong_passwords() - self.before.wrong + over_redfish as u32,
            log,
        }
    }

    /// Its manifest. `case`: `None` for one that nobody names in a command.
    fn manifest(&self, case: Option<&Case>) -> String {
        let has = |lie| case.is_some_and(|c| c.has(lie));
        // A password that is refused somewhere is not tried at the rest of its group.
        let refused = case.is_some_and(|c| table::expected(c).0 == End::Fails(Cause::Unauthorized));
        let credential = match () {
            () if has("@old-password") => "former",
            () if refused => "narrow",
            () => "bmc",
        };
        let pin = if has("@other-key") { format!("sha256:{}", "0".repeat(64)) } else { self.pin.clone() };
        // A port that nothing listens on.
        let url = if has("@silent") { "https://127.0.0.1:9" } else { &self.redfish_at };
        let redfish = format!("{{ redfish: {url:?}, credential: {credential}, tls: {{ pin: {pin:?} }} }}");
        let ipmi = format!("{{ ipmi: {:?}, credential: {credential} }}", self.ipmi_at);
        let endpoints = match case.map_or(Ways::Redfish, |c| c.ways) {
            Ways::Redfish => redfish,
            Ways::RedfishThenIpmi => format!("{redfish}, {ipmi}"),
            Ways::Ipmi => ipmi,
        };
        // Half of the systems are named: their power is read by one request. Not where only the root tells the lie.
        let named = case.is_some_and(|c| c.number.is_multiple_of(2))
            && !["system-id", "links-away", "root-no-links"].iter().any(|l| has(l));
        let system = if named { ", system: \"1\"" } else { "" };
        let verb = case.map_or("none", |c| c.verb.word());
        format!(
            "---\napiVersion: rackctl.dev/v1alpha1\nkind: Node\nmetadata: {{ name: {}, labels: {{ verb: {verb} }} }}\nspec:\n  \
             bmc: {{ endpoints: [{endpoints}]{system} }}\n",
            self.name
        )
    }
}

fn description(number: usize) -> Description {
    let drive = DriveDescription { serial: format!("DISK-{number}"), model: "Virtual".into(), size_bytes: 64 << 30 };
    Description {
        manufacturer: "rackctl-lab".into(),
        model: "Machine without hardware".into(),
        serial: format!("SWEEP-{number:03}"),
        sku: None,
        uuid: uuid::Uuid::from_u128(0x5254_0078_0000_4000_8000_0000_0000_0000 + number as u128),
        macs: vec![Mac([0x52, 0x54, 0, 0x78, (number >> 8) as u8, number as u8])],
        drives: vec![drive],
        memory_bytes: 4 << 30,
        cores: 4,
        uefi: true,
        bios_version: "1.0.0".into(),
    }
}

pub struct Floor {
    pub machines: Vec<Machine>,
    /// Named in the inventory, and by no command.
    pub bystanders: Vec<Machine>,
    /// Where redirects lead. Nobody may come.
    pub stranger: String,
    pub strangers: Arc<AtomicUsize>,
    home: tempfile::TempDir,
}

/// One command and what it said.
pub struct Said {
    pub code: i32,
    pub items: Vec<Value>,
    pub err: String,
    pub took: Duration,
}

impl Floor {
    pub async fn make(count: usize) -> Floor {
        let (mut machines, mut bystanders) = (Vec::new(), Vec::new());
        for number in 1..=count {
            machines.push(Machine::make(&format!("n{number}"), number).await);
        }
        for number in 1..=4 {
            bystanders.push(Machine::make(&format!("b{number}"), count + number).await);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stranger = listener.local_addr().unwrap().to_string();
        let strangers = Arc::new(AtomicUsize::new(0));
        let came = strangers.clone();
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                came.fetch_add(1, Ordering::SeqCst);
            }
        });
        let home = tempfile::tempdir().unwrap();
        for (name, password) in [("password", PASSWORD), ("former", FORMER)] {
            fs::write(home.path().join(name), password).unwrap();
            fs::set_permissions(home.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        Floor { machines, bystanders, stranger, strangers, home }
    }

    pub fn path(&self) -> &Path {
        self.home.path()
    }

    /// Who is asked what from now on.
    pub fn write_inventory(&self, cases: &[Case]) {
        let mut text = String::new();
        for (name, file) in [("bmc", "password"), ("narrow", "password"), ("former", "former")] {
            let file = self.path().join(file);
            let _ = write!(
                text,
                "---\napiVersion: rackctl.dev/v1alpha1\nkind: Credential\nmetadata: {{ name: {name} }}\n\
                 spec: {{ username: {USER}, passwordFrom: {{ file: {file:?} }} }}\n"
            );
        }
        for (at, machine) in self.machines.iter().enumerate() {
            text.push_str(&machine.manifest(cases.get(at)));
        }
        for machine in &self.bystanders {
            text.push_str(&machine.manifest(None));
        }
        fs::write(self.path().join("fleet.yaml"), text).unwrap();
    }

    /// The program itself, over all machines of the verb. There is no `ipmitool` in its PATH.
    pub async fn rackctl(&self, verb: Verb) -> Said {
        let label = format!("verb={}", verb.word());
        let patience = format!("{}s", PATIENCE.as_secs());
        let began = Instant::now();
        let file = |name: &str| self.path().join(format!("{}.{name}", verb.word()));
        let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_rackctl"))
            .args(["-f", "fleet.yaml", "--store", "sqlite:state.db", "--concurrency", "100"])
            .args(verb.words())
            .args(["-l", &label, "-o", "json"])
            .current_dir(self.path())
            .env_clear()
            .env("PATH", self.path())
            .env("RACKCTL_PATIENCE", &patience)
            .env("HOME", self.path())
            .stdin(Stdio::null())
            .stdout(fs::File::create(file("out")).unwrap())
            .stderr(fs::File::create(file("err")).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let ended = tokio::time::timeout(HANG, child.wait()).await;
        let (out, err) = (fs::read_to_string(file("out")).unwrap(), fs::read_to_string(file("err")).unwrap());
        let code = match ended {
            Ok(status) => status.unwrap().code().unwrap_or(-1),
            Err(_) => panic!("{verb:?} hangs: not back after {HANG:?}: {out}{err}"),
        };
        let said: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{verb:?}: {e}: {out}{err}"));
        eprintln!("{}: exit {code}, {:.1} s", verb.word(), began.elapsed().as_secs_f32());
        let items = match &said["items"] {
            Value::Array(items) => items.clone(),
            _ => vec![said],
        };
        Said { code, items, err, took: began.elapsed() }
    }
}
