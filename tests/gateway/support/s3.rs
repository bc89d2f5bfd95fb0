//! A bucket for tests: a real S3 server over HTTP inside the test process, its objects in memory.
//!
//! It checks signatures and answers as S3 does: conditions on writes, ranges, listings by page, multipart uploads
//! with their rules. It runs on a thread of its own, so any test can use it, whatever its runtime.
//! A test looks into the bucket directly, and tells the server what to do wrong.

#![allow(
    dead_code,
    reason = "a toolbox: not every test binary needs every tool"
)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "S3's types are signed, and memory is smaller than any of them"
)]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that can't be set up has failed"
)]
#![allow(clippy::unused_self, reason = "a test asks the server, not its type")]

#[macro_use]
mod fields;

mod api;
mod bucket;
mod faults;
mod google;
mod http;
mod request;
mod spelling;
#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use s3s::auth::SimpleAuth;
use s3s::dto::Checksum;
use s3s::service::{S3Service, S3ServiceBuilder};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use api::Api;
use bucket::{Attributes, Bucket, Conditions, Content, Object, Part};
use faults::{Fault, Faults, Gate};

const BUCKET: &str = "ferry-bucket";
const ACCESS_KEY: &str = "FERRYACCESSKEY";
const SECRET_KEY: &str = "ferry/secret+key";
const REGION: &str = "us-east-1";

/// How long a test waits for the server to see what it should see.
const PATIENCE: Duration = Duration::from_secs(10);

/// The server with its one bucket. It stops when dropped.
pub(crate) struct S3Server {
    address: SocketAddr,
    bucket: Arc<Mutex<Bucket>>,
    faults: Arc<Faults>,
    running: Mutex<Option<Running>>,
}

