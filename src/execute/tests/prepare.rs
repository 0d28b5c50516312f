//! What is prepared on many cores.

use super::world::{World, anchor};
use crate::execute::Verdict;
use crate::execute::prepare::{
    INNER_SHARED_FROM, PreparedBlock, SHARED_FROM, inner_of, prepare, prepare_part, together, transactions,
};
use crate::execute::rules::Constants;

#[test]
fn what_many_cores_prepare_is_what_one_does_piece_by_piece() {
    let mut world = World::new();
    let blocks: Vec<(Vec<bytes::Bytes>, Verdict)> = (0..5_u32)
        .map(|block| {
            let n = [0, 1, 7, 40, 100][block as usize];
            let mut all: Vec<bytes::Bytes> = (0..n)
                .map(|i| match i % 4 {
                    0 => world.key_add(1, 100 + block * 100 + i, crate::types::Roles::RECORD).bytes().clone(),
                    1 => bytes::Bytes::from(vec![7; i as usize]),
                    _ => world.tx(1, 1, &anchor(u8::try_from(i).unwrap(), None)).bytes().clone(),
                })
                .collect();
            // One whose key and proof do not belong together.
            if let Some(first) = all.first_mut() {
                let mut altered = first.to_vec();
                let at = altered.len() - 70;
                altered[at] ^= 1;
                *first = altered.into();
            }
            (
                all,
                [Verdict::Valid, Verdict::Invalid, Verdict::UnknownKey, Verdict::Valid, Verdict::Valid]
                    [block as usize],
            )
        })
        .collect();
    let dag = world.dag(&blocks);
    let constants = Constants::new(&world.genesis);
    assert!(transactions(&dag.blocks) >= SHARED_FROM);
    let shared = prepare(&dag.blocks, &constants);
    let alone: Vec<PreparedBlock> = dag
        .blocks
        .iter()
        .map(|block| {
            let one = |at: usize| {
                let mut one = prepare_part(block, at..at + 1, &constants).pop().unwrap();
                if let Some(one) = one.as_mut().filter(|_| block.verdicts[at] == Verdict::Valid) {
                    one.inner = one.body.as_ref().and_then(|body| inner_of(body, &constants));
                }
                one
            };
            (0..block.payload.len()).map(one).collect()
        })
        .collect();
    assert_eq!(shared, alone);
    let all = shared.iter().flatten().flatten();
    let checked = all.clone().filter(|tx| tx.inner.is_some()).count();
    assert!(checked >= INNER_SHARED_FROM, "they are shared");
    // And a commit in which neither transactions nor signatures are enough for that.
    let few = dag.blocks[2..3].iter().map(|block| prepare_part(block, 0..block.payload.len(), &constants));
    assert_eq!(prepare(&dag.blocks[2..3], &constants), few.collect::<Vec<_>>(), "of keys that nobody knows");
    let inner = |wanted: Option<bool>| all.clone().any(|tx| tx.inner.map(|inner| inner.holds) == wanted);
    assert!(inner(Some(true)) && inner(Some(false)) && inner(None));
    let cut: Vec<usize> = together(&dag.blocks).map(transactions).collect();
    assert_eq!(cut, [48, 100], "a block of more than fit stands alone");
    assert!(together(&[]).next().is_none());
    assert!(shared.iter().flatten().any(Option::is_none), "some do not decode");
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool.install(|| prepare(&dag.blocks, &constants)), alone, "{threads} threads");
    }
}
