//! The build: pins → packages → trees → artifacts, each opened again before it counts.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::apt::{Renewal, resolve};
use super::bundle::{self, Bios, Parts};
use super::exec::{self, PackageCache, TOOL_DEADLINE};
use super::grub::{self, Target};
use super::packages::{Distro, Lock, Pin, is_kernel, is_package_name};
use super::tree::{Kind, Tree};
use super::{Artifacts, BuildEvent, BuildManifest, BuildSpec, Loader, archive, cpio, elf, modules, objects, roots};
use crate::model::Failure;
use crate::model::failure::Cause;
use crate::model::fleet::{Arch, Image};

/// Small and read by every machine at every boot: packed as tightly as it goes.
const INITRD_LEVEL: i32 = 19;
const STAGE2_LEVEL: i32 = 19;
/// A bootloader that concatenates archives wants each to end at a sector.
const INITRD_ALIGN: usize = 512;
/// Hard limits: what is larger is a mistake.
const INITRD_MAX_BYTES: usize = 64 << 20;
const STAGE2_MAX_BYTES: usize = 128 << 20;

/// The code that decides what comes out of given inputs: its change is a change of input.
const CODE: &[&str] = &[
    include_str!("apt.rs"),
    include_str!("archive.rs"),
    include_str!("build.rs"),
    include_str!("bundle.rs"),
    include_str!("cpio.rs"),
    include_str!("elf.rs"),
    include_str!("esp.rs"),
    include_str!("exec.rs"),
    include_str!("files.rs"),
    include_str!("grub.rs"),
    include_str!("mod.rs"),
    include_str!("modules.rs"),
    include_str!("objects.rs"),
    include_str!("packages.rs"),
    include_str!("roots.rs"),
    include_str!("squash.rs"),
    include_str!("tree.rs"),
];

fn malformed(what: &str) -> impl Fn(String) -> Failure + '_ {
    move |why| Failure::new(Cause::Malformed, what, why)
}

/// Builds, or finds the build of the same inputs.
pub fn build(spec: &BuildSpec, report: &mut dyn FnMut(BuildEvent)) -> Result<Artifacts, Failure> {
    let (distro, extra) = distro_of(spec.image, spec.arch)?;
    let node = node_program(spec.node_program, spec.arch)?;
    let lock_name = format!("{}-{}.lock.json", distro.name, distro.debian_arch);
    let lock = load_lock(distro, &spec.cache_dir.join(&lock_name))?;
    let wanted = distro.wanted(extra);

    if let Some(pins) = pins_of(&lock, &wanted)
        && let Some(artifacts) = objects::find(spec.objects_dir, &key(distro, extra, &pins, &node))
    {
        report(BuildEvent::Unchanged { key: artifacts.key.clone() });
        return Ok(artifacts);
    }

    let cache = PackageCache::open(spec.cache_dir)?;
    let pins = fetch(distro, &wanted, lock, &lock_name, &cache, spec.cache_dir, report)?;
    let key = key(distro, extra, &pins, &node);
    if let Some(artifacts) = objects::find(spec.objects_dir, &key) {
        report(BuildEvent::Unchanged { key });
        return Ok(artifacts);
    }
    let artifacts = assemble(distro, extra, &pins, &node, key, &cache, spec, report)?;
    objects::record(spec.objects_dir, &artifacts)?;
    Ok(artifacts)
}

fn distro_of(image: &Image, arch: Arch) -> Result<(&'static Distro, &[String]), Failure> {
    let what = "build an image";
    let Image::Distro { distro, arch: image_arch, packages } = image else {
        return Err(Failure::new(Cause::Refused, what, "only images of a distribution are built here"));
    };
    if *image_arch != arch {
        return Err(Failure::new(
            Cause::Mismatch,
            what,
            format!("the image is for {image_arch:?}, asked was {arch:?}"),
        ));
    }
    if let Some(bad) = packages.iter().find(|name| !is_package_name(name)) {
        return Err(Failure::new(Cause::Refused, what, format!("{bad:?} is no package name")));
    }
    let found = Distro::find(distro, arch).ok_or_else(|| {
        let known: Vec<String> =
            super::packages::DISTROS.iter().map(|d| format!("{} {}", d.name, d.debian_arch)).collect();
        Failure::new(Cause::Refused, what, format!("{distro} for {arch:?} is not known; known: {}", known.join(", ")))
    })?;
    Ok((found, packages))
}

