//! Requests of our own to Azure's Blob service, for what `object_store` can't say.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::header::{AUTHORIZATION, ETAG, HeaderMap};
use http::{Method, Response};
use object_store::azure::{AzureAuthorizer, AzureCredential, MicrosoftAzure};
use object_store::client::HttpRequest;
use object_store::path::Path;
use object_store::{Error, Result, UpdateVersion};
use serde::Deserialize;
use url::Url;

use crate::storage::store::azure::copy::CopyWatch;
use crate::storage::store::azure::listing;
use crate::storage::store::azure::xml::without_mark;
use crate::storage::store::body::{Body, Crc64};
use crate::storage::store::description::{Description, Headers, Tags};
use crate::storage::store::http::requests::{Ask, Sender, Sign, url_of, with_query};
use crate::storage::store::keys::{Marker, Page, Query, only_if};
use crate::storage::store::metered::measure;
use crate::storage::store::precondition::{Precondition, told_apart};
use crate::storage::store::stored::{Compared, Comparison, Stored};
use crate::storage::store::terms::Terms;
use crate::storage::store::upload::Base;
use crate::telemetry::StoreMetrics;

/// What errors call the store, as `object_store` does.
pub(crate) const STORE: &str = "MicrosoftAzure";

/// The checksum of a body.
const CRC64: &str = "x-ms-content-crc64";

/// The wait between two looks at a copy that is under way.
const COPY_WAIT: Duration = Duration::from_millis(500);

/// Sends requests to one container.
pub(crate) struct BlobApi {
    azure: Arc<MicrosoftAzure>,
    container: Url,
    account: String,
    unsigned: bool,
    customer_key: HeaderMap,
    /// Whether it compares checksums, as far as is known: its emulator does not.
    compares: AtomicBool,
    sender: Sender,
    metrics: Arc<StoreMetrics>,
    has_told_of_tags: AtomicBool,
}

/// Where a container is and how its requests are signed.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) url: Url,
    pub(crate) account: String,
    pub(crate) unsigned: bool,
    /// The headers that name a key of the customer's own.
    pub(crate) customer_key: HeaderMap,
}

impl BlobApi {
    pub(crate) fn new(
        azure: Arc<MicrosoftAzure>,
        container: Container,
        sender: Sender,
        metrics: Arc<StoreMetrics>,
    ) -> Self {
        Self {
            azure,
            container: container.url,
            account: container.account,
            unsigned: container.unsigned,
            customer_key: container.customer_key,
            compares: AtomicBool::new(true),
            sender,
            has_told_of_tags: AtomicBool::default(),
            metrics,
        }
    }

    /// One page of a listing.
    pub(crate) async fn list(&self, query: Query<'_>) -> Result<Page> {
        let limit = query.limit.to_string();
        let token = query.token.map(|token| ("marker", token));
        let delimiter = query.grouped.then_some(("delimiter", "/"));
        let all = [
            ("restype", "container"),
            ("comp", "list"),
            ("prefix", query.prefix),
            ("maxresults", &limit),
        ];
        let pairs: Vec<_> = all.into_iter().chain(delimiter).chain(token).collect();
        let url = with_query(self.container.clone(), &pairs);
        let answer = self.send("list", Ask::new(Method::GET, url, "")).await?;
        listing::parse(answer.body()).map_err(|error| self.sender.generic(error))
    }

    /// Waits until a copy is there: Azure copies in the background, and says yes before it is done.
    pub(crate) async fn wait_for_copy(&self, key: &str) -> Result<()> {
        let mut watch = CopyWatch::new(Instant::now());
        loop {
            let answer = self.send("head", self.about(Method::HEAD, key)).await?;
            match watch.is_over(answer.headers(), Instant::now()) {
                Ok(true) => return Ok(()),
                Ok(false) => tokio::time::sleep(COPY_WAIT).await,
                Err(why) => {
                    return Err(Error::Generic {
                        store: STORE,
                        source: format!("the copy to {key} {why}").into(),
                    });
                }
            }
        }
    }

    /// The blocks that a blob is made of: none, if it was put at once.
    pub(crate) async fn blocks(&self, key: &str) -> Result<Committed> {
        let mut ask = self.about(Method::GET, key);
        let query = [("comp", "blocklist"), ("blocklisttype", "committed")];
        ask.url = with_query(ask.url, &query);
        let answer = self.send("list_blocks", ask).await?;
        let e_tag = e_tag(answer.headers());
        let blocks = parse_blocks(answer.body()).map_err(|error| self.sender.generic(error))?;
        Ok(Committed { e_tag, ..blocks })
    }

