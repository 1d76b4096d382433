//! Changes of inputs by chance, for where there is no libFuzzer: the same ones for the same seed.

/// Pieces that matter to a plan or to JSON.
const PIECES: [&[u8]; 34] = [
    b"null",
    b"true",
    b"false",
    b"{}",
    b"[]",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\"a\":",
    b"\"b\":",
    b"\"id\":",
    b",",
    b":",
    b"\\u0061",
    b"\\ud83d\\ude00",
    b"\\ud800",
    b"\\",
    b"-0",
    b"1e2",
    b"1.50",
    b"-9223372036854775808",
    b"99999999999999999999999999999999999999",
    b"1e-400",
    b"\"2026-02-30\"",
    b"\"2026-11-24T10:15:30.123456Z\"",
    b"\"2026-11-24 10:15:30\"",
    b"\"AQI=\"",
    b"\n",
    b"\n~",
    b"(a4b!S)",
    b"[{",
    b"/a",
];

/// Changes an input in a few places; `other` is one to take pieces of.
pub fn mutate(input: &[u8], other: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut made = input.to_vec();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(..=made.len());
        let rest = made.len() - at;
        match random.u8(..6) {
            0 if rest > 0 => made[at] = random.u8(..),
            1 if rest > 0 => made[at] ^= 1 << random.u8(..8),
            2 => {
                made.drain(at..at + random.usize(..=rest.min(8)));
            }
            3 => {
                let from = random.usize(..=other.len());
                let to = random.usize(from..=other.len());
                made.splice(at..at, other[from..to].iter().copied());
            }
            4 => {
                let to = at + random.usize(..=rest);
                let piece = made[at..to].to_vec();
                made.splice(at..at, piece);
            }
            _ => {
                let piece = PIECES[random.usize(..PIECES.len())];
                made.splice(at..at, piece.iter().copied());
            }
        }
        made.truncate(4096);
    }
    made
}
