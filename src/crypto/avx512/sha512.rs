//! Eight SHA-512 streams side by side (FIPS 180-4, section 6.4), one message in each lane.

use core::arch::x86_64::*;

use super::lanes::{V, load_bytes, splat, store_bytes, transpose};
use crate::hash::for_each_word;

/// Bytes of a block.
const BLOCK: usize = 128;

/// First 64 bits of the fractions of the square roots of the first eight primes.
#[rustfmt::skip]
const INITIAL: [u64; 8] = [
    0x6a09_e667_f3bc_c908, 0xbb67_ae85_84ca_a73b, 0x3c6e_f372_fe94_f82b, 0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1, 0x9b05_688c_2b3e_6c1f, 0x1f83_d9ab_fb41_bd6b, 0x5be0_cd19_137e_2179,
];

/// The same of the cube roots of the first eighty.
#[rustfmt::skip]
const ROUND: [[u64; 16]; 5] = [
    [
        0x428a_2f98_d728_ae22, 0x7137_4491_23ef_65cd, 0xb5c0_fbcf_ec4d_3b2f, 0xe9b5_dba5_8189_dbbc,
        0x3956_c25b_f348_b538, 0x59f1_11f1_b605_d019, 0x923f_82a4_af19_4f9b, 0xab1c_5ed5_da6d_8118,
        0xd807_aa98_a303_0242, 0x1283_5b01_4570_6fbe, 0x2431_85be_4ee4_b28c, 0x550c_7dc3_d5ff_b4e2,
        0x72be_5d74_f27b_896f, 0x80de_b1fe_3b16_96b1, 0x9bdc_06a7_25c7_1235, 0xc19b_f174_cf69_2694,
    ],
    [
        0xe49b_69c1_9ef1_4ad2, 0xefbe_4786_384f_25e3, 0x0fc1_9dc6_8b8c_d5b5, 0x240c_a1cc_77ac_9c65,
        0x2de9_2c6f_592b_0275, 0x4a74_84aa_6ea6_e483, 0x5cb0_a9dc_bd41_fbd4, 0x76f9_88da_8311_53b5,
        0x983e_5152_ee66_dfab, 0xa831_c66d_2db4_3210, 0xb003_27c8_98fb_213f, 0xbf59_7fc7_beef_0ee4,
        0xc6e0_0bf3_3da8_8fc2, 0xd5a7_9147_930a_a725, 0x06ca_6351_e003_826f, 0x1429_2967_0a0e_6e70,
    ],
    [
        0x27b7_0a85_46d2_2ffc, 0x2e1b_2138_5c26_c926, 0x4d2c_6dfc_5ac4_2aed, 0x5338_0d13_9d95_b3df,
        0x650a_7354_8baf_63de, 0x766a_0abb_3c77_b2a8, 0x81c2_c92e_47ed_aee6, 0x9272_2c85_1482_353b,
        0xa2bf_e8a1_4cf1_0364, 0xa81a_664b_bc42_3001, 0xc24b_8b70_d0f8_9791, 0xc76c_51a3_0654_be30,
        0xd192_e819_d6ef_5218, 0xd699_0624_5565_a910, 0xf40e_3585_5771_202a, 0x106a_a070_32bb_d1b8,
    ],
    [
        0x19a4_c116_b8d2_d0c8, 0x1e37_6c08_5141_ab53, 0x2748_774c_df8e_eb99, 0x34b0_bcb5_e19b_48a8,
        0x391c_0cb3_c5c9_5a63, 0x4ed8_aa4a_e341_8acb, 0x5b9c_ca4f_7763_e373, 0x682e_6ff3_d6b2_b8a3,
        0x748f_82ee_5def_b2fc, 0x78a5_636f_4317_2f60, 0x84c8_7814_a1f0_ab72, 0x8cc7_0208_1a64_39ec,
        0x90be_fffa_2363_1e28, 0xa450_6ceb_de82_bde9, 0xbef9_a3f7_b2c6_7915, 0xc671_78f2_e372_532b,
    ],
    [
        0xca27_3ece_ea26_619c, 0xd186_b8c7_21c0_c207, 0xeada_7dd6_cde0_eb1e, 0xf57d_4f7f_ee6e_d178,
        0x06f0_67aa_7217_6fba, 0x0a63_7dc5_a2c8_98a6, 0x113f_9804_bef9_0dae, 0x1b71_0b35_131c_471b,
        0x28db_77f5_2304_7d84, 0x32ca_ab7b_40c7_2493, 0x3c9e_be0a_15c9_bebc, 0x431d_67c4_9c10_0d4c,
        0x4cc5_d4be_cb3e_42b6, 0x597f_299c_fc65_7e2a, 0x5fcb_6fab_3ad6_faec, 0x6c44_198c_4a47_5817,
    ],
];

