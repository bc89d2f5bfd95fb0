//! A raw FTP client for tests that want to see every reply.
//!
//! It does what it is told and nothing else: no command is sent on its own, no reply is skipped. Every wait has a
//! deadline, and a wait that fails panics with the whole conversation, so that a failed test tells its story.

#![allow(
    dead_code,
    reason = "a toolbox: not every test binary needs every tool"
)]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a client that can't go on has failed its test"
)]

#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

/// How long the client waits for a reply, a connection or progress on one.
const DEADLINE: Duration = Duration::from_secs(10);

/// How much is written to a data connection before the deadline starts anew.
const CHUNK: usize = 64 * 1024;

/// One reply: its code and all its lines, without their ends, the first with its code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    pub(crate) lines: Vec<String>,
    /// The bytes as they came, for names in other charsets.
    pub(crate) raw: Vec<u8>,
}

/// A control connection.
pub(crate) struct Client<S = TcpStream> {
    stream: BufReader<S>,
    local: SocketAddr,
    peer: SocketAddr,
    deadline: Duration,
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
    transcript: String,
    began: Instant,
}

impl Reply {
    /// All lines, as one text.
    pub(crate) fn text(&self) -> String {
        self.lines.join("\n")
    }

    /// Whether the reply only announces another (1xx).
    pub(crate) fn is_preliminary(&self) -> bool {
        self.code / 100 == 1
    }

    /// The path in a 257, its doubled quotes made single.
    pub(crate) fn quoted(&self) -> String {
        let text = self.text();
        let (_, quoted) = text.split_once('"').expect("a quote in the reply");
        let (quoted, _) = quoted
            .rsplit_once('"')
            .expect("a closing quote in the reply");
        quoted.replace("\"\"", "\"")
    }
}

/// The control connection over TCP: how it comes to be, and how it ends.
impl Client {
    /// Connects, and gives the greeting.
    pub(crate) async fn connect(address: SocketAddr) -> (Self, Reply) {
        let mut client = Self::open(None, address)
            .await
            .unwrap_or_else(|error| panic!("connect to {address}: {error}"));
        let greeting = client.reply().await;
        (client, greeting)
    }

    /// Connects from a local address of choice, e.g. 127.0.0.2, and reads nothing.
    pub(crate) async fn connect_from(local: IpAddr, address: SocketAddr) -> io::Result<Self> {
        Self::open(Some(local), address).await
    }

    /// Connects and logs in.
    pub(crate) async fn connect_as(address: SocketAddr, user: &str, password: &str) -> Self {
        let (mut client, greeting) = Self::connect(address).await;
        assert_eq!(greeting.code, 220, "{}", client.transcript);
        client.login(user, password).await;
        client
    }

    /// The same from a local address, or `None` if the server is not there, or goes away.
    pub(crate) async fn try_connect_as(
        local: IpAddr,
        address: SocketAddr,
        user: &str,
        password: &str,
    ) -> Option<Self> {
        let mut client = Self::open(Some(local), address).await.ok()?;
        client.try_reply().await?;
        let (user, password) = (format!("USER {user}"), format!("PASS {password}"));
        for line in [&*user, &password, "TYPE I"] {
            let reply = client.try_command(line).await?;
            if reply.code >= 400 {
                client.fail("the login failed");
            }
        }
        Some(client)
    }

    async fn open(local: Option<IpAddr>, peer: SocketAddr) -> io::Result<Self> {
        Self::over(dial(local, peer).await?)
    }

    /// A client on a connection of the test's own, of which nothing has been read.
    pub(crate) fn over(stream: TcpStream) -> io::Result<Self> {
        let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
        Ok(Self {
            stream: BufReader::new(stream),
            local,
            peer,
            deadline: DEADLINE,
            partial: Vec::new(),
            transcript: String::new(),
            began: Instant::now(),
        })
    }

    /// Closes both connections as the kernel does for a client that is killed: the younger one first.
    pub(crate) fn die(self, data: TcpStream) {
        let _ = SockRef::from(&data).shutdown(Shutdown::Both);
        self.hang_up();
        drop(data);
    }