/// The thread that serves, until it is told to stop.
struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl S3Server {
    /// Starts on a free port of 127.0.0.1.
    pub(crate) fn start() -> Self {
        Self::start_at(Self::reserve_address())
    }

    /// Starts as a bucket of Google Cloud Storage, whose XML API is S3's in other headers.
    pub(crate) fn start_google() -> Self {
        let server = Self::start();
        let _ = server.faults.google.set(Arc::clone(&server.bucket));
        server
    }

    /// What `object_store` needs to take this server for Google's.
    pub(crate) fn google_options(&self) -> Vec<(String, String)> {
        [
            ("google_base_url", self.endpoint()),
            ("google_bearer_token", google::TOKEN.to_owned()),
            ("google_allow_http", "true".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// An address where nothing listens, and which nothing else gets: for a bucket that can't be reached yet.
    pub(crate) fn reserve_address() -> SocketAddr {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        // Lets the server bind here too. Held without listening, so connections are refused until it does.
        socket.set_reuse_address(true).expect("an address to share");
        socket
            .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
            .expect("a free port");
        let address = socket
            .local_addr()
            .expect("its address")
            .as_socket()
            .expect("an IP address");
        RESERVED
            .lock()
            .expect("the reserved addresses")
            .push(socket);
        address
    }

    /// Starts at `address`, an empty bucket in it.
    pub(crate) fn start_at(address: SocketAddr) -> Self {
        let server = Self {
            address,
            bucket: Arc::default(),
            faults: Arc::default(),
            running: Mutex::default(),
        };
        server.go_online();
        server
    }

    /// Closes the port and every connection. The bucket keeps what is in it.
    pub(crate) fn go_offline(&self) {
        let running = self.running.lock().expect("the server's state").take();
        let Some(Running { stop, thread }) = running else {
            return;
        };
        let _ = stop.send(());
        thread.join().expect("the server ended well");
    }

    /// Serves at the same address again.
    pub(crate) fn go_online(&self) {
        let mut running = self.running.lock().expect("the server's state");
        running.get_or_insert_with(|| {
            Running::start(self.address, self.service(), Arc::clone(&self.faults))
        });
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn bucket(&self) -> &'static str {
        BUCKET
    }

    pub(crate) fn access_key(&self) -> &'static str {
        ACCESS_KEY
    }

    pub(crate) fn secret_key(&self) -> &'static str {
        SECRET_KEY
    }

    /// `s3://bucket`, as `store.url` has it.
    pub(crate) fn url(&self) -> String {
        format!("s3://{BUCKET}")
    }

    /// What `object_store` needs to reach this server, by its own option names.
    pub(crate) fn options(&self) -> Vec<(String, String)> {
        Self::options_at(self.address)
    }

    /// The options of a server that isn't started yet.
    pub(crate) fn options_at(address: SocketAddr) -> Vec<(String, String)> {
        let endpoint = format!("http://{address}");
        let options = [
            ("aws_endpoint", endpoint.as_str()),
            ("aws_access_key_id", ACCESS_KEY),
            ("aws_secret_access_key", SECRET_KEY),
            ("aws_region", REGION),
            ("aws_allow_http", "true"),
            ("aws_virtual_hosted_style_request", "false"),
        ];
        options
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec()
    }

    fn service(&self) -> S3Service {
        let mut builder = S3ServiceBuilder::new(Api {
            name: BUCKET,
            bucket: Arc::clone(&self.bucket),
        });
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        builder.set_access(Gate(Arc::clone(&self.faults)));
        builder.build()
    }
}

/// Looks into the bucket, and things put there by others.
impl S3Server {
    /// The bytes at `key`.
    pub(crate) fn object(&self, key: &str) -> Option<Bytes> {
        self.state()
            .objects
            .get(key)
            .map(|object| object.content.joined())
    }

    pub(crate) fn size(&self, key: &str) -> Option<u64> {
        self.state()
            .objects
            .get(key)
            .map(|object| object.content.len)
    }

    /// The `ETag` at `key`, without quotes.
    pub(crate) fn etag(&self, key: &str) -> Option<String> {
        self.state()
            .objects
            .get(key)
            .map(|object| object.etag.clone())
    }

    pub(crate) fn content_type(&self, key: &str) -> Option<String> {
        self.state()
            .objects
            .get(key)?
            .attributes
            .content_type
            .clone()
    }

    /// A header `x-amz-meta-…` of the object at `key`.
    pub(crate) fn metadata(&self, key: &str, name: &str) -> Option<String> {
        self.state()
            .objects
            .get(key)?
            .attributes
            .metadata
            .as_ref()?
            .get(name)
            .cloned()
    }

    /// All keys, in S3's order.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.state().objects.keys().cloned().collect()
    }

    /// Puts an object there as another client would, under any key.
    pub(crate) fn put(&self, key: &str, bytes: impl Into<Bytes>) {
        let content = Content::new(vec![bytes.into()]);
        let object = Object::new(content, Attributes::default(), Checksum::default());
        self.state()
            .put(key, object, &Conditions::default())
            .expect("a put without conditions");
    }

    /// From now on deletes are done whatever their conditions, as most stores do.
    pub(crate) fn delete_anyway(&self) {
        self.state().deletes_anyway = true;
    }

    /// Puts an object that is `bytes` many times over, in the memory of once.
    pub(crate) fn put_repeated(&self, key: &str, bytes: Bytes, times: usize, kind: &str) {
        let content = Content::new(vec![bytes; times]);
        let attributes = Attributes {
            content_type: Some(kind.to_owned()),
            ..Attributes::default()
        };
        let ends = Object::new(content.ends(), attributes, Checksum::default());
        let object = Object { content, ..ends };
        self.state().objects.insert(key.to_owned(), object);
    }

    pub(crate) fn delete(&self, key: &str) {
        self.state().objects.remove(key);
    }

    /// Multipart uploads that were neither completed nor aborted: key and upload id.
    pub(crate) fn open_uploads(&self) -> Vec<(String, String)> {
        self.state().uploads.keys().cloned().collect()
    }
    /// The sizes of the parts that an open upload has, by part number.
    pub(crate) fn parts(&self, key: &str, upload_id: &str) -> Vec<(i32, u64)> {
        let mut state = self.state();
        let upload = state.upload(key, upload_id).expect("an open upload");
        upload
            .parts
            .iter()
            .map(|(number, part)| (*number, part.content.len))
            .collect()
    }

    /// Leaves a multipart upload with one part behind, as a killed process does. Gives its id.
    pub(crate) fn leave_upload(&self, key: &str, part: impl Into<Bytes>) -> String {
        let mut state = self.state();
        let id = state.begin(key, Attributes::default());
        let part = Part::new(Content::new(vec![part.into()]), Checksum::default());
        state
            .upload(key, &id)
            .expect("the upload just begun")
            .parts
            .insert(1, part);
        id
    }

    /// Makes everything in the bucket look older.
    pub(crate) fn age(&self, by: Duration) {
        let mut state = self.state();
        state
            .objects
            .values_mut()
            .for_each(|object| object.modified -= by);
        state
            .uploads
            .values_mut()
            .for_each(|upload| upload.begun -= by);
    }

    fn state(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().expect("the bucket")
    }
}

