//! Which form of an answer a client can read: the header `Accept` with Kubernetes' parameters (`as=Table`), and what a body's
//! `Content-Type` is. Must never encode anything.

/// How bytes are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `application/json`
    Json,
    /// `application/yaml`
    Yaml,
    /// `application/vnd.kubernetes.protobuf`
    Protobuf,
}

impl Encoding {
    /// The media type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    fn of(media_type: &str) -> Option<Self> {
        Some(match media_type {
            "application/json" | "text/json" => Self::Json,
            "application/yaml" | "text/yaml" | "application/x-yaml" => Self::Yaml,
            "application/vnd.kubernetes.protobuf" => Self::Protobuf,
            _ => return None,
        })
    }
}

/// What is told of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum View {
    /// All of it.
    Object,
    /// Columns for people (`meta.k8s.io/v1` Table).
    Table,
    /// Its metadata alone (`meta.k8s.io/v1` PartialObjectMetadata; lists of it for collections).
    Metadata,
}

/// The form that an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    /// How.
    pub encoding: Encoding,
    /// What.
    pub view: View,
}

impl Form {
    /// The whole object as JSON.
    pub const JSON: Self = Self { encoding: Encoding::Json, view: View::Object };
}

/// What can be answered.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// Built-in kinds have protobuf, custom ones have not.
    pub protobuf: bool,
    /// Tables and metadata: not for what is no object.
    pub views: bool,
}

/// One entry of an `Accept` header.
#[derive(Debug)]
struct Range<'a> {
    media_type: &'a str,
    /// In thousandths.
    quality: u32,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Range<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().filter(|one| !one.is_empty())?;
        let mut quality = 1000;
        let mut parameters = Vec::new();
        for part in parts {
            let (name, value) = part.split_once('=')?;
            if name == "q" {
                let value: f64 = value.parse().ok()?;
                quality = (value.clamp(0.0, 1.0) * 1000.0) as u32;
            } else {
                parameters.push((name, value.trim_matches('"')));
            }
        }
        Some(Self { media_type, quality, parameters })
    }

    fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.iter().find(|(named, _)| *named == name).map(|(_, value)| *value)
    }

    fn form(&self, offer: Offer) -> Option<Form> {
        let encoding = match self.media_type {
            "*/*" | "application/*" => Encoding::Json,
            other => Encoding::of(other)?,
        };
        if encoding == Encoding::Protobuf && !offer.protobuf {
            return None;
        }
        let view = match self.parameter("as") {
            None => View::Object,
            // Tables of the version before have the same shape and are not served.
            Some(_) if !offer.views || self.parameter("g") != Some("meta.k8s.io") => return None,
            Some(_) if self.parameter("v") != Some("v1") => return None,
            Some("Table") if encoding != Encoding::Protobuf => View::Table,
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") => View::Metadata,
            Some(_) => return None,
        };
        Some(Form { encoding, view })
    }
}

/// The best form that a client accepts: the highest quality, of those the first. Without a header it is JSON.
///
/// Nothing when none of what it accepts can be answered (406).
#[must_use]
pub fn accepted(accept: Option<&str>, offer: Offer) -> Option<Form> {
    let Some(accept) = accept.filter(|text| !text.trim().is_empty()) else { return Some(Form::JSON) };
    let ranges = accept.split(',').filter_map(Range::read);
    let mut best: Option<(u32, Form)> = None;
    for range in ranges {
        if let Some(form) = range.form(offer)
            && range.quality > best.map_or(0, |(quality, _)| quality)
        {
            best = Some((range.quality, form));
        }
    }
    best.map(|(_, form)| form)
}

/// How a body is encoded. Without a header it is JSON.
///
/// Nothing when it is no form that is known (415).
#[must_use]
pub fn encoding_of_body(content_type: Option<&str>) -> Option<Encoding> {
    let Some(content_type) = content_type.filter(|text| !text.trim().is_empty()) else {
        return Some(Encoding::Json);
    };
    Encoding::of(content_type.split(';').next().unwrap_or_default().trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Offer = Offer { protobuf: true, views: true };

    fn form(accept: &str, offer: Offer) -> Option<(Encoding, View)> {
        accepted(Some(accept), offer).map(|form| (form.encoding, form.view))
    }

    #[test]
    fn the_first_of_the_best_is_taken() {
        use Encoding::{Json, Protobuf, Yaml};
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,\
                       application/json";
        let controller = "application/vnd.kubernetes.protobuf,application/json";
        let custom = Offer { protobuf: false, views: true };
        let document = Offer { protobuf: false, views: false };
        let table = [
            ("", ALL, Some((Json, View::Object))),
            ("*/*", ALL, Some((Json, View::Object))),
            (kubectl, ALL, Some((Json, View::Table))),
            (kubectl, document, Some((Json, View::Object))),
            (controller, ALL, Some((Protobuf, View::Object))),
            (controller, custom, Some((Json, View::Object))),
            ("application/yaml", ALL, Some((Yaml, View::Object))),
            ("application/json;q=0.5, application/yaml", ALL, Some((Yaml, View::Object))),
            ("application/json;q=0", ALL, None),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                ALL,
                Some((Protobuf, View::Metadata)),
            ),
            ("application/json;as=Table;v=v1;g=other", ALL, None),
            ("application/vnd.kubernetes.protobuf", custom, None),
            ("text/html", ALL, None),
            ("text/html,application/xhtml+xml,*/*;q=0.8", ALL, Some((Json, View::Object))),
        ];
        for (accept, offer, expected) in table {
            assert_eq!(form(accept, offer), expected, "{accept}");
        }
        assert_eq!(accepted(None, ALL), Some(Form::JSON));
    }

    #[test]
    fn bodies_are_json_unless_they_say_so() {
        let table = [
            (None, Some(Encoding::Json)),
            (Some("application/json; charset=utf-8"), Some(Encoding::Json)),
            (Some("application/yaml"), Some(Encoding::Yaml)),
            (Some("application/vnd.kubernetes.protobuf"), Some(Encoding::Protobuf)),
            (Some("text/plain"), None),
        ];
        for (header, expected) in table {
            assert_eq!(encoding_of_body(header), expected, "{header:?}");
        }
    }
}
