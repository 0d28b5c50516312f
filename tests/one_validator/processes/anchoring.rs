//! `salus anchor` and what can be shown with it: a folder of FHIR files, one of them proved, altered, refused.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use salus::gateway::SAMPLE_STREAM;
use salus::genesis::Genesis;
use salus::types::{Kind, Rules, Transaction};

use super::commands::ends;
use super::validator::{Network, Validator, now, until};

/// A folder of the sample's resources, one to a file.
fn write_export(folder: &Path, files: usize) {
    fs::create_dir_all(folder.join("sub")).unwrap();
    let lines = SAMPLE_STREAM.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    for (i, line) in lines.take(files).enumerate() {
        let value: serde_json::Value = serde_json::from_slice(line).unwrap();
        let name = if i % 3 == 0 { format!("sub/r{i:03}.json") } else { format!("r{i:03}.json") };
        fs::write(folder.join(name), serde_json::to_vec_pretty(&value["resource"]).unwrap()).unwrap();
    }
    std::os::unix::fs::symlink("r001.json", folder.join("latest")).unwrap();
}

/// Path, leaf and proof of each file that `proofs.json` lists.
fn listed(network: &Network, out: &str) -> Vec<(String, u64, String)> {
    let text = fs::read(network.path(out).join("proofs.json")).unwrap();
    let list: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(list["format"], "salus-proofs/1");
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let proofs = list["proofs"].as_array().unwrap().iter();
    proofs.map(|one| (text(&one["path"]), one["leaf"].as_u64().unwrap(), text(&one["proof"]))).collect()
}

/// A network with a key for records, an export to anchor, and the command that does.
fn scene(files: usize) -> (Network, Validator, String) {
    let network = Network::make();
    let validator = network.start();
    let node = format!("--node {} --genesis @genesis.json", validator.url);
    write_export(&network.path("export"), files);
    ends(&network, 0, &format!("keygen --organisation {}", network.text_path("record")));
    let register =
        format!("submit {node} --org 1 --key-id 0 --key @root.key --add-key @record.key --add-key-id 1");
    ends(&network, 0, &register);
    let anchor = format!("anchor @export {node} --org 1 --key-id 1 --key @record.key --vault @vault");
    (network, validator, anchor)
}

#[test]
fn a_folder_is_anchored_once_and_each_file_proved_by_itself() {
    const FILES: usize = 41;
    let (network, validator, anchor) = scene(FILES);
    let said = ends(&network, 0, &anchor);
    assert!(said.starts_with("hashed 41 files, ") && said.ends_with("\n1 final\n"), "{said}");
    assert!(said.contains(" final leaf 1  a batch of 41 files\n41 proofs in "), "{said}");
    assert_eq!(validator.get("/v1/status").json["tree_size"], 2, "all of them are one transaction");
    let manifest = fs::read_to_string(network.path("export.proofs/manifest.json")).unwrap();
    assert_eq!(manifest, ends(&network, 0, "hash @export"));
    let mode = |name: &str| fs::metadata(network.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode("vault"), mode("export.proofs"), mode("export.proofs/1-00000.proof")),
        (0o600, 0o700, 0o600)
    );

    // Again: nothing is anchored twice, and the proofs have their names.
    let proofs = listed(&network, "export.proofs");
    let again = ends(&network, 0, &anchor);
    assert!(again.contains("final before, leaf 1  a batch of 41 files\n"), "{again}");
    assert!(again.ends_with("\n0 final, 1 final before\n"), "{again}");
    assert_eq!(listed(&network, "export.proofs"), proofs);
    assert_eq!(proofs.len(), FILES);

    // Each proof is of its file and of no other, and names stay at home.
    for (i, (path, leaf, proof)) in proofs.iter().enumerate() {
        let bundle = format!("verify @export.proofs/{proof} --genesis @genesis.json");
        let said = ends(&network, 0, &format!("{bundle} --file {path}"));
        assert!(said.starts_with("holds: RECORD_BATCH of organisation 1 is leaf 1 of "), "{said}");
        assert!(said.contains(&format!("and its member {i} of 41 is the file of ")), "{said}");
        assert!(said.contains(&format!("\nholds: {path} is that file\n")), "{said}");
        assert_eq!(*leaf, 1);
        let text = fs::read_to_string(network.path("export.proofs").join(proof)).unwrap();
        assert!(!text.contains("json") && !text.contains("export"), "{text}");
    }
    let record = validator.get("/v1/records/1");
    assert_eq!(record.status, 404, "a batch is no version of a record");
    validator.stop();
}

