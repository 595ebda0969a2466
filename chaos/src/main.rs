//! `aqueduct-chaos`: see `aqueduct-chaos --help`.

fn main() -> std::process::ExitCode {
    eprintln!("aqueduct-chaos: nothing is wired yet");
    std::process::ExitCode::from(64)
}
