//! Eight 64-bit lanes of a vector register: what goes in and out of memory, and the turn of a square of eight by eight.
//!
//! The functions are safe for whoever has the features that they name; see [`super`] for who calls the first of them. What is
//! `unsafe` here reads or writes exactly the 64 bytes of the reference that it is given.

use core::arch::x86_64::*;

/// Eight lanes.
pub(super) type V = __m512i;

/// Eight lanes in memory: a cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u64; 8]);

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load(line: &Line) -> V {
    // SAFETY: 64 bytes that the reference vouches for, aligned to 64 by the type.
    unsafe { _mm512_load_si512((&raw const *line).cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store(line: &mut Line, v: V) {
    // SAFETY: as in `load`; the reference is the only one.
    unsafe { _mm512_store_si512((&raw mut *line).cast(), v) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load_bytes(bytes: &[u8; 64]) -> V {
    // SAFETY: 64 bytes that the reference vouches for; no alignment is asked for.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store_bytes(bytes: &mut [u8; 64], v: V) {
    // SAFETY: as in `load_bytes`; the reference is the only one.
    unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), v) }
}

/// The same number in all lanes.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn splat(x: u64) -> V {
    _mm512_set1_epi64(x.cast_signed())
}

/// Lane j of row i becomes lane i of row j.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transpose(r: [V; 8]) -> [V; 8] {
    // Even and odd columns of pairs of rows, then halves of four rows, then of eight.
    let (e0, o0) = (_mm512_unpacklo_epi64(r[0], r[1]), _mm512_unpackhi_epi64(r[0], r[1]));
    let (e1, o1) = (_mm512_unpacklo_epi64(r[2], r[3]), _mm512_unpackhi_epi64(r[2], r[3]));
    let (e2, o2) = (_mm512_unpacklo_epi64(r[4], r[5]), _mm512_unpackhi_epi64(r[4], r[5]));
    let (e3, o3) = (_mm512_unpacklo_epi64(r[6], r[7]), _mm512_unpackhi_epi64(r[6], r[7]));
    let c04 = (_mm512_shuffle_i64x2::<0x88>(e0, e1), _mm512_shuffle_i64x2::<0x88>(e2, e3));
    let c26 = (_mm512_shuffle_i64x2::<0xdd>(e0, e1), _mm512_shuffle_i64x2::<0xdd>(e2, e3));
    let c15 = (_mm512_shuffle_i64x2::<0x88>(o0, o1), _mm512_shuffle_i64x2::<0x88>(o2, o3));
    let c37 = (_mm512_shuffle_i64x2::<0xdd>(o0, o1), _mm512_shuffle_i64x2::<0xdd>(o2, o3));
    [
        _mm512_shuffle_i64x2::<0x88>(c04.0, c04.1),
        _mm512_shuffle_i64x2::<0x88>(c15.0, c15.1),
        _mm512_shuffle_i64x2::<0x88>(c26.0, c26.1),
        _mm512_shuffle_i64x2::<0x88>(c37.0, c37.1),
        _mm512_shuffle_i64x2::<0xdd>(c04.0, c04.1),
        _mm512_shuffle_i64x2::<0xdd>(c15.0, c15.1),
        _mm512_shuffle_i64x2::<0xdd>(c26.0, c26.1),
        _mm512_shuffle_i64x2::<0xdd>(c37.0, c37.1),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_square_is_turned() {
        if !super::super::is_supported() {
            return;
        }
        let rows: [Line; 8] =
            std::array::from_fn(|row| Line(std::array::from_fn(|column| (8 * row + column) as u64)));
        // SAFETY: the features were found.
        let turned = unsafe { turn(&rows) };
        for (row, line) in turned.iter().enumerate() {
            for (column, lane) in line.0.iter().enumerate() {
                assert_eq!(*lane, (8 * column + row) as u64);
            }
        }
    }

    #[target_feature(enable = "avx512f")]
    fn turn(rows: &[Line; 8]) -> [Line; 8] {
        let mut loaded = [splat(0); 8];
        for (lanes, row) in loaded.iter_mut().zip(rows) {
            *lanes = load(row);
        }
        let mut turned = [Line([0; 8]); 8];
        for (line, lanes) in turned.iter_mut().zip(transpose(loaded)) {
            store(line, lanes);
        }
        turned
    }
}
