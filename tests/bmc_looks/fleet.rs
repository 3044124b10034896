//! Machines of the laboratory behind TLS on loopback, and an inventory that names them.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Stdio, sync::Arc, time::Duration};

use rackctl::{
    lab::bmc::{Account, Bmc, Description, DriveDescription, FakeChassis, Faults, certificate, ipmi, serve},
    model::Secret,
};

pub const PASSWORD: &str = "correct horse";
/// For what must happen and takes as long as a busy host lets it.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Machine {
    pub name: String,
    pub bmc: Arc<Bmc<FakeChassis>>,
    pub port: u16,
    pub pin: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub struct Fleet {
    folder: tempfile::TempDir,
    pub machines: Vec<Machine>,
    ipmi: Option<tokio::task::JoinHandle<()>>,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.ipmi.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

async fn machine(number: usize, faults: &[&str]) -> Machine {
    let name = format!("n{number}");
    let mac = format!("52:54:00:00:00:{number:02x}");
    let description = Description {
        manufacturer: "Contoso".into(),
        model: "R1".into(),
        serial: format!("LAB-{number}"),
        sku: None,
        uuid: format!("6f2b8a54-1111-4222-8333-4444555566{number:02x}").parse().unwrap(),
        macs: vec![mac.parse().unwrap()],
        drives: vec![DriveDescription { serial: "DISK-1".into(), model: "Virtual".into(), size_bytes: 8 << 30 }],
        memory_bytes: 512 << 20,
        cores: 2,
        uefi: true,
        bios_version: "edk2".into(),
    };
    let account = Account { user: "root".into(), password: Secret::new(PASSWORD.into()) };
    let faults = Faults::parse(faults.iter().copied()).unwrap().over(&Faults::parse(["power-lag=50ms"]).unwrap());
    let bmc = Bmc::new(FakeChassis::new(description), account, faults);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let certificate = certificate(&name, None).unwrap();
    let tls = certificate.server_config().unwrap();
    let task = tokio::spawn(serve(listener, tls, bmc.clone(), std::future::pending()));
    Machine { name, bmc, port, pin: certificate.pin, task }
}

impl Fleet {
    /// A machine for each list of faults: `n1`, `n2`, …
    pub async fn of(faults: &[&[&str]]) -> Fleet {
        let mut machines = Vec::new();
        for (at, faults) in faults.iter().enumerate() {
            machines.push(machine(at + 1, faults).await);
        }
        let fleet = Fleet { folder: tempfile::tempdir().unwrap(), machines, ipmi: None };
        fleet.password(PASSWORD);
        let credential = format!(
            "apiVersion: rackctl.dev/v1alpha1\nkind: Credential\nmetadata: {{ name: lab }}\n\
             spec: {{ username: root, passwordFrom: {{ file: {:?} }} }}\n",
            fleet.path().join("password")
        );
        let nodes: String = fleet.machines.iter().map(|m| m.manifest("lab")).collect();
        fleet.write(&format!("{credential}{nodes}"));
        fleet
    }
    /// From now on its one machine is driven over IPMI alone.
    pub async fn by_ipmi(&mut self) {
        let machine = &self.machines[0];
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("{{ ipmi: \"{}\", credential: lab }}", socket.local_addr().unwrap());
        let service = ipmi::Service::new(machine.bmc.clone()).unwrap();
        let old = format!("{{ redfish: \"{}\", credential: lab, tls: {{ pin: \"{}\" }} }}", machine.url(), machine.pin);
        let inventory = fs::read_to_string(self.path().join("fleet.yaml")).unwrap();
        assert!(inventory.contains(&old));
        self.write(&inventory.replace(&old, &endpoint));
        self.ipmi = Some(tokio::spawn(ipmi::serve(socket, service, None, std::future::pending())));
    }
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
    pub fn write(&self, inventory: &str) {
        fs::write(self.path().join("fleet.yaml"), inventory).unwrap();
    }
    pub fn password(&self, text: &str) {
        let file = self.path().join("password");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    pub fn open_sessions(&self) -> usize {
        self.machines.iter().map(|m| m.bmc.open_sessions()).sum()
    }
    pub fn command(&self, words: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_rackctl"));
        command
            .args(["-f", "fleet.yaml", "--store", "sqlite:state.db"])
            .args(words)
            .current_dir(self.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }
    pub async fn rackctl(&self, words: &[&str]) -> (i32, String, String) {
        self.said(words, self.command(words).spawn().unwrap()).await
    }
    /// With this on standard input.
    pub async fn rackctl_with(&self, words: &[&str], input: &str) -> (i32, String, String) {
        use tokio::io::AsyncWriteExt;
        let mut child = self.command(words).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        self.said(words, child).await
    }
    /// The end of a program that was started; -1: a signal ended it.
    pub async fn said(&self, words: &[&str], child: tokio::process::Child) -> (i32, String, String) {
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let said = (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr));
        println!("rackctl {}: {}\n{}{}", words.join(" "), said.0, said.1, said.2);
        assert!(!said.2.contains("panicked"), "{words:?}: {}", said.2);
        assert!(!said.1.contains(PASSWORD) && !said.2.contains(PASSWORD), "{words:?}");
        said
    }
}

impl Machine {
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }
    pub fn manifest(&self, credential: &str) -> String {
        let (name, url, pin) = (&self.name, self.url(), &self.pin);
        let number: u8 = name.trim_start_matches('n').parse().unwrap();
        format!(
            "---\napiVersion: rackctl.dev/v1alpha1\nkind: Node\nmetadata: {{ name: {name} }}\nspec:\n  \
             bmc: {{ endpoints: [{{ redfish: \"{url}\", credential: {credential}, tls: {{ pin: \"{pin}\" }} }}] }}\n  \
             interfaces: [{{ name: eno1, mac: \"52:54:00:00:00:{number:02x}\", addresses: [10.77.0.{number}/24] }}]\n"
        )
    }
}
