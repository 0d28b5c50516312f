//! Four validators, each a process of its own.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long validators may take to start, and to agree.
const WITHIN: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(50);
/// Blocks that all have before the load begins.
const WARM: u64 = 20;
/// Clock ticks a second in `/proc/PID/stat`; the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

pub struct Network {
    validators: Vec<Validator>,
}

struct Validator {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    port: u16,
}

/// What a validator has seen final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub height: u64,
    pub blocks: u64,
    pub transactions: u64,
    pub chain: String,
}

impl Network {
    /// Starts them and waits until they make blocks. `settings` go to each as they are.
    pub fn start(dir: &Path, validators: usize, settings: &[String]) -> io::Result<Self> {
        let ports = free_ports(validators)?;
        let list = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
        let mut network = Self { validators: Vec::new() };
        for index in 0..validators {
            let folder = dir.join(index.to_string());
            std::fs::create_dir_all(&folder)?;
            let mut process = Command::new(std::env::current_exe()?)
                .args(["validator", "--index", &index.to_string(), "--ports", &list, "--dir"])
                .arg(&folder)
                .args(settings)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
                return Err(io::Error::other("no pipes to a validator"));
            };
            network.validators.push(Validator { process, input, output: BufReader::new(output), port: 0 });
        }
        for validator in &mut network.validators {
            let line = validator.line()?;
            let port = line.strip_prefix("ready ").and_then(|port| port.parse().ok());
            validator.port = port.ok_or_else(|| io::Error::other(format!("a validator said {line:?}")))?;
        }
        network.wait("make no blocks", |all| all.iter().all(|status| status.height >= WARM))?;
        Ok(network)
    }

    /// Ports that take clients.
    pub fn ports(&self) -> Vec<u16> {
        self.validators.iter().map(|validator| validator.port).collect()
    }

    pub fn statuses(&mut self) -> io::Result<Vec<Status>> {
        self.validators.iter_mut().map(Validator::status).collect()
    }

    /// Waits until all have so many transactions, and says what they have; an error if not the same ones.
    pub fn agreement(&mut self, transactions: u64) -> io::Result<Vec<Status>> {
        let all = self.wait("have not all transactions", |all| {
            all.iter().all(|status| status.transactions >= transactions)
        })?;
        let same =
            |status: &Status| (status.transactions, &status.chain) == (all[0].transactions, &all[0].chain);
        if all.iter().all(same) {
            Ok(all)
        } else {
            Err(io::Error::other(format!("validators differ: {all:?}")))
        }
    }

    fn wait(&mut self, otherwise: &str, done: impl Fn(&[Status]) -> bool) -> io::Result<Vec<Status>> {
        let end = Instant::now() + WITHIN;
        loop {
            let all = self.statuses()?;
            if done(&all) {
                return Ok(all);
            }
            if Instant::now() > end {
                return Err(io::Error::other(format!(
                    "validators {otherwise} within {} s: {all:?}",
                    WITHIN.as_secs()
                )));
            }
            thread::sleep(LOOK);
        }
    }

    /// CPU seconds of all validators so far.
    pub fn cpu_seconds(&self) -> f64 {
        self.validators.iter().filter_map(|validator| cpu_seconds(&validator.process.id().to_string())).sum()
    }
}

impl Validator {
    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err(io::Error::other("a validator has ended"));
        }
        Ok(line.trim_end().to_owned())
    }

    fn status(&mut self) -> io::Result<Status> {
        self.input.write_all(b"status\n")?;
        self.input.flush()?;
        let line = self.line()?;
        status(&line).ok_or_else(|| io::Error::other(format!("a validator said {line:?}")))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for validator in &mut self.validators {
            // Started by this process, and no other.
            let _ = validator.process.kill();
            let _ = validator.process.wait();
        }
    }
}

fn status(line: &str) -> Option<Status> {
    let mut words = line.split(' ');
    let mut number = || words.next()?.parse().ok();
    let (height, blocks, transactions) = (number()?, number()?, number()?);
    Some(Status { height, blocks, transactions, chain: words.next()?.to_owned() })
}

/// Ports that are free now.
fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let listeners: io::Result<Vec<TcpListener>> =
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect();
    listeners?.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

/// CPU seconds of a process so far: fields 14 and 15 of its `stat`, behind the name in parentheses.
pub fn cpu_seconds(pid: &str) -> Option<f64> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<f64>().ok();
    Some((next()? + next()?) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_validators_say_is_read() {
        let chain = "ab".to_owned();
        assert_eq!(status("5 2 300 ab"), Some(Status { height: 5, blocks: 2, transactions: 300, chain }));
        assert_eq!(status("5 2"), None);
        assert!(cpu_seconds("self").is_some());
    }
}
