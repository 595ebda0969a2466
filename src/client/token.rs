//! A delivery's name in print, so that another process can settle it.

use std::fmt;
use std::str::FromStr;

use crate::types::{ProxyId, Seq};

/// Names a delivery of a durable proxy: `PROXY-SEQ`, as in `17-4211`; of an exclusive one also its
/// fencing token: `PROXY-SEQ-FENCING`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    pub proxy: ProxyId,
    pub seq: Seq,
    /// 0: the proxy is not exclusive.
    pub fencing: u64,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Token { proxy, seq, fencing } = self;
        match fencing {
            0 => f.pad(&format!("{proxy}-{seq}")),
            _ => f.pad(&format!("{proxy}-{seq}-{fencing}")),
        }
    }
}

/// A text that is not a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a token, as 17-4211 is")]
pub struct TokenError(String);

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Token, TokenError> {
        let digits = |part: &str| {
            let plain = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse::<u64>().ok().filter(|_| plain)
        };
        let parsed = text.split_once('-').and_then(|(proxy, rest)| {
            let (seq, fencing) = match rest.split_once('-') {
                Some((seq, fencing)) => (seq, digits(fencing)?),
                None => (rest, 0),
            };
            Some(Token { proxy: ProxyId(digits(proxy)?), seq: digits(seq)?, fencing })
        });
        parsed.ok_or_else(|| TokenError(text.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_print() {
        for fencing in [0, 12] {
            let token = Token { proxy: ProxyId(17), seq: 4211, fencing };
            assert_eq!(token.to_string().parse(), Ok(token));
        }
        for bad in [
            "",
            "17",
            "17-",
            "-4211",
            "17-42-",
            "17-42-11-9",
            "+17-1",
            "a-b",
            "1-99999999999999999999",
        ] {
            assert_eq!(bad.parse::<Token>(), Err(TokenError(bad.into())), "{bad}");
        }
    }
}