    /// Writes a whole blob at any key.
    pub(crate) async fn put_blob(
        &self,
        key: &str,
        body: Body,
        description: &Description,
        terms: &Terms,
    ) -> Result<Stored> {
        let ask = self.about(Method::PUT, key).with_body(body.payload);
        let ask = ask.with("x-ms-blob-type", "BlockBlob");
        let write = async {
            if self.compares.load(Ordering::Relaxed) {
                let sent = crc64(body.crc64);
                let checked = ask.clone().with(CRC64, &sent);
                match self.write(checked, description, terms).await {
                    Err(Error::NotSupported { .. }) => {
                        self.compares.store(false, Ordering::Relaxed);
                    }
                    written => {
                        let answer = written?;
                        return Ok(Stored {
                            compared: compared(&sent, answer.headers()),
                            version: version(answer.headers()),
                        });
                    }
                }
            }
            let answer = self.write(ask, description, terms).await?;
            Ok(Stored::uncompared(version(answer.headers())))
        };
        measure(&self.metrics, "put", write).await
    }

    /// Sends a block, of which Azure knows nothing but its name until it is listed.
    pub(crate) async fn put_block(&self, key: &str, name: &str, body: Body) -> Result<()> {
        let mut ask = self.about(Method::PUT, key).with_body(body.payload);
        ask.url = with_query(ask.url, &[("comp", "block"), ("blockid", name)]);
        ask.headers.extend(self.customer_key.clone());
        if self.compares.load(Ordering::Relaxed) {
            let sent = crc64(body.crc64);
            let checked = ask.clone().with(CRC64, &sent);
            match self.sender.send(&checked, self).await {
                Err(Error::NotSupported { .. }) => {
                    self.compares.store(false, Ordering::Relaxed);
                }
                answer => return compared(&sent, answer?.headers()).check(STORE),
            }
        }
        self.sender.send(&ask, self).await.map(drop)
    }

    /// Makes a blob of blocks, which are listed as XML. It is for the caller to count.
    pub(crate) async fn put_blocks(
        &self,
        key: &str,
        blocks: String,
        description: &Description,
        terms: &Terms,
    ) -> Result<Stored> {
        let mut ask = self.about(Method::PUT, key).with_body(blocks);
        ask.url = with_query(ask.url, &[("comp", "blocklist")]);
        let answer = self.write(ask, description, terms).await?;
        let version = version(answer.headers());
        // Of each block it was known when it came.
        Ok(match self.comparison() {
            Comparison::Checksum(_) => Stored::same(version),
            _ => Stored::uncompared(version),
        })
    }

    /// By what Azure can be held to what it was sent.
    pub(crate) fn comparison(&self) -> Comparison {
        if self.compares.load(Ordering::Relaxed) {
            Comparison::Checksum("crc64nvme")
        } else {
            Comparison::Size
        }
    }

    /// Begins to copy a blob. It may be there long after the answer.
    pub(crate) async fn copy(&self, from: &Base, to: &Path, terms: &Terms) -> Result<()> {
        let mut source = url_of(&self.container, from.key.as_ref());
        let credential = self.azure.credentials().get_credential().await;
        if let Ok(AzureCredential::SASToken(token)) = credential.as_deref() {
            // The source is read by its address alone.
            source.query_pairs_mut().extend_pairs(token);
        }
        let ask = self.about(Method::PUT, to.as_ref());
        let mut ask = ask.with("x-ms-copy-source", source.as_str());
        if let Some(e_tag) = &from.version.e_tag {
            ask = only_if(ask, "x-ms-source-if-match", e_tag)?;
        }
        if let Some(class) = &from.carries.class {
            ask = ask.with(Headers::AZURE.class, class);
        }
        if from.carries.is_tagged {
            // A copy has the tags that the request says, and no others.
            let tags = self.tags(from.key.as_ref()).await?;
            let tags = Headers::AZURE.tags.zip(tags.header());
            ask = tags
                .into_iter()
                .fold(ask, |ask, (name, tags)| ask.with(name, &tags));
        }
        let ask = conditional(ask, terms)?;
        let answer = self.send("copy", ask).await;
        let answer = answer.map_err(|error| told_apart(STORE, error, &terms.precondition))?;
        if answer.headers().contains_key("x-ms-copy-status") {
            return Ok(());
        }
        // An empty answer: it may have copied, and it may not.
        terms.attempts.unanswered();
        Err(Error::Generic {
            store: STORE,
            source: format!("no word of the copy to {to}").into(),
        })
    }

    /// The tags of a blob.
    pub(crate) async fn tags(&self, key: &str) -> Result<Tags> {
        let mut ask = self.about(Method::GET, key);
        ask.url = with_query(ask.url, &[("comp", "tags")]);
        let read = self.send("tags", ask).await.and_then(|answer| {
            let tags = Tags::read(without_mark(answer.body()));
            tags.map_err(|error| self.sender.generic(error))
        });
        Tags::if_allowed(read, &self.has_told_of_tags)
    }

    async fn write(
        &self,
        ask: Ask,
        description: &Description,
        terms: &Terms,
    ) -> Result<Response<Bytes>> {
        let mut ask = ask.describing(description, &Headers::AZURE);
        ask.headers.extend(self.customer_key.clone());
        let ask = conditional(ask, terms)?;
        let answer = self.sender.send(&ask, self).await;
        answer.map_err(|error| told_apart(STORE, error, &terms.precondition))
    }

