//! Every setting there is: its meaning, type, limits and default.
//!
//! The doc comments are what operators read in `docs/configuration.md`. Each says what the setting
//! means, in which unit, and when one would change it. After a change, `BLESS=1 cargo test config`
//! writes that page anew.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::network::{
    AddressOverrides, PassiveAddress, PodName, PortRange, PortShare, ServiceName,
};
use super::rule::{Charset, NotEmpty, OneLine};
use super::settle::Settle;
use super::size::ByteSize;
use super::store::{
    ContentTypes, Driver, ObjectMetadata, ObjectTags, StorageClass, StoreOptions, StoreUrl,
};
use super::words::{
    ClientAuth, Conditions, ControlLoss, Create, LogFormat, LogLevel, MissingDirectories,
    OnRemoval, Overwrite, ProxyHeader, ReadyNeedsStore, RequireTls, TlsVersion, Verify,
};

/// Most waits: never nothing, and never so long that a clock overflows.
const WAIT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(30 * 24);

/// Name servers are asked once a second at most.
const REFRESH: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);

/// Sessions that can be counted: each needs several file descriptors, so nobody needs more.
const SESSIONS: RangeInclusive<usize> = 1..=1_000_000;

/// Connections a second that can be counted; 0 does not count them.
const CONNECTIONS: RangeInclusive<u32> = 0..=1_000_000;

/// Users with series of their own: each has dozens, and Prometheus keeps all that there ever were.
const USER_SERIES: RangeInclusive<usize> = 0..=10_000;

/// Failed logins that can be counted; 0 does not count them.
const FAILURES: RangeInclusive<u32> = 0..=1_000_000;

/// Sizes that an upload may be limited to.
const OBJECT_SIZE: RangeInclusive<ByteSize> = ByteSize(1)..=ByteSize::gib(1 << 20);

/// Bytes a second.
const RATE: RangeInclusive<ByteSize> = ByteSize::RATES;

/// The sizes that S3 takes for a part of a multipart upload.
const PART_SIZE: RangeInclusive<ByteSize> = ByteSize::mib(5)..=ByteSize::gib(5);

/// Memory for uploads: room for four parts of the least size, at least.
const MEMORY: RangeInclusive<ByteSize> = ByteSize::mib(20)..=ByteSize::gib(1024);

/// Memory for listings: room for two of the largest pages, at least.
const LISTING_MEMORY: RangeInclusive<ByteSize> = ByteSize::mib(8)..=ByteSize::gib(64);

/// No less than some connections whose client is yet to be found out.
const SOCKET_MEMORY: RangeInclusive<ByteSize> = ByteSize::mib(8)..=ByteSize::gib(64);

/// Memory for password hashes: room for one of `hash-password`, at least.
const HASHING_MEMORY: RangeInclusive<ByteSize> = ByteSize::mib(19)..=ByteSize::gib(64);

/// The sizes of a part of a download.
const READ_SIZE: RangeInclusive<ByteSize> = ByteSize::mib(1)..=ByteSize::gib(1);

/// Memory for downloads: they can do without.
const READ_AHEAD: RangeInclusive<ByteSize> = ByteSize(0)..=ByteSize::gib(1024);

