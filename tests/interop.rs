//! What this program writes must be read by programs of others, and the reverse.
//!
//! A log that is written here is checked by the Merkle log and signed note packages of the Go project, which share no code
//! with this one (`tests/interop/main.go`); proofs that they make are then checked here.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "the other program reads and writes files")]

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use salus::crypto::SecretKey;
use salus::error::StorageError;
use salus::genesis::{GENESIS_FORMAT, Genesis, GenesisFile, HexKey, MemberEntry, Parameters, ValidatorEntry};
use salus::io::tile_store::TileStore;
use salus::proof::batch::{BatchTree, FileFacts, FileHash};
use salus::proof::checkpoint::{CertifiedCheckpoint, Checkpoint, CheckpointKeys, Cosignature};
use salus::proof::log::{consistency_proof, inclusion_proof};
use salus::proof::merkle::{TreeHead, verify_consistency};
use salus::proof::note::{cosign, sign_text};
use salus::proof::tiles::{LogTree, TileReader, TileWrite};
use salus::proof::tlog_proof::TlogProof;
use salus::types::{AuthorityIndex, LeafIndex, NodeHash, STUB_BYTES};

const VALIDATORS: usize = 4;
const PACKAGES: &str = "this test needs the Debian packages golang-go and golang-golang-x-mod-dev \
    (apt-get install golang-go golang-golang-x-mod-dev)";

/// The Go program, built once.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        // The tests may run in a process each: each builds a file of its own and puts it in place at once.
        let built_here = folder.join(format!("interop-{}", std::process::id()));
        let program = folder.join("interop");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/main.go");
        let built = Command::new("go")
            .args(["build", "-o"])
            .arg(&built_here)
            .arg(&source)
            .env("GO111MODULE", "off")
            .env("GOPATH", "/usr/share/gocode")
            .env("GOFLAGS", "")
            .env("GOCACHE", folder.join("go-cache"))
            .output();
        match built {
            Ok(output) if output.status.success() => {
                std::fs::rename(&built_here, &program).unwrap();
                program
            }
            Ok(output) => panic!("{PACKAGES}: go build says: {}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => panic!("{PACKAGES}: cannot run go: {error}"),
        }
    })
}

fn key(purpose: u8, i: usize) -> SecretKey {
    let mut seed = [purpose; 32];
    seed[..8].copy_from_slice(&(i as u64).to_be_bytes());
    SecretKey::from_seed(&seed)
}

fn genesis() -> Genesis {
    let public = |purpose, i| HexKey(key(purpose, i).public());
    let file = GenesisFile {
        format: GENESIS_FORMAT.to_owned(),
        network: "north".to_owned(),
        created_ms: 0,
        parameters: Parameters::default(),
        validators: (0..VALIDATORS)
            .map(|i| ValidatorEntry {
                name: format!("v{i}"),
                stake: 1,
                address: format!("127.0.0.1:{}", 9_000 + i),
                network_key: public(1, i),
                consensus_key: public(2, i),
                cosign_key: public(3, i),
                log_key: public(4, i),
            })
            .collect(),
        members: vec![MemberEntry {
            org: 1,
            kind: 1,
            name: "Clinic".to_owned(),
            region: 1,
            root_key: public(5, 0),
            governs: true,
        }],
    };
    Genesis::decode(&Genesis::encode(&file).unwrap()).unwrap()
}

fn stub(i: u64) -> [u8; STUB_BYTES] {
    let mut stub = [0x5a; STUB_BYTES];
    stub[..8].copy_from_slice(&i.to_be_bytes());
    stub
}

/// What a validator's tiles read as under their C2SP paths, as a static file server has them.
struct Folder {
    root: PathBuf,
    store: TileStore,
}

impl Folder {
    fn put_all(&mut self, tiles: &[TileWrite]) {
        self.store.put_all(tiles).unwrap();
        for tile in tiles {
            let path = self.root.join(&tile.path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, self.store.tile(&tile.path).unwrap().unwrap()).unwrap();
        }
    }
}

