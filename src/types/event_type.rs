//! Event types, and patterns that pick some of them (OMG Notification Service 1.1, §2.2 and §2.5:
//! `EventType`, `subscription_change`).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::event::header_section;
use super::limits;

/// What stands between domain and type.
const BETWEEN: &str = "::";
/// OMG's word for every type.
const ALL: &str = "%ALL";

/// The type of an event: OMG `domain_name` and `type_name`. Both empty: it has none.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventType {
    pub domain: String,
    #[serde(rename = "type")]
    pub kind: String,
}

/// The same, borrowed from the bytes of an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TypeRef<'a> {
    pub domain: &'a str,
    pub kind: &'a str,
}

/// A type's number in its channel while events of it are retained; 0: no type.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct TypeId(pub u32);

impl<'a> TypeRef<'a> {
    /// Reads it from the bytes of an event, of which only the beginning is looked at. Bytes that
    /// are none, or whose names are too long, have no type: whoever accepts events from strangers
    /// checks them before.
    pub fn read(event: &'a [u8]) -> TypeRef<'a> {
        TypeRef::of_section(header_section(event)).filter(|t| t.fits()).unwrap_or_default()
    }

    /// Domain and type are what the encoded header begins with.
    pub(super) fn of_section(section: &'a [u8]) -> Option<TypeRef<'a>> {
        let ((domain, kind), _) = postcard::take_from_bytes(section).ok()?;
        Some(TypeRef { domain, kind })
    }

    /// Whether its names are short enough.
    pub(super) fn fits(&self) -> bool {
        self.domain.len().max(self.kind.len()) <= limits::TYPE_NAME_BYTES_MAX
    }

    /// Whether it is that of events without one.
    pub fn is_empty(&self) -> bool {
        self.domain.is_empty() && self.kind.is_empty()
    }
}

impl EventType {
    /// The same, borrowed.
    pub fn borrow(&self) -> TypeRef<'_> {
        TypeRef { domain: &self.domain, kind: &self.kind }
    }
}

impl From<TypeRef<'_>> for EventType {
    fn from(of: TypeRef<'_>) -> EventType {
        EventType { domain: of.domain.into(), kind: of.kind.into() }
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}{BETWEEN}{}", self.domain, self.kind))
    }
}

/// A pattern of event types: `domain::type`, where `*` in either name stands for any text, also for
/// none. `*::*` picks everything; `%ALL` in place of a name, or of both, is OMG's word for it. A
/// type alone is of any domain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TypePattern {
    domain: String,
    kind: String,
}

/// Why a text is not a [`TypePattern`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PatternError {
    #[error("an empty pattern picks nothing: write 'domain::type', 'type', or '*' for all events")]
    Empty,
    #[error(
        "pattern of {0} bytes is too long: domain and type have at most {max} each",
        max = limits::TYPE_NAME_BYTES_MAX
    )]
    TooLong(usize),
    #[error(
        "pattern '{0}' has a control character in it: write 'domain::type', with '*' for any text"
    )]
    BadCharacter(String),
    #[error("pattern '{0}' has one ':' where two separate domain and type: write 'domain::type'")]
    OneColon(String),
}

impl TypePattern {
    /// Whether it picks events of this type.
    pub fn picks(&self, of: TypeRef) -> bool {
        glob(&self.domain, of.domain) && glob(&self.kind, of.kind)
    }

    /// The only type that it picks, if there is only one.
    pub fn exact(&self) -> Option<EventType> {
        let exact = !self.domain.contains('*') && !self.kind.contains('*');
        exact.then(|| EventType { domain: self.domain.clone(), kind: self.kind.clone() })
    }
}

impl fmt::Display for TypePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}{BETWEEN}{}", self.domain, self.kind))
    }
}

impl FromStr for TypePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<TypePattern, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.chars().any(char::is_control) {
            return Err(PatternError::BadCharacter(text.into()));
        }
        let (domain, kind) = match text.split_once(BETWEEN) {
            Some(names) => names,
            None if text.contains(':') => return Err(PatternError::OneColon(text.into())),
            None => ("*", text),
        };
        if domain.len().max(kind.len()) > limits::TYPE_NAME_BYTES_MAX {
            return Err(PatternError::TooLong(text.len()));
        }
        Ok(TypePattern { domain: name(domain), kind: name(kind) })
    }
}

