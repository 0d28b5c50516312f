//! Proves one version of a record, offline, and shows that a forgery is refused.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::drive::Driven;
use crate::cli::network::{LocalNetwork, describe};
use crate::cli::{CliError, files};
use crate::gateway::{Gateway, SystemEntropy};
use crate::proof::bundle::{Opening, ProofBundle, Shown, verify_bundle};
use crate::types::TxId;

/// How long the checkpoint that covers the last leaf may take.
const PROOF_WITHIN: Duration = Duration::from_secs(30);
/// How often it is asked for.
const POLL: Duration = Duration::from_millis(50);

/// Fetches the proof of a record version, opens it, verifies it, and alters it.
pub(super) async fn prove(
    network: &LocalNetwork,
    gateway: &Gateway<SystemEntropy>,
    driven: &Driven,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let Some((id, name)) = &driven.specimen else {
        writeln!(out, "proof       none: nothing in the stream commits to a resource")?;
        return Ok(());
    };
    let bytes = fetch(network, *id).await?;
    let refused = |why: &dyn std::fmt::Display| CliError::DoesNotHold(format!("the proof of {id}: {why}"));
    let mut bundle = ProofBundle::decode(&bytes).map_err(|error| refused(&error))?;
    let lost = || CliError::unable(format!("the gateway has lost {name}"));
    let entry = gateway.vault().version(name).ok_or_else(lost)?;
    let resource = serde_json::from_slice(gateway.canonical(name).ok_or_else(lost)?)
        .map_err(|error| CliError::unable(format!("{name}: {error}")))?;
    bundle.opening = Some(Opening { key: entry.commitment_key, shown: Shown::Resource(resource) });
    let path = network.dir().join("proof.json");
    let bytes = write(&path, &bundle)?;
    // From here on the network is not asked for anything: the file and the genesis are enough.
    let verified = verify_bundle(&bytes, network.genesis()).map_err(|error| refused(&error))?;
    writeln!(out, "proof       {name}, in {} bytes: {}", bytes.len(), path.display())?;
    writeln!(out, "            holds: {verified}")?;
    let forged = forge_transaction(&bundle);
    forgery(network, "one byte of the transaction", &forged, None, out)?;
    if let Some(forged) = forge_resource(&bundle) {
        let path = network.dir().join("proof-altered.json");
        forgery(network, "one letter of the resource", &forged, Some(&path), out)?;
    }
    Ok(())
}

/// The bundle, as soon as a certified checkpoint covers it.
async fn fetch(network: &LocalNetwork, id: TxId) -> Result<Vec<u8>, CliError> {
    let until = Instant::now() + PROOF_WITHIN;
    loop {
        let path = format!("/v1/transactions/{id}/proof");
        let why = match network.api().get(&network.endpoint(0).http, &path).await {
            Ok(answer) if answer.status == 200 => return Ok(answer.body),
            Ok(answer) => describe(&answer),
            Err(why) => why,
        };
        if Instant::now() >= until {
            let what = format!("no proof of {id} after {} s: {why}", PROOF_WITHIN.as_secs());
            return Err(CliError::DoesNotHold(what));
        }
        tokio::time::sleep(POLL).await;
    }
}

fn write(path: &Path, bundle: &ProofBundle) -> Result<Vec<u8>, CliError> {
    let bytes = bundle.encode().map_err(|error| CliError::unable(error.to_string()))?;
    files::write_new(path, &bytes, true)?;
    Ok(bytes)
}

/// Says what does not hold of an altered bundle; it is an error if all of it holds.
fn forgery(
    network: &LocalNetwork,
    what: &str,
    forged: &ProofBundle,
    path: Option<&Path>,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let bytes = match path {
        Some(path) => write(path, forged)?,
        None => forged.encode().map_err(|error| CliError::unable(error.to_string()))?,
    };
    match verify_bundle(&bytes, network.genesis()) {
        Ok(_) => Err(CliError::DoesNotHold(format!("{what} was altered, and the proof still verifies"))),
        Err(error) => {
            writeln!(out, "altered     {what}: refused: {error}")?;
            Ok(())
        }
    }
}

/// Flips a bit of the transaction's signature, its last byte.
fn forge_transaction(bundle: &ProofBundle) -> ProofBundle {
    let mut forged = bundle.clone();
    if let Some(byte) = forged.transaction.last_mut() {
        *byte ^= 1;
    }
    forged
}

/// Exchanges one letter somewhere in the resource that the bundle opens.
fn forge_resource(bundle: &ProofBundle) -> Option<ProofBundle> {
    let mut forged = bundle.clone();
    let altered = match forged.opening.as_mut().map(|opening| &mut opening.shown) {
        Some(Shown::Resource(resource)) => alter_letter(resource),
        Some(Shown::Member(_)) | None => false,
    };
    altered.then_some(forged)
}

/// Alters the last ASCII letter of the first text that has one.
fn alter_letter(value: &mut Value) -> bool {
    match value {
        Value::String(text) => {
            let Some(at) = text.rfind(|c: char| c.is_ascii_lowercase()) else { return false };
            let other = if text[at..].starts_with('e') { "a" } else { "e" };
            text.replace_range(at..=at, other);
            true
        }
        Value::Array(values) => values.iter_mut().any(alter_letter),
        Value::Object(fields) => fields.values_mut().any(alter_letter),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn exactly_one_letter_is_altered() {
        let mut value = json!({ "a": [1, null, "12"], "b": { "c": "tree" }, "d": "leaf" });
        assert!(alter_letter(&mut value));
        assert_eq!(value, json!({ "a": [1, null, "12"], "b": { "c": "trea" }, "d": "leaf" }));
        assert!(!alter_letter(&mut json!([{ "key": "" }, 7, "ÄÖ"])));
    }
}
