//! The bytes of each format, as they were when the format was made. A difference here is another format: it needs another
//! version number, and what was written before has to be read as before.
//!
//! `SALUS_WRITE_GOLDEN=1` writes the files instead of comparing them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use salus::proof::bundle::verify_bundle;
use salus::types::stub_hash;

use crate::samples::{
    anchor, batch_bundle, bundle, commit_record, formats, genesis, genesis_2, header, payload, stub,
    transaction,
};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden")
}

/// Text as it is; bytes as hexadecimal in lines of 32 bytes.
fn file(name: &str, bytes: &[u8]) -> (String, String) {
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.iter().all(|byte| *byte != 0) => (format!("{name}.txt"), text.to_owned()),
        _ => {
            let lines: Vec<_> = bytes.chunks(32).map(hex::encode).collect();
            (format!("{name}.hex"), lines.join("\n") + "\n")
        }
    }
}

/// Names that are derived from the samples by hashing.
fn digests() -> String {
    let tx = transaction(1, &anchor());
    let names = [
        ("network id", genesis().network().to_string()),
        ("transaction id", tx.id().to_string()),
        ("stub hash", hex::encode(stub_hash(&tx))),
        ("payload root", payload().root().to_string()),
        ("block digest", header().reference().digest.to_string()),
        ("commit digest", commit_record().digest().to_string()),
        ("log root", bundle().verify(&genesis()).unwrap().checkpoint.checkpoint.root.to_string()),
    ];
    names.map(|(name, value)| format!("{name}: {value}\n")).concat()
}

#[test]
fn no_format_has_changed() {
    // What one operator writes is no format that validators share, and its defaults may change.
    let shared = formats().into_iter().filter(|format| format.name != "node-config");
    let mut expected: BTreeMap<_, _> = shared.map(|format| file(format.name, &format.sample)).collect();
    expected.insert("digests.txt".to_owned(), digests());
    if std::env::var_os("SALUS_WRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(folder()).unwrap();
        for (name, text) in &expected {
            std::fs::write(folder().join(name), text).unwrap();
        }
    }
    let found: BTreeMap<_, _> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap())
        })
        .collect();
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, text) in &expected {
        assert_eq!(&found[name], text, "{name}");
    }
}

#[test]
fn golden_bytes_read_back() {
    for format in formats() {
        assert_eq!((format.again)(&format.sample).as_ref(), Some(&format.sample), "{}", format.name);
    }
    let verified = verify_bundle(&bundle().encode().unwrap(), &genesis()).unwrap();
    assert_eq!(verified.tx_id, transaction(1, &anchor()).id());
    assert!(verified.resource.is_some());
    let verified = verify_bundle(&batch_bundle().encode().unwrap(), &genesis_2()).unwrap();
    assert_eq!(
        verified.member.map(|member| (member.index, member.count, member.file.bytes)),
        Some((1, 3, 1_001))
    );
    assert!(stub().violation);
}
