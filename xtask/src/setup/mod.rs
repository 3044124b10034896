//! What the chores need of this host, found and installed.

pub mod apt;
mod apt_exec;
pub mod backports;
pub mod needs;
pub mod root;
pub mod system;
pub mod tools;

use crate::{exec, trouble::Trouble};
use needs::Need;
use system::System;

/// Installs what is missing of `needs`, and sees that apt's index is there, from which images are built.
pub fn packages(needs: &[Need]) -> Result<System, Trouble> {
    let system = system::this();
    let missing = needs::missing(needs, |file| file.is_file(), exec::is_there);
    if !system.has_apt {
        return match missing.as_slice() {
            [] => Ok(system),
            _ => Err(Trouble::new(
                "set-up",
                format!(
                    "{} is neither Debian nor Ubuntu, so nothing was installed; missing:\n{}",
                    system.name,
                    needs::list(&missing)
                ),
            )
            .next("install these by this system's own means, then run the same command again")),
        };
    }
    apt_exec::fresh_index()?;
    if missing.is_empty() {
        eprintln!("every package that is needed is there");
    } else {
        apt_exec::install(&system, &missing)?;
        let still = needs::missing(needs, |file| file.is_file(), exec::is_there);
        if !still.is_empty() {
            return Err(Trouble::new(
                "set-up",
                format!("apt-get succeeded, and still missing:\n{}", needs::list(&still)),
            ));
        }
    }
    Ok(system)
}
