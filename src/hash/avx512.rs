//! Sixteen SHA-256 streams side by side (FIPS 180-4, section 6.2), one message in each 32-bit lane of AVX-512 registers.
//!
//! *Safety.* Functions name the processor features that they use, and are safe for callers that have them. An [`Engine`] exists
//! only where all of them were found at run time, so its methods are where safe code without features enters. Besides, only the
//! functions that read and write memory are `unsafe` inside: they touch exactly the bytes of the references that they are given.

use core::arch::x86_64::*;

use super::{BLOCK, DIGEST, Hash, Message};

/// Messages that are hashed at once.
pub(super) const LANES: usize = 16;

/// Sixteen lanes.
type V = __m512i;

/// First 32 bits of the fractions of the square roots of the first eight primes.
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// The same of the cube roots of the first sixty-four.
#[rustfmt::skip]
const ROUND: [[u32; 16]; 4] = [
    [
        0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
        0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
    ],
    [
        0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
        0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
    ],
    [
        0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
        0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
    ],
    [
        0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
        0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
    ],
];

/// Leave to use the processor's vector instructions: it exists only where they are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Engine(());

impl Engine {
    /// The engine, where the processor and the operating system have what it needs and what the compiler takes to come with it.
    pub(super) fn find() -> Option<Self> {
        let found = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw");
        found.then_some(Self(()))
    }

