//! An API server of Kubernetes with one Service in it: `get` and `watch` with bookmarks, and all that can be wrong with
//! them: rights that are missing, too much to do, silence, versions that have expired, connections
//! that break.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

const NAMESPACE: &str = "ftp";
const NAME: &str = "gateway";
const TOKEN: &str = "let-me-in";

/// The server. Its connections break with it.
pub(crate) struct ApiServer {
    state: watch::Sender<State>,
    counts: Arc<Counts>,
    address: SocketAddr,
    folder: TempDir,
    running: Option<JoinSet<()>>,
}

/// What was asked for.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) gets: AtomicUsize,
    pub(crate) watches: AtomicUsize,
    /// Requests that a [`Fault`] was the answer to.
    pub(crate) refused: AtomicUsize,
    /// Requests for anything but that one Service.
    pub(crate) others: AtomicUsize,
}

#[derive(Clone)]
struct State {
    version: usize,
    /// `status.loadBalancer.ingress` as JSON; `None` is no such Service.
    ingress: Option<String>,
    fault: Option<Fault>,
    /// How watches that run end, and a number that counts up.
    ending: (usize, Ending),
}

/// How the server does not do what it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// 403.
    Forbidden,
    /// 403 for a watch, though not for a look.
    WatchForbidden,
    /// 410 for a watch.
    WatchGone,
    /// 503, with the advice to come back.
    Overloaded,
    /// Connections are taken, and then nothing happens.
    Silent,
}

/// How a watch ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// An event says 410.
    Expired,
    /// An event says 500.
    Failed,
    /// In the middle of an event.
    Torn,
    /// As after the time that was asked for.
    Orderly,
}

impl ApiServer {
    /// With a Service whose load balancer has this.
    pub(crate) fn start(ingress: &str) -> Self {
        let (state, _) = watch::channel(State {
            version: 1000,
            ingress: Some(ingress.to_owned()),
            fault: None,
            ending: (0, Ending::Orderly),
        });
        let mut server = Self {
            state,
            counts: Arc::default(),
            address: ([127, 0, 0, 1], 0).into(),
            folder: tempfile::tempdir().unwrap(),
            running: None,
        };
        server.listen();
        let config = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
             clusters:\n- name: here\n  cluster:\n    server: http://{}\n\
             users:\n- name: gateway\n  user:\n    token: {TOKEN}\n\
             contexts:\n- name: here\n  context:\n    cluster: here\n    user: gateway\n",
            server.address
        );
        std::fs::write(server.kubeconfig(), config).unwrap();
        server
    }

    /// The file that leads to it.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        Path::new(self.folder.path()).join("kubeconfig")
    }

    pub(crate) fn gets(&self) -> usize {
        self.counts.gets.load(Ordering::SeqCst)
    }

    pub(crate) fn watches(&self) -> usize {
        self.counts.watches.load(Ordering::SeqCst)
    }

    pub(crate) fn refused(&self) -> usize {
        self.counts.refused.load(Ordering::SeqCst)
    }

    pub(crate) fn others(&self) -> usize {
        self.counts.others.load(Ordering::SeqCst)
    }

    /// The load balancer is given something else; `None` deletes the Service.
    pub(crate) fn change(&self, ingress: Option<&str>) {
        self.state.send_modify(|state| {
            state.version += 1;
            state.ingress = ingress.map(str::to_owned);
        });
    }

    /// From now on this is wrong with requests.
    pub(crate) fn fail_by(&self, fault: Option<Fault>) {
        self.state.send_modify(|state| state.fault = fault);
    }

    /// Ends all watches that run.
    pub(crate) fn end_watches(&self, ending: Ending) {
        self.state.send_modify(|state| {
            state.version += 1000;
            state.ending = (state.ending.0 + 1, ending);
        });
    }

    /// Takes connections.
    fn listen(&mut self) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        let listener = socket.listen(16).unwrap();
        self.address = listener.local_addr().unwrap();
        let mut running = JoinSet::new();
        running.spawn(serve(
            listener,
            self.state.subscribe(),
            Arc::clone(&self.counts),
        ));
        self.running = Some(running);
    }
}

async fn serve(listener: TcpListener, state: watch::Receiver<State>, counts: Arc<Counts>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        connections.spawn(connection(stream, state.clone(), Arc::clone(&counts)));
    }
}