    /// Whether blobs are encrypted by a key of the customer's own.
    pub(crate) fn has_customer_key(&self) -> bool {
        !self.customer_key.is_empty()
    }

    /// Looks at a directory's marker.
    pub(crate) async fn read_marker(&self, key: &str) -> Result<Marker> {
        let mut ask = self.about(Method::HEAD, key);
        ask.headers.extend(self.customer_key.clone());
        let answer = self.send("head", ask).await?;
        Ok(Marker::read(
            answer.headers(),
            Headers::AZURE.metadata,
            version,
        ))
    }

    /// A request about any key.
    pub(crate) fn about(&self, method: Method, key: &str) -> Ask {
        Ask::new(method, url_of(&self.container, key), key)
    }

    /// The answer, counted and timed.
    pub(crate) async fn send(&self, operation: &str, ask: Ask) -> Result<Response<Bytes>> {
        measure(&self.metrics, operation, self.sender.send(&ask, self)).await
    }
}

/// As Azure writes it: the least byte first.
fn crc64(sum: Crc64) -> String {
    BASE64.encode(sum.value().to_le_bytes())
}

/// Whether a body is what was sent, by the answer to it.
fn compared(sent: &str, headers: &HeaderMap) -> Compared {
    let told = headers.get(CRC64).and_then(|told| told.to_str().ok());
    Compared::of("crc64nvme", sent, told)
}

fn version(headers: &HeaderMap) -> UpdateVersion {
    UpdateVersion {
        e_tag: e_tag(headers),
        version: None,
    }
}

fn e_tag(headers: &HeaderMap) -> Option<String> {
    Some(headers.get(ETAG)?.to_str().ok()?.to_owned())
}

/// A request on these terms: a precondition on the tag.
pub(crate) fn conditional(ask: Ask, terms: &Terms) -> Result<Ask> {
    let ask = ask.telling(&terms.attempts);
    match &terms.precondition {
        Precondition::None => Ok(ask),
        Precondition::Absent => Ok(ask.with("if-none-match", "*")),
        Precondition::Unchanged(version) => match &version.e_tag {
            Some(e_tag) => only_if(ask, "if-match", e_tag),
            None => Ok(ask),
        },
    }
}

/// The blocks of a blob.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) e_tag: Option<String>,
    /// In their order, as Azure writes them.
    pub(crate) names: Vec<String>,
    /// Bytes in all of them.
    pub(crate) size: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BlockList {
    #[serde(default)]
    committed_blocks: Blocks,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Blocks {
    #[serde(default)]
    block: Vec<Block>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Block {
    name: String,
    size: u64,
}

fn parse_blocks(body: &[u8]) -> Result<Committed, quick_xml::DeError> {
    let list: BlockList = quick_xml::de::from_reader(without_mark(body))?;
    let blocks = list.committed_blocks.block;
    Ok(Committed {
        e_tag: None,
        // No blob is so large, and none is taken for it.
        size: blocks
            .iter()
            .fold(0, |size, block| block.size.saturating_add(size)),
        names: blocks.into_iter().map(|block| block.name).collect(),
    })
}

#[async_trait]
impl Sign for BlobApi {
    async fn sign(&self, request: &mut HttpRequest, _: Option<&[u8]>) -> Result<()> {
        if self.unsigned {
            // What else the authorizer adds, a date and the version, is needed all the same.
            let nobody = AzureCredential::BearerToken(String::new());
            AzureAuthorizer::new(&nobody, &self.account).try_authorize(request)?;
            request.headers_mut().remove(AUTHORIZATION);
            return Ok(());
        }
        let credential = self.azure.credentials().get_credential().await?;
        AzureAuthorizer::new(&credential, &self.account).try_authorize(request)
    }
}

impl fmt::Debug for BlobApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobApi({})", self.azure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_in_their_order() {
        let body = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList><CommittedBlocks>\
            <Block><Name>YQ==</Name><Size>5</Size></Block><Block><Name>Yg==</Name><Size>2</Size></Block>\
            </CommittedBlocks></BlockList>";
        let blocks = parse_blocks(body.as_bytes()).unwrap();
        assert_eq!(
            (blocks.names.concat().as_str(), blocks.size),
            ("YQ==Yg==", 7)
        );
        let huge = format!("<Block><Name>YQ==</Name><Size>{}</Size></Block>", u64::MAX).repeat(2);
        let body = format!("<BlockList><CommittedBlocks>{huge}</CommittedBlocks></BlockList>");
        assert_eq!(parse_blocks(body.as_bytes()).unwrap().size, u64::MAX);
        for none in ["<BlockList/>", "<BlockList><CommittedBlocks/></BlockList>"] {
            assert_eq!(parse_blocks(none.as_bytes()).unwrap(), Committed::default());
        }
    }
}