    /// Closes the control connection.
    ///
    /// Dropping it may take effect later: while another thread starts a process, that has all our sockets until it
    /// becomes another program. What is done next would then seem to come first.
    pub(crate) fn hang_up(self) {
        let _ = SockRef::from(self.stream.get_ref()).shutdown(Shutdown::Both);
    }

    /// Closes the control connection with a reset.
    pub(crate) fn reset_control(self) {
        reset(self.stream.into_inner());
    }

    /// Sends bytes as urgent data, as clients do with the `IAC` codes before an `ABOR`.
    pub(crate) fn send_urgent(&mut self, bytes: &[u8]) {
        self.note('>', &format!("(urgent) {}", bytes.escape_ascii()));
        let sent = SockRef::from(self.stream.get_ref()).send_out_of_band(bytes);
        self.check("send urgent data", sent);
    }

    /// The same conversation over another stream, e.g. the TLS stream made of this one.
    pub(crate) async fn upgrade<T, F>(self, wrap: impl FnOnce(TcpStream) -> F) -> Client<T>
    where
        T: AsyncRead + AsyncWrite + Unpin,
        F: Future<Output = T>,
    {
        assert!(
            self.stream.buffer().is_empty(),
            "replies before the upgrade:\n{}",
            self.transcript
        );
        let Self {
            stream,
            local,
            peer,
            deadline,
            partial,
            transcript,
            began,
        } = self;
        let stream = BufReader::new(wrap(stream.into_inner()).await);
        Client {
            stream,
            local,
            peer,
            deadline,
            partial,
            transcript,
            began,
        }
    }
}

