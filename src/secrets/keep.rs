//! Keeping a password where the inventory says it is read from.

use std::{io::Write, os::unix::fs::OpenOptionsExt, path::Path, time::Duration};

use super::load;
use crate::model::{
    Failure, Secret,
    failure::Cause,
    fleet::{Credential, SecretSource},
};

const LIMIT: Duration = Duration::from_secs(10);

/// Whether [`keep`] can write there at all: asked before a person types anything. `Err` says where to change it instead.
pub fn can_keep(name: &str, credential: &Credential) -> Result<(), Failure> {
    let why = match &credential.password_from {
        SecretSource::Keyring(_) | SecretSource::File(_) => return Ok(()),
        SecretSource::Env(variable) => format!("it is read from the environment variable {variable}: set it there"),
        SecretSource::Exec { command } => {
            let program = command.first().map_or("a program", String::as_str);
            format!("`{program}` gives it: change it there")
        }
        SecretSource::Age(file) => {
            format!("it lies encrypted in {}: `age --encrypt --recipient … --output` makes it anew", file.display())
        }
        SecretSource::Sops(file) => format!("it lies encrypted in {0}: `sops {0}` changes it", file.display()),
    };
    Err(Failure::new(Cause::Guard, format!("keep the password of credential `{name}`"), why)
        .next(format!("rackctl describe credential {name}")))
}

/// Keeps it, and reads it back.
///
/// # Errors
/// [`can_keep`] says no, the store is not there, or it gives something else back.
pub async fn keep(name: &str, credential: &Credential, secret: &Secret) -> Result<(), Failure> {
    can_keep(name, credential)?;
    let what = format!("keep the password of credential `{name}`");
    match &credential.password_from {
        SecretSource::Keyring(entry) => keyring(&what, entry, secret).await?,
        SecretSource::File(path) => {
            file(path, secret).map_err(|e| Failure::new(Cause::Local, &what, format!("{}: {e}", path.display())))?;
        }
        _ => {}
    }
    let read = load::password(name, credential).await?;
    if read.expose() == secret.expose() {
        return Ok(());
    }
    Err(Failure::new(Cause::AcceptedButIgnored, what, "what is read back is not what was written"))
}

/// Beside the old one, then in its place: a crash leaves one or the other, and nobody else can read either.
fn file(path: &Path, secret: &Secret) -> std::io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let fresh = folder.join(name);
    let written = (|| {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(secret.expose().as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)?;
        std::fs::File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&fresh);
    }
    written
}

async fn keyring(what: &str, entry: &str, secret: &Secret) -> Result<(), Failure> {
    let (service, user) = load::keyring_entry(what, entry)?;
    let text = Secret::new(secret.expose().to_owned());
    let write = tokio::task::spawn_blocking(move || {
        keyring::Entry::new(&service, &user).and_then(|entry| entry.set_password(text.expose()))
    });
    match tokio::time::timeout(LIMIT, write).await {
        Err(_) => Err(load::no_keyring(what, format!("the keyring did not answer within {} s", LIMIT.as_secs()))),
        Ok(Err(e)) => Err(load::no_keyring(what, e.to_string())),
        Ok(Ok(Err(keyring::Error::NoStorageAccess(e) | keyring::Error::PlatformFailure(e)))) => {
            Err(load::no_keyring(what, format!("this host offers no keyring to this user: {e}")))
        }
        Ok(Ok(Err(e))) => Err(load::no_keyring(what, e.to_string())),
        Ok(Ok(Ok(()))) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn from(source: SecretSource) -> Credential {
        Credential { username: "root".into(), password_from: source }
    }

    #[tokio::test]
    async fn a_file_is_made_anew_and_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets/bmc");
        let credential = from(SecretSource::File(path.clone()));
        for text in ["correct horse", "battery staple"] {
            keep("c", &credential, &Secret::new(text.into())).await.unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{text}\n"));
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[tokio::test]
    async fn sources_of_others_are_named_and_left_alone() {
        for (source, word) in [
            (SecretSource::Env("BMC_PASSWORD".into()), "BMC_PASSWORD"),
            (SecretSource::Exec { command: vec!["pass".into(), "show".into()] }, "`pass`"),
            (SecretSource::Age("x.age".into()), "age --encrypt"),
            (SecretSource::Sops("x.yaml".into()), "sops x.yaml"),
        ] {
            let failure = keep("c", &from(source), &Secret::new("x".into())).await.unwrap_err();
            assert!(failure.cause == Cause::Guard && failure.why.contains(word), "{failure}");
        }
    }
}
