//! `rackctl image build|list|verify`

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{
    args::{
        host::{Image, ImageVerb},
        targets::Select,
    },
    globals::Globals,
    paths, targets,
};
use crate::{
    image::{self, Artifacts, BuildEvent, BuildSpec},
    model::{Failure, failure::Cause, fleet as model},
    output::{Exit, Kind, Stop, Table, format::API_VERSION, stdout},
};

pub fn objects_dir() -> Result<PathBuf, Failure> {
    Ok(paths::cache()?.join("objects"))
}

/// Builds that are whole.
pub fn builds() -> usize {
    objects_dir().and_then(|dir| image::list(&dir)).map_or(0, |found| found.len())
}

pub fn run(globals: &Globals, args: &Image) -> Result<Exit, Stop> {
    match &args.verb {
        ImageVerb::Build { names, output_dir, node_program } => {
            build(globals, names, output_dir.as_deref(), node_program.as_deref())
        }
        ImageVerb::List => {
            let found = image::list(&objects_dir()?)?;
            show(globals, &found).map(|()| Exit::Done)
        }
        ImageVerb::Verify { keys } => verify(globals, keys),
    }
}

fn build(globals: &Globals, names: &[String], to: Option<&Path>, program: Option<&Path>) -> Result<Exit, Stop> {
    let fleet = globals.fleet()?;
    let status = crate::output::resource::Status::default();
    let mut chosen = targets::choose(&fleet, &status, Kind::Image, names, &Select::default())?;
    if names.is_empty() {
        // The others are files that are there, or are built by Nix.
        chosen.retain(|name| matches!(fleet.images.get(name), Some(model::Image::Distro { .. })));
    }
    if chosen.is_empty() {
        let failure = Failure::new(Cause::Refused, "image build", "the inventory has no image of a distribution");
        return Err(Stop::usage(failure.next("rackctl explain image.build")));
    }
    let objects_dir = to.map_or_else(objects_dir, |dir| Ok(dir.to_owned()))?;
    let cache_dir = paths::cache()?.join("packages");
    let node_program = program.map_or_else(paths::node_program, |path| Ok(path.to_owned()))?;
    let mut built = Vec::new();
    for name in &chosen {
        let Some(spec) = fleet.images.get(name) else { continue };
        let arch = match spec {
            model::Image::Distro { arch, .. } => *arch,
            _ => model::Arch::default(),
        };
        let spec = BuildSpec {
            image: spec,
            arch,
            cache_dir: &cache_dir,
            objects_dir: &objects_dir,
            node_program: &node_program,
        };
        built.push(image::build(&spec, &mut |event| stdout::note(&format!("{name}: {}", say(&event))))?);
    }
    show(globals, &built).map(|()| Exit::Done)
}

fn say(event: &BuildEvent) -> String {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    match event {
        BuildEvent::Unchanged { key } => format!("nothing to do, built before as {}", short(key)),
        BuildEvent::Renewed { wanted, from: Some(from), to } => format!("{wanted} {from} is gone, taking {to}"),
        BuildEvent::Renewed { wanted, from: None, to } => format!("{wanted} pinned at {to}"),
        BuildEvent::Downloading { packages, size_bytes } => {
            format!("downloading {packages} packages, {} MiB", mib(*size_bytes))
        }
        BuildEvent::Unpacked { packages } => format!("{packages} packages verified and unpacked"),
        BuildEvent::Stored { name, size_bytes } => format!("{name} stored, {} MiB", mib(*size_bytes)),
    }
}

fn verify(globals: &Globals, keys: &[String]) -> Result<Exit, Stop> {
    let mut found = image::list(&objects_dir()?)?;
    for key in keys {
        if !found.iter().any(|build| build.key.starts_with(key.as_str())) {
            let failure = Failure::new(Cause::Refused, format!("image verify {key}"), "no build has such a key");
            return Err(Stop::usage(failure.next("rackctl image list")));
        }
    }
    found.retain(|build| keys.is_empty() || keys.iter().any(|key| build.key.starts_with(key.as_str())));
    let failures: Vec<Failure> = found.iter().filter_map(|build| image::verify(build).err()).collect();
    if !failures.is_empty() {
        let exit =
            Exit::combine(found.iter().map(|b| if image::verify(b).is_ok() { Exit::Done } else { Exit::Failed }));
        return Err(Stop { exit, failures });
    }
    show(globals, &found)?;
    stdout::note(&format!("{} builds are what they were", found.len()));
    Ok(Exit::Done)
}

fn short(key: &str) -> &str {
    key.get(..12).unwrap_or(key)
}

fn show(globals: &Globals, builds: &[Artifacts]) -> Result<(), Stop> {
    let items: Vec<Value> = builds
        .iter()
        .map(|build| {
            json!({ "apiVersion": API_VERSION, "kind": "Build", "metadata": { "name": build.key }, "spec": {}, "status": build })
        })
        .collect();
    let text = globals.format.render(&items, stdout::width(), |wide| {
        let mut headers = vec!["KEY", "DISTRO", "ARCH", "PACKAGES", "MIB"];
        headers.extend(wide.then_some(["KERNEL", "INITRD", "STAGE2", "SYSTEM"]).into_iter().flatten());
        let mut table = Table::new(headers);
        for build in builds {
            let mut cells = vec![
                short(&build.key).to_owned(),
                build.manifest.as_ref().map_or("files".to_owned(), |m| m.distro.clone()),
                build.manifest.as_ref().map_or("-".to_owned(), |m| format!("{:?}", m.arch).to_lowercase()),
                build.manifest.as_ref().map_or("-".to_owned(), |m| m.packages.len().to_string()),
                build.total_bytes().div_ceil(1 << 20).to_string(),
            ];
            if wide {
                let objects = [&build.kernel, &build.initrd, &build.stage2, &build.system];
                cells.extend(objects.map(|object| short(&object.sha256).to_owned()));
            }
            table.row(cells);
        }
        table
    });
    stdout::print(&text)
}