#[test]
fn altered_files_and_proofs_are_refused_and_anchored_as_they_are_now() {
    let (network, validator, anchor) = scene(41);
    ends(&network, 0, &anchor);
    let proofs = listed(&network, "export.proofs");
    let (path, _, proof) = &proofs[7];
    let verify = format!("verify @export.proofs/{proof} --genesis @genesis.json --file {path}");
    let other = &proofs[8].0;
    let said = ends(&network, 1, &verify.replace(path.as_str(), other));
    assert!(said.contains(&format!("{other} is not the file that was anchored: it")), "{said}");
    alter_a_byte(Path::new(path));
    let said = ends(&network, 1, &verify);
    assert!(said.contains(" is not the file that was anchored: its blake3 is "), "{said}");
    // Of the proof itself, any byte of what it says.
    let bundle = network.path("export.proofs").join(proof);
    let text = fs::read_to_string(&bundle).unwrap();
    fs::write(&bundle, text.replacen("\"index\": 7", "\"index\": 6", 1)).unwrap();
    let said = ends(&network, 1, &verify);
    assert!(
        said.contains("the commitment is not in the batch: the path does not lead to the root"),
        "{said}"
    );

    // The altered file is another one: it is anchored as it is now, and the others are not.
    let said = ends(&network, 0, &anchor);
    assert!(said.contains("final before, leaf 1  a batch of 41 files, 40 of them given here\n"), "{said}");
    assert!(said.contains(" final leaf 2  a batch of 1 files\n41 proofs in "), "{said}");
    let proofs_now = listed(&network, "export.proofs");
    assert_eq!(proofs_now.iter().map(|one| one.1).sum::<u64>(), 40 + 2);
    ends(&network, 0, &format!("verify @export.proofs/2-00000.proof --genesis @genesis.json --file {path}"));

    // By the other hash function, and with a proof that shows no file.
    let sha = format!("{} --algorithm sha256 --out @sha --class 9", anchor.replace("@export", &proofs[0].0));
    ends(&network, 0, &sha);
    let said = ends(
        &network,
        0,
        &format!("verify @sha/3-00000.proof --genesis @genesis.json --file {}", proofs[0].0),
    );
    assert!(said.contains(" bytes with sha256 "), "{said}");
    ends(&network, 0, &format!("proof --node {} --genesis @genesis.json 3 -o @closed.proof", validator.url));
    let said = ends(&network, 2, &format!("verify @closed.proof --genesis @genesis.json --file {path}"));
    assert!(said.contains("shows no file to compare"), "{said}");
    validator.stop();
}

fn alter_a_byte(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[40] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn an_anchoring_that_was_cut_off_goes_on_with_its_keys() {
    let (network, validator, _) = scene(5);
    let url = validator.url.clone();
    validator.stop();
    let anchor = |url: &str| {
        format!(
            "anchor @export --node {url} --genesis @genesis.json --org 1 --key-id 1 --key @record.key --vault @vault \
             --wait-s 5"
        )
    };
    let said = ends(&network, 2, &anchor(&url));
    assert!(said.contains("is the validator running") && !network.path("export.proofs").exists(), "{said}");
    let keys = |network: &Network| {
        let vault = fs::read_to_string(network.path("vault")).unwrap();
        let key = |line: &str| Some(line.split("commitment_key\":\"").nth(1)?[..64].to_owned());
        vault.lines().filter_map(key).collect::<Vec<_>>()
    };
    let before = keys(&network);
    assert_eq!(before.len(), 5);

    // It became final after all, by somebody who held it: a copy of the files tells as little as the command knew.
    let validator = network.start();
    let copy = network.path("copy");
    fs::create_dir(&copy).unwrap();
    for name in ["vault", "record.key.state"] {
        fs::copy(network.path(name), copy.join(name)).unwrap();
    }
    let said = ends(&network, 0, &anchor(&validator.url));
    assert!(
        said.contains(" final leaf 1  a batch of 5 files\n5 proofs in ") && said.ends_with("\n1 final\n"),
        "{said}"
    );
    assert_eq!(keys(&network), before);
    for name in ["vault", "record.key.state"] {
        fs::copy(copy.join(name), network.path(name)).unwrap();
    }
    // The old vault signs the batch again under the same number, and so never a second time.
    let said = ends(&network, 1, &anchor(&validator.url));
    assert!(said.contains("refused Replayed"), "{said}");
    assert_eq!(validator.get("/v1/status").json["tree_size"], 2);
    validator.stop();
}

/// In a network of the rules before, the very bytes that a network of newer rules takes are none of a transaction.
#[test]
fn a_network_of_older_rules_refuses_batches_at_its_door() {
    let network = Network::make_of(Rules::One);
    let validator = network.start();
    let body = salus::types::RecordBatch { root: [7; 32], count: 3, class: 4, alg: 2, retain_days: 1 };
    let tx = network.sign(1, now(), &salus::types::Body::RecordBatch(body));
    assert_eq!(tx.envelope().kind, Kind::RecordBatch);
    let reply = validator.submit(tx.bytes());
    assert_eq!((reply.status, reply.field("error")), (400, "Malformed"), "{reply:?}");
    assert!(Transaction::decode(tx.bytes().clone(), Rules::One).is_err());
    // What it does take goes on as ever.
    assert_eq!(validator.submit(network.new_key(1, 1, now()).bytes()).status, 200);
    until("a leaf", || validator.get("/v1/status").json["tree_size"] == 1);
    fs::write(network.path("a.txt"), "a").unwrap();
    let said = ends(
        &network,
        2,
        &format!(
            "anchor @a.txt --node {} --genesis @genesis.json --org 1 --key-id 0 --key @root.key --vault @vault",
            validator.url
        ),
    );
    assert!(said.contains("is of rules 1, and batches need rules 2"), "{said}");
    validator.stop();
    // A program of now does not start for rules of later.
    let genesis = fs::read_to_string(network.path("genesis.json")).unwrap();
    let later = genesis.replace("\"leaders_per_round\": 1", "\"leaders_per_round\": 1,\n    \"rules\": 3");
    assert!(Genesis::decode(later.as_bytes()).is_err());
    fs::write(network.path("genesis.json"), later).unwrap();
    let (code, said) = network.refused();
    assert!(
        code == 2 && said.contains("parameters.rules: 3") && said.contains("install the release"),
        "{said}"
    );
}