impl TileReader for Folder {
    fn tile(&self, path: &str) -> Result<Option<Vec<u8>>, StorageError> {
        match std::fs::read(self.root.join(path)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StorageError::io("read", path, error)),
        }
    }
}

/// A log in a folder, with its checkpoint and an older one.
struct Log {
    folder: tempfile::TempDir,
    store: Folder,
    keys: CheckpointKeys,
    old: TreeHead,
    new: TreeHead,
}

impl Log {
    fn write(old: u64, new: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (root, store) =
            (folder.path().to_path_buf(), TileStore::open(folder.path().join("store")).unwrap());
        let store = Folder { root, store };
        let keys = CheckpointKeys::new(&genesis());
        let head = TreeHead { size: 0, root: NodeHash::default() };
        let mut log = Self { folder, store, keys, old: head, new: head };
        let mut tree = LogTree::new();
        log.old = log.grow(&mut tree, old, "checkpoint.old");
        log.new = log.grow(&mut tree, new, "checkpoint");
        let cosigners = (0..VALIDATORS).map(|i| log.keys.cosigner(AuthorityIndex::from_usize(i)));
        let mut lines = log.keys.log_key(AuthorityIndex(1)).encode() + "\n";
        for cosigner in cosigners {
            lines.push_str(&(cosigner.encode() + "\n"));
        }
        std::fs::write(log.path("keys"), lines).unwrap();
        std::fs::create_dir(log.path("proofs")).unwrap();
        log
    }

    fn grow(&mut self, tree: &mut LogTree, size: u64, checkpoint: &str) -> TreeHead {
        let stubs: Vec<_> = (tree.size()..size).map(stub).collect();
        self.store.put_all(&tree.append(&stubs));
        self.store.put_all(&tree.partials());
        let head = TreeHead { size, root: tree.root() };
        let note = Checkpoint { origin: self.keys.origin().to_owned(), size, root: head.root };
        let text = note.text();
        let cosignatures: BTreeMap<_, _> = (0..VALIDATORS)
            .map(|i| {
                let time_s = 1_800_000_000 + i as u64;
                let signature = cosign(&key(3, i), &text, time_s);
                (AuthorityIndex::from_usize(i), Cosignature { time_s, signature })
            })
            .collect();
        let log_signature = Some((AuthorityIndex(1), sign_text(&key(4, 1), &text)));
        let certified = CertifiedCheckpoint { checkpoint: note, cosignatures, log_signature };
        std::fs::write(self.path(checkpoint), certified.to_note(&self.keys)).unwrap();
        head
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn check(&self) -> Output {
        Command::new(program()).arg(self.folder.path()).arg(self.path("proofs")).output().unwrap()
    }

    fn assert_accepted(&self) {
        let output = self.check();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let expected = format!("{} leaves, {} keys\n", self.new.size, VALIDATORS + 1);
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    }

    /// Alters one byte of a file, expects a refusal, and puts the byte back.
    fn assert_refused_with_altered(&self, file: &str, at: usize) {
        let bytes = std::fs::read(self.path(file)).unwrap();
        let mut altered = bytes.clone();
        altered[at % bytes.len()] ^= 1;
        std::fs::write(self.path(file), altered).unwrap();
        let output = self.check();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "an altered byte {at} of {file} was not seen");
        assert!(said.starts_with("refused: "), "{said}");
        std::fs::write(self.path(file), bytes).unwrap();
    }

