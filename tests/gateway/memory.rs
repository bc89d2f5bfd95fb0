//! Memory that is short: those who are slow must not hold up those who are fast.

use std::io::BufRead;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::support::ftp::Client;
use crate::support::{Gateway, MIB, Store, eventually, noise};

/// Of its 20 MiB, the memory has 12.5 for anyone, 5 for finishing and 2.5 for first chunks. No part can go up
/// before it is full.
const SETTINGS: [(&str, &str); 2] = [("upload.memory", "20 MiB"), ("upload.part_size", "5 MiB")];

/// How often a client brings a byte that has nearly stopped.
const DRIP: Duration = Duration::from_millis(500);

const LONG: Duration = Duration::from_mins(1);

/// An upload that has nearly stopped: its client sends a byte now and then.
struct Dripping {
    client: Client,
    name: String,
    bytes: Arc<Vec<u8>>,
    drips: JoinHandle<(TcpStream, usize)>,
    stop: Arc<tokio::sync::Notify>,
}

impl Dripping {
    /// Sends `fast` bytes, or as many as are taken, and then a byte now and then.
    async fn begin(gateway: &Gateway, index: usize, bytes: &Arc<Vec<u8>>, fast: usize) -> Self {
        let mut client = gateway.client().await;
        client.set_deadline(LONG);
        let mut data = client.open_data().await;
        let name = format!("slow{index}.bin");
        client.expect(&format!("STOR {name}"), 150).await;
        let stop = Arc::new(tokio::sync::Notify::new());
        let mut sent = send_for_a_while(&mut data, &bytes[..fast]).await;
        let drips = tokio::spawn({
            let (bytes, stop) = (Arc::clone(bytes), Arc::clone(&stop));
            async move {
                while sent < bytes.len() {
                    tokio::select! {
                        () = stop.notified() => break,
                        () = tokio::time::sleep(DRIP) => {}
                    }
                    // If it has been ended, the reply says so.
                    sent += data.try_write(&bytes[sent..=sent]).unwrap_or(0);
                }
                (data, sent)
            }
        });
        Self {
            client,
            name,
            bytes: Arc::clone(bytes),
            drips,
            stop,
        }
    }

    fn is_dripping(&self) -> bool {
        !self.drips.is_finished()
    }

    /// Sends the rest, and sees to it that the file is there, whole, or that nothing of it is. Whether it is.
    async fn end(mut self, gateway: &Gateway) -> bool {
        self.stop.notify_one();
        let (mut data, sent) = self.drips.await.unwrap();
        let _ = data.write_all(&self.bytes[sent..]).await;
        drop(data);
        let reply = self.client.reply().await;
        let stored = gateway.store.object(&self.name);
        match reply.code {
            226 => assert!(stored.is_some_and(|stored| stored == *self.bytes)),
            452 => assert_eq!(stored, None),
            _ => panic!("{}", reply.text()),
        }
        reply.code == 226
    }
}

/// Clients that have sent most of a part, as many of them as there was memory for, and have then nearly stopped.
async fn drip(gateway: &Gateway, clients: usize, bytes: Vec<u8>, fast: usize) -> Vec<Dripping> {
    let bytes = Arc::new(bytes);
    let begin = (0..clients).map(|index| Dripping::begin(gateway, index, &bytes, fast));
    join_all(begin).await
}

/// Sees all of them to their ends. How many were stored.
async fn end_all(gateway: &Gateway, dripping: Vec<Dripping>) -> usize {
    let ends = dripping.into_iter().map(|dripping| dripping.end(gateway));
    let stored = join_all(ends).await;
    nothing_is_left(gateway).await;
    stored.into_iter().filter(|stored| *stored).count()
}

async fn nothing_is_left(gateway: &Gateway) {
    for gauge in [
        r#"bucketferry_memory_bytes{use="uploads"}"#,
        "bucketferry_upload_spilled_bytes",
    ] {
        eventually(gauge, || gateway.metric(gauge) < 1.0).await;
    }
    eventually("no upload is open", || {
        gateway.store.server().open_uploads().is_empty()
    })
    .await;
}

