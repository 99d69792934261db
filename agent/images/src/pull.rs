//! A pull: what a reference means is asked of its registries, then what is missing is fetched and unpacked, layers in parallel, each
//! once for all who want it.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio_util::sync::CancellationToken;

use crate::assemble::{self, LayerState};
use crate::credentials::Credential;
use crate::digest::Digest;
use crate::download::{Source, download, is_transient};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::manifest::{ACCEPT, Config, Descriptor, Document, LARGEST_CONFIG, LARGEST_MANIFEST, Manifest};
use crate::progress::{Event, Progress};
use crate::reference::Reference;
use crate::registry::Query;
use crate::store::directory::Work;
use crate::store::{ImageStore, now_ns};

/// Attempts for what is small.
const ATTEMPTS: u32 = 3;

/// How to pull.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// Never collect it.
    pub pin: bool,
    /// Keep the compressed layers, or not, whatever the store does otherwise.
    pub keep_blobs: Option<bool>,
}

/// What a pull works on.
struct Pull<'a> {
    store: &'a ImageStore,
    reference: &'a Reference,
    progress: &'a Arc<dyn Progress>,
    /// The best first.
    sources: Vec<Source>,
    keep_blobs: bool,
    cancel: CancellationToken,
}

/// What a reference means here.
struct Resolved {
    /// The digest that the registry knows it by: of an index or a manifest.
    digest: Digest,
    manifest: Manifest,
    manifest_digest: Digest,
    manifest_bytes: bytes::Bytes,
}

impl ImageStore {
    /// Pulls an image, also when one of that name is here: the registry may mean another one now. `credentials` are tried in turn;
    /// without any, nobody in particular asks. Dropping the future cancels the pull; what it has made goes.
    ///
    /// # Errors
    /// [`Error::Pull`] with the reason.
    pub async fn pull(
        &self,
        reference: &Reference,
        credentials: &[Credential],
        options: &PullOptions,
        progress: Arc<dyn Progress>,
    ) -> Result<Image> {
        let cancel = CancellationToken::new();
        // Ends what is being unpacked when the future is dropped.
        let _cancelled = cancel.clone().drop_guard();
        let mut pull = Pull {
            store: self,
            reference,
            progress: &progress,
            sources: sources(&self.options().registries.endpoints(reference), credentials),
            keep_blobs: options.keep_blobs.unwrap_or(self.options().keep_blobs),
            cancel,
        };
        let pulled = async {
            let resolved = Box::pin(pull.resolve()).await.map_err(|source| Error::Resolve {
                reference: reference.to_string(),
                source: Box::new(source),
            })?;
            Box::pin(pull.fetch(resolved, options)).await
        };
        pulled
            .await
            .map_err(|source| Error::Pull { reference: reference.to_string(), source: Box::new(source) })
    }
}

/// Everybody to ask, as everybody that may.
fn sources(endpoints: &[crate::registries::Endpoint], credentials: &[Credential]) -> Vec<Source> {
    let mut sources = Vec::new();
    for endpoint in endpoints {
        let own = &endpoint.host.credential;
        let mut who: Vec<Option<Credential>> = Vec::new();
        // A mirror that has credentials of its own gets no others, nor does one that would show them to the network.
        let trusted = endpoint.mirrors.is_none() || own.is_none() && endpoint.base.https;
        if trusted {
            who.extend(credentials.iter().cloned().map(Some));
        }
        who.extend(own.iter().cloned().map(Some));
        if who.is_empty() {
            who.push(None);
        }
        sources.extend(who.into_iter().map(|credential| Source { endpoint: endpoint.clone(), credential }));
    }
    sources
}

