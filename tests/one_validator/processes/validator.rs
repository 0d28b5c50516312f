//! A network of one validator in a temporary folder, and its process.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use salus::cli::org_key;
use salus::config::NodeConfig;
use salus::crypto::SecretKey;
use salus::gateway::{KeyTerms, OrgSigner, key_add};
use salus::genesis::{GENESIS_FORMAT, Genesis, GenesisFile, HexKey, MemberEntry, Parameters, ValidatorEntry};
use salus::io::keys::NodeKeys;
use salus::types::{Body, KeyId, OrgId, Roles, Rules, TimestampMs, Transaction};
use tempfile::TempDir;

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The organisation that exists from the start, and governs.
pub(crate) const ORG: OrgId = OrgId(1);

pub(crate) fn now() -> TimestampMs {
    TimestampMs(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap())
}

/// Waits for a condition.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn salus(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_salus")).args(args).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The files of a network, as an operator has them.
pub(crate) struct Network {
    folder: TempDir,
    pub(crate) genesis: Genesis,
}

impl Network {
    pub(crate) fn make() -> Self {
        Self::make_earlier(0)
    }

    /// One that was made some milliseconds ago: another time is another network.
    pub(crate) fn make_earlier(by_ms: u64) -> Self {
        Self::make_with(by_ms, Rules::NEWEST)
    }

    /// One of older rules.
    pub(crate) fn make_of(rules: Rules) -> Self {
        Self::make_with(0, rules)
    }