impl TryFrom<String> for TypePattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<TypePattern, PatternError> {
        text.parse()
    }
}

impl From<TypePattern> for String {
    fn from(pattern: TypePattern) -> String {
        pattern.to_string()
    }
}

/// One side of a pattern: equal patterns are equal texts.
fn name(text: &str) -> String {
    if text == ALL {
        return "*".into();
    }
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '*' || !plain.ends_with('*') {
            plain.push(c);
        }
    }
    plain
}

/// Whether `text` is `pattern` with something in place of each `*`.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    // The first place where a part fits leaves the most for those after it.
    for part in middle.split('*') {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(tail)
}

/// What a proxy, an admin or a plain subscriber wants: events that one of these patterns picks, or
/// all if there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Subscription(BTreeSet<TypePattern>);

impl Subscription {
    /// Whether it wants everything because it names nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many patterns it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it wants events of this type.
    pub fn wants(&self, of: TypeRef) -> bool {
        self.0.is_empty() || self.0.iter().any(|pattern| pattern.picks(of))
    }

    /// The patterns, in order.
    pub fn iter(&self) -> impl Iterator<Item = &TypePattern> {
        self.0.iter()
    }

    /// OMG `subscription_change`: what is removed and added counts as added.
    pub fn change(&mut self, add: &[TypePattern], remove: &[TypePattern]) {
        self.0.retain(|pattern| !remove.contains(pattern));
        self.0.extend(add.iter().cloned());
    }
}

impl FromIterator<TypePattern> for Subscription {
    fn from_iter<I: IntoIterator<Item = TypePattern>>(patterns: I) -> Subscription {
        Subscription(patterns.into_iter().collect())
    }
}

impl fmt::Display for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.pad("everything");
        }
        let patterns: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.pad(&patterns.join(", "))
    }
}

/// What holds for a proxy: both its own subscription and that of its admin must want an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interest {
    pub own: Subscription,
    pub admin: Subscription,
}

impl Interest {
    /// Whether it wants everything.
    pub fn is_whole(&self) -> bool {
        self.own.is_empty() && self.admin.is_empty()
    }

