//! The document and the code say the same.

use std::collections::BTreeSet;

use super::examples;
use crate::types::{Code, Outcome};
use crate::wire::{ClientMessage, ServerMessage};

const DOCUMENT: &str = include_str!("../../../docs/PROTOCOL.md");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ")
}

/// Every row of the document's last table, and nothing else.
#[test]
fn examples_are_documented_byte_by_byte() {
    let written: BTreeSet<String> =
        DOCUMENT.lines().filter(|line| line.starts_with("| 0x")).map(str::to_string).collect();
    let expected: Vec<String> = examples::all()
        .iter()
        .map(|(name, kind, body)| format!("| {kind:#04x} | {name} | `{}` |", hex(body)))
        .collect();
    let missing: Vec<_> = expected.iter().filter(|line| !written.contains(*line)).collect();
    assert!(missing.is_empty(), "docs/PROTOCOL.md lacks:\n{missing:#?}");
    assert_eq!(written.len(), expected.len(), "docs/PROTOCOL.md has rows without an example");
}

#[test]
fn every_kind_has_an_example() {
    let shown: BTreeSet<u8> = examples::all().iter().map(|(_, kind, _)| *kind).collect();
    let handshake = [1, 2, 3];
    let all: Vec<u8> =
        handshake.iter().chain(ClientMessage::KINDS).chain(ServerMessage::KINDS).copied().collect();
    assert_eq!(all.iter().copied().collect::<BTreeSet<u8>>(), shown);
    assert_eq!(all.len(), shown.len(), "a kind is used twice");
}

/// Numbers of codes and outcomes travel; they may only be appended to.
#[test]
fn numbers_of_codes_and_outcomes_are_fixed() {
    for (number, code) in CODES.iter().enumerate() {
        assert_eq!(postcard::to_stdvec(code).unwrap(), [number as u8], "{code}");
        let row = format!("{number} `{}`", code.as_str());
        assert!(DOCUMENT.contains(&row), "docs/PROTOCOL.md lacks {row}");
    }
    for (number, outcome) in Outcome::ALL.iter().enumerate() {
        assert_eq!(postcard::to_stdvec(outcome).unwrap(), [number as u8], "{outcome}");
        let row = format!("{number} `{}`", outcome.as_str());
        assert!(DOCUMENT.contains(&row), "docs/PROTOCOL.md lacks {row}");
    }
}

const CODES: [Code; 32] = [
    Code::BadRequest,
    Code::VersionMismatch,
    Code::Unauthorized,
    Code::WrongCluster,
    Code::UnknownChannel,
    Code::UnknownProxy,
    Code::UnknownLane,
    Code::ChannelExists,
    Code::ProxyExists,
    Code::TooManyChannels,
    Code::TooManyProxies,
    Code::TooManyLanes,
    Code::ChannelFull,
    Code::OutOfSequence,
    Code::LaneFenced,
    Code::EventTooLarge,
    Code::AlreadySettled,
    Code::Overloaded,
    Code::NoLeader,
    Code::TenureLost,
    Code::ShuttingDown,
    Code::Quarantined,
    Code::StorageFailed,
    Code::MembershipRefused,
    Code::NotAllowed,
    Code::UnknownAdmin,
    Code::AdminExists,
    Code::TooManyAdmins,
    Code::InvalidQos,
    Code::Suspended,
    Code::LaneExists,
    Code::Fenced,
];
