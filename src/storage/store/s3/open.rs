//! Opens a bucket on S3.

use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, Checksum};

use crate::config;
use crate::storage::store::credentials::{Credentials, Origin, Renew};
use crate::storage::store::http::connector::PatientConnector;
use crate::storage::store::http::requests::Sender;
use crate::storage::store::metered::Metered;
use crate::storage::store::options::{
    OpenError, bucket, client_options, is_true, patience, retries, settings,
};
use crate::storage::store::s3::S3;
use crate::storage::store::s3::authorization::Authorizer;
use crate::storage::store::s3::carried::{Carried, Encryption};
use crate::storage::store::s3::checksums::Check;
use crate::storage::store::s3::profile::{self, Profile};
use crate::storage::store::s3::signed::{SignedS3, Signing};
use crate::telemetry::StoreMetrics;

/// Opens a bucket.
pub(crate) fn open(
    config: &config::Store,
    verify: config::Verify,
    metrics: &Arc<StoreMetrics>,
) -> Result<S3, OpenError> {
    let url = config.url.as_url();
    let mut client = client_options(config);
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket(url)?)
        .with_client_options(client.clone())
        .with_http_connector(PatientConnector)
        .with_retry(retries(config));
    let settings = settings::<AmazonS3ConfigKey>(config, "AWS_", "s3", &profile::OPTIONS)?;
    if is_aws_itself(&settings) {
        // A signature over the payload costs a SHA-256 of every byte. TLS protects the way to AWS, and
        // this checksum the way from our memory to its disks, for a tenth of the price.
        builder = builder
            .with_unsigned_payload(true)
            .with_checksum_algorithm(Checksum::CRC64NVME);
    }
    // With a customer's own key, copies would need it in headers that only object_store has.
    let is_customer_key = |key: &AmazonS3ConfigKey| key.as_ref() == "aws_sse_customer_key_base64";
    let copies = !settings.iter().any(|(key, _)| is_customer_key(key));
    for (key, value) in settings {
        if let AmazonS3ConfigKey::Client(key) = key {
            client = client.with_config(key, value.clone());
        }
        builder = builder.with_config(key, value);
    }
    let region = builder.get_config_value(&AmazonS3ConfigKey::Region);
    let unsigned = builder.get_config_value(&AmazonS3ConfigKey::SkipSignature);
    let unsigned_payload = builder.get_config_value(&AmazonS3ConfigKey::UnsignedPayload);
    let checksum = builder.get_config_value(&AmazonS3ConfigKey::Checksum);
    let payer = builder.get_config_value(&AmazonS3ConfigKey::RequestPayer);
    let carried = Carried::new(&encryption(&builder));
    let express = builder.get_config_value(&AmazonS3ConfigKey::S3Express);
    let credentials = credentials(config, builder.clone())?;
    let renewal: Arc<dyn Renew> = credentials.clone();
    let s3 = builder.with_credentials(credentials).build();
    let s3 = Arc::new(s3.map_err(OpenError::Options)?);
    let region = region.unwrap_or_else(|| "us-east-1".to_owned());
    let payloads = !unsigned_payload.is_some_and(|value| is_true(&value));
    let pays = payer.is_some_and(|value| is_true(&value));
    let signing = Signing {
        bucket: bucket(url)?.to_owned(),
        authorizer: Authorizer::new(region, payloads, pays),
        unsigned: unsigned.is_some_and(|value| is_true(&value)),
        payloads,
        // What is no checksum `object_store` has refused.
        check: checksum.and_then(|checksum| Check::of(checksum.parse().ok()?)),
        verify,
        carried,
    };
    let signed = SignedS3::new(
        Arc::clone(&s3),
        signing,
        Sender::new(&client, config.retry_timeout, "S3", Arc::clone(&renewal))
            .map_err(OpenError::Options)?,
        Arc::clone(metrics),
    );
    let signed = Arc::new(signed);
    let objects = Metered::new(s3, Arc::clone(metrics)).renewed_by(Arc::clone(&renewal));
    // Requests to directory buckets are signed with sessions of their own.
    let own_uploads = !express.is_some_and(|value| is_true(&value));
    Ok(S3::new(Arc::new(objects), signed, own_uploads, copies))
}

