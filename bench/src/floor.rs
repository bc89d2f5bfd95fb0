//! The floor: what the same work costs without FTP.
//!
//! A connection asks for one thing, in a line: `PUT KEY` (and then the bytes, up to the end of the
//! stream), `GET KEY`, or `PAGES PREFIX`. The bytes go straight between that socket and
//! `object_store`, in parts and chunks as large as the gateway's.
//!
//! Must not: do anything for safety or comfort; it is what the gateway is measured against.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{ClientOptions, MultipartUpload, ObjectStoreExt, PutPayload};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::{net, wire};

/// As `upload.part_size`.
const PART: usize = 8 * 1024 * 1024;

/// As `upload.concurrency`.
const CONCURRENCY: usize = 4;

/// As the gateway's chunks: small for the first, so that a small file takes little.
const FIRST_CHUNK: usize = 16 * 1024;
const CHUNK: usize = 256 * 1024;

/// Serves until the process ends.
pub(crate) async fn serve(
    address: SocketAddr,
    s3: &str,
    tls: Option<&std::path::Path>,
) -> anyhow::Result<()> {
    let acceptor = tls.map(wire::acceptor).transpose()?;
    let store = Arc::new(open(s3)?);
    let listener = net::listen(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (store, acceptor) = (Arc::clone(&store), acceptor.clone());
        tokio::spawn(async move {
            let answered = match acceptor {
                None => answer(&store, stream).await,
                Some(acceptor) => answer_encrypted(&store, &acceptor, stream).await,
            };
            if let Err(error) = answered {
                eprintln!("floor: {error:#}");
            }
        });
    }
}

/// With the client's options as the gateway has them.
fn open(s3: &str) -> anyhow::Result<AmazonS3> {
    let timeout = std::time::Duration::from_secs(30);
    let client = ClientOptions::new()
        .with_allow_http(true)
        .with_timeout_disabled()
        .with_read_timeout(timeout)
        .with_connect_timeout(timeout);
    AmazonS3Builder::from_env()
        .with_endpoint(s3)
        .with_bucket_name("bench")
        .with_client_options(client)
        .build()
        .context("can't open the store")
}

async fn answer_encrypted(
    store: &Arc<AmazonS3>,
    acceptor: &TlsAcceptor,
    stream: TcpStream,
) -> anyhow::Result<()> {
    answer(store, wire::accept(acceptor, stream).await?).await
}

async fn answer<S>(store: &Arc<AmazonS3>, mut stream: S) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut received = BytesMut::with_capacity(FIRST_CHUNK);
    let end = loop {
        if let Some(end) = received.iter().position(|byte| *byte == b'\n') {
            break end;
        }
        if stream.read_buf(&mut received).await? == 0 {
            bail!("a connection that asks for nothing");
        }
    };
    let line = received.split_to(end + 1);
    let line = std::str::from_utf8(&line)?.trim_end();
    let (verb, name) = line.split_once(' ').context("a word is missing")?;
    match verb {
        "PUT" => {
            let bytes = upload(store, &Path::parse(name)?, received, &mut stream).await?;
            stream.write_all(format!("{bytes}\n").as_bytes()).await?;
        }
        "GET" => download(store, &Path::parse(name)?, &mut stream).await?,
        "PAGES" => {
            let entries = read_pages(store, name).await?;
            stream.write_all(format!("{entries}\n").as_bytes()).await?;
        }
        _ => bail!("unknown: {line}"),
    }
    Ok(stream.shutdown().await?)
}

/// Parts on their way while the next is read; a file smaller than one is one request.
async fn upload(
    store: &Arc<AmazonS3>,
    key: &Path,
    first: BytesMut,
    stream: &mut (impl AsyncRead + Unpin),
) -> anyhow::Result<u64> {
    let mut total = 0;
    let mut first = Some(first);
    let mut multipart: Option<Box<dyn MultipartUpload>> = None;
    let mut in_flight = JoinSet::new();
    loop {
        let part = read_part(stream, first.take()).await?;
        let length = part.iter().map(Bytes::len).sum::<usize>();
        let last = length < PART;
        let payload: PutPayload = part.into_iter().collect();
        total += length as u64;
        if last && multipart.is_none() {
            store.put(key, payload).await?;
            return Ok(total);
        }
        if in_flight.len() >= CONCURRENCY {
            in_flight.join_next().await.context("no part")???;
        }
        let upload = match &mut multipart {
            Some(upload) => upload,
            None => multipart.insert(store.put_multipart(key).await?),
        };
        if length > 0 {
            let part = upload.put_part(payload);
            in_flight.spawn(part);
        }
        if last {
            while let Some(part) = in_flight.join_next().await {
                part??;
            }
            upload.complete().await?;
            return Ok(total);
        }
    }
}

/// The next part; one that is not full is the last.
async fn read_part(
    stream: &mut (impl AsyncRead + Unpin),
    first: Option<BytesMut>,
) -> anyhow::Result<Vec<Bytes>> {
    let mut chunks = Vec::with_capacity(PART / CHUNK);
    let mut length = 0;
    if let Some(first) = first {
        length = first.len();
        chunks.push(first.freeze());
    }
    while length < PART {
        let size = length.clamp(FIRST_CHUNK, CHUNK).min(PART - length);
        let mut chunk = BytesMut::with_capacity(size);
        while chunk.len() < chunk.capacity() && stream.read_buf(&mut chunk).await? > 0 {}
        let ended = chunk.len() < chunk.capacity();
        length += chunk.len();
        chunks.push(chunk.freeze());
        if ended {
            break;
        }
    }
    Ok(chunks)
}

async fn download(
    store: &AmazonS3,
    key: &Path,
    stream: &mut (impl AsyncWrite + Unpin),
) -> anyhow::Result<()> {
    let mut bytes = store.get(key).await?.into_stream();
    while let Some(chunk) = bytes.next().await {
        stream.write_all(&chunk?).await?;
    }
    Ok(())
}

/// Reads a directory page by page and throws the pages away. Returns how many entries there were.
async fn read_pages(store: &AmazonS3, prefix: &str) -> anyhow::Result<u64> {
    let mut entries = 0;
    let mut token = None;
    loop {
        let options = PaginatedListOptions {
            delimiter: Some("/".into()),
            page_token: token,
            ..PaginatedListOptions::default()
        };
        let page = store.list_paginated(Some(prefix), options).await?;
        let listed = page.result;
        entries += (listed.objects.len() + listed.common_prefixes.len()) as u64;
        token = page.page_token;
        if token.is_none() {
            return Ok(entries);
        }
    }
}
