//! Documents that tell clients what is served: discovery in both forms, OpenAPI in both versions, the version. Made once for
//! each state of the catalog, and only when somebody asks. Must never tell of anything that is not served.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use barque_api::kind::GroupVersion;
use barque_api::openapi::{Source, v2, v3};
use barque_api::status::{Reason, Status};
use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, EXPIRES, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::answer::{self, Body};
use super::parameters::Parameters;
use crate::discovery::{self, Elsewhere};
use crate::metrics::PartMetrics;
use crate::registry::collections::Catalog;
use crate::registry::served::Shape;
use crate::storage::Storage;

/// The release of Kubernetes whose API is served.
pub const MINOR: &str = "37";
/// The same, as clients read it.
pub const VERSION: &str = concat!("v1.37.0+barque", ".", env!("CARGO_PKG_VERSION"));

/// The name of OpenAPI's protobuf is no media type, as it has an `@`: clients that ask for it read this one.
const OPENAPI_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const JSON: &str = "application/json";

/// Bytes with what tells them from others.
#[derive(Clone, Debug)]
struct Document {
    bytes: Bytes,
    hash: String,
}

impl Document {
    fn of(value: &Value) -> Self {
        Self::of_bytes(value.to_string().into())
    }

    fn of_bytes(bytes: Bytes) -> Self {
        let hash = v3::hash(&bytes);
        Self { bytes, hash }
    }
}

/// Everything that can be told of one state of the catalog and of what others serve.
struct Edition {
    generations: (u64, u64),
    elsewhere: Arc<Elsewhere>,
    groups: Vec<discovery::Group>,
    core: Document,
    others: Document,
    source: Source,
    v2: OnceLock<(Document, Document)>,
    v3: Mutex<HashMap<GroupVersion, Document>>,
    v3_index: OnceLock<Document>,
}

/// Tells what is served.
#[derive(Default)]
pub struct Documents(ArcSwapOption<Edition>);

/// A request for a document.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Without a slash at its end.
    pub path: &'a str,
    /// Its options.
    pub parameters: &'a Parameters,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Where clients find this server.
    pub address: &'a str,
    /// The other parts of this process, which have paths too.
    pub parts: &'a PartMetrics,
}

impl Documents {
    fn edition<S: Storage>(&self, catalog: &Catalog<S>, elsewhere: &Arc<Elsewhere>) -> Arc<Edition> {
        if let Some(edition) = &*self.0.load()
            && edition.generations == (catalog.generation, elsewhere.generation)
        {
            return Arc::clone(edition);
        }
        let made = Arc::new(Edition::of(catalog, Arc::clone(elsewhere)));
        self.0.store(Some(Arc::clone(&made)));
        made
    }

    /// The document at this path; nothing when there is none. Documents of one version that is served elsewhere are asked for
    /// there, and are not here.
    ///
    /// # Errors
    /// 404 for groups and versions that are not served, 406 for forms that there are not.
    pub fn answer<S: Storage>(
        &self,
        asked: Asked<'_>,
        catalog: &Catalog<S>,
        elsewhere: &Arc<Elsewhere>,
    ) -> Result<Option<Response<Body>>, Status> {
        let parts: Vec<&str> = asked.path.trim_matches('/').split('/').collect();
        let edition = self.edition(catalog, elsewhere);
        Ok(Some(match parts.as_slice() {
            [""] => answer::json(&json!({"paths": edition.paths(asked.parts)})),
            ["version"] => answer::json(&version()),
            ["api"] => match wants_aggregated(asked.headers) {
                true => cached(&edition.core, AGGREGATED, asked.headers),
                false => answer::json(&discovery::api_versions(&edition.groups, asked.address)),
            },
            ["apis"] => match wants_aggregated(asked.headers) {
                true => cached(&edition.others, AGGREGATED, asked.headers),
                false => answer::json(&discovery::groups(&edition.groups)),
            },
            ["api", version] => answer::json(&discovery::resources(edition.version("", version)?)),
            ["apis", name] => {
                let group = edition.groups.iter().find(|group| &*group.name == *name);
                answer::json(&discovery::group(group.ok_or_else(Status::no_such_path)?))
            }
            ["apis", group, version] if !group.is_empty() => {
                answer::json(&discovery::resources(edition.version(group, version)?))
            }
            ["openapi", "v2"] => edition.openapi_v2(asked.headers)?,
            ["openapi", "v3"] => cached(edition.openapi_index(), JSON, asked.headers),
            ["openapi", "v3", "api", version] => edition.openapi_v3("", version, asked)?,
            ["openapi", "v3", "apis", group, version] => edition.openapi_v3(group, version, asked)?,
            _ => return Ok(None),
        }))
    }
}

impl Edition {
    fn of<S: Storage>(catalog: &Catalog<S>, elsewhere: Arc<Elsewhere>) -> Self {
        let resources = catalog.endpoints.iter().map(|one| Arc::clone(&one.served.resource));
        let groups = discovery::catalog(resources, &elsewhere);
        let mut source = Source::builtin();
        for endpoint in &catalog.endpoints {
            if let Shape::Custom(shape) = &endpoint.served.shape {
                let any = barque_api::schema::Schema { preserve_unknown: true, ..Default::default() };
                let schema = shape.schema.as_ref().map_or(&any, |schema| schema.schema());
                source.add_custom(Arc::clone(&endpoint.served.resource), schema);
            }
        }
        Self {
            generations: (catalog.generation, elsewhere.generation),
            elsewhere,
            core: Document::of(&discovery::aggregated(&groups, true)),
            others: Document::of(&discovery::aggregated(&groups, false)),
            groups,
            source,
            v2: OnceLock::new(),
            v3: Mutex::default(),
            v3_index: OnceLock::new(),
        }
    }

