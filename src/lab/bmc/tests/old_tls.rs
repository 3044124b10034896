//! BMCs whose TLS is too old: what they offer is said, and no password is sent.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::{bmc::tls::probe_pin, model::failure::Cause};

fn options() -> Options {
    Options {
        read_only: true,
        deadline: Duration::from_secs(10),
        ledger: Arc::new(crate::bmc::NoLedger),
        observer: None,
        gate: None,
    }
}

#[tokio::test]
async fn a_bmc_without_a_suite_in_common_is_named_as_such() {
    let own = certificate("own", None).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    // What OpenSSL answers to us: a fatal alert, 40 (handshake_failure) or 70 (protocol_version). To the hello that
    // takes anything it says what it has, or breaks off.
    let task = tokio::spawn(async move {
        let hello = [&[22u8, 3, 1, 0, 42, 2, 0, 0, 38, 3, 1][..], &[5; 32], &[0, 0, 0x2f, 0]].concat();
        for answer in [vec![21, 3, 3, 0, 2, 2, 40], hello, vec![21, 3, 3, 0, 2, 2, 70], vec![]] {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            let mut read = [0; 4096];
            let _ = stream.read(&mut read).await;
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
            let _ = stream.read(&mut read).await;
        }
    });
    let first = probe_pin(&url).await.unwrap_err();
    assert!(first.cause == Cause::Refused && first.why.contains("no cipher suite in common"), "{first}");
    assert!(first.why.contains("It chose TLS 1.0 with RSA-AES128-CBC-SHA") && first.why.contains("ipmi"), "{first}");
    let second =
        Client::open(&node("n1", url, Trust::Pin(own.pin)), &passwords(PASSWORD), options()).await.unwrap_err();
    assert!(second.cause == Cause::Refused && second.why.contains("neither TLS 1.2 nor TLS 1.3"), "{second}");
    assert!(!second.why.contains("It chose"), "it did not say: {second}");
    task.abort();
}

/// OpenSSL's own server, as old as told; killed with the value.
struct OldServer(Child, String);

impl Drop for OldServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn old_server(folder: &std::path::Path, arguments: &[&str]) -> Option<OldServer> {
    let rsa = folder.join("rsa.pem");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=old", "-keyout"])
        .args([&rsa, &"-out".into(), &folder.join("cert.pem")])
        .stderr(Stdio::null())
        .status();
    if !made.is_ok_and(|status| status.success()) {
        return None;
    }
    let mut child = Command::new("openssl")
        .args(["s_server", "-accept", "127.0.0.1:0", "-key"])
        .arg(&rsa)
        .arg("-cert")
        .arg(folder.join("cert.pem"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let stdout = child.stdout.take()?;
    // `ACCEPT 127.0.0.1:41234`
    let line = BufReader::new(stdout).lines().map_while(Result::ok).take(8).find(|l| l.starts_with("ACCEPT"));
    let server = |url| OldServer(child, url);
    match line.and_then(|l| l.split_whitespace().nth(1).map(|at| format!("https://{at}"))) {
        Some(url) => Some(server(url)),
        None => {
            drop(server(String::new()));
            None
        }
    }
}

#[tokio::test]
async fn openssl_as_an_old_bmc_is_told_as_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&[&str], &str); 4] = [
        (&["-tls1_2", "-cipher", "AES128-SHA"], "TLS 1.2 with RSA-AES128-CBC-SHA"),
        (&["-tls1_2", "-cipher", "ECDHE-RSA-AES256-SHA384"], "TLS 1.2 with ECDHE-RSA-AES256-CBC-SHA384 on "),
        (&["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256", "-groups", "P-521"], "GCM-SHA256 on P-521"),
        (&["-tls1", "-cipher", "ALL:@SECLEVEL=0"], "TLS 1.0 with "),
    ];
    for (arguments, offer) in cases {
        let Some(server) = old_server(folder.path(), arguments) else {
            eprintln!("SKIPPED: no `openssl` that serves {arguments:?}");
            continue;
        };
        let failure = probe_pin(&server.1).await.unwrap_err();
        assert!(failure.cause == Cause::Refused && failure.why.contains(offer), "{arguments:?}: {failure}");
    }
}
