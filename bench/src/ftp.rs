//! A light FTP client: passive, binary, one transfer at a time.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::far::dial;
use crate::wire::{Tls, Wire};
use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

/// Who the gateway knows, and the password.
pub(crate) const USER: &str = "bench";
pub(crate) const PASSWORD: &str = "bench-secret";

/// A session that has logged in.
#[derive(Debug)]
pub(crate) struct Ftp {
    control: BufReader<Wire>,
    tls: Option<Tls>,
    host: IpAddr,
    delay: Duration,
    line: String,
}

impl Ftp {
    /// Logs in from so far away.
    pub(crate) async fn login(
        address: SocketAddr,
        delay: Duration,
        tls: Option<Tls>,
    ) -> anyhow::Result<Self> {
        let stream = dial(address, delay).await?;
        stream.set_nodelay(true)?;
        let mut session = Self {
            // Replies are short, and thousands of sessions should not take memory here.
            control: BufReader::with_capacity(512, Wire::Clear(stream)),
            tls: None,
            host: address.ip(),
            delay,
            line: String::new(),
        };
        session.expect(220).await?;
        if let Some(tls) = tls {
            session = session.secure(tls).await?;
        }
        session.command(&format!("USER {USER}"), 331).await?;
        session.command(&format!("PASS {PASSWORD}"), 230).await?;
        session.command("TYPE I", 200).await?;
        Ok(session)
    }

    async fn secure(mut self, tls: Tls) -> anyhow::Result<Self> {
        self.command("AUTH TLS", 234).await?;
        let Wire::Clear(stream) = self.control.into_inner() else {
            bail!("it is encrypted already");
        };
        self.control = BufReader::with_capacity(512, tls.encrypt(stream).await?);
        self.tls = Some(tls);
        self.command("PBSZ 0", 200).await?;
        self.command("PROT P", 200).await?;
        Ok(self)
    }

    /// Sends a command whose reply has to be this one, and returns that.
    pub(crate) async fn command(&mut self, command: &str, code: u16) -> anyhow::Result<&str> {
        self.send(command).await?;
        self.expect(code)
            .await
            .with_context(|| command.to_owned())?;
        Ok(&self.line)
    }

    /// Begins a transfer: up to its 150.
    pub(crate) async fn begin(&mut self, command: &str) -> anyhow::Result<Wire> {
        let reply = self.command("EPSV", 229).await?;
        let port = passive_port(reply).with_context(|| format!("no port in {reply}"))?;
        self.send(command).await?;
        let data = dial((self.host, port).into(), self.delay).await?;
        self.expect(150).await.with_context(|| command.to_owned())?;
        match &self.tls {
            None => Ok(Wire::Clear(data)),
            Some(tls) => tls.encrypt(data).await,
        }
    }

    /// The end of a transfer.
    pub(crate) async fn end(&mut self) -> anyhow::Result<()> {
        self.expect(226).await
    }

    /// The size of a file, as the server says.
    pub(crate) async fn size(&mut self, name: &str) -> anyhow::Result<u64> {
        let reply = self.command(&format!("SIZE {name}"), 213).await?;
        let size = reply.get(4..).map(str::trim_end).unwrap_or_default();
        size.parse().with_context(|| format!("no size: {reply}"))
    }

    async fn send(&mut self, command: &str) -> anyhow::Result<()> {
        let line = format!("{command}\r\n");
        self.control.get_mut().write_all(line.as_bytes()).await?;
        Ok(self.control.get_mut().flush().await?)
    }

    /// The next reply, which has to have this code. Of several lines only the last counts.
    async fn expect(&mut self, code: u16) -> anyhow::Result<()> {
        loop {
            self.line.clear();
            if self.control.read_line(&mut self.line).await? == 0 {
                bail!("the gateway hung up where {code} was expected");
            }
            if is_last(&self.line) {
                break;
            }
        }
        if !self.line.starts_with(&code.to_string()) {
            bail!("expected {code}, got {}", self.line.trim_end());
        }
        Ok(())
    }
}

/// `226 Done` ends a reply; `226-More` does not, nor does a line without a code.
fn is_last(line: &str) -> bool {
    let bytes = line.as_bytes();
    bytes.len() > 3 && bytes[..3].iter().all(u8::is_ascii_digit) && bytes[3] == b' '
}

/// The port in `229 Entering Extended Passive Mode (|||30000|)`.
fn passive_port(reply: &str) -> Option<u16> {
    let (_, rest) = reply.split_once("(|||")?;
    rest.split_once('|')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_from_a_229() {
        let reply = "229 Entering Extended Passive Mode (|||30001|)\r\n";
        assert_eq!(passive_port(reply), Some(30_001));
        assert_eq!(passive_port("229 none"), None);
    }

    #[test]
    fn a_reply_ends_with_its_last_line() {
        assert!(is_last("226 Done\r\n"));
        assert!(!is_last("211-Features\r\n"));
        assert!(!is_last(" MLST\r\n"));
    }
}
