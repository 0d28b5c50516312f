//! What a path asks for.

use super::TilePath;
use crate::types::{LeafIndex, TxId};

/// A read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// `/`
    Index,
    /// `/v1/status`
    Status,
    /// `/v1/transactions/{id}`
    Transaction(TxId),
    /// `/v1/transactions/{id}/proof`
    Proof(ProofOf),
    /// `/v1/records/{leaf}`
    Record(LeafIndex),
    /// `/v1/consents/{handle}`
    Consent([u8; 32]),
    /// `/v1/consistency?from=&to=`
    Consistency {
        /// Size of the older tree.
        from: u64,
        /// Size of the newer tree.
        to: u64,
    },
    /// `/checkpoint`
    Checkpoint,
    /// `/tile/…`
    Tile(TilePath),
    /// `/metrics`
    Metrics,
    /// `/healthz`
    Health,
    /// `/readyz`
    Ready,
}

/// What a proof is wanted of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProofOf {
    /// A transaction by its id.
    Transaction(TxId),
    /// The transaction at a leaf.
    Leaf(LeafIndex),
}

impl Request {
    /// What a path and its query ask for: `None` if there is no such path, `Err` says what is wrong with a parameter.
    ///
    /// Nothing is percent-decoded: no path of the API has a character that needs it.
    pub fn parse(path: &str, query: Option<&str>) -> Option<Result<Self, String>> {
        let parsed = match path {
            "/" => Ok(Self::Index),
            "/v1/status" => Ok(Self::Status),
            "/v1/consistency" => consistency(query.unwrap_or_default()),
            "/checkpoint" => Ok(Self::Checkpoint),
            "/metrics" => Ok(Self::Metrics),
            "/healthz" => Ok(Self::Health),
            "/readyz" => Ok(Self::Ready),
            _ => return Self::parse_with_id(path),
        };
        Some(parsed)
    }

    fn parse_with_id(path: &str) -> Option<Result<Self, String>> {
        if let Some(tile) = path.strip_prefix("/tile/") {
            return TilePath::parse(tile).map(|tile| Ok(Self::Tile(tile)));
        }
        let (collection, rest) = path.strip_prefix("/v1/")?.split_once('/')?;
        let parsed = match (collection, rest.split_once('/')) {
            ("transactions", None) => hash(rest).map(|id| Self::Transaction(TxId(id))),
            ("transactions", Some((id, "proof"))) => {
                // An id has 64 digits, a leaf at most 20.
                if id.len() <= 20 {
                    decimal("leaf", id).map(|leaf| Self::Proof(ProofOf::Leaf(LeafIndex(leaf))))
                } else {
                    hash(id).map(|id| Self::Proof(ProofOf::Transaction(TxId(id))))
                }
            }
            ("records", None) => decimal("leaf", rest).map(|leaf| Self::Record(LeafIndex(leaf))),
            ("consents", None) => hash(rest).map(Self::Consent),
            _ => return None,
        };
        Some(parsed)
    }
}

fn hash(text: &str) -> Result<[u8; 32], String> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes)
        .map_err(|error| format!("an id has 64 hexadecimal digits: {error}"))?;
    Ok(bytes)
}

fn decimal(what: &str, text: &str) -> Result<u64, String> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| is_plain);
    number.ok_or_else(|| format!("{what} is not a decimal number below 2^64"))
}

fn consistency(query: &str) -> Result<Request, String> {
    let (mut from, mut to) = (None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let place = match name {
            "from" => &mut from,
            "to" => &mut to,
            _ => return Err("a query parameter other than from and to".to_owned()),
        };
        if place.replace(decimal(name, value)?).is_some() {
            return Err(format!("{name} is given twice"));
        }
    }
    match (from, to) {
        (Some(from), Some(to)) if from <= to => Ok(Request::Consistency { from, to }),
        (Some(_), Some(_)) => Err("from is larger than to".to_owned()),
        _ => Err("expected ?from=SIZE&to=SIZE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str) -> Option<Result<Request, String>> {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        Request::parse(path, query)
    }

    #[test]
    fn paths_mean_what_the_index_says() {
        let id = "ab".repeat(32);
        let cases = [
            ("/".to_owned(), Request::Index),
            (format!("/v1/transactions/{id}"), Request::Transaction(TxId([0xAB; 32]))),
            (format!("/v1/transactions/{id}/proof"), Request::Proof(ProofOf::Transaction(TxId([0xAB; 32])))),
            ("/v1/transactions/17/proof".to_owned(), Request::Proof(ProofOf::Leaf(LeafIndex(17)))),
            ("/v1/records/0".to_owned(), Request::Record(LeafIndex(0))),
            (format!("/v1/consents/{id}"), Request::Consent([0xAB; 32])),
            ("/v1/consistency?from=3&to=9".to_owned(), Request::Consistency { from: 3, to: 9 }),
            ("/v1/consistency?to=9&from=9".to_owned(), Request::Consistency { from: 9, to: 9 }),
        ];
        for (path, request) in cases {
            assert_eq!(parse(&path), Some(Ok(request)), "{path}");
        }
    }

    #[test]
    fn bad_parameters_are_told_from_paths_that_do_not_exist() {
        for path in [
            "/v1/transactions/abc",
            "/v1/transactions/-1/proof",
            "/v1/records/18446744073709551616",
            "/v1/records/+1",
            "/v1/records/",
            "/v1/consents/zz",
            "/v1/consistency",
            "/v1/consistency?from=2&to=1",
            "/v1/consistency?from=1&from=1&to=2",
            "/v1/consistency?from=1&to=2&x=3",
        ] {
            assert!(matches!(parse(path), Some(Err(_))), "{path}");
        }
        for path in
            ["", "/v1", "/v1/", "/v2/status", "/v1/status/", "/tile/", "/tile/../x", "/v1/records/1/2", "//"]
        {
            assert_eq!(parse(path), None, "{path}");
        }
    }
}
