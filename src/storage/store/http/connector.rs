//! The HTTP client of every bucket, made from `object_store`'s options.
//!
//! It is the client that `object_store` would make by itself, except that it gives a request up when
//! nothing moves ([`patience`](super::patience)), neither up nor down. `object_store`'s own would give up
//! a part that takes longer than its read timeout to send, however well it goes.

use std::error::Error as StdError;
use std::io;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};
use object_store::{ClientConfigKey, ClientOptions, Error, Result};
use rand::seq::SliceRandom;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::tls::Certificate;
use reqwest::{Client, ClientBuilder, NoProxy, Proxy};

use crate::storage::store::description::Carries;
use crate::storage::store::http::patience::{Patience, Patient};
use crate::storage::store::options::is_true;

/// How we call ourselves.
const USER_AGENT: &str = concat!("bucketferry/", env!("CARGO_PKG_VERSION"));

/// Makes clients that give up when nothing moves for their options' read timeout.
#[derive(Debug, Default)]
pub(crate) struct PatientConnector;

impl HttpConnector for PatientConnector {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient> {
        let options = Options(options);
        Ok(HttpClient::new(PatientClient {
            patience: options.duration(ClientConfigKey::ReadTimeout)?,
            client: options
                .build()
                .map_err(unusable)?
                .build()
                .map_err(unusable)?,
        }))
    }
}

/// A client that gives up when nothing moves.
#[derive(Debug)]
struct PatientClient {
    client: Client,
    patience: Option<Duration>,
}

#[async_trait]
impl HttpService for PatientClient {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let patience = self.patience.map(Patience::new);
        let (parts, body) = request.into_parts();
        let request = http::Request::from_parts(parts, sent(body, patience.as_ref()));
        let answer = async {
            let request = reqwest::Request::try_from(request).map_err(http_error)?;
            self.client.execute(request).await.map_err(http_error)
        };
        let answer = match &patience {
            Some(patience) => patience.with(answer).await??,
            None => answer.await?,
        };
        let (mut parts, body) = http::Response::<reqwest::Body>::from(answer).into_parts();
        if let Some(carries) = Carries::of(&parts.headers) {
            // `object_store` reads these headers of no answer, but passes this on.
            parts.extensions.insert(carries);
        }
        let body = Patient::new(body, self.patience, http_error);
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
    }
}

/// A request's body as the client takes it.
fn sent(body: HttpRequestBody, patience: Option<&Patience>) -> reqwest::Body {
    match (body.as_bytes(), patience) {
        // Small, and can be sent again by the client itself.
        (Some(bytes), _) => bytes.clone().into(),
        (None, Some(patience)) => reqwest::Body::wrap(patience.watch(body)),
        (None, None) => reqwest::Body::wrap(body),
    }
}

/// `object_store`'s options, and what they mean to the client.
struct Options<'a>(&'a ClientOptions);

