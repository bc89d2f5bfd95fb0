//! Any key of a container of Azure Blob Storage.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::DateTime;
use futures::FutureExt;
use http::header::{AUTHORIZATION, ETAG};
use http::{Method, Response};
use object_store::azure::{AzureAuthorizer, AzureCredential, MicrosoftAzure};
use object_store::client::{ClientOptions, HttpRequest};
use object_store::{Attribute, Attributes, Error, Result};
use serde::Deserialize;
use url::Url;

use crate::telemetry::Metrics;

use crate::storage::store::azure::copy::CopyWatch;
use crate::storage::store::http::requests::{Ask, Sender, Sign, url_of, with_query};
use crate::storage::store::metered::measure;
use crate::storage::store::raw::{
    Query, Raw, RawObject, RawPage, SMALL_RANGE, bare, one_by_one, only_if, small,
};

/// The wait between two looks at a copy that is under way.
const COPY_WAIT: Duration = Duration::from_millis(500);

/// One container by its keys.
pub(crate) struct AzureKeys {
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

impl AzureKeys {
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

    /// Makes a blob of blocks, which are listed as XML, if it still has this tag. It is for the caller
    /// to count.
    pub(crate) async fn put_blocks(
        &self,
        key: &str,
        blocks: String,
        attributes: &Attributes,
        e_tag: Option<&str>,
    ) -> Result<()> {
        let mut ask = self.about(Method::PUT, key);
        ask.url = with_query(ask.url, &[("comp", "blocklist")]);
        ask.body = blocks.into();
        if let Some(e_tag) = e_tag {
            ask = only_if(ask, "if-match", e_tag)?;
        }
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

    fn about(&self, method: Method, key: &str) -> Ask {
        Ask::new(method, url_of(&self.container, key), key)
    }

    async fn send(&self, operation: &str, ask: Ask) -> Result<Response<Bytes>> {
        measure(&self.metrics, operation, self.sender.send(&ask, self)).await
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
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    let list: BlockList = quick_xml::de::from_reader(body)?;
    let blocks = list.committed_blocks.block;
    Ok(Committed {
        e_tag: None,
        size: blocks.iter().map(|block| block.size).sum(),
        names: blocks.into_iter().map(|block| block.name).collect(),
    })
}

/// Azure begins its answers with it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What Azure answers; of it, what we need.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    blobs: Blobs,
    next_marker: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Blobs {
    #[serde(default)]
    blob: Vec<Blob>,
    #[serde(default)]
    blob_prefix: Vec<Prefix>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Prefix {
    name: Name,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Blob {
    name: Name,
    properties: Properties,
}

/// A name with characters that XML can't hold comes percent-encoded, and says so.
#[derive(Debug, Deserialize)]
struct Name {
    #[serde(rename = "@Encoded")]
    encoded: Option<bool>,
    #[serde(rename = "$text", default)]
    text: String,
}

#[derive(Debug, Deserialize)]
struct Properties {
    #[serde(rename = "Content-Length", default)]
    length: u64,
    #[serde(rename = "Last-Modified")]
    modified: String,
    #[serde(rename = "Etag")]
    e_tag: Option<String>,
    /// On accounts with a hierarchical namespace: `file` or `directory`.
    #[serde(rename = "ResourceType")]
    resource: Option<String>,
}

impl Name {
    fn text(self) -> String {
        if self.encoded != Some(true) {
            return self.text;
        }
        percent_encoding::percent_decode_str(&self.text)
            .decode_utf8_lossy()
            .into_owned()
    }
}

impl Blob {
    fn object(self) -> Option<RawObject> {
        let mut key = self.name.text();
        if self.properties.resource.as_deref() == Some("directory") {
            // What is a marker elsewhere.
            key.push('/');
        }
        let modified = DateTime::parse_from_rfc2822(&self.properties.modified).ok()?;
        Some(RawObject {
            key,
            size: self.properties.length,
            modified: modified.into(),
            e_tag: self.properties.e_tag.map(|e_tag| bare(&e_tag).to_owned()),
            generation: None,
        })
    }
}

fn parse(body: &[u8]) -> Result<RawPage, quick_xml::DeError> {
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    let answer: Answer = quick_xml::de::from_reader(body)?;
    let prefixes = answer.blobs.blob_prefix.into_iter();
    Ok(RawPage {
        objects: answer
            .blobs
            .blob
            .into_iter()
            .filter_map(Blob::object)
            .collect(),
        prefixes: prefixes.map(|prefix| prefix.name.text()).collect(),
        next: answer.next_marker.filter(|marker| !marker.is_empty()),
    })
}

#[async_trait]
impl Sign for AzureKeys {
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

#[async_trait]
impl Raw for AzureKeys {
    async fn list(&self, query: Query<'_>) -> Result<RawPage> {
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
        parse(answer.body()).map_err(|error| self.sender.generic(error))
    }

    async fn put(&self, key: &str, body: Bytes, create: bool) -> Result<()> {
        let mut ask = self
            .about(Method::PUT, key)
            .with("x-ms-blob-type", "BlockBlob");
        ask.body = body;
        if create {
            ask = ask.with("if-none-match", "*");
        }
        match self.send("put", ask).await {
            Err(Error::Precondition { path, source }) => Err(Error::AlreadyExists { path, source }),
            result => result.map(drop),
        }
    }

    async fn get(&self, key: &str) -> Result<Bytes> {
        let ask = self.about(Method::GET, key).with("range", SMALL_RANGE);
        small(self.send("get", ask).await.map(Response::into_body))
    }

    async fn delete(&self, key: &str) -> Result<()> {
        match self.send("delete", self.about(Method::DELETE, key)).await {
            Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn delete_unchanged(&self, objects: &[RawObject]) -> Result<usize> {
        let deletes = objects.iter().map(|object| {
            let ask = self.about(Method::DELETE, &object.key);
            let ask = match &object.e_tag {
                Some(e_tag) => only_if(ask, "if-match", &format!("\"{e_tag}\"")),
                None => Ok(ask),
            };
            async move { self.send("delete", ask?).await.map(drop) }.boxed()
        });
        one_by_one(deletes.collect::<Vec<_>>().into_iter()).await
    }

    fn deletes_only(&self, object: &RawObject) -> bool {
        object.e_tag.is_some()
    }

    /// Azure copies in the background, and says yes before it is done.
    async fn settle_copy(&self, key: &str) -> Result<()> {
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
}

impl fmt::Debug for AzureKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AzureKeys({})", self.azure)
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

    #[test]
    fn listings_of_azure_are_read() {
        let body = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults><Blobs>\
            <Blob><Name>in/a b</Name><Properties><Last-Modified>Fri, 02 Jan 2026 03:04:05 GMT</Last-Modified>\
            <Etag>0x8D1</Etag><Content-Length>3</Content-Length></Properties></Blob>\
            <Blob><Name Encoded=\"true\">in/a%0Ab</Name><Properties><Last-Modified>Fri, 02 Jan 2026 03:04:05 GMT\
            </Last-Modified><Content-Length>3</Content-Length></Properties></Blob>\
            <Blob><Name>in/real</Name><Properties><Last-Modified>Fri, 02 Jan 2026 03:04:05 GMT</Last-Modified>\
            <Content-Length>0</Content-Length><ResourceType>directory</ResourceType></Properties></Blob>\
            <BlobPrefix><Name>in/sub/</Name></BlobPrefix></Blobs><NextMarker>m</NextMarker></EnumerationResults>";
        let page = parse(body.as_bytes()).unwrap();
        let keys: Vec<_> = page.objects.iter().map(|object| &object.key).collect();
        assert_eq!(keys, ["in/a b", "in/a\nb", "in/real/"]);
        assert_eq!(page.objects[0].e_tag.as_deref(), Some("0x8D1"));
        assert_eq!(
            (page.prefixes, page.next.as_deref()),
            (vec!["in/sub/".to_owned()], Some("m"))
        );
        let end = "<EnumerationResults><Blobs/><NextMarker/></EnumerationResults>";
        assert!(parse(end.as_bytes()).unwrap().next.is_none());
    }
}
