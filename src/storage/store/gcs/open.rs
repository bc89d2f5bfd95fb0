//! Opens a bucket on Google Cloud Storage.

use std::sync::Arc;

use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder, GoogleConfigKey};

use crate::config;
use crate::storage::store::credentials::{Credentials, Origin, Renew};
use crate::storage::store::gcs::Gcs;
use crate::storage::store::gcs::xml_api::{GOOGLE, STORE, XmlApi};
use crate::storage::store::http::connector::PatientConnector;
use crate::storage::store::http::requests::{Sender, url_of};
use crate::storage::store::metered::Metered;
use crate::storage::store::options::{
    OpenError, bucket, client_options, is_true, own_url, patience, prefix, retries, settings,
};
use crate::telemetry::StoreMetrics;

/// Opens a bucket.
pub(crate) fn open(config: &config::Store, metrics: &Arc<StoreMetrics>) -> Result<Gcs, OpenError> {
    let url = config.url.as_url();
    let mut client = client_options(config);
    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(bucket(url)?)
        .with_client_options(client.clone())
        .with_http_connector(PatientConnector)
        .with_retry(retries(config));
    for (key, value) in settings::<GoogleConfigKey>(config, "GOOGLE_", "gs", &[])? {
        if let GoogleConfigKey::Client(key) = key {
            client = client.with_config(key, value.clone());
        }
        builder = builder.with_config(key, value);
    }
    let base = builder.get_config_value(&GoogleConfigKey::BaseUrl);
    let base = own_url(base.as_deref().unwrap_or(GOOGLE))?;
    let unsigned = builder.get_config_value(&GoogleConfigKey::SkipSignature);
    let credentials = credentials(config, builder.clone())?;
    let renewal: Arc<dyn Renew> = credentials.clone();
    let store = builder.with_credentials(credentials).build();
    let store = Arc::new(store.map_err(OpenError::Options)?);
    let sender = Sender::new(&client, config.retry_timeout, STORE, Arc::clone(&renewal));
    let api = XmlApi::new(
        Arc::clone(&store),
        url_of(&base, bucket(url)?),
        unsigned.is_some_and(|value| is_true(&value)),
        sender.map_err(OpenError::Options)?,
        Arc::clone(metrics),
    );
    let api = Arc::new(api);
    let objects =
        Arc::new(Metered::new(store, Arc::clone(metrics)).renewed_by(Arc::clone(&renewal)));
    Ok(Gcs::new(objects, api, prefix(url)?))
}

/// As `object_store` finds them, whose files are watched.
fn credentials(
    config: &config::Store,
    builder: GoogleCloudStorageBuilder,
) -> Result<Arc<Credentials<GcpCredential>>, OpenError> {
    let named = [
        GoogleConfigKey::ServiceAccount,
        GoogleConfigKey::ApplicationCredentials,
    ];
    let files = named.iter().filter_map(|key| builder.get_config_value(key));
    let origin = Origin::Changing(files.map(Into::into).collect());
    let make = move || Ok(Arc::clone(builder.clone().build()?.credentials()));
    let credentials = Credentials::new(make, origin, patience(config));
    Ok(Arc::new(credentials.map_err(OpenError::Options)?))
}