/// The node program, which must run without any library.
fn node_program(path: &Path, arch: Arch) -> Result<Vec<u8>, Failure> {
    let what = format!("take the node program {}", path.display());
    let next = "RUSTFLAGS='-C target-feature=+crt-static' cargo build --profile node -p rackctl-node --target x86_64-unknown-linux-gnu";
    let bytes = std::fs::read(path).map_err(|e| Failure::new(Cause::Local, &what, e.to_string()).next(next))?;
    let elf = elf::read(&bytes).map_err(malformed(&what)).map_err(|f| f.next(next))?;
    let machine = match arch {
        Arch::Amd64 => 62,
        Arch::Arm64 => 183,
    };
    if elf.machine != machine {
        return Err(Failure::new(Cause::Mismatch, what, format!("is for ELF machine {}, not {machine}", elf.machine))
            .next(next));
    }
    if let Some(interpreter) = elf.interpreter {
        let why = format!("is dynamic (interpreter {interpreter}); a first stage has no libraries");
        return Err(Failure::new(Cause::Refused, what, why).next(next));
    }
    if let Some(name) = elf.needed.first() {
        return Err(
            Failure::new(Cause::Refused, what, format!("needs {name}; a first stage has no libraries")).next(next)
        );
    }
    Ok(bytes)
}

