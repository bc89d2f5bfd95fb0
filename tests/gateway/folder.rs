//! What only a folder can do to uploads: names that move, links, mounts, file names' limits.

use std::os::unix::fs::symlink;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::ftp::{Client, Reply};
use crate::support::process::{Process, get};
use crate::support::{Gateway, MIB, Store, eventually_async, noise, user};

/// What is said in the end to an upload that may be refused before it begins.
async fn attempt(client: &mut Client, command: &str) -> Reply {
    let (mut data, reply) = client.begin(command).await;
    if reply.code != 150 {
        return reply;
    }
    let _ = data.write_all(b"x").await;
    drop(data);
    client.reply().await
}

const PART: (&str, &str) = ("upload.part_size", "5 MiB");

#[tokio::test(flavor = "multi_thread")]
async fn two_uploads_of_one_name_share_nothing_while_their_directory_moves() {
    let gateway = Gateway::with(Store::folder(), &[PART]);
    let (first, second) = (noise(11 * MIB), noise(12 * MIB));
    let mut one = gateway.client().await;
    let (mut data, reply) = one.begin("STOR in/f").await;
    assert_eq!(reply.code, 150);
    data.write_all(&first[..6 * MIB]).await.unwrap();
    gateway.store.put("in/other", b"x");
    let mut two = gateway.client().await;
    two.expect("RNFR in", 350).await;
    two.expect("RNTO archive", 250).await;
    let (mut more, reply) = two.begin("STOR in/f").await;
    assert_eq!(reply.code, 150);
    more.write_all(&second[..7 * MIB]).await.unwrap();
    // Nobody sees either of them.
    assert_eq!(gateway.store.keys(), ["archive/other"]);
    data.write_all(&first[6 * MIB..]).await.unwrap();
    drop(data);
    one.expect_reply(226).await;
    assert!(gateway.store.object("in/f").unwrap() == first);
    more.write_all(&second[7 * MIB..]).await.unwrap();
    drop(more);
    two.expect_reply(226).await;
    assert!(gateway.store.object("in/f").unwrap() == second);
    assert_eq!(gateway.store.keys(), ["archive/other", "in/f"]);
    gateway.store.assert_no_leftovers();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_uploads_of_a_new_name_one_is_stored_where_overwriting_is_denied() {
    let settings = [PART, ("upload.overwrite", "deny")];
    let gateway = Gateway::with(Store::folder(), &settings);
    for round in 0..10 {
        let name = format!("{round}.bin");
        let uploads = [1, 2].map(|number| {
            let (gateway, name) = (&gateway, &name);
            async move {
                let bytes = noise(9 * MIB + number);
                let reply = gateway.client().await.store(name, &bytes).await;
                (reply.code, bytes)
            }
        });
        let [one, two] = uploads;
        let (one, two) = tokio::join!(one, two);
        let stored: Vec<_> = [&one, &two]
            .into_iter()
            .filter(|(code, _)| *code == 226)
            .collect();
        assert_eq!(stored.len(), 1, "{} {}", one.0, two.0);
        assert!(gateway.store.object(&name).unwrap() == stored[0].1);
    }
    gateway.store.assert_no_leftovers();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_files_renamed_to_one_name_one_is_where_overwriting_is_denied() {
    let may = "permissions = [\"rename\", \"release\"]\noverwrite = \"deny\"";
    let gateway = Gateway::for_users(Store::folder(), &user("ferry", may), &[]);
    for round in 0..50 {
        let target = format!("{round}.txt");
        let renames = ["a", "b"].map(|name| {
            gateway
                .store
                .put(&format!("{name}{round}"), name.as_bytes());
            let (gateway, target) = (&gateway, &target);
            async move {
                let mut client = gateway.client().await;
                client.expect(&format!("RNFR {name}{round}"), 350).await;
                client.command(&format!("RNTO {target}")).await.code
            }
        });
        let [one, two] = renames;
        let codes = tokio::join!(one, two);
        assert!(matches!(codes, (250, 553) | (553, 250)), "{codes:?}");
    }
    assert_eq!(gateway.store.keys().len(), 100, "no file is lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_and_an_upload_of_one_name_are_one_after_the_other() {
    let gateway = Gateway::on(Store::folder());
    for _ in 0..30 {
        gateway.store.put("a.txt", b"old");
        let (mut append, mut upload) = (gateway.client().await, gateway.client().await);
        let (append, upload) = tokio::join!(
            append.upload("APPE a.txt", b"+more"),
            upload.store("a.txt", b"new")
        );
        assert_eq!(upload.code, 226);
        let found = gateway.store.object("a.txt").unwrap();
        // What was stored is never lost: an append that comes later adds to it, one that came too early is refused.
        let found = String::from_utf8(found).unwrap();
        assert!(matches!(&*found, "new" | "new+more"), "{found} {append:?}");
        assert!(append.code == 226 || found == "new", "{found} {append:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_gateway_leaves_nothing() {
    let store = Store::folder();
    store.put("old.bin", b"the old one");
    for (round, command) in [
        "STOR new.bin",
        "STOR old.bin",
        "APPE old.bin",
        "STOR d/e/new.bin",
    ]
    .into_iter()
    .cycle()
    .take(12)
    .enumerate()
    {
        let process = Process::serve(&store, &[PART]).await;
        let mut client = Client::connect_as(process.address, "ferry", "secret").await;
        let (mut data, reply) = client.begin(command).await;
        assert_eq!(reply.code, 150);
        data.write_all(&noise(round * MIB)).await.unwrap();
        process.signal(rustix::process::Signal::KILL);
        process.ended().await;
        assert_eq!(store.object("old.bin").unwrap(), b"the old one");
        let keys = store.keys();
        let files: Vec<_> = keys.iter().filter(|key| !key.ends_with('/')).collect();
        assert_eq!(files, ["old.bin"]);
        store.assert_no_leftovers();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_name_that_a_file_can_have_is_taken() {
    let gateway = Gateway::on(Store::folder());
    let mut client = gateway.client().await;
    let names = [
        "a#1".to_owned(),
        "scan#12345".to_owned(),
        "n".repeat(245),
        "n".repeat(255),
    ];
    for name in &names {
        for (command, whole) in [("STOR", "x"), ("STOR", "x"), ("APPE", "xx")] {
            let reply = client.upload(&format!("{command} {name}"), b"x").await;
            assert_eq!(reply.code, 226, "{command} {name}");
            assert_eq!(gateway.store.object(name).unwrap(), whole.as_bytes());
        }
    }
    let mut listed: Vec<_> = client
        .list("NLST", "")
        .await
        .0
        .lines()
        .map(str::to_owned)
        .collect();
    listed.sort();
    let mut names = names.to_vec();
    names.sort();
    assert_eq!(listed, names);
    let long = format!("STOR {}", "n".repeat(256));
    let text = attempt(&mut client, &long).await;
    assert_eq!(text.code, 553);
    assert!(text.text().contains("255"), "{text:?}");
    client.expect("MKD .bucketferry", 553).await;
    client.expect("SIZE .bucketferry/identity", 553).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_link_leads_out_of_the_folder() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), b"secret").unwrap();
    let gateway = Gateway::on(Store::folder());
    let root = gateway.store.path();
    symlink(outside.path(), root.join("out")).unwrap();
    symlink(outside.path().join("secret"), root.join("file")).unwrap();
    symlink("../../../../../../etc/passwd", root.join("passwd")).unwrap();
    let mut client = gateway.client().await;
    for name in ["out/secret", "file", "passwd"] {
        let (_data, reply) = client.begin(&format!("RETR {name}")).await;
        assert!(reply.code >= 400, "{name}: {reply:?}");
        assert!(client.command(&format!("SIZE {name}")).await.code >= 400);
    }
    for command in ["STOR out/new", "APPE out/secret"] {
        let reply = attempt(&mut client, command).await;
        assert!(reply.code >= 400, "{command}: {reply:?}");
    }
    for command in ["DELE out/secret", "MKD out/d", "RMD out", "CWD out"] {
        assert!(client.command(command).await.code >= 400, "{command}");
    }
    assert_eq!(client.list("NLST", "").await.0, "");
    assert_eq!(names_in(outside.path()), ["secret"]);
    assert_eq!(
        std::fs::read(outside.path().join("secret")).unwrap(),
        b"secret"
    );
    // A link is replaced by a file, and what it leads to stays.
    assert_eq!(client.store("file", b"a file").await.code, 226);
    assert_eq!(
        std::fs::read(outside.path().join("secret")).unwrap(),
        b"secret"
    );
    assert_eq!(gateway.store.object("file").unwrap(), b"a file");
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_to_a_directory_is_refused_for_good() {
    let gateway = Gateway::on(Store::folder());
    let mut client = gateway.client().await;
    client.expect("MKD d", 257).await;
    for command in ["APPE d", "STOR d"] {
        assert_eq!(attempt(&mut client, command).await.code, 550, "{command}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_shrinks_is_no_whole_file() {
    let gateway = Gateway::on(Store::folder());
    let bytes = noise(64 * MIB);
    gateway.store.put("a.bin", &bytes);
    let mut client = gateway.client().await;
    let (mut data, reply) = client.begin("RETR a.bin").await;
    assert_eq!(reply.code, 150);
    let mut beginning = vec![0; MIB];
    data.read_exact(&mut beginning).await.unwrap();
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(gateway.store.path().join("a.bin"));
    file.unwrap().set_len(32 << 20).unwrap();
    let mut rest = Vec::new();
    let _ = data.read_to_end(&mut rest).await;
    assert!(rest.len() < bytes.len() - MIB);
    let reply = client.reply().await;
    assert!(reply.code >= 400, "{reply:?}");
}

/// Where a volume was, there is an empty folder when it is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_goes_away_is_an_error_until_it_is_back() {
    let gateway = Gateway::with(Store::folder(), &[("admin.ready_needs_store", "always")]);
    let (root, admin) = (
        gateway.store.path().to_owned(),
        gateway.inner.admin_address(),
    );
    let mut client = gateway.client().await;
    assert_eq!(client.store("a.txt", b"first").await.code, 226);
    let (mut data, reply) = client.begin("STOR b.txt").await;
    assert_eq!(reply.code, 150);
    let away = root.with_extension("away");
    std::fs::rename(&root, &away).unwrap();
    std::fs::create_dir(&root).unwrap();
    data.write_all(b"second").await.unwrap();
    drop(data);
    client.expect_reply(451).await;
    for command in ["STOR c.txt", "APPE a.txt", "RETR a.txt", "STOR d/e.txt"] {
        assert_eq!(attempt(&mut client, command).await.code, 451, "{command}");
    }
    client.expect("MKD d", 451).await;
    assert_eq!(names_in(&root), Vec::<String>::new());
    eventually_async("it is not ready", async || {
        get(admin, "/readyz").await.0 == 503
    })
    .await;
    std::fs::remove_dir(&root).unwrap();
    std::fs::rename(&away, &root).unwrap();
    assert_eq!(client.store("c.txt", b"third").await.code, 226);
    assert_eq!(gateway.store.keys(), ["a.txt", "c.txt"]);
    eventually_async("it is ready", async || get(admin, "/readyz").await.0 == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_missing_is_not_made_where_it_must_not_be() {
    use crate::support::process::{bucketferry, run};
    let folder = tempfile::tempdir().unwrap();
    let check = async |create: &str, name: &str| {
        let mut command = bucketferry();
        let url = format!("file://{}", folder.path().join(name).display());
        command.args(["check", "--user", "a:b-b-b-b-b-b"]);
        command
            .env("BUCKETFERRY_STORE__URL", url)
            .env("BUCKETFERRY_STORE__CREATE", create);
        let output = run(&mut command, "").await;
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    std::fs::create_dir(folder.path().join("mount-point")).unwrap();
    for name in ["none", "mount-point"] {
        let (fine, text) = check("never", name).await;
        assert!(!fine && text.contains("store.create"), "{text}");
    }
    assert_eq!(names_in(folder.path()), ["mount-point"]);
    assert_eq!(
        names_in(&folder.path().join("mount-point")),
        Vec::<String>::new()
    );
    assert!(check("missing", "mount-point").await.0);
    assert!(check("never", "mount-point").await.0);
}

/// Whoever opens a pipe waits for its other end.
#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_is_no_file() {
    let gateway = Gateway::on(Store::folder());
    let path = gateway.store.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.unwrap().success());
    let mut client = gateway.client().await;
    let (_data, reply) = client.begin("RETR pipe").await;
    assert_eq!(reply.code, 550);
    assert_eq!(client.list("NLST", "").await.0, "");
    assert_eq!(attempt(&mut client, "APPE pipe").await.code, 450);
    assert_eq!(attempt(&mut client, "STOR pipe").await.code, 226);
    assert_eq!(gateway.store.object("pipe").unwrap(), b"x");
}

/// A time that no calendar has must not hide all that lies beside it.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_a_far_future_is_listed() {
    let gateway = Gateway::on(Store::folder());
    gateway.store.put("a.txt", b"x");
    gateway.store.put("z.txt", b"x");
    let file = std::fs::File::options()
        .write(true)
        .open(gateway.store.path().join("z.txt"));
    let far = std::time::UNIX_EPOCH + std::time::Duration::from_hours(2_500_000_000);
    if file.unwrap().set_modified(far).is_err() {
        // Not every file system has such times; those that have not are in no danger.
        return;
    }
    let mut client = gateway.client().await;
    for command in ["LIST", "MLSD"] {
        assert_eq!(
            client.list(command, "").await.0.lines().count(),
            2,
            "{command}"
        );
    }
}

/// Two names may be of one file: then one of them goes.
#[tokio::test(flavor = "multi_thread")]
async fn a_rename_onto_a_hard_link_of_the_same_file_is_done() {
    let gateway = Gateway::on(Store::folder());
    gateway.store.put("a", b"x");
    let root = gateway.store.path();
    std::fs::hard_link(root.join("a"), root.join("b")).unwrap();
    let mut client = gateway.client().await;
    client.expect("RNFR a", 350).await;
    client.expect("RNTO b", 250).await;
    assert_eq!(gateway.store.keys(), ["b"]);
}
