#![allow(clippy::unwrap_used, reason = "tests")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitCode;

use sha2::{Digest as _, Sha256};

use super::read::{LARGE_BYTES, PART_BYTES, Source};
use super::*;

fn text_of(paths: &[&Path], algorithm: Algorithm) -> Result<String, CliError> {
    let paths = paths.iter().map(|path| path.to_path_buf()).collect();
    let mut out = Vec::new();
    run(&HashArgs { paths, algorithm, output: None, force: false }, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

/// The manifest without the name of the folder that everything is in.
fn shown(dir: &Path, paths: &[&str], algorithm: Algorithm) -> String {
    let paths: Vec<PathBuf> = paths.iter().map(|path| dir.join(path)).collect();
    let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    text_of(&paths, algorithm).unwrap().replace(&format!("{}/", dir.display()), "")
}

fn refused(result: Result<String, CliError>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::from(2));
    error.to_string()
}

fn export() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("export/b/empty")).unwrap();
    fs::write(dir.path().join("export/b/ä\n.json"), b"two").unwrap();
    fs::write(dir.path().join("export/a.json"), b"").unwrap();
    fs::write(dir.path().join("export/B"), b"three").unwrap();
    symlink("../nowhere", dir.path().join("export/link")).unwrap();
    dir
}

#[test]
fn a_manifest_lists_files_and_links_in_the_order_of_their_paths() {
    let dir = export();
    let text = shown(dir.path(), &["export"], Algorithm::Sha256);
    let (head, root) = text.rsplit_once("\"root\":\"").unwrap();
    assert_eq!(
        head,
        "{\"algorithm\":\"sha256\",\"entries\":[\n\
        {\"bytes\":5,\"hash\":\"8b5b9db0c13db24256c829aa364aa90c6d2eba318b9232a4ab9313b954d3555f\",\
        \"path\":\"export/B\"},\n\
        {\"bytes\":0,\"hash\":\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\",\
        \"path\":\"export/a.json\"},\n\
        {\"bytes\":3,\"hash\":\"3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3\",\
        \"path\":\"export/b/ä\\n.json\"},\n\
        {\"link\":\"../nowhere\",\"path\":\"export/link\"}\n\
        ],\"format\":\"salus-manifest/1\","
    );
    assert!(root.len() == 64 + 3 && root.ends_with("\"}\n"), "{root}");
    let read: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(read["entries"].as_array().unwrap().len(), 4);
}

#[test]
fn the_root_is_that_of_the_tree_over_the_entries() {
    let dir = export();
    let text = text_of(&[dir.path()], Algorithm::Blake3).unwrap();
    let entries: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("\"path\""))
        .map(|line| line.trim_end_matches(','))
        .collect();
    assert_eq!(entries.len(), 4);
    assert!(text.contains(&format!("\"root\":\"{}\"", root_of_data(&entries))), "{text}");
}

#[test]
fn the_order_of_arguments_and_how_they_are_written_change_nothing() {
    let dir = export();
    let all = shown(dir.path(), &["export"], Algorithm::Blake3);
    for paths in [
        &["export/"][..],
        &["./export//."],
        &["export", "export/b", "export/B"],
        &["export/B", "export/b/ä\n.json", "export"],
    ] {
        assert_eq!(shown(dir.path(), paths, Algorithm::Blake3), all, "{paths:?}");
    }
    assert_eq!(name_of(Path::new("././a//b/./c/")).unwrap(), "a/b/c");
    assert_eq!(name_of(Path::new("./.")).unwrap(), ".");
    assert_eq!(name_of(Path::new("//a/../b")).unwrap(), "/a/../b");
}

/// Around a part and around the size from which a file is shared out.
#[test]
fn every_way_to_read_gives_the_same_hash() {
    let dir = tempfile::tempdir().unwrap();
    let part = PART_BYTES as u64;
    let sizes = [0, 1, part - 1, part, part + 1, LARGE_BYTES - 1, LARGE_BYTES, LARGE_BYTES + 1];
    let sizes = [&sizes[..], &[LARGE_BYTES + part, LARGE_BYTES + 3 * part + 77]].concat();
    let progress = Progress::new("", None);
    let mut files = Vec::new();
    let mut expected = Vec::new();
    for bytes in &sizes {
        let path = dir.path().join(bytes.to_string()).to_str().unwrap().to_owned();
        let mut content = vec![0; usize::try_from(*bytes).unwrap()];
        blake3::Hasher::new().finalize_xof().fill(&mut content);
        fs::write(&path, &content).unwrap();
        let hashes: [[u8; 32]; 2] = [blake3::hash(&content).into(), Sha256::digest(&content).into()];
        // Small ones by the way of large ones, too: they may have shrunk since they were found.
        let shared_out = Source::open(&path).unwrap().shared_out(&progress).unwrap();
        assert_eq!(shared_out, Hashed { bytes: *bytes, hash: hashes[0] });
        files.push((path, *bytes));
        expected.push(hashes);
    }
    let files: Vec<(&str, u64)> = files.iter().map(|(path, bytes)| (path.as_str(), *bytes)).collect();
    for (i, algorithm) in [Algorithm::Blake3, Algorithm::Sha256].into_iter().enumerate() {
        for (at, hashed) in hash_all(&files, algorithm, &progress).unwrap().into_iter().enumerate() {
            assert_eq!(hashed, Hashed { bytes: sizes[at], hash: expected[at][i] });
        }
    }
}

