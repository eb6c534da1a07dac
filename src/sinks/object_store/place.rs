//! Which store a URL means, and how it is reached.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AwsCredential, Checksum};
use object_store::azure::{AzureAccessKey, AzureCredential, MicrosoftAzureBuilder};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{
    ClientOptions, CredentialProvider, Error, ObjectStore, ObjectStoreScheme, RetryConfig,
};
use url::Url;

use super::super::SinkError;
use super::super::http::{MESSAGE_CHARS_MAX, USER_AGENT, use_ring, with_causes};
use super::directory::Directory;
use crate::config::sync::ObjectStoreConfig;
use crate::media::shortened;
use crate::secrets::{Secret, SecretError, SecretSource, without};

/// A store, and where in it everything of ours lies.
pub(super) struct Place {
    pub(super) objects: Objects,
    /// What every object's name begins with.
    pub(super) prefix: Path,
    /// What must show up nowhere: a store may repeat it.
    secrets: Vec<SecretSource>,
}

/// What keeps objects.
pub(super) enum Objects {
    Bucket(Arc<dyn ObjectStore>),
    Directory(Directory),
}

const CONNECT: Duration = Duration::from_secs(10);
/// How long one request may take, body and all: a part of 8 MiB at 32 KiB/s.
const REQUEST: Duration = Duration::from_mins(5);

impl Place {
    pub(super) fn open(config: &ObjectStoreConfig) -> Result<Self, SinkError> {
        // The crate makes its own client, of the same kind.
        use_ring();
        let words = |error: Error| SinkError::retry(with_causes(&error));
        let url = Url::parse(&config.url).map_err(SinkError::retry)?;
        let (scheme, prefix) =
            ObjectStoreScheme::parse(&url).map_err(|error| words(error.into()))?;
        let (objects, prefix) = match scheme {
            ObjectStoreScheme::Local => {
                let root = std::path::Path::new("/").join(prefix.as_ref());
                (Objects::Directory(Directory::new(&root)), Path::default())
            }
            ObjectStoreScheme::AmazonS3 => bucket(s3(config).build().map_err(words)?, prefix),
            ObjectStoreScheme::MicrosoftAzure => {
                bucket(azure(config).build().map_err(words)?, prefix)
            }
            ObjectStoreScheme::GoogleCloudStorage => {
                bucket(google(config).build().map_err(words)?, prefix)
            }
            _ => {
                let scheme = url.scheme();
                return Err(SinkError::retry(format!(
                    "a URL that begins with {scheme:?}: want s3, gs, az or file"
                )));
            }
        };
        let ObjectStoreConfig { access_key_id, secret_access_key, session_token, .. } = config;
        let given = [access_key_id, secret_access_key, session_token, &config.account_key];
        let of_environment = ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
        let of_environment = of_environment.map(|name| SecretSource::Env(name.to_owned()));
        let secrets = given.into_iter().flatten().cloned().chain(of_environment).collect();
        Ok(Self { objects, prefix, secrets })
    }

    /// What an error says, for a log.
    pub(super) fn words(&self, error: &Error) -> String {
        let secrets: Vec<Secret> = self.secrets.iter().flat_map(SecretSource::read).collect();
        let words = without(with_causes(error), secrets.iter().map(Secret::expose));
        shortened(words, MESSAGE_CHARS_MAX)
    }
}

fn bucket(store: impl ObjectStore, prefix: Path) -> (Objects, Path) {
    (Objects::Bucket(Arc::new(store)), prefix)
}

fn options(config: &ObjectStoreConfig) -> ClientOptions {
    let is_plain = config.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http:"));
    ClientOptions::new()
        .with_user_agent(http_value(USER_AGENT))
        .with_connect_timeout(CONNECT)
        .with_timeout(REQUEST)
        .with_allow_http(is_plain)
}

fn http_value(text: &'static str) -> object_store::HeaderValue {
    object_store::HeaderValue::from_static(text)
}

/// The engine retries.
fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, retry_timeout: REQUEST, ..RetryConfig::default() }
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
        .with_retry(no_retries())
}

fn azure(config: &ObjectStoreConfig) -> MicrosoftAzureBuilder {
    let mut builder = MicrosoftAzureBuilder::from_env();
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
        if let Some(account) = account_in(endpoint) {
            builder = builder.with_account(account);
        }
    }
    if let Some(key) = &config.account_key {
        builder = builder.with_credentials(Arc::new(Keys(AzureKey(key.clone()))));
    }
    builder.with_url(&config.url).with_client_options(options(config)).with_retry(no_retries())
}

/// The account that an endpoint belongs to: `https://ACCOUNT.blob.core.windows.net`, `http://HOST/ACCOUNT`.
fn account_in(endpoint: &str) -> Option<String> {
    let url = Url::parse(endpoint).ok()?;
    let of_path = url.path_segments()?.next().filter(|segment| !segment.is_empty());
    let of_host = || url.host_str()?.split_once(".blob.").map(|(account, _)| account);
    of_path.or_else(of_host).map(str::to_owned)
}

fn google(config: &ObjectStoreConfig) -> GoogleCloudStorageBuilder {
    let mut builder = GoogleCloudStorageBuilder::from_env();
    if let Some(path) = &config.service_account {
        builder = builder.with_service_account_path(path.to_string_lossy());
    }
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_base_url(endpoint);
    }
    builder.with_url(&config.url).with_client_options(options(config)).with_retry(no_retries())
}

/// Secrets that are read anew for each request.
trait Read: fmt::Debug + Send + Sync {
    type Credential: Send + Sync;

    fn read(&self) -> Result<Self::Credential, Error>;
}

#[derive(Debug)]
struct Keys<R>(R);

// The trait is made by a macro of a crate that is not among ours: this is what it comes to.
impl<R: Read> CredentialProvider for Keys<R> {
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

fn unread(store: &'static str) -> impl Fn(SecretError) -> Error {
    move |error| Error::Generic { store, source: Box::new(error) }
}

#[derive(Debug)]
struct S3Keys {
    key_id: SecretSource,
    secret_key: SecretSource,
    token: Option<SecretSource>,
}

impl Read for S3Keys {
    type Credential = AwsCredential;

    fn read(&self) -> Result<AwsCredential, Error> {
        let read = |source: &SecretSource| {
            source.read().map(|secret| secret.expose().to_owned()).map_err(unread("S3"))
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

impl Read for AzureKey {
    type Credential = AzureCredential;

    fn read(&self) -> Result<AzureCredential, Error> {
        let key = self.0.read().map_err(unread("Azure"))?;
        // The crate's own error might repeat what it can't read.
        let key = AzureAccessKey::try_new(key.expose()).map_err(|_| Error::Generic {
            store: "Azure",
            source: "the account's key is no base64".into(),
        })?;
        Ok(AzureCredential::AccessKey(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_says_whose_account_it_is() {
        for (endpoint, want) in [
            ("https://team.blob.core.windows.net", Some("team")),
            ("http://127.0.0.1:10000/devstoreaccount1", Some("devstoreaccount1")),
            ("https://example.com", None),
        ] {
            assert_eq!(account_in(endpoint).as_deref(), want, "{endpoint}");
        }
    }
}
