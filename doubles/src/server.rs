//! A bucket behind a protocol, on a port of its own.
//!
//! It runs on a thread of its own, so any test can use it, whatever its runtime.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use s3s::dto::Checksum;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::azure::Azure;
use crate::bucket::{Attributes, Bucket, Conditions, Content, Damage, Object, Part, STANDARD};
use crate::faults::{Fault, Faults, Strike};
use crate::faulty::Faulty;
use crate::google::Google;
use crate::google::checksums::crc32c_of_object;
use crate::http::{self, Service};
use crate::s3::S3;
use crate::s3::request::all_of;

const BUCKET: &str = "ferry-bucket";

/// What a bucket speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Amazon S3.
    S3,
    /// The XML API of Google Cloud Storage.
    Google,
    /// Azure Blob Storage.
    Azure,
}

/// How long a test waits for the server to see what it should see.
const PATIENCE: Duration = Duration::from_secs(10);

/// The server with its one bucket. It stops when dropped.
pub struct Server {
    address: SocketAddr,
    bucket: Arc<Mutex<Bucket>>,
    protocol: Protocol,
    faults: Arc<Faults>,
    running: Mutex<Option<Running>>,
}

/// The thread that serves, until it is told to stop.
struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Server {
    /// Starts on a free port of 127.0.0.1, an empty bucket in it.
    pub fn start(protocol: Protocol) -> Self {
        Self::start_at(Self::reserve_address(), protocol)
    }

    /// An address where nothing listens, and which nothing else gets: for a bucket that can't be reached yet.
    pub fn reserve_address() -> SocketAddr {
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

    /// Starts at `address`.
    pub fn start_at(address: SocketAddr, protocol: Protocol) -> Self {
        let server = Self {
            address,
            bucket: Arc::default(),
            protocol,
            faults: Arc::default(),
            running: Mutex::default(),
        };
        server.go_online();
        server
    }

    /// Closes the port and every connection. The bucket keeps what is in it.
    pub fn go_offline(&self) {
        let running = self.running.lock().expect("the server's state").take();
        let Some(Running { stop, thread }) = running else {
            return;
        };
        let _ = stop.send(());
        thread.join().expect("the server ended well");
    }

    /// Serves at the same address again.
    pub fn go_online(&self) {
        let mut running = self.running.lock().expect("the server's state");
        running.get_or_insert_with(|| self.serve());
    }

    fn serve(&self) -> Running {
        let (bucket, faults) = (Arc::clone(&self.bucket), Arc::clone(&self.faults));
        match self.protocol {
            Protocol::S3 => self.serve_as(S3::new(BUCKET, bucket, faults)),
            Protocol::Google => self.serve_as(Google::new(BUCKET, bucket, faults)),
            Protocol::Azure => self.serve_as(Azure::new(BUCKET, bucket, faults)),
        }
    }

    fn serve_as(&self, service: impl Service) -> Running {
        let service = Faulty::new(service, Arc::clone(&self.faults));
        Running::start(self.address, service, Arc::clone(&self.faults.received))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address that its requests go to.
    pub fn endpoint(&self) -> String {
        endpoint(self.address)
    }

    /// `s3://bucket`, as `store.url` has it.
    pub fn url(&self) -> String {
        let scheme = match self.protocol {
            Protocol::S3 => "s3",
            Protocol::Google => "gs",
            Protocol::Azure => "az",
        };
        format!("{scheme}://{BUCKET}")
    }

    /// What `object_store` needs to reach this server, by its own option names.
    pub fn options(&self) -> Vec<(String, String)> {
        Self::options_at(self.address, self.protocol)
    }

    /// The options of a server that isn't started yet.
    pub fn options_at(address: SocketAddr, protocol: Protocol) -> Vec<(String, String)> {
        let options = match protocol {
            Protocol::S3 => S3::options(&endpoint(address)),
            Protocol::Google => Google::options(&endpoint(address)),
            Protocol::Azure => Azure::options(&endpoint(address)),
        };
        let options = options.into_iter();
        options
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

fn endpoint(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// Looks into the bucket, and things put there by others.
impl Server {
    /// The bytes at `key`.
    pub fn object(&self, key: &str) -> Option<Bytes> {
        self.state()
            .objects
            .get(key)
            .map(|object| object.content.joined())
    }

    /// How many bytes are at `key`.
    pub fn size(&self, key: &str) -> Option<u64> {
        self.state()
            .objects
            .get(key)
            .map(|object| object.content.len)
    }

    /// The `ETag` at `key`, without quotes.
    pub fn etag(&self, key: &str) -> Option<String> {
        self.state()
            .objects
            .get(key)
            .map(|object| object.etag.clone())
    }

    /// The content type of the object at `key`.
    pub fn content_type(&self, key: &str) -> Option<String> {
        self.state()
            .objects
            .get(key)?
            .attributes
            .content_type
            .clone()
    }

    /// A header `x-amz-meta-…` of the object at `key`.
    pub fn metadata(&self, key: &str, name: &str) -> Option<String> {
        self.state()
            .objects
            .get(key)?
            .attributes
            .metadata
            .as_ref()?
            .get(name)
            .cloned()
    }

    /// The storage class of the object at `key`, or its access tier on Azure. None is the one that the store gives by
    /// itself: `STANDARD`, or an inferred `Hot`. A `Hot` that was asked for is told.
    pub fn storage_class(&self, key: &str) -> Option<String> {
        let state = self.state();
        state.objects.get(key)?.attributes.storage_class.clone()
    }

    /// The tags of the object at `key`.
    pub fn tags(&self, key: &str) -> BTreeMap<String, String> {
        let state = self.state();
        let object = state.objects.get(key);
        object.map_or_else(BTreeMap::new, |object| object.attributes.tags.clone())
    }

    /// Gives the object at `key` this storage class and these tags in place of its own, as those may have done who put
    /// it there. Nothing is checked.
    pub fn set_class_and_tags(&self, key: &str, class: Option<&str>, tags: &[(&str, &str)]) {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut state = self.state();
        let attributes = &mut state.objects.get_mut(key).expect("an object").attributes;
        attributes.storage_class = class.filter(|it| *it != STANDARD).map(str::to_owned);
        attributes.tags = tags.iter().map(pair).collect();
    }

    /// All keys, in S3's order.
    pub fn keys(&self) -> Vec<String> {
        self.state().objects.keys().cloned().collect()
    }

    /// Puts an object there as another client would, under any key.
    pub fn put(&self, key: &str, bytes: impl Into<Bytes>) {
        let content = Content::new(vec![bytes.into()]);
        let object = Object::new(content, Attributes::default(), Checksum::default());
        self.state()
            .put(key, object, &Conditions::default())
            .expect("a put without conditions");
    }

    /// The same with user metadata.
    pub fn put_with(&self, key: &str, bytes: impl Into<Bytes>, metadata: &[(&str, &str)]) {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let attributes = Attributes {
            metadata: Some(metadata.iter().map(pair).collect()),
            ..Attributes::default()
        };
        let content = Content::new(vec![bytes.into()]);
        let object = Object::new(content, attributes, Checksum::default());
        self.state().store(key, object);
    }

    /// From now on deletes are done whatever their conditions, as most stores do.
    pub fn delete_anyway(&self) {
        self.state().deletes_anyway = true;
    }

    /// Puts an object that is `bytes` many times over, in the memory of once.
    pub fn put_repeated(&self, key: &str, bytes: Bytes, times: usize, kind: &str) {
        let content = Content::new(vec![bytes; times]);
        let attributes = Attributes {
            content_type: Some(kind.to_owned()),
            ..Attributes::default()
        };
        let ends = Object::new(content.ends(), attributes, Checksum::default());
        let object = Object { content, ..ends };
        self.state().store(key, object);
    }

    /// Deletes the object at `key`, as another client would.
    pub fn delete(&self, key: &str) {
        self.state().remove(key);
    }

    /// Keeps versions on S3 from now on: what is replaced or deleted stays as an older version.
    pub fn keep_versions(&self) {
        self.state().versions = Some(BTreeMap::new());
    }

    /// The same in a store that takes the mark of a deletion for an object in conditions.
    pub fn take_marks_for_objects(&self) {
        self.keep_versions();
        self.state().takes_marks_for_objects = true;
    }

    /// Locks what is written on S3 from now on: versions are kept, and uploads have to say a checksum.
    pub fn lock(&self) {
        self.keep_versions();
        self.state().is_locked = true;
    }

    /// What there was at `key`, the oldest first, where versions are kept. Nothing is a delete marker.
    pub fn versions(&self, key: &str) -> Vec<Option<Bytes>> {
        let state = self.state();
        let versions = state.versions.as_ref().and_then(|all| all.get(key));
        let content = |object: &Option<Object>| Some(object.as_ref()?.content.joined());
        versions.into_iter().flatten().map(content).collect()
    }

    /// Multipart uploads that were neither completed nor aborted: key and upload id.
    pub fn open_uploads(&self) -> Vec<(String, String)> {
        self.state().uploads.keys().cloned().collect()
    }

    /// The sizes of the parts that an open upload has, by part number.
    pub fn parts(&self, key: &str, upload_id: &str) -> Vec<(i32, u64)> {
        let mut state = self.state();
        let upload = state.upload(key, upload_id).expect("an open upload");
        upload
            .parts
            .iter()
            .map(|(number, part)| (*number, part.content.len))
            .collect()
    }

    /// Leaves a multipart upload with one part behind, as a killed process does. Gives its id.
    pub fn leave_upload(&self, key: &str, part: impl Into<Bytes>) -> String {
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

    /// Forgets all uploads in parts that are not complete.
    pub fn forget_uploads(&self) {
        self.state().uploads.clear();
    }

    /// Makes everything in the bucket look older.
    pub fn age(&self, by: Duration) {
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

    pub(crate) fn state(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().expect("the bucket")
    }
}

/// The log of requests.
impl Server {
    /// Each request in the order of arrival, as `Operation key?query`, or `Rejected METHOD uri` without a right
    /// signature.
    pub fn requests(&self) -> Vec<String> {
        let requests = self.faults.logged().into_iter();
        requests.map(|(request, _)| request).collect()
    }

    /// The same, with the time at which each has come.
    pub fn timed_requests(&self) -> Vec<(String, Instant)> {
        self.faults.logged()
    }

    /// Requests of which the client can't know what has become of them, because a fault has struck them: as
    /// [`requests`](Self::requests) has them, and when they were done.
    pub fn doubtful_requests(&self) -> Vec<(String, Fault, Instant)> {
        self.faults.doubtful()
    }

    /// How many requests asked for `operation`.
    pub fn count(&self, operation: &str) -> usize {
        let is_of = |line: &String| line.split(' ').next() == Some(operation);
        self.requests().iter().filter(|line| is_of(line)).count()
    }

    /// Begins the log anew.
    pub fn forget_requests(&self) {
        self.faults.forget_log();
    }

    /// Bytes of all requests so far, heads and bodies.
    pub fn received(&self) -> u64 {
        self.faults.received.load(Ordering::SeqCst)
    }

    /// Waits until `operation` has been asked for so many times.
    pub async fn wait_for(&self, operation: &str, times: usize) {
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
impl Server {
    /// Waits until no request is being answered, those included whose client has given up.
    pub async fn wait_until_idle(&self) {
        wait_until("no request is being answered", || {
            self.faults.in_hand() == 0
        })
        .await;
    }

    /// Waits until all clients, which are dead, have had everything that they asked for.
    pub async fn wait_until_abandoned(&self) {
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
impl Server {
    /// Refuses the next `times` requests with `status` (`usize::MAX`: until healed). 503 is S3's `SlowDown`,
    /// 403 `AccessDenied`; 200 is an error in the body of a success, as `CompleteMultipartUpload` may send it.
    pub fn fail_next(&self, operation: &str, times: usize, status: u16) {
        self.faults.plan(operation, Fault::Refuse(status), times);
    }

    /// Has faults strike single requests, told by their number.
    pub fn strike(&self, strikes: Vec<Strike>) {
        self.faults.strike(strikes);
    }

    /// From now on, for so long, S3 takes this key as well.
    pub fn give_out_key(&self, name: &str, secret: &str, lifetime: Duration) {
        let key = (secret.to_owned(), Instant::now() + lifetime);
        self.state().keys.insert(name.to_owned(), key);
    }

    /// All keys that were given out are over, or, if they are to be forgotten, unknown.
    pub fn end_keys(&self, forget: bool) {
        let mut state = self.state();
        if forget {
            state.keys.clear();
        }
        for (_, until) in state.keys.values_mut() {
            *until = Instant::now();
        }
    }

    /// From now on, the bucket's policy denies writes on S3 without this header.
    pub fn demand(&self, header: &'static str) {
        self.faults.demand(header);
    }

    /// Flips a bit in the bodies of the next `times` requests before they are read.
    pub fn flip_bit(&self, operation: &str, times: usize) {
        self.faults.plan(operation, Fault::FlipBit, times);
    }

    /// Answers the next `times` requests with a 200 that says nothing, and does nothing.
    pub fn say_nothing(&self, operation: &str, times: usize) {
        self.faults.plan(operation, Fault::SayNothing, times);
    }

    /// Closes the connections of the next `times` requests without an answer, and does what they ask so much later.
    pub fn be_late(&self, operation: &str, times: usize, by: Duration) {
        self.faults.plan(operation, Fault::Late(by), times);
    }

    /// From now on, writes and deletions on S3 with a condition are refused with 501, as some stores do.
    pub fn refuse_conditions(&self) {
        self.faults.refuse_conditions();
    }

    /// From now on, conditions of writes and deletions on S3 are passed over in silence, as some stores do.
    pub fn ignore_conditions(&self) {
        let mut state = self.state();
        state.ignores_conditions = true;
        state.deletes_anyway = true;
    }

    /// From now on, a deletion on S3 of what is not there succeeds also if it names a version, as on versitygw 1.8.0.
    pub fn delete_what_is_gone(&self) {
        self.state().deletes_what_is_gone = true;
    }

    /// From now on, a copy on S3 is of whatever its source is, whatever version it names, as on moto 5.2.
    pub fn copy_any_version(&self) {
        self.state().copies_any_version = true;
    }

    /// From now on, checksums of bodies on S3, but MD5, are passed over in silence, as some stores do.
    pub fn ignore_checksums(&self) {
        self.state().ignores_checksums = true;
    }

    /// From now on, a completion on S3 is answered with a sum of sums in place of the checksum, as on some stores.
    pub fn tell_sums_of_sums(&self) {
        self.state().tells_sums_of_sums = true;
    }

    /// From now on, the completion on S3 of an upload that was begun with a checksum has to name that of each part, as
    /// on some stores. Copies have none.
    pub fn want_sums_of_parts(&self) {
        self.state().wants_sums_of_parts = true;
    }

    /// From now on, everything that is written is damaged after it was compared with what its request says. Answers
    /// tell what is stored.
    pub fn damage(&self, damage: Option<Damage>) {
        self.state().damage = damage;
    }

    /// Damages an object that is there. What is said of it stays.
    pub fn rot(&self, key: &str, damage: Damage) {
        let mut state = self.state();
        let object = state.objects.get_mut(key).expect("an object");
        object.checksum = all_of(object);
        crc32c_of_object(object);
        object.content = object.content.damaged(damage, 0);
    }

    /// From now on content under a key that ends with a slash is refused on S3, as by stores that keep objects in
    /// folders.
    pub fn refuse_content_of_directories(&self) {
        self.state().refuses_content_of_directories = true;
    }

    /// From now on metadata of keys that end with a slash is dropped, as by stores that keep objects in folders.
    pub fn drop_metadata_of_directories(&self) {
        self.state().drops_metadata_of_directories = true;
    }

    /// From now on, what is written under a key that ends with a slash keeps the metadata of what it replaces, but for
    /// entries that it names itself, as on versitygw 1.8.0.
    pub fn keep_metadata_of_directories(&self) {
        self.state().keeps_metadata_of_directories = true;
    }

    /// From now on, a range on S3 that is copied into a part of an upload with a checksum is said to have the checksum of
    /// the whole object, and the new object keeps what that comes to, as on versitygw 1.8.0.
    pub fn take_sums_of_sources(&self) {
        self.state().takes_sums_of_sources = true;
    }

    /// Tells the next `times` requests of every kind to slow down.
    pub fn slow_down(&self, times: usize) {
        self.fail_next("*", times, 503);
    }

    /// Does what the next `times` requests ask, but closes their connections instead of answering.
    pub fn lose_next_answer(&self, operation: &str, times: usize) {
        self.faults.plan(operation, Fault::LoseAnswer, times);
    }

    /// Breaks the bodies of the next `times` answers off after so many bytes.
    pub fn break_next_answer(&self, operation: &str, times: usize, after: u64) {
        self.faults
            .plan(operation, Fault::BreakAnswer(after), times);
    }

    /// Lets every request wait for `by` before its body is read, or until healed.
    pub fn stall(&self, operation: &str, by: Duration) {
        self.faults.stall(operation, by);
    }

    /// From now on this many looks (HEAD or GET) find a copy pending on Azure, which copies in the background; the
    /// next finds that it has ended as `"success"`, `"failed"` or `"aborted"`.
    pub fn copy_in_background(&self, looks: usize, ends: &'static str) {
        self.state().azure.copy_in_background(looks, ends);
    }

    /// Reads the bodies of requests that come from now on no faster than this, each for itself.
    pub fn limit_bandwidth(&self, bytes_per_second: u64) {
        self.faults.limit_bandwidth(bytes_per_second);
    }

    /// Sends the body of each answer from now on no faster than this, each for itself: what a store far away
    /// gives one stream.
    pub fn limit_answers(&self, bytes_per_second: u64) {
        self.faults.limit_answers(bytes_per_second);
    }

    /// Takes all faults back. Stalled requests go on at once.
    pub fn heal(&self) {
        self.faults.heal();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.go_offline();
    }
}

impl Running {
    fn start(address: SocketAddr, service: impl Service, received: Arc<AtomicU64>) -> Self {
        // Bound before the thread starts: whoever has the server can connect.
        let listener = TcpListener::bind(address).expect("the server's address");
        let (stop, stopped) = oneshot::channel();
        let serve = move || run(serve(listener, service, received), stopped);
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(serve)
            .expect("a thread");
        Self { stop, thread }
    }
}

async fn serve(listener: TcpListener, service: impl Service, received: Arc<AtomicU64>) {
    listener
        .set_nonblocking(true)
        .expect("a listener that doesn't block");
    let listener = tokio::net::TcpListener::from_std(listener);
    http::serve(
        listener.expect("a listener in the runtime"),
        service,
        received,
    )
    .await;
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
