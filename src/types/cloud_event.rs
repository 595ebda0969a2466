//! CloudEvents 1.0 in their JSON format, and structured events as such.
//!
//! | CloudEvents | structured event |
//! |---|---|
//! | `type` | type |
//! | `subject` | name |
//! | extension `domain` | domain |
//! | `id`, `source`, `time`, `datacontenttype`, `dataschema` | variable header, by the same names |
//! | other extensions | filterable fields, by the same names |
//! | `data` or `data_base64` | body |
//!
//! What CloudEvents have no words for travels in extensions whose names begin with `aq`, so that a
//! structured event comes back as it was, but for the order of its fields, and the spaces and order
//! of a body of JSON.
//!
//! Source: CloudEvents 1.0.2, the specification and its JSON event format.

use base64::prelude::*;
use bytes::Bytes;
use serde_json::{Map, Value as Json};
use thiserror::Error;

use super::DedupKey;
use super::event::{Event, Header, Value};

/// Attributes that the variable header keeps.
const IN_HEADER: [&str; 5] = ["id", "source", "time", "datacontenttype", "dataschema"];
/// Names that no extension may have, with those of [`IN_HEADER`].
const RESERVED: [&str; 5] = ["specversion", "type", "subject", "data", "domain"];
const OURS: &str = "aq";
const PRIORITY: &str = "aqpriority";
const TIMEOUT: &str = "aqtimeoutms";
const START: &str = "aqstartms";
const STOP: &str = "aqstopms";
/// The rest of the variable header and of the fields: base64 of their postcard form.
const HEADER: &str = "aqheader";
const FIELDS: &str = "aqfields";
/// Longest name of an extension of ours; longer ones are read, not written.
const NAME_CHARS_MAX: usize = 20;
const JSON: &str = "application/json";

/// What a CloudEvent must have, for events that do not say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudDefaults {
    pub id: String,
    /// A URI reference.
    pub source: String,
    pub kind: String,
}

