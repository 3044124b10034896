//! Machines that must not be touched, and a good one among them; two operators at once; artifacts with a flipped byte.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests, outside of #[test] functions

mod e2e;

use std::{collections::BTreeMap, fs, os::unix::fs::FileExt, path::Path};

use e2e::{BRING_UP, Bench, LOOK, until};
use rackctl::{
    image,
    lab::{Request, Response, bmc::Faults},
    model::power::PowerState,
    store::{self, Store},
};

/// Of the laboratory: what is wrong with each, and n9, which is as it should be. n10 is kept for the flipped bytes.
const SERIAL: &str = "n1";
const UUID: &str = "n2";
const PROTECTED: &str = "n3";
const OBSERVED: &str = "n4";
const DRIVE: &str = "n5";
const CERTIFICATE: &str = "n6";
const FOREIGN: &str = "n7";
const SWAPPED_DISK: &str = "n8";
const GOOD: &str = "n9";
const FLIPPED: &str = "n10";
const LABEL: &str = "customer-data";

// fault: F13 F26 F31 F32 F54 F55 invariant: I5 I9 I13 harness: Q
#[test]
fn e2e_guards() {
    let Some(lab) = e2e::bench("no", 10, 0) else { return };
    let expected = make_wrong(&lab);
    let untouched: BTreeMap<&str, String> =
        expected.keys().chain([&FLIPPED]).map(|node| (*node, lab.disk_digest(node))).collect();
    assert!(!lab.disk_is_blank(FOREIGN) && lab.disk_is_blank(SWAPPED_DISK));
    let unchanged = |when: &str| {
        for (node, digest) in &untouched {
            assert_eq!(lab.disk_digest(node), *digest, "{when}: the disk of {node} was written to");
        }
    };
    refused_in_the_plan(&lab, &expected);
    unchanged("plan");
    others_go_on(&lab, &expected);
    unchanged("install");
    flipped_bytes(&lab);
    unchanged("flipped bytes");
}

/// Node → what the message about it has to say.
fn make_wrong(lab: &Bench) -> BTreeMap<&'static str, Vec<String>> {
    let real: BTreeMap<String, _> = lab.lab().machines.into_iter().map(|m| (m.name.clone(), m.identity)).collect();
    let set = |node: &str, bmc_serial: Option<&str>, uuid: Option<uuid::Uuid>, disk_serial: Option<&str>| {
        let [bmc_serial, disk_serial] = [bmc_serial, disk_serial].map(|s| s.map(str::to_owned));
        let answer = lab.ask(&Request::SetIdentity { node: node.into(), bmc_serial, uuid, disk_serial });
        assert_eq!(answer, Response::Done);
    };
    let stranger = uuid::Uuid::new_v4();
    set(SERIAL, Some("OTHER-BOARD-77"), None, None);
    set(UUID, None, Some(stranger), None);
    set(DRIVE, None, None, Some("OTHER-DISK-55"));
    set(SWAPPED_DISK, None, None, Some("OTHER-DISK-88"));
    lab.ask(&Request::Faults { node: SWAPPED_DISK.into(), faults: Faults::parse(["hide-drives"]).unwrap() });
    let old_pin = lab.machine(CERTIFICATE).bmc_pin;
    let Response::CertificateSwapped { pin } = lab.ask(&Request::SwapCertificate { node: CERTIFICATE.into() }) else {
        panic!("no new certificate")
    };
    // An ext4 superblock begins at byte 1024: magic at 0x38, label at 0x78, a feature that ext3 lacks at 0x60.
    let disk = fs::OpenOptions::new().write(true).open(lab.disk(FOREIGN)).unwrap();
    disk.write_all_at(&[0x53, 0xef], 0x438).unwrap();
    disk.write_all_at(&0x40_u32.to_le_bytes(), 0x460).unwrap();
    disk.write_all_at(LABEL.as_bytes(), 0x478).unwrap();
    lab.edit("nodes.yaml", |text| {
        let docs = text.split("---\n").map(|doc| {
            let is = |node: &str| doc.contains(&format!("  name: {node}\n"));
            match () {
                () if is(PROTECTED) => doc.replace("spec:\n", "spec:\n  protect: true\n"),
                () if is(OBSERVED) => doc.replace("spec:\n", "spec:\n  management: observe\n"),
                () => doc.to_owned(),
            }
        });
        docs.collect::<Vec<_>>().join("---\n")
    });
    lab.look(&["validate"]).exits(0);
    let said = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    BTreeMap::from([
        (SERIAL, said(&[&real[SERIAL].serial, "OTHER-BOARD-77"])),
        (UUID, said(&[&real[UUID].uuid.to_string(), &stranger.to_string()])),
        (PROTECTED, said(&["protect: true"])),
        (OBSERVED, said(&["management: observe"])),
        (DRIVE, said(&[&real[DRIVE].disk_serial, "OTHER-DISK-55"])),
        (CERTIFICATE, said(&[&old_pin, &pin])),
        (FOREIGN, said(&["ext4", LABEL, &real[FOREIGN].disk_serial, "Nothing was written"])),
        (SWAPPED_DISK, said(&[&real[SWAPPED_DISK].disk_serial, "OTHER-DISK-88"])),
    ])
}