    /// Checks here what the other program proved.
    fn assert_foreign_proofs_hold(&self) {
        let mut checked = 0;
        for entry in std::fs::read_dir(self.path("proofs")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "tlog-proof") {
                continue;
            }
            let text = std::fs::read(&path).unwrap();
            let proof = TlogProof::parse(&text).unwrap();
            let verified = proof.verify(&stub(proof.index.0), &self.keys).unwrap();
            assert_eq!(verified.certified.checkpoint.head(), self.new);
            // And it is the very proof that is made here.
            assert_eq!(proof.encode().into_bytes(), text);
            let path = inclusion_proof(LeafIndex(proof.index.0), self.new.size, &self.store).unwrap();
            assert_eq!(proof.path, path);
            checked += 1;
        }
        assert!(checked >= 40, "{checked} proofs were made");
        let consistency: Vec<_> = std::fs::read_to_string(self.path("proofs/consistency"))
            .unwrap()
            .lines()
            .map(|line| NodeHash(BASE64.decode(line).unwrap().try_into().unwrap()))
            .collect();
        verify_consistency(&self.old, &self.new, &consistency).unwrap();
        assert_eq!(consistency, consistency_proof(self.old.size, self.new.size, &self.store).unwrap());
    }
}

#[test]
fn go_accepts_small_logs_and_its_proofs_hold_here() {
    for (old, new) in [(1, 45), (100, 256), (256, 257), (300, 555)] {
        let log = Log::write(old, new);
        log.assert_accepted();
        log.assert_foreign_proofs_hold();
    }
}

#[test]
fn go_accepts_a_log_of_three_levels_and_its_proofs_hold_here() {
    let log = Log::write(65_537, 66_100);
    log.assert_accepted();
    log.assert_foreign_proofs_hold();
}

#[test]
fn go_refuses_what_was_altered() {
    let log = Log::write(100, 555);
    log.assert_accepted();
    for (file, at) in [
        ("tile/0/000", 0),
        ("tile/0/001", 4_000),
        ("tile/0/002.p/43", 1_375),
        ("tile/1/000.p/2", 40),
        ("tile/entries/000", 1),
        ("tile/entries/001", 2_000),
        ("tile/entries/002.p/43", 2_407),
    ] {
        log.assert_refused_with_altered(file, at);
    }
    let len = std::fs::read(log.path("checkpoint")).unwrap().len();
    for at in (0..len).step_by(23) {
        log.assert_refused_with_altered("checkpoint", at);
    }
    log.assert_refused_with_altered("checkpoint.old", 14);
    log.assert_accepted();
}

/// A batch as the other program reads it: root, then commitment and path of each member.
fn batch_text(count: u32) -> String {
    let commitment = |i: u32| {
        let facts = FileFacts { bytes: u64::from(i), algorithm: FileHash::Blake3, hash: [0x11; 32] };
        facts.commit(&[7; 32])
    };
    let commitments: Vec<_> = (0..count).map(commitment).collect();
    let tree = BatchTree::new(&commitments);
    let mut text = BASE64.encode(tree.root().0) + "\n";
    for (i, commitment) in (0..).zip(&commitments) {
        let path = tree.path(i).into_iter().map(|hash| " ".to_owned() + &BASE64.encode(hash.0));
        text += &(BASE64.encode(commitment) + &path.collect::<String>() + "\n");
    }
    text
}

fn check_batch(text: &str) -> Output {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Command::new(program()).arg("batch").arg(file.path()).output().unwrap()
}

#[test]
fn go_agrees_on_root_and_paths_of_batches_and_refuses_altered_ones() {
    for count in (1..=33).chain([64, 100, 255, 1_000]) {
        let output = check_batch(&batch_text(count));
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said == format!("{count} members\n"), "{count}: {said}");
    }
    let good = batch_text(21);
    let lines: Vec<_> = good.lines().map(|line| line.split(' ').collect::<Vec<_>>()).collect();
    for (line, word) in [(0, 0), (1, 0), (1, 1), (9, 5), (21, 0), (21, 2)] {
        let mut altered: Vec<Vec<String>> =
            lines.iter().map(|line| line.iter().map(|word| (*word).to_owned()).collect()).collect();
        let word = &mut altered[line][word];
        let mut bytes = BASE64.decode(&*word).unwrap();
        bytes[3] ^= 1;
        *word = BASE64.encode(bytes);
        let text: String = altered.iter().map(|line| line.join(" ") + "\n").collect();
        let output = check_batch(&text);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.starts_with("refused: "), "line {line}: {said}");
    }
}
