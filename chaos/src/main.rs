//! `aqueduct-chaos`: see `aqueduct-chaos --help`.

fn main() -> std::process::ExitCode {
    aqueduct_chaos::cli::main()
}
