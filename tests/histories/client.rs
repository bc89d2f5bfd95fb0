//! A client that does its steps one after the other, and writes down what it hears.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::content::{Chunk, Content};
use crate::history::{Outcome, Record, Seen, Time};
use crate::plan::{HangUp, Step, Verb};
use crate::served::Connected;
use crate::support::ftp::{Client, Reply};
use crate::world::{Run, World};

/// One client of a history.
pub(crate) struct Device {
    pub(crate) number: usize,
    pub(crate) world: Arc<World>,
    pub(crate) run: Arc<Run>,
}

/// What a step came to, and the words of the last reply.
type Ended = (Outcome, String);

impl Device {
    /// Does all steps.
    pub(crate) async fn work(self, steps: Vec<Step>) {
        let mut connected: Option<Connected> = None;
        for step in steps {
            sleep(step.pause).await;
            let client = match connected.take() {
                Some(client) if client.gateway == step.gateway && self.world.has(&client) => client,
                _ => self.world.client(step.gateway).await,
            };
            connected = self.does(&step, client).await;
            // As a user does who was interrupted: the same rename again.
            if connected.is_none() && step.is_rename() && step.hang_up.is_none() {
                let client = self.world.client(step.gateway).await;
                connected = self.does(&step, client).await;
            }
        }
        if let Some(client) = connected {
            self.world.give_back(client);
        }
    }

    /// Does one step. The client, if it is still connected.
    async fn does(&self, step: &Step, connected: Connected) -> Option<Connected> {
        let call = self.run.now();
        let life = connected.life;
        let mut doing = Doing {
            client: Some(connected.client),
            run: &self.run,
            hang_up: step.hang_up,
        };
        let (outcome, words) = doing.verb(&step.verb).await;
        let reply = self.run.now();
        let last_try = reply + SLACK;
        let client = doing.client.take();
        if client.is_none() {
            self.world.hung_up(step.gateway, life);
        }
        if client.is_none() && step.hang_up.is_none() {
            self.run.cut_off(step.gateway, life);
        }
        self.run.note(Record {
            client: self.number,
            gateway: step.gateway,
            verb: step.verb.clone(),
            call,
            reply: if outcome == Outcome::Unheard {
                reply + self.world.patience() + SLACK
            } else {
                reply
            },
            last_try,
            outcome,
            words,
        });
        client.map(|client| Connected {
            client,
            gateway: step.gateway,
            life,
        })
    }
}

/// What a loaded machine may take longer, in microseconds.
const SLACK: Time = 150_000;

/// A step under way.
struct Doing<'a> {
    /// Taken when it hangs up.
    client: Option<Client>,
    run: &'a Run,
    hang_up: Option<HangUp>,
}