settings! {
    /// Everything that an operator can set; every value in it is valid.
    pub struct Config;

    /// The control connection: where clients connect, who may, and how long they may be silent.
    ftp: Ftp {
        /// The addresses on which clients are awaited.
        ///
        /// Change it when clients are not on this host: `0.0.0.0:21` is every IPv4 address,
        /// `[::]:21` every one of IPv6 and IPv4.
        listen: Vec<SocketAddr> where NotEmpty = vec![(Ipv4Addr::LOCALHOST, 2121).into()],

        /// The addresses on which clients are awaited that speak TLS from the first byte on (`ftps://`,
        /// port 990). It needs `tls.certificate`.
        ///
        /// Change it when clients know no other way; the usual one is `AUTH TLS` on `ftp.listen`.
        implicit_tls_listen: Vec<SocketAddr> = Vec::new(),

        /// What the server says first to a client, after the code 220.
        ///
        /// Change it when clients expect a certain name, or when a legal notice is asked of you.
        greeting: String where OneLine = "Bucketferry ready".to_owned(),

        /// The networks from which clients may connect; if empty, all of them.
        ///
        /// Change it when you know where your clients are: everybody else is then turned away
        /// before a login.
        allow: Vec<IpNet> = Vec::new(),

        /// The networks from which clients may not connect, even if `ftp.allow` has them.
        ///
        /// Change it when some of an allowed network must stay out.
        deny: Vec<IpNet> = Vec::new(),

        /// How names of files are read that are not valid UTF-8, and how they are listed to that
        /// client. `utf-8` means that there is no fallback: such names are refused.
        ///
        /// Change it when old devices send names in another encoding, and their accents or scripts
        /// come out wrong.
        fallback_charset: String where Charset = "windows-1252".to_owned(),

        /// How long a session may be without a command or a transfer before it is closed with 421.
        ///
        /// Change it when devices stay logged in between uploads that are further apart than this.
        idle_timeout: Duration where WAIT = Duration::from_mins(5),

        /// How long a client has to log in, from its connection on.
        ///
        /// Change it when people type their password by hand, or when clients are on very slow
        /// lines.
        login_timeout: Duration where WAIT = Duration::from_secs(30),

        /// The networks of the load balancers that put a PROXY protocol header (version 1 or 2) before
        /// each connection, control and data alike. From there it is required, and the addresses in it
        /// count wherever an address does: logs, limits, lockout, `ftp.allow`, data connections. From
        /// anywhere else a header closes the connection.
        ///
        /// Change it when a load balancer hides your clients' addresses and can send the header. No
        /// client may connect from these networks directly: whoever is in them says who they are.
        trusted_proxies: Vec<IpNet> = Vec::new(),

        /// When the balancers of `ftp.trusted_proxies` send the header: `first`, which is at once, or
        /// `late`, which is with the first byte that the client sends. An FTP client does not speak
        /// before the server has, so with `late` the greeting is sent without knowing to whom; the
        /// header must come before the client's first command.
        ///
        /// Change it when clients of an AWS network load balancer wait in vain for the greeting; better
        /// yet, let the balancer send the header first (see `docs/active-and-passive.md`).
        proxy_header: ProxyHeader = ProxyHeader::First,

        /// How long a connection from `ftp.trusted_proxies` may take to bring its header before it is
        /// closed.
        ///
        /// Change it when the balancer is far away, or when connections without a header should go
        /// sooner.
        proxy_header_timeout: Duration where WAIT = Duration::from_secs(5),
    }

    /// Passive data connections: the client opens them, to an address and a port that the server
    /// names.
    passive: Passive {
        /// The ports to which clients open data connections. A port is busy only from the command
        /// that names it until the client has connected, so that few ports serve many transfers.
        /// `0` lets the system pick any free port, for trials on one host.
        ///
        /// Change it when a firewall or load balancer lets other ports through; the default can be
        /// node ports of a Kubernetes Service.
        ports: PortRange = PortRange::NODE_PORTS,

        /// Which part of `passive.ports` is this gateway's own: `INDEX/COUNT`, counted from 0. `1/3` of
        /// `30000-30029` is `30010-30019`. `none` is all of them.
        ///
        /// Change it when several gateways are behind one address, and what is before them leads each
        /// port to the gateway that has it. The chart does it, with `scaling.mode: shared`.
        share: Option<PortShare> = None,

        /// The address that clients are told to connect to. `connection` is the one that their
        /// control connection came to, which is right wherever no address is translated on the way.
        /// `dns:NAME` is what that name stands for, looked up in the background as often as
        /// `passive.refresh_interval` says: if the address of the control connection is among its
        /// addresses, that one, else always the same one as long as the name has it.
        /// `service:NAMESPACE/NAME` is what the load balancer of that Kubernetes Service has been
        /// given, an address or a name, followed as it changes; that takes the rights to `get` and
        /// to `watch` this one Service. Until an address is known, `PASV` is answered with 425. `EPSV`
        /// works with any of them: its answer holds no address.
        ///
        /// Change it when clients reach the server through NAT or a load balancer: to the address
        /// that they see.
        address: PassiveAddress = PassiveAddress::Connection,

        /// Another `passive.address` for the clients of some networks. Of several networks that hold a
        /// client's address, the smallest counts. In the file this is a table,
        /// `[passive.overrides]`, with lines such as `"10.0.0.0/8" = "connection"`.
        ///
        /// Change it when some clients come by another way than the rest, such as those inside of
        /// your cluster, past its load balancer.
        overrides: AddressOverrides = AddressOverrides::default(),

        /// The time between two looks at what names in `passive.address` and `passive.overrides` stand
        /// for. After a look that failed, the next comes sooner, and what was known before is kept. A
        /// Service is watched, and tells of changes by itself.
        ///
        /// Change it when such a name changes often, or when your name servers should be left alone.
        refresh_interval: Duration where REFRESH = Duration::from_secs(30),

        /// Networks from which data connections are taken for any session. From elsewhere, a data
        /// connection must come from the address of its control connection, so that nobody can take
        /// another client's data.
        ///
        /// Change it when your cluster rewrites the source addresses of clients: to the networks of
        /// its nodes.
        trusted_networks: Vec<IpNet> = Vec::new(),

        /// How long a transfer waits for the client to open its data connection before it fails
        /// with 425, and then for its TLS handshake.
        ///
        /// Change it when clients are slow to connect, or when you want ports back sooner.
        accept_timeout: Duration where WAIT = Duration::from_secs(30),
    }

    /// Active data connections: the server opens them, to an address and a port that the client
    /// names.
    active: Active {
        /// Whether clients may use active mode (`PORT` and `EPRT`). The gateway then connects to them: to the
        /// address of their control connection only, and to ports from 1024 up only.
        ///
        /// Change it when you have old devices that know no passive mode. They must not be behind NAT or a
        /// firewall, which let no connection in.
        enabled: bool = false,

        /// The port from which the gateway connects to clients; `0` is any free one.
        ///
        /// Change it to `20` when a firewall in front of the clients lets only that port through. It
        /// takes the right to use ports below 1024 (`CAP_NET_BIND_SERVICE`).
        source_port: u16 = 0,

        /// How long the gateway tries to connect to a client before the transfer fails with 425.
        ///
        /// Change it when lines are very slow, or when unreachable clients should hear of it sooner.
        dial_timeout: Duration where WAIT = Duration::from_secs(10),
    }

    /// TLS on control and data connections.
    tls: Tls {
        /// The certificate that clients are shown, and after it those that lead from it to an authority
        /// that they trust: a PEM file. It is read again when it changes, and new clients are shown the
        /// new one. Without a certificate there is no TLS.
        ///
        /// Change it to let clients encrypt what they send, passwords first of all.
        certificate: Option<PathBuf> = None,

        /// The private key of `tls.certificate`: a PEM file (PKCS#8, PKCS#1 or SEC1, not encrypted).
        /// `none` if it is in the certificate's own file.
        ///
        /// Change it when the key is in a file of its own, as it mostly is.
        private_key: Option<PathBuf> = None,

        /// What clients must encrypt: `none`, the `control` connection (with the password), or `all`,
        /// the data connections as well. `USER` is refused before, so that no password crosses in
        /// clear. A user may have more required, in the users file.
        ///
        /// Change it as soon as all your clients can do TLS.
        require: RequireTls = RequireTls::None,

        /// The oldest version of TLS that is spoken: `1.2` or `1.3`.
        ///
        /// Change it when a policy of yours asks for 1.3, and all your clients have it.
        min_version: TlsVersion = TlsVersion::V1_2,

        /// The authorities whose client certificates are taken: a PEM file, read again when it changes.
        ///
        /// Change it together with `tls.client_auth`.
        client_ca: Option<PathBuf> = None,

        /// Whether clients are asked for a certificate: `off`, `request` (they may have one) or
        /// `require` (nobody gets in without one). A user is bound to a certificate's name by
        /// `certificate` in the users file, and then may need no password.
        ///
        /// Change it when clients have certificates, as banks' often do.
        client_auth: ClientAuth = ClientAuth::Off,

        /// Whether an upload counts as whole when its connection ends without TLS's own end
        /// (`close_notify`), though not in the middle of a record. Anybody on the way could have cut it off
        /// there, at the end of any record.
        ///
        /// Change it when old clients close like that, and their uploads fail with 426.
        allow_unclean_close: bool = false,

        /// Whether a data connection must resume the TLS session of its own control connection. Then
        /// nobody else's data connection is taken, wherever it comes from.
        ///
        /// Change it when all your clients do so, as lftp, rclone and new versions of curl do, above all where
        /// hosts that you don't trust share an address with them. Python's `ftplib` does not by itself; curl
        /// before 8 does so under TLS 1.3 for one upload of a session only. Who does not gets 522 after
        /// `passive.accept_timeout`: until then another connection may be the client's.
        require_session_reuse: bool = false,

        /// Whether `AUTH SSL` is understood, as clients say it that are older than RFC 4217. It is the
        /// same as `AUTH TLS` and `PROT P` together.
        ///
        /// Change it when an old client knows no other way.
        auth_ssl: bool = false,

        /// The time between two looks at whether certificate, key or `tls.client_ca` have changed.
        ///
        /// Change it when changes should hold sooner, or when the files are on a disk that should be
        /// left alone.
        reload_interval: Duration where WAIT = Duration::from_secs(10),
    }

    /// The bucket.
    store: Store {
        /// The bucket, and under which prefix in it; or a folder. Credentials do not belong here:
        /// they come the way the cloud's own tools find them, or from `store.options`.
        ///
        /// Change it for anything but a trial: the default is a folder below the current one.
        url: StoreUrl = StoreUrl::default(),

        /// What the store's library is told besides the URL, by its own names for its options:
        /// `aws_endpoint`, `aws_region`, `google_service_account`, `azure_storage_account_name` and
        /// so on, of the `object_store` crate. They win over the variables that clouds have for the
        /// same (`AWS_ENDPOINT`). In the file this is a table, `[store.options]`; in the
        /// environment, `BUCKETFERRY_STORE__OPTIONS__AWS_ENDPOINT` sets `aws_endpoint`.
        ///
        /// Change it when your store has its own endpoint (`MinIO`, Ceph, Garage), or when
        /// credentials are not found.
        options: StoreOptions = StoreOptions::default(),

        /// Whether the folder of a `file://` store is made. Once it is a store, `.bucketferry/identity` in it says so.
        /// `never` refuses to start without that file: where a volume is not mounted, there is an empty folder, and
        /// files that were stored in it would be hidden as soon as the volume comes.
        ///
        /// Change it to `never`, after the first start, where the folder is on a volume that may be missing.
        create: Create = Create::Missing,

        /// Whether it is tried at the start which changes the store makes on a condition. Uploads, deletions and
        /// renames name the version that they replace or take away, so that no late request can undo what came after
        /// it. `try` finds out with a dozen requests under `.bucketferry/probes/`; where the store knows no
        /// conditions, the gateway looks before each change. `trust` takes them for granted. AWS, Google, Azure and
        /// folders know them.
        ///
        /// Change it to `trust` where the gateway's credentials may not write under `.bucketferry/`, and `check` has
        /// shown with others that the store knows all of them.
        conditions: Conditions = Conditions::Try,

        /// For how long one request to the bucket is tried again, all tries together, before the
        /// transfer fails.
        ///
        /// Change it when your bucket has longer outages that clients should wait out, or to let
        /// them fail sooner.
        retry_timeout: Duration where WAIT = Duration::from_secs(20),

        /// How long one try of one request may go without progress.
        ///
        /// Change it when the bucket is very far away, or when a try that hangs should be given up
        /// sooner.
        request_timeout: Duration where WAIT = Duration::from_secs(30),

        /// The time between two questions to the bucket whether it answers, which are for readiness
        /// and metrics.
        ///
        /// Change it when readiness should follow the bucket more closely, or when requests cost
        /// too much.
        probe_interval: Duration where WAIT = Duration::from_secs(10),

        /// What speaks to the bucket: `object_store`, or the back-end `unftp-sbe-gcs` of unFTP's, which is for
        /// `gs://` only. That one keeps less: no rename, no append, no restart of uploads, no second try of a request
        /// (see `docs/stores.md`).
        ///
        /// Change it when a bucket of Google's is to be served as unFTP serves it, by its JSON API.
        driver: Driver = Driver::ObjectStore,
    }

    /// Files that clients send.
    upload: Upload {
        /// Whether an upload may replace an object of the same name: `allow`, or `deny`, which
        /// refuses the upload.
        ///
        /// Change it when what was delivered once must never change.
        overwrite: Overwrite = Overwrite::Allow,

        /// What becomes of `STOR a/b/f`, and of every other command that puts something new somewhere, where
        /// there is no directory `a/b`: `create` has it be there with the file, as in a bucket, or `refuse`,
        /// with 550, as most FTP servers do.
        ///
        /// Change it when clients or scripts tell by the refusal that a directory is missing, or when a
        /// mistyped path must not become a new directory. The price in a bucket: a question more for each
        /// file.
        missing_directories: MissingDirectories = MissingDirectories::Create,

        /// The content types that files are stored with in a bucket, by what follows the last dot of their names. For
        /// other names there is a list that knows most. In the file this may be a table, `[upload.content_types]`.
        ///
        /// Change it when readers of the bucket go by the type, and a type is missing or another is wanted.
        content_types: ContentTypes = ContentTypes::default(),

        /// Whether pages and scripts are stored with their own content types: HTML, SVG, XML, JavaScript and the like.
        /// Otherwise they are `application/octet-stream`, so that a browser which is led to the bucket does not run
        /// what somebody has uploaded. What is in `upload.content_types` is stored as it says there.
        ///
        /// Change it when everybody who may upload may also publish a web site there.
        active_content: bool = false,

        /// User metadata that each object carries in a bucket, besides who has sent it. In values, `{user}`, `{peer}`,
        /// `{session}` and `{home}` stand for those of the upload. A user of the users file may have more, or others. In the file
        /// this may be a table, `[upload.metadata]`. On Azure, a `-` in a name is written as `_`. A folder keeps none.
        ///
        /// Change it when readers of the bucket want to know where a file comes from, or sort by it.
        metadata: ObjectMetadata = ObjectMetadata::default(),

        /// The storage class of each object, in the cloud's own spelling; Azure calls it an access tier. `none` leaves it to
        /// the bucket. An object that is appended to or renamed keeps its own. A user of the users file may have another.
        ///
        /// Change it when what is uploaded is seldom read. What is in `GLACIER`, `DEEP_ARCHIVE` or Azure's `Archive` can't
        /// be downloaded, appended to or renamed by FTP.
        storage_class: Option<StorageClass> = None,

        /// Tags of each object, by which rules and access policies of S3 and Azure go; Google and folders have none. In values,
        /// `{user}`, `{peer}`, `{session}` and `{home}` stand for those of the upload, with `_` for what a tag can't hold. An
        /// object that is appended to or renamed keeps its own as well. A user of the users file may have more, or others.
        /// In the file this may be a table, `[upload.tags]`.
        ///
        /// Change it when rules of the bucket, such as those that expire objects, are to know what came by FTP.
        tags: ObjectTags = ObjectTags::default(),

        /// The size that no upload may exceed; a larger one fails with 552, and nothing of it is
        /// stored.
        ///
        /// Change it when a mistaken or hostile client could fill the bucket.
        max_size: Option<ByteSize> where OBJECT_SIZE = None,

        /// The memory that all uploads share. What clients have sent and the bucket has not taken yet
        /// is held here; when it is used up, clients wait. An eighth of it is kept for small files, which
        /// wait for no large ones. An upload whose client is slow moves to `upload.spill_dir` when others
        /// wait, or goes to the bucket in smaller parts, or in the end fails with 452.
        ///
        /// Change it when the machine has less to give, or when many uploads at once are slower than
        /// the line to the bucket.
        memory: ByteSize where MEMORY = ByteSize::mib(256),

        /// A folder on disk for what slow clients have sent, when `upload.memory` is used up: fast ones
        /// then need not wait for them. Its files have no names, so a killed server leaves none.
        /// Without one, or when it is full, slow uploads of less than 5 MiB may fail with 452.
        ///
        /// Change it when many clients at once are slow: 100 clients need up to 100 parts' room
        /// there, each of `upload.part_size`, or more in very large files.
        spill_dir: Option<PathBuf> = None,

        /// The size of the parts in which a file goes to the bucket. A smaller file goes in one
        /// request. Parts double every 1000, up to a quarter of `upload.memory`: stores take 10,000
        /// parts, so that decides the largest file. `bucketferry check` tells it: 492 GiB at the
        /// defaults. At most a quarter of `upload.memory`.
        ///
        /// Change it when a fast line to the bucket is not filled: larger parts, fewer requests.
        part_size: ByteSize where PART_SIZE = ByteSize::mib(8),

        /// Whether all parts but the last have the same size, so that the largest file is 10,000
        /// times `upload.part_size`.
        ///
        /// Change it when the store wants it so, as Cloudflare R2 does.
        uniform_parts: bool = false,

        /// The age at which unfinished uploads, which a killed server leaves behind on S3 and Google,
        /// are removed from the bucket; `none` leaves them. Only those under `store.url` are looked for, at the
        /// start and every hour.
        ///
        /// Change it when a single upload may take longer than this, or when other programs upload
        /// to the same place and take their time.
        sweep_after: Option<Duration> where WAIT = Some(Duration::from_hours(48)),

        /// How many parts of one upload are on their way to the bucket at once.
        ///
        /// Change it when single uploads are slower than your line to the bucket: more is faster,
        /// and takes more memory.
        concurrency: usize where (1..=64) = 4,

        /// How long an upload may bring no data before it is given up and nothing of it is stored.
        ///
        /// Change it when senders pause for longer, such as instruments that send while they
        /// measure.
        stall_timeout: Duration where WAIT = Duration::from_mins(2),

        /// How long what a client has sent is kept, unpublished, when its connection dies in the middle
        /// of a new file. Meanwhile `SIZE` tells the same user, at the same address, how much is kept, and
        /// `REST` and `STOR`, or then `APPE`, go on from there. In a bucket, any server with this setting
        /// goes on with it, also if the one that had it was killed; a folder's is gone with its server.
        /// `none` keeps nothing. Less than `upload.sweep_after`.
        ///
        /// Change it when large files come over lines that break, and clients resume. Not where other
        /// clients of the same account ask for sizes to find out whether a file is there.
        resume_window: Option<Duration> where WAIT = None,

        /// Whether a client that says a file's size with `ALLO` must then send exactly so much. One that
        /// goes on with a file (`REST`, `APPE`) may say the size of the rest or of the whole.
        /// Without TLS, this is the surest sign that a file is whole.
        ///
        /// Change it when your clients send true sizes with `ALLO`; some send wrong ones.
        check_allo: bool = false,

        /// How what the bucket has is compared with what was sent, before the client hears 226. `checksum`: by the
        /// checksum, where the store compares one, as AWS, Google, Azure and most others do, and else by the size;
        /// `bucketferry check` says which. `md5`: where a store that speaks S3's protocol has no better one, the MD5 of each part
        /// is sent, and its tag compared, for about 1.3 seconds of CPU per GB. `read-back`: what was sent is read
        /// again from the bucket, which doubles the traffic and delays the 226.
        ///
        /// Change it when `bucketferry check` says that your store compares no checksum and that is not enough, or
        /// when a policy asks for files to be read back.
        verify: Verify = Verify::Checksum,

        /// What becomes of an upload whose data connection ended well, but whose control connection
        /// closed before the server could confirm it: `discard` stores nothing, `keep` stores the
        /// file. A client whose `QUIT` came after the end of its data is not lost.
        ///
        /// Change it when devices hang up right after their data and never see the confirmation: without
        /// `QUIT`, or with one that overtakes the end of a large file on its way. The price: a client that
        /// is killed looks the same, and what it had sent is stored as if it were whole. So
        /// `upload.settle = "auto"` does not wait then.
        on_control_loss: ControlLoss = ControlLoss::Discard,

        /// How long the server waits, after the data connection has ended and before the file is stored,
        /// for a sign that the client died. A client that dies closes its data connection first, as at the
        /// end of a file, and its control connection a moment later. `auto` waits as long as each upload
        /// needs: not at all where the end is proven (TLS, or `ALLO` with the size that came), 10 ms or a
        /// round trip where the file ends as files do, 100 ms where it may have been cut off
        /// ([which is when](operations.md#an-upload-that-ends-cleanly-half-way)). A duration is waited for
        /// after every upload. `0s` does not wait: of the clients that are killed half-way, a quarter then
        /// leave a truncated file.
        ///
        /// Change it when clients die slowly: what `auto` does not catch, `2s` may. Or to `10ms` when many
        /// files have a size that is a multiple of 512, and 100 ms for each are too much.
        settle: Settle where (Duration::ZERO..=Duration::from_mins(1)) = Settle::Auto,
    }

    /// Files that clients fetch.
    download: Download {
        /// How many parts of one file are read from the bucket at once, if its client takes them as
        /// fast as they come. `1` is one stream.
        ///
        /// Change it when single downloads are slower than your line to the bucket: more is faster,
        /// and takes more memory.
        concurrency: usize where (1..=64) = 4,

        /// The size of the parts in which a file is read. A smaller file is one request.
        ///
        /// Change it when a fast line to a bucket that is far away is not filled: larger parts, fewer
        /// requests.
        part_size: ByteSize where READ_SIZE = ByteSize::mib(8),

        /// The memory that all downloads share for what is read ahead of their clients. When it is
        /// used up, the others are one stream each, which needs none. Less than a part is none for all.
        ///
        /// Change it when the machine has less to give, or when many fast downloads run at once.
        memory: ByteSize where READ_AHEAD = ByteSize::mib(64),

        /// How long a client may take no data before its download is given up.
        ///
        /// Change it when clients write to slow media, and pause for longer.
        stall_timeout: Duration where WAIT = Duration::from_mins(2),
    }

    /// Who may log in.
    users: Users {
        /// The TOML file with the users. Without one, there is a single user `ferry`, whose
        /// password is made up at the start and printed once.
        ///
        /// Change it for anything but a trial.
        file: Option<PathBuf> = None,

        /// The time between two looks at whether the users' file has changed. What was changed
        /// holds for later logins. Sessions end whose user was removed or may not log in any more, or has
        /// another password.
        ///
        /// Change it when changes should hold sooner, or when the file is on a disk that should be
        /// left alone.
        reload_interval: Duration where WAIT = Duration::from_secs(2),

        /// What becomes of a transfer that runs when its user is removed, disabled or has expired, or has
        /// another password: `finish`, it goes on to its end, and then the session ends; or `abort`, it
        /// fails at once, and nothing of it is published.
        ///
        /// Change it when whoever is removed must not bring or take another byte.
        on_removal: OnRemoval = OnRemoval::Finish,
    }

    /// How much one client, or all of them, may ask for.
    limits: Limits {
        /// How many clients may be connected at once; the next one is turned away with 421.
        ///
        /// Change it when you have more devices, and memory and file descriptors for them.
        max_sessions: usize where SESSIONS = 2000,

        /// How many clients may be connected at once from one IP address. IPv6 counts by network, because the
        /// rest of an address is the client's own choice: a /64 may have as many, a /56 16 times and a /48 64
        /// times as many.
        ///
        /// Change it when many devices are behind one address, or when one device must not take all
        /// the room.
        max_sessions_per_ip: usize where SESSIONS = 100,

        /// How many sessions one user may have at once; the next login is answered with 421. A user's own
        /// `max_sessions`, in the users file, wins.
        ///
        /// Change it when one user's devices must not take all the room.
        max_sessions_per_user: Option<usize> where SESSIONS = None,

        /// How many connections may come in a second from one IP address; the next is turned away with 421.
        /// As many may come at once. IPv6 counts by network, as with `limits.max_sessions_per_ip`. `0` does not
        /// count them.
        ///
        /// Change it when somebody keeps the server busy with connections alone. Mind the devices that
        /// are behind one address: after an outage they all come back at once.
        connections_per_second_per_ip: u32 where CONNECTIONS = 0,

        /// How many commands a client may send before it has logged in; the next is answered with 421,
        /// and the connection closed.
        ///
        /// Change it when clients ask for much before they log in.
        commands_before_login: u32 where (10..=1_000_000) = 50,

        /// How many bytes a second one session may send. `none` does not limit it.
        ///
        /// Change it when one transfer must not take the whole line.
        upload_rate: Option<ByteSize> where RATE = None,

        /// How many bytes a second one session may fetch. `none` does not limit it. Listings don't count.
        ///
        /// Change it when one transfer must not take the whole line.
        download_rate: Option<ByteSize> where RATE = None,

        /// How many bytes a second all sessions of a user together may send; they share them equally.
        /// `none` does not limit it. A user's own `upload_rate`, in the users file, wins. Of many
        /// sessions at once, each moves something after every fiftieth of a second for each of them:
        /// mind `upload.stall_timeout`.
        ///
        /// Change it when one user must not take the whole line.
        upload_rate_per_user: Option<ByteSize> where RATE = None,

        /// How many bytes a second all sessions of a user together may fetch; they share them equally.
        /// `none` does not limit it. A user's own `download_rate`, in the users file, wins.
        ///
        /// Change it when one user must not take the whole line.
        download_rate_per_user: Option<ByteSize> where RATE = None,

        /// After how many failed logins of one user from one address that user is locked out there;
        /// `0` is never. IPv6 counts by network, as with `limits.max_sessions_per_ip`.
        ///
        /// Change it when devices with an old password lock themselves out, or when you want to be
        /// stricter.
        login_failures: u32 where FAILURES = 5,

        /// After how many failed logins from one address, of whichever users, nobody can log in
        /// from there; `0` is never. IPv6 counts by network, as with `limits.max_sessions_per_ip`.
        ///
        /// Change it when many users are behind one address, or when you want to be stricter.
        login_failures_per_address: u32 where FAILURES = 50,

        /// How long a lockout lasts.
        ///
        /// Change it when guessing goes on (longer), or when honest users wait too long (shorter).
        lockout: Duration where WAIT = Duration::from_mins(5),

        /// After how many failed logins on one connection it is closed with 421.
        ///
        /// Change it when clients try several passwords of their own accord.
        login_failures_per_connection: u32 where (1..=1000) = 3,

        /// The memory that all listings share, those of `STAT` too, for what their clients have not read yet. Each
        /// holds one page of 1000 lines at most. When it is used up, others wait for 10 s and then fail with 451.
        ///
        /// Change it when many clients list large directories at once, or when the machine has less to give.
        listing_memory: ByteSize where LISTING_MEMORY = ByteSize::mib(64),

        /// The kernel's memory that all data connections share for their buffers, beyond the 144 KiB that each has in any
        /// case. It counts towards the memory of a container. One transfer gets an eighth of what is free, 8 MiB at the
        /// most.
        ///
        /// Change it when many transfers at once are to be fast over a line with long delays (more), or when the machine
        /// has less to give.
        socket_memory: ByteSize where SOCKET_MEMORY = ByteSize::mib(128),

        /// The memory in which passwords are compared with their hashes. As many logins are looked at together as
        /// there are cores, and as have room here: a hash of `hash-password` needs 19 MiB. The users file must not
        /// have one that needs more than all of it.
        ///
        /// Change it when your hashes need more, or when there are more cores than three and logins wait for each
        /// other.
        hashing_memory: ByteSize where HASHING_MEMORY = ByteSize::mib(64),
    }

    /// Several gateways in Kubernetes behind one address. Each writes into `EndpointSlice`s of the Service which
    /// of its ports are to be had, so that control connections go to all of them, and data connections to the one
    /// that has the port. `docs/kubernetes.md` tells how; the chart does it, with `scaling.mode: shared`.
    cluster: Cluster {
        /// The Service that clients connect to, as `NAMESPACE/NAME`. It must have no selector. Its ports have the
        /// names `ftp`, `ftps` and, such as for port 30000, `passive-30000`. `none` writes no slices. It takes these
        /// rights in that namespace: `get`, `list` and `watch` on pods; `list`, `watch`, `create`, `update` and
        /// `delete` on `EndpointSlice`s; `get` on the Service, and `delete` on the `Endpoints` of its name.
        ///
        /// Change it when several gateways share an address and you don't use the chart.
        service: Option<ServiceName> = None,

        /// The name of the gateway's own pod, in the namespace of `cluster.service`.
        ///
        /// Change it together with `cluster.service`: in a pod, the field `metadata.name` has it.
        pod: Option<PodName> = None,

        /// How long clients are still taken after the slices have said that this gateway ends: until
        /// every node has heard of it and sends nobody any more. Only then does it stop to listen, and
        /// `shutdown.grace` begins.
        ///
        /// Change it when a balancer outside of the cluster needs longer to notice.
        withdrawal: Duration where WAIT = Duration::from_secs(5),
    }

    /// The HTTP endpoint for probes and metrics.
    admin: Admin {
        /// The address on which `/livez`, `/readyz` and `/metrics` are served.
        ///
        /// Change it when Kubernetes or Prometheus asks from another host: to `[::]:8080`. It
        /// asks for no password, so keep it off public networks.
        listen: SocketAddr = (Ipv4Addr::LOCALHOST, 8080).into(),

        /// When readiness needs the bucket: at the `start`, until it has answered once, or
        /// `always`. With `always`, an outage of the bucket takes every replica off the load
        /// balancer, and clients can't even connect.
        ///
        /// Change it when another place can take over for the clients that are turned away.
        ready_needs_store: ReadyNeedsStore = ReadyNeedsStore::Start,

        /// How many users of the users file have metrics of their own. Those with `expect_every` come first,
        /// then the others, as they stand in the file. The uploads of all others count as the user `other`.
        ///
        /// Change it when you have more users and a Prometheus for them, or to `0` when their names must not be
        /// in metrics.
        max_user_series: usize where USER_SERIES = 500,
    }

    /// What the program tells about its work.
    log: Log {
        /// The least important messages that are logged. None of them holds a password.
        ///
        /// Change it when you look for the cause of a problem (`debug`), or want to read of
        /// problems only (`warn`).
        level: LogLevel = LogLevel::Info,

        /// How log lines are written: `text`, `json`, or `auto`, which is text on a terminal and
        /// JSON elsewhere.
        ///
        /// Change it when what collects your logs expects the other.
        format: LogFormat = LogFormat::Auto,

        /// A file to which a line is added for every transfer, in the classic format of
        /// `xferlog(5)`.
        ///
        /// Change it when tools of yours read that format.
        xferlog: Option<PathBuf> = None,
    }

    /// How the program ends.
    shutdown: Shutdown {
        /// How long running transfers may go on after the program was told to end; then they are
        /// aborted.
        ///
        /// Change it when transfers take longer. In Kubernetes, `terminationGracePeriodSeconds`
        /// must be more than this.
        grace: Duration where WAIT = Duration::from_secs(30),
    }
}

impl Passive {
    /// The ports of this gateway: its share of `passive.ports`, or all of them.
    #[must_use]
    pub fn own_ports(&self) -> PortRange {
        // That there are enough to share was looked at when the configuration was read.
        let part = self.share.and_then(|share| self.ports.part(share));
        part.unwrap_or(self.ports)
    }
}
