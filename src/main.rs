use std::process::ExitCode;

fn main() -> ExitCode {
    // Before any TLS. An error would mean that a provider is there already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    rackctl::cli::main()
}
