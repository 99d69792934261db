//! Watches as they go over the wire: one frame for each event, encoded once for all who want it in the same form. Must never
//! hold events back, nor read ahead of the client.

use barque_api::protobuf;
use barque_api::status::Status;
use bytes::Bytes;
use futures::stream;
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::answer::{self, Body, encoded};
use super::negotiation::{Encoding, View};
use super::views::Teller;
use crate::storage::Revision;
use crate::table::IncludeObject;
use crate::watch_cache::event::{Form, Kind};
use crate::watch_cache::object::Object;
use crate::watch_cache::watcher::{Told, Watcher};

/// The frames of a watch, one after another.
pub struct Frames {
    watcher: Watcher,
    teller: Teller,
    /// Rows of a table come with their columns once.
    columns_told: bool,
    over: bool,
    stop: CancellationToken,
}

impl Frames {
    /// Those of `watcher`, until it or `stop` ends them.
    #[must_use]
    pub fn new(watcher: Watcher, teller: Teller, stop: CancellationToken) -> Self {
        Self { watcher, teller, columns_told: false, over: false, stop }
    }

    /// The next frame; nothing when the watch is over.
    pub async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        let told = tokio::select! {
            biased;
            () = self.stop.cancelled() => return None,
            // Its kind has another definition: the client goes on from where it is, with that.
            () = self.teller.served.ended() => return None,
            told = self.watcher.next() => told?,
        };
        let framed = match self.asks(&told) {
            // A webhook has the object for as long as it likes: nobody else's frame is held up by that.
            Some((kind, object, revision)) => self.asked(kind, object, revision).await,
            None => self.frame(&told),
        };
        match framed {
            Ok(frame) => {
                self.over = matches!(told, Told::Error(_));
                Some(frame)
            }
            Err(status) => {
                self.over = true;
                self.error(&status).ok()
            }
        }
    }

    /// The object, if it is converted by somebody else.
    fn asks<'a>(&self, told: &'a Told) -> Option<(Kind, &'a Object, Revision)> {
        self.teller.served.converter()?;
        match told {
            Told::Object { kind, object, revision, .. } => Some((*kind, object, *revision)),
            Told::Bookmark { .. } | Told::Error(_) => None,
        }
    }

    async fn asked(&mut self, kind: Kind, object: &Object, revision: Revision) -> Result<Bytes, Status> {
        let value = self.teller.value(object, revision).await?;
        let is_table = self.teller.form.view == View::Table;
        let columns = is_table && !std::mem::replace(&mut self.columns_told, true);
        self.encode(kind.name(), &self.teller.view(value, columns))
    }

    fn frame(&mut self, told: &Told) -> Result<Bytes, Status> {
        match told {
            Told::Error(status) => self.error(status),
            Told::Bookmark { revision, initial_events_end } => self.bookmark(*revision, *initial_events_end),
            Told::Object { kind, object, revision, event } => {
                let is_table = self.teller.form.view == View::Table;
                match event.as_ref().filter(|_| !is_table) {
                    Some(event) => {
                        let form = form_number(&self.teller);
                        event.frame(form, *kind, || self.object(*kind, object, *revision, false))
                    }
                    None => {
                        let columns = is_table && !std::mem::replace(&mut self.columns_told, true);
                        self.object(*kind, object, *revision, columns)
                    }
                }
            }
        }
    }

    fn object(
        &self,
        kind: Kind,
        object: &Object,
        revision: Revision,
        columns: bool,
    ) -> Result<Bytes, Status> {
        let plain = self.teller.form.encoding == Encoding::Json
            && self.teller.form.view == View::Object
            && !self.teller.served.is_custom()
            && self.teller.served.versions.len() == 1;
        if plain {
            let mut out = Vec::with_capacity(object.stored().len() + 64);
            out.extend_from_slice(b"{\"type\":\"");
            out.extend_from_slice(kind.name().as_bytes());
            out.extend_from_slice(b"\",\"object\":");
            object.write_json(revision, &mut out);
            out.extend_from_slice(b"}\n");
            return Ok(out.into());
        }
        let value = self.teller.value_here(object, revision)?;
        self.encode(kind.name(), &self.teller.view(value, columns))
    }

    fn bookmark(&mut self, revision: Revision, initial_events_end: bool) -> Result<Bytes, Status> {
        let served = &self.teller.served;
        let mut object = json!({
            "kind": &*served.kind.kind,
            "apiVersion": served.api_version(),
            "metadata": {"resourceVersion": revision.to_string()},
        });
        if initial_events_end {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let told = match self.teller.form.view {
            View::Object => object,
            View::Metadata => super::views::metadata_of(&object),
            View::Table => {
                let columns = !std::mem::replace(&mut self.columns_told, true);
                let metadata = json!({"resourceVersion": revision.to_string()});
                let teller = Teller { include: IncludeObject::Metadata, ..self.teller.clone() };
                teller.table(columns, metadata, &[object])
            }
        };
        self.encode("BOOKMARK", &told)
    }

    fn error(&self, status: &Status) -> Result<Bytes, Status> {
        self.encode("ERROR", &status.to_value())
    }

    fn encode(&self, name: &str, object: &Value) -> Result<Bytes, Status> {
        match self.teller.form.encoding {
            Encoding::Json => {
                let mut frame = json!({"type": name, "object": object}).to_string();
                frame.push('\n');
                Ok(frame.into())
            }
            Encoding::Yaml => {
                let text = encoded(&json!({"type": name, "object": object}), Encoding::Yaml)?;
                Ok([b"---\n", &text[..]].concat().into())
            }
            Encoding::Protobuf => {
                let object = encoded(object, Encoding::Protobuf)?;
                Ok(protobuf::watch_frame(name, &object).into())
            }
        }
    }
}

/// Tells apart the forms in which watchers of one collection want its events.
fn form_number(teller: &Teller) -> Form {
    let served = &teller.served;
    let version = served.versions.iter().position(|kind| *kind == served.kind).unwrap_or_default();
    let encoding = match teller.form.encoding {
        Encoding::Json => 0,
        Encoding::Yaml => 1,
        Encoding::Protobuf => 2,
    };
    let view = u32::from(teller.form.view == View::Metadata);
    Form((u32::try_from(version).unwrap_or(u32::MAX >> 8) << 4) | (encoding << 1) | view)
}

/// What the frames of a watch are.
#[must_use]
pub const fn media_type(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Json => "application/json",
        Encoding::Yaml => "application/yaml;stream=watch",
        Encoding::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
    }
}

/// The answer that a watch is.
#[must_use]
pub fn answer(frames: Frames) -> Response<Body> {
    let content_type = media_type(frames.teller.form.encoding);
    let frames = stream::unfold(frames, |mut frames| async move {
        let frame = frames.next().await?;
        Some((Ok(Frame::data(frame)), frames))
    });
    answer::with(StatusCode::OK, content_type, StreamBody::new(frames).boxed_unsync())
}
