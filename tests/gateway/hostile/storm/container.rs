//! A gateway in a memory cgroup, as in a container.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::process::Command;
use tokio::time::sleep;

use crate::support::process::{Process, bucketferry, program, run, undisturbed};
use crate::support::{Store, Target, variable};

/// Where the kernel has its memory groups: version 2, and version 1.
const GROUPS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/memory"];

/// A gateway that has a limit of memory, the kernel's for its sockets included.
pub(super) struct Container {
    pub(super) process: Process,
    /// In bytes.
    pub(super) limit: usize,
    group: Group,
}

/// Bytes that the gateway took at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Taken {
    pub(super) resident: usize,
    pub(super) sockets: usize,
}

impl Taken {
    pub(super) fn all(self) -> usize {
        self.resident + self.sockets
    }
}

impl Container {
    /// A gateway with the memory that `check` prints for these settings.
    pub(super) async fn with_memory_of_check(
        store: &Store,
        users: &str,
        settings: &[(&str, &str)],
    ) -> Self {
        let limit = memory_by_check(store, users, settings).await;
        let group = Group::with(limit);
        let process = Process::serve_users_by(group.command(), store, users, settings).await;
        Self {
            process,
            limit,
            group,
        }
    }

    /// What it takes now.
    pub(super) fn taken(&self) -> Taken {
        Taken {
            resident: self.process.resident_memory(),
            sockets: self.group.sockets(),
        }
    }

    /// The most that it takes meanwhile.
    pub(super) async fn most(&self, during: Duration) -> Taken {
        let began = Instant::now();
        let mut most = Taken::default();
        while began.elapsed() < during {
            let taken = self.taken();
            if taken.all() > most.all() {
                most = taken;
            }
            sleep(Duration::from_millis(50)).await;
        }
        most
    }
}

/// What `check` says that the container needs.
async fn memory_by_check(store: &Store, users: &str, settings: &[(&str, &str)]) -> usize {
    let file = tempfile::NamedTempFile::new().expect("a users file");
    fs::write(file.path(), users).expect("a users file");
    let mut command = bucketferry();
    command.args(["check", "--format", "json"]);
    let given = settings
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let users_file = ("users.file".to_owned(), file.path().display().to_string());
    let all = store.settings().into_iter().chain(given);
    command.envs(all.chain([users_file]).map(variable));
    let output = run(&mut command, "").await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
    let bytes = found["memory_bytes"].as_u64();
    usize::try_from(bytes.unwrap_or_else(|| panic!("{text}"))).expect("a size")
}

/// A memory group of the test's own. It is removed once it is empty.
struct Group {
    path: PathBuf,
    is_second_version: bool,
}

impl Group {
    fn with(limit: usize) -> Self {
        let is_second_version = Path::new(GROUPS[0]).join("cgroup.controllers").exists();
        let parent = Path::new(GROUPS[usize::from(!is_second_version)]);
        let path = parent.join(format!("bucketferry-storm-{}", std::process::id()));
        fs::create_dir(&path).expect("a memory group, which needs root");
        let group = Self {
            path,
            is_second_version,
        };
        let limits: &[&str] = if is_second_version {
            &["memory.max"]
        } else {
            &["memory.limit_in_bytes", "memory.kmem.tcp.limit_in_bytes"]
        };
        for limited in limits {
            group.write(limited, &limit.to_string());
        }
        group
    }

    /// A command whose process is in the group from the start.
    fn command(&self) -> Command {
        let mut command = undisturbed(Command::new("sh"));
        command.args(["-c", r#"echo $$ > "$GROUP" && exec "$0" "$@""#]);
        command.env("GROUP", self.path.join("cgroup.procs"));
        command.arg(program());
        command
    }

    /// The kernel's memory for the sockets of the group.
    fn sockets(&self) -> usize {
        if !self.is_second_version {
            return number(&self.read("memory.kmem.tcp.usage_in_bytes"));
        }
        let stat = self.read("memory.stat");
        let line = stat.lines().find_map(|line| line.strip_prefix("sock "));
        number(line.expect("what sockets take"))
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.path.join(file), text).unwrap_or_else(|error| panic!("{file}: {error}"));
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The process that was in it is being reaped.
        for _ in 0..100 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn number(text: &str) -> usize {
    text.trim().parse().expect("a number")
}
