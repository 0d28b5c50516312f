//! Development tasks of Salus: `cargo xtask test`, `cargo xtask lint`, `cargo xtask perf`.
//!
//! A task is a list of steps. Every step runs even if an earlier one failed; the summary at the end names each with its
//! duration. Exit codes: 0 all steps passed; 1 a step failed; 2 no such task. What measures is in [`perf`].
#![expect(clippy::disallowed_methods, reason = "a tool measures how long its steps take")]
#![expect(clippy::disallowed_types, reason = "a tool writes files")]

mod perf;

use std::env;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const USAGE: &str = "\
Development tasks of Salus.

USAGE
  cargo xtask test             every test: unit, integration, documentation; then the release build
                               and what has to hold in the simulator, and one planted mistake after another
  cargo xtask lint [--strict]  formatting, clippy, documentation, licences and sources of dependencies;
                               with --strict a missing cargo-deny fails instead of being skipped
  cargo xtask perf [--help]    measures everything and makes perf/report.md and the README's table of it
  cargo xtask asan             the tests of unsafe code under AddressSanitizer, built apart: some minutes
";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["test"] => run(&test_steps()),
        ["lint"] => run(&lint_steps(false)),
        ["lint", "--strict"] => run(&lint_steps(true)),
        ["perf", ref args @ ..] => perf::run(args),
        ["asan"] => run(&asan_steps()),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprint!("error: no such task: {:?}\n\n{USAGE}", args.join(" "));
            ExitCode::from(2)
        }
    }
}

/// One command of a task.
struct Step {
    name: &'static str,
    what: What,
}

enum What {
    /// Arguments of cargo, and its environment.
    Cargo { args: &'static [&'static str], env: &'static [(&'static str, &'static str)] },
    /// Left out: the text says why.
    Skip(&'static str),
    /// Cannot run: the text says what to do.
    Refuse(&'static str),
}

const fn cargo(name: &'static str, args: &'static [&'static str]) -> Step {
    Step { name, what: What::Cargo { args, env: &[] } }
}

fn test_steps() -> Vec<Step> {
    let mut steps = if has_subcommand("nextest") {
        vec![
            cargo("tests", &["nextest", "run", "--workspace", "--locked"]),
            cargo("doc tests", &["test", "--workspace", "--doc", "--locked", "--quiet"]),
        ]
    } else {
        println!(
            "cargo-nextest is not installed: the tests run under cargo test, where nothing ends one that hangs."
        );
        vec![cargo("tests", &["test", "--workspace", "--locked", "--no-fail-fast", "--quiet"])]
    };
    steps.push(cargo(
        "release build",
        &["build", "--release", "--locked", "--package", "salus", "--package", "load"],
    ));
    steps.push(cargo(
        "simulator",
        &["run", "--profile", "quick", "--locked", "--package", "simulate", "--", "ci"],
    ));
    steps.push(cargo(
        "planted mistakes",
        &[
            "run",
            "--profile",
            "quick",
            "--locked",
            "--package",
            "simulate",
            "--features",
            "planted",
            "--",
            "planted",
        ],
    ));
    steps
}

/// The tests of all `unsafe` code: vector engines, and reads of mapped files. The stable compiler has the sanitizer, but asks to be
/// told that it is meant; the target folder is another, since the flags are.
fn asan_steps() -> Vec<Step> {
    let args: &[&str] = &[
        "test",
        "--locked",
        "--package",
        "salus",
        "--lib",
        "--target",
        "x86_64-unknown-linux-gnu",
        "--target-dir",
        "target/asan",
        "--",
        "crypto::",
        "hash::",
        "io::disk",
        "io::log_store",
    ];
    let env: &[(&str, &str)] = &[
        ("RUSTC_BOOTSTRAP", "1"),
        ("RUSTFLAGS", "-Zsanitizer=address --cfg curve25519_dalek_backend=\"avx512\""),
    ];
    vec![Step { name: "unsafe code", what: What::Cargo { args, env } }]
}

fn lint_steps(strict: bool) -> Vec<Step> {
    let deny = if has_subcommand("deny") {
        cargo("dependencies", &["deny", "--locked", "check", "bans", "licenses", "sources"])
    } else if strict {
        let hint = "cargo-deny is not installed: cargo install cargo-deny --locked";
        Step { name: "dependencies", what: What::Refuse(hint) }
    } else {
        let hint = "cargo-deny is not installed (cargo install cargo-deny --locked)";
        Step { name: "dependencies", what: What::Skip(hint) }
    };
    vec![
        cargo("format", &["fmt", "--all", "--check"]),
        cargo("clippy", &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]),
        Step {
            name: "documentation",
            what: What::Cargo {
                args: &["doc", "--workspace", "--no-deps", "--locked"],
                env: &[("RUSTDOCFLAGS", "-D warnings")],
            },
        },
        deny,
    ]
}

/// Runs the steps and prints what became of them.
fn run(steps: &[Step]) -> ExitCode {
    let mut lines = Vec::new();
    let mut failed = false;
    let start = Instant::now();
    for step in steps {
        let began = Instant::now();
        let result = perform(step);
        failed |= result == "FAILED";
        lines.push(line(step.name, &result, began.elapsed()));
    }
    println!("\n{}", lines.join("\n"));
    println!("{}", line("all", if failed { "FAILED" } else { "passed" }, start.elapsed()));
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn line(name: &str, result: &str, took: Duration) -> String {
    format!("{name:<16} {:>7.1} s  {result}", took.as_secs_f64())
}

fn perform(step: &Step) -> String {
    let (args, env) = match step.what {
        What::Skip(why) => return format!("skipped: {why}"),
        What::Refuse(why) => {
            eprintln!("error: {why}");
            return "FAILED".to_owned();
        }
        What::Cargo { args, env } => (args, env),
    };
    println!("\n== {}: cargo {}", step.name, args.join(" "));
    let mut command = cargo_command();
    command.args(args).envs(env.iter().copied());
    let passed = match command.status() {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("error: cargo {}: {error}", args.join(" "));
            false
        }
    };
    if passed { "passed".to_owned() } else { "FAILED".to_owned() }
}

fn has_subcommand(name: &str) -> bool {
    let mut command = cargo_command();
    command.args([name, "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Cargo at the root of the workspace, without what `cargo run` put into the environment for this tool: some build
/// scripts watch such variables and would build anew each time that the caller changes.
fn cargo_command() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"].iter().any(|p| name.starts_with(p))
        {
            command.env_remove(&*name);
        }
    }
    command.current_dir(root());
    command
}

/// The folder of the workspace.
fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own)
}