    /// Hashes of sixteen messages. It takes as long as sixteen of the longest; lanes that are done earlier wait.
    pub(super) fn messages(self, messages: &[Message<'_>; LANES]) -> [Hash; LANES] {
        // SAFETY: an engine exists only where the features are.
        unsafe { hash_messages(messages) }
    }

    /// SHA-256(prefix ‖ left ‖ right) of sixteen pairs.
    pub(super) fn pairs(self, prefix: u8, pairs: &[[&Hash; 2]; LANES]) -> [Hash; LANES] {
        // SAFETY: an engine exists only where the features are.
        unsafe { hash_pairs(prefix, pairs) }
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn hash_messages(messages: &[Message<'_>; LANES]) -> [Hash; LANES] {
    let blocks = messages.each_ref().map(Message::blocks);
    let longest = blocks.iter().copied().max().unwrap_or(0);
    let shortest = blocks.iter().copied().min().unwrap_or(0);
    let mut state = initial();
    let mut built = [[0; BLOCK]; LANES];
    for at in 0..longest {
        let mut rows = [zero(); LANES];
        for lane in 0..LANES {
            // A lane that is done goes over its last block again, and the result is not taken.
            let at = at.min(blocks[lane] - 1);
            let block = match messages[lane].whole_block(at) {
                Some(block) => block,
                None => {
                    messages[lane].build_block(at, &mut built[lane]);
                    &built[lane]
                }
            };
            rows[lane] = load(block);
        }
        let before = state;
        compress(&mut state, words_of(rows));
        if at >= shortest {
            let going_on = (0..LANES).fold(0, |mask, lane| mask | u16::from(at < blocks[lane]) << lane);
            for (lanes, before) in state.iter_mut().zip(before) {
                *lanes = _mm512_mask_blend_epi32(going_on, before, *lanes);
            }
        }
    }
    digests(state)
}

/// 65 bytes are two blocks: the prefix and all of the pair but its last byte, then that byte and the padding.
#[target_feature(enable = "avx512f,avx512bw")]
fn hash_pairs(prefix: u8, pairs: &[[&Hash; 2]; LANES]) -> [Hash; LANES] {
    const BITS: u32 = 8 * 65;
    let mut rows = [zero(); LANES];
    for (row, [left, right]) in rows.iter_mut().zip(pairs) {
        *row = load_pair(left, right);
    }
    let pair = words_of(rows);
    // Everything stands one byte further on than in the pair.
    let mut words = [zero(); LANES];
    words[0] = _mm512_or_si512(_mm512_srli_epi32::<8>(pair[0]), splat(u32::from(prefix) << 24));
    for i in 1..16 {
        words[i] = _mm512_or_si512(_mm512_slli_epi32::<24>(pair[i - 1]), _mm512_srli_epi32::<8>(pair[i]));
    }
    let mut state = initial();
    compress(&mut state, words);
    let mut words = [zero(); LANES];
    words[0] = _mm512_or_si512(_mm512_slli_epi32::<24>(pair[15]), splat(0x0080_0000));
    words[15] = splat(BITS);
    compress(&mut state, words);
    digests(state)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn initial() -> [V; 8] {
    let mut state = [zero(); 8];
    for (lanes, word) in state.iter_mut().zip(INITIAL) {
        *lanes = splat(word);
    }
    state
}

/// Word i of all sixteen blocks, for each i.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn words_of(blocks: [V; LANES]) -> [V; 16] {
    let mut words = transpose(blocks);
    for lanes in &mut words {
        *lanes = swap_bytes(*lanes);
    }
    words
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn digests(state: [V; 8]) -> [Hash; LANES] {
    let mut rows = [zero(); LANES];
    rows[..8].copy_from_slice(&state);
    let mut digests = [[0; DIGEST]; LANES];
    for (digest, lanes) in digests.iter_mut().zip(transpose(rows)) {
        store_half(digest, _mm512_castsi512_si256(swap_bytes(lanes)));
    }
    digests
}

/// Repeats a statement for each of the sixteen words of a block. Left to itself the compiler keeps a loop, and with it the
/// words in memory, since their numbers are known only while it runs; that takes half as long again.
macro_rules! for_each_word {
    (|$i:ident| $do:block) => {
        for_each_word!(@ $i $do 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (@ $i:ident $do:block $($number:literal)*) => {
        $({
            const $i: usize = $number;
            $do
        })*
    };
}
pub(crate) use for_each_word;

#[inline]
#[target_feature(enable = "avx512f")]
fn compress(state: &mut [V; 8], mut words: [V; 16]) {
    let mut turning = *state;
    for_each_word!(|I| { round::<I>(&mut turning, add(words[I], splat(ROUND[0][I]))) });
    for constants in &ROUND[1..] {
        for_each_word!(|I| {
            let schedule = add(small_sigma0(words[(I + 1) % 16]), small_sigma1(words[(I + 14) % 16]));
            words[I] = add(add(words[I], words[(I + 9) % 16]), schedule);
            round::<I>(&mut turning, add(words[I], splat(constants[I])));
        });
    }
    for (lanes, turned) in state.iter_mut().zip(turning) {
        *lanes = add(*lanes, turned);
    }
}

/// One round. Instead of moving eight registers, their names go round: in round i, a is register −i modulo 8.
#[inline]
#[target_feature(enable = "avx512f")]
fn round<const I: usize>(r: &mut [V; 8], word: V) {
    let at = |name: usize| (name + 16 - I) % 8;
    let (a, b, c, d) = (r[at(0)], r[at(1)], r[at(2)], r[at(3)]);
    let (e, f, g, h) = (r[at(4)], r[at(5)], r[at(6)], r[at(7)]);
    let choice = _mm512_ternarylogic_epi32::<0xca>(e, f, g);
    let majority = _mm512_ternarylogic_epi32::<0xe8>(a, b, c);
    let first = add(add(h, word), add(big_sigma1(e), choice));
    r[at(3)] = add(d, first);
    r[at(7)] = add(first, add(big_sigma0(a), majority));
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add(a: V, b: V) -> V {
    _mm512_add_epi32(a, b)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn xor3(a: V, b: V, c: V) -> V {
    _mm512_ternarylogic_epi32::<0x96>(a, b, c)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn big_sigma0(x: V) -> V {
    xor3(_mm512_ror_epi32::<2>(x), _mm512_ror_epi32::<13>(x), _mm512_ror_epi32::<22>(x))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn big_sigma1(x: V) -> V {
    xor3(_mm512_ror_epi32::<6>(x), _mm512_ror_epi32::<11>(x), _mm512_ror_epi32::<25>(x))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn small_sigma0(x: V) -> V {
    xor3(_mm512_ror_epi32::<7>(x), _mm512_ror_epi32::<18>(x), _mm512_srli_epi32::<3>(x))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn small_sigma1(x: V) -> V {
    xor3(_mm512_ror_epi32::<17>(x), _mm512_ror_epi32::<19>(x), _mm512_srli_epi32::<10>(x))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn zero() -> V {
    _mm512_setzero_si512()
}

/// The same number in all lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn splat(x: u32) -> V {
    _mm512_set1_epi32(x.cast_signed())
}

/// Turns the bytes of each lane round: SHA-256 reads them big-endian.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn swap_bytes(v: V) -> V {
    let order = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
    _mm512_shuffle_epi8(v, _mm512_broadcast_i32x4(order))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(block: &[u8; BLOCK]) -> V {
    // SAFETY: 64 bytes that the reference vouches for; no alignment is asked for.
    unsafe { _mm512_loadu_si512(block.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_pair(left: &Hash, right: &Hash) -> V {
    // SAFETY: twice 32 bytes that the references vouch for; no alignment is asked for.
    let (left, right) =
        unsafe { (_mm256_loadu_si256(left.as_ptr().cast()), _mm256_loadu_si256(right.as_ptr().cast())) };
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(left), right)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_half(digest: &mut Hash, v: __m256i) {
    // SAFETY: 32 bytes that the only reference vouches for; no alignment is asked for.
    unsafe { _mm256_storeu_si256(digest.as_mut_ptr().cast(), v) }
}

/// Lane j of row i becomes lane i of row j: first within groups of four rows, whose 128-bit quarters then are put together.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(rows: [V; 16]) -> [V; 16] {
    // Quarter q of `fours[j][g]`: column 4·q + j of the rows 4·g to 4·g + 3.
    let mut fours = [[zero(); 4]; 4];
    for g in 0..4 {
        let [a, b, c, d] = [rows[4 * g], rows[4 * g + 1], rows[4 * g + 2], rows[4 * g + 3]];
        let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        fours[0][g] = _mm512_unpacklo_epi64(ab_low, cd_low);
        fours[1][g] = _mm512_unpackhi_epi64(ab_low, cd_low);
        fours[2][g] = _mm512_unpacklo_epi64(ab_high, cd_high);
        fours[3][g] = _mm512_unpackhi_epi64(ab_high, cd_high);
    }
    let mut columns = [zero(); 16];
    for (j, four) in fours.into_iter().enumerate() {
        let (even01, odd01) = even_and_odd(four[0], four[1]);
        let (even23, odd23) = even_and_odd(four[2], four[3]);
        (columns[j], columns[8 + j]) = even_and_odd(even01, even23);
        (columns[4 + j], columns[12 + j]) = even_and_odd(odd01, odd23);
    }
    columns
}

/// Quarters 0 and 2 of both, and quarters 1 and 3 of both.
#[inline]
#[target_feature(enable = "avx512f")]
fn even_and_odd(a: V, b: V) -> (V, V) {
    (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b))
}
