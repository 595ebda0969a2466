//! Properties, durations and moments as people write them, read before anybody is asked.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::exit::Failure;
use crate::types::{Level, Property, Qos, QosChange, QosError};

/// What to say to somebody who does not know the properties.
const LIST: &str = "`aqueduct qos properties` lists names, levels and values";

/// A property and its value in the form `PROPERTY=VALUE`; `inherit` takes away what is set.
pub fn property_change(text: &str) -> Result<QosChange, String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("'{text}' names no value: write PROPERTY=VALUE; {LIST}"))?;
    let read = || -> Result<QosChange, QosError> {
        let property: Property = name.trim().parse()?;
        Ok((property, Qos::parse(property, value.trim())?))
    };
    read().map_err(|error| error.to_string())
}

/// The same for something new, which has nothing to inherit again.
pub fn property_value(text: &str) -> Result<QosChange, String> {
    match property_change(text)? {
        (property, None) => Err(format!("leave {property} out to have it inherited")),
        change => Ok(change),
    }
}

/// `PROPERTY=VALUE`, whatever it says: for those who want to hear from the cluster.
pub fn property_words(text: &str) -> Result<(String, String), String> {
    let words = text.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
    words
        .map(|(name, value)| (name.into(), value.into()))
        .ok_or_else(|| format!("'{text}' names no value: write PROPERTY=VALUE"))
}

/// Refuses changes that this level cannot have, with everything that is wrong, and repeats.
pub fn check(level: Level, changes: &[QosChange]) -> Result<(), Failure> {
    let mut wrong = Vec::new();
    for (place, (property, value)) in changes.iter().enumerate() {
        if !property.spec().levels.contains(&level) {
            wrong.push(QosError::Unavailable { property: *property, level }.to_string());
        }
        if let Some(value) = value.filter(|value| !property.spec().domain.holds(*value)) {
            wrong.push(
                QosError::BadValue { property: *property, value: value.to_string() }.to_string(),
            );
        }
        if changes[..place].iter().any(|(before, _)| before == property) {
            wrong.push(format!("{property} is given twice; give it once"));
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Failure::usage(wrong.join("; ")).hint(LIST)),
    }
}

/// What is to be set for something new at this level.
pub fn qos(level: Level, changes: &[QosChange]) -> Result<Qos, Failure> {
    check(level, changes)?;
    let mut qos = Qos::default();
    qos.change(changes);
    Ok(qos)
}

/// What is asked for: properties by name, and those that flags of their own stand for.
pub fn with_flags<const N: usize>(
    named: &[QosChange],
    flags: [(Property, Option<u64>); N],
) -> Vec<QosChange> {
    // Beyond what the property's range can hold: refused with the range.
    let change = |(property, value): (Property, Option<u64>)| {
        Some((property, Some(i64::try_from(value?).unwrap_or(i64::MAX))))
    };
    named.iter().copied().chain(flags.into_iter().filter_map(change)).collect()
}

/// A number for a property of events, within its range.
fn number(property: Property, text: &str) -> Result<i64, String> {
    match Qos::parse(property, text) {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err(format!("an event has nothing to inherit again: leave {property} out")),
        Err(error) => Err(error.to_string()),
    }
}

/// The priority of events.
pub fn priority(text: &str) -> Result<i16, String> {
    number(Property::Priority, text)
        .and_then(|value| i16::try_from(value).map_err(|why| why.to_string()))
}

/// The timeout of events in milliseconds: a number of them, or as in `90s`.
pub fn event_timeout(text: &str) -> Result<u32, String> {
    let in_words = |why: String| {
        let allowed = Property::Timeout.spec().domain;
        format!("bad_value: timeout cannot be '{text}' ({why}); allowed: {allowed}, as in 90s")
    };
    let millis = millis(text).map_err(in_words)?;
    let value = number(Property::Timeout, &millis.to_string())?;
    u32::try_from(value).map_err(|why| why.to_string())
}

/// When events may be delivered, in milliseconds since the Unix epoch.
pub fn start_time(text: &str) -> Result<u64, String> {
    time_of(Property::StartTime, text)
}

/// When events expire, in milliseconds since the Unix epoch.
pub fn stop_time(text: &str) -> Result<u64, String> {
    time_of(Property::StopTime, text)
}

fn time_of(property: Property, text: &str) -> Result<u64, String> {
    let moment = moment(text, SystemTime::now())
        .map_err(|why| format!("bad_value: {property} cannot be '{text}': {why}"))?;
    number(property, &moment.to_string()).map(i64::unsigned_abs)
}

/// A duration in milliseconds: a number of them, or as in `1h 30m`, `90s`, `250ms`.
pub fn millis(text: &str) -> Result<u64, String> {
    if let Ok(millis) = text.parse() {
        return Ok(millis);
    }
    let duration = humantime::parse_duration(text).map_err(|why| why.to_string())?;
    let millis = duration.as_nanos().div_ceil(1_000_000);
    u64::try_from(millis).map_err(|_| "it is too long".into())
}

