//! Whether a sum of multiples of points is neutral, up to the cofactor: Pippenger's buckets, eight windows of the scalars at a
//! time, one in each lane.
//!
//! A point goes into a bucket of each window, and the lanes of one addition are the windows: all add the same point, each to a bucket of its
//! own. Then the buckets of each window are summed up with their weights, and the windows with theirs. That is the same work for few points
//! as for many, so factors have 128 bits at most: of longer ones the upper half counts for the point times 2¹²⁸.

use core::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_movepi16_mask};

use super::point::{Extended8, Niels8, Row, Slot};
use crate::planted::{self, Bug};

/// Signed digits of a number of an amount below 2¹²⁸, lowest first; 16 of eight bits or 32 of four.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Digits(pub(super) [i16; 32]);

/// Windows side by side.
const LANES: usize = 8;
/// Buckets of one window with digits of eight bits: amounts from 0 to 128. Bucket 0 takes what counts for nothing.
const BUCKETS_MAX: usize = 129;

/// Points with their factors, and the buckets.
#[derive(Debug)]
pub(super) struct Multiples {
    rows: Vec<Row>,
    digits: Vec<Digits>,
    buckets: Box<[[Slot; BUCKETS_MAX]; LANES]>,
}

impl Multiples {
    pub(super) fn new() -> Self {
        let buckets = vec![[Slot::IDENTITY; BUCKETS_MAX]; LANES].into_boxed_slice();
        let buckets = buckets.try_into().unwrap_or_else(|_| unreachable!("as many as there are"));
        Self { rows: Vec::new(), digits: Vec::new(), buckets }
    }

    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.digits.clear();
    }

    /// Adds a point with its factor.
    pub(super) fn push(&mut self, row: Row, digits: Digits) {
        self.rows.push(row);
        self.digits.push(digits);
    }

    /// Whether eight times the sum is neutral, with digits of W bits in G groups of eight windows: W · G = 16.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512ifma")]
    pub(super) fn cancel<const W: usize, const G: usize>(&mut self) -> bool {
        const { assert!(W * G == 16 && W <= 8) };
        let mut sum = Extended8::identity();
        // Groups from the highest down; lane l of group g weighs 2^(W (8g + l)).
        for group in (0..G).rev() {
            if group < G - 1 {
                for _ in 0..LANES * W {
                    sum = sum.double();
                }
            }
            let buckets = const { (1 << (W - 1)) + 1 };
            self.fill(buckets, group);
            sum = sum.add(&self.weigh(buckets));
        }
        let mut lanes = [Slot::IDENTITY; LANES];
        let points = sum.scatter();
        for (lane, slot) in lanes.iter_mut().enumerate() {
            points.put(lane, slot);
        }
        let mut all = Extended8::gather([&lanes[LANES - 1]; LANES]);
        for slot in lanes[..LANES - 1].iter().rev() {
            for _ in 0..W {
                all = all.double();
            }
            all = all.add(&Extended8::gather([slot; LANES]));
        }
        if !planted::is(Bug::BatchWithoutCofactor) {
            all = all.double().double().double();
        }
        all.is_identity() == u8::MAX
    }

    /// Puts the points into the buckets of a group's windows. The one place of this addition, which is so put
    /// in line: most of the time goes here.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512ifma")]
    fn fill(&mut self, buckets: usize, group: usize) {
        for lane in self.buckets.iter_mut() {
            lane[..buckets].fill(Slot::IDENTITY);
        }
        for (row, digits) in self.rows.iter().zip(&self.digits) {
            let (groups, _) = digits.0.as_chunks::<LANES>();
            let digits = &groups[group];
            let [b0, b1, b2, b3, b4, b5, b6, b7] = &mut *self.buckets;
            // No digit is larger; that way the compiler knows too, and the loop has no branches.
            let at = |lane: usize| usize::from(digits[lane].unsigned_abs()).min(BUCKETS_MAX - 1);
            let slots = [
                &mut b0[at(0)],
                &mut b1[at(1)],
                &mut b2[at(2)],
                &mut b3[at(3)],
                &mut b4[at(4)],
                &mut b5[at(5)],
                &mut b6[at(6)],
                &mut b7[at(7)],
            ];
            Extended8::add_niels_to(slots, &Niels8::splat(row).negated_in(negative(digits)));
        }
    }

    /// Sums up the buckets of each window: bucket b counts b times, as part of every sum from b down to 1.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512ifma")]
    fn weigh(&self, buckets: usize) -> Extended8 {
        let mut above = Extended8::identity();
        let mut sum = Extended8::identity();
        for bucket in (1..buckets).rev() {
            let mut slots = [&self.buckets[0][0]; LANES];
            for (lane, slot) in slots.iter_mut().enumerate() {
                *slot = &self.buckets[lane][bucket];
            }
            above = above.add(&Extended8::gather(slots));
            sum = sum.add(&above);
        }
        sum
    }
}

/// Lanes whose digit is negative.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl")]
fn negative(digits: &[i16; LANES]) -> u8 {
    // SAFETY: sixteen bytes that the reference vouches for; no alignment is asked for.
    let digits: __m128i = unsafe { _mm_loadu_si128(digits.as_ptr().cast()) };
    _mm_movepi16_mask(digits)
}
