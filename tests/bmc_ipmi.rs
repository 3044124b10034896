//! The program over IPMI alone: against OpenIPMI's `ipmi_sim`, which nobody here wrote (cipher suite 3), and against the
//! laboratory's BMC for what `ipmi_sim` does not do.

// Helpers of tests are tests; clippy's own exception knows only functions with the attribute.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Stdio,
    time::Duration,
};

use rackctl::{
    lab::bmc::{Account, Bmc, Description, FakeChassis, Faults, ipmi},
    model::Secret,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
};

const PASSWORD: &str = "secret";
const LIMIT: Duration = Duration::from_secs(60);

/// A fleet of one machine behind one IPMI endpoint.
struct Home(tempfile::TempDir);

impl Home {
    fn of(at: SocketAddr) -> Home {
        let home = Home(tempfile::tempdir().unwrap());
        home.password(PASSWORD);
        let inventory = format!(
            "apiVersion: rackctl.dev/v1alpha1
kind: Credential
metadata: {{ name: lab }}
spec: {{ username: root, passwordFrom: {{ file: {file:?} }} }}
---
apiVersion: rackctl.dev/v1alpha1
kind: Node
metadata: {{ name: n1 }}
spec:
  bmc: {{ endpoints: [{{ ipmi: \"{at}\", credential: lab }}] }}
  interfaces: [{{ name: eno1, mac: \"52:54:00:00:00:01\", addresses: [10.77.0.11/24] }}]
",
            file = home.path().join("password").to_str().unwrap(),
        );
        fs::write(home.path().join("fleet.yaml"), inventory).unwrap();
        home
    }
    fn path(&self) -> &Path {
        self.0.path()
    }
    fn password(&self, text: &str) {
        self.secret("password", text);
    }
    fn secret(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
        fs::set_permissions(self.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rackctl"));
        command
            .args(["-f", "fleet.yaml", "--store", "sqlite:state.db"])
            .args(words)
            .current_dir(self.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }
    async fn rackctl(&self, words: &[&str]) -> (i32, String, String) {
        let output = tokio::time::timeout(LIMIT * 3, self.command(words).output()).await.unwrap().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let said = (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr));
        println!("rackctl {}: {}\n{}{}", words.join(" "), said.0, said.1, said.2);
        said
    }
    /// As [`Home::rackctl`], of what must succeed.
    async fn done(&self, words: &[&str]) -> String {
        let (code, out, err) = self.rackctl(words).await;
        assert_eq!(code, 0, "{words:?}: {err}");
        out
    }
}

/// `ipmi_sim`, with a machine's console behind it that says everything back in capitals.
struct Simulator {
    child: Child,
    at: SocketAddr,
    dir: tempfile::TempDir,
}

fn start(dir: &Path) -> Option<Child> {
    let file = |name: &str| dir.join(name).display().to_string();
    let mut command = Command::new("ipmi_sim");
    command.args(["-c", &file("lan.conf"), "-f", &file("emu"), "-s", &file("state"), "-n"]);
    match command.stdout(Stdio::null()).kill_on_drop(true).spawn() {
        Ok(child) => Some(child),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: ipmi_sim (Debian: openipmi) is not installed");
            None
        }
        Err(error) => panic!("ipmi_sim: {error}"),
    }
}

async fn simulator() -> Option<Simulator> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let serial = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 1024];
                while let Ok(count) = stream.read(&mut buffer).await
                    && count > 0
                    && stream.write_all(&buffer[..count].to_ascii_uppercase()).await.is_ok()
                {}
            });
        }
    });
    let at = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("state")).unwrap();
    let chassis = dir.path().join("chassis.sh");
    fs::write(&chassis, include_str!("fixtures/ipmi_sim/chassis.sh")).unwrap();
    fs::set_permissions(&chassis, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(dir.path().join("emu"), include_str!("fixtures/ipmi_sim/emu")).unwrap();
    let lan = format!(
        "name \"peer\"\nset_working_mc 0x20\n  startlan 1\n    addr 127.0.0.1 {port}\n    priv_limit admin\n    \
         allowed_auths_admin none md2 md5 straight\n    guid a123456789abcdefa123456789abcdef\n  endlan\n  \
         chassis_control \"{chassis} 0x20\"\n  sol \"tcp:127.0.0.1:{serial}\" 115200\n  \
         user 1 true \"\" \"x\" user 10 none md2 md5 straight\n  \
         user 2 true \"root\" \"{PASSWORD}\" admin 10 none md2 md5 straight\n",
        port = at.port(),
        chassis = chassis.display()
    );
    fs::write(dir.path().join("lan.conf"), lan).unwrap();
    let child = start(dir.path())?;
    let simulator = Simulator { child, at, dir };
    simulator.ready().await;
    Some(simulator)
}

impl Simulator {
    /// It has opened its port: an ASF presence ping is answered.
    async fn ready(&self) {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(self.at).await.unwrap();
        let ping = [6, 0, 0xFF, 6, 0, 0, 0x11, 0xBE, 0x80, 1, 0, 0];
        for _ in 0..100 {
            let _ = socket.send(&ping).await;
            let mut buffer = [0; 64];
            let heard = tokio::time::timeout(Duration::from_millis(100), socket.recv(&mut buffer)).await;
            if matches!(heard, Ok(Ok(_))) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("ipmi_sim does not listen at {}", self.at);
    }
    async fn restart(&mut self) {
        self.child.kill().await.unwrap();
        self.child = start(self.dir.path()).unwrap();
        self.ready().await;
    }
    /// Another program writes an entry into its event log (Add SEL Entry, storage 0x44).
    async fn event(&self, number: u8, offset: u8) {
        let (host, port) = (self.at.ip().to_string(), self.at.port().to_string());
        let record = [0, 0, 2, 0, 0, 0, 0, 0x20, 0, 4, 1, number, 1, offset, 0x30, 0x20].map(|b| format!("0x{b:02x}"));
        let mut command = Command::new("ipmitool");
        command.args(["-I", "lanplus", "-C", "3", "-H", &host, "-p", &port, "-U", "root", "-P", PASSWORD]);
        let output = command.args(["raw", "0x0a", "0x44"]).args(record).output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ipmi_sim_has_is_shown_and_driven() {
    let Some(simulator) = simulator().await else { return };
    let home = Home::of(simulator.at);

    assert!(home.done(&["power", "status", "n1"]).await.contains("off"));
    home.done(&["power", "on", "n1"]).await;
    assert!(home.done(&["power", "status", "n1"]).await.contains("on"));

    let log = home.done(&["bmc", "log", "n1"]).await;
    assert!(log.contains("SEL") && log.contains("Critical") && log.contains("above upper critical"), "{log}");
    let (code, _, err) = home.rackctl(&["bmc", "log", "n1", "--log", "IML"]).await;
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("over IPMI it has SEL"), "{err}");

    let sensors = home.done(&["bmc", "sensors", "n1", "-o", "wide"]).await;
    let line = sensors.lines().find(|l| l.contains("CPU Temp")).unwrap();
    assert!(line.contains("temperature") && line.contains("42 °C") && line.contains("144"), "{sensors}");

    let info: Value = serde_json::from_str(&home.done(&["bmc", "info", "n1", "-o", "json"]).await).unwrap();
    let status = &info["items"][0]["status"];
    assert_eq!((&status["facts"]["power"], &status["manager"]["firmware"]), (&"on".into(), &"2.37".into()), "{info}");
    assert_eq!(status["ipmi"]["version"], "2.0", "{info}");

    let users = home.done(&["bmc", "users", "n1"]).await;
    assert!(users.lines().any(|l| l.contains("root") && l.contains("ADMINISTRATOR")), "{users}");

    let (code, _, err) = home.rackctl(&["--read-only", "bmc", "log", "n1", "--clear", "--yes"]).await;
    assert_eq!(code, 3, "{err}");
    assert!(home.done(&["bmc", "log", "n1"]).await.contains("above upper critical"));
    let cleared = home.done(&["bmc", "log", "n1", "--clear", "--yes"]).await;
    assert!(cleared.contains("SEL: 0 entries"), "{cleared}");
    assert!(!home.done(&["bmc", "log", "n1"]).await.contains("above upper critical"));

    // What is Redfish's alone says which endpoint is driven instead.
    let (code, _, err) = home.rackctl(&["bmc", "bios", "n1"]).await;
    assert_ne!(code, 0);
    assert!(err.contains(&format!("ipmi://{}", simulator.at)) && err.contains("IPMI does not have this"), "{err}");
    assert!(err.contains("next: rackctl bmc scan 127.0.0.1/32"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_carries_bytes_both_ways() {
    let Some(simulator) = simulator().await else { return };
    let home = Home::of(simulator.at);
    let mut child = home.command(&["console", "n1"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut typed, mut shown) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut all = Vec::new();
    for word in ["hello, machine\r", "and once more\r"] {
        typed.write_all(word.as_bytes()).await.unwrap();
        typed.flush().await.unwrap();
        let mut buffer = [0; 256];
        while !all.ends_with(word.to_uppercase().as_bytes()) {
            let count = tokio::time::timeout(LIMIT, shown.read(&mut buffer)).await.unwrap().unwrap();
            assert!(count > 0, "it ended after {:?}", String::from_utf8_lossy(&all));
            all.extend(&buffer[..count]);
        }
    }
    drop(typed);
    let ended = tokio::time::timeout(LIMIT, child.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(0));
    // It was given back: the next one has it at once.
    let next = home.command(&["console", "n1"]).output().await.unwrap();
    assert_eq!(next.status.code(), Some(0), "{}", String::from_utf8_lossy(&next.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_named_and_tried_once() {
    let Some(simulator) = simulator().await else { return };
    let home = Home::of(simulator.at);
    home.password("wrong");
    for words in [["bmc", "log", "n1"], ["bmc", "sensors", "n1"], ["power", "status", "n1"]] {
        let (code, _, err) = home.rackctl(&words).await;
        assert_eq!(code, 1, "{err}");
        assert!(err.contains("user `root`") && err.contains("refuses the password"), "{err}");
        assert!(!err.contains("wrong"), "{err}");
    }
}

/// A log that is followed outlives the BMC's restart: what came meanwhile is shown, nothing twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_followed_log_outlives_its_session() {
    let Some(mut simulator) = simulator().await else { return };
    let home = Home::of(simulator.at);
    let mut child = home.command(&["bmc", "log", "n1", "--follow"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = async || tokio::time::timeout(LIMIT, lines.next_line()).await.unwrap().unwrap();
    assert!(next().await.is_some_and(|l| l.starts_with("n1") && l.contains("above upper critical")));
    simulator.event(7, 0x07).await;
    assert!(next().await.is_some_and(|l| l.contains("temperature 7") && l.contains("Warning")));
    simulator.restart().await;
    simulator.event(8, 0x09).await;
    let mut seen = Vec::new();
    while !seen.last().is_some_and(|l: &String| l.contains("temperature 8")) {
        seen.push(next().await.unwrap());
    }
    let pid = nix::unistd::Pid::from_raw(child.id().unwrap().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(next().await, None);
    let ended = tokio::time::timeout(LIMIT, child.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(0));
}

/// The laboratory's BMC, which keeps passwords and forgets its sessions when it restarts.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_and_a_restart_of_the_bmc() {
    const NEW: &str = "battery staple 7";
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let home = Home::of(socket.local_addr().unwrap());
    let description = Description {
        manufacturer: "Contoso".into(),
        model: "R1".into(),
        serial: "LAB-0001".into(),
        sku: None,
        uuid: "4c4c4544-0034-5010-8031-c6c04f474831".parse().unwrap(),
        macs: vec![],
        drives: vec![],
        memory_bytes: 4 << 30,
        cores: 4,
        uefi: true,
        bios_version: "1.0.0".into(),
    };
    let account = Account { user: "root".into(), password: Secret::new(PASSWORD.into()) };
    let bmc = Bmc::new(FakeChassis::new(description), account, Faults::default());
    let service = ipmi::Service::new(bmc).unwrap();
    let task = tokio::spawn(ipmi::serve(socket, service.clone(), None, std::future::pending()));

    let info = home.done(&["bmc", "info", "n1", "-o", "yaml"]).await;
    assert!(info.contains("boardSerial: LAB-0001"), "{info}");
    let sensors = home.done(&["bmc", "sensors", "n1"]).await;
    assert!(sensors.contains("power supply") && sensors.contains("presence detected"), "{sensors}");

    home.secret("new", &format!("{NEW}\n"));
    let words = ["bmc", "users", "n1", "--set-password", "root", "--password-file", "new"];
    let said = home.done(&words).await;
    assert!(said.contains("root: the new password works"), "{said}");
    let (code, _, err) = home.rackctl(&["power", "status", "n1"]).await;
    assert_eq!(code, 1, "the old one is refused: {err}");
    home.password(NEW);
    home.done(&["power", "status", "n1"]).await;
    home.secret("long", "twenty-one characters\n");
    let (code, _, err) =
        home.rackctl(&["bmc", "users", "n1", "--set-password", "root", "--password-file", "long"]).await;
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("takes 20 at most"), "{err}");
    let (_, _, err) = home.rackctl(&["bmc", "users", "n1", "--set-password", "nobody", "--password-file", "new"]).await;
    assert!(err.contains("it has no such user; it has root"), "{err}");

    // A diagnostic interrupt, of a machine that is on.
    let (code, _, err) = home.rackctl(&["bmc", "nmi", "n1", "--yes"]).await;
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("it is off") && err.contains("rackctl power status n1"), "{err}");
    home.done(&["power", "on", "n1"]).await;
    assert!(home.done(&["bmc", "nmi", "n1", "--yes"]).await.contains("sent"));
    let log = service.bmc().writes();
    assert_eq!(log.iter().filter(|l| l.path == "ipmi 0x00 0x02 04").count(), 1, "{log:?}");

    let said = home.done(&["bmc", "reset", "n1", "--yes"]).await;
    assert!(said.contains("restarted"), "{said}");
    let log = service.bmc().writes();
    assert_eq!(log.iter().filter(|l| l.path.starts_with("ipmi 0x06 0x02")).count(), 1, "{log:?}");
    assert_eq!(service.open_sessions(), 0);
    task.abort();
}

/// What a person at a terminal is asked and says.
async fn at_a_terminal(home: &Home, words: &[&str], ci: bool, answer: &str) -> (i32, String, String) {
    use std::io::{Read, Write};
    let pty = nix::pty::openpty(None, None).unwrap();
    let mut command = home.command(words);
    if ci {
        command.env("CI", "true");
    }
    command.stdin(pty.slave.try_clone().unwrap()).stderr(pty.slave.try_clone().unwrap()).stdout(Stdio::piped());
    let child = command.spawn().unwrap();
    drop((command, pty.slave));
    let mut master = fs::File::from(pty.master);
    let answer = format!("{answer}\n");
    let shown = tokio::task::spawn_blocking(move || {
        let (mut all, mut buffer, mut said) = (String::new(), [0; 1024], false);
        // The end of a terminal whose other side is closed is an error.
        while let Ok(count) = master.read(&mut buffer) {
            if count == 0 {
                break;
            }
            all.push_str(&String::from_utf8_lossy(&buffer[..count]));
            if !said && all.contains("password of `root` (lab):") {
                said = true;
                // The terminal is silenced right after the question.
                std::thread::sleep(Duration::from_millis(300));
                master.write_all(answer.as_bytes()).unwrap();
            }
        }
        all
    });
    let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await.unwrap().unwrap();
    let shown = tokio::time::timeout(LIMIT, shown).await.unwrap().unwrap();
    println!("{words:?}: {shown}");
    (output.status.code().unwrap_or(-1), String::from_utf8(output.stdout).unwrap(), shown)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_the_last_source_of_a_password() {
    let Some(simulator) = simulator().await else { return };
    let home = Home::of(simulator.at);
    let path = home.path().join("fleet.yaml");
    let file = format!("{{ file: {:?} }}", home.path().join("password"));
    let text = fs::read_to_string(&path).unwrap().replace(&file, "{ env: RACKCTL_TEST_UNSET }");
    fs::write(&path, text).unwrap();
    let words = ["power", "status", "n1"];
    let (code, out, shown) = at_a_terminal(&home, &words, false, PASSWORD).await;
    assert_eq!(code, 0, "{shown}");
    assert!(out.contains("off") && shown.contains("RACKCTL_TEST_UNSET is not set"), "{out}{shown}");
    assert!(!shown.contains(PASSWORD) && !out.contains(PASSWORD), "{shown}");
    // Once a command, also where it is needed more than once.
    let (code, _, shown) = at_a_terminal(&home, &["power", "on", "n1"], false, PASSWORD).await;
    assert_eq!((code, shown.matches("password of `root`").count()), (0, 1), "{shown}");
    let (code, _, shown) = at_a_terminal(&home, &words, false, "").await;
    assert_eq!(code, 1, "{shown}");
    assert!(shown.contains("nothing was said"), "{shown}");
    // Neither in a pipeline that has a terminal for show, nor without one.
    let (code, _, shown) = at_a_terminal(&home, &words, true, PASSWORD).await;
    assert_eq!((code, shown.contains("password of `root`")), (1, false), "{shown}");
    let (code, _, err) = home.rackctl(&words).await;
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("RACKCTL_TEST_UNSET is not set") && !err.contains("password of `root`"), "{err}");
    // A source that is wrong with itself is not passed over.
    let text = fs::read_to_string(&path).unwrap().replace("{ env: RACKCTL_TEST_UNSET }", &file);
    fs::write(&path, text).unwrap();
    fs::set_permissions(home.path().join("password"), fs::Permissions::from_mode(0o644)).unwrap();
    let (_, _, shown) = at_a_terminal(&home, &words, false, PASSWORD).await;
    assert!(shown.contains("can be read by others") && !shown.contains("password of `root`"), "{shown}");
}