/// A moment in milliseconds since the Unix epoch: a number of them, `+DURATION` or `-DURATION`
/// from now, or a date and time as in RFC 3339.
pub fn moment(text: &str, now: SystemTime) -> Result<u64, String> {
    if let Ok(moment) = text.parse()
        && !text.starts_with('+')
    {
        return Ok(moment);
    }
    let since_epoch = |time: SystemTime| {
        let since = time.duration_since(UNIX_EPOCH).map_err(|_| "it is before 1970".to_string())?;
        u64::try_from(since.as_millis()).map_err(|_| "it is too late".to_string())
    };
    let span = |text: &str| millis(text).map(Duration::from_millis);
    if let Some(later) = text.strip_prefix('+') {
        return since_epoch(now.checked_add(span(later)?).ok_or("it is too late")?);
    }
    if let Some(earlier) = text.strip_prefix('-') {
        return since_epoch(now.checked_sub(span(earlier)?).ok_or("it is before 1970")?);
    }
    let (local, ahead) = offset(text);
    let time = humantime::parse_rfc3339_weak(local).map_err(|_| {
        "write +DURATION (as +90s), a date and time (as 2027-01-31T12:00:00Z), or milliseconds \
         since 1970"
            .to_string()
    })?;
    let moment = i128::from(since_epoch(time)?) - i128::from(ahead) * 60_000;
    u64::try_from(moment).map_err(|_| "it is before 1970".into())
}

/// Divides `2027-01-31T12:00:00+01:00` into the local time and the minutes that it is ahead of UTC.
fn offset(text: &str) -> (&str, i64) {
    let Some(at) = text.len().checked_sub(6).filter(|at| *at > 16 && text.is_char_boundary(*at))
    else {
        return (text, 0);
    };
    let (local, zone) = text.split_at(at);
    let (sign, clock) = match zone.split_at(1) {
        ("+", clock) => (1, clock),
        ("-", clock) => (-1, clock),
        _ => return (text, 0),
    };
    let clock = clock.split_once(':').and_then(|(h, m)| Some((h.parse().ok()?, m.parse().ok()?)));
    match clock {
        Some((hours @ 0..24, minutes @ 0..60)) => (local, sign * (hours * 60 + minutes)),
        _ => (text, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_read_or_taught() {
        assert_eq!(property_change("OrderPolicy=Priority"), Ok((Property::OrderPolicy, Some(2))));
        assert_eq!(property_change("timeout=inherit"), Ok((Property::Timeout, None)));
        let said = |text| property_value(text).unwrap_err();
        assert!(said("order_policy").contains("PROPERTY=VALUE"));
        assert!(said("colour=red").contains("bad_property"));
        assert!(said("order_policy=random").contains("any, fifo, priority, deadline"));
        assert!(said("pacing_interval=-1").contains("0 to 3600000 ms"));
        assert!(said("timeout=inherit").contains("leave timeout out"));
    }

    #[test]
    fn levels_and_repeats_are_checked_before_anybody_is_asked() {
        let changes = [(Property::MaxQueueLength, Some(5)), (Property::MaxQueueLength, Some(6))];
        assert!(check(Level::Channel, &changes[..1]).is_ok());
        let twice = check(Level::Channel, &changes).unwrap_err();
        assert!(twice.message.contains("max_queue_length is given twice"), "{}", twice.message);
        let level = qos(Level::Proxy, &changes[..1]).unwrap_err();
        assert_eq!(level.exit, super::super::exit::Exit::Usage);
        assert!(level.message.contains("unavailable_property"), "{}", level.message);
        assert!(level.message.contains("a channel"), "{}", level.message);
    }

    #[test]
    fn durations_and_priorities_name_their_range() {
        assert_eq!(event_timeout("250"), Ok(250));
        assert_eq!(event_timeout("1m 30s"), Ok(90_000));
        assert_eq!(event_timeout("1us"), Ok(1), "never rounded to none");
        for wrong in ["soon", "60 days", "-1", ""] {
            let said = event_timeout(wrong).unwrap_err();
            assert!(said.contains("timeout") && said.contains("0 to 4294967295 ms"), "{said}");
        }
        assert_eq!(priority("-7"), Ok(-7));
        assert!(priority("40000").unwrap_err().contains("-32767 to 32767"));
        assert!(priority("inherit").unwrap_err().contains("leave priority out"));
    }

    #[test]
    fn moments_are_numbers_dates_or_from_now() {
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        let read = |text| moment(text, now);
        assert_eq!(read("12345"), Ok(12_345));
        assert_eq!(read("+90s"), Ok(1_090_000));
        assert_eq!(read("+500"), Ok(1_000_500));
        assert_eq!(read("-10s"), Ok(990_000));
        assert_eq!(read("2027-01-31T12:00:00Z"), Ok(1_801_396_800_000));
        assert_eq!(read("2027-01-31T12:00:00.250Z"), Ok(1_801_396_800_250));
        assert_eq!(read("2027-01-31T13:30:00+01:30"), Ok(1_801_396_800_000));
        assert_eq!(read("2027-01-31T07:00:00-05:00"), Ok(1_801_396_800_000));
        assert_eq!(read("-2000s"), Err("it is before 1970".into()));
        for wrong in ["tomorrow", "", "+", "2027-01-31", "2027-01-31T12:00:00+99:00", "ü+01:00"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        let late = start_time("253402300800000").unwrap_err();
        assert!(late.contains("start_time") && late.contains("253402300799999"), "{late}");
        assert!(stop_time("never").unwrap_err().contains("stop_time cannot be 'never'"));
    }
}
