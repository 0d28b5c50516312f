//! `salus hash` of one large file, beside `b3sum` and `sha256sum`: all in turn, on a file in the page cache.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::results::{Files, rounded};
use super::step::Work;

/// A program, and the one of its kind whose hash it must agree with.
const PROGRAMS: [(&str, &[&str]); 4] = [
    (OWN_BLAKE3, &["salus", "hash"]),
    (B3SUM, &["b3sum"]),
    (OWN_SHA256, &["salus", "hash", "--algorithm", "sha256"]),
    (SHA256SUM, &["sha256sum"]),
];
pub(super) const OWN_BLAKE3: &str = "salus hash";
pub(super) const B3SUM: &str = "b3sum";
pub(super) const OWN_SHA256: &str = "salus hash --algorithm sha256";
pub(super) const SHA256SUM: &str = "sha256sum";

const BLOCK: usize = 1 << 20;
const BLOCKS: u64 = 2_048;
const BLOCKS_QUICK: u64 = 64;
const ROUNDS: usize = 5;

pub(super) fn measure(work: &mut Work) -> Result<(), String> {
    let blocks = if work.quick { BLOCKS_QUICK } else { BLOCKS };
    let path = work.scratch.join("file");
    fill(&path, blocks).map_err(|error| {
        format!("cannot write {} MiB to {}: {error}\nmake room for it", blocks, path.display())
    })?;
    let measured = in_turn(work, &path, if work.quick { 1 } else { ROUNDS });
    let removed = std::fs::remove_file(&path);
    let (seconds, missing) = measured?;
    removed.map_err(|error| format!("cannot remove {}: {error}", path.display()))?;
    work.results.files = Some(Files { bytes: blocks * BLOCK as u64, seconds, missing });
    Ok(())
}

/// Bytes of a generator (xorshift64): neither holes nor pages that a file system would join. On the disk at the end, so that nothing is
/// written while programs are measured.
fn fill(path: &Path, blocks: u64) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut block = Vec::with_capacity(BLOCK);
    for _ in 0..blocks {
        block.clear();
        while block.len() < BLOCK {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            block.extend(state.to_le_bytes());
        }
        file.write_all(&block)?;
    }
    file.sync_all()
}

type Measured = (BTreeMap<String, Vec<f64>>, Vec<String>);

/// All programs once without a clock, which fills the page cache and shows that their hashes agree; then in rounds, each of
/// which begins with another one.
fn in_turn(work: &mut Work, path: &Path, rounds: usize) -> Result<Measured, String> {
    let (mut present, mut missing, mut outputs) = (Vec::new(), Vec::new(), BTreeMap::new());
    for (name, words) in PROGRAMS {
        let mut command = command(work, words, path);
        match command.stderr(Stdio::inherit()).output() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && words[0] != "salus" => {
                println!("   {name} is not installed");
                missing.push(name.to_owned());
            }
            Err(error) => return Err(work.cannot_run(&command, &error)),
            Ok(output) => {
                work.note(&command);
                work.success(&command, output.status)?;
                outputs.insert(name, String::from_utf8_lossy(&output.stdout).into_owned());
                present.push((name, words));
            }
        }
    }
    for (own, other) in [(OWN_BLAKE3, B3SUM), (OWN_SHA256, SHA256SUM)] {
        let hash = outputs.get(other).and_then(|text| text.split_ascii_whitespace().next());
        let own_text = outputs.get(own).map_or("", String::as_str);
        if hash.is_some_and(|hash| !own_text.contains(hash)) {
            return Err(format!("`{own}` and `{other}` do not agree on the hash of one file"));
        }
    }
    let mut seconds: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for round in 0..rounds {
        for step in 0..present.len() {
            let (name, words) = present[(round + step) % present.len()];
            let mut command = command(work, words, path);
            let start = Instant::now();
            let status = command.stdout(Stdio::null()).status();
            let took = start.elapsed().as_secs_f64();
            let status = status.map_err(|error| work.cannot_run(&command, &error))?;
            work.success(&command, status)?;
            println!("   {took:>7.3} s  {name}");
            seconds.entry(name.to_owned()).or_default().push(rounded(took));
        }
    }
    Ok((seconds, missing))
}

fn command(work: &Work, words: &[&str], path: &Path) -> Command {
    let mut command = if words[0] == "salus" { work.program("salus") } else { Command::new(words[0]) };
    command.args(&words[1..]).arg(path);
    command
}
