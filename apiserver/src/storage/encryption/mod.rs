//! Values encrypted at rest, as an EncryptionConfiguration says, so that stores written by Kubernetes can be read and the
//! other way round. Must never write a key or a plain value to a log.

mod config;
mod provider;

use std::sync::Arc;

use barque_api::kind::GroupResource;
use bytes::Bytes;
use parking_lot::RwLock;
use serde_json::Value;

pub use config::EncryptionError;

use config::Config;
use provider::Providers;

use super::members::StoreMember;
use super::{
    Action, Entry, Got, LeaseId, Listed, Page, Revision, Storage, StorageError, StorageWatch, WatchItem,
    Write, Written,
};

/// The configuration that is in force; it can be replaced while requests run. Cloning copies a pointer.
#[derive(Clone)]
pub struct Encryption(Arc<RwLock<Arc<Config>>>);

impl Encryption {
    /// Nothing is encrypted, and nothing encrypted can be read.
    #[must_use]
    pub fn none() -> Self {
        Self(Arc::new(RwLock::new(Arc::new(Config::none()))))
    }

    /// From an EncryptionConfiguration.
    ///
    /// # Errors
    /// What is wrong with it, with the field.
    pub fn new(configuration: &Value) -> Result<Self, EncryptionError> {
        Ok(Self(Arc::new(RwLock::new(Arc::new(Config::read(configuration)?)))))
    }

    /// Puts another configuration in force; one that is wrong changes nothing. Whether it says anything else.
    ///
    /// # Errors
    /// As [`Encryption::new`].
    pub fn replace(&self, configuration: &Value) -> Result<bool, EncryptionError> {
        let config = Config::read(configuration)?;
        let mut current = self.0.write();
        let differs = current.source != config.source;
        if differs {
            *current = Arc::new(config);
        }
        Ok(differs)
    }

    /// The storage of one collection's objects.
    #[must_use]
    pub fn storage<S: Storage>(&self, inner: S, resource: &GroupResource) -> Encrypted<S> {
        let cipher = Cipher { encryption: self.clone(), resource: resource.clone() };
        Encrypted { inner, cipher: Arc::new(cipher) }
    }
}

struct Cipher {
    encryption: Encryption,
    resource: GroupResource,
}

impl Cipher {
    /// `None` where the configuration says nothing of this collection.
    fn providers(&self) -> Option<Arc<Providers>> {
        self.encryption.0.read().providers(&self.resource)
    }

    fn seal(&self, key: &[u8], value: &Bytes) -> Result<Bytes, StorageError> {
        match self.providers() {
            Some(providers) => providers
                .seal(key, value, &mut |nonce| rand::fill(nonce))
                .map_err(|why| transform_error(key, &why)),
            None => Ok(value.clone()),
        }
    }

    fn open(&self, key: &[u8], value: &Bytes) -> Result<Bytes, StorageError> {
        match self.providers() {
            Some(providers) => providers.open(key, value).map_err(|why| transform_error(key, &why)),
            None => Ok(value.clone()),
        }
    }

    /// A value among others: one that cannot be decrypted stays as it is, which no reader of objects takes for one, so
    /// that the others can be read.
    fn open_or_leave(&self, key: &[u8], value: &mut Bytes) {
        match self.open(key, value) {
            Ok(plain) => *value = plain,
            Err(error) => tracing::error!(%error, "a stored value cannot be decrypted"),
        }
    }

    fn open_entry(&self, entry: &mut Entry) {
        let Entry { key, value, .. } = entry;
        self.open_or_leave(key, value);
    }
}

fn transform_error(key: &[u8], why: &str) -> StorageError {
    StorageError::Transform { why: format!("{}: {why}", String::from_utf8_lossy(key)) }
}

/// A storage whose values are encrypted. Cloning copies pointers.
#[derive(Clone)]
pub struct Encrypted<S> {
    inner: S,
    cipher: Arc<Cipher>,
}

impl<S: Storage> Storage for Encrypted<S> {
    type Watch = EncryptedWatch<S::Watch>;

    async fn get(&self, key: &Bytes) -> Result<Got, StorageError> {
        let mut got = self.inner.get(key).await?;
        if let Some(entry) = &mut got.entry {
            entry.value = self.cipher.open(&entry.key, &entry.value)?;
        }
        Ok(got)
    }

    async fn list(&self, page: &Page) -> Result<Listed, StorageError> {
        let mut listed = self.inner.list(page).await?;
        for entry in &mut listed.entries {
            self.cipher.open_entry(entry);
            tokio::task::coop::consume_budget().await;
        }
        Ok(listed)
    }

    async fn write(&self, write: &Write) -> Result<Written, StorageError> {
        let action = match &write.action {
            Action::Put { value, lease } => {
                Action::Put { value: self.cipher.seal(&write.key, value)?, lease: *lease }
            }
            Action::Delete => Action::Delete,
        };
        let sealed = Write { key: write.key.clone(), expected: write.expected, action };
        let mut written = self.inner.write(&sealed).await?;
        if let Written::Differs(Some(entry)) = &mut written {
            self.cipher.open_entry(entry);
        }
        Ok(written)
    }

    async fn current_revision(&self) -> Result<Revision, StorageError> {
        self.inner.current_revision().await
    }

    async fn tells_progress(&self) -> bool {
        self.inner.tells_progress().await
    }

    async fn watch(&self, prefix: &Bytes, from: Revision) -> Result<Self::Watch, StorageError> {
        let inner = self.inner.watch(prefix, from).await?;
        Ok(EncryptedWatch { inner, cipher: Arc::clone(&self.cipher) })
    }

    async fn compact(&self, revision: Revision) -> Result<(), StorageError> {
        self.inner.compact(revision).await
    }

