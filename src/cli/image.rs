//! `image build|list|verify`: boot artifacts and system images.

use std::path::PathBuf;

use serde_json::json;

use super::{
    args::host::{Image as Args, ImageVerb},
    globals::Globals,
    paths, prepare,
};
use crate::{
    image,
    model::{
        Failure,
        failure::Cause,
        fleet::{Arch, Image},
    },
    output::{Exit, Stop, Table, stdout},
};

pub fn objects_dir() -> Result<PathBuf, Failure> {
    Ok(paths::cache()?.join("objects"))
}

/// Records of builds that are there.
pub fn builds() -> usize {
    objects_dir().and_then(|dir| image::list(&dir)).map_or(0, |builds| builds.len())
}

pub fn run(globals: &Globals, args: &Args) -> Result<Exit, Stop> {
    match &args.verb {
        ImageVerb::Build { names, output_dir } => build(globals, names, output_dir.as_deref()),
        ImageVerb::List => list(globals),
        ImageVerb::Verify => verify(),
    }
}

fn build(globals: &Globals, names: &[String], output: Option<&std::path::Path>) -> Result<Exit, Stop> {
    let fleet = globals.fleet()?;
    let (cache, program) = (paths::cache()?, paths::node_program()?);
    let chosen: Vec<(&String, &Image)> = fleet.images.iter().filter(|(n, _)| names.is_empty() || names.contains(n)).collect();
    if let Some(unknown) = names.iter().find(|n| !fleet.images.contains_key(*n)) {
        return Err(Stop::usage(Failure::new(Cause::Refused, format!("image {unknown}"), "it is not in the inventory").next("rackctl get images")));
    }
    let mut table = Table::new(["IMAGE", "ARTIFACT", "SIZE", "SHA256"]);
    let mut items = Vec::new();
    for (name, spec) in chosen {
        let Image::Distro { arch, .. } = spec else {
            if names.contains(name) {
                return Err(Failure::new(Cause::Guard, format!("image {name}"), "this version builds `build: { distro: … }` images; nix and files are not built").into());
            }
            continue;
        };
        let built = prepare::build_one(name, spec, *arch, &cache, &program)?;
        for (artifact, object) in named(&built) {
            table.row([name.clone(), artifact.clone(), format!("{:.1} MB", object.size_bytes as f64 / 1e6), object.sha256.clone()]);
            if let Some(folder) = output {
                copy(object, &folder.join(name).join(&artifact))?;
            }
        }
        items.push(item(name, &built));
    }
    globals.print(&items, |_| table)?;
    Ok(Exit::Done)
}

fn named(built: &image::Artifacts) -> Vec<(String, &image::Object)> {
    let mut all = vec![
        ("kernel".to_owned(), &built.kernel),
        ("initrd".to_owned(), &built.initrd),
        ("stage2.tar.zst".to_owned(), &built.stage2),
        ("system.tar.zst".to_owned(), &built.system),
    ];
    all.extend(built.loaders.iter().map(|l| (l.tftp_name.clone(), &l.object)));
    all
}

fn item(name: &str, built: &image::Artifacts) -> serde_json::Value {
    json!({ "apiVersion": "rackctl.dev/v1alpha1", "kind": "Image", "metadata": { "name": name }, "spec": {}, "status": built })
}

fn copy(object: &image::Object, to: &std::path::Path) -> Result<(), Failure> {
    let local = |e: std::io::Error| Failure::new(Cause::Local, format!("write {}", to.display()), e.to_string());
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder).map_err(local)?;
    }
    std::fs::copy(&object.path, to).map_err(local)?;
    Ok(())
}

fn list(globals: &Globals) -> Result<Exit, Stop> {
    let builds = image::list(&objects_dir()?)?;
    let items: Vec<serde_json::Value> = builds.iter().map(|b| item(&b.key, b)).collect();
    globals.print(&items, |_| {
        let mut table = Table::new(["BUILD", "DISTRO", "ARCH", "ARTIFACT", "SIZE", "SHA256"]);
        for built in &builds {
            for (artifact, object) in named(built) {
                let arch = if built.manifest.arch == Arch::Amd64 { "amd64" } else { "arm64" };
                table.row([
                    built.key.chars().take(12).collect::<String>(),
                    built.manifest.distro.clone(),
                    arch.to_owned(),
                    artifact,
                    format!("{:.1} MB", object.size_bytes as f64 / 1e6),
                    object.sha256.chars().take(12).collect(),
                ]);
            }
        }
        table
    })?;
    Ok(Exit::Done)
}

fn verify() -> Result<Exit, Stop> {
    let mut failures = Vec::new();
    for built in image::list(&objects_dir()?)? {
        match image::verify(&built) {
            Ok(()) => stdout::print(&format!("{} verified\n", built.key))?,
            Err(failure) => failures.push(failure),
        }
    }
    if failures.is_empty() { Ok(Exit::Done) } else { Err(failures.into()) }
}
