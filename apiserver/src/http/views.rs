//! Objects in the form that a client wants: whole, as rows of a table, or their metadata alone; one by one or as a list that
//! is written while it is sent. Objects in their stored version are passed on as the bytes that they are. Must never read the
//! store.

use std::sync::Arc;

use barque_api::protobuf::{self, Messages};
use barque_api::status::Status;
use barque_api::time::Time;
use bytes::Bytes;
use futures::FutureExt as _;
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::answer::{self, Body, Pieces};
use super::negotiation::{Encoding, Form, View};
use crate::registry::collections::parse;
use crate::registry::served::{Served, Shape};
use crate::storage::Revision;
use crate::table::{self, IncludeObject, Now};
use crate::watch_cache::object::Object;
use crate::watch_cache::page::ObjectList;

/// Pieces of a list are at least so large, so that each is worth sending.
const PIECE_BYTES: usize = 64 << 10;

/// How objects are told to a client.
#[derive(Clone)]
pub struct Teller {
    /// What they are.
    pub served: Arc<Served>,
    /// The form.
    pub form: Form,
    /// What stands in rows.
    pub include: IncludeObject,
    /// For ages.
    pub now: Time,
}

impl Teller {
    /// The object of the cache in the version of the request.
    ///
    /// # Errors
    /// When it cannot be read or converted.
    pub async fn value(&self, object: &Object, revision: Revision) -> Result<Value, Status> {
        let mut value = parse(object)?;
        if revision != object.revision() {
            value["metadata"]["resourceVersion"] = revision.to_string().into();
        }
        self.served.of_stored(value).await
    }

    /// The same for kinds that are converted without asking anybody.
    ///
    /// # Errors
    /// When it cannot be read or converted.
    pub fn value_here(&self, object: &Object, revision: Revision) -> Result<Value, Status> {
        // A future that has nothing to wait for is ready at once.
        self.value(object, revision)
            .now_or_never()
            .unwrap_or_else(|| Err(Status::internal("the kind is converted by a webhook")))
    }

    /// Whether the stored bytes are what the client wants.
    const fn passes_bytes(&self) -> bool {
        matches!(self.form, Form { encoding: Encoding::Json, view: View::Object })
    }

    fn converts(&self) -> bool {
        self.served.is_custom() || self.served.versions.len() > 1
    }

    fn row(&self, value: &Value) -> Value {
        let kind = &self.served.kind;
        let now = Now { seconds: self.now.unix() };
        match &self.served.shape {
            Shape::Builtin(_) => table::row(&kind.group, &kind.kind, value, self.include, now),
            Shape::Custom(shape) => table::row_of(shape.columns.cells(value, now), value, self.include),
        }
    }

    /// The columns and rows of some objects.
    #[must_use]
    pub fn table(&self, with_columns: bool, metadata: Value, objects: &[Value]) -> Value {
        let kind = &self.served.kind;
        let columns = match &self.served.shape {
            _ if !with_columns => Vec::new(),
            Shape::Builtin(_) => table::definitions(&kind.group, &kind.kind),
            Shape::Custom(shape) => shape.columns.definitions(),
        };
        let rows = objects.iter().map(|object| self.row(object)).collect();
        table::table(columns, metadata, rows)
    }

    /// One object in the client's form, as a value.
    #[must_use]
    pub fn view(&self, value: Value, with_columns: bool) -> Value {
        match self.form.view {
            View::Object => value,
            View::Metadata => metadata_of(&value),
            View::Table => {
                let metadata = json!({"resourceVersion": value["metadata"]["resourceVersion"]});
                self.table(with_columns, metadata, &[value])
            }
        }
    }