/// Answers requests until one is a watch, or the client leaves.
async fn connection(stream: TcpStream, mut state: watch::Receiver<State>, counts: Arc<Counts>) {
    let mut stream = BufReader::new(stream);
    while let Some(head) = request(&mut stream).await {
        let now = state.borrow_and_update().clone();
        let target = head.split(' ').nth(1).unwrap().to_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let all = format!("/api/v1/namespaces/{NAMESPACE}/services");
        let one = format!("{all}/{NAME}");
        let selected = query.contains(&format!("fieldSelector=metadata.name%3D{NAME}"));
        let is_watch = path == all && query.contains("watch=true") && selected;
        let fault = match now.fault {
            Some(Fault::WatchForbidden | Fault::WatchGone) if !is_watch => None,
            fault => fault,
        };
        let sent = if !head.contains(&format!("authorization: Bearer {TOKEN}\r\n")) {
            refuse(&mut stream, 401, "Unauthorized").await
        } else if let Some(fault) = fault {
            counts.refused.fetch_add(1, Ordering::SeqCst);
            refuse_by(&mut stream, fault).await
        } else if path == one {
            counts.gets.fetch_add(1, Ordering::SeqCst);
            match now.object() {
                Some(object) => answer(&mut stream, 200, &object).await,
                None => refuse(&mut stream, 404, "not found").await,
            }
        } else if is_watch {
            let _ = events(&mut stream, query, state, &counts).await;
            return;
        } else {
            counts.others.fetch_add(1, Ordering::SeqCst);
            refuse(&mut stream, 403, "only that one Service").await
        };
        if sent.is_err() {
            return;
        }
    }
}

async fn refuse_by(stream: &mut BufReader<TcpStream>, fault: Fault) -> std::io::Result<()> {
    match fault {
        Fault::Forbidden | Fault::WatchForbidden => refuse(stream, 403, "is forbidden").await,
        Fault::WatchGone => refuse(stream, 410, "too old resource version").await,
        Fault::Overloaded => refuse(stream, 503, "too much to do").await,
        Fault::Silent => std::future::pending().await,
    }
}

/// The head of a request, its fields in lower case; none has a body.
async fn request(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            return Some(head);
        }
        match line.split_once(": ") {
            Some((name, value)) => {
                let _ = write!(head, "{}: {value}", name.to_lowercase());
            }
            None => head.push_str(&line),
        }
    }
}

async fn answer(stream: &mut BufReader<TcpStream>, code: u16, body: &str) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {code} x\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).await
}

async fn refuse(stream: &mut BufReader<TcpStream>, code: u16, why: &str) -> std::io::Result<()> {
    answer(stream, code, &status(code, why)).await
}

/// A watch from nothing on: what there is, then each change; a bookmark after each, for who takes them.
async fn events(
    stream: &mut BufReader<TcpStream>,
    query: &str,
    mut state: watch::Receiver<State>,
    counts: &Counts,
) -> std::io::Result<()> {
    let mut before = state.borrow_and_update().clone();
    // Whatever comes from here on is told.
    counts.watches.fetch_add(1, Ordering::SeqCst);
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    if let Some(object) = before.object() {
        event(stream, "ADDED", &object).await?;
    }
    let bookmarks = query.contains("allowWatchBookmarks=true");
    loop {
        if bookmarks {
            event(stream, "BOOKMARK", &before.bookmark()).await?;
        }
        if state.changed().await.is_err() {
            return Ok(());
        }
        let now = state.borrow_and_update().clone();
        if now.ending != before.ending {
            return end(stream, now.ending.1).await;
        }
        match (before.object(), now.object()) {
            (Some(old), Some(new)) if old != new => event(stream, "MODIFIED", &new).await?,
            (None, Some(new)) => event(stream, "ADDED", &new).await?,
            (Some(old), None) => event(stream, "DELETED", &old).await?,
            _ => {}
        }
        before = now;
    }
}

async fn end(stream: &mut BufReader<TcpStream>, ending: Ending) -> std::io::Result<()> {
    match ending {
        Ending::Expired => event(stream, "ERROR", &status(410, "too old resource version")).await?,
        Ending::Failed => event(stream, "ERROR", &status(500, "etcd is away")).await?,
        Ending::Torn => return stream.write_all(b"80\r\n{\"type\":\"MODI").await,
        Ending::Orderly => {}
    }
    stream.write_all(b"0\r\n\r\n").await
}

async fn event(stream: &mut BufReader<TcpStream>, kind: &str, object: &str) -> std::io::Result<()> {
    let line = format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n");
    let chunk = format!("{:x}\r\n{line}\r\n", line.len());
    stream.write_all(chunk.as_bytes()).await
}

fn status(code: u16, message: &str) -> String {
    format!(
        r#"{{"kind":"Status","apiVersion":"v1","metadata":{{}},"status":"Failure","message":"{message}","reason":"x","code":{code}}}"#
    )
}

impl State {
    /// What a bookmark holds: the kind, and how far the watch has come.
    fn bookmark(&self) -> String {
        let version = self.version;
        format!(
            r#"{{"kind":"Service","apiVersion":"v1","metadata":{{"resourceVersion":"{version}","creationTimestamp":null}},"spec":{{}},"status":{{"loadBalancer":{{}}}}}}"#
        )
    }

    fn object(&self) -> Option<String> {
        let ingress = self.ingress.as_ref()?;
        let (name, version) = (NAME, self.version);
        Some(format!(
            r#"{{"kind":"Service","apiVersion":"v1","metadata":{{"name":"{name}","namespace":"{NAMESPACE}","resourceVersion":"{version}"}},"spec":{{"type":"LoadBalancer"}},"status":{{"loadBalancer":{{"ingress":{ingress}}}}}}}"#
        ))
    }
}
