//! The command line: what was typed, and what the process ends with.
//!
//! Exit codes: 0 when all went well or a signal ended it, 78 (`EX_CONFIG` of sysexits.h) when the configuration is
//! wrong, 1 for anything else: a gateway that has drained because a task of its own died, for one.

use std::io::{self, BufRead, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context;
use bucketferry::address::try_names;
use bucketferry::auth::{UserTable, Users, generate_password, hash_password};
use bucketferry::cluster::try_out;
use bucketferry::config::{
    ByteSize, ClientAuth, Config, ConfigErrors, ConfigFile, Flag, Sources, Store, StoreName,
    StoreUrl,
};
use bucketferry::edge::{Tls, TlsError};
use bucketferry::gateway::{Gateway, open_stores};
use bucketferry::memory::{Account, PROGRAM};
use bucketferry::shutdown::{Shutdown, on_signals};
use bucketferry::storage::stores::{One, Overlap, Stores, overlaps};
use bucketferry::storage::{OpenError, Tried};
use bucketferry::telemetry::{Metrics, logging};
use clap::{Args, Parser, Subcommand, ValueEnum};
use rustix::fs::Mode;
use rustix::process::umask;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

/// `EX_CONFIG` of sysexits.h.
const CONFIG_ERROR: u8 = 78;

/// So many homes and mounts that lie in others are told.
const MOST_OVERLAPS: usize = 10;

/// The user of a gateway that was given none.
const DEFAULT_USER: &str = "ferry";

/// An FTP gateway that puts what old programs upload by FTP straight into a cloud bucket.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway
    Serve(Settings),
    /// Say all that is wrong with a configuration, and try the bucket
    Check {
        #[command(flatten)]
        settings: Settings,
        /// Don't try the bucket
        #[arg(long)]
        offline: bool,
        /// How to say what was found
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Read a password from standard input and print its hash for the users file
    HashPassword,
}

/// How a check says what it has found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For a person
    #[default]
    Text,
    /// For a program
    Json,
}

/// Flags win over the environment (`BUCKETFERRY_STORE__URL` and the like), which wins over the file.
#[derive(Debug, Args)]
struct Settings {
    /// Read the configuration from this TOML file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Listen for clients here [default: 127.0.0.1:2121]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Answer probes and Prometheus here [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin_listen: Option<String>,
    /// Ports for passive data connections [default: 30000-30039]
    #[arg(long, value_name = "FIRST-LAST")]
    passive_ports: Option<String>,
    /// The bucket: `s3://BUCKET/PREFIX`, `gs://…`, `az://…`, `file:///PATH` or `memory://` [default: ./bucketferry-data]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Let this user in; for trying out: others on this machine can read it. Repeatable
    #[arg(long, value_name = "NAME:PASSWORD")]
    user: Vec<String>,
}

/// Why the process does not end with 0.
enum Failure {
    /// The configuration is wrong: all that is wrong with it.
    Config(String),
    /// Anything else.
    Other(anyhow::Error),
}