impl Options<'_> {
    fn build(&self) -> Result<ClientBuilder> {
        use ClientConfigKey as Key;

        let mut client = ClientBuilder::new()
            .https_only(!self.is_on(Key::AllowHttp))
            .danger_accept_invalid_certs(self.is_on(Key::AllowInvalidCertificates))
            .http2_keep_alive_while_idle(self.is_on(Key::Http2KeepAliveWhileIdle))
            .http2_max_frame_size(self.parsed(Key::Http2MaxFrameSize)?)
            .http2_keep_alive_interval(self.duration(Key::Http2KeepAliveInterval)?)
            .user_agent(
                self.text(Key::UserAgent)
                    .unwrap_or_else(|| USER_AGENT.to_owned()),
            );
        if self.is_on(Key::NoSystemCertificates) {
            client = client.tls_certs_only([]);
        }
        if self.is_on(Key::Http1Only) {
            client = client.http1_only();
        }
        if self.is_on(Key::Http2Only) {
            client = client.http2_prior_knowledge();
        }
        if self.is_on(Key::RandomizeAddresses) {
            client = client.dns_resolver(Shuffled);
        }
        if let Some(timeout) = self.duration(Key::Timeout)? {
            client = client.timeout(timeout);
        }
        if let Some(timeout) = self.duration(Key::ConnectTimeout)? {
            client = client.connect_timeout(timeout);
        }
        if let Some(timeout) = self.duration(Key::PoolIdleTimeout)? {
            client = client.pool_idle_timeout(timeout);
        }
        if let Some(timeout) = self.duration(Key::Http2KeepAliveTimeout)? {
            client = client.http2_keep_alive_timeout(timeout);
        }
        if let Some(connections) = self.parsed(Key::PoolMaxIdlePerHost)? {
            client = client.pool_max_idle_per_host(connections);
        }
        self.proxied(client)
    }

    fn proxied(&self, mut client: ClientBuilder) -> Result<ClientBuilder> {
        let Some(url) = self.text(ClientConfigKey::ProxyUrl) else {
            return Ok(client);
        };
        let mut proxy = Proxy::all(url).map_err(unusable)?;
        if let Some(certificate) = self.text(ClientConfigKey::ProxyCaCertificate) {
            let certificate = Certificate::from_pem(certificate.as_bytes()).map_err(unusable)?;
            client = client.tls_certs_merge([certificate]);
        }
        if let Some(excluded) = self.text(ClientConfigKey::ProxyExcludes) {
            proxy = proxy.no_proxy(NoProxy::from_string(&excluded));
        }
        Ok(client.proxy(proxy))
    }

    fn text(&self, key: ClientConfigKey) -> Option<String> {
        self.0.get_config_value(&key)
    }

    /// In the words that `object_store` takes for it.
    fn is_on(&self, key: ClientConfigKey) -> bool {
        self.text(key).is_some_and(|value| is_true(&value))
    }

    fn duration(&self, key: ClientConfigKey) -> Result<Option<Duration>> {
        let parsed = self
            .text(key)
            .map(|value| humantime::parse_duration(&value));
        parsed.transpose().map_err(unusable)
    }

    fn parsed<T: FromStr<Err: StdError + Send + Sync + 'static>>(
        &self,
        key: ClientConfigKey,
    ) -> Result<Option<T>> {
        self.text(key)
            .map(|value| value.parse())
            .transpose()
            .map_err(unusable)
    }
}

/// Finds a host's addresses in any order, so that not everybody takes the first.
#[derive(Debug)]
struct Shuffled;

impl Resolve for Shuffled {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            // The client puts in the port.
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let mut addresses: Vec<_> = found.collect();
            addresses.shuffle(&mut rand::rng());
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

fn unusable(source: impl StdError + Send + Sync + 'static) -> Error {
    Error::Generic {
        store: "HTTP client",
        source: Box::new(source),
    }
}

/// A failure of the client, as `object_store` tells them apart to know whether to try again.
fn http_error(error: reqwest::Error) -> HttpError {
    let kind = if error.is_timeout() {
        HttpErrorKind::Timeout
    } else if error.is_connect() {
        HttpErrorKind::Connect
    } else if error.is_decode() {
        HttpErrorKind::Decode
    } else {
        causes(&error)
            .find_map(kind_of)
            .unwrap_or(HttpErrorKind::Unknown)
    };
    // The URL is in what is said around it, where it may be said.
    HttpError::new(kind, error.without_url())
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    let mut next = error.source();
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

fn kind_of(cause: &(dyn StdError + 'static)) -> Option<HttpErrorKind> {
    if let Some(error) = cause.downcast_ref::<hyper::Error>() {
        if error.is_closed() || error.is_incomplete_message() || error.is_body_write_aborted() {
            return Some(HttpErrorKind::Request);
        }
        return error.is_timeout().then_some(HttpErrorKind::Timeout);
    }
    match cause.downcast_ref::<io::Error>()?.kind() {
        io::ErrorKind::TimedOut => Some(HttpErrorKind::Timeout),
        io::ErrorKind::ConnectionAborted
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => Some(HttpErrorKind::Interrupted),
        _ => None,
    }
}