/// Why a text is no CloudEvent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CloudEventError {
    #[error("it is not a JSON object: {0}")]
    NotJson(String),
    #[error("it has no '{0}', which every CloudEvent has")]
    Missing(&'static str),
    #[error("'specversion' is '{0}': this build knows 1.0")]
    Version(String),
    #[error("'{name}' {why}")]
    Attribute { name: String, why: &'static str },
}

fn wrong(name: &str, why: &'static str) -> CloudEventError {
    CloudEventError::Attribute { name: name.into(), why }
}

impl Event {
    /// Reads a CloudEvent in its JSON format ("structured mode").
    pub fn from_cloud_event(json: &[u8]) -> Result<Event, CloudEventError> {
        let parsed: Map<String, Json> =
            serde_json::from_slice(json).map_err(|e| CloudEventError::NotJson(e.to_string()))?;
        let mut attributes = Attributes(parsed);
        match attributes.text("specversion")?.ok_or(CloudEventError::Missing("specversion"))? {
            version if version == "1.0" => {}
            other => return Err(CloudEventError::Version(other)),
        }
        let kind = attributes.text("type")?.ok_or(CloudEventError::Missing("type"))?;
        let mut header = Header {
            kind,
            domain: attributes.text("domain")?.unwrap_or_default(),
            name: attributes.text("subject")?.unwrap_or_default(),
            ..Header::default()
        };
        for name in IN_HEADER {
            match attributes.text(name)? {
                Some(text) => header.variable.push((name.into(), Value::Text(text))),
                None if name == "id" => return Err(CloudEventError::Missing("id")),
                None if name == "source" => return Err(CloudEventError::Missing("source")),
                None => {}
            }
        }
        let text = |name: &str| {
            let found = header.variable.iter().find(|(known, _)| known == name);
            found.map_or("", |(_, value)| match value {
                Value::Text(text) => text,
                _ => "",
            })
        };
        let dedup = Some(DedupKey::of(text("source"), text("id")));
        let body = attributes.body(&mut header)?;
        let mut event = Event { dedup, header, body, ..Event::default() };
        attributes.take_ours(&mut event)?;
        attributes.take_extensions(&mut event)?;
        Ok(event)
    }

    /// The event as a CloudEvent in its JSON format, with `defaults` for what it does not say.
    pub fn to_cloud_event(&self, defaults: CloudDefaults) -> Map<String, Json> {
        let mut out = Map::new();
        let mut put = |name: &str, value: Json| out.insert(name.into(), value);
        put("specversion", "1.0".into());
        let kind = Some(self.header.kind.clone()).filter(|kind| !kind.is_empty());
        put("type", kind.unwrap_or(defaults.kind).into());
        for (name, text) in [("domain", &self.header.domain), ("subject", &self.header.name)] {
            if !text.is_empty() {
                put(name, text.as_str().into());
            }
        }
        if self.priority != 0 {
            put(PRIORITY, self.priority.into());
        }
        if self.timeout_ms != 0 {
            put(TIMEOUT, self.timeout_ms.to_string().into());
        }
        for (name, moment) in [(START, self.start_ms), (STOP, self.stop_ms)] {
            if moment != 0 {
                put(name, moment.to_string().into());
            }
        }
        let mut rest = Vec::new();
        for (name, value) in &self.header.variable {
            match value {
                Value::Text(text)
                    if IN_HEADER.contains(&name.as_str())
                        && !text.is_empty()
                        && !out.contains_key(name) =>
                {
                    out.insert(name.clone(), text.as_str().into());
                }
                _ => rest.push((name.clone(), value.clone())),
            }
        }
        put_rest(&mut out, HEADER, rest);
        let mut rest = Vec::new();
        for (name, value) in &self.header.fields {
            match extension(value).filter(|_| is_extension(name) && !out.contains_key(name)) {
                Some(json) => drop(out.insert(name.clone(), json)),
                None => rest.push((name.clone(), value.clone())),
            }
        }
        put_rest(&mut out, FIELDS, rest);
        self.put_body(&mut out);
        out.entry("id").or_insert_with(|| defaults.id.into());
        out.entry("source").or_insert_with(|| defaults.source.into());
        out
    }

    fn put_body(&self, out: &mut Map<String, Json>) {
        if self.body.is_empty() {
            return;
        }
        let media = out.get("datacontenttype").and_then(Json::as_str).unwrap_or_default();
        let data = match (is_json(media), std::str::from_utf8(&self.body)) {
            (true, Ok(text)) => serde_json::from_str(text).ok().filter(|json| *json != Json::Null),
            (false, Ok(text)) if media.starts_with("text/") => Some(text.into()),
            _ => None,
        };
        match data {
            Some(data) => out.insert("data".into(), data),
            None => out.insert("data_base64".into(), BASE64_STANDARD.encode(&self.body).into()),
        };
    }
}

/// What is left of a CloudEvent that is being read.
struct Attributes(Map<String, Json>);

impl Attributes {
    /// Takes a standard attribute, which is a text with something in it. `null` counts as absent.
    fn text(&mut self, name: &str) -> Result<Option<String>, CloudEventError> {
        match self.0.remove(name) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::String(text)) if !text.is_empty() => Ok(Some(text)),
            Some(_) => Err(wrong(name, "must be a text that is not empty")),
        }
    }

    /// Takes the data. JSON without a content type is what the format says it is.
    fn body(&mut self, header: &mut Header) -> Result<Bytes, CloudEventError> {
        let encoded = self.0.remove("data_base64").filter(|json| !json.is_null());
        let data = self.0.remove("data").filter(|json| !json.is_null());
        match (data, encoded) {
            (None, None) => Ok(Bytes::new()),
            (Some(_), Some(_)) => Err(wrong("data", "and 'data_base64' exclude each other")),
            (None, Some(Json::String(text))) => {
                let bytes = BASE64_STANDARD.decode(text);
                bytes.map(Bytes::from).map_err(|_| wrong("data_base64", "is not base64"))
            }
            (None, Some(_)) => Err(wrong("data_base64", "must be a text")),
            (Some(data), None) => {
                let media = header.variable.iter().find(|(name, _)| name == "datacontenttype");
                let plain = match media {
                    Some((_, Value::Text(media))) => !is_json(media),
                    _ => {
                        let json = Value::Text(JSON.into());
                        header.variable.push(("datacontenttype".into(), json));
                        false
                    }
                };
                Ok(match data {
                    Json::String(text) if plain => Bytes::from(text),
                    other => Bytes::from(other.to_string()),
                })
            }
        }
    }

    /// Takes our extensions.
    fn take_ours(&mut self, event: &mut Event) -> Result<(), CloudEventError> {
        if let Some(json) = self.0.remove(PRIORITY).filter(|json| !json.is_null()) {
            let number = json.as_i64().and_then(|number| i16::try_from(number).ok());
            event.priority = number.ok_or(wrong(PRIORITY, "must be a number up to 32767"))?;
        }
        if let Some(text) = self.text(TIMEOUT)? {
            let number = text.parse().map_err(|_| wrong(TIMEOUT, "must be a number in a text"))?;
            event.timeout_ms = number;
        }
        for (name, moment) in [(START, &mut event.start_ms), (STOP, &mut event.stop_ms)] {
            if let Some(text) = self.text(name)? {
                *moment = text.parse().map_err(|_| wrong(name, "must be a number in a text"))?;
            }
        }
        event.header.variable.extend(self.rest(HEADER)?);
        event.header.fields.extend(self.rest(FIELDS)?);
        Ok(())
    }

    fn rest(&mut self, name: &str) -> Result<Vec<(String, Value)>, CloudEventError> {
        let Some(text) = self.text(name)? else { return Ok(Vec::new()) };
        let bytes = BASE64_STANDARD.decode(text).ok();
        let values = bytes.and_then(|bytes| postcard::from_bytes(&bytes).ok());
        values.ok_or(wrong(name, "is not what Aqueduct writes there"))
    }

    /// Takes all that is left: extensions are texts, truths, or whole numbers of 32 bits.
    fn take_extensions(self, event: &mut Event) -> Result<(), CloudEventError> {
        for (name, json) in self.0 {
            let simple = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
            if name.is_empty() || !name.chars().all(simple) {
                return Err(wrong(&name, "is no name of an extension: lower-case letters, digits"));
            }
            let value = match json {
                Json::Null => continue,
                Json::Bool(truth) => Value::Bool(truth),
                Json::String(text) => Value::Text(text),
                Json::Number(number) => match number.as_i64() {
                    Some(whole) if i32::try_from(whole).is_ok() => Value::Int(whole),
                    _ => return Err(wrong(&name, "must be a whole number of 32 bits")),
                },
                _ => return Err(wrong(&name, "must be a text, a number or a truth")),
            };
            event.header.fields.push((name, value));
        }
        Ok(())
    }
}

