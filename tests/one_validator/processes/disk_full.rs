//! A disk that takes no more: the validator halts and says so, and loses nothing that it has acknowledged.

use super::validator::{Network, now, until};

#[test]
fn a_validator_halts_when_a_file_cannot_grow_and_keeps_what_was_final() {
    let network = Network::make();
    let mut finals = Vec::new();
    let mut number = 0;
    let mut next = || {
        number += 1;
        network.new_key(number.into(), number, now())
    };
    let validator = network.start();
    for _ in 0..3 {
        let tx = next();
        assert_eq!(validator.submit(tx.bytes()).field("status"), "executed");
        finals.push(tx.id());
    }
    validator.stop();

    // The first file of the block log has 16 MiB already, of which nobody writes the last ones yet; the next one cannot be made ready.
    let mut limited = network.start_limited(Some(12 << 20));
    until("the validator halts", || {
        let tx = next();
        if let Ok(reply) = limited.try_request("POST", "/v1/transactions?wait=final", tx.bytes())
            && reply.field("status") == "executed"
        {
            finals.push(tx.id());
        }
        limited.ended().is_some()
    });
    let said = limited.stderr();
    assert_eq!(limited.ended(), Some(3), "{said}");
    let last = said.lines().find(|line| line.starts_with("error: the validator halted: ")).unwrap();
    assert!(last.contains("disk full or limit reached while writing"), "{last}");
    assert!(last.contains(&network.text_path("data")) && last.contains("start the node again"), "{last}");

    let again = network.start();
    for id in &finals {
        let reply = again.get(&format!("/v1/transactions/{id}"));
        assert_eq!(reply.field("status"), "executed", "{id}: {reply:?}");
    }
    assert_eq!(again.submit(next().bytes()).field("status"), "executed");
    again.stop();
}