/// Eight messages, padded. The memory is kept from one use to the next.
#[derive(Debug, Default)]
pub(super) struct Messages {
    padded: [Vec<[u8; BLOCK]>; 8],
    blocks: [usize; 8],
}

impl Messages {
    /// Puts a message into a lane: two parts of 32 bytes and two of any length.
    pub(super) fn set(&mut self, lane: usize, heads: [&[u8; 32]; 2], tails: [&[u8]; 2]) {
        let length = 64 + tails[0].len() + tails[1].len();
        // The length takes the last sixteen bytes of a block, behind a byte that ends the message.
        let blocks = (length + 1 + 16).div_ceil(BLOCK);
        let padded = &mut self.padded[lane];
        if padded.len() < blocks {
            padded.resize(blocks, [0; BLOCK]);
        }
        // What is not message lies in the last two blocks. Whole blocks are zeroed in place of parts: that takes no calls.
        padded[blocks - 1] = [0; BLOCK];
        padded[blocks.saturating_sub(2)] = [0; BLOCK];
        let bytes = padded[..blocks].as_flattened_mut();
        bytes[..32].copy_from_slice(heads[0]);
        bytes[32..64].copy_from_slice(heads[1]);
        let middle = 64 + tails[0].len();
        bytes[64..middle].copy_from_slice(tails[0]);
        bytes[middle..length].copy_from_slice(tails[1]);
        bytes[length] = 0x80;
        let bits = 8 * length as u64;
        bytes[blocks * BLOCK - 8..].copy_from_slice(&bits.to_be_bytes());
        self.blocks[lane] = blocks;
    }

    fn block(&self, lane: usize, at: usize) -> &[u8; BLOCK] {
        // A lane that is done goes over its last block again, and the result is not taken.
        &self.padded[lane][at.min(self.blocks[lane] - 1)]
    }
}

