//! `kind = "object_store"`.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::{check_url, some_http_url};
use crate::config::values::{WHOLE_BYTES_MAX, Whole, some_path};
use crate::media::BoxName;
use crate::secrets::SecretSource;

/// S3, Google Cloud Storage, Azure Blob Storage, or a directory.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectStoreConfig {
    /// `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX` or `file:///DIRECTORY`.
    #[serde(deserialize_with = "object_url")]
    #[schemars(example = "s3://media/runs")]
    pub url: String,
    /// The URL of a service that speaks the cloud's protocol. If unset: the cloud's own service.
    #[serde(default, deserialize_with = "some_http_url")]
    #[schemars(example = "http://127.0.0.1:8333")]
    pub endpoint: Option<String>,
    /// The region of the bucket.
    #[schemars(example = "us-east-1")]
    pub region: Option<String>,
    /// The id of the access key. Goes with `secret_access_key`. If no key is set, those of the environment and of the
    /// machine are tried.
    #[schemars(example = SecretSource::Credential("s3-id".to_owned()))]
    pub access_key_id: Option<SecretSource>,
    /// The access key.
    #[schemars(example = SecretSource::Credential("s3-key".to_owned()))]
    pub secret_access_key: Option<SecretSource>,
    /// The token of a temporary access key.
    #[schemars(example = SecretSource::Env("AWS_SESSION_TOKEN".to_owned()))]
    pub session_token: Option<SecretSource>,
    /// The key of the storage account, for Azure.
    #[schemars(example = SecretSource::Credential("azure".to_owned()))]
    pub account_key: Option<SecretSource>,
    /// The file of the service account, for Google.
    #[serde(default, deserialize_with = "some_path")]
    #[schemars(example = "/etc/safelight/google.json")]
    pub service_account: Option<PathBuf>,
    /// The size above which a file is uploaded in parts, in bytes.
    #[serde(default = "default_multipart_bytes")]
    pub multipart_bytes: Whole<1, WHOLE_BYTES_MAX>,
    /// The name of this machine among those that deliver to this URL. Each needs a name of its own. If unset: the host
    /// name.
    #[serde(rename = "box")]
    #[schemars(with = "Option<String>", example = "gpu-17")]
    pub box_name: Option<BoxName>,
    /// How long items wait for others, so that a live run makes few manifests, in seconds. A batch of 256 items goes at
    /// once, and so does everything with `safelight sync`.
    #[serde(default = "default_manifest_s")]
    pub manifest_s: Whole<0, 86_400>,
    /// Whether each manifest gets an empty object below `inbox/`, from which `safelight-catalog` learns of it and which it
    /// removes. See docs/fleet.md.
    #[serde(default)]
    pub announce: bool,
    /// Where a run comes from whose directory is a temporary copy. It is recorded instead of the directory. Only
    /// `safelight backfill` sets it.
    #[serde(skip)]
    pub(crate) origin: Option<String>,
}

fn default_manifest_s() -> Whole<0, 86_400> {
    Whole::nearest(60)
}

fn default_multipart_bytes() -> Whole<1, WHOLE_BYTES_MAX> {
    Whole::nearest(8 << 20)
}

fn object_url<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let url = String::deserialize(from)?;
    check_url(&url, &["s3", "gs", "az", "file"]).map_err(de::Error::custom)?;
    Ok(url)
}

/// The variables with the URL of a service that speaks S3, in the order in which they count.
const ENDPOINT_VARIABLES: [&str; 3] = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];

impl ObjectStoreConfig {
    /// The settings of a URL alone. Keys, region and endpoint come from the environment and the machine.
    ///
    /// # Errors
    /// If it is no URL of an object store.
    pub(crate) fn of_url(url: &str) -> Result<Self, String> {
        let set = |name: &&str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let endpoint = ENDPOINT_VARIABLES.iter().find_map(set).filter(|_| url.starts_with("s3:"));
        let endpoint = endpoint.map(|endpoint| ("endpoint".to_owned(), endpoint.into()));
        let fields = [("url".to_owned(), url.into())].into_iter().chain(endpoint).collect();
        Self::checked(serde_json::Value::Object(fields)).map_err(|error| error.to_string())
    }

    /// Reads the settings and checks that they fit together.
    pub(super) fn checked<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let config = Self::deserialize(from)?;
        if config.access_key_id.is_some() != config.secret_access_key.is_some() {
            return Err(de::Error::custom("`access_key_id` and `secret_access_key` go together"));
        }
        Ok(config)
    }

    /// The name of this machine: that of the configuration, else the host name.
    ///
    /// # Errors
    /// If the host name is none, or the one that every machine without a name has.
    pub(crate) fn box_name(&self) -> Result<BoxName, String> {
        if let Some(name) = &self.box_name {
            return Ok(name.clone());
        }
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        match BoxName::new(host.as_str()) {
            Ok(name) if !["localhost", "(none)"].contains(&host.as_str()) => Ok(name),
            _ => Err(format!(
                "the host name is {host:?}, want one that no other machine has: set `box` to a name for this machine"
            )),
        }
    }

    pub(super) fn below(self, folder: &Path) -> Self {
        let below = |source: Option<SecretSource>| source.map(|source| source.below(folder));
        Self {
            access_key_id: below(self.access_key_id),
            secret_access_key: below(self.secret_access_key),
            session_token: below(self.session_token),
            account_key: below(self.account_key),
            service_account: self.service_account.map(|path| folder.join(path)),
            ..self
        }
    }
}
