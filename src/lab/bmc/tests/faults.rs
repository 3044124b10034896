//! Every fault of the table acts: the same requests, with it and without it, are answered differently.
//!
//! A case is a fault, what both BMCs are like besides, the requests, and a text that the faulty one's answers have and
//! the other's have not (or the other way round, with a `!` before it).

use std::fmt::Write as _;

use super::*;

struct Case {
    fault: &'static str,
    both: &'static [&'static str],
    steps: &'static [&'static str],
    sees: &'static str,
}

const fn case(fault: &'static str, steps: &'static [&'static str], sees: &'static str) -> Case {
    Case { fault, both: &[], steps, sees }
}
const fn case_of(
    fault: &'static str,
    both: &'static [&'static str],
    steps: &'static [&'static str],
    sees: &'static str,
) -> Case {
    Case { fault, both, steps, sees }
}

// S, M, C, R: the system, the manager, the chassis, the root. A step is `[flags] METHOD PATH [BODY]`; flags: `anon`,
// `token` (of the last log-in), `match:TAG` (`match:last`: the last ETag), `wait:MS` before it, `quiet`: not written down.
const LOG_IN: &str = r#"anon POST R/SessionService/Sessions {"UserName":"root","Password":"correct horse"}"#;
const WRONG: &str = r#"anon POST R/SessionService/Sessions {"UserName":"root","Password":"wrong horse"}"#;
const PXE: &str = r#"PATCH S {"Boot":{"BootSourceOverrideTarget":"Pxe","BootSourceOverrideEnabled":"Once"}}"#;
const QUIET_PXE: &str =
    r#"quiet PATCH S {"Boot":{"BootSourceOverrideTarget":"Pxe","BootSourceOverrideEnabled":"Once"}}"#;
const ON: &str = r#"quiet POST S/Actions/ComputerSystem.Reset {"ResetType":"On"}"#;
const OFF: &str = r#"quiet wait:150 POST S/Actions/ComputerSystem.Reset {"ResetType":"ForceOff"}"#;
const AGAIN: &str = r#"wait:150 POST S/Actions/ComputerSystem.Reset {"ResetType":"On"}"#;
const LATER: &str = "wait:150 GET S";
const UPDATE: &str = r#"POST R/UpdateService/Actions/UpdateService.SimpleUpdate {"ImageURI":"http://192.0.2.1/nic-2.5.1.bin","Targets":["/redfish/v1/UpdateService/FirmwareInventory/NIC1"]}"#;
const TASK: &str = "wait:150 GET R/TaskService/Tasks/1";
const SRIOV: &str = r#"PATCH S/Bios/Settings {"Attributes":{"SriovGlobalEnable":"Enabled"}}"#;
const INSERT: &str = r#"POST M/VirtualMedia/Cd/Actions/VirtualMedia.InsertMedia {"Image":"http://192.0.2.1/a.iso"}"#;
const EJECT: &str = "quiet POST M/VirtualMedia/Cd/Actions/VirtualMedia.EjectMedia {}";

