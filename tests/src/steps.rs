//! The demo's steps as a person reads them.

use anyhow::{Context, Result};
use std::io::Write;
use std::time::Instant;

pub struct Steps {
    total: usize,
    done: usize,
}

impl Steps {
    pub fn of(total: usize) -> Self {
        Self { total, done: 0 }
    }

    /// Runs one step; its name is in the error, and what it returns as a note stands behind it.
    pub fn step<T>(&mut self, name: &str, work: impl FnOnce() -> Result<(T, String)>) -> Result<T> {
        self.done += 1;
        print!("[{:>2}/{}] {name} ", self.done, self.total);
        std::io::stdout().flush().context("cannot write to the terminal")?;
        let began = Instant::now();
        match work() {
            Ok((value, note)) => {
                println!("· {:.1} s{}{note}", began.elapsed().as_secs_f64(), if note.is_empty() { "" } else { " · " });
                Ok(value)
            }
            Err(error) => {
                println!("· FAILED");
                Err(error.context(format!("step {} \"{name}\"", self.done)))
            }
        }
    }
}