/// Commands and replies.
impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// `USER` and `PASS`; gives the reply to the latter, which must be 230.
    pub(crate) async fn login(&mut self, user: &str, password: &str) -> Reply {
        self.expect(&format!("USER {user}"), 331).await;
        let reply = self.expect(&format!("PASS {password}"), 230).await;
        // As clients do: before any TYPE, text is what holds.
        self.expect("TYPE I", 200).await;
        reply
    }

    /// Sends one line.
    pub(crate) async fn send(&mut self, line: &str) {
        self.send_raw(format!("{line}\r\n").as_bytes()).await;
    }

    /// Sends bytes as they are.
    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) {
        self.note('>', &shown(bytes));
        let sent = timeout(self.deadline, self.stream.write_all(bytes)).await;
        let sent = self.check("send in time", sent);
        self.check("send", sent);
        let flushed = self.stream.flush().await;
        self.check("send", flushed);
    }

    /// The next reply.
    pub(crate) async fn reply(&mut self) -> Reply {
        let reply = self.try_reply().await;
        reply.unwrap_or_else(|| self.fail("the server closed the connection where a reply was due"))
    }

    /// The next reply, or `None` if the server closed the connection, cleanly or with a reset.
    pub(crate) async fn try_reply(&mut self) -> Option<Reply> {
        let mut raw = self.line().await?;
        let code = self.code_of(&raw);
        let end = format!("{code} ").into_bytes();
        let mut lines = vec![line_text(&raw)];
        if raw.get(3) == Some(&b'-') {
            while !lines
                .last()
                .is_some_and(|line| line.as_bytes().starts_with(&end))
            {
                let next = self.line().await;
                let next = next
                    .unwrap_or_else(|| self.fail("the server closed the connection amid a reply"));
                lines.push(line_text(&next));
                raw.extend(next);
            }
        }
        Some(Reply { code, lines, raw })
    }

    /// Holds that the server says nothing and does not close within `time`.
    pub(crate) async fn expect_silence(&mut self, time: Duration) {
        if let Ok(heard) = timeout(time, self.stream.fill_buf()).await {
            let heard = heard.map(shown);
            self.fail(&format!("the server was to be silent, but: {heard:?}"));
        }
    }

    /// Holds that the server closes the connection without another word.
    pub(crate) async fn expect_close(&mut self) {
        if let Some(reply) = self.try_reply().await {
            self.fail(&format!(
                "the server was to close the connection, but: {reply:?}"
            ));
        }
    }

    /// Holds that the server closes the connection, whatever it says before.
    pub(crate) async fn expect_close_soon(&mut self) {
        self.rest().await;
    }

    /// All that the server says until it closes the connection, cleanly or with a reset.
    pub(crate) async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        let read = timeout(self.deadline, self.stream.read_to_end(&mut rest)).await;
        let _ = self.check("see the connection close", read);
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// Sends bytes as they are, as long as somebody takes them. Whether all were taken.
    pub(crate) async fn try_send_raw(&mut self, bytes: &[u8]) -> bool {
        self.note('>', &format!("({} bytes)", bytes.len()));
        let sent = timeout(self.deadline, self.stream.write_all(bytes)).await;
        self.check("send in time", sent).is_ok()
    }

    /// Sends one line and gives the next reply.
    pub(crate) async fn command(&mut self, line: &str) -> Reply {
        self.send(line).await;
        self.reply().await
    }

    /// The same, or `None` if the server closed the connection.
    pub(crate) async fn try_command(&mut self, line: &str) -> Option<Reply> {
        self.note('>', line);
        let line = format!("{line}\r\n");
        let sent = timeout(self.deadline, self.stream.write_all(line.as_bytes())).await;
        match self.check("send in time", sent) {
            Ok(()) => self.try_reply().await,
            Err(error) => self.closed(&error.to_string()),
        }
    }

    /// A command whose reply must have this code.
    pub(crate) async fn expect(&mut self, line: &str, code: u16) -> Reply {
        self.send(line).await;
        self.expect_reply(code).await
    }

    /// The next reply, which must have this code.
    pub(crate) async fn expect_reply(&mut self, code: u16) -> Reply {
        let reply = self.reply().await;
        if reply.code != code {
            self.fail(&format!("a {code} was due"));
        }
        reply
    }

    /// What carries it.
    pub(crate) fn stream(&self) -> &S {
        self.stream.get_ref()
    }

    /// The same, without the client around it.
    pub(crate) fn into_stream(self) -> S {
        self.stream.into_inner()
    }

    /// How long to wait from now on.
    pub(crate) fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }

    /// The address of this end.
    pub(crate) fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// The conversation so far, each line with its milliseconds.
    pub(crate) fn transcript(&self) -> &str {
        &self.transcript
    }

    /// A line with its end, or `None` where the connection ends.
    async fn line(&mut self) -> Option<Vec<u8>> {
        let read = timeout(
            self.deadline,
            self.stream.read_until(b'\n', &mut self.partial),
        )
        .await;
        let read = read.unwrap_or_else(|_| self.fail("no reply in time"));
        let line = std::mem::take(&mut self.partial);
        match read {
            Ok(_) if line.ends_with(b"\n") => self.note('<', &shown(&line)),
            Ok(_) if line.is_empty() => return self.closed("closed"),
            Ok(_) => self.fail(&format!(
                "the connection ended amid the line {:?}",
                shown(&line)
            )),
            Err(error) => return self.closed(&error.to_string()),
        }
        Some(line)
    }

    fn closed<T>(&mut self, how: &str) -> Option<T> {
        self.note('<', &format!("({how})"));
        None
    }

    fn code_of(&self, line: &[u8]) -> u16 {
        let code = line
            .get(..3)
            .and_then(|code| std::str::from_utf8(code).ok());
        let code = code.and_then(|code| code.parse().ok());
        code.unwrap_or_else(|| self.fail("a reply must begin with its code"))
    }

    fn note(&mut self, way: char, what: &str) {
        let at = self.began.elapsed().as_millis();
        let _ = writeln!(self.transcript, "{at:6} ms {way} {what}");
    }

    fn check<T, E: std::fmt::Display>(&self, what: &str, result: Result<T, E>) -> T {
        result.unwrap_or_else(|error| self.fail(&format!("could not {what}: {error}")))
    }

    fn fail(&self, why: &str) -> ! {
        panic!(
            "{why}; the conversation with {}:\n{}",
            self.peer, self.transcript
        )
    }
}

