//! Prints `docs/metrics.md`.
fn main() {
    print!("{}", cosmosflink_core::metrics::markdown());
}
