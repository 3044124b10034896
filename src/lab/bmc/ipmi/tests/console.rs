//! Serial over LAN with a machine behind it.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
};

use super::*;
use crate::{bmc::ipmi::client::Heard, model::failure::Cause};

/// A machine whose serial port greets and says everything back in capitals.
fn machine(path: &std::path::Path) -> tokio::task::JoinHandle<()> {
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(b"login: ").await.unwrap();
            let mut buffer = [0; 1024];
            while let Ok(count) = stream.read(&mut buffer).await
                && count > 0
            {
                if stream.write_all(&buffer[..count].to_ascii_uppercase()).await.is_err() {
                    break;
                }
            }
        }
    })
}

async fn until(console: &mut crate::bmc::ipmi::client::Console<'_>, end: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while !all.ends_with(end) {
        match tokio::time::timeout(Duration::from_secs(10), console.next()).await.unwrap().unwrap() {
            Heard::Bytes(bytes) => all.extend(bytes),
            Heard::Closed => panic!("closed after {all:?}"),
        }
    }
    all
}

#[tokio::test]
async fn real_bytes_both_ways_and_one_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("serial.sock");
    let machine = machine(&path);
    let bench = bench(Some(path)).await;
    let client = bench.client().await;
    let ipmi = client.ipmi("console").unwrap();
    let mut console = ipmi.console(false).await.unwrap();
    assert_eq!(until(&mut console, b"login: ").await, b"login: ");
    let mut long: Vec<u8> = (0..5000).map(|i| b'a' + (i % 26) as u8).collect();
    long.extend(b"#end");
    assert_eq!(console.send(&long).unwrap(), long.len());
    assert_eq!(until(&mut console, b"#END").await, long.to_ascii_uppercase());
    console.send_break().unwrap();

    let second = bench.client().await;
    let other = second.ipmi("console").unwrap();
    let busy = other.console(false).await.err().unwrap();
    assert_eq!(busy.cause, Cause::Busy, "{busy}");
    let mut taken = other.console(true).await.unwrap();
    assert_eq!(until(&mut taken, b"login: ").await, b"login: ");
    let ended = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            if console.next().await.unwrap() == Heard::Closed {
                return;
            }
        }
    });
    ended.await.unwrap();
    taken.close().await.unwrap();
    drop(console);
    assert_eq!(client.power().await.unwrap(), crate::model::power::PowerState::Off, "the client goes on");
    client.close().await.unwrap();
    second.close().await.unwrap();
    machine.abort();
}

#[tokio::test]
async fn a_bmc_without_a_console_says_so() {
    let bench = bench(None).await;
    let client = bench.client().await;
    let failure = client.ipmi("console").unwrap().console(false).await.err().unwrap();
    assert_eq!(failure.cause, Cause::Refused);
    assert!(failure.why.contains("serial over LAN is disabled"), "{failure}");
    client.close().await.unwrap();
}
