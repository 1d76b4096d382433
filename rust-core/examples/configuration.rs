//! Prints `docs/configuration.md`.
fn main() {
    print!("{}", cosmosflink_core::config::markdown());
}