    /// The answer with one object.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn answer(&self, code: StatusCode, value: Value) -> Result<Response<Body>, Status> {
        answer::object(code, &self.view(value, true), self.form.encoding)
    }

    /// The answer with one object of the cache.
    ///
    /// # Errors
    /// When it cannot be read, converted or encoded.
    pub async fn answer_cached(&self, object: &Object) -> Result<Response<Body>, Status> {
        if self.passes_bytes() && !self.converts() {
            let mut out = Vec::new();
            object.write_json(object.revision(), &mut out);
            return Ok(answer::with(StatusCode::OK, Encoding::Json.media_type(), answer::whole(out)));
        }
        self.answer(StatusCode::OK, self.value(object, object.revision()).await?)
    }

    /// The answer with a list.
    ///
    /// # Errors
    /// When an object cannot be read, converted or encoded.
    pub async fn list(&self, list: ObjectList) -> Result<Response<Body>, Status> {
        let metadata = list_metadata(&list);
        match (self.form.view, self.form.encoding) {
            (View::Object, Encoding::Json) => self.json_list(list, &metadata).await,
            (View::Object, Encoding::Protobuf) => self.protobuf_list(&list, &metadata).await,
            (View::Object, Encoding::Yaml) => {
                let items = self.values(&list).await?;
                let whole = json!({
                    "apiVersion": self.served.api_version(),
                    "kind": self.served.resource.list_kind(),
                    "metadata": metadata,
                    "items": items,
                });
                answer::object(StatusCode::OK, &whole, Encoding::Yaml)
            }
            (View::Metadata, encoding) => {
                let items: Vec<Value> = self.values(&list).await?.iter().map(metadata_of).collect();
                let whole = json!({
                    "kind": "PartialObjectMetadataList",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": metadata,
                    "items": items,
                });
                answer::object(StatusCode::OK, &whole, encoding)
            }
            (View::Table, encoding) => {
                let objects = self.values(&list).await?;
                answer::object(StatusCode::OK, &self.table(true, metadata, &objects), encoding)
            }
        }
    }

    /// The answer with a list of objects that are not kept but made for it.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn computed(&self, objects: Vec<Value>) -> Result<Response<Body>, Status> {
        let whole = match self.form.view {
            View::Table => self.table(true, json!({}), &objects),
            View::Object => json!({
                "kind": self.served.resource.list_kind(),
                "apiVersion": self.served.api_version(),
                "metadata": {},
                "items": objects,
            }),
            View::Metadata => json!({
                "kind": "PartialObjectMetadataList",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": {},
                "items": objects.iter().map(metadata_of).collect::<Vec<Value>>(),
            }),
        };
        answer::object(StatusCode::OK, &whole, self.form.encoding)
    }

    /// All objects of a list, converted together.
    ///
    /// # Errors
    /// When one cannot be read or converted.
    pub async fn values(&self, list: &ObjectList) -> Result<Vec<Value>, Status> {
        let values: Result<Vec<Value>, Status> = list.objects.iter().map(|object| parse(object)).collect();
        self.served.all_of_stored(values?).await
    }

    /// Written while it is sent: memory does not grow with the list, nor with the number of lists.
    async fn json_list(&self, list: ObjectList, metadata: &Value) -> Result<Response<Body>, Status> {
        let api_version = self.served.api_version();
        let kind = self.served.resource.list_kind();
        let head = json!({"kind": kind, "apiVersion": api_version, "metadata": metadata}).to_string();
        let mut head = head.trim_end_matches('}').to_owned();
        // The metadata is the last of the three: its brace was trimmed as well.
        head.push_str("},\"items\":[");
        let mut pending = head.into_bytes();
        if self.converts() {
            // What cannot be converted is to be known before the first byte is sent.
            for (place, value) in self.values(&list).await?.iter().enumerate() {
                if place > 0 {
                    pending.push(b',');
                }
                serde_json::to_writer(&mut pending, value).map_err(Status::internal)?;
            }
            pending.extend_from_slice(b"]}\n");
            return Ok(answer::with(StatusCode::OK, Encoding::Json.media_type(), answer::whole(pending)));
        }
        let mut objects = list.objects.into_iter().enumerate();
        let mut ended = false;
        let pieces = std::iter::from_fn(move || {
            if ended {
                return None;
            }
            let mut piece = std::mem::take(&mut pending);
            for (place, object) in objects.by_ref() {
                if place > 0 {
                    piece.push(b',');
                }
                object.write_json(object.revision(), &mut piece);
                if piece.len() >= PIECE_BYTES {
                    return Some(Bytes::from(piece));
                }
            }
            ended = true;
            piece.extend_from_slice(b"]}\n");
            Some(Bytes::from(piece))
        });
        let body = Pieces(Box::new(pieces)).boxed_unsync();
        Ok(answer::with(StatusCode::OK, Encoding::Json.media_type(), body))
    }

    async fn protobuf_list(&self, list: &ObjectList, metadata: &Value) -> Result<Response<Body>, Status> {
        let message = Messages::builtin().of_kind(&self.served.kind);
        let message = message.ok_or_else(|| Status::internal("the kind has no protobuf"))?;
        let mut items = Vec::with_capacity(list.objects.len());
        for value in self.values(list).await? {
            items.push(message.encode(&value).map_err(Status::internal)?);
        }
        let kind = self.served.resource.list_kind();
        let parts = items.iter().map(Vec::as_slice);
        let bytes = protobuf::encode_list(&self.served.api_version(), &kind, metadata, parts);
        let body = answer::whole(bytes.map_err(Status::internal)?);
        Ok(answer::with(StatusCode::OK, Encoding::Protobuf.media_type(), body))
    }
}

/// The metadata of a list.
fn list_metadata(list: &ObjectList) -> Value {
    let mut metadata = json!({"resourceVersion": list.revision.to_string()});
    if !list.continue_token.is_empty() {
        metadata["continue"] = list.continue_token.as_str().into();
    }
    if let Some(remaining) = list.remaining {
        metadata["remainingItemCount"] = remaining.into();
    }
    metadata
}

/// An object's metadata alone.
#[must_use]
pub fn metadata_of(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").unwrap_or(&Value::Null),
    })
}