const CASES: &[Case] = &[
    case("no-sessions", &[LOG_IN], "#1 -> 401"),
    case("session-cap=1", &[LOG_IN, LOG_IN], "RAC0218"),
    case("session-timeout=100ms", &[LOG_IN, "token wait:250 GET S"], "#2 -> 401"),
    case("session-drop=1", &[LOG_IN, "token GET S", "token GET S"], "#3 -> 401"),
    case("session-delete-401", &[LOG_IN, "token DELETE LOCATION"], "#2 -> 401"),
    case("session-no-location", &[LOG_IN], "!location: "),
    case("account-lockout=1/60s", &[WRONG, "GET S"], "#2 -> 401"),
    case_of("lockout-403", &["account-lockout=1/60s"], &[WRONG, "GET S"], "#2 -> 403"),
    case("log-in-delay=900ms", &[WRONG, WRONG], "#2 took long"),
    case("password-expired", &["GET S"], "PasswordChangeRequired"),
    case(
        "password-max=10",
        &[r#"PATCH R/AccountService/Accounts/1 {"Password":"longer than ten"}"#],
        "PropertyValueFormatError",
    ),
    case("if-match-required", &[PXE], "#1 -> 428"),
    case("if-match-required=ami", &[PXE], "PreconditionHeaderMissing"),
    case("if-match-refused", &[r#"match:* PATCH S {"AssetTag":"x"}"#], "#1 -> 412"),
    case("etag-missing", &["GET S"], "!etag"),
    case("etag-body-only", &["GET S"], "!etag: "),
    case("etag-weak", &["GET S"], "etag: W/"),
    case("etag-gzip", &["GET S"], "-gzip\""),
    case("etag-unquoted", &["GET S", r#"match:last PATCH S {"AssetTag":"x"}"#], "#2 -> 412"),
    case("boot-settings=SD", &[PXE], "OperationSupportedInFutureStateURI"),
    case("ignore-boot-override", &[PXE], r#"!"BootSourceOverrideTarget":"Pxe""#),
    case("ignore-boot-override=override", &[PXE], r#"!"BootSourceOverrideTarget":"Pxe""#),
    case("boot-once-lasts", &[PXE], r#""BootSourceOverrideEnabled":"Continuous""#),
    case("boot-not-honoured", &[QUIET_PXE, ON, LATER], "!boots [Some(Pxe)]"),
    case("boot-sticky", &[QUIET_PXE, ON, LATER], r#""BootSourceOverrideEnabled":"Once""#),
    case(
        "boot-lost-at-reset",
        &[QUIET_PXE, "quiet POST M/Actions/Manager.Reset {}", "GET S"],
        r#"!"BootSourceOverrideTarget":"Pxe""#,
    ),
    case("boot-mode-reverts", &[PXE], r#""BootSourceOverrideMode":"Legacy""#),
    case("boot-disabled-after-200", &[PXE], r#""BootSourceOverrideEnabled":"Disabled""#),
    case("boot-400-applied", &[PXE], "#1 -> 400"),
    case("boot-mode-read-only", &[r#"PATCH S {"Boot":{"BootSourceOverrideMode":"UEFI"}}"#], "PropertyNotWritable"),
    case("boot-no-mode", &["GET S"], "!BootSourceOverrideMode"),
    case("boot-enabled-required", &[r#"PATCH S {"Boot":{"BootSourceOverrideTarget":"Pxe"}}"#], "PropertyMissing"),
    case("boot-enabled-unchanged-400", &[r#"PATCH S {"Boot":{"BootSourceOverrideEnabled":"Disabled"}}"#], "#1 -> 400"),
    case("boot-full-set-required", &[PXE], "PropertyMissing"),
    case("boot-no-continuous", &[r#"PATCH S {"Boot":{"BootSourceOverrideEnabled":"Continuous"}}"#], "#1 -> 400"),
    case("boot-targets=None,Pxe", &["GET S"], "!UefiHttp"),
    case("boot-pxe-is-next", &[PXE], "UefiBootNext"),
    case("boot-no-override", &["GET S"], "!BootSourceOverride"),
    case("boot-uri-read-only", &[r#"PATCH S {"Boot":{"HttpBootUri":"http://192.0.2.1/x"}}"#], "PropertyNotWritable"),
    case("boot-uri-missing", &["GET S"], "!HttpBootUri"),
    case("boot-order-refused", &[r#"PATCH S {"Boot":{"BootOrder":["Boot0001","Boot0000"]}}"#], "PropertyUnknown"),
    case("boot-own-order", &["GET S/Oem/Supermicro/FixedBootOrder"], "UEFI Network:"),
    case("boot-own-order=lenovo", &["GET S"], "!BootOrder"),
    case("boot-option-null", &["GET S/BootOptions/Boot0001"], r#""UefiDevicePath":null"#),
    case("power-noop", &[ON, LATER], r#"!"PowerState":"On""#),
    case("power-lag=30s", &[ON, LATER], "PoweringOn"),
    case(
        "power-off-time=30s",
        &[ON, r#"quiet wait:150 POST S/Actions/ComputerSystem.Reset {"ResetType":"PowerCycle"}"#, LATER],
        "PoweringOff",
    ),
    case("power-stuck", &[ON, LATER], "PoweringOn"),
    case("power-on-conflict=60s", &[ON, OFF, AGAIN], "#1 -> 409"),
    case("power-on-twice-409", &[ON, AGAIN], "#1 -> 409"),
    case("power-null", &["GET S"], r#""PowerState":null"#),
    case("power-unknown", &["GET S"], "Hibernating"),
    case(
        "shutdown-ignored",
        &[ON, r#"quiet wait:150 POST S/Actions/ComputerSystem.Reset {"ResetType":"GracefulShutdown"}"#, LATER],
        r#""PowerState":"On""#,
    ),
    case("lose-reset-answer", &[r#"POST S/Actions/ComputerSystem.Reset {"ResetType":"On"}"#], "#1 broken"),
    case("reset-types=On,ForceOff", &["GET S"], "!PowerCycle"),
    case("reset-unlisted", &["GET S"], "!ResetType@Redfish"),
    case("action-info", &["GET S/ResetActionInfo"], "#1 -> 200"),
    case(
        "reset-busy=60s",
        &[ON, r#"wait:150 POST S/Actions/ComputerSystem.Reset {"ResetType":"ForceOff"}"#],
        "InvalidOperationForSystemState",
    ),
    case("post-lock=60s", &[ON, "quiet wait:150 GET S", PXE], "UnableToModifyDuringSystemPOST"),
    case("second-system", &["GET R/Systems"], "HGX_Baseboard_0"),
    case("busy=1", &["GET S"], "retry-after: 1"),
    case("busy-silent=1", &["GET S"], "#1 -> 503"),
    case("forbidden=/redfish/v1/Chassis", &["GET C"], "#1 -> 403"),
    case("slow=900ms", &["GET S"], "#1 took long"),
    case("slow-body=900ms", &["GET S"], "#1 took long"),
    case("hostile-body=oversized", &["GET S"], "6291456 bytes"),
    case("hostile-body=nested", &["GET S"], "[[[[["),
    case("hostile-body=not-json", &["GET S"], "no complaints"),
    case("hostile-body=truncated", &["GET S"], "#1 no json"),
    case("hostile-body=short-length", &["GET S"], "#1 no json"),
    case("hostile-body=long-length", &["GET S"], "#1 broken"),
    case("hostile-body=html", &["GET S"], "Loading"),
    case("redirect=https://192.0.2.1", &["GET S"], "location: https://192.0.2.1/redfish/v1/Systems/1"),
    case("members-null", &["GET S/EthernetInterfaces"], r#""Members":null"#),
    case("page-size=1", &["GET S/EthernetInterfaces"], "EthernetInterfaces?$skip=1"),
    case("expand-refused", &["GET S/EthernetInterfaces?$expand=."], "#1 -> 501"),
    case("expand-bare", &["GET S/EthernetInterfaces?$expand=."], r#"!"Name":"NIC 1""#),
    case("gzip-always", &["GET S"], "content-encoding: gzip"),
    case("links-slash", &["GET R/Systems"], r#"/Systems/1/""#),
    case("links-lower-case", &["GET S"], "/systems/1/"),
    case("links-away", &["GET R"], "https://192.0.2.1/redfish/v1/Systems"),
    case("system-id=Self", &["GET R/Systems", "GET R/Systems/Self"], "#2 -> 200"),
    case("manager-id=bmc", &["GET R/Managers/bmc"], r#""Id":"bmc""#),
    case("chassis-id=Self", &["GET R/Chassis/Self"], r#""Id":"Self""#),
    case("error-html", &["GET R/nothing"], "<h1>404</h1>"),
    case("error-bare", &["GET R/nothing"], "!error"),
    case("root-vendor=AMI", &["GET R"], r#""Vendor":"AMI""#),
    case("root-no-vendor", &["GET R"], "!Vendor"),
    case("root-no-links", &["GET R"], "!Systems"),
    case("maker=Contoso Ltd", &["GET S"], "Contoso Ltd"),
    case("bmc-model=AST2600/9.9", &["GET M"], r#""FirmwareVersion":"9.9""#),
    case("uuid-empty", &["GET S"], r#""UUID":"""#),
    case("uuid-swapped", &["GET S"], "548a2b6f-1111-2242"),
    case("serial-placeholder", &["GET S"], "Default string"),
    case("serial-in-sku", &["GET S"], r#""SKU":"LAB-0001""#),
    case("dates-zero", &["GET S"], "0000-00-00"),
    case("fields-missing", &["GET S"], r#"!"Name":"#),
    case("enums-null", &["GET S"], r#""Health":null"#),
    case("enums-unknown", &["GET S"], "Quantum"),
    case("hide-drives", &["GET S/Storage/1"], "!Drives/1"),
    case("drives-no-serial", &["GET S/Storage/1/Drives/1"], r#""SerialNumber":null"#),
    case("sensors=new", &["GET C/Thermal"], "#1 -> 404"),
    case("sensors=classic", &["GET C/ThermalSubsystem"], "#1 -> 404"),
    case("task-time=60s", &[UPDATE, TASK], r#"#2 -> 200 "TaskState":"Running""#),
    case(
        "task-vanishes",
        &["quiet wait:0 GET S", UPDATE, "quiet wait:150 GET R/TaskService/TaskMonitors/1", TASK],
        "#2 -> 404",
    ),
    case("task-endless", &[UPDATE, TASK], r#"#2 -> 200 "TaskState":"Running""#),
    case("task-fails", &[UPDATE, TASK], "Exception"),
    case("task-job-ids", &[UPDATE], "JID_"),
    case("task-no-location", &[UPDATE], "!location: "),
    case("update-ignored", &[UPDATE, "wait:150 GET R/UpdateService/FirmwareInventory/NIC1"], r#"!"Version":"2.5.1""#),
    case("update-no-push", &["GET R/UpdateService"], "!MultipartHttpPushUri"),
    case("bios-settings=SD", &["GET S/Bios"], "Bios/SD"),
    case("bios-unannounced", &["GET S/Bios"], "!SettingsObject"),
    case("bios-needs-apply-time", &[SRIOV, ON, "wait:150 GET S/Bios"], r#"!#2 -> 200 "SriovGlobalEnable":"Enabled""#),
    case("bios-pending-blocks", &[SRIOV, SRIOV], "#2 -> 400"),
    case("bios-no-attributes", &["GET S/Bios/Settings"], r#"!"Attributes""#),
    case("bios-ignored", &[SRIOV, ON, "wait:150 GET S/Bios"], r#"!#2 -> 200 "SriovGlobalEnable":"Enabled""#),
    case("bios-read-only=SriovGlobalEnable", &[SRIOV], "PropertyNotWritable"),
    case("media-under=systems", &["GET S/VirtualMedia"], "#1 -> 200"),
    case("media-slots=EXT1,EXT2", &["GET M/VirtualMedia"], "VirtualMedia/EXT1"),
    case(
        "media-patch-only",
        &[INSERT, r#"PATCH M/VirtualMedia/Cd {"Image":"http://192.0.2.1/a.iso","Inserted":true}"#],
        "#2 -> 200",
    ),
    case("media-needs-protocol", &[INSERT], "ActionParameterMissing"),
    case("media-needs-method", &[INSERT], "ActionParameterMissing"),
    case("media-needs-user", &[INSERT], "ActionParameterMissing"),
    case(
        "media-no-inserted",
        &[
            r#"POST M/VirtualMedia/Cd/Actions/VirtualMedia.InsertMedia {"Image":"http://192.0.2.1/a.iso","Inserted":true}"#,
        ],
        "ActionParameterUnknown",
    ),
    case("media-eject-lag=60s", &[INSERT, EJECT, "GET M/VirtualMedia/Cd"], r#""Inserted":true"#),
    case("media-name-stays", &[INSERT, EJECT, "GET M/VirtualMedia/Cd"], r#""ImageName":"a.iso""#),
    case("media-first-refuses=405", &[INSERT], "#1 -> 405"),
    case("media-first-refuses=400", &[INSERT], "#1 -> 400"),
    case("media-first-refuses=eject-only", &["GET M/VirtualMedia/Cd"], "!InsertMedia"),
    case("log-entries=50", &["GET M/LogServices/SEL/Entries"], r#""Members@odata.count":50"#),
    case("log-no-clear", &["POST M/LogServices/SEL/Actions/LogService.ClearLog {}"], "#1 -> 404"),
    case("log-hostile", &["GET M/LogServices/SEL/Entries/1"], r"\u001b[2J"),
    case("no-events", &["GET R/EventService"], "#1 -> 404"),
    case("sse-cut", &["SSE R/EventService/SSE"], "stream ended"),
];

fn http(bench: &Bench) -> reqwest::Client {
    let config = crate::bmc::tls::config("n1", &Trust::Pin(bench.pin.clone())).unwrap().0;
    let builder = reqwest::Client::builder().use_preconfigured_tls(config).redirect(reqwest::redirect::Policy::none());
    builder.timeout(Duration::from_secs(20)).no_proxy().build().unwrap()
}

fn full(path: &str) -> String {
    let (head, rest) = path.split_at(1);
    let base = match head {
        "S" => "/redfish/v1/Systems/1",
        "M" => "/redfish/v1/Managers/1",
        "C" => "/redfish/v1/Chassis/1",
        "R" => "/redfish/v1",
        _ => return path.to_owned(),
    };
    format!("{base}{rest}")
}

/// Says what was answered to each step. What is `quiet` has no number.
async fn transcript(nature: Faults, steps: &[&str]) -> String {
    let bench = bench(nature).await;
    let client = http(&bench);
    let (mut out, mut number) = (String::new(), 0);
    let (mut token, mut etag, mut location) = (String::new(), String::new(), String::new());
    for step in steps {
        let (mut rest, mut anon, mut with_token, mut quiet, mut tag) = (*step, false, false, false, None);
        let (method, path) = loop {
            let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
            rest = after;
            match word {
                "anon" => anon = true,
                "token" => with_token = true,
                "quiet" => quiet = true,
                word if word.starts_with("match:") => tag = word.strip_prefix("match:"),
                word if word.starts_with("wait:") => {
                    let ms = word.trim_start_matches("wait:").parse().unwrap();
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                }
                method => {
                    let (path, after) = rest.split_once(' ').unwrap_or((rest, ""));
                    rest = after;
                    break (method.to_owned(), if path == "LOCATION" { location.clone() } else { full(path) });
                }
            }
        };
        let verb = if method == "SSE" { "GET" } else { &method };
        let mut request = client.request(verb.parse().unwrap(), format!("{}{path}", bench.url()));
        if with_token {
            request = request.header("x-auth-token", &token);
        } else if !anon {
            request = request.basic_auth("root", Some(PASSWORD));
        }
        if let Some(tag) = tag {
            request = request.header("if-match", if tag == "last" { &etag } else { tag });
        }
        if !rest.is_empty() {
            request = request.header("content-type", "application/json").body(rest.to_owned());
        }
        if method == "SSE" {
            out.push_str(&stream(&bench, request).await);
            continue;
        }
        let began = std::time::Instant::now();
        let answer = request.send().await;
        let mut said = String::new();
        number += u32::from(!quiet);
        match answer {
            Err(_) => _ = writeln!(said, "#{number} broken"),
            Ok(answer) => {
                let status = answer.status().as_u16();
                let headers = answer.headers().clone();
                let text = |name: &str| headers.get(name).map(|v| v.to_str().unwrap().to_owned());
                token = text("x-auth-token").unwrap_or(token);
                etag = text("etag").unwrap_or(etag);
                location = text("location").unwrap_or(location);
                for name in ["etag", "location", "retry-after", "content-encoding"] {
                    if let Some(value) = text(name) {
                        _ = writeln!(said, "{name}: {value}");
                    }
                }
                match answer.bytes().await {
                    Err(_) => _ = writeln!(said, "#{number} broken"),
                    Ok(bytes) => {
                        let json = serde_json::from_slice::<serde_json::Value>(&bytes);
                        let what = if json.is_ok() || bytes.is_empty() { "json" } else { "no json" };
                        _ = writeln!(said, "#{number} {what}, {} bytes", bytes.len());
                        // Some properties once more, with the number of their step.
                        for name in ["TaskState", "SriovGlobalEnable"] {
                            let json = json.as_ref().ok();
                            if let Some(value) = json.and_then(|j| j.get(name).or(j["Attributes"].get(name))) {
                                _ = writeln!(said, "#{number} -> {status} \"{name}\":{value}");
                            }
                        }
                        let text = String::from_utf8_lossy(&bytes);
                        _ = writeln!(said, "#{number} -> {status}\n{}", &text[..text.len().min(100_000)]);
                    }
                }
            }
        }
        if began.elapsed() >= Duration::from_millis(800) {
            _ = writeln!(said, "#{number} took long");
        }
        if !quiet {
            out.push_str(&said);
        }
    }
    _ = writeln!(out, "boots {:?}", bench.bmc.chassis().boots());
    out
}

/// Whether a stream of events ends after its first.
async fn stream(bench: &Bench, request: reqwest::RequestBuilder) -> String {
    let mut answer = request.send().await.unwrap();
    for _ in 0..2 {
        bench.bmc.state().log_event(OffsetDateTime::now_utc(), "OK", "something happened");
        bench.bmc.send_events();
    }
    let read = async { while let Ok(Some(_)) = answer.chunk().await {} };
    match tokio::time::timeout(Duration::from_millis(700), read).await {
        Ok(()) => "stream ended\n".into(),
        Err(_) => "stream goes on\n".into(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_acts() {
    let mut running = tokio::task::JoinSet::new();
    let (mut wrong, mut done) = (Vec::new(), 0);
    for case in CASES {
        while running.len() >= 8 {
            let why: Option<String> = running.join_next().await.unwrap().unwrap();
            wrong.extend(why);
        }
        running.spawn(async move {
            let base = Faults::parse(["power-lag=20ms", "power-off-time=20ms", "task-time=50ms"]).unwrap();
            let both = Faults::parse(case.both.iter().copied()).unwrap().over(&base);
            let fault = Faults::parse([case.fault]).unwrap().over(&both);
            let (plain, faulty) = (transcript(both, case.steps).await, transcript(fault, case.steps).await);
            let (text, wanted) = case.sees.strip_prefix('!').map_or((case.sees, true), |text| (text, false));
            let acts = faulty.contains(text) == wanted && plain.contains(text) != wanted;
            let short = |text: &str| text.chars().take(1500).collect::<String>();
            (!acts).then(|| {
                format!(
                    "{}: wanted `{}`\n-- with it\n{}\n-- without\n{}",
                    case.fault,
                    case.sees,
                    short(&faulty),
                    short(&plain)
                )
            })
        });
        done += 1;
    }
    while let Some(why) = running.join_next().await {
        wrong.extend(why.unwrap());
    }
    assert!(wrong.is_empty(), "{} of {done} do not act:\n{}", wrong.len(), wrong.join("\n=====\n"));
    let named = |fault: &Fault| CASES.iter().any(|case| case.fault.split('=').next() == Some(fault.name()));
    // Those of IPMI have theirs beside its other tests.
    let redfish = Fault::ALL.iter().filter(|fault| !fault.name().starts_with("ipmi-"));
    let unnamed: Vec<&str> = redfish.filter(|fault| !named(fault)).map(|f| f.name()).collect();
    assert!(unnamed.is_empty(), "no case for {unnamed:?}");
}

/// Set and ended while it runs; what it was made with stays.
#[tokio::test]
async fn faults_come_and_go_at_run_time() {
    let bench = bench(with(&["serial-placeholder"])).await;
    let client = http(&bench);
    let get = async |path: &str| {
        let request = client.get(format!("{}{}", bench.url(), full(path))).basic_auth("root", Some(PASSWORD));
        request.send().await.unwrap().text().await.unwrap()
    };
    assert!(get("M/VirtualMedia").await.contains("VirtualMedia/Cd"));
    bench.bmc.set_faults(Faults::parse(["media-slots=EXT1", "uuid-empty", "log-entries=9"]).unwrap());
    assert!(get("M/VirtualMedia").await.contains("VirtualMedia/EXT1"));
    assert!(get("S").await.contains(r#""UUID":"""#));
    assert!(get("M/LogServices/SEL/Entries").await.contains(r#""Members@odata.count":9"#));
    bench.bmc.set_faults(Faults::default());
    let system = get("S").await;
    assert!(!system.contains(r#""UUID":"""#) && system.contains("Default string"));
    assert!(get("M/VirtualMedia").await.contains("VirtualMedia/Cd"));
}
