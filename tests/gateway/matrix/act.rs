//! What the client does in one run, and what it hears.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::ftp::{Client, Reply, reset};

use super::case::{Case, Cut, Moment, Step, Trouble};
use super::lane::Lane;

/// How much is written at once; a gateway that has enough of it ends the transfer between two.
const CHUNK: usize = 64 * 1024;

/// What a client knows in the end.
pub(super) struct Heard {
    /// The last reply to its transfer command, if it was there to hear it.
    pub(super) reply: Option<Reply>,
    /// The conversation, for who has to find out what went wrong.
    pub(super) transcript: String,
}

/// An upload of this case, with its trouble.
pub(super) async fn upload(lane: &Lane, case: &Case, name: &str, bytes: &[u8]) -> Heard {
    let mut client = lane.client().await;
    client.set_deadline(Duration::from_secs(30));
    let (restart, command) = case.command(name);
    if let Some(restart) = restart {
        client.expect(&restart, 350).await;
    }
    let (mut data, first) = client.begin(&command).await;
    if !first.is_preliminary() {
        return done(client, first).await;
    }
    match (case.trouble, case.moment) {
        (Trouble::None | Trouble::Store(..), _) => {
            send(&mut data, bytes).await;
            if let Trouble::Store(Step::Abort, _) = case.trouble {
                begun(lane).await;
                return cut_off(client, Some(data), Cut::Abor).await;
            }
            drop(data);
            let reply = client.reply().await;
            done(client, reply).await
        }
        (Trouble::Client(cut), Moment::After(sent)) => {
            send_part_of(lane, case, &mut data, &bytes[..sent]).await;
            cut_off(client, Some(data), cut).await
        }
        (Trouble::Client(cut), Moment::Late(by)) => {
            send(&mut data, bytes).await;
            drop(data);
            tokio::time::sleep(by).await;
            cut_off(client, None, cut).await
        }
        (Trouble::GatewayKilled, moment) => {
            match moment {
                Moment::After(sent) => {
                    send_part_of(lane, case, &mut data, &bytes[..sent]).await;
                }
                Moment::Late(by) => {
                    send(&mut data, bytes).await;
                    let _ = data.shutdown().await;
                    tokio::time::sleep(by).await;
                }
            }
            lane.kill();
            last_words(client).await
        }
    }
}

/// Sends, and waits for what is to come of it.
async fn send_part_of(lane: &Lane, case: &Case, data: &mut TcpStream, bytes: &[u8]) {
    send(data, bytes).await;
    if case.begun && case.begins_with(bytes.len()) {
        begun(lane).await;
    }
}

async fn begun(lane: &Lane) {
    lane.server().wait_for(Step::Create.operation(), 1).await;
}

/// A gateway that stops taking bytes says why in its reply.
async fn send(data: &mut TcpStream, bytes: &[u8]) {
    for chunk in bytes.chunks(CHUNK) {
        if data.write_all(chunk).await.is_err() {
            return;
        }
    }
}

async fn cut_off(mut client: Client, data: Option<TcpStream>, cut: Cut) -> Heard {
    match cut {
        Cut::Killed => {
            let heard = Heard::nothing(&client);
            match data {
                Some(data) => client.die(data),
                None => client.hang_up(),
            }
            heard
        }
        Cut::Abor => {
            client.send("ABOR").await;
            aborted(client).await
        }
        Cut::TelnetAbor => {
            client.send_raw(b"\xff\xf4").await;
            client.send_urgent(b"\xff");
            client.send_raw(b"\xf2ABOR\r\n").await;
            aborted(client).await
        }
        Cut::DataReset => {
            reset(data.expect("an open data connection"));
            let reply = client.reply().await;
            done(client, reply).await
        }
        Cut::ControlReset => {
            let heard = Heard::nothing(&client);
            client.reset_control();
            end(data).await;
            heard
        }
        Cut::ControlClosed => {
            let heard = Heard::nothing(&client);
            client.hang_up();
            end(data).await;
            heard
        }
        Cut::Stalled => {
            let reply = client.reply().await;
            drop(data);
            done(client, reply).await
        }
    }
}

async fn end(data: Option<TcpStream>) {
    if let Some(mut data) = data {
        let _ = data.shutdown().await;
    }
}

/// The transfer's reply, then ABOR's.
async fn aborted(mut client: Client) -> Heard {
    let reply = client.reply().await;
    client.expect_reply(226).await;
    done(client, reply).await
}

/// Whatever became of the transfer, the session goes on.
async fn done(mut client: Client, reply: Reply) -> Heard {
    client.expect("NOOP", 200).await;
    Heard {
        reply: Some(reply),
        transcript: client.transcript().to_owned(),
    }
}

/// What a killed gateway had said before.
async fn last_words(mut client: Client) -> Heard {
    let mut heard = Heard::nothing(&client);
    while let Some(reply) = client.try_reply().await {
        heard.reply = Some(reply);
    }
    client.transcript().clone_into(&mut heard.transcript);
    heard
}

impl Heard {
    fn nothing(client: &Client) -> Self {
        Self {
            reply: None,
            transcript: client.transcript().to_owned(),
        }
    }
}
