//! Builds the real images from the distribution's packages: needs `apt-get`, an index of Debian 12
//! and the static node program. Named by the environment, skipped loudly without it:
//!
//! - `RACKCTL_NODE_PROGRAM`: the node program;
//! - `RACKCTL_IMAGE_DIR`: directory for cache and objects, kept (default: a temporary one).

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::time::Instant;

use rackctl::image::{BuildEvent, BuildSpec, build, list, verify};
use rackctl::model::fleet::{Arch, Image};

#[test]
fn debian_12_is_built_twice_alike_and_found_again_at_once() {
    let Some(node_program) = std::env::var_os("RACKCTL_NODE_PROGRAM").map(PathBuf::from) else {
        eprintln!("SKIPPED: RACKCTL_NODE_PROGRAM does not name the static node program");
        return;
    };
    let temp = tempfile::tempdir().unwrap();
    let dir = std::env::var_os("RACKCTL_IMAGE_DIR").map_or(temp.path().to_path_buf(), PathBuf::from);
    let (cache_dir, objects_dir) = (dir.join("cache"), dir.join("objects"));
    std::fs::create_dir_all(&cache_dir).unwrap();
    let image = Image::Distro { distro: "debian-12".into(), arch: Arch::Amd64, packages: Vec::new() };
    let spec = |objects_dir| BuildSpec {
        image: &image,
        arch: Arch::Amd64,
        cache_dir: &cache_dir,
        objects_dir,
        node_program: &node_program,
    };

    let begun = Instant::now();
    let first = build(&spec(&objects_dir), &mut |event| eprintln!("{event:?}")).unwrap();
    eprintln!("built in {:?}: {} bytes in all", begun.elapsed(), first.total_bytes());
    println!("{}", serde_json::to_string_pretty(&first).unwrap());
    verify(&first).unwrap();
    assert!(list(&objects_dir).unwrap().contains(&first));

    let (begun, mut events) = (Instant::now(), Vec::new());
    let again = build(&spec(&objects_dir), &mut |event| events.push(event)).unwrap();
    eprintln!("found again in {:?}", begun.elapsed());
    assert_eq!(events, [BuildEvent::Unchanged { key: first.key.clone() }]);
    assert_eq!(again, first);

    let begun = Instant::now();
    let elsewhere = build(&spec(&temp.path().join("other")), &mut |_| {}).unwrap();
    eprintln!("built elsewhere in {:?}", begun.elapsed());
    let digests = |a: &rackctl::image::Artifacts| a.objects().iter().map(|o| o.sha256.clone()).collect::<Vec<_>>();
    assert_eq!(digests(&elsewhere), digests(&first));
}

/// The kernel for real machines, and a package more: both from apt's index, since neither is in the recorded lock.
#[test]
fn an_image_may_name_its_kernel_and_more_packages() {
    let Some(node_program) = std::env::var_os("RACKCTL_NODE_PROGRAM").map(PathBuf::from) else {
        eprintln!("SKIPPED: RACKCTL_NODE_PROGRAM does not name the static node program");
        return;
    };
    let temp = tempfile::tempdir().unwrap();
    let packages = vec!["linux-image-amd64".to_string(), "lsof".to_string()];
    let image = Image::Distro { distro: "debian-12".into(), arch: Arch::Amd64, packages };
    let objects_dir = temp.path().join("objects");
    let spec = BuildSpec {
        image: &image,
        arch: Arch::Amd64,
        cache_dir: temp.path(),
        objects_dir: &objects_dir,
        node_program: &node_program,
    };
    let mut events = Vec::new();
    let begun = Instant::now();
    let artifacts = build(&spec, &mut |event| events.push(event)).unwrap();
    eprintln!(
        "built in {:?}: {} bytes, initrd {}",
        begun.elapsed(),
        artifacts.total_bytes(),
        artifacts.initrd.size_bytes
    );
    let manifest = artifacts.manifest.as_ref().unwrap();
    eprintln!("absent: {:?}", manifest.modules_absent);
    assert!(events.iter().any(|e| matches!(e, BuildEvent::Renewed { wanted, from: None, .. } if wanted == "lsof")));
    assert!(manifest.modules.iter().any(|m| m.ends_with("/ahci.ko")));
    verify(&artifacts).unwrap();
}