/// Data connections.
impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// `PASV`, and the address in its 227.
    pub(crate) async fn pasv(&mut self) -> SocketAddr {
        let reply = self.expect("PASV", 227).await;
        self.address_in_227(&reply)
    }

    fn address_in_227(&self, reply: &Reply) -> SocketAddr {
        let text = reply.text();
        let numbers = text
            .rsplit_once('(')
            .and_then(|(_, rest)| rest.split_once(')'));
        let (numbers, _) = numbers.unwrap_or_default();
        let numbers = numbers.split(',').filter_map(|number| number.parse().ok());
        match numbers.collect::<Vec<u8>>()[..] {
            [a, b, c, d, high, low] => {
                SocketAddr::from(([a, b, c, d], u16::from_be_bytes([high, low])))
            }
            _ => self.fail("a 227 must name an address"),
        }
    }

    /// `EPSV`, and the address that its 229 means.
    pub(crate) async fn epsv(&mut self) -> SocketAddr {
        let reply = self.expect("EPSV", 229).await;
        self.address_in_229(&reply)
    }

    fn address_in_229(&self, reply: &Reply) -> SocketAddr {
        let text = reply.text();
        let port = text
            .rsplit_once("(|||")
            .and_then(|(_, rest)| rest.split_once("|)"));
        let port = port.and_then(|(port, _)| port.parse().ok());
        SocketAddr::new(
            self.peer.ip(),
            port.unwrap_or_else(|| self.fail("a 229 must name a port")),
        )
    }

    /// A passive data connection: by `PASV` over IPv4, by `EPSV` over IPv6.
    pub(crate) async fn open_data(&mut self) -> TcpStream {
        let data = self.try_open_data().await;
        data.unwrap_or_else(|| self.fail("no data connection"))
    }

    async fn try_open_data(&mut self) -> Option<TcpStream> {
        let address = if self.peer.is_ipv4() {
            let reply = self.try_command("PASV").await?;
            self.address_in_227(&reply)
        } else {
            let reply = self.try_command("EPSV").await?;
            self.address_in_229(&reply)
        };
        match dial(Some(self.local.ip()), address).await {
            Ok(data) => Some(data),
            Err(error) => self.closed(&format!("connect to {address}: {error}")),
        }
    }

    /// Listens for an active data connection, and tells the server so: by `PORT` over IPv4, by `EPRT` over IPv6.
    pub(crate) async fn listen_data(&mut self) -> TcpListener {
        let listener = TcpListener::bind((self.local.ip(), 0)).await;
        let listener = self.check("listen", listener);
        let address = listener.local_addr().expect("the listener's address");
        self.expect(&active_command(address), 200).await;
        listener
    }

    /// A passive data connection and a command that uses it; gives the command's first reply.
    pub(crate) async fn begin(&mut self, command: &str) -> (TcpStream, Reply) {
        let begun = self.try_begin(command).await;
        begun.unwrap_or_else(|| self.fail("the server closed the connection"))
    }

    /// The same, or `None` if the server closed the connection.
    pub(crate) async fn try_begin(&mut self, command: &str) -> Option<(TcpStream, Reply)> {
        let data = self.try_open_data().await?;
        let reply = self.try_command(command).await?;
        Some((data, reply))
    }

    /// Uploads with `command` (`STOR …`, `APPE …`, `STOU`); gives the final reply. The first must be 150.
    pub(crate) async fn upload(&mut self, command: &str, bytes: &[u8]) -> Reply {
        let mut data = self.open_data().await;
        self.expect(command, 150).await;
        self.write(&mut data, bytes).await;
        drop(data);
        self.reply().await
    }

    /// Downloads with `command` (`RETR …`, `LIST`, …); gives the bytes and the final reply, which is the first
    /// one where the server refuses.
    pub(crate) async fn download(&mut self, command: &str) -> (Vec<u8>, Reply) {
        let downloaded = self.try_download(command).await;
        downloaded.unwrap_or_else(|| self.fail("the server closed the connection"))
    }

    /// The same, or `None` if the server closed the connection.
    pub(crate) async fn try_download(&mut self, command: &str) -> Option<(Vec<u8>, Reply)> {
        let (mut data, first) = self.try_begin(command).await?;
        if !first.is_preliminary() {
            return Some((Vec::new(), first));
        }
        let bytes = self.read(&mut data).await;
        Some((bytes, self.try_reply().await?))
    }

    /// `STOR` of an empty file, whether it gets as far as to a 150 or not.
    pub(crate) async fn try_to_store(&mut self, path: &str) -> Reply {
        let address = self.pasv().await;
        let data = TcpStream::connect(address).await.expect("a connection");
        let reply = self.command(&format!("STOR {path}")).await;
        drop(data);
        if reply.is_preliminary() {
            return self.reply().await;
        }
        reply
    }

    pub(crate) async fn store(&mut self, path: &str, bytes: &[u8]) -> Reply {
        self.upload(&format!("STOR {path}"), bytes).await
    }

    pub(crate) async fn retrieve(&mut self, path: &str) -> (Vec<u8>, Reply) {
        self.download(&format!("RETR {path}")).await
    }

    /// A listing by `command` (`LIST`, `NLST`, `MLSD`) of `path`, or of the working directory where it is empty.
    pub(crate) async fn list(&mut self, command: &str, path: &str) -> (String, Reply) {
        let (bytes, reply) = self.download(format!("{command} {path}").trim_end()).await;
        (String::from_utf8_lossy(&bytes).into_owned(), reply)
    }

    /// Writes `bytes` and ends the connection cleanly. A server that stops taking them is no failure here: its
    /// reply says why.
    async fn write(&mut self, data: &mut TcpStream, bytes: &[u8]) {
        for chunk in bytes.chunks(CHUNK) {
            let written = timeout(self.deadline, data.write_all(chunk)).await;
            if let Err(error) = self.check("write data in time", written) {
                return self.note('>', &format!("(data: {error})"));
            }
        }
        let _ = data.shutdown().await;
    }

    /// Reads to the end, or to an error: the server's reply says what it means.
    async fn read(&mut self, data: &mut TcpStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let read = timeout(self.deadline, data.read_buf(&mut bytes)).await;
            match self.check("read data in time", read) {
                Ok(0) => return bytes,
                Ok(_) => {}
                Err(error) => {
                    self.note('<', &format!("(data: {error})"));
                    return bytes;
                }
            }
        }
    }
}