/// The log of requests.
impl S3Server {
    /// Each request in the order of arrival, as `Operation key?query`, or `Rejected METHOD uri` without a right
    /// signature.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.faults.logged()
    }

    /// How many requests asked for `operation`.
    pub(crate) fn count(&self, operation: &str) -> usize {
        let is_of = |line: &String| line.split(' ').next() == Some(operation);
        self.requests().iter().filter(|line| is_of(line)).count()
    }

    pub(crate) fn forget_requests(&self) {
        self.faults.forget_log();
    }

    /// Bytes of all requests so far, heads and bodies.
    pub(crate) fn received(&self) -> u64 {
        self.faults.received.load(Ordering::SeqCst)
    }

    /// Waits until `operation` has been asked for so many times.
    pub(crate) async fn wait_for(&self, operation: &str, times: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.count(operation) < times {
            assert!(
                Instant::now() < deadline,
                "no {times} {operation} in {:#?}",
                self.requests()
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// The end of what was asked.
impl S3Server {
    /// Waits until no request is being answered, those included whose client has given up.
    pub(crate) async fn wait_until_idle(&self) {
        wait_until("no request is being answered", || {
            self.faults.in_hand() == 0
        })
        .await;
    }

    /// Waits until all clients, which are dead, have had everything that they asked for.
    pub(crate) async fn wait_until_abandoned(&self) {
        // Its answer comes after those are accepted that wait.
        let mut last = TcpStream::connect(self.address).await.expect("the server");
        let request = b"GET / HTTP/1.1\r\nHost: last\r\nConnection: close\r\n\r\n";
        last.write_all(request).await.expect("a request");
        let answer = last.read_to_end(&mut Vec::new()).await;
        answer.expect("an answer");
        wait_until("no client is connected", || self.faults.connected() == 0).await;
    }
}

async fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// What goes wrong. An operation is named as S3 names it: `"UploadPart"`, or `"*"` for each.
impl S3Server {
    /// Refuses the next `times` requests with `status` (`usize::MAX`: until healed). 503 is S3's `SlowDown`,
    /// 403 `AccessDenied`; 200 is an error in the body of a success, as `CompleteMultipartUpload` may send it.
    pub(crate) fn fail_next(&self, operation: &str, times: usize, status: u16) {
        self.faults.plan(operation, Fault::Refuse(status), times);
    }

    /// Tells the next `times` requests of every kind to slow down.
    pub(crate) fn slow_down(&self, times: usize) {
        self.fail_next("*", times, 503);
    }

    /// Does what the next `times` requests ask, but closes their connections instead of answering.
    pub(crate) fn lose_next_answer(&self, operation: &str, times: usize) {
        self.faults.plan(operation, Fault::LoseAnswer, times);
    }

    /// Breaks the bodies of the next `times` answers off after so many bytes.
    pub(crate) fn break_next_answer(&self, operation: &str, times: usize, after: u64) {
        self.faults
            .plan(operation, Fault::BreakAnswer(after), times);
    }

    /// Lets every request wait for `by` before its body is read, or until healed.
    pub(crate) fn stall(&self, operation: &str, by: Duration) {
        self.faults.stall(operation, by);
    }

    /// Reads the bodies of requests that come from now on no faster than this, each for itself.
    pub(crate) fn limit_bandwidth(&self, bytes_per_second: u64) {
        self.faults.limit_bandwidth(bytes_per_second);
    }

    /// Sends the body of each answer from now on no faster than this, each for itself: what a store far away
    /// gives one stream.
    pub(crate) fn limit_answers(&self, bytes_per_second: u64) {
        self.faults.limit_answers(bytes_per_second);
    }

    /// Takes all faults back. Stalled requests go on at once.
    pub(crate) fn heal(&self) {
        self.faults.heal();
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.go_offline();
    }
}

impl Running {
    fn start(address: SocketAddr, service: S3Service, faults: Arc<Faults>) -> Self {
        // Bound before the thread starts: whoever has the server can connect.
        let listener = TcpListener::bind(address).expect("the server's address");
        let (stop, stopped) = oneshot::channel();
        let serve = move || run(http::serve(listener, service, faults), stopped);
        let thread = std::thread::Builder::new()
            .name("s3".to_owned())
            .spawn(serve)
            .expect("a thread");
        Self { stop, thread }
    }
}

/// Runs `serve` until `stopped`; the connections end with the runtime.
fn run(serve: impl Future<Output = ()>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        tokio::select! {
            () = serve => {}
            _ = stopped => {}
        }
    });
}

/// Sockets that hold the addresses of all servers until the process ends.
static RESERVED: Mutex<Vec<Socket>> = Mutex::new(Vec::new());