/// The lock beside the cache if there is one, else the recorded one.
fn load_lock(distro: &Distro, path: &Path) -> Result<Lock, Failure> {
    let what = "read the package lock";
    match std::fs::read_to_string(path) {
        Ok(text) => Lock::parse(&text, distro).map_err(|why| {
            Failure::new(Cause::Malformed, what, format!("{}: {why}", path.display()))
                .next(format!("rm {}", path.display()))
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Lock::parse(distro.lock, distro).map_err(malformed(what)),
        Err(e) => Err(Failure::new(Cause::Local, what, format!("{}: {e}", path.display()))),
    }
}

fn pins_of(lock: &Lock, wanted: &[String]) -> Option<Vec<Pin>> {
    wanted.iter().map(|name| lock.pin(name).cloned()).collect()
}

/// Digest over all that decides the result.
fn key(distro: &Distro, extra: &[String], pins: &[Pin], node: &[u8]) -> String {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    add(env!("CARGO_PKG_VERSION").as_bytes());
    CODE.iter().for_each(|code| add(code.as_bytes()));
    add(format!("{} {:?}", distro.name, distro.arch).as_bytes());
    extra.iter().for_each(|name| add(name.as_bytes()));
    for pin in pins {
        add(format!("{} {} {} {}", pin.wanted, pin.name, pin.version, pin.sha256).as_bytes());
    }
    add(&Sha256::digest(node));
    hex::encode(hash.finalize())
}

/// Pins whose packages are all in the cache. apt is asked only where something is missing.
fn fetch(
    distro: &Distro,
    wanted: &[String],
    lock: Lock,
    lock_name: &str,
    cache: &PackageCache,
    dir: &Path,
    report: &mut dyn FnMut(BuildEvent),
) -> Result<Vec<Pin>, Failure> {
    if let Some(pins) = pins_of(&lock, wanted)
        && cache.missing(&pins).is_empty()
    {
        return Ok(pins);
    }
    let mut names = wanted.to_vec();
    names.extend(wanted.iter().filter_map(|name| lock.pin(name)).map(|pin| pin.name.clone()));
    names.push(distro.mark.0.to_string());
    names.sort();
    names.dedup();
    let index = exec::index(&names, dir)?;
    let (lock, renewals) = resolve(distro, wanted, &lock, &index).map_err(|why| {
        Failure::new(Cause::Mismatch, format!("choose packages of {}", distro.name), why).next("apt-get update")
    })?;
    for Renewal { wanted, from, to } in renewals {
        report(BuildEvent::Renewed { wanted, from, to });
    }
    let pins = pins_of(&lock, wanted)
        .ok_or_else(|| Failure::new(Cause::Malformed, "choose packages", "a name was left without a pin"))?;
    let missing = cache.missing(&pins);
    if !missing.is_empty() {
        let size_bytes = missing.iter().map(|pin| pin.size_bytes).sum();
        report(BuildEvent::Downloading { packages: missing.len(), size_bytes });
        cache.download(&missing)?;
    }
    let text = serde_json::to_string_pretty(&lock)
        .map_err(|e| Failure::new(Cause::Malformed, "write the package lock", e.to_string()))?;
    objects::write_atomically(dir, lock_name, (text + "\n").as_bytes())?;
    Ok(pins)
}

/// What no machine needs of a package.
fn wanted_path(path: &str) -> bool {
    !["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian", "usr/share/bug", "usr/share/info"]
        .iter()
        .any(|dir| path == *dir || path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/')))
}

struct Unpacked {
    kernel: Tree,
    /// All but kernel and loaders: programs and libraries to choose from.
    pool: Tree,
    extra: Tree,
    loaders: Tree,
}

fn unpack(distro: &Distro, extra: &[String], pins: &[Pin], cache: &PackageCache) -> Result<Unpacked, Failure> {
    let mut out =
        Unpacked { kernel: Tree::default(), pool: Tree::default(), extra: Tree::default(), loaders: Tree::default() };
    for pin in pins {
        let what = format!("unpack {} {}", pin.name, pin.version);
        let tree = archive::read_tree(&cache.unpack(pin)?, &wanted_path).map_err(malformed(&what))?;
        let known = distro.userland.contains(&pin.wanted.as_str()) || distro.grub.contains(&pin.wanted.as_str());
        if is_kernel(&pin.wanted) {
            out.kernel.merge(&tree).map_err(malformed(&what))?;
            continue;
        }
        if pin.wanted == distro.loaders {
            out.loaders = tree;
            continue;
        }
        if extra.contains(&pin.wanted) && !known {
            out.extra.merge(&tree).map_err(malformed(&what))?;
        }
        out.pool.merge(&tree).map_err(malformed(&what))?;
    }
    Ok(out)
}

/// GRUB's images, made by the unpacked `grub-mkimage` in a private directory.
fn grub_images(pool: &Tree, library_dir: &str, cache_dir: &Path) -> Result<(Bios, Vec<u8>), Failure> {
    let what = "make GRUB's images";
    let local = |e: std::io::Error| Failure::new(Cause::Local, what, e.to_string());
    let mut tree = Tree::default();
    for (path, entry) in pool.iter() {
        if let Kind::File(bytes) = &entry.kind
            && (path.starts_with("usr/lib/grub/") || path == "usr/bin/grub-mkimage")
        {
            tree.put(path, entry.mode, Kind::File(bytes.clone()));
        }
    }
    // The libraries of grub-mkimage, nothing else that happens to be an ELF file.
    let mut tools = Tree::default();
    let program = pool.bytes("usr/bin/grub-mkimage");
    let program = program.ok_or_else(|| malformed(what)("grub-common has no grub-mkimage".to_string()))?;
    tools.put("usr/bin/grub-mkimage", 0o755, Kind::File(program));
    roots::close_libraries(&mut tools, pool, library_dir).map_err(malformed(what))?;
    tools.merge(&tree).map_err(malformed(what))?;

    let temp = tempfile::Builder::new().prefix("grub-").tempdir_in(cache_dir).map_err(local)?;
    for (path, entry) in tools.iter() {
        let place = temp.path().join(path);
        match &entry.kind {
            Kind::Dir => std::fs::create_dir_all(&place).map_err(local)?,
            Kind::File(bytes) => {
                std::fs::write(&place, bytes.as_slice()).map_err(local)?;
                let mode = std::os::unix::fs::PermissionsExt::from_mode(entry.mode);
                std::fs::set_permissions(&place, mode).map_err(local)?;
            }
            Kind::Link(_) => {}
        }
    }
    let image = |target: Target| -> Result<Vec<u8>, Failure> {
        let out: PathBuf = temp.path().join(target.format());
        exec::run(what, &grub::mkimage_argv(target, temp.path(), &out), temp.path(), TOOL_DEADLINE)?;
        std::fs::read(&out).map_err(local)
    };
    let boot_img = pool.bytes("usr/lib/grub/i386-pc/boot.img");
    let boot_img = boot_img.ok_or_else(|| malformed(what)("grub-pc-bin has no boot.img".to_string()))?;
    let bios = Bios {
        boot_code: grub::boot_code(&boot_img).map_err(malformed(what))?,
        core: grub::core(&image(Target::Bios)?).map_err(malformed(what))?,
    };
    let efi = image(Target::Efi)?;
    if !efi.starts_with(b"MZ") {
        return Err(malformed(what)("the UEFI program is no PE file".to_string()));
    }
    Ok((bios, efi))
}

#[allow(clippy::too_many_arguments)]
fn assemble(
    distro: &Distro,
    extra: &[String],
    pins: &[Pin],
    node: &[u8],
    key: String,
    cache: &PackageCache,
    spec: &BuildSpec,
    report: &mut dyn FnMut(BuildEvent),
) -> Result<Artifacts, Failure> {
    let Unpacked { kernel, pool, extra: extra_tree, loaders } = unpack(distro, extra, pins, cache)?;
    report(BuildEvent::Unpacked { packages: pins.len() });

    let what = "make the first stage";
    let vmlinuz = kernel
        .iter()
        .find_map(|(path, entry)| match &entry.kind {
            Kind::File(bytes) if path.starts_with("boot/vmlinuz-") => Some(bytes.clone()),
            _ => None,
        })
        .ok_or_else(|| malformed(what)("the kernel package has no boot/vmlinuz-…".to_string()))?;
    // Linux x86 boot protocol: "HdrS" at 0x202.
    if vmlinuz.get(0x202..0x206) != Some(b"HdrS") {
        return Err(malformed(what)("boot/vmlinuz-… is no Linux kernel".to_string()));
    }
    let mut wanted_modules = modules::WANTED.to_vec();
    if extra.iter().any(|name| is_kernel(name)) {
        wanted_modules.extend(modules::HARDWARE);
    }
    let chosen = modules::choose(&kernel, &wanted_modules).map_err(malformed(what))?;
    let first = roots::first_stage(node, &kernel, &chosen).map_err(malformed(what))?;
    let archive_bytes = cpio::write(&first).map_err(malformed(what))?;
    let mut initrd = archive::compress(&archive_bytes, INITRD_LEVEL).map_err(malformed(what))?;
    initrd.resize(initrd.len().next_multiple_of(INITRD_ALIGN), 0);
    let again = archive::decompress(&initrd).and_then(|bytes| cpio::read(&bytes)).map_err(malformed(what))?;
    if again != first || initrd.len() > INITRD_MAX_BYTES {
        return Err(malformed(what)(format!(
            "{} bytes that do not read back, or more than {INITRD_MAX_BYTES}",
            initrd.len()
        )));
    }

    let what = "make the second stage";
    let os_release =
        format!("ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"rackctl node ({})\"\nVARIANT_ID=rackctl\n", distro.name);
    let second = roots::second_stage(&pool, distro.library_dir, &os_release).map_err(malformed(what))?;
    let tar = archive::write_tree(&second).map_err(malformed(what))?;
    let stage2 = archive::compress(&tar, STAGE2_LEVEL).map_err(malformed(what))?;
    let again = archive::decompress(&stage2).map_err(malformed(what))?;
    if again != tar || stage2.len() > STAGE2_MAX_BYTES {
        return Err(malformed(what)(format!(
            "{} bytes that do not read back, or more than {STAGE2_MAX_BYTES}",
            stage2.len()
        )));
    }

    let what = "make the system bundle";
    let system_root =
        roots::system(node, &pool, &extra_tree, distro.library_dir, &os_release).map_err(malformed(what))?;
    let (bios, efi) = grub_images(&pool, distro.library_dir, spec.cache_dir)?;
    let parts = Parts {
        name: distro.name,
        arch: distro.debian_arch,
        bios: Some(bios),
        efi_program: &efi,
        efi_path: "EFI/BOOT/BOOTX64.EFI",
        kernel: &vmlinuz,
        initrd: &initrd,
        root: &system_root,
    };
    let (system, disk) = bundle::write(&parts).map_err(malformed(what))?;

    let mut store = |name: &'static str, bytes: &[u8]| -> Result<objects::Object, Failure> {
        let object = objects::put(spec.objects_dir, bytes)?;
        report(BuildEvent::Stored { name, size_bytes: object.size_bytes });
        Ok(object)
    };
    let mut boot_loaders = Vec::new();
    for tftp_name in super::LOADERS {
        let bytes = loaders
            .bytes(&format!("usr/lib/ipxe/{tftp_name}"))
            .ok_or_else(|| malformed("take the network loaders")(format!("{} has no {tftp_name}", distro.loaders)))?;
        boot_loaders.push(Loader { tftp_name: tftp_name.to_string(), object: store(tftp_name, &bytes)? });
    }
    Ok(Artifacts {
        kernel: store("kernel", &vmlinuz)?,
        initrd: store("initrd", &initrd)?,
        stage2: store("stage2", &stage2)?,
        system: store("system", &system)?,
        loaders: boot_loaders,
        manifest: Some(BuildManifest {
            distro: distro.name.to_string(),
            arch: spec.arch,
            packages: pins.to_vec(),
            extra_packages: extra.to_vec(),
            node_program_sha256: exec::sha256_hex(node),
            modules: chosen.paths,
            modules_built_in: chosen.built_in,
            modules_absent: chosen.absent,
            disk,
        }),
        key,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_file_is_part_of_the_key() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/image");
        for entry in std::fs::read_dir(dir).unwrap() {
            let text = std::fs::read_to_string(entry.as_ref().unwrap().path()).unwrap();
            assert!(CODE.contains(&text.as_str()), "{:?} is not in CODE", entry.unwrap().file_name());
        }
    }

    #[test]
    fn a_dynamic_node_program_is_refused() {
        let failure = node_program(&std::env::current_exe().unwrap(), Arch::Amd64).unwrap_err();
        assert_eq!(failure.cause, Cause::Refused);
        assert!(failure.why.contains("is dynamic"), "{}", failure.why);
        let failure = node_program(&std::env::current_exe().unwrap(), Arch::Arm64).unwrap_err();
        assert_eq!(failure.cause, Cause::Mismatch);
        assert!(node_program(Path::new("/no/such"), Arch::Amd64).unwrap_err().next.is_some());
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        let image = |distro: &str, packages: &[&str]| Image::Distro {
            distro: distro.to_string(),
            arch: Arch::Amd64,
            packages: packages.iter().map(|p| p.to_string()).collect(),
        };
        assert!(distro_of(&image("debian-12", &["tcpdump"]), Arch::Amd64).is_ok());
        assert!(distro_of(&image("debian-11", &[]), Arch::Amd64).err().unwrap().why.contains("debian-12 amd64"));
        assert!(distro_of(&image("debian-12", &["-o"]), Arch::Amd64).err().unwrap().why.contains("no package name"));
        assert_eq!(distro_of(&image("debian-12", &[]), Arch::Arm64).err().unwrap().cause, Cause::Mismatch);
        assert!(distro_of(&Image::Nix { flake: "x".into() }, Arch::Amd64).is_err());
    }

    #[test]
    fn documentation_is_left_out_and_nothing_else() {
        assert!(!wanted_path("usr/share/doc/x/copyright"));
        assert!(wanted_path("usr/share/docker") && wanted_path("usr/lib/grub/i386-pc/boot.img"));
    }
}
