//! Latencies between regions of a public cloud, as they were measured.

/// Regions of the table.
pub(super) const REGIONS: usize = 10;

/// Round trips in hundredths of a millisecond between regions of Amazon's cloud: Northern Virginia, Northern California,
/// Oregon, Ireland, Frankfurt, Tokyo, Seoul, Singapore, Sydney, São Paulo. Averages of pings, published 2017 as "Latency
/// Between AWS Global Regions" (quoted at acomputerscientistlearnsaws.blogspot.com/2017/04/aws-regions.html). Within a
/// region: 1 ms.
const ROUND_TRIP: [[u64; REGIONS]; REGIONS] = [
    [100, 7_274, 8_698, 8_055, 8_866, 14_530, 17_840, 21_670, 23_000, 11_950],
    [7_163, 100, 1_946, 15_320, 16_660, 10_250, 13_150, 17_400, 15_750, 19_270],
    [8_868, 1_920, 100, 13_700, 15_950, 8_910, 11_830, 16_140, 16_220, 18_270],
    [8_052, 15_320, 13_700, 100, 1_956, 21_240, 24_240, 23_900, 30_960, 19_130],
    [8_862, 16_660, 15_950, 1_955, 100, 23_650, 26_620, 32_590, 32_350, 19_490],
    [14_530, 10_250, 8_916, 21_240, 23_660, 100, 3_144, 7_379, 10_390, 25_680],
    [17_660, 13_260, 11_820, 24_240, 26_530, 3_132, 100, 7_187, 13_400, 28_630],
    [21_670, 17_390, 16_140, 23_810, 32_590, 7_381, 7_129, 100, 17_530, 32_810],
    [22_970, 15_780, 16_190, 30_960, 32_320, 10_390, 13_400, 17_540, 100, 32_250],
    [11_950, 19_270, 18_270, 19_130, 19_490, 25_680, 28_630, 32_810, 32_250, 100],
];

/// One way between the regions of two hosts, microseconds: half of the round trip. Hosts are spread over the regions in turn.
pub(super) fn one_way_us(from: usize, to: usize) -> u64 {
    ROUND_TRIP[from % REGIONS][to % REGIONS] * 5
}

/// The longest way.
pub(super) const LONGEST_US: u64 = 32_810 * 5;

/// Mean way between two different hosts of `hosts`, microseconds.
pub(super) fn mean_us(hosts: usize) -> u64 {
    let ways = (0..hosts).flat_map(|a| (0..hosts).filter(move |b| *b != a).map(move |b| one_way_us(a, b)));
    let (count, sum) = ways.fold((0, 0), |(count, sum), way| (count + 1, sum + way));
    sum / u64::max(count, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back_take_about_the_same_and_no_way_is_longer_than_the_longest() {
        for a in 0..REGIONS {
            for b in 0..REGIONS {
                assert!(one_way_us(a, b).abs_diff(one_way_us(b, a)) < 1_000, "{a} {b}");
                assert!(one_way_us(a, b) <= LONGEST_US);
            }
        }
        assert_eq!(one_way_us(3, 14), 9_780);
        assert!((60_000..100_000).contains(&mean_us(10)), "{}", mean_us(10));
    }
}
