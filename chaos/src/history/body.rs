//! Bodies of events that name themselves, so that whoever receives one can tell which it is and
//! whether it is whole.

use super::EventId;

/// The shortest body.
pub const BYTES_MIN: usize = 8;

/// The body of an event, `bytes` long: its id, then filler that follows from it.
pub fn make(event: EventId, bytes: usize) -> Vec<u8> {
    let mut body = event.to_le_bytes().to_vec();
    let mut filler = fastrand::Rng::with_seed(event);
    body.resize_with(bytes.max(BYTES_MIN), || filler.u8(..));
    body
}

/// Which event a body is that of.
pub fn event(body: &[u8]) -> Option<EventId> {
    body.first_chunk().map(|id| u64::from_le_bytes(*id))
}

/// What [`super::What::Publish`] and [`super::What::Delivered`] compare.
pub fn digest(body: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_names_its_event() {
        let made = make(77, 100);
        assert_eq!((made.len(), event(&made)), (100, Some(77)));
        assert_eq!(event(&made[..7]), None);
        assert_ne!(digest(&made), digest(&made[..99]));
    }
}
