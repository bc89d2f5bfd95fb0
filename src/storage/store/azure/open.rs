//! Opens a container on Azure Blob Storage.

use std::sync::Arc;

use object_store::azure::{AzureConfigKey, AzureCredential, MicrosoftAzureBuilder};

use crate::config;
use crate::storage::store::azure::Azure;
use crate::storage::store::azure::blob_api::{BlobApi, Container, STORE};
use crate::storage::store::azure::customer_key;
use crate::storage::store::credentials::{Credentials, Origin, Renew};
use crate::storage::store::http::connector::PatientConnector;
use crate::storage::store::http::requests::{Sender, url_of};
use crate::storage::store::metered::Metered;
use crate::storage::store::options::{
    OpenError, bucket, client_options, is_true, own_url, patience, retries, settings,
};
use crate::telemetry::StoreMetrics;

/// Opens a container.
pub(crate) fn open(
    config: &config::Store,
    metrics: &Arc<StoreMetrics>,
) -> Result<Azure, OpenError> {
    let url = config.url.as_url();
    let mut client = client_options(config);
    let mut builder = MicrosoftAzureBuilder::from_env()
        .with_container_name(bucket(url)?)
        .with_client_options(client.clone())
        .with_http_connector(PatientConnector)
        .with_retry(retries(config));
    for (key, value) in settings::<AzureConfigKey>(config, "AZURE_", "az", &[])? {
        if let AzureConfigKey::Client(key) = key {
            client = client.with_config(key, value.clone());
        }
        builder = builder.with_config(key, value);
    }
    let container = container(&builder, bucket(url)?)?;
    if container.emulated {
        client = client.with_allow_http(true);
    }
    let credentials = credentials(config, builder.clone())?;
    let renewal: Arc<dyn Renew> = credentials.clone();
    let store = builder.with_credentials(credentials).build();
    let store = Arc::new(store.map_err(OpenError::Options)?);
    let sender = Sender::new(&client, config.retry_timeout, STORE, Arc::clone(&renewal));
    let api = BlobApi::new(
        Arc::clone(&store),
        container.at,
        sender.map_err(OpenError::Options)?,
        Arc::clone(metrics),
    );
    let api = Arc::new(api);
    let objects = Metered::new(store, Arc::clone(metrics)).renewed_by(Arc::clone(&renewal));
    Ok(Azure::new(Arc::new(objects), api))
}

/// As `object_store` finds them, which reads a federated token anew each time.
fn credentials(
    config: &config::Store,
    builder: MicrosoftAzureBuilder,
) -> Result<Arc<Credentials<AzureCredential>>, OpenError> {
    let fixed = [AzureConfigKey::AccessKey, AzureConfigKey::Token];
    let is_fixed = fixed
        .iter()
        .any(|key| builder.get_config_value(key).is_some());
    let origin = if is_fixed {
        Origin::Fixed
    } else {
        Origin::Changing(Vec::new())
    };
    let make = move || Ok(Arc::clone(builder.clone().build()?.credentials()));
    let credentials = Credentials::new(make, origin, patience(config));
    Ok(Arc::new(credentials.map_err(OpenError::Options)?))
}

/// A container, and whether it is an emulator's.
struct AzureContainer {
    at: Container,
    emulated: bool,
}

/// Where the library will find the container: it does not tell.
fn container(builder: &MicrosoftAzureBuilder, name: &str) -> Result<AzureContainer, OpenError> {
    let value = |key| builder.get_config_value(&key);
    let flag = |key| value(key).is_some_and(|value| is_true(&value));
    let emulated = flag(AzureConfigKey::UseEmulator);
    let account = value(AzureConfigKey::AccountName);
    let account = account.unwrap_or_else(|| "devstoreaccount1".to_owned());
    let url = if emulated {
        let url = std::env::var("AZURITE_BLOB_STORAGE_URL");
        let url = own_url(url.as_deref().unwrap_or("http://127.0.0.1:10000"))?;
        url_of(&url, &account)
    } else {
        let domain = if flag(AzureConfigKey::UseFabricEndpoint) {
            "blob.fabric.microsoft.com"
        } else {
            "blob.core.windows.net"
        };
        let endpoint = value(AzureConfigKey::Endpoint);
        own_url(&endpoint.unwrap_or_else(|| format!("https://{account}.{domain}")))?
    };
    let at = Container {
        url: url_of(&url, name),
        account,
        unsigned: flag(AzureConfigKey::SkipSignature),
        customer_key: value(AzureConfigKey::EncryptionKey)
            .map(|key| customer_key::headers(&key))
            .unwrap_or_default(),
    };
    Ok(AzureContainer { at, emulated })
}
