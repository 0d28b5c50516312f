//! `submit`, `proof`, `verify` and `log check`, as an integrator uses them one after the other.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use salus::gateway::SAMPLE_STREAM;

use super::validator::{Network, now, salus, text};

/// Runs a command with the arguments of a line, in which `@name` is a file of the network.
fn run(network: &Network, line: &str) -> Output {
    let args: Vec<_> = line
        .split_whitespace()
        .map(|word| word.strip_prefix('@').map_or_else(|| word.to_owned(), |name| network.text_path(name)))
        .collect();
    salus(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Runs a command that has to end with a code; returns what it says on both outputs.
pub(crate) fn ends(network: &Network, code: i32, line: &str) -> String {
    let output = run(network, line);
    let said = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "salus {line}\n{said}");
    said
}

#[test]
fn records_are_anchored_once_proved_opened_and_verified() {
    let network = Network::make();
    let validator = network.start();
    let node = format!("--node {} --genesis @genesis.json", validator.url);
    let submit = format!("submit {node} --org 1 --key-id 1 --key @record.key --vault @vault @stream.ndjson");
    fs::write(network.path("stream.ndjson"), SAMPLE_STREAM).unwrap();
    ends(&network, 0, &format!("keygen --organisation {}", network.text_path("record")));

    // Not registered yet.
    let one = "@one.json";
    fs::write(network.path("one.json"), pretty_document()).unwrap();
    let early = format!("submit {node} --org 1 --key-id 1 --key @record.key --vault @early {one}");
    let said = ends(&network, 1, &early);
    assert!(said.contains("refused UnknownKey") && said.contains("is --key-id the number"), "{said}");

    let add =
        format!("submit {node} --org 1 --key-id 0 --key @root.key --add-key @record.key --add-key-id 1");
    let said = ends(&network, 0, &add);
    assert!(said.contains("final leaf 0  key 1 of organisation 1"), "{said}");

    let said = ends(&network, 0, &submit);
    assert!(said.contains("left out: 200 lines of ACCESS_LOG, which are not records"), "{said}");
    assert!(said.ends_with("\n171 final\n"), "{said}");
    let mode = |name: &str| fs::metadata(network.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("vault"), mode("record.key.state")), (0o600, 0o600));

    // Again: nothing is anchored twice.
    let again = ends(&network, 0, &submit);
    assert!(again.ends_with("\n0 final, 171 final before\n"), "{again}");
    assert_eq!(validator.get("/v1/status").json["tree_size"], 172);

    // A second version replaces the first.
    let line = said.lines().find(|line| line.contains("/_history/2 ")).unwrap();
    let (id, leaf) = (line.split(' ').next().unwrap(), line.split(' ').nth(3).unwrap());
    let record = validator.get(&format!("/v1/records/{leaf}"));
    let previous = record.json["previous"].as_u64().unwrap();
    let before = validator.get(&format!("/v1/records/{previous}"));
    assert_eq!(before.json["superseded_by"].to_string(), leaf);

    let proof = format!("proof {node} {id} -o @record.proof --vault @vault --resource @stream.ndjson");
    let proved = ends(&network, 0, &proof);
    assert!(
        proved.starts_with(&format!("holds: RECORD_ANCHOR of organisation 1 is leaf {leaf} of ")),
        "{proved}"
    );
    assert!(proved.contains("and is of the resource shown"), "{proved}");
    let verified = ends(&network, 0, "verify @record.proof --genesis @genesis.json");
    assert_eq!(verified, proved);
    assert!(ends(&network, 2, &proof).contains("record.proof exists already"));
    // By leaf number, without keeping it.
    ends(&network, 0, &format!("proof {node} {leaf}"));
    let missing = "ab".repeat(32);
    let said = ends(&network, 2, &format!("proof {node} {missing}"));
    assert!(said.contains(&missing) && said.contains("NotFound"), "{said}");
    // Another network's genesis vouches for nobody here.
    let other = Network::make_earlier(5_000);
    let said = ends(&other, 1, &format!("proof --node {} --genesis @genesis.json {id} -o @p", validator.url));
    assert!(said.contains("does not hold") && !other.path("p").exists(), "{said}");
    // The vault does not open a transaction of others.
    let said = ends(&network, 2, &format!("proof {node} 0 --vault @vault --resource @stream.ndjson"));
    assert!(said.contains("has no commitment key"), "{said}");
    validator.stop();

    let said = ends(&network, 0, "log check @data");
    assert!(said.contains("whole, of network") && said.contains("commits"), "{said}");
    let segment = network.path("data/blocks/0000000000.seg");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[8_192 + 300] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let said = ends(&network, 1, "log check @data");
    assert!(said.contains("0000000000.seg is damaged at byte 8192"), "{said}");
}

/// A resource by itself, laid out over several lines.
fn pretty_document() -> String {
    let document = serde_json::json!({
        "resourceType": "DocumentReference", "id": "d1", "meta": {"versionId": "1"}, "status": "current",
        "custodian": {"reference": "Organization/o1"},
    });
    serde_json::to_string_pretty(&document).unwrap()
}

#[test]
fn signed_transactions_are_handed_in_and_what_stops_goes_on() {
    let network = Network::make();
    let validator = network.start();
    let hex = |number: u32| hex::encode(network.new_key(number.into(), number, now()).bytes());
    let mut forged = network.new_key(9, 9, now()).bytes().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let lines = format!("{}\n\n{}\n{}\n", hex(1), hex::encode(forged), hex(2));
    fs::write(network.path("signed.hex"), lines).unwrap();
    let said = ends(&network, 1, &format!("submit --node {} --hex @signed.hex", validator.url));
    assert!(said.contains("2 final, 1 refused or skipped\n"), "{said}");
    assert!(said.contains("refused BadSignature: bad signature  line 3"), "{said}");
    fs::write(network.path("signed.hex"), "zz\n").unwrap();
    let said = ends(&network, 2, &format!("submit --node {} --hex @signed.hex", validator.url));
    assert!(said.contains("line 1: not hexadecimal"), "{said}");

    // The validator goes away before the records are handed in; the same command takes them up again later.
    ends(&network, 0, &format!("keygen --organisation {}", network.text_path("record")));
    let url = validator.url.clone();
    let args = |url: &str, key: &str| format!("submit --node {url} --genesis @genesis.json --org 1 {key}");
    let add =
        "--key-id 0 --key @root.key --seq 50 --add-key @record.key --add-key-id 50 --roles record,access";
    ends(&network, 0, &args(&url, add));
    validator.stop();
    fs::write(network.path("one.json"), pretty_document()).unwrap();
    let key = "--key-id 50 --key @record.key --vault @vault --wait-s 1 @one.json";
    let said = ends(&network, 2, &args(&url, key));
    assert!(said.contains(&url) && said.contains("is the validator running"), "{said}");
    let vault = fs::read_to_string(network.path("vault")).unwrap();
    let validator = network.start();
    let said = ends(&network, 0, &args(&validator.url, key));
    assert!(said.ends_with("\n1 final\n") || said == "1 final\n", "{said}");
    let commitment_key = |text: &str| text.split("commitment_key").nth(1).unwrap()[..70].to_owned();
    let after = fs::read_to_string(network.path("vault")).unwrap();
    assert_eq!(commitment_key(&after), commitment_key(&vault));
    let state = fs::read_to_string(network.path("record.key.state")).unwrap();
    assert!(state.contains("\"next_seq\": 2") && state.contains("\"open\": {}"), "{state}");
    validator.stop();
}
