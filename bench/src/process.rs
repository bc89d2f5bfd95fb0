//! The processes that are measured: started, read from `/proc`, ended.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};

/// How long a process may take until it listens.
const START: Duration = Duration::from_secs(20);

/// `CLK_TCK`, which Linux has set to 100 for every program there is.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process of ours. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    name: &'static str,
}

/// What a process has used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Seconds of processor time, its own and the kernel's for it.
    pub(crate) cpu: f64,
    /// Bytes of memory that are its own and no file's.
    pub(crate) anonymous: u64,
    /// Most bytes of memory that it had since [`Process::forget_peak`].
    pub(crate) peak: u64,
}

impl Process {
    /// Starts a program and waits for the line of its output that `address` finds something in.
    pub(crate) fn start(
        name: &'static str,
        command: &mut Command,
        address: impl Fn(&str) -> Option<String> + Send + 'static,
    ) -> anyhow::Result<(Self, String)> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("can't start {name}: {command:?}"))?;
        let output = child.stdout.take().context("no standard output")?;
        let process = Self { child, name };
        let (sender, found) = mpsc::channel();
        thread::spawn(move || {
            // To its end, so that the program never waits for a reader.
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some(address) = address(&line) {
                    // Only the first is awaited.
                    let _ = sender.send(address);
                }
            }
        });
        let address = found.recv_timeout(START).map_err(|_| {
            anyhow!("{name} did not say where it listens; try it by hand: {command:?}")
        })?;
        Ok((process, address))
    }

    /// What it has used until now.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        let status = self.read("status")?;
        Ok(Usage {
            cpu: cpu_seconds(&self.read("stat")?).context("can't read the processor time")?,
            anonymous: status_bytes(&status, "RssAnon:").context("no RssAnon")?,
            peak: status_bytes(&status, "VmHWM:").context("no VmHWM")?,
        })
    }

    /// Makes the peak what is used now.
    pub(crate) fn forget_peak(&self) -> anyhow::Result<()> {
        let path = self.proc("clear_refs");
        fs::write(&path, "5").with_context(|| format!("can't write {}", path.display()))
    }

    /// Fails if it has ended by itself.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} has ended: {status}", self.name),
        }
    }

    fn read(&self, file: &str) -> anyhow::Result<String> {
        let path = self.proc(file);
        fs::read_to_string(&path)
            .with_context(|| format!("can't read {} of {}", path.display(), self.name))
    }

    fn proc(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.child.id()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already can't be killed, and need not be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ends this process when standard input does, which is when its parent has ended.
pub(crate) fn end_with_stdin(wanted: bool) {
    if wanted {
        thread::spawn(|| {
            let mut byte = [0];
            while matches!(std::io::stdin().read(&mut byte), Ok(1..)) {}
            std::process::exit(0);
        });
    }
}

/// `utime` and `stime` of `/proc/PID/stat`. The name before them is in parentheses.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

/// A line of `/proc/PID/status`, which counts in KiB.
fn status_bytes(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 9 0 0 0 150 50 0 0 20 0";
        assert_eq!(cpu_seconds(stat), Some(2.0));
    }

    #[test]
    fn memory_is_counted_in_bytes() {
        let status = "VmHWM:\t    2048 kB\nRssAnon:\t       4 kB\n";
        assert_eq!(status_bytes(status, "RssAnon:"), Some(4096));
        assert_eq!(status_bytes(status, "VmSwap:"), None);
    }
}
