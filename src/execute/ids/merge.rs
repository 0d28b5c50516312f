//! Files that become one, some entries at a time.

use super::run::{Entry, Reading, Run, Writing};
use crate::error::StorageError;
use crate::execute::store::Files;

/// A merge that goes on. After a restart it begins anew.
#[derive(Debug)]
pub(super) struct Merge {
    inputs: Vec<Reading>,
    output: Writing,
}

impl Merge {
    /// Of files side by side, at least two.
    pub(super) fn new(inputs: &[Run]) -> Self {
        let [first, .., last] = inputs else { unreachable!("several files") };
        let output = Writing::new(Run { first: first.first, end: last.end });
        Self { inputs: inputs.iter().copied().map(Reading::new).collect(), output }
    }

    /// Whether a file is one of those that are merged.
    pub(super) fn covers(&self, run: Run) -> bool {
        let output = self.output.run();
        output.first <= run.first && run.end <= output.end
    }

    /// Takes so many entries further, and makes them durable; whether that was the last.
    pub(super) fn go_on(&mut self, files: &impl Files, entries: u64) -> Result<bool, StorageError> {
        for _ in 0..entries {
            let mut least: Option<(Entry, usize)> = None;
            for (at, input) in self.inputs.iter_mut().enumerate() {
                if let Some(entry) = input.peek(files)?
                    && least.is_none_or(|(least, _)| entry < least)
                {
                    least = Some((entry, at));
                }
            }
            let Some((entry, at)) = least else { return Ok(true) };
            self.inputs[at].pass();
            self.output.push(entry);
        }
        self.output.save(files)?;
        Ok(false)
    }

    /// The file that has all of them.
    pub(super) fn finish(self, files: &impl Files) -> Result<Run, StorageError> {
        self.output.finish(files)
    }
}
