//! The client, held against a server small enough to be read: it keeps one file.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::{Client, Reply, active_command, reset};

/// Serves one client and gives its address; the task ends with what it read last.
async fn serve(at: SocketAddr) -> (SocketAddr, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind(at).await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let session = async move {
        let (stream, _) = listener.accept().await.expect("a client");
        Session {
            stream: BufReader::new(stream),
            data: None,
            file: Vec::new(),
        }
        .run()
        .await
    };
    (address, tokio::spawn(session))
}

struct Session {
    stream: BufReader<TcpStream>,
    data: Option<TcpListener>,
    file: Vec<u8>,
}

impl Session {
    async fn run(mut self) -> String {
        self.say("220-Hello\r\n 220 is not the end\r\n220 now it is")
            .await;
        loop {
            let mut line = String::new();
            if let Err(error) = self.stream.read_line(&mut line).await {
                return error.kind().to_string();
            }
            match line.trim_end() {
                "" | "QUIT" => return line,
                line => self.answer(line).await,
            }
        }
    }

    async fn answer(&mut self, line: &str) {
        match line {
            "USER ferry" => self.say("331 And?").await,
            "PASS secret" => self.say("230 In").await,
            "TYPE I" => self.say("200 Binary").await,
            "PWD" => self.say("257 \"/a \"\"b\"\"\" is where").await,
            "BYTES" => self
                .stream
                .write_all(b"250 caf\xe9\r\n")
                .await
                .expect("a client"),
            "PASV" | "EPSV" => self.listen(line).await,
            "STOR a" => self.take().await,
            "RETR a" => self.give().await,
            _ => self.say("502 What?").await,
        }
    }

    async fn listen(&mut self, verb: &str) {
        let ip = self.stream.get_ref().local_addr().expect("an address").ip();
        let listener = TcpListener::bind((ip, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        self.data = Some(listener);
        let port = active_command(address);
        match verb {
            "PASV" => {
                self.say(&format!("227 Here ({}).", &port["PORT ".len()..]))
                    .await;
            }
            _ => {
                self.say(&format!("229 Here (|||{}|)", address.port()))
                    .await;
            }
        }
    }

    async fn take(&mut self) {
        let mut data = self.accept().await;
        self.file.clear();
        match data.read_to_end(&mut self.file).await {
            Ok(_) => self.say("226 Kept").await,
            Err(_) => self.say("426 Lost").await,
        }
    }

    async fn give(&mut self) {
        let mut data = self.accept().await;
        data.write_all(&self.file)
            .await
            .expect("a client that reads");
        drop(data);
        self.say("226 Sent").await;
    }

    async fn accept(&mut self) -> TcpStream {
        let listener = self.data.take().expect("PASV or EPSV before");
        let (data, _) = listener.accept().await.expect("a data connection");
        self.say("150 Go").await;
        data
    }

    async fn say(&mut self, reply: &str) {
        let reply = format!("{reply}\r\n");
        self.stream
            .write_all(reply.as_bytes())
            .await
            .expect("a client");
    }
}

const V4: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);
const V6: (Ipv6Addr, u16) = (Ipv6Addr::LOCALHOST, 0);

async fn logged_in(at: SocketAddr) -> Client {
    let (address, _) = serve(at).await;
    Client::connect_as(address, "ferry", "secret").await
}

#[tokio::test]
async fn client_reads_replies_of_many_lines() {
    let (address, _) = serve(V4.into()).await;
    let (mut client, greeting) = Client::connect(address).await;
    assert_eq!(greeting.code, 220);
    assert_eq!(
        greeting.lines,
        ["220-Hello", " 220 is not the end", "220 now it is"]
    );
    let Reply { code, lines, .. } = client.command("NONSENSE").await;
    assert_eq!((code, lines), (502, vec!["502 What?".to_owned()]));
    assert_eq!(client.expect("PWD", 257).await.quoted(), "/a \"b\"");
    assert_eq!(client.expect("BYTES", 250).await.raw, b"250 caf\xe9\r\n");
    client.expect_silence(Duration::from_millis(20)).await;
    client.send("QUIT").await;
    client.expect_close().await;
}

#[tokio::test]
async fn client_transfers_over_both_families() {
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    for at in [V4.into(), V6.into()] {
        let mut client = logged_in(at).await;
        assert_eq!(client.store("a", &bytes).await.code, 226);
        let (back, reply) = client.retrieve("a").await;
        assert_eq!(
            (back == bytes, reply.code),
            (true, 226),
            "{}",
            client.transcript()
        );
        let (_, refusal) = client.retrieve("b").await;
        assert_eq!(refusal.code, 502);
    }
}

#[tokio::test]
async fn client_resets_connections() {
    let (address, session) = serve(V4.into()).await;
    let mut client = Client::connect_as(address, "ferry", "secret").await;
    let (data, first) = client.begin("STOR a").await;
    assert_eq!(first.code, 150);
    reset(data);
    client.expect_reply(426).await;
    client.reset_control();
    assert_eq!(session.await.expect("the session"), "connection reset");
}

#[tokio::test]
#[should_panic(expected = "> USER nobody")]
async fn client_panics_with_the_conversation() {
    let (address, _) = serve(V4.into()).await;
    let (mut client, _) = Client::connect(address).await;
    client.login("nobody", "secret").await;
}

#[tokio::test]
#[should_panic(expected = "no reply in time")]
async fn client_gives_up_at_its_deadline() {
    let mut client = logged_in(V4.into()).await;
    client.set_deadline(Duration::from_millis(20));
    client.reply().await;
}

#[test]
fn client_names_active_addresses() {
    assert_eq!(
        active_command("127.0.0.1:1025".parse().unwrap()),
        "PORT 127,0,0,1,4,1"
    );
    assert_eq!(
        active_command("[::1]:1025".parse().unwrap()),
        "EPRT |2|::1|1025|"
    );
}
