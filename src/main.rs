use std::process::ExitCode;

use rackctl::install::ssh_wrapper;

fn main() -> ExitCode {
    // nixos-anywhere runs us as `ssh` and `scp`: the pins come first there, and nothing else happens.
    let argv: Vec<_> = std::env::args_os().collect();
    if std::env::var_os(ssh_wrapper::PINS_ENV).is_some()
        && argv.first().and_then(|name| ssh_wrapper::Program::of(name)).is_some()
    {
        rackctl::output::stdout::note(&ssh_wrapper::main(&argv).to_string());
        return ExitCode::from(255);
    }
    // Before any TLS. An error would mean that a provider is there already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    rackctl::cli::main()
}