fn refused_in_the_plan(lab: &Bench, expected: &BTreeMap<&str, Vec<String>>) {
    let before = lab.all_requests();
    let plan = lab.look(&["plan", "--allow", "data-loss", "-o", "json"]).exits(4).json();
    let refusals = plan["spec"]["refusals"].as_array().unwrap();
    let of = |node: &str| refusals.iter().find(|r| r["subject"]["node"] == node);
    for (node, words) in expected {
        if [FOREIGN, SWAPPED_DISK].contains(node) {
            assert!(of(node).is_none(), "{node} is off and its BMC tells nothing: that is for the claim guard");
            continue;
        }
        let refusal = of(node).unwrap_or_else(|| panic!("{node} is not refused: {refusals:?}"));
        let why = refusal["why"].as_str().unwrap();
        assert!(words.iter().all(|w| why.contains(w)), "{node}: {words:?} are not all in: {why}");
        eprintln!("{node}: {why}");
    }
    assert!([GOOD, FLIPPED].iter().all(|n| of(n).is_none()));
    // For people too, and alone it is a refusal of everything.
    for node in [SERIAL, UUID, PROTECTED, OBSERVED, DRIVE, CERTIFICATE] {
        let words: Vec<&str> = expected[node].iter().map(String::as_str).collect();
        lab.look(&["install", node, "--yes"]).exits(3).tells(&words);
    }
    for node in [PROTECTED, OBSERVED] {
        for words in [
            ["power", "on", node, "--yes"].as_slice(),
            &["power", "cycle", node, "--force", "--yes"],
            &["boot", "set", "pxe", node],
        ] {
            lab.look(words).exits(3);
        }
    }
    assert_eq!(lab.writes_since(&before), Vec::<String>::new());
    assert!(lab.status().machines.iter().all(|m| m.power == PowerState::Off));
}