    async fn grant_lease(&self, ttl_s: u64) -> Result<LeaseId, StorageError> {
        self.inner.grant_lease(ttl_s).await
    }

    async fn members(&self) -> Result<Vec<StoreMember>, StorageError> {
        self.inner.members().await
    }
}

/// A watch that tells decrypted values.
pub struct EncryptedWatch<W> {
    inner: W,
    cipher: Arc<Cipher>,
}

impl<W: StorageWatch> StorageWatch for EncryptedWatch<W> {
    async fn next(&mut self) -> Result<WatchItem, StorageError> {
        let mut item = self.inner.next().await?;
        // Nothing waits from here on: what was taken must be told.
        if let WatchItem::Changes(changes) = &mut item {
            for change in changes {
                if let Some(value) = &mut change.value {
                    self.cipher.open_or_leave(&change.key, value);
                }
                if let Some(entry) = &mut change.previous {
                    self.cipher.open_entry(entry);
                }
            }
        }
        Ok(item)
    }

    async fn request_progress(&mut self) {
        self.inner.request_progress().await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::storage::Expected;
    use crate::storage::memory::Memory;

    fn config(providers: Value) -> Value {
        json!({
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
            "resources": [{"resources": ["secrets"], "providers": providers}],
        })
    }

    fn keys(kind: &str, names: &[(&str, u8)]) -> Value {
        use base64::Engine as _;
        let secret = |byte: u8| base64::engine::general_purpose::STANDARD.encode([byte; 32]);
        let keys: Vec<_> =
            names.iter().map(|(name, byte)| json!({"name": name, "secret": secret(*byte)})).collect();
        json!({kind: {"keys": keys}})
    }

    async fn put(storage: &impl Storage, key: &Bytes, value: &str) {
        let at = storage.get(key).await.ok().and_then(|got| got.entry).map(|entry| entry.revision);
        let expected = at.map_or(Expected::Absent, Expected::At);
        let action = Action::Put { value: Bytes::copy_from_slice(value.as_bytes()), lease: None };
        let written = storage.write(&Write { key: key.clone(), expected, action }).await;
        assert!(matches!(written, Ok(Written::Done(_))), "{written:?}");
    }

    async fn stored(memory: &Memory, key: &Bytes) -> Bytes {
        memory.get(key).await.unwrap().entry.unwrap().value
    }

    #[tokio::test]
    async fn the_first_provider_writes_and_all_read_also_after_the_configuration_changed() {
        let memory = Memory::new();
        let identity = json!({"identity": {}});
        let encryption = Encryption::new(&config(json!([identity]))).unwrap();
        let secrets = encryption.storage(memory.clone(), &GroupResource::new("", "secrets"));
        let pods = encryption.storage(memory.clone(), &GroupResource::new("", "pods"));
        let key = |name: &str| Bytes::from(format!("/registry/secrets/ns/{name}"));
        let mut watch = secrets.watch(&key(""), Revision(1)).await.unwrap();
        put(&secrets, &key("plain"), "0").await;
        put(&pods, &Bytes::from_static(b"/registry/pods/ns/a"), "pod").await;
        assert_eq!(stored(&memory, &key("plain")).await, "0");

        let mut providers = vec![identity.clone()];
        let mut names = vec!["plain".to_owned()];
        for (number, kind) in ["aescbc", "aesgcm", "secretbox"].into_iter().enumerate() {
            providers.insert(0, keys(kind, &[("new", 10), ("old", number as u8)]));
            assert_eq!(encryption.replace(&config(json!(providers))), Ok(true));
            assert_eq!(encryption.replace(&config(json!(providers))), Ok(false));
            put(&secrets, &key(kind), &(number + 1).to_string()).await;
            let value = stored(&memory, &key(kind)).await;
            assert!(value.starts_with(format!("k8s:enc:{kind}:v1:new:").as_bytes()));
            names.push(kind.to_owned());
        }
        let page = Page { prefix: key(""), ..Page::default() };
        let listed = secrets.list(&page).await.unwrap();
        let values: Vec<_> = listed.entries.iter().map(|entry| entry.value.clone()).collect();
        assert_eq!(values, ["1", "2", "0", "3"]);
        let mut told = Vec::new();
        while told.len() < 4 {
            if let WatchItem::Changes(changes) = watch.next().await.unwrap() {
                told.extend(changes.into_iter().filter_map(|change| change.value));
            }
        }
        assert_eq!(told, ["0", "1", "2", "3"]);
        // A conflict tells what stands there.
        let action = Action::Put { value: Bytes::new(), lease: None };
        let write = Write { key: key("aesgcm"), expected: Expected::Absent, action };
        let Ok(Written::Differs(Some(entry))) = secrets.write(&write).await else { panic!("no conflict") };
        assert_eq!(entry.value, "2");

        // Back to plain text: what is encrypted is still read, and written plainly.
        providers.rotate_right(1);
        encryption.replace(&config(json!(providers))).unwrap();
        put(&secrets, &key("aescbc"), "again").await;
        assert_eq!(stored(&memory, &key("aescbc")).await, "again");
        assert_eq!(secrets.get(&key("secretbox")).await.unwrap().entry.unwrap().value, "3");

        // Without the keys nothing is taken for what it is not.
        encryption.replace(&config(json!([identity]))).unwrap();
        let refused = secrets.get(&key("secretbox")).await.unwrap_err();
        assert!(
            matches!(&refused, StorageError::Transform { why } if why.contains("/registry/secrets/ns/secretbox"))
        );
        let listed = secrets.list(&page).await.unwrap();
        assert!(listed.entries[3].value.starts_with(b"k8s:enc:"));
        assert!(encryption.replace(&json!({})).is_err());
        assert_eq!(secrets.get(&key("plain")).await.unwrap().entry.unwrap().value, "0");
    }
}
