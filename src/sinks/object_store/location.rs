//! The store that a URL names, with its client and credentials.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AwsCredential, Checksum};
use object_store::azure::{AzureAccessKey, AzureCredential, MicrosoftAzureBuilder};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{
    ClientOptions, CredentialProvider, Error, ObjectStore, ObjectStoreScheme, RetryConfig,
};
use url::Url;

use super::connector::Connector;
use super::directory::Directory;
use crate::config::sync::ObjectStoreConfig;
use crate::secrets::{Redactor, SecretError, SecretSource};
use crate::sinks::SinkError;
use crate::sinks::http::policy::use_ring;
use crate::sinks::http::with_causes;

/// A store with the prefix of Safelight's objects.
pub(crate) struct StoreLocation {
    pub(super) objects: Objects,
    /// The prefix of every object's name.
    pub(super) prefix: Path,
    /// Secrets that a store may repeat in an error. They must not be logged.
    secrets: Vec<SecretSource>,
}

/// A bucket of a service, or a directory.
pub(super) enum Objects {
    Bucket(Arc<dyn ObjectStore>),
    Directory(Directory),
}

impl StoreLocation {
    /// Opens the store that a configuration names. Nothing is asked of it.
    ///
    /// # Errors
    /// If the URL names no store, or the keys cannot be read.
    pub(crate) fn open(config: &ObjectStoreConfig) -> Result<Self, SinkError> {
        // The crate `object_store` creates its own HTTP client.
        use_ring();
        let retry = |error: Error| SinkError::retry(with_causes(&error));
        let url = Url::parse(&config.url).map_err(SinkError::retry)?;
        let (scheme, prefix) =
            ObjectStoreScheme::parse(&url).map_err(|error| retry(error.into()))?;
        let (objects, prefix) = match scheme {
            ObjectStoreScheme::Local => {
                let root = std::path::Path::new("/").join(prefix.as_ref());
                (Objects::Directory(Directory::new(&root)), Path::default())
            }
            ObjectStoreScheme::AmazonS3 => bucket(s3(config).build().map_err(retry)?, prefix),
            ObjectStoreScheme::MicrosoftAzure => {
                bucket(azure(config).build().map_err(retry)?, prefix)
            }
            ObjectStoreScheme::GoogleCloudStorage => {
                bucket(google(config).build().map_err(retry)?, prefix)
            }
            _ => {
                let scheme = url.scheme();
                return Err(SinkError::retry(format!(
                    "got a URL with scheme {scheme:?}, want s3, gs, az or file"
                )));
            }
        };
        let ObjectStoreConfig { access_key_id, secret_access_key, session_token, .. } = config;
        let configured = [access_key_id, secret_access_key, session_token, &config.account_key];
        let from_environment = ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
        let from_environment = from_environment.map(|name| SecretSource::Env(name.to_owned()));
        let secrets = configured.into_iter().flatten().cloned().chain(from_environment).collect();
        Ok(Self { objects, prefix, secrets })
    }

    pub(super) fn redactor(&self) -> Redactor {
        Redactor::read(&self.secrets)
    }

    /// Returns an error's message without secrets.
    pub(crate) fn message(&self, error: &Error) -> String {
        self.redactor().text(&with_causes(error))
    }
}

fn bucket(store: impl ObjectStore, prefix: Path) -> (Objects, Path) {
    (Objects::Bucket(Arc::new(store)), prefix)
}

/// [`Connector`] sets time limits and everything else.
fn options(config: &ObjectStoreConfig) -> ClientOptions {
    let is_plain = config.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http:"));
    ClientOptions::new().with_allow_http(is_plain)
}

/// Turns off retries of the crate `object_store`, because [`crate::sync`] retries.
fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

fn s3(config: &ObjectStoreConfig) -> AmazonS3Builder {
    let ObjectStoreConfig { access_key_id, secret_access_key, session_token, .. } = config;
    let mut builder = match (access_key_id, secret_access_key) {
        (Some(key_id), Some(secret_key)) => {
            let (key_id, secret_key) = (key_id.clone(), secret_key.clone());
            let keys = Keys(S3Keys { key_id, secret_key, token: session_token.clone() });
            AmazonS3Builder::new().with_credentials(Arc::new(keys))
        }
        _ => AmazonS3Builder::from_env(),
    };
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = &config.region {
        builder = builder.with_region(region);
    }
    builder
        .with_url(&config.url)
        .with_checksum_algorithm(Checksum::SHA256)
        .with_client_options(options(config))
        .with_http_connector(Connector)
        .with_retry(no_retries())
}