    /// Whether it wants events of this type.
    pub fn wants(&self, of: TypeRef) -> bool {
        self.own.wants(of) && self.admin.wants(of)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::super::{Event, EventBytes, EventError, Header};
    use super::*;

    fn pattern(text: &str) -> TypePattern {
        text.parse().unwrap()
    }

    #[test]
    fn patterns_pick_by_domain_and_type() {
        for (text, domain, kind, picked) in [
            ("Telecom::Alarm", "Telecom", "Alarm", true),
            ("Telecom::Alarm", "Telecom", "Alarms", false),
            ("Telecom::*", "Telecom", "", true),
            ("Tele*::*larm", "Telecom", "Alarm", true),
            ("*::a*b*c", "x", "a--b--b-c", true),
            ("*::a*b*c", "x", "acb", false),
            ("*::a*a", "x", "a", false),
            ("*::ab*ba", "x", "aba", false),
            ("Alarm", "Telecom", "Alarm", true),
            ("Alarm", "", "Alarm", true),
            ("::Alarm", "Telecom", "Alarm", false),
            ("::Alarm", "", "Alarm", true),
            ("%ALL", "", "", true),
            ("*", "Telecom", "Alarm", true),
            ("Telecom::%ALL", "Telecom", "Alarm", true),
            ("%ALL::Alarm", "Telecom", "Call", false),
            ("a::b::c", "a", "b::c", true),
            ("com.example.*", "", "com.example.order.created", true),
        ] {
            let got = pattern(text).picks(TypeRef { domain, kind });
            assert_eq!(got, picked, "{text} and {domain}::{kind}");
        }
    }

    #[test]
    fn equal_patterns_are_equal_texts() {
        for all in ["*", "**", "%ALL", "*::*", "***::%ALL", "%ALL::**"] {
            assert_eq!(pattern(all).to_string(), "*::*", "{all}");
        }
        assert_eq!(pattern("a**b::*").to_string(), "a*b::*");
        assert_eq!(
            pattern("a::b").exact(),
            Some(EventType { domain: "a".into(), kind: "b".into() })
        );
        assert_eq!(pattern("a::b*").exact(), None);
    }

    #[test]
    fn what_is_no_pattern_is_told_what_to_write() {
        let said = |text: &str| text.parse::<TypePattern>().unwrap_err().to_string();
        assert!(said("").contains("'*' for all"));
        assert!(said("Telecom:Alarm").contains("write 'domain::type'"));
        assert!(said("a::\n").contains("control character"));
        let long = format!("a::{}", "x".repeat(limits::TYPE_NAME_BYTES_MAX + 1));
        assert!(said(&long).contains("too long"), "{}", said(&long));
    }

    #[test]
    fn a_subscription_without_patterns_wants_everything() {
        let mut wanted = Subscription::default();
        let alarm = TypeRef { domain: "Telecom", kind: "Alarm" };
        assert!(wanted.wants(alarm));
        wanted.change(&[pattern("Call"), pattern("Telecom::B*")], &[]);
        assert!(!wanted.wants(alarm));
        wanted.change(&[pattern("Al*")], &[pattern("Call"), pattern("Al*"), pattern("never")]);
        assert!(wanted.wants(alarm));
        assert_eq!(wanted.to_string(), "*::Al*, Telecom::B*");
        let json = serde_json::to_string(&wanted).unwrap();
        assert_eq!(json, r#"["*::Al*","Telecom::B*"]"#);
        assert_eq!(serde_json::from_str::<Subscription>(&json).unwrap(), wanted);
    }

    fn typed(domain: &str, kind: &str) -> Event {
        let header = Header {
            domain: domain.into(),
            kind: kind.into(),
            name: "n".into(),
            ..Header::default()
        };
        Event { header, ..Event::of_body("body") }
    }

    #[test]
    fn the_type_is_read_from_the_beginning_of_the_bytes() {
        for event in [typed("Telecom", "Alarm"), Event { stop_ms: 9, ..typed("", "Alarm") }] {
            let bytes = event.encode().unwrap();
            let read = TypeRef::read(bytes.as_bytes());
            assert_eq!((read.domain, read.kind), (&*event.header.domain, &*event.header.kind));
        }
        assert!(TypeRef::read(Event::of_body("x").encode().unwrap().as_bytes()).is_empty());
    }

    #[test]
    fn names_that_are_too_long_are_refused_at_the_border_and_no_type_behind_it() {
        let long = "x".repeat(limits::TYPE_NAME_BYTES_MAX + 1);
        let refused = |event: Event| matches!(event.encode(), Err(EventError::TypeName(_)));
        assert!(refused(typed(&long, "a")) && refused(typed("a", &long)));
        let section = postcard::to_stdvec(&typed("a", &long).header).unwrap();
        let mut bytes = vec![1, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend_from_slice(&(section.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&section);
        assert!(TypeRef::read(&bytes).is_empty());
        let checked = EventBytes::check(Bytes::from(bytes), 1 << 20);
        assert!(matches!(checked, Err(EventError::TypeName(_))), "{checked:?}");
    }

    proptest! {
        #[test]
        fn any_bytes_have_some_type(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            TypeRef::read(&bytes);
            let mut event = vec![1, 0, 0, 0, 0, 0, 0, 0, bytes.len() as u8, 0, 0, 0];
            event.extend_from_slice(&bytes);
            TypeRef::read(&event);
        }

        #[test]
        fn globs_are_what_a_naive_search_finds(pattern in "[ab*]{0,6}", text in "[ab]{0,8}") {
            fn naive(pattern: &[u8], text: &[u8]) -> bool {
                match pattern.split_first() {
                    None => text.is_empty(),
                    Some((b'*', rest)) => (0..=text.len()).any(|at| naive(rest, &text[at..])),
                    Some((c, rest)) => text.first() == Some(c) && naive(rest, &text[1..]),
                }
            }
            let expected = naive(pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(glob(&name(&pattern), &text), expected);
            prop_assert_eq!(glob(&pattern, &text), expected);
        }
    }
}
