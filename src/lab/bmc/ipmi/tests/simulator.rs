//! The product's client against a BMC that no one here wrote: OpenIPMI's `ipmi_sim` (cipher suite 3 alone).

use std::{net::TcpListener, os::unix::fs::PermissionsExt, path::Path};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
};

use super::*;
use crate::{
    bmc::ipmi::{Suite, client::Heard},
    model::{
        failure::Cause,
        power::{BootOverride, BootTarget, OverrideFor, PowerState},
    },
};

const CHASSIS: &str = include_str!("../../../../../tests/fixtures/ipmi_sim/chassis.sh");
/// One sensor of 1 °C a step that reads 42, and one entry in the log. Numbers need their `0x`.
const EMULATOR: &str = include_str!("../../../../../tests/fixtures/ipmi_sim/emu");

struct Simulator {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

fn start(dir: &Path) -> Option<Child> {
    let file = |name: &str| dir.join(name).display().to_string();
    let arguments =
        ["-c".to_owned(), file("lan.conf"), "-f".into(), file("emu"), "-s".into(), file("state"), "-n".into()];
    match Command::new("ipmi_sim").args(arguments).kill_on_drop(true).spawn() {
        Ok(child) => Some(child),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: ipmi_sim (Debian: openipmi) is not installed");
            None
        }
        Err(error) => panic!("ipmi_sim: {error}"),
    }
}

/// `serial`: the TCP port behind which its machine's console is.
fn simulator(serial: u16) -> Option<Simulator> {
    let dir = tempfile::tempdir().unwrap();
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    std::fs::create_dir(dir.path().join("state")).unwrap();
    let chassis = dir.path().join("chassis.sh");
    std::fs::write(&chassis, CHASSIS).unwrap();
    std::fs::set_permissions(&chassis, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(dir.path().join("emu"), EMULATOR).unwrap();
    let lan = format!(
        "name \"peer\"\nset_working_mc 0x20\n  startlan 1\n    addr 127.0.0.1 {port}\n    priv_limit admin\n    \
         allowed_auths_admin none md2 md5 straight\n    guid a123456789abcdefa123456789abcdef\n  endlan\n  \
         chassis_control \"{} 0x20\"\n  sol \"tcp:127.0.0.1:{serial}\" 115200\n  \
         user 1 true \"\" \"x\" user 10 none md2 md5 straight\n  \
         user 2 true \"root\" \"secret\" admin 10 none md2 md5 straight\n",
        chassis.display()
    );
    std::fs::write(dir.path().join("lan.conf"), lan).unwrap();
    let child = start(dir.path())?;
    Some(Simulator { child, port, dir })
}

async fn open(simulator: &Simulator, password: &str) -> Result<Client, crate::model::Failure> {
    let mut node = node("n1", String::new(), Trust::None);
    node.bmc.as_mut().unwrap().endpoints = vec![endpoint(([127, 0, 0, 1], simulator.port).into())];
    let options = || Options {
        read_only: false,
        deadline: Duration::from_secs(30),
        ledger: Arc::new(crate::bmc::NoLedger),
        observer: None,
        gate: None,
    };
    let mut last = None;
    for _ in 0..50 {
        match Client::open(&node, &passwords(password), options()).await {
            // It has not opened its port yet.
            Err(failure) if failure.cause == Cause::Unreachable => last = Some(failure),
            other => return other,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(last.unwrap())
}

/// A machine's console behind TCP: greets, and says everything back in capitals.
fn console() -> (u16, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Handle::current();
    let handle = std::thread::spawn(move || {
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = [0; 1024];
                while let Ok(count) = stream.read(&mut buffer).await
                    && count > 0
                {
                    stream.write_all(&buffer[..count].to_ascii_uppercase()).await.unwrap();
                }
            }
        });
    });
    (port, handle)
}

#[tokio::test]
async fn power_log_sensors_console_and_a_wrong_password() {
    let (serial, thread) = console();
    thread.join().unwrap();
    let Some(simulator) = simulator(serial) else { return };
    let client = open(&simulator, "secret").await.unwrap();
    let ipmi = client.ipmi("look").unwrap();
    assert_eq!(ipmi.session().await.map(|s| s.0), Some(Suite::Three));
    assert_eq!(client.power().await.unwrap(), PowerState::Off);
    client.set_power(true, false, Duration::from_secs(20)).await.unwrap();
    assert_eq!(client.power().await.unwrap(), PowerState::On);

    let log = ipmi.sel().await.unwrap();
    assert_eq!(log.iter().map(|e| e.text()).collect::<Vec<_>>(), ["above upper critical"]);
    let sensors = ipmi.sensors().await.unwrap();
    assert_eq!(sensors.len(), 1);
    assert_eq!((sensors[0].sensor.name.as_str(), sensors[0].value), ("CPU Temp", Some(42.0)));
    assert_eq!(sensors[0].thresholds.upper_critical, Some(144.0));
    assert_eq!(client.bmc_info().await.unwrap().firmware.as_deref(), Some("2.37"));
    let facts = client.facts().await.unwrap();
    assert_eq!((facts.power, facts.serial), (PowerState::On, None), "it has no inventory");
    let users = ipmi.users().await.unwrap();
    assert!(users.iter().any(|u| u.name == "root"), "{users:?}");

    // It stores the flags without their valid bit: that is no override, whatever else stands there.
    let pxe = BootOverride { target: BootTarget::Pxe, lasts: OverrideFor::Once, mode: None };
    let failure = client.set_boot(pxe).await.unwrap_err();
    assert_eq!(failure.cause, Cause::AcceptedButIgnored, "{failure}");

    let mut console = ipmi.console(true).await.unwrap();
    console.send(b"hello, machine\r").unwrap();
    let mut heard = Vec::new();
    while !heard.ends_with(b"HELLO, MACHINE\r") {
        match tokio::time::timeout(Duration::from_secs(20), console.next()).await.unwrap().unwrap() {
            Heard::Bytes(bytes) => heard.extend(bytes),
            Heard::Closed => panic!("closed after {heard:?}"),
        }
    }
    console.close().await.unwrap();
    ipmi.sel_clear().await.unwrap();
    assert!(ipmi.sel().await.unwrap().is_empty());
    client.close().await.unwrap();

    let failure = open(&simulator, "wrong").await.unwrap_err();
    assert_eq!(failure.cause, Cause::Unauthorized, "{failure}");
}

#[tokio::test]
async fn a_session_that_the_bmc_lost_is_opened_anew() {
    let Some(mut simulator) = simulator(1) else { return };
    let client = open(&simulator, "secret").await.unwrap();
    client.power().await.unwrap();
    simulator.child.kill().await.unwrap();
    simulator.child = start(simulator.dir.path()).unwrap();
    assert_eq!(client.power().await.unwrap(), PowerState::Off);
    simulator.child.kill().await.unwrap();
    let failure = client.power().await.unwrap_err();
    assert_eq!(failure.cause, Cause::Unreachable, "{failure}");
}
