//! Every fault of the table that is IPMI's: the client bears it, or names what it met.

use super::*;
use crate::{
    bmc::ipmi::Suite,
    lab::bmc::Fault,
    model::{
        Failure,
        failure::Cause,
        power::{BootOverride, BootTarget, OverrideFor, PowerState},
    },
};

const PXE: BootOverride = BootOverride { target: BootTarget::Pxe, lasts: OverrideFor::Once, mode: None };

/// What ends the log-in, the look or the override: fault, cause, and words of the reason.
const ENDS: &[(&str, Cause, &str)] = &[
    ("ipmi-off", Cause::Unreachable, "no answer to Get Channel Authentication Capabilities"),
    ("ipmi-old", Cause::Refused, "IPMI 1.5 only"),
    ("ipmi-privilege=user", Cause::Unauthorized, "neither ADMINISTRATOR nor OPERATOR"),
    ("ipmi-other-password", Cause::Unauthorized, "refuses the password; it is not tried again"),
    ("ipmi-no-room=1", Cause::Busy, "no resources for another session"),
    ("ipmi-mute=open", Cause::Unreachable, "no answer to Open Session"),
    ("ipmi-mute=rakp2", Cause::Unreachable, "no answer to RAKP 1"),
    ("ipmi-sequence=same", Cause::Malformed, "numbers its packets wrongly"),
    ("ipmi-busy=60", Cause::Busy, "0xc0: the BMC is busy"),
    ("ipmi-drop=1", Cause::Unreachable, "no answer to Get Channel Authentication Capabilities"),
    ("ipmi-boot-ignored", Cause::AcceptedButIgnored, "did not apply it: asked for pxe once, sent flags 8004000000"),
    // Read back with its valid bit clear: no override.
    ("ipmi-boot-invalid", Cause::AcceptedButIgnored, "read back no override (flags 0004000000"),
];

/// What is borne.
const BORNE: &[&str] = &[
    "ipmi-no-suite-17",
    "ipmi-privilege=operator",
    "ipmi-busy=4",
    "ipmi-slow=400ms",
    "ipmi-drop=4",
    "ipmi-session-drop=3",
    "ipmi-sequence=swapped",
    "ipmi-no-parameter-3",
    "ipmi-small-reads",
];

async fn boots(bench: &Bench) -> Result<(), Failure> {
    let options = Options { deadline: Duration::from_secs(90), ..bench.options() };
    let client = Client::open(&bench.node, &passwords(PASSWORD), options).await?;
    let result = async {
        client.power().await?;
        client.set_boot(PXE).await
    }
    .await;
    client.close().await.unwrap();
    result
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_it_is_named() {
    let each = ENDS.iter().map(|(fault, cause, words)| async move {
        let bench = bench(None).await;
        bench.lie(&[fault]);
        let failure = boots(&bench).await.err().unwrap_or_else(|| panic!("{fault} is borne"));
        assert_eq!(failure.cause, *cause, "{fault}: {failure}");
        assert!(failure.why.contains(words), "{fault}: {failure}");
        for _ in 0..100 {
            if bench.service.open_sessions() == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(bench.service.open_sessions(), 0, "{fault}: a session is left");
        assert!(bench.service.wrong_passwords() <= 1, "{fault}");
        assert_eq!(bench.service.bmc().snapshot().boot.target, BootTarget::None, "{fault}");
        // Without it, at once.
        bench.lie(&[]);
        boots(&bench).await.unwrap_or_else(|failure| panic!("{fault}, over: {failure}"));
    });
    futures_util::future::join_all(each).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_borne_happens_once() {
    let each = BORNE.iter().map(|fault| async move {
        let bench = bench(None).await;
        bench.lie(&[fault]);
        boots(&bench).await.unwrap_or_else(|failure| panic!("{fault}: {failure}"));
        let client = bench.client().await;
        // What is lost of an order is not sent again by the client: by its caller, who has looked.
        for _ in 0..3 {
            if client.set_power(true, false, Duration::from_secs(25)).await.is_ok() {
                break;
            }
        }
        assert_eq!(client.power().await.unwrap(), PowerState::On, "{fault}");
        assert_eq!(bench.chassis().boots(), [Some(BootTarget::Pxe)], "{fault}");
        client.close().await.unwrap();
    });
    futures_util::future::join_all(each).await;
}

#[tokio::test]
async fn what_is_borne_was_met() {
    let bench = bench(None).await;
    bench.lie(&["ipmi-busy=4"]);
    let client = bench.client().await;
    client.power().await.unwrap();
    let busy = bench.lines.lock().unwrap().iter().filter(|line| line.status == Some(0xC0)).count();
    assert_eq!(busy, 4);
    bench.lie(&["ipmi-slow=400ms"]);
    let began = std::time::Instant::now();
    client.power().await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(400));
    bench.lie(&["ipmi-session-drop=3"]);
    for _ in 0..5 {
        client.power().await.unwrap();
    }
    client.close().await.unwrap();
    assert_eq!(bench.service.open_sessions(), 0);
    bench.lie(&["ipmi-no-suite-17"]);
    let client = bench.client().await;
    assert_eq!(client.ipmi("x").unwrap().session().await.map(|s| s.0), Some(Suite::Three));
    client.close().await.unwrap();
}

#[test]
fn every_fault_of_ipmi_has_a_case() {
    let cases = ENDS.iter().map(|(fault, ..)| *fault).chain(BORNE.iter().copied());
    let named: Vec<&str> = cases.map(|fault| fault.split('=').next().unwrap()).collect();
    let unnamed = |fault: &&Fault| fault.name().starts_with("ipmi-") && !named.contains(&fault.name());
    assert_eq!(Fault::ALL.iter().filter(unnamed).map(|f| f.name()).collect::<Vec<_>>(), Vec::<&str>::new());
}