    fn make_with(by_ms: u64, rules: Rules) -> Self {
        let created_ms = now().0 - by_ms;
        let folder = tempfile::tempdir().unwrap();
        let keys = NodeKeys::create(&folder.path().join("keys")).unwrap();
        let root = SecretKey::from_seed(&[42; 32]);
        org_key::write(&folder.path().join("root.key"), &root).unwrap();
        let file = GenesisFile {
            format: GENESIS_FORMAT.to_owned(),
            network: "one.example".to_owned(),
            created_ms,
            parameters: Parameters {
                leaders_per_round: 1,
                checkpoint_interval_ms: 50,
                rules,
                ..Parameters::default()
            },
            validators: vec![ValidatorEntry {
                name: "north".to_owned(),
                stake: 1,
                address: "127.0.0.1:7700".to_owned(),
                network_key: HexKey(keys.network.public()),
                consensus_key: HexKey(keys.consensus.public()),
                cosign_key: HexKey(keys.cosign.public()),
                log_key: HexKey(keys.log.public()),
            }],
            members: vec![MemberEntry {
                org: ORG.0,
                kind: 1,
                name: "North Hospital".to_owned(),
                region: 0,
                root_key: HexKey(root.public()),
                governs: true,
            }],
        };
        let bytes = Genesis::encode(&file).unwrap();
        fs::write(folder.path().join("genesis.json"), &bytes).unwrap();
        let network = Self { folder, genesis: Genesis::decode(&bytes).unwrap() };
        network.configure(|_| {});
        network
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn text_path(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Writes `node.toml`.
    pub(crate) fn configure(&self, change: impl FnOnce(&mut NodeConfig)) {
        let mut config = NodeConfig::new("north");
        let any = "127.0.0.1:0".parse().unwrap();
        (config.listen.peers, config.listen.clients, config.listen.http) = (any, any, any);
        config.rounds.idle_round_interval_ms = 50;
        config.log.segment_bytes = 16 << 20;
        change(&mut config);
        fs::write(self.path("node.toml"), config.to_toml().unwrap()).unwrap();
    }

    /// Runs the validator, which must fail to start; says with which code and words.
    pub(crate) fn refused(&self) -> (i32, String) {
        let mut child = self.command(None).stderr(Stdio::piped()).spawn().unwrap();
        until("the end of the process", || child.try_wait().unwrap().is_some());
        let output = child.wait_with_output().unwrap();
        assert!(output.stdout.is_empty(), "it says that it is ready: {}", text(&output.stdout));
        (output.status.code().unwrap(), text(&output.stderr))
    }

    /// `salus node`, under a limit of the size of its files if there is one.
    fn command(&self, file_bytes_max: Option<u64>) -> Command {
        let (program, config) = (env!("CARGO_BIN_EXE_salus"), self.path("node.toml"));
        let mut command = match file_bytes_max {
            None => Command::new(program),
            Some(bytes) => {
                // Ignored, the signal that goes with the limit stays so, and the write fails as it does on a full disk.
                let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", bytes / 512);
                let mut command = Command::new("sh");
                command.args(["-c", &script, program]);
                command
            }
        };
        command.args(["node", "--config"]).arg(config).env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }

    /// Runs the validator until it is ready.
    pub(crate) fn start(&self) -> Validator {
        self.start_limited(None)
    }

    pub(crate) fn start_limited(&self, file_bytes_max: Option<u64>) -> Validator {
        let log = self.path("stderr.txt");
        let file = fs::File::create(&log).unwrap();
        let mut child = self.command(file_bytes_max).stderr(file).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (lines, line) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        let Ok(ready) = line.recv_timeout(PATIENCE) else {
            let _ = child.kill();
            panic!("not ready: {:?}, {}", child.wait(), fs::read_to_string(&log).unwrap());
        };
        let field = |name: &str| {
            let value = ready.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_else(|| panic!("{name} in {ready:?}")).to_owned()
        };
        assert!(ready.starts_with("ready validator=north "), "{ready}");
        let (peers, clients) = (field("peers"), field("clients"));
        Validator { child, url: format!("http://{}", field("http")), peers, clients, log }
    }

    /// A transaction by the root key: it registers key `number`, and `seq` is its sequence number.
    pub(crate) fn new_key(&self, seq: u64, number: u32, at: TimestampMs) -> Transaction {
        self.sign(seq, at, &self.new_key_body(number))
    }

    pub(crate) fn new_key_body(&self, number: u32) -> Body {
        let (from, to) = (TimestampMs(1), TimestampMs(u64::MAX));
        let terms = KeyTerms { org: ORG, key: KeyId(number), roles: Roles::RECORD, from, to };
        let mut seed = [7; 32];
        seed[..4].copy_from_slice(&number.to_be_bytes());
        Body::KeyAdd(key_add(self.genesis.network(), terms, &SecretKey::from_seed(&seed)))
    }

    pub(crate) fn sign(&self, seq: u64, at: TimestampMs, body: &Body) -> Transaction {
        self.signer(ORG, seq).sign(body, at, [9; 16])
    }

    pub(crate) fn signer(&self, org: OrgId, seq: u64) -> OrgSigner {
        let root = org_key::read(&self.path("root.key")).unwrap();
        OrgSigner::new(self.genesis.network(), org, KeyId(0), root, seq)
    }
}

/// A running validator. Dropping it kills it.
pub(crate) struct Validator {
    child: Child,
    pub(crate) url: String,
    pub(crate) peers: String,
    pub(crate) clients: String,
    log: PathBuf,
}

/// An answer of the API.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) json: serde_json::Value,
}

impl Reply {
    pub(crate) fn field(&self, name: &str) -> &str {
        self.json[name].as_str().unwrap_or_default()
    }
}

impl Validator {
    pub(crate) fn try_request(&self, method: &str, path: &str, body: &[u8]) -> Result<Reply, ureq::Error> {
        let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
        let agent: ureq::Agent = config.timeout_global(Some(PATIENCE)).build().into();
        let url = format!("{}{path}", self.url);
        let mut response = match method {
            "GET" => agent.get(url).call()?,
            _ => agent.post(url).content_type("application/octet-stream").send(body)?,
        };
        let body = response.body_mut().read_to_vec()?;
        let json = serde_json::from_slice(&body).unwrap_or_default();
        Ok(Reply { status: response.status().as_u16(), json })
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.try_request("GET", path, &[]).unwrap()
    }

    pub(crate) fn submit(&self, tx: &[u8]) -> Reply {
        self.try_request("POST", "/v1/transactions?wait=final", tx).unwrap()
    }

    /// Ends it as an operator does.
    pub(crate) fn stop(mut self) {
        self.signal("TERM");
        until("an orderly end", || self.child.try_wait().unwrap().is_some());
        let code = self.child.wait().unwrap().code();
        assert_eq!(code, Some(0), "{}", self.stderr());
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// The code that it ended with, if it has.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.child.try_wait().unwrap().map(|status| status.code().unwrap_or(-1))
    }

    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Validator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn replace(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}
