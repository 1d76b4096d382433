//! Bytes of text that are looked for sixteen at a time.

/// How many bytes are looked at together.
pub const LANES: usize = 16;

/// Which of sixteen bytes are one of these: the lowest bit is the first byte.
#[cfg(target_arch = "x86_64")]
#[expect(
    unsafe_code,
    reason = "without intrinsics a compiler makes no mask of a comparison"
)]
#[inline(always)]
pub fn any_of<const N: usize>(text: &[u8; LANES], bytes: [u8; N]) -> u32 {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8, _mm_set_epi64x, _mm_setzero_si128,
    };
    let (low, high) = text.split_at(LANES / 2);
    let word = |half: &[u8]| half.first_chunk().map_or(0, |eight| i64::from_le_bytes(*eight));
    // SAFETY: SSE2 is a part of x86_64; nothing of this reads or writes memory.
    unsafe {
        let text = _mm_set_epi64x(word(high), word(low));
        let mut hits = _mm_setzero_si128();
        for byte in bytes {
            hits = _mm_or_si128(hits, _mm_cmpeq_epi8(text, _mm_set1_epi8(byte as i8)));
        }
        _mm_movemask_epi8(hits) as u32
    }
}

/// Which of sixteen bytes are one of these: the lowest bit is the first byte.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub fn any_of<const N: usize>(text: &[u8; LANES], bytes: [u8; N]) -> u32 {
    in_words(text, bytes)
}

/// [`any_of`] with nothing but whole numbers.
#[cfg(any(test, not(target_arch = "x86_64")))]
#[inline(always)]
fn in_words<const N: usize>(text: &[u8; LANES], bytes: [u8; N]) -> u32 {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const REST: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let (low, high) = text.split_at(LANES / 2);
    let half = |half: &[u8]| {
        let text = half.first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight));
        let hits = bytes.iter().fold(0, |hits, byte| {
            let x = text ^ (LOW * u64::from(*byte));
            // The high bit of each byte that is zero; no carry leaves its byte.
            hits | !(((x & REST) + REST) | x | REST)
        });
        // Byte `i` goes to bit 56 + `i`, and no two to the same one.
        ((hits >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32
    };
    half(low) | half(high) << (LANES / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_byte_is_found_where_it_is(text in proptest::array::uniform16(prop_oneof![Just(b'"'), Just(b'\\'), any::<u8>()])) {
            for wanted in [[b'"', b'\\'], [0, 0x80], [0xff, 0x7f], [text[3], text[12]]] {
                let expected = (0..LANES).filter(|i| wanted.contains(&text[*i])).map(|i| 1u32 << i).sum::<u32>();
                prop_assert_eq!(any_of(&text, wanted), expected);
                prop_assert_eq!(in_words(&text, wanted), expected);
            }
            prop_assert_eq!(any_of(&text, []), 0);
        }
    }
}
