//! `bmc users`: accounts, made and deleted, switched and unlocked, and new passwords.

use std::{
    io::{BufRead, Read},
    path::Path,
    sync::Arc,
};

use serde::Serialize;

use super::{change, look};
use crate::{
    bmc::accounts::{Account, Rules},
    cli::{args::bmc::Users as Args, ask, globals::Globals},
    model::{Failure, Secret, bmc::BmcChange, failure::Cause},
    output::{Exit, Stop, stdout},
    secrets,
};

/// Bytes of a password with its line end.
const MAX_BYTES: u64 = 4096;

#[derive(Serialize)]
struct Said {
    users: Vec<Account>,
    rules: Rules,
}

pub fn run(globals: &Globals, args: &Args) -> Result<Exit, Stop> {
    if let Some(wanted) = wished(args) {
        return carry_out(globals, args, wanted);
    }
    if args.password_file.is_some() {
        let why = "--password-file goes with --set-password or --create";
        return Err(Stop::usage(Failure::new(Cause::Refused, "bmc users", why)));
    }
    let rows = look::over(globals, &args.targets, |client| {
        Box::pin(async move {
            let (users, rules) = client.accounts().await?;
            Ok(Said { users, rules })
        })
    })?;
    look::show(
        globals,
        rows,
        |_| vec!["ID", "USER", "ROLE", "ENABLED", "LOCKED", "MUST CHANGE"],
        |said, _| {
            let line = |user: &Account| {
                vec![
                    user.id.clone(),
                    user.user.clone(),
                    look::or_dash(&user.role),
                    look::yes_no(user.enabled),
                    look::yes_no(user.locked),
                    look::yes_no(user.must_change),
                ]
            };
            said.users.iter().map(line).collect()
        },
    )
}

fn wished(args: &Args) -> Option<BmcChange> {
    let of = |user: &Option<String>, change: fn(String) -> BmcChange| user.clone().map(change);
    let created =
        args.create.clone().zip(args.role).map(|(user, role)| BmcChange::CreateUser { user, role: role.word().into() });
    created
        .or_else(|| of(&args.set_password, |user| BmcChange::SetPassword { user }))
        .or_else(|| of(&args.delete, |user| BmcChange::DeleteUser { user }))
        .or_else(|| of(&args.enable, |user| BmcChange::EnableUser { user, on: true }))
        .or_else(|| of(&args.disable, |user| BmcChange::EnableUser { user, on: false }))
        .or_else(|| of(&args.unlock, |user| BmcChange::UnlockUser { user }))
}

fn carry_out(globals: &Globals, args: &Args, wanted: BmcChange) -> Result<Exit, Stop> {
    let mut asked = change::Asked { yes: args.yes, dry_run: args.dry.dry_run, ..change::Asked::default() };
    let renewed = matches!(wanted, BmcChange::SetPassword { .. });
    if let BmcChange::SetPassword { user } | BmcChange::CreateUser { user, .. } = &wanted
        && !asked.dry_run
    {
        let password = Arc::new(new_password(user, args.password_file.as_deref())?);
        secrets::remember(&password);
        asked.secret = Some(password);
    }
    let told = renewed && !asked.dry_run;
    let done = change::run(globals, &args.targets, wanted, asked)?;
    if told {
        stdout::note(
            "where an inventory's credential is this user's, its source must give the new password from now on",
        );
    }
    Ok(done)
}

/// From the file, from a terminal without being shown, or the first line of standard input. Never from a flag, which
/// every process list shows.
fn new_password(user: &str, file: Option<&Path>) -> Result<Secret, Stop> {
    let what = format!("read the new password of `{user}`");
    let fault = |why: String| Stop::usage(Failure::new(Cause::Local, &what, why));
    let text = match file {
        Some(path) => {
            use std::os::unix::fs::PermissionsExt;
            let open = std::fs::File::open(path).map_err(|e| fault(format!("{}: {e}", path.display())))?;
            let mode = open.metadata().map_err(|e| fault(e.to_string()))?.permissions().mode();
            if mode & 0o077 != 0 {
                let why = format!("{} can be read by others (mode {:o})", path.display(), mode & 0o777);
                let failure = Failure::new(Cause::Local, &what, why).next(format!("chmod 600 {}", path.display()));
                return Err(Stop::usage(failure));
            }
            line(open).map_err(fault)?
        }
        None if stdout::stdin_is_terminal() => {
            let once = ask::password(&format!("new password of {user}"), false)?;
            let twice = ask::password("once more", false)?;
            if once.expose() != twice.expose() {
                return Err(fault("the two are not the same; nothing was done".to_owned()));
            }
            once
        }
        None => line(std::io::stdin().lock()).map_err(fault)?,
    };
    if text.expose().is_empty() {
        return Err(fault("it is empty".to_owned()));
    }
    Ok(text)
}

fn line(from: impl Read) -> Result<Secret, String> {
    let mut text = String::new();
    std::io::BufReader::new(from.take(MAX_BYTES)).read_line(&mut text).map_err(|e| e.to_string())?;
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_one_line_of_a_file_of_ones_own() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new");
        std::fs::write(&path, "correct horse \r\nsecond line\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let refused = new_password("root", Some(&path)).unwrap_err();
        assert!(refused.failures[0].why.contains("mode 644"), "{:?}", refused.failures);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(new_password("root", Some(&path)).unwrap().expose(), "correct horse ");
        std::fs::write(&path, "\n").unwrap();
        assert!(new_password("root", Some(&path)).is_err());
    }
}