fn others_go_on(lab: &Bench, expected: &BTreeMap<&str, Vec<String>>) {
    let before = lab.all_requests();
    let names = ["install", "n[1-9]"];
    let hash =
        lab.look(&[&["plan", "-o", "json"], names.as_slice()].concat()).exits(4).json()["metadata"]["hash"].clone();
    let going = lab.start(&[names.as_slice(), &["--approve", hash.as_str().unwrap()]].concat());
    let pid = going.pid();
    let run = until("the run has begun", LOOK, || lab.runs().first().cloned());

    // A second operator is told who is at work, and changes nothing.
    for words in [
        ["apply", "--allow", "data-loss"].as_slice(),
        &["install", GOOD],
        &["install", FLIPPED],
        &["power", "off", GOOD, "--force", "--yes"],
    ] {
        let second = lab.look(words).exits(5);
        second.tells(&[&format!("pid {pid}"), "since", "rackctl lock list"]);
    }
    lab.look(&["lock", "list"]).exits(0).tells(&[&format!("node/{GOOD}"), "network/prov", &run.id]);
    // Looking is always free.
    lab.look(&["get", "nodes"]).exits(0);
    lab.look(&["describe", "node", GOOD]).exits(0);

    let said = going.wait(BRING_UP).exits(4);
    eprintln!("one of nine installed after {:.1} s", said.took.as_secs_f32());
    for (node, words) in expected {
        let all = said.all();
        assert!(words.iter().all(|w| all.contains(w)), "{node}: {words:?} are not all said: {said}");
    }
    let records: BTreeMap<_, _> = lab.store().node_records().unwrap().into_iter().collect();
    assert_eq!(records.keys().collect::<Vec<_>>(), [GOOD], "an installation is recorded of the good one alone");
    assert_eq!(lab.disk_guid(GOOD), Some(records[GOOD].disk_guid));
    lab.look(&["ssh", GOOD, "--", "rackctl-node", "status"]).exits(0).tells(&[GOOD]);
    // Refused in the plan: their BMCs saw no write. Refused by the claim guard: no override is left.
    let writes = lab.writes_since(&before);
    for node in [SERIAL, UUID, PROTECTED, OBSERVED, DRIVE, CERTIFICATE, FLIPPED] {
        assert!(!writes.iter().any(|w| w.starts_with(&format!("{node}: "))), "{node}: {writes:?}");
        assert_eq!(lab.machine(node).power, PowerState::Off, "{node}");
    }
    for machine in lab.status().machines {
        assert!(machine.boot_override.is_cleared(), "{}: {:?}", machine.name, machine.boot_override);
        assert_eq!(machine.sessions, 0, "{}", machine.name);
    }
    assert!(lab.store().locks().unwrap().is_empty());
}

/// What a machine fetches is not what was planned: it stops with the cause and its disk stays as it was.
fn flipped_bytes(lab: &Bench) {
    // The shared cache stays whole.
    let cache = lab.root.join("cache");
    copy(&lab.cache, &cache);
    for (part, stage) in [("lab-installer", "stage2"), ("lab-system", "system")] {
        let plan = lab.look(&["plan", "install", FLIPPED, "-o", "json"]).exits(0).json();
        let artifacts = &plan["spec"]["artifacts"][FLIPPED];
        let digest = artifacts[format!("{stage}Sha256")].as_str().unwrap();
        let object = cache.join("rackctl/objects").join(digest);
        let file = fs::OpenOptions::new().read(true).write(true).open(&object).unwrap();
        let middle = file.metadata().unwrap().len() / 2;
        let mut byte = [0];
        file.read_exact_at(&mut byte, middle).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], middle).unwrap();
        let builds = image::list(&cache.join("rackctl/objects")).unwrap();
        assert!(builds.iter().any(|b| image::verify(b).is_err()), "{part}: the object is whole");

        let hash = plan["metadata"]["hash"].as_str().unwrap();
        let mut command = lab.command(&[
            "--context",
            &format!("lab-{}", lab.name),
            "install",
            FLIPPED,
            "--approve",
            hash,
            "-o",
            "json",
        ]);
        command.env("XDG_CACHE_HOME", &cache);
        let said = lab.start_command(command).wait(BRING_UP).exits(1);
        said.json();
        let said = said.tells(&[FLIPPED, "digestMismatch", digest]);
        eprintln!("flipped {stage}: stopped after {:.1} s", said.took.as_secs_f32());
        assert!(lab.disk_is_blank(FLIPPED), "{stage}: the disk was written to");
        assert!(lab.machine(FLIPPED).boot_override.is_cleared());
        assert!(lab.console(FLIPPED).contains("digestMismatch"), "the machine itself says why");
        // Mended for the next round.
        file.write_all_at(&byte, middle).unwrap();
    }
    store::verify(&lab.store().chain().unwrap()).unwrap_or_else(|broken| panic!("{broken}"));
}

/// Regular files and folders, whole.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|e| e.unwrap()) {
        let target = to.join(entry.file_name());
        // Packages are long since unpacked into objects; only the record of what was taken is read again.
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => copy(&entry.path(), &target),
            _ if entry.path().extension().is_some_and(|e| e == "deb") => {}
            _ => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}