/// Sends until nothing is taken any more: what the gateway does not read fills the sockets' buffers.
/// Where it stopped.
async fn send_for_a_while(data: &mut TcpStream, bytes: &[u8]) -> usize {
    let mut sent = 0;
    while sent < bytes.len() {
        let write = data.write(&bytes[sent..]);
        match tokio::time::timeout(Duration::from_secs(1), write).await {
            Ok(written) => sent += written.unwrap(),
            Err(_) => break,
        }
    }
    sent
}

/// Uploads beside the others, within a time.
async fn upload_beside(gateway: &Gateway, bytes: &[u8], within: Duration) -> Option<u16> {
    let mut client = gateway.client().await;
    client.set_deadline(LONG);
    let upload = async { client.store("fast.bin", bytes).await.code };
    let code = tokio::time::timeout(within, upload).await.ok()?;
    assert!(
        gateway
            .store
            .object("fast.bin")
            .is_some_and(|stored| stored == bytes)
    );
    Some(code)
}

/// How many uploads were ended for others.
fn ended(gateway: &Gateway) -> f64 {
    gateway.metric(r#"bucketferry_transfers_total{direction="upload",outcome="memory_short"}"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_uploads_move_to_disk_when_memory_is_short() {
    let disk = tempfile::tempdir().unwrap();
    let directory = disk.path().to_str().unwrap();
    let settings = [&SETTINGS[..], &[("upload.spill_dir", directory)]].concat();
    let gateway = Gateway::with(Store::s3(), &settings);
    let slow = drip(&gateway, 5, noise(10 * MIB), 5 * MIB - 100 * 1024).await;
    let fast = noise(40 * MIB);
    assert_eq!(upload_beside(&gateway, &fast, LONG / 2).await, Some(226));
    let spilled = gateway.metric("bucketferry_upload_spilled_bytes");
    assert!(spilled >= 4.0 * 1024.0 * 1024.0, "{spilled}");
    let names = std::fs::read_dir(disk.path()).unwrap().count();
    assert_eq!(names, 0, "a killed gateway leaves nothing");
    assert_eq!(end_all(&gateway, slow).await, 5);
}

/// A disk that fails is tried again, and meanwhile it is as if there was none.
#[tokio::test(flavor = "multi_thread")]
async fn a_place_on_disk_that_fails_is_tried_again() {
    let disk = tempfile::tempdir().unwrap();
    let place = disk.path().join("spill");
    std::fs::create_dir(&place).unwrap();
    let directory = place.to_str().unwrap();
    let settings = [&SETTINGS[..], &[("upload.spill_dir", directory)]].concat();
    let gateway = Gateway::with(Store::s3(), &settings);
    std::fs::remove_dir(&place).unwrap();
    let slow = drip(&gateway, 20, noise(6 * MIB), 5 * MIB - 100 * 1024).await;
    assert_eq!(
        upload_beside(&gateway, b"small", Duration::from_secs(5)).await,
        Some(226)
    );
    eventually("some are ended", || ended(&gateway) >= 1.0).await;
    std::fs::create_dir(&place).unwrap();
    let spilled = || gateway.metric("bucketferry_upload_spilled_bytes");
    eventually("others move to disk", || spilled() >= 1.0).await;
    assert!(end_all(&gateway, slow).await > 0);
}

/// A file system of its own, until this is dropped.
struct SmallDisk {
    /// It keeps the namespace that the file system is mounted in.
    keeper: std::process::Child,
    _folder: tempfile::TempDir,
    path: String,
}

impl SmallDisk {
    /// `None` on machines where only root can mount.
    fn mount(bytes: usize) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let script =
            format!(r#"mount -t tmpfs -o size={bytes} small "$0" && echo mounted && exec cat"#);
        let mut command = std::process::Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", &script]);
        command.arg(folder.path()).stderr(Stdio::null());
        let keeper = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut keeper = keeper.spawn().ok()?;
        let mut line = String::new();
        let output = keeper.stdout.as_mut().unwrap();
        std::io::BufReader::new(output)
            .read_line(&mut line)
            .unwrap();
        if line != "mounted\n" {
            keeper.wait().unwrap();
            return None;
        }
        // Its namespace is reached by its root.
        let path = format!("/proc/{}/root{}", keeper.id(), folder.path().display());
        Some(Self {
            keeper,
            _folder: folder,
            path,
        })
    }

    fn used(&self) -> u64 {
        let disk = rustix::fs::statvfs(&*self.path).unwrap();
        (disk.f_blocks - disk.f_bfree) * disk.f_frsize
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Its input ends, and so does it.
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// What does not fit stays in memory, whole; the disk is given back.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_takes_no_bytes_away() {
    let Some(disk) = SmallDisk::mount(3 * MIB) else {
        assert!(std::env::var_os("CI").is_none(), "CI has to mount");
        println!("nothing can be mounted: left out");
        return;
    };
    let settings = [&SETTINGS[..], &[("upload.spill_dir", disk.path.as_str())]].concat();
    let gateway = Gateway::with(Store::s3(), &settings);
    // It holds too little to be ended for others.
    let slow = drip(&gateway, 1, noise(6 * MIB), 5 * MIB - 100 * 1024).await;
    // The store is slow enough for the fast one to wait for memory.
    let fast = noise(40 * MIB);
    gateway.store.server().limit_bandwidth(4 * MIB as u64);
    assert_eq!(upload_beside(&gateway, &fast, LONG).await, Some(226));
    gateway.store.server().heal();
    assert_eq!(end_all(&gateway, slow).await, 1);
    assert_eq!(disk.used(), 0);
}

/// However many large ones hold memory that they don't use.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_file_waits_for_nobody() {
    let gateway = Gateway::with(Store::s3(), &SETTINGS);
    let slow = drip(&gateway, 40, noise(6 * MIB), 5 * MIB - 100 * 1024).await;
    assert_eq!(
        upload_beside(&gateway, b"small", Duration::from_secs(5)).await,
        Some(226)
    );
    assert!(slow.iter().all(Dripping::is_dripping));
    drop(slow);
}

/// However slow the store is with their parts: nobody here could give anything up.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_file_waits_for_no_parts_that_are_on_their_way() {
    let gateway = Gateway::with(Store::s3(), &SETTINGS);
    let server = gateway.store.server();
    server.stall("UploadPart", Duration::from_mins(10));
    let large = noise(40 * MIB);
    let uploads = join_all((0..3).map(async |index| {
        let mut client = gateway.client().await;
        client.set_deadline(LONG);
        let reply = client.store(&format!("large{index}.bin"), &large).await;
        reply.code
    }));
    let small = async {
        let used = || gateway.metric(r#"bucketferry_memory_bytes{use="uploads"}"#);
        eventually("memory is used up", || used() > 17.0 * 1024.0 * 1024.0).await;
        // Whoever waits has waited for a while.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let code = upload_beside(&gateway, b"small", Duration::from_secs(5)).await;
        server.heal();
        code
    };
    let (large, small) = tokio::join!(uploads, small);
    assert_eq!(small, Some(226));
    assert_eq!(large, [226; 3], "a slow store is no client's fault");
    nothing_is_left(&gateway).await;
}

/// What is large enough goes up as it is, and nobody is ended.
#[tokio::test(flavor = "multi_thread")]
async fn slow_uploads_go_up_in_short_parts_when_memory_is_short() {
    let gateway = Gateway::with(Store::s3(), &[]);
    let slow = drip(&gateway, 32, noise(9 * MIB), 8 * MIB - 100 * 1024).await;
    let fast = noise(100 * MIB);
    assert_eq!(upload_beside(&gateway, &fast, LONG / 2).await, Some(226));
    assert!(slow.iter().all(Dripping::is_dripping));
    assert_eq!(end_all(&gateway, slow).await, 32);
    assert!(ended(&gateway) < 1.0);
}

/// Where nothing else helps, the slowest are ended, as many as it takes.
#[tokio::test(flavor = "multi_thread")]
async fn the_slowest_uploads_are_ended_when_nothing_else_helps() {
    let gateway = Gateway::with(Store::s3(), &SETTINGS);
    let slow = drip(&gateway, 5, noise(6 * MIB), 5 * MIB - 100 * 1024).await;
    let fast = noise(40 * MIB);
    assert_eq!(upload_beside(&gateway, &fast, LONG / 2).await, Some(226));
    assert!(ended(&gateway) >= 1.0);
    assert!(end_all(&gateway, slow).await > 0, "no more than it takes");
}
