//! Clients that no one here wrote, against the laboratory's BMC: ipmitool and FreeIPMI, cipher suites 17 and 3.

use std::process::Output;

use super::*;
use crate::model::power::BootTarget;

async fn run(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Option<Output> {
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).envs(environment.iter().copied()).kill_on_drop(true);
    let home = tempfile::tempdir().unwrap();
    command.env("HOME", home.path());
    match tokio::time::timeout(Duration::from_secs(60), command.output()).await {
        Ok(Ok(output)) => Some(output),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: {program} is not installed");
            None
        }
        other => panic!("{program}: {other:?}"),
    }
}

/// Its output; `None`: the program is not there.
async fn said(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Option<String> {
    let output = run(program, arguments, environment).await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {out}{err}");
    Some(out)
}

async fn until_on(bench: &Bench, on: bool) {
    use crate::model::power::PowerState;
    let wanted = if on { PowerState::On } else { PowerState::Off };
    for _ in 0..100 {
        if crate::lab::bmc::Chassis::power(bench.chassis()).await == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not {wanted:?}");
}

#[tokio::test]
async fn ipmitool_drives_it_with_suites_17_and_3() {
    for suite in ["17", "3"] {
        let bench = bench(None).await;
        let port = bench.at.port().to_string();
        let tool = async |arguments: &[&str]| {
            let mut all = vec!["-I", "lanplus", "-H", "127.0.0.1", "-p", &port, "-U", "root", "-E", "-C", suite];
            all.extend(arguments);
            said("ipmitool", &all, &[("IPMI_PASSWORD", PASSWORD)]).await
        };
        let Some(status) = tool(&["chassis", "power", "status"]).await else { return };
        assert_eq!(status.trim(), "Chassis Power is off");
        tool(&["chassis", "bootdev", "pxe", "options=efiboot"]).await.unwrap();
        let shown = tool(&["chassis", "bootparam", "get", "5"]).await.unwrap();
        assert!(
            shown.contains("Boot Flag Valid") && shown.contains("Force PXE") && shown.contains("EFI boot"),
            "{shown}"
        );
        tool(&["chassis", "power", "on"]).await.unwrap();
        until_on(&bench, true).await;
        assert_eq!(bench.chassis().boots(), [Some(BootTarget::Pxe)]);
        let info = tool(&["mc", "info"]).await.unwrap();
        assert!(info.contains("IPMI Version              : 2.0"), "{info}");
        let guid = tool(&["mc", "guid"]).await.unwrap().to_lowercase();
        assert!(guid.contains("6f2b8a54-1111-4222-8333-444455556666"), "{guid}");
        let sel = tool(&["sel", "elist"]).await.unwrap();
        assert!(sel.contains("System Boot Initiated"), "{sel}");
        let sensors = tool(&["sdr", "elist"]).await.unwrap();
        assert!(sensors.contains("CPU Temp") && sensors.contains("42 degrees C"), "{sensors}");
        assert!(sensors.contains("4200 RPM") && sensors.contains("Presence detected"), "{sensors}");
        let fru = tool(&["fru", "print", "0"]).await.unwrap();
        assert!(fru.contains("Product Serial        : LAB-0001"), "{fru}");
        let users = tool(&["user", "list", "1"]).await.unwrap();
        assert!(users.contains("root") && users.contains("ADMINISTRATOR"), "{users}");
        tool(&["sel", "clear"]).await.unwrap();
        tool(&["chassis", "power", "off"]).await.unwrap();
        until_on(&bench, false).await;
        assert_eq!((bench.service.open_sessions(), bench.service.wrong_passwords()), (0, 0));
        let wrong = ["-I", "lanplus", "-H", "127.0.0.1", "-p", &port, "-U", "root", "-E", "-C", suite, "mc", "info"];
        let refused = run("ipmitool", &wrong, &[("IPMI_PASSWORD", "wrong")]).await.unwrap();
        assert!(!refused.status.success());
    }
}

#[tokio::test]
async fn freeipmi_drives_it_with_suites_17_and_3() {
    for suite in ["17", "3"] {
        let bench = bench(None).await;
        let host = format!("127.0.0.1:{}", bench.at.port());
        let tool = async |program: &str, arguments: &[&str]| {
            let mut all = vec!["-D", "LAN_2_0", "-h", &host, "-u", "root", "-p", PASSWORD, "-I", suite, "-l", "ADMIN"];
            all.extend(arguments);
            said(program, &all, &[]).await
        };
        let Some(status) = tool("ipmipower", &["--stat"]).await else { return };
        assert!(status.contains(": off"), "{status}");
        let on = tool("ipmipower", &["--on", "--wait-until-on"]).await.unwrap();
        assert!(on.contains(": ok"), "{on}");
        until_on(&bench, true).await;
        let chassis = tool("ipmi-chassis", &["--get-chassis-status"]).await.unwrap();
        assert!(chassis.contains("System Power                        : on"), "{chassis}");
        let sel = tool("ipmi-sel", &["--output-event-state"]).await.unwrap();
        assert!(sel.contains("System Boot Initiated") || sel.contains("Initiated by power up"), "{sel}");
        let off_now = tool("ipmipower", &["--off", "--wait-until-off"]).await.unwrap();
        assert!(off_now.contains(": ok"), "{off_now}");
        until_on(&bench, false).await;
        assert_eq!(bench.service.wrong_passwords(), 0);
    }
}

#[tokio::test]
async fn the_declared_fallback_runs_our_commands_by_ipmitool() {
    use crate::bmc::ipmi::{
        Fault, chassis,
        chassis::Control,
        message::{Command, Effect, function},
        options,
        tool_exec::Tool,
    };
    for no_suite_17 in [false, true] {
        let bench = bench(None).await;
        bench.lie(if no_suite_17 { &["ipmi-no-suite-17"] } else { &[] });
        let password = || Arc::new(Secret::new(PASSWORD.into()));
        let tool = match Tool::open("ipmitool".into(), &bench.at.to_string(), "root", password()).await {
            Ok(tool) => tool,
            Err(Fault::Local(why)) => {
                eprintln!("SKIPPED: {why}");
                return;
            }
            Err(fault) => panic!("{fault}"),
        };
        assert_eq!(tool.suite().number(), if no_suite_17 { 3 } else { 17 });
        let flags = options::Flags([0xA0, 0x04, 0, 0, 0]);
        tool.ask(&options::set_flags(flags)).await.unwrap();
        assert_eq!(options::read_flags(&tool.ask(&options::get_flags()).await.unwrap()), Ok(flags));
        tool.ask(&Control::Up.command()).await.unwrap();
        until_on(&bench, true).await;
        let status = tool.ask(&chassis::status()).await.unwrap();
        assert!(chassis::read_status(&status).unwrap().on);
        tool.ask(&Control::Diagnostic.command()).await.unwrap();
        let unknown = Command::new(function::CHASSIS, 0x02, "chassis control 7", Effect::Acts, [7]);
        let refused = tool.ask(&unknown).await.unwrap_err();
        assert_eq!(refused.code(), Some(0xCC), "{refused}");
        let wrong = Arc::new(Secret::new("wrong".into()));
        let fault = Tool::open("ipmitool".into(), &bench.at.to_string(), "root", wrong).await.err().unwrap();
        assert_eq!(fault, Fault::WrongPassword);
    }
}