impl Doing<'_> {
    async fn verb(&mut self, verb: &Verb) -> Ended {
        match self.try_verb(verb).await {
            Some(ended) => ended,
            None => self.leaves(),
        }
    }

    /// Nothing, if the connection ends before the reply.
    async fn try_verb(&mut self, verb: &Verb) -> Option<Ended> {
        match verb {
            Verb::Store { key, chunk } => self.upload("STOR", key, *chunk).await,
            Verb::Append { key, chunk } => self.upload("APPE", key, *chunk).await,
            Verb::Unique { key, chunk } => self.unique(key, *chunk).await,
            Verb::Restart { key, at, chunk } => {
                self.command(&format!("REST {at}")).await?;
                self.upload("STOR", key, *chunk).await
            }
            Verb::Retrieve { key } => self.retrieve(key).await,
            Verb::Size { key } => self.size(key).await,
            Verb::Delete { key } => self.change(&format!("DELE {}", self.run.path(key))).await,
            Verb::Rename { from, to } | Verb::RenameDirectory { from, to } => {
                self.rename(from, to).await
            }
            Verb::MakeDirectory { path } => {
                self.change(&format!("MKD {}", self.run.path(path))).await
            }
            Verb::RemoveDirectory { path } => {
                self.change(&format!("RMD {}", self.run.path(path))).await
            }
            Verb::List { path } => self.list("LIST", path).await,
            Verb::Names { path } => self.list("NLST", path).await,
        }
    }

    fn client(&mut self) -> &mut Client {
        self.client.as_mut().expect("it has not hung up")
    }

    async fn command(&mut self, line: &str) -> Option<Reply> {
        self.client().try_command(line).await
    }

    fn leaves(&mut self) -> Ended {
        if let Some(client) = self.client.take() {
            client.hang_up();
        }
        let words = if self.hang_up.is_some() {
            "hung up"
        } else {
            "cut off"
        };
        (Outcome::Unheard, words.to_owned())
    }

    /// A command that changes something, and has one reply.
    async fn change(&mut self, line: &str) -> Option<Ended> {
        if let Some(hang_up) = self.hang_up {
            self.client().send(line).await;
            sleep(hang_up.after()).await;
            return None;
        }
        let reply = self.command(line).await?;
        Some((outcome(&reply, Seen::Nothing), reply.text()))
    }

    async fn rename(&mut self, from: &str, to: &str) -> Option<Ended> {
        let from = self
            .command(&format!("RNFR {}", self.run.path(from)))
            .await?;
        if from.code != 350 {
            return Some((outcome(&from, Seen::Nothing), from.text()));
        }
        self.change(&format!("RNTO {}", self.run.path(to))).await
    }

    async fn upload(&mut self, verb: &str, key: &str, chunk: Chunk) -> Option<Ended> {
        let line = format!("{verb} {}", self.run.path(key));
        let (data, first) = self.client().try_begin(&line).await?;
        if !first.is_preliminary() {
            return Some((outcome(&first, Seen::Nothing), first.text()));
        }
        if !self.sends(data, chunk).await {
            return None;
        }
        let reply = self.client().try_reply().await?;
        Some((outcome(&reply, Seen::Nothing), reply.text()))
    }

    /// Sends a chunk and ends the connection. Whether the client is still there then.
    async fn sends(&mut self, mut data: TcpStream, chunk: Chunk) -> bool {
        let bytes = chunk.bytes();
        match self.hang_up {
            Some(HangUp::Early) => {
                let _ = data.write_all(&bytes[..bytes.len() / 2]).await;
                // The control connection first: else the half would look whole.
                self.leaves();
                return false;
            }
            Some(HangUp::Late(after)) => {
                let _ = data.write_all(&bytes).await;
                let _ = data.shutdown().await;
                sleep(after).await;
                return false;
            }
            None => {
                let _ = data.write_all(&bytes).await;
                let _ = data.shutdown().await;
            }
        }
        true
    }

    async fn unique(&mut self, key: &str, chunk: Chunk) -> Option<Ended> {
        let (outcome, words) = self.upload("STOU", key, chunk).await?;
        let (Outcome::Done(_), Some((_, name))) =
            (&outcome, words.split_once("(unique file name: "))
        else {
            return Some((outcome, words));
        };
        let name = name.trim_end_matches(')');
        let name = match key.rsplit_once('/') {
            Some((directory, _)) => format!("{directory}/{name}"),
            None => name.to_owned(),
        };
        Some((Outcome::Done(Seen::Name(name)), words))
    }

    async fn retrieve(&mut self, key: &str) -> Option<Ended> {
        let line = format!("RETR {}", self.run.path(key));
        let (bytes, reply) = self.client().try_download(&line).await?;
        if reply.code != 226 {
            return Some((outcome(&reply, Seen::Nothing), reply.text()));
        }
        let content = self.run.read(&format!("RETR {key}"), &bytes);
        Some((outcome(&reply, Seen::Content(content)), reply.text()))
    }

    async fn size(&mut self, key: &str) -> Option<Ended> {
        let reply = self
            .command(&format!("SIZE {}", self.run.path(key)))
            .await?;
        let size = reply.text().strip_prefix("213 ").map(str::to_owned);
        let size = size.and_then(|size| size.trim().parse().ok());
        let seen = Seen::Size(size.unwrap_or_default());
        Some((outcome(&reply, seen), reply.text()))
    }

    /// The names of files in a directory, as [`Verb`] has them.
    async fn list(&mut self, verb: &str, path: &str) -> Option<Ended> {
        let line = format!("{verb} {}", self.run.path(path));
        let (bytes, reply) = self.client().try_download(&line).await?;
        let text = String::from_utf8_lossy(&bytes);
        let files = text.lines().filter(|line| !line.starts_with('d'));
        let lines: Vec<_> = if verb == "LIST" {
            files.collect()
        } else {
            text.lines().collect()
        };
        let names = lines
            .iter()
            .filter_map(|line| line.rsplit([' ', '/']).next());
        let names = names.map(|name| format!("{path}/{name}")).collect();
        Some((outcome(&reply, Seen::Names(names)), reply.text()))
    }
}

impl Step {
    fn is_rename(&self) -> bool {
        matches!(
            self.verb,
            Verb::Rename { .. } | Verb::RenameDirectory { .. }
        )
    }
}

impl HangUp {
    fn after(self) -> Duration {
        match self {
            Self::Early => Duration::ZERO,
            Self::Late(after) => after,
        }
    }
}

/// What a reply means to a client, which has seen this if it is good.
fn outcome(reply: &Reply, seen: Seen) -> Outcome {
    let text = reply.text();
    match reply.code {
        200..=299 => Outcome::Done(seen),
        451 if text.contains("to say whether") => Outcome::Unresolved,
        550 if text.contains("No such file") => Outcome::Missing,
        550 if text.contains("Another has renamed") => Outcome::TakenAway,
        _ => Outcome::Refused,
    }
}

/// What is found at a name past the gateways.
pub(crate) fn look(content: Option<Content>) -> Outcome {
    match content {
        Some(content) => Outcome::Done(Seen::Content(content)),
        None => Outcome::Missing,
    }
}