/// Those of a profile; else as `object_store` finds them.
fn credentials(
    config: &config::Store,
    builder: AmazonS3Builder,
) -> Result<Arc<Credentials<AwsCredential>>, OpenError> {
    let profile = profile(config, &builder)?;
    let has_keys = builder
        .get_config_value(&AmazonS3ConfigKey::AccessKeyId)
        .is_some();
    let origin = match &profile {
        Some(profile) => Origin::Changing(vec![profile.file.clone()]),
        None if has_keys => Origin::Fixed,
        None => Origin::Changing(Vec::new()),
    };
    let make = move || match &profile {
        Some(profile) => profile.read(),
        None => Ok(Arc::clone(builder.clone().build()?.credentials())),
    };
    let credentials = Credentials::new(make, origin, patience(config));
    Ok(Arc::new(credentials.map_err(OpenError::Options)?))
}

/// The profile that credentials are read from. What the store's own options name has to be there, and is taken before all
/// that the environment has; else a file is taken where there is nothing else.
fn profile(
    config: &config::Store,
    builder: &AmazonS3Builder,
) -> Result<Option<Profile>, OpenError> {
    use AmazonS3ConfigKey as Key;
    let value = |key| {
        builder
            .get_config_value(&key)
            .filter(|value| !value.is_empty())
    };
    if value(Key::SkipSignature).is_some_and(|value| is_true(&value)) {
        return Ok(None);
    }
    if let Some(profile) = Profile::of_options(&config.options) {
        profile.read().map_err(OpenError::Options)?;
        return Ok(Some(profile));
    }
    let both = |one, other| value(one).is_some() && value(other).is_some();
    let are_named = value(Key::AccessKeyId).is_some()
        || value(Key::SecretAccessKey).is_some()
        || both(Key::WebIdentityTokenFile, Key::RoleArn)
        || value(Key::ContainerCredentialsRelativeUri).is_some()
        || both(
            Key::ContainerCredentialsFullUri,
            Key::ContainerAuthorizationTokenFile,
        )
        || value(Key::MetadataEndpoint).is_some();
    let profile = Profile::of_environment().filter(|_| !are_named);
    let usable = profile.filter(|profile| match profile.read() {
        Ok(_) => true,
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the instance is asked for credentials instead");
            false
        }
    });
    Ok(usable)
}

/// How `object_store` has been told to have its objects encrypted.
fn encryption(builder: &AmazonS3Builder) -> Encryption {
    let value = |name: &str| builder.get_config_value(&name.parse().ok()?);
    Encryption {
        kind: value("aws_server_side_encryption"),
        kms_key: value("aws_sse_kms_key_id"),
        bucket_key: value("aws_sse_bucket_key_enabled").is_some_and(|value| is_true(&value)),
        customer_key: value("aws_sse_customer_key_base64"),
    }
}

/// Whether the requests go to AWS: other stores have endpoints of their own, and may not know its
/// newer checksums.
fn is_aws_itself(settings: &[(AmazonS3ConfigKey, String)]) -> bool {
    use AmazonS3ConfigKey::{Endpoint, S3Endpoint};
    !settings
        .iter()
        .any(|(key, _)| matches!(key, Endpoint | S3Endpoint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_with_an_endpoint_of_its_own_is_not_aws() {
        let named = |name: &str| {
            let key: AmazonS3ConfigKey = name.parse().unwrap();
            is_aws_itself(&[(key, "https://store.example".to_owned())])
        };
        assert!(!named("aws_endpoint"));
        assert!(!named("aws_endpoint_url"));
        assert!(!named("aws_endpoint_url_s3"));
        assert!(named("aws_metadata_endpoint"));
        assert!(is_aws_itself(&[]));
    }
}