impl Pull<'_> {
    /// Finds the manifest for this machine, and puts the source that has it first.
    async fn resolve(&mut self) -> Result<Resolved> {
        let name = self.reference.to_string();
        let wanted = match (self.reference.digest(), self.reference.tag()) {
            (Some(digest), _) => digest.as_str(),
            (None, tag) => tag.unwrap_or("latest"),
        };
        let path = format!("manifests/{wanted}");
        let mut failed: Vec<(String, Error)> = Vec::new();
        let mut found = None;
        for (at, source) in self.sources.iter().enumerate() {
            let url = source.endpoint.base.url();
            match self.document(source, &name, &path, self.reference.digest()).await {
                Ok(document) => {
                    found = Some((at, document));
                    break;
                }
                // The same registry is asked without TLS next.
                Err(Error::Unreachable { .. }) if source.endpoint.try_plain_next => {}
                Err(error) => {
                    // With other credentials it may have been more; the last word counts for each.
                    failed.retain(|(other, _)| *other != url);
                    failed.push((url, error));
                }
            }
        }
        let Some((at, (bytes, digest, document))) = found else { return Err(told(failed, &name)) };
        let best = self.sources.remove(at);
        // Who is believed there, and whether it speaks TLS, is known now.
        self.sources.retain(|source| source.endpoint.base.authority != best.endpoint.base.authority);
        self.sources.insert(0, best);
        match document {
            Document::Manifest(manifest) => Ok(Resolved {
                digest: digest.clone(),
                manifest,
                manifest_digest: digest,
                manifest_bytes: bytes,
            }),
            Document::Index(index) => {
                let chosen = index.choose(&self.store.options().platform)?;
                let path = format!("manifests/{}", chosen.digest);
                let (bytes, manifest_digest, document) =
                    self.any(|source| self.document(source, &name, &path, Some(&chosen.digest))).await?;
                match document {
                    Document::Manifest(manifest) => {
                        Ok(Resolved { digest, manifest, manifest_digest, manifest_bytes: bytes })
                    }
                    Document::Index(_) => {
                        Err(Error::invalid(format!("the index of {name}"), "it names an index"))
                    }
                }
            }
        }
    }

    /// The first good answer, or what everybody said.
    async fn any<'s, T, F: Future<Output = Result<T>>>(&'s self, ask: impl Fn(&'s Source) -> F) -> Result<T> {
        let mut failed = Vec::new();
        for source in &self.sources {
            match ask(source).await {
                Ok(answer) => return Ok(answer),
                Err(error) => failed.push((source.endpoint.base.url(), error)),
            }
        }
        Err(told(failed, &self.reference.to_string()))
    }

    async fn document(
        &self,
        source: &Source,
        what: &str,
        path: &str,
        expected: Option<&Digest>,
    ) -> Result<(bytes::Bytes, Digest, Document)> {
        let (bytes, media_type) = self.small(source, what, path, Some(ACCEPT), LARGEST_MANIFEST).await?;
        let digest = check(what, &bytes, expected)?;
        let document = Document::parse(&format!("the manifest of {what}"), &media_type, &bytes)?;
        Ok((bytes, digest, document))
    }

    /// Something that fits into memory; a server that stumbles is asked again.
    async fn small(
        &self,
        source: &Source,
        what: &str,
        path: &str,
        accept: Option<&'static str>,
        limit: u64,
    ) -> Result<(bytes::Bytes, String)> {
        let query = Query {
            endpoint: &source.endpoint,
            credential: source.credential.as_ref(),
            what,
            path,
            accept,
            from: 0,
        };
        let mut attempt = 1;
        loop {
            match self.store.registry().get_bytes(&query, limit).await {
                // Whoever does not listen now is tried again by those who pull; they know how long to wait.
                Err(error @ Error::Status { .. }) if attempt < ATTEMPTS && is_transient(&error) => {
                    attempt += 1;
                    tokio::time::sleep(self.store.options().retries().delay_before(attempt)).await;
                }
                answer => return answer,
            }
        }
    }

    /// Fetches what is missing and enters the image into the record.
    async fn fetch(&self, resolved: Resolved, options: &PullOptions) -> Result<Image> {
        let Resolved { digest, manifest, manifest_digest, manifest_bytes } = resolved;
        let layers = manifest.layers.len();
        self.progress.event(Event::Resolved { digest: digest.clone(), layers });
        let (config_bytes, config) = self.config(&manifest).await?;
        let needs = assemble::needs(&manifest, &manifest_digest, &config);
        let work = self.store.blocking(move |store| store.work_that_needs(&needs)).await?;
        let work = Arc::new(work);

        // Whoever pulls the same meanwhile finds all of it afterwards.
        let turn = self.store.flights().turn(&manifest_digest).await;
        let chain = assemble::chain(&config.diff_ids);
        let parts = manifest.layers.iter().zip(&config.diff_ids).zip(&chain).enumerate();
        // A list, and not what is made on the way: so the pull can go from one thread to another.
        let fetches: Vec<BoxFuture<'_, Result<LayerState>>> = parts
            .map(|(at, ((blob, diff_id), chain_id))| self.layer(&work, at, blob, diff_id, chain_id).boxed())
            .collect();
        let states: Vec<LayerState> = stream::iter(fetches)
            .buffered(self.store.options().parallel_downloads.max(1))
            .try_collect()
            .await?;

        let mut repo_digest = self.reference.by_digest(digest);
        let tag = match self.reference.digest() {
            Some(asked) => {
                repo_digest = self.reference.by_digest(asked.clone());
                None
            }
            None => Some(self.reference.to_string()),
        };
        let pin = options.pin;
        let entered = self.store.blocking(move |store| {
            let directory = store.directory();
            assemble::keep_bytes(directory, &work, &manifest_digest, &manifest_bytes)?;
            assemble::keep_bytes(directory, &work, &manifest.config.digest, &config_bytes)?;
            let layers = assemble::settle(directory, states, &config.diff_ids)?;
            let size = manifest_bytes.len() as u64;
            let (id, mut entry) =
                assemble::entry(directory, &manifest, manifest_digest, size, config, layers, now_ns());
            entry.references.extend(tag);
            entry.repo_digests.push(repo_digest.to_string());
            entry.pinned = pin;
            let image = store.enter(id, entry)?;
            drop(work);
            Ok(image)
        });
        let image = entered.await?;
        drop(turn);
        Ok(image)
    }

    async fn config(&self, manifest: &Manifest) -> Result<(bytes::Bytes, Config)> {
        let blob = &manifest.config;
        let what = blob.digest.to_string();
        if blob.size > LARGEST_CONFIG {
            return Err(Error::TooLarge { what, limit: LARGEST_CONFIG });
        }
        let path = format!("blobs/{}", blob.digest);
        let kept = self.store.directory().blob(&blob.digest);
        let here = self.store.blocking(move |_| Ok(std::fs::read(kept).ok())).await?;
        let bytes = match here.filter(|bytes| Digest::of(bytes) == blob.digest) {
            Some(bytes) => bytes::Bytes::from(bytes),
            None => self
                .any(async |source| {
                    let (bytes, _) = self.small(source, &what, &path, None, LARGEST_CONFIG).await?;
                    check(&what, &bytes, Some(&blob.digest))?;
                    Ok(bytes)
                })
                .await
                .map_err(|source| Error::Copy { what: format!("config {what}"), source: Box::new(source) })?,
        };
        let config = Config::parse(&bytes, manifest.layers.len())?;
        let here = &self.store.options().platform;
        if !config.platform.architecture.is_empty() && here.fitness(&config.platform).is_none() {
            return Err(Error::NoPlatform { platform: here.to_string() });
        }
        Ok((bytes, config))
    }

    /// One layer, which is here already, or is fetched and unpacked.
    async fn layer(
        &self,
        work: &Arc<Work>,
        at: usize,
        blob: &Descriptor,
        diff_id: &Digest,
        chain_id: &Digest,
    ) -> Result<LayerState> {
        let _turn = self.store.flights().turn(diff_id).await;
        let directory = self.store.directory();
        let kept_blob = directory.blob(&blob.digest);
        let there = assemble::present(directory, diff_id, chain_id)?;
        if let Some(layer) = there.clone().filter(|_| !self.keep_blobs || kept_blob.exists()) {
            self.progress.event(Event::Present { layer: blob.digest.clone() });
            return Ok(LayerState::Kept(layer));
        }
        let archive = if kept_blob.exists() {
            kept_blob
        } else {
            let made = work.place(&format!("blob-{at}"));
            let retries = self.store.options().retries();
            let downloaded =
                download(self.store.registry(), &self.sources, blob, &made, retries, self.progress.as_ref());
            downloaded.await.map_err(|source| Error::Copy {
                what: format!("layer {}", blob.digest),
                source: Box::new(source),
            })?;
            made
        };
        if there.is_none() {
            self.progress.event(Event::Unpacking { layer: blob.digest.clone() });
        }
        let (work, digest, diff_id) = (work.clone(), blob.digest.clone(), diff_id.clone());
        let (cancel, keep_blobs, lowest) = (self.cancel.clone(), self.keep_blobs, at == 0);
        let state = self.store.blocking(move |store| {
            let directory = store.directory();
            let state = match there {
                Some(layer) => LayerState::Kept(layer),
                None => assemble::unpack_layer(directory, &work, &archive, &diff_id, lowest, &cancel)?,
            };
            let made = archive != directory.blob(&digest);
            if made && keep_blobs {
                directory.keep_blob(&archive, &digest)?;
            } else if made {
                std::fs::remove_file(&archive).map_err(Error::io("removing a layer that is unpacked"))?;
            }
            Ok(state)
        });
        let state = state.await?;
        let bytes = match &state {
            LayerState::Kept(layer) => layer.bytes,
            LayerState::Waiting { unpacked, .. } => unpacked.bytes,
        };
        self.progress.event(Event::Unpacked { layer: blob.digest.clone(), bytes });
        Ok(state)
    }
}

/// What all said who were asked; of one alone, that.
fn told(mut failed: Vec<(String, Error)>, name: &str) -> Error {
    match failed.pop() {
        Some((_, error)) if failed.is_empty() => error,
        Some(last) => Error::Endpoints(failed.into_iter().chain([last]).collect()),
        None => Error::NotFound(name.to_owned()),
    }
}

fn check(what: &str, bytes: &[u8], expected: Option<&Digest>) -> Result<Digest> {
    let found = Digest::of(bytes);
    match expected {
        Some(expected) if *expected != found => {
            Err(Error::WrongDigest { what: what.to_owned(), found, expected: expected.clone() })
        }
        _ => Ok(found),
    }
}
