//! What the client reads and changes beyond power and boot, against the laboratory's BMC.

use std::collections::BTreeMap;

use super::*;
use crate::{
    bmc::{client::Image, media},
    model::failure::Cause,
};

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn every_corner_is_read() {
    let bench = bench(quick()).await;
    let session = bench.client().await;
    let client = session.redfish("look into its corners").unwrap();
    let logs = client.logs(None).await.unwrap();
    assert!(logs.iter().any(|log| log.id == "SEL") && logs.iter().all(|log| !log.unreadable), "{logs:?}");
    let readings = client.sensors().await.unwrap();
    assert!(readings.sensors.len() > 3 && readings.power_watts.is_some(), "{readings:?}");
    let bios = client.bios().await.unwrap();
    assert!(bios.attributes.len() > 3 && bios.pending.is_empty() && bios.secure_boot.is_some(), "{bios:?}");
    assert!(client.firmware().await.unwrap().iter().any(|item| item.id == "BMC" && item.version.is_some()));
    assert!(client.media().await.unwrap().iter().all(|slot| slot.takes && !slot.inserted));
    assert_eq!(client.accounts().await.unwrap().0[0].user, "root");
    assert!(client.certificates().await.unwrap()[0].https);
    assert_eq!(client.volumes().await.unwrap()[0].drives[0].serial.as_deref(), Some("DISK-1"));
    assert!(client.neighbours().await.unwrap().iter().all(|heard| heard.switch.is_some()));
    session.close().await.unwrap();
}

#[tokio::test]
async fn what_is_changed_is_seen_to_be_changed() {
    let bench = bench(quick()).await;
    let session = bench.client().await;
    let client = session.redfish("look into its corners").unwrap();
    let wish = BTreeMap::from([("BootMode".to_owned(), "nonsense".to_owned())]);
    let refused = client.set_bios(&wish).await.unwrap_err();
    assert_eq!(refused.cause, Cause::Refused, "{refused}");
    let wish = BTreeMap::from([("LogicalProc".to_owned(), "Disabled".to_owned())]);
    let read = client.set_bios(&wish).await.unwrap();
    assert_eq!(read.pending.keys().collect::<Vec<_>>(), ["LogicalProc"]);

    let image = "http://127.0.0.1:1/rescue.iso";
    let slot = client.insert_media(None, image, LIMIT).await.unwrap();
    assert!(media::holds(&slot, image), "{slot:?}");
    assert_eq!(client.eject_media(None, LIMIT).await, Ok(vec![slot.id]));
    assert!(client.clear_logs(Some("SEL")).await.is_ok());

    let image = Image::Address("http://127.0.0.1:1/bmc.bin".into());
    let updated = client.update_firmware(&image, Some("BMC"), LIMIT, &|_| {}).await;
    println!("update: {updated:?}");
    client.restart_bmc(LIMIT).await.unwrap();
    let _ = session.close().await;

    let session = bench.client().await;
    let client = session.redfish("look into its corners").unwrap();
    client.set_password("root", &Secret::new("battery staple 9".into())).await.unwrap();
    let _ = session.close().await;
    let again = Client::open(&bench.node, &passwords("battery staple 9"), bench.options()).await.unwrap();
    assert!(again.power().await.is_ok());
    again.close().await.unwrap();
}

/// Of a log that is longer than what is kept, the newest are: with and without pages.
#[tokio::test]
async fn of_a_long_log_the_newest_entries_are_read() {
    for faults in
        [&["log-entries=5000"][..], &["log-entries=5000", "page-size=500"], &["log-entries=5000", "expand-refused"]]
    {
        let bench = bench(with(faults)).await;
        let client = bench.client().await;
        let logs = client.logs(Some("EventLog")).await.unwrap();
        let [log] = logs.as_slice() else { panic!("{} logs", logs.len()) };
        assert_eq!((log.entries.last().map(|e| e.id.as_str()), log.more), (Some("5000"), true), "{faults:?}");
        client.close().await.unwrap();
    }
}