/// The digests.
///
/// # Panics
/// If a lane was never set.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn hash(messages: &Messages) -> [[u8; 64]; 8] {
    let longest = messages.blocks.iter().copied().max().unwrap_or(0);
    let swap = _mm512_broadcast_i32x4(_mm_set_epi8(8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
    let mut state = [splat(0); 8];
    for (lanes, word) in state.iter_mut().zip(INITIAL) {
        *lanes = splat(word);
    }
    for at in 0..longest {
        let (mut low, mut high) = ([splat(0); 8], [splat(0); 8]);
        for lane in 0..8 {
            let (halves, _) = messages.block(lane, at).as_chunks::<64>();
            (low[lane], high[lane]) = (load_bytes(&halves[0]), load_bytes(&halves[1]));
        }
        let (low, high) = (transpose(low), transpose(high));
        let mut words = [splat(0); 16];
        for i in 0..8 {
            words[i] = _mm512_shuffle_epi8(low[i], swap);
            words[i + 8] = _mm512_shuffle_epi8(high[i], swap);
        }
        let before = state;
        compress(&mut state, words);
        let going_on = (0..8).fold(0, |mask, lane| mask | u8::from(at < messages.blocks[lane]) << lane);
        if going_on != u8::MAX {
            for (lanes, before) in state.iter_mut().zip(before) {
                *lanes = _mm512_mask_blend_epi64(going_on, before, *lanes);
            }
        }
    }
    let mut digests = [[0; 64]; 8];
    for (digest, lanes) in digests.iter_mut().zip(transpose(state)) {
        store_bytes(digest, _mm512_shuffle_epi8(lanes, swap));
    }
    digests
}

#[inline]
#[target_feature(enable = "avx512f")]
fn compress(state: &mut [V; 8], mut words: [V; 16]) {
    let mut turning = *state;
    for_each_word!(|I| { round::<I>(&mut turning, _mm512_add_epi64(words[I], splat(ROUND[0][I]))) });
    for constants in &ROUND[1..] {
        for_each_word!(|I| {
            let schedule =
                _mm512_add_epi64(small_sigma0(words[(I + 1) % 16]), small_sigma1(words[(I + 14) % 16]));
            words[I] = _mm512_add_epi64(_mm512_add_epi64(words[I], words[(I + 9) % 16]), schedule);
            round::<I>(&mut turning, _mm512_add_epi64(words[I], splat(constants[I])));
        });
    }
    for (lanes, turned) in state.iter_mut().zip(turning) {
        *lanes = _mm512_add_epi64(*lanes, turned);
    }
}

/// One round. Instead of moving eight registers, their names go round: in round i, a is register −i modulo 8.
#[inline]
#[target_feature(enable = "avx512f")]
fn round<const I: usize>(r: &mut [V; 8], word: V) {
    let at = |name: usize| (name + 16 - I) % 8;
    let (a, b, c, d) = (r[at(0)], r[at(1)], r[at(2)], r[at(3)]);
    let (e, f, g, h) = (r[at(4)], r[at(5)], r[at(6)], r[at(7)]);
    let choice = _mm512_ternarylogic_epi64::<0xca>(e, f, g);
    let majority = _mm512_ternarylogic_epi64::<0xe8>(a, b, c);
    let first = _mm512_add_epi64(_mm512_add_epi64(h, word), _mm512_add_epi64(big_sigma1(e), choice));
    r[at(3)] = _mm512_add_epi64(d, first);
    r[at(7)] = _mm512_add_epi64(first, _mm512_add_epi64(big_sigma0(a), majority));
}

#[inline]
#[target_feature(enable = "avx512f")]
fn xor3(a: V, b: V, c: V) -> V {
    _mm512_ternarylogic_epi64::<0x96>(a, b, c)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn big_sigma0(x: V) -> V {
    xor3(_mm512_ror_epi64::<28>(x), _mm512_ror_epi64::<34>(x), _mm512_ror_epi64::<39>(x))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn big_sigma1(x: V) -> V {
    xor3(_mm512_ror_epi64::<14>(x), _mm512_ror_epi64::<18>(x), _mm512_ror_epi64::<41>(x))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn small_sigma0(x: V) -> V {
    xor3(_mm512_ror_epi64::<1>(x), _mm512_ror_epi64::<8>(x), _mm512_srli_epi64::<7>(x))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn small_sigma1(x: V) -> V {
    xor3(_mm512_ror_epi64::<19>(x), _mm512_ror_epi64::<61>(x), _mm512_srli_epi64::<6>(x))
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha512};

    use super::*;

    /// Every length up to four blocks, eight different ones at a time.
    #[test]
    fn eight_streams_are_eight_times_one() {
        if !super::super::is_supported() {
            return;
        }
        let bytes: Vec<u8> = (0..=255).cycle().take(4 * BLOCK).collect();
        let heads = [[1; 32], [2; 32]];
        let mut messages = Messages::default();
        for first in 0..3 * BLOCK {
            let length = |lane: usize| (first + 37 * lane) % (4 * BLOCK);
            for lane in 0..8 {
                let (front, back) = bytes[..length(lane)].split_at(length(lane) / 3);
                messages.set(lane, heads.each_ref(), [front, back]);
            }
            // SAFETY: the features were found.
            let digests = unsafe { hash(&messages) };
            for (lane, digest) in digests.iter().enumerate() {
                let expected = Sha512::new()
                    .chain_update(heads.as_flattened())
                    .chain_update(&bytes[..length(lane)])
                    .finalize();
                assert_eq!(digest[..], expected[..], "{} bytes", 64 + length(lane));
            }
        }
    }
}
