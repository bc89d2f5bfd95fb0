//! Opens a bucket on Google Cloud Storage.

use std::sync::Arc;

use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};

use crate::config;
use crate::storage::store::gcs::Gcs;
use crate::storage::store::gcs::xml_api::{GOOGLE, XmlApi};
use crate::storage::store::http::connector::PatientConnector;
use crate::storage::store::http::requests::url_of;
use crate::storage::store::metered::Metered;
use crate::storage::store::options::{
    OpenError, bucket, client_options, is_true, own_url, prefix, retries, settings,
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
    for (key, value) in settings::<GoogleConfigKey>(config, "GOOGLE_", "gs")? {
        if let GoogleConfigKey::Client(key) = key {
            client = client.with_config(key, value.clone());
        }
        builder = builder.with_config(key, value);
    }
    let base = builder.get_config_value(&GoogleConfigKey::BaseUrl);
    let base = own_url(base.as_deref().unwrap_or(GOOGLE))?;
    let unsigned = builder.get_config_value(&GoogleConfigKey::SkipSignature);
    let store = Arc::new(builder.build().map_err(OpenError::Options)?);
    let api = XmlApi::new(
        Arc::clone(&store),
        url_of(&base, bucket(url)?),
        unsigned.is_some_and(|value| is_true(&value)),
        &client,
        config.retry_timeout,
        Arc::clone(metrics),
    );
    let api = Arc::new(api.map_err(OpenError::Options)?);
    let objects = Arc::new(Metered::new(store, Arc::clone(metrics)));
    Ok(Gcs::new(objects, api, prefix(url)?))
}