/// Whether a field of this name can be an extension.
fn is_extension(name: &str) -> bool {
    let simple = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=NAME_CHARS_MAX).contains(&name.len())
        && name.chars().all(simple)
        && !name.starts_with(OURS)
        && !RESERVED.contains(&name)
        && !IN_HEADER.contains(&name)
}

/// The value as one of an extension, if it can be one.
fn extension(value: &Value) -> Option<Json> {
    match value {
        Value::Bool(truth) => Some((*truth).into()),
        Value::Text(text) => Some(text.as_str().into()),
        Value::Int(number) => i32::try_from(*number).ok().map(Json::from),
        Value::Float(_) => None,
    }
}

fn put_rest(out: &mut Map<String, Json>, name: &str, rest: Vec<(String, Value)>) {
    // Values of ours always serialize.
    if !rest.is_empty()
        && let Ok(bytes) = postcard::to_stdvec(&rest)
    {
        out.insert(name.into(), BASE64_STANDARD.encode(bytes).into());
    }
}

/// Whether a media type is JSON: `application/json`, `…+json`, with or without parameters.
fn is_json(media: &str) -> bool {
    let essence = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.ends_with("/json") || essence.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn defaults() -> CloudDefaults {
        let text = |text: &str| text.to_string();
        CloudDefaults { id: text("1"), source: text("/test"), kind: text("none") }
    }

    fn read(json: &Json) -> Result<Event, CloudEventError> {
        Event::from_cloud_event(json.to_string().as_bytes())
    }

    #[test]
    fn the_example_of_the_specification_comes_back() {
        let example = json!({
            "specversion": "1.0", "type": "com.example.someevent", "source": "/mycontext",
            "subject": "larger-context", "id": "A234-1234-1234", "time": "2018-04-05T17:31:00Z",
            "comexampleextension1": "value", "comexampleothervalue": 5, "unset": null,
            "datacontenttype": "application/json", "data": {"appinfoA": "abc", "appinfoC": true},
        });
        let event = read(&example).unwrap();
        assert_eq!(event.header.kind, "com.example.someevent");
        assert_eq!(event.header.name, "larger-context");
        assert_eq!(&event.body[..], br#"{"appinfoA":"abc","appinfoC":true}"#);
        assert!(event.header.fields.contains(&("comexampleothervalue".into(), Value::Int(5))));
        let mut back = Json::Object(event.to_cloud_event(defaults()));
        back["unset"] = Json::Null;
        assert_eq!(back, example);
    }

    #[test]
    fn data_of_every_kind() {
        let with = |more: Json| {
            let mut json = json!({"specversion": "1.0", "type": "t", "source": "s", "id": "1"});
            json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let event = read(&json).unwrap();
            (event.body.clone(), Json::Object(event.to_cloud_event(defaults())))
        };
        let (body, back) = with(json!({"data": "hi", "datacontenttype": "text/plain"}));
        assert_eq!((&body[..], &back["data"]), (&b"hi"[..], &json!("hi")));
        let (body, back) = with(json!({"data": "hi"}));
        assert_eq!((&body[..], &back["data"]), (&br#""hi""#[..], &json!("hi")));
        assert_eq!(back["datacontenttype"], JSON);
        let (body, back) = with(json!({"data_base64": "AP8="}));
        assert_eq!((&body[..], &back["data_base64"]), (&[0, 255][..], &json!("AP8=")));
        assert_eq!(with(json!({})).0.len(), 0);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = json!({"specversion": "1.0", "type": "t", "source": "s", "id": "1"});
        for (name, value, error) in [
            ("specversion", json!("0.3"), CloudEventError::Version("0.3".into())),
            ("id", Json::Null, CloudEventError::Missing("id")),
            ("type", json!(""), wrong("type", "must be a text that is not empty")),
            ("data_base64", json!("?"), wrong("data_base64", "is not base64")),
            ("ratio", json!(0.5), wrong("ratio", "must be a whole number of 32 bits")),
            ("list", json!([]), wrong("list", "must be a text, a number or a truth")),
            ("aqfields", json!("AAA"), wrong("aqfields", "is not what Aqueduct writes there")),
            ("aqpriority", json!(99999), wrong("aqpriority", "must be a number up to 32767")),
        ] {
            let mut json = good.clone();
            json[name] = value;
            assert_eq!(read(&json), Err(error), "{name}");
        }
        let mut both = good.clone();
        (both["data"], both["data_base64"]) = (json!(1), json!("AA=="));
        assert!(read(&both).is_err());
        assert!(matches!(Event::from_cloud_event(b"[1]"), Err(CloudEventError::NotJson(_))));
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            (-5i64..5).prop_map(Value::Int),
            (-1e9f64..1e9).prop_map(Value::Float),
            ".{0,8}".prop_map(Value::Text),
        ]
    }

    fn values() -> impl Strategy<Value = Vec<(String, Value)>> {
        let name = prop_oneof![
            "[a-z0-9]{1,4}",
            "[A-Za-z_. ]{0,24}",
            prop::sample::select(&["id", "source", "time", "data", "aqfields", "domain"][..])
                .prop_map(str::to_string),
        ];
        prop::collection::vec((name, value()), 0..6)
    }

    proptest! {
        #[test]
        fn structured_events_come_back(
            (priority, timeout_ms) in (any::<i16>(), any::<u32>()),
            (start_ms, stop_ms) in (any::<u64>(), 0u64..2),
            (domain, kind, name) in (".{0,6}", ".{1,6}", ".{0,6}"),
            (variable, fields) in (values(), values()),
            (media, body) in (
                prop::sample::select(&["", JSON, "text/plain", "image/png"][..]),
                prop_oneof![Just(b"{\"a\":1}".to_vec()), prop::collection::vec(any::<u8>(), 0..9)],
            ),
        ) {
            let header = Header { domain, kind, name, variable, fields };
            let body = body.into();
            let dedup = Some(DedupKey::of("here", "7"));
            let mut event = Event { priority, timeout_ms, start_ms, stop_ms, dedup, header, body };
            let header = &mut event.header.variable;
            // It has what every CloudEvent has; nothing is filled in.
            header.insert(0, ("source".into(), Value::Text("here".into())));
            header.insert(0, ("id".into(), Value::Text("7".into())));
            header.push(("datacontenttype".into(), Value::Text(media.into())));
            let json = Json::Object(event.to_cloud_event(defaults())).to_string();
            let mut back = Event::from_cloud_event(json.as_bytes()).unwrap();
            for header in [&mut event.header, &mut back.header] {
                let by_name = |a: &(String, Value), b: &(String, Value)| {
                    (&a.0, format!("{:?}", a.1)).cmp(&(&b.0, format!("{:?}", b.1)))
                };
                header.variable.sort_by(by_name);
                header.fields.sort_by(by_name);
            }
            if media == JSON && let Ok(json) = serde_json::from_slice::<Json>(&event.body) {
                prop_assert_eq!(serde_json::from_slice::<Json>(&back.body).unwrap(), json);
                event.body = back.body.clone();
            }
            prop_assert_eq!(back, event);
        }
    }
}
