//! One client of either side: the same work, asked for in FTP or in the floor's own words.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::ftp::Ftp;
use crate::net::{Skipper, dial, send_blank};
use crate::wire::{Tls, Wire};

/// Who does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// `object_store` behind a plain socket.
    Floor,
    /// Bucketferry.
    Gateway,
}

/// A client, logged in where there is something to log in to.
#[derive(Debug)]
pub(crate) enum Client {
    /// Of the floor: a connection for each transfer.
    Floor(SocketAddr, Option<Tls>),
    /// Of the gateway.
    Gateway(Box<Ftp>),
}

/// How a listing is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListVerb {
    List,
    Mlsd,
}

/// What a listing took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listed {
    /// Until the first byte of an entry; for the floor, which sends none, until the end.
    pub(crate) first: Duration,
    pub(crate) total: Duration,
    /// Bytes of the listing.
    pub(crate) bytes: u64,
}

impl Client {
    pub(crate) async fn connect(
        side: Side,
        address: SocketAddr,
        delay: Duration,
        tls: Option<Tls>,
    ) -> anyhow::Result<Self> {
        Ok(match side {
            Side::Floor => Self::Floor(address, tls),
            Side::Gateway => Self::Gateway(Box::new(Ftp::login(address, delay, tls).await?)),
        })
    }

    /// Sends a file of blank bytes, to its confirmation.
    pub(crate) async fn upload(&mut self, name: &str, size: u64) -> anyhow::Result<()> {
        match self {
            Self::Floor(address, tls) => {
                let mut stream = ask(*address, tls.as_ref(), &format!("PUT {name}\n")).await?;
                send_blank(&mut stream, size).await?;
                stream.shutdown().await?;
                let stored = number(&mut stream).await?;
                ensure!(stored == size, "{stored} of {size} bytes were stored");
                Ok(())
            }
            Self::Gateway(ftp) => {
                let mut data = ftp.begin(&format!("STOR {name}")).await?;
                send_blank(&mut data, size).await?;
                data.shutdown().await?;
                ftp.end().await
            }
        }
    }

    /// Fails unless the gateway says that a file has this size. The floor has said so before.
    pub(crate) async fn verify(&mut self, name: &str, size: u64) -> anyhow::Result<()> {
        if let Self::Gateway(ftp) = self {
            let stored = ftp.size(name).await?;
            ensure!(
                stored == size,
                "{stored} of {size} bytes of {name} are there"
            );
        }
        Ok(())
    }

    /// Fetches a file and throws it away.
    pub(crate) async fn download(&mut self, name: &str, size: u64) -> anyhow::Result<()> {
        let mut skipper = Skipper::new();
        let came = match self {
            Self::Floor(address, tls) => {
                let mut stream = ask(*address, tls.as_ref(), &format!("GET {name}\n")).await?;
                skipper.all(&mut stream).await?
            }
            Self::Gateway(ftp) => {
                let mut data = ftp.begin(&format!("RETR {name}")).await?;
                let came = skipper.all(&mut data).await?;
                ftp.end().await?;
                came
            }
        };
        ensure!(came == size, "{came} of {size} bytes came");
        Ok(())
    }

    /// Lists a directory of so many entries and throws the listing away.
    pub(crate) async fn list(
        &mut self,
        verb: ListVerb,
        directory: &str,
        entries: u64,
    ) -> anyhow::Result<Listed> {
        let started = Instant::now();
        match self {
            Self::Floor(address, tls) => {
                let mut stream =
                    ask(*address, tls.as_ref(), &format!("PAGES {directory}/\n")).await?;
                let listed = number(&mut stream).await?;
                ensure!(listed == entries, "{listed} of {entries} entries were read");
                let total = started.elapsed();
                Ok(Listed {
                    first: total,
                    total,
                    bytes: 0,
                })
            }
            Self::Gateway(ftp) => {
                let mut data = ftp.begin(&format!("{} {directory}", verb.word())).await?;
                let mut skipper = Skipper::new();
                let mut bytes = skipper.some(&mut data, 1).await?;
                let first = started.elapsed();
                bytes += skipper.all(&mut data).await?;
                ftp.end().await?;
                let total = started.elapsed();
                // `modify=20260101000000;size=1024; file-000000000.dat` is longer than this.
                ensure!(bytes > 40 * entries, "{bytes} bytes for {entries} entries");
                Ok(Listed {
                    first,
                    total,
                    bytes,
                })
            }
        }
    }
}

impl ListVerb {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::List => "LIST",
            Self::Mlsd => "MLSD",
        }
    }
}

/// Begins something at the floor.
async fn ask(address: SocketAddr, tls: Option<&Tls>, line: &str) -> anyhow::Result<Wire> {
    let stream = dial(address).await?;
    let mut stream = match tls {
        None => Wire::Clear(stream),
        Some(tls) => tls.encrypt(stream).await?,
    };
    stream.write_all(line.as_bytes()).await?;
    Ok(stream)
}

/// The floor's answer.
async fn number(stream: &mut Wire) -> anyhow::Result<u64> {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let answer = answer.trim_end();
    answer
        .parse()
        .with_context(|| format!("the floor failed; it answered {answer:?}"))
}
