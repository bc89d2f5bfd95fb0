//! Requests of our own to Azure's Blob service, for what `object_store` can't say.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{AUTHORIZATION, ETAG};
use http::{Method, Response};
use object_store::azure::{AzureAuthorizer, AzureCredential, MicrosoftAzure};
use object_store::client::{ClientOptions, HttpRequest};
use object_store::{Attribute, Attributes, Error, Result};
use serde::Deserialize;
use url::Url;

use crate::storage::store::azure::copy::CopyWatch;
use crate::storage::store::azure::listing;
use crate::storage::store::azure::xml::without_mark;
use crate::storage::store::http::requests::{Ask, Sender, Sign, url_of, with_query};
use crate::storage::store::keys::{Page, Query, only_if};
use crate::storage::store::metered::measure;
use crate::storage::store::precondition::Precondition;
use crate::telemetry::Metrics;

/// The wait between two looks at a copy that is under way.
const COPY_WAIT: Duration = Duration::from_millis(500);

/// Sends requests to one container.
pub(crate) struct BlobApi {
    azure: Arc<MicrosoftAzure>,
    container: Url,
    account: String,
    unsigned: bool,
    sender: Sender,
    metrics: Arc<Metrics>,
}

/// Where a container is and how its requests are signed.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) url: Url,
    pub(crate) account: String,
    pub(crate) unsigned: bool,
}

impl BlobApi {
    pub(crate) fn new(
        azure: Arc<MicrosoftAzure>,
        container: Container,
        options: &ClientOptions,
        retry_timeout: Duration,
        metrics: Arc<Metrics>,
    ) -> Result<Self> {
        Ok(Self {
            azure,
            container: container.url,
            account: container.account,
            unsigned: container.unsigned,
            sender: Sender::new(options, retry_timeout, "MicrosoftAzure")?,
            metrics,
        })
    }

    /// The store, for what it can say itself.
    pub(crate) fn store(&self) -> &MicrosoftAzure {
        &self.azure
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
                        store: "MicrosoftAzure",
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
        let e_tag = answer.headers().get(ETAG);
        let e_tag = e_tag.and_then(|e_tag| e_tag.to_str().ok());
        let blocks = parse_blocks(answer.body()).map_err(|error| self.sender.generic(error))?;
        Ok(Committed {
            e_tag: e_tag.map(str::to_owned),
            ..blocks
        })
    }

    /// Makes a blob of blocks, which are listed as XML. It is for the caller to count.
    pub(crate) async fn put_blocks(
        &self,
        key: &str,
        blocks: String,
        attributes: &Attributes,
        precondition: &Precondition,
    ) -> Result<()> {
        let mut ask = self.about(Method::PUT, key);
        ask.url = with_query(ask.url, &[("comp", "blocklist")]);
        ask.body = blocks.into();
        ask = conditional(ask, precondition)?;
        for (attribute, value) in attributes {
            ask = match attribute {
                Attribute::ContentType => ask.with("x-ms-blob-content-type", value),
                Attribute::Metadata(name) => ask.with_named(&format!("x-ms-meta-{name}"), value),
                _ => ask,
            };
        }
        self.sender.send(&ask, self).await?;
        Ok(())
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

/// A request with a precondition on the tag.
pub(crate) fn conditional(ask: Ask, precondition: &Precondition) -> Result<Ask> {
    match precondition {
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
        size: blocks.iter().map(|block| block.size).sum(),
        names: blocks.into_iter().map(|block| block.name).collect(),
    })
}

#[async_trait]
impl Sign for BlobApi {
    async fn sign(&self, request: &mut HttpRequest) -> Result<()> {
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
        for none in ["<BlockList/>", "<BlockList><CommittedBlocks/></BlockList>"] {
            assert_eq!(parse_blocks(none.as_bytes()).unwrap(), Committed::default());
        }
    }
}
