//! The inputs that fuzzers have found, and those that once failed: nothing may fail with them, one trial
//! for each target.
//!
//! `FUZZ_INPUT=FILE` runs a target with one file instead, wherever that is.

use std::path::{Path, PathBuf};
use std::{env, fs, panic};

use conformance::fuzz::{TARGETS, Target};
use libtest_mimic::{Arguments, Failed, Trial};

/// The most files of a target, and the most bytes in all of them: every run of the tests reads them.
const MOST_FILES: usize = 80;
const MOST_BYTES: u64 = 96 << 10;

fn main() {
    let trial = |target: Target| Trial::test(target.0, move || replay(target));
    libtest_mimic::run(&Arguments::from_args(), TARGETS.map(trial).into()).exit();
}

fn replay((name, target): Target) -> Result<(), Failed> {
    if let Some(file) = env::var_os("FUZZ_INPUT") {
        return run(name, target, Path::new(&file));
    }
    let files = corpus(name)?;
    if files.is_empty() {
        return Err(format!("the corpus of {name} is empty").into());
    }
    let bytes: u64 = files.iter().map(|file| fs::metadata(file).map_or(0, |file| file.len())).sum();
    if files.len() > MOST_FILES || bytes > MOST_BYTES {
        return Err(
            format!("{} files with {bytes} bytes are too many: see fuzz/README.md", files.len()).into()
        );
    }
    files.iter().try_for_each(|file| run(name, target, file))
}

/// The files of a target, in the order of their names.
fn corpus(name: &str) -> Result<Vec<PathBuf>, Failed> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let entries = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, std::io::Error>>()?;
    files.sort();
    Ok(files)
}

/// Names the file if something fails with it; the panic itself has been printed.
fn run(name: &str, target: fn(&[u8]), file: &Path) -> Result<(), Failed> {
    let file = fs::canonicalize(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let input = fs::read(&file)?;
    panic::catch_unwind(|| target(&input)).map_err(|_| {
        let file = file.display();
        let command = format!("FUZZ_INPUT={file} cargo test -p conformance --test fuzz_corpus {name}");
        Failed::from(format!("{name} fails with {file}\nreplay: {command}"))
    })
}
