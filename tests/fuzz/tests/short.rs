//! The short form of `cargo xtask fuzz`: the seeds as they are, and changed by chance.

use std::path::Path;

use cosmosflink_fuzz::mutate::mutate;
use cosmosflink_fuzz::run;

/// Inputs that are made of the seeds.
const RUNS: u64 = 20_000;

fn seeds() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(paths.len() >= 10);
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn seeds_hold() {
    seeds().iter().for_each(|seed| run(seed));
}

#[test]
fn what_is_made_of_seeds_holds() {
    let seeds = seeds();
    for number in 0..RUNS {
        let mut random = fastrand::Rng::with_seed(number);
        let (input, other) = (
            &seeds[random.usize(..seeds.len())],
            &seeds[random.usize(..seeds.len())],
        );
        let made = mutate(input, other, &mut random);
        if std::panic::catch_unwind(|| run(&made)).is_err() {
            panic!(
                "the input of number {number} does not hold; keep it in tests/fuzz/seeds:\n{}",
                String::from_utf8_lossy(&made)
            );
        }
    }
}