impl Failure {
    /// Options that the store refuses and certificates that can't be used are a wrong configuration too: starting again won't help.
    fn of_start(error: anyhow::Error) -> Self {
        if error.is::<OpenError>() || error.is::<TlsError>() {
            Self::Config(format!("{error:#}"))
        } else {
            Self::Other(error)
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// Parses the command line and does what it says.
pub(crate) fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(settings) => serve(&settings),
        Command::Check {
            settings,
            offline,
            format,
        } => check(&settings, offline, format),
        Command::HashPassword => print_hash(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Config(report)) => {
            eprintln!("bucketferry: the configuration is wrong:\n{report}");
            ExitCode::from(CONFIG_ERROR)
        }
        Err(Failure::Other(error)) => {
            eprintln!("bucketferry: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(settings: &Settings) -> Result<(), Failure> {
    let config = load(settings)?;
    keep_from_others();
    logging::start(&config.log);
    let (users, hint) = users(settings, &config)?;
    for fault in warnings(&config, &users) {
        tracing::warn!("{fault}");
    }
    runtime()?.block_on(async {
        let shutdown = Shutdown::new();
        on_signals(shutdown.clone()).context("can't handle signals")?;
        let gateway = Gateway::start(&config, users, shutdown).map_err(Failure::of_start)?;
        greet(&gateway, hint.as_ref())?;
        gateway.finished().await?;
        Ok(())
    })
}

/// Whatever this process writes is not for everybody on the host.
fn keep_from_others() {
    let before = umask(Mode::RWXO | Mode::WGRP);
    umask(before | Mode::RWXO | Mode::WGRP);
}

/// Finds everything that is wrong in one go: the settings, the users, the store's options, and then
/// whether the bucket answers and what names stand for.
fn check(settings: &Settings, offline: bool, format: Format) -> Result<(), Failure> {
    let config = load(settings)?;
    let found = find(settings, &config, offline)?;
    match format {
        Format::Text => found.tell(),
        Format::Json => found.tell_as_json(),
    }
}

fn find(settings: &Settings, config: &Config, offline: bool) -> Result<Found, Failure> {
    let mut found = Found {
        memory: Some(Account::of(config)),
        ..Found::default()
    };
    match users(settings, config) {
        Ok((users, _)) => {
            found.warnings = warnings(config, &users);
            found.overlaps(config, &users);
        }
        Err(Failure::Config(report)) => found.faults.push(report),
        Err(other) => return Err(other),
    }
    match Tls::load(config) {
        Err(error) => found.faults.push(error.to_string()),
        Ok(Some(tls)) => found.certificate(&tls),
        Ok(None) => {}
    }
    match open_stores(config, Metrics::new()?.into()) {
        Err(error) => found
            .faults
            .push(format!("{:#}", anyhow::Error::from(error))),
        Ok(_) if offline => {}
        Ok(stores) => runtime()?.block_on(found.stores(config, &stores)),
    }
    if !offline {
        for answer in runtime()?.block_on(try_names(&config.passive)) {
            match answer {
                Ok(answer) => found.notes.push(answer),
                Err(fault) => found.faults.push(fault),
            }
        }
        match runtime()?.block_on(try_out(config)) {
            Some(Ok(note)) => found.notes.push(note),
            Some(Err(fault)) => found.faults.push(fault),
            None => {}
        }
    }
    let urls = all_stores(config).map(|(_, store)| store.url.to_string());
    let urls: Vec<_> = urls.collect();
    found.result = match (&urls[..], offline) {
        ([url], true) => format!("The store {url} was not asked."),
        ([url], false) => format!("The store {url} answers."),
        (_, true) => format!("The stores {} were not asked.", urls.join(", ")),
        (_, false) => format!("The stores {} answer.", urls.join(", ")),
    };
    Ok(found)
}

/// What a check has found.
#[derive(Debug, Default)]
struct Found {
    faults: Vec<String>,
    warnings: Vec<String>,
    notes: Vec<String>,
    /// Those that answer.
    stores: Vec<StoreFound>,
    memory: Option<Account>,
    result: String,
}

/// What a check has found of a store that answers.
#[derive(Debug)]
struct StoreFound {
    name: StoreName,
    conditions: Vec<Tried>,
    /// By what the store is held to what it was sent, and what that means.
    comparison: (&'static str, &'static str),
}

/// Each store of a configuration, the default one first.
fn all_stores(config: &Config) -> impl Iterator<Item = (StoreName, &Store)> {
    let named = config.stores.iter();
    let named = named.map(|(name, store)| (name.clone(), store));
    std::iter::once((StoreName::default(), &config.store)).chain(named)
}

impl Found {
    /// Says until when the certificate is valid, or that it no longer is.
    fn certificate(&mut self, tls: &Tls) {
        let expires = humantime::format_rfc3339_seconds(tls.expires());
        if tls.expires() < SystemTime::now() {
            let fault = format!("tls.certificate: it has expired at {expires}");
            self.faults.push(fault);
        } else {
            let note = format!("The certificate is valid until {expires}.");
            self.notes.push(note);
        }
    }

    /// Says which homes and mounts lie in others, because whoever has one sees the other, too.
    fn overlaps(&mut self, config: &Config, users: &Users) {
        let users = users.current();
        let overlaps = overlaps(config, users.users());
        let told = overlaps.iter().take(MOST_OVERLAPS).map(Overlap::to_string);
        self.notes.extend(told);
        if let Some(more @ 1..) = overlaps.len().checked_sub(MOST_OVERLAPS) {
            self.notes.push(format!("So do {more} more."));
        }
    }

    async fn stores(&mut self, config: &Config, stores: &Stores) {
        for (name, settings) in all_stores(config) {
            if let Some(store) = stores.iter().find(|store| store.name == name) {
                self.store(store, &settings.url).await;
            }
        }
    }

    async fn store(&mut self, store: &One, url: &StoreUrl) {
        let (name, front) = (&store.name, &store.front);
        let (section, of_store) = if name.is_default() {
            ("store".to_owned(), String::new())
        } else {
            (format!("stores.{name}"), format!("Store {name}: "))
        };
        if let Some(limit) = front.largest_upload() {
            let note = format!("{of_store}The largest file that can be uploaded has {limit}.");
            self.notes.push(note);
        }
        if let Err(error) = front.probe().await {
            let fault = format!("{section}.url: {url}: {error}");
            self.faults.push(fault);
            return;
        }
        let notes = front.notes().await.into_iter();
        self.notes
            .extend(notes.map(|note| format!("{of_store}{note}")));
        if let Err(error) = front.try_store().await {
            self.warnings.push(format!(
                "can't try which conditions and checksums the store knows, see {section}.conditions: {error}"
            ));
        }
        self.stores.push(StoreFound {
            name: name.clone(),
            conditions: front.conditions(),
            comparison: front.comparison(),
        });
    }

    fn tell(self) -> Result<(), Failure> {
        for warning in &self.warnings {
            println!("Warning: {warning}");
        }
        for note in &self.notes {
            println!("{note}");
        }
        for store in &self.stores {
            store.tell();
        }
        if let Some(account) = &self.memory {
            tell_memory(account);
        }
        if !self.faults.is_empty() {
            return Err(Failure::Config(self.faults.join("\n")));
        }
        println!("The configuration is fine. {}", self.result);
        Ok(())
    }

    fn tell_as_json(self) -> Result<(), Failure> {
        let stores = self.stores.iter();
        let stores = stores.map(|store| (store.name.to_string(), store.as_json()));
        let stores: serde_json::Map<_, _> = stores.collect();
        let found = serde_json::json!({
            "ok": self.faults.is_empty(),
            "faults": self.faults,
            "warnings": self.warnings,
            "notes": self.notes,
            "stores": stores,
            "memory_bytes": self.memory.as_ref().map(|account| account.total().0),
            "least_memory_bytes": self.memory.as_ref().map(|account| account.least().0),
            "memory_by_use_bytes": self.memory.as_ref().map(memory_by_use),
        });
        println!("{found:#}");
        if self.faults.is_empty() {
            return Ok(());
        }
        Err(Failure::Config(self.faults.join("\n")))
    }
}

impl StoreFound {
    fn tell(&self) {
        if !self.name.is_default() {
            println!("The store {}:", self.name);
        }
        let (by, means) = self.comparison;
        println!("What is stored is compared with what was sent by: {by}; {means}.");
        if !self.conditions.is_empty() {
            println!("Changes that the store makes on a condition, and what that gives:");
        }
        for Tried {
            operation,
            holds,
            promise,
        } in &self.conditions
        {
            println!("  {operation:<9} {:<8} {promise}", in_a_word(*holds));
        }
    }

    fn as_json(&self) -> serde_json::Value {
        let conditions = self.conditions.iter().map(|tried| {
            serde_json::json!({
                "operation": tried.operation,
                "holds": tried.holds,
                "promise": tried.promise,
            })
        });
        serde_json::json!({
            "conditions": conditions.collect::<Vec<_>>(),
            "compared_by": self.comparison.0,
        })
    }
}

/// The memory to give the container, and what it is for.
fn tell_memory(account: &Account) {
    println!(
        "The memory to give the container: {}, which holds whatever clients do, and no less than {}. The former is:",
        mebibytes(account.total()),
        mebibytes(account.least()),
    );
    println!("  program   {:>10}", mebibytes(PROGRAM));
    for (of, limit) in account.limits() {
        println!(
            "  {:<9} {:>10}  {}",
            of.name(),
            mebibytes(limit),
            of.decided_by()
        );
    }
}

fn mebibytes(size: ByteSize) -> String {
    format!("{} MiB", size.0.div_ceil(1 << 20))
}

fn memory_by_use(account: &Account) -> serde_json::Map<String, serde_json::Value> {
    let uses = account.limits().map(|(of, limit)| (of.name(), limit.0));
    let all = std::iter::once(("program", PROGRAM.0)).chain(uses);
    all.map(|(name, bytes)| (name.to_owned(), bytes.into()))
        .collect()
}

fn in_a_word(holds: Option<bool>) -> &'static str {
    match holds {
        Some(true) => "yes",
        Some(false) => "no",
        None => "unknown",
    }
}

/// The users who can't log in, whatever they send, because of `[tls]` or because they have expired; and those whose
/// uploads are expected and not watched.
fn warnings(config: &Config, users: &Users) -> Vec<String> {
    let encrypts = config.tls.certificate.is_some();
    let asks = config.tls.client_auth != ClientAuth::Off;
    let users = users.current();
    let mut warnings = users.never_in(encrypts, asks);
    warnings.extend(users.unwatched(config.admin.max_user_series));
    warnings
}

fn print_hash() -> Result<(), Failure> {
    let mut password = Zeroizing::new(String::new());
    io::stdin()
        .lock()
        .read_line(&mut password)
        .context("can't read the password")?;
    let password = password.trim_end_matches(['\r', '\n']);
    println!("{}", hash_password(password)?);
    Ok(())
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
}

fn load(settings: &Settings) -> Result<Config, Failure> {
    let file = match &settings.config {
        Some(path) => Some(read_file(path)?),
        None => None,
    };
    let sources = Sources {
        file,
        environment: environment(),
        flags: flags(settings),
    };
    Config::load(&sources).map_err(|errors: ConfigErrors| Failure::Config(errors.to_string()))
}

fn read_file(path: &Path) -> Result<ConfigFile, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Config(format!("--config {}: {error}", path.display())))?;
    let path = path.to_owned();
    Ok(ConfigFile { path, text })
}

/// Variables that aren't UTF-8 can't be ours.
fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn flags(settings: &Settings) -> Vec<Flag> {
    [
        ("--listen", "ftp.listen", &settings.listen),
        ("--admin-listen", "admin.listen", &settings.admin_listen),
        ("--passive-ports", "passive.ports", &settings.passive_ports),
        ("--store", "store.url", &settings.store),
    ]
    .into_iter()
    .filter_map(|(flag, key, value)| {
        let value = value.clone()?;
        Some(Flag { flag, key, value })
    })
    .collect()
}

/// How to log in, for the greeting: a name, and the password where it may be shown.
struct Hint {
    name: String,
    password: Option<SecretString>,
}

fn users(settings: &Settings, config: &Config) -> Result<(Users, Option<Hint>), Failure> {
    match (&config.users.file, settings.user.is_empty()) {
        (Some(_), false) => {
            let conflict = "--user: there is a users.file already; put the user there";
            Err(Failure::Config(conflict.to_owned()))
        }
        (Some(path), true) => {
            let users = Users::from_file(path)
                .and_then(|users| users.within(config, path))
                .map_err(|error| Failure::Config(format!("users.file: {error}")))?;
            Ok((users, None))
        }
        (None, false) => given_users(&settings.user),
        (None, true) => generated_user(),
    }
}

fn given_users(given: &[String]) -> Result<(Users, Option<Hint>), Failure> {
    tracing::warn!("--user is for trying out: others on this machine can read the password");
    let split = |user: &String| {
        let (name, password) = user.split_once(':').ok_or_else(|| {
            let found = user.escape_debug();
            Failure::Config(format!("--user: found {found}; allowed: NAME:PASSWORD"))
        })?;
        Ok((name.to_owned(), password.into()))
    };
    let users = given
        .iter()
        .map(split)
        .collect::<Result<Vec<_>, Failure>>()?;
    let hint = users.first().map(|(name, _)| Hint {
        name: name.clone(),
        password: None,
    });
    Ok((plain(users)?, hint))
}

fn generated_user() -> Result<(Users, Option<Hint>), Failure> {
    let password = generate_password();
    let users = plain(vec![(DEFAULT_USER.to_owned(), password.clone())])?;
    let hint = Hint {
        name: DEFAULT_USER.to_owned(),
        password: Some(password),
    };
    Ok((users, Some(hint)))
}

fn plain(users: Vec<(String, SecretString)>) -> Result<Users, Failure> {
    let table = UserTable::from_plain(users)
        .map_err(|errors| Failure::Config(format!("--user: {errors}")))?;
    Ok(Users::from(table))
}

/// Tells someone who tries the gateway out what to type next, on standard output; the log goes to
/// standard error.
fn greet(gateway: &Gateway, hint: Option<&Hint>) -> io::Result<()> {
    let Some((hint, address)) = hint.zip(gateway.addresses().first()) else {
        return Ok(());
    };
    let Hint { name, password } = hint;
    let name = url_encoded(name);
    let address = reachable(*address);
    let shown = password
        .as_ref()
        .map_or("PASSWORD", |it| it.expose_secret());
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "Bucketferry is ready. Upload a file and read it back:\n"
    )?;
    writeln!(out, "  curl -T FILE ftp://{name}:{shown}@{address}/")?;
    writeln!(out, "  curl ftp://{name}:{shown}@{address}/FILE\n")?;
    if password.is_some() {
        writeln!(
            out,
            "The password of {name} is made up anew at each start; see `users.file`."
        )?;
    }
    writeln!(
        out,
        "Health: http://{0}/readyz  Metrics: http://{0}/metrics",
        gateway.admin_address()
    )?;
    out.flush()
}

/// A name as a URL takes it.
fn url_encoded(name: &str) -> String {
    url::form_urlencoded::byte_serialize(name.as_bytes())
        .collect::<String>()
        .replace('+', "%20")
}

/// An address to type: a listener on all addresses is reached at the local one.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}
