//! Signatures judged each by its own equation, eight side by side: what is left to do where the equation of a batch does not hold.
//!
//! Windows of four bits, as Straus has them: the multiples of each key and of the base that a digit can ask for are made first. Nothing is decoded
//! or hashed again.

use std::sync::OnceLock;

use super::base;
use super::msm::Digits;
use super::point::{Extended8, Niels8, Row, Slot};
use crate::planted::{self, Bug};

/// Signatures side by side.
pub(super) const LANES: usize = 8;
/// Bits of a digit.
pub(super) const WIDTH: usize = 4;
/// The largest amount of a digit.
const DIGIT_MAX: usize = 1 << (WIDTH - 1);

/// From −8 to 8 times a point.
type Table = [Slot; 2 * DIGIT_MAX + 1];

/// What is to be judged in a lane.
#[derive(Debug, Clone, Copy)]
pub(super) struct Equation<'a> {
    /// A.
    pub(super) key: &'a Row,
    /// R.
    pub(super) r: &'a Row,
    /// Digits of SHA-512(R ‖ A ‖ M).
    pub(super) k: [Digits; 2],
    /// Digits of s.
    pub(super) s: [Digits; 2],
}

/// Lanes in which \[8\](\[s\]B − \[k\]A − R) = 0.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
pub(super) fn hold(equations: &[Equation<'_>; LANES]) -> u8 {
    let of_base = base_table();
    let of_keys = tables(&Niels8::gather(equations.map(|equation| equation.key)));
    let mut sum = Extended8::identity();
    for at in (0..256 / WIDTH).rev() {
        for _ in 0..WIDTH {
            sum = sum.double();
        }
        let (mut a, mut b) = ([&of_base[DIGIT_MAX]; LANES], [&of_base[DIGIT_MAX]; LANES]);
        for (lane, equation) in equations.iter().enumerate() {
            a[lane] = &of_keys[lane][place(-digit(&equation.k, at))];
            b[lane] = &of_base[place(digit(&equation.s, at))];
        }
        sum = sum.add(&Extended8::gather(a)).add(&Extended8::gather(b));
    }
    sum = sum.add_niels(&Niels8::gather(equations.map(|equation| equation.r)).negated_in(u8::MAX));
    if !planted::is(Bug::BatchWithoutCofactor) {
        sum = sum.double().double().double();
    }
    sum.is_identity()
}

fn digit([low, high]: &[Digits; 2], at: usize) -> i16 {
    let digits = if at < 128 / WIDTH { low } else { high };
    digits.0[at % (128 / WIDTH)]
}

/// Where a table has the multiple for a digit.
fn place(digit: i16) -> usize {
    usize::from((digit + 8).unsigned_abs())
}

/// The multiples of the points of all lanes.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn tables(points: &Niels8) -> [Table; LANES] {
    let mut tables = [[Slot::IDENTITY; 2 * DIGIT_MAX + 1]; LANES];
    let mut sum = Extended8::identity();
    for amount in 1..=DIGIT_MAX {
        sum = sum.add_niels(points);
        let (plus, minus) = (sum.scatter(), sum.negated().scatter());
        for (lane, table) in tables.iter_mut().enumerate() {
            plus.put(lane, &mut table[DIGIT_MAX + amount]);
            minus.put(lane, &mut table[DIGIT_MAX - amount]);
        }
    }
    tables
}

/// The multiples of the base.
#[target_feature(enable = "avx512f,avx512dq,avx512ifma")]
fn base_table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    if let Some(table) = TABLE.get() {
        return table;
    }
    let [table, ..] = tables(&Niels8::splat(&base().row));
    TABLE.get_or_init(|| table)
}