#[test]
fn links_are_listed_and_followed_only_where_they_are_given() {
    let dir = export();
    symlink("export", dir.path().join("short")).unwrap();
    symlink(dir.path(), dir.path().join("export/loop")).unwrap();
    let text = shown(dir.path(), &["short"], Algorithm::Blake3);
    assert!(text.contains("\"path\":\"short/a.json\""), "{text}");
    assert_eq!(text.matches("\"link\"").count(), 2, "{text}");
    symlink("export/B", dir.path().join("file")).unwrap();
    let text = shown(dir.path(), &["file"], Algorithm::Blake3);
    let hash = blake3::hash(b"three").to_hex();
    assert!(text.contains(&format!("{{\"bytes\":5,\"hash\":\"{hash}\",\"path\":\"file\"}}")), "{text}");
}

#[test]
fn what_cannot_be_hashed_is_named() {
    let dir = export();
    let all = || text_of(&[dir.path()], Algorithm::Blake3);
    let missing = refused(text_of(&[&dir.path().join("none")], Algorithm::Blake3));
    assert!(missing.contains("cannot read ") && missing.contains("/none: No such file"), "{missing}");

    let socket = dir.path().join("export/socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    assert!(refused(all()).contains("export/socket is a socket\n  only files"));
    assert!(refused(text_of(&[&socket], Algorithm::Blake3)).contains("is a socket"));
    fs::remove_file(&socket).unwrap();

    let pipe = dir.path().join("export/pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert!(refused(all()).contains("export/pipe is a named pipe"));
    // It took the place of a file that was found.
    let error = Source::open(pipe.to_str().unwrap()).err().unwrap().to_string();
    assert!(error.contains("export/pipe is a named pipe"), "{error}");
    fs::remove_file(&pipe).unwrap();
    assert!(refused(text_of(&[Path::new("/dev/null")], Algorithm::Blake3)).contains("/dev/null is a device"));

    let name = dir.path().join("export").join(OsStr::from_bytes(b"a\xffb"));
    fs::write(&name, b"").unwrap();
    let error = refused(all());
    assert!(error.contains("has a name that is not UTF-8: \"a\\xFFb\"\n  a manifest"), "{error}");
    fs::remove_file(&name).unwrap();
    all().unwrap();
}

#[test]
fn a_file_that_changes_while_it_is_read_is_refused() {
    const LARGE: u64 = LARGE_BYTES + 5;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file").to_str().unwrap().to_owned();
    let progress = Progress::new("", None);
    let before = || {
        fs::write(&path, vec![7; usize::try_from(LARGE).unwrap()]).unwrap();
        fs::OpenOptions::new().write(true).open(&path).unwrap()
    };
    let shrink = |file: &fs::File| file.set_len(LARGE - 1).unwrap();
    let vanish = |file: &fs::File| file.set_len(0).unwrap();
    let grow = |file: &fs::File| file.set_len(LARGE + 1).unwrap();
    let touch = |file: &fs::File| file.set_modified(std::time::UNIX_EPOCH).unwrap();
    for change in [shrink, vanish, grow, touch] as [fn(&fs::File); 4] {
        for algorithm in [None, Some(Algorithm::Blake3), Some(Algorithm::Sha256)] {
            let file = before();
            let source = Source::open(&path).unwrap();
            change(&file);
            let hashed = match algorithm {
                None => source.shared_out(&progress),
                Some(algorithm) => source.in_order(algorithm, &mut Vec::new(), &progress),
            };
            let error = hashed.unwrap_err().to_string();
            assert!(error.starts_with(&format!("error: {path} changed while it was read\n")), "{error}");
        }
    }
}

#[test]
fn a_manifest_is_written_once_and_not_into_itself() {
    let dir = export();
    let write = |output: &str, force| {
        let output = Some(dir.path().join(output));
        let args =
            HashArgs { paths: vec![dir.path().join("export")], algorithm: Algorithm::Blake3, output, force };
        let mut out = Vec::new();
        run(&args, &mut out).map(|()| String::from_utf8(out).unwrap())
    };
    let said = write("export.json", false).unwrap();
    assert!(said.starts_with("hashed 3 files, 8 B\n  manifest  "), "{said}");
    let text = fs::read_to_string(dir.path().join("export.json")).unwrap();
    assert_eq!(text, text_of(&[&dir.path().join("export")], Algorithm::Blake3).unwrap());
    assert!(text.contains(said.trim_end().rsplit_once("root      ").unwrap().1), "{said}");
    assert!(refused(write("export.json", false)).contains("export.json exists already"));
    write("export.json", true).unwrap();
    let error = refused(write("export/a.json", true));
    assert!(error.contains("export/a.json would be in the manifest that it holds"), "{error}");
}