fn azure(config: &ObjectStoreConfig) -> MicrosoftAzureBuilder {
    let mut builder = MicrosoftAzureBuilder::from_env();
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
        if let Some(account) = account_of_endpoint(endpoint) {
            builder = builder.with_account(account);
        }
    }
    if let Some(key) = &config.account_key {
        builder = builder.with_credentials(Arc::new(Keys(AzureKey(key.clone()))));
    }
    builder
        .with_url(&config.url)
        .with_client_options(options(config))
        .with_http_connector(Connector)
        .with_retry(no_retries())
}

/// Returns the account in an endpoint: `https://ACCOUNT.blob.core.windows.net`, `http://HOST/ACCOUNT`.
fn account_of_endpoint(endpoint: &str) -> Option<String> {
    let url = Url::parse(endpoint).ok()?;
    let in_path = url.path_segments()?.next().filter(|segment| !segment.is_empty());
    let in_host = || url.host_str()?.split_once(".blob.").map(|(account, _)| account);
    in_path.or_else(in_host).map(str::to_owned)
}

fn google(config: &ObjectStoreConfig) -> GoogleCloudStorageBuilder {
    let mut builder = GoogleCloudStorageBuilder::from_env();
    if let Some(path) = &config.service_account {
        builder = builder.with_service_account_path(path.to_string_lossy());
    }
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_base_url(endpoint);
    }
    builder
        .with_url(&config.url)
        .with_client_options(options(config))
        .with_http_connector(Connector)
        .with_retry(no_retries())
}

/// Credentials that are read for each request.
trait ReadCredential: fmt::Debug + Send + Sync {
    type Credential: Send + Sync;

    fn read(&self) -> Result<Self::Credential, Error>;
}

#[derive(Debug)]
struct Keys<R>(R);

// The trait uses the macro `async_trait`. This is the expanded signature, which avoids the dependency.
impl<R: ReadCredential> CredentialProvider for Keys<R> {
    type Credential = R::Credential;

    fn get_credential<'a, 'b>(
        &'a self,
    ) -> Pin<Box<dyn Future<Output = object_store::Result<Arc<R::Credential>>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move { self.0.read().map(Arc::new) })
    }
}

fn secret_error(store: &'static str) -> impl Fn(SecretError) -> Error {
    move |error| Error::Generic { store, source: Box::new(error) }
}

#[derive(Debug)]
struct S3Keys {
    key_id: SecretSource,
    secret_key: SecretSource,
    token: Option<SecretSource>,
}

impl ReadCredential for S3Keys {
    type Credential = AwsCredential;

    fn read(&self) -> Result<AwsCredential, Error> {
        let read = |source: &SecretSource| {
            source.read().map(|secret| secret.expose().to_owned()).map_err(secret_error("S3"))
        };
        Ok(AwsCredential {
            key_id: read(&self.key_id)?,
            secret_key: read(&self.secret_key)?,
            token: self.token.as_ref().map(read).transpose()?,
        })
    }
}

#[derive(Debug)]
struct AzureKey(SecretSource);

impl ReadCredential for AzureKey {
    type Credential = AzureCredential;

    fn read(&self) -> Result<AzureCredential, Error> {
        let key = self.0.read().map_err(secret_error("Azure"))?;
        // The crate's error could contain the key.
        let key = AzureAccessKey::try_new(key.expose()).map_err(|_| Error::Generic {
            store: "Azure",
            source: "the account key is not base64".into(),
        })?;
        Ok(AzureCredential::AccessKey(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_is_read_from_the_endpoint() {
        for (endpoint, want) in [
            ("https://team.blob.core.windows.net", Some("team")),
            ("http://127.0.0.1:10000/devstoreaccount1", Some("devstoreaccount1")),
            ("https://example.com", None),
        ] {
            assert_eq!(account_of_endpoint(endpoint).as_deref(), want, "{endpoint}");
        }
    }
}