    fn version(&self, group: &str, version: &str) -> Result<&discovery::Version, Status> {
        let group = self.groups.iter().find(|one| &*one.name == group);
        group
            .and_then(|group| group.versions.iter().find(|one| &*one.group_version.version == version))
            .ok_or_else(Status::no_such_path)
    }

    fn paths(&self, parts: &PartMetrics) -> Vec<String> {
        let mut paths: Vec<String> =
            ["/api", "/apis", "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3"]
                .map(str::to_owned)
                .to_vec();
        paths.extend(parts.paths());
        paths.extend(["/readyz", "/ui", "/ui/masters", "/version"].map(str::to_owned));
        for group in &self.groups {
            let of_group =
                if group.name.is_empty() { "/api".to_owned() } else { format!("/apis/{}", group.name) };
            for version in &group.versions {
                paths.push(format!("{of_group}/{}", version.group_version.version));
            }
            if !group.name.is_empty() {
                paths.push(of_group);
            }
        }
        paths.sort();
        paths
    }

    fn openapi_v2(&self, headers: &HeaderMap) -> Result<Response<Body>, Status> {
        let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let protobuf = [v2::PROTOBUF, OPENAPI_PROTOBUF].iter().any(|name| accept.contains(name));
        let json = accept.is_empty() || accept.contains("json") || accept.contains("*/*");
        if !protobuf && !json {
            return Err(Status::new(
                Reason::NotAcceptable,
                format!("only the following media types are accepted: {JSON}, {}", v2::PROTOBUF),
            ));
        }
        let (as_json, as_protobuf) = self.v2.get_or_init(|| {
            let document = v2::document(&self.source, VERSION);
            (Document::of(&document), Document::of_bytes(v2::to_protobuf(&document).into()))
        });
        Ok(match protobuf {
            true => cached(as_protobuf, OPENAPI_PROTOBUF, headers),
            false => cached(as_json, JSON, headers),
        })
    }

    fn openapi_document(&self, of: &GroupVersion) -> Document {
        let mut made = self.v3.lock();
        let document =
            made.entry(of.clone()).or_insert_with(|| Document::of(&v3::document(&self.source, of, VERSION)));
        document.clone()
    }

    fn openapi_index(&self) -> &Document {
        self.v3_index.get_or_init(|| {
            let versions: Vec<_> = self.source.group_versions().into_iter().collect();
            let hashes: Vec<_> = versions.iter().map(|of| self.openapi_document(of).hash).collect();
            let index = versions.iter().zip(hashes.iter().map(String::as_str));
            let mut index = v3::index(index);
            for told in &self.elsewhere.versions {
                if let Some(url) = &told.openapi {
                    index["paths"][v3::path_of(&told.group_version)] = json!({"serverRelativeURL": url});
                }
            }
            Document::of(&index)
        })
    }

    fn openapi_v3(&self, group: &str, version: &str, asked: Asked<'_>) -> Result<Response<Body>, Status> {
        let of = GroupVersion::new(group, version);
        if !self.source.group_versions().contains(&of) {
            return Err(Status::no_such_path());
        }
        let document = self.openapi_document(&of);
        let wanted = asked.parameters.text("hash");
        if !wanted.is_empty() && wanted != document.hash {
            let path = format!("/openapi/v3/{}?hash={}", v3::path_of(&of), document.hash);
            let mut response = answer::with(StatusCode::MOVED_PERMANENTLY, JSON, answer::whole(""));
            if let Ok(location) = HeaderValue::from_str(&path) {
                response.headers_mut().insert(http::header::LOCATION, location);
            }
            return Ok(response);
        }
        let mut response = cached(&document, JSON, asked.headers);
        if !wanted.is_empty() {
            let headers = response.headers_mut();
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable, max-age=31536000"));
            headers.remove(EXPIRES);
        }
        Ok(response)
    }
}

fn wants_aggregated(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.split(',').any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next();
        let parameters: Vec<&str> = parts.collect();
        media_type == Some(JSON)
            && ["g=apidiscovery.k8s.io", "v=v2", "as=APIGroupDiscoveryList"]
                .iter()
                .all(|wanted| parameters.contains(wanted))
    })
}

/// The document, or that the client has it already.
fn cached(document: &Document, content_type: &str, headers: &HeaderMap) -> Response<Body> {
    let tag = format!("\"{}\"", document.hash);
    let known = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let mut response = if known.is_some_and(|known| known.split(',').any(|one| one.trim() == tag)) {
        let mut response = Response::new(answer::whole(""));
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        answer::with(StatusCode::OK, content_type, answer::whole(document.bytes.clone()))
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public"));
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(ETAG, tag);
    }
    if let Ok(content_type) = HeaderValue::from_str(content_type) {
        headers.insert(CONTENT_TYPE, content_type);
    }
    response
}

/// `/version`
#[must_use]
pub fn version() -> Value {
    json!({
        "major": "1",
        "minor": MINOR,
        "gitVersion": VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, go_architecture(std::env::consts::ARCH)),
    })
}

/// What Go calls an architecture: clients compare it with image platforms.
fn go_architecture(name: &str) -> &str {
    match name {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