/// Connects with Nagle's algorithm off, from a local address of choice.
pub(crate) async fn dial(local: Option<IpAddr>, peer: SocketAddr) -> io::Result<TcpStream> {
    let socket = if peer.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if let Some(local) = local {
        socket.bind(SocketAddr::new(local, 0))?;
    }
    let stream = timeout(DEADLINE, socket.connect(peer)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Closes a connection with a reset (RST), at once (see [`Client::hang_up`]).
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .expect("a socket that can be reset");
    rustix::net::connect_unspec(&stream).expect("a socket that can be reset");
    drop(stream);
}

/// `PORT 127,0,0,1,4,1` or `EPRT |2|::1|1025|`
pub(crate) fn active_command(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(address) => {
            let [a, b, c, d] = address.ip().octets();
            let [high, low] = address.port().to_be_bytes();
            format!("PORT {a},{b},{c},{d},{high},{low}")
        }
        SocketAddr::V6(address) => format!("EPRT |2|{}|{}|", address.ip(), address.port()),
    }
}

fn line_text(line: &[u8]) -> String {
    String::from_utf8_lossy(line)
        .trim_end_matches(['\r', '\n'])
        .to_owned()
}

/// Bytes as the transcript shows them: the usual line end left out, what can't be printed escaped.
fn shown(bytes: &[u8]) -> String {
    let bytes = bytes.strip_suffix(b"\r\n").unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(char::is_control) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}
