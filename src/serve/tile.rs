//! Paths of tiles (C2SP tlog-tiles): `<L>/<N>[.p/<W>]` and `entries/<N>[.p/<W>]`, behind `tile/`.

use std::fmt;

/// Highest level of tiles.
const LEVEL_MAX: u8 = 63;
/// Groups of three digits of an index: enough for 2^64.
const GROUPS_MAX: usize = 7;

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TileKind {
    /// Hashes of a level, 0 to 63.
    Level(u8),
    /// The entries themselves.
    Entries,
}

/// Names one tile. There is exactly one path for each, and nothing else parses, so a path names a tile and no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TilePath {
    /// What it holds.
    pub kind: TileKind,
    /// Position in its level.
    pub index: u64,
    /// Number of hashes or entries of a partial tile, 1 to 255; `None` for a full one.
    pub width: Option<u8>,
}

impl TilePath {
    /// From the path behind `tile/`.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let (kind, rest) = path.split_once('/')?;
        let kind = match kind {
            "entries" => TileKind::Entries,
            level => TileKind::Level(number(level).filter(|level| *level <= LEVEL_MAX)?),
        };
        let (index, width) = match rest.split_once(".p/") {
            Some((index, width)) => (index, Some(number(width).filter(|width| *width > 0)?)),
            None => (rest, None),
        };
        Some(Self { kind, index: parse_index(index)?, width })
    }
}

/// A decimal number of at most 255 without leading zeros or signs.
fn number(text: &str) -> Option<u8> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

/// Groups of three digits, all but the last behind an `x`, the first not zero if there are more.
fn parse_index(text: &str) -> Option<u64> {
    let mut groups = text.split('/').peekable();
    let mut index = 0_u64;
    for n in 0..GROUPS_MAX {
        let group = groups.next()?;
        let is_last = groups.peek().is_none();
        let digits = if is_last { group } else { group.strip_prefix('x')? };
        if digits.len() != 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        if n == 0 && !is_last && digits == "000" {
            return None;
        }
        index = index.checked_mul(1_000)?.checked_add(digits.parse().ok()?)?;
        if is_last {
            return Some(index);
        }
    }
    None
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Level(level) => write!(f, "{level}/")?,
            TileKind::Entries => f.write_str("entries/")?,
        }
        let mut divisor = 1_000_u64.pow(self.index.checked_ilog(1_000).unwrap_or_default());
        while divisor > 1 {
            write!(f, "x{:03}/", self.index / divisor % 1_000)?;
            divisor /= 1_000;
        }
        write!(f, "{:03}", self.index % 1_000)?;
        match self.width {
            Some(width) => write!(f, ".p/{width}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tile_has_one_path() {
        let level = |level, index, width| TilePath { kind: TileKind::Level(level), index, width };
        let entries = TilePath { kind: TileKind::Entries, index: 256, width: Some(1) };
        let cases = [
            ("0/000", level(0, 0, None)),
            ("0/x001/x234/067", level(0, 1_234_067, None)),
            ("63/999.p/255", level(63, 999, Some(255))),
            ("2/x001/000", level(2, 1_000, None)),
            ("0/x018/x446/x744/x073/x709/x551/615", level(0, u64::MAX, None)),
            ("entries/256.p/1", entries),
        ];
        for (path, tile) in cases {
            assert_eq!(TilePath::parse(path), Some(tile), "{path}");
            assert_eq!(tile.to_string(), path);
        }
    }

    #[test]
    fn nothing_else_is_a_path() {
        let cases = [
            "",
            "0",
            "0/",
            "/0/000",
            "0/0",
            "0/00",
            "0/0000",
            "0/x000",
            "0/x000/001",
            "0/x001",
            "0/001/002",
            "0/x001/2",
            "00/000",
            "64/000",
            "256/000",
            "-1/000",
            "+1/000",
            "0/+01",
            "0/000.p/0",
            "0/000.p/256",
            "0/000.p/01",
            "0/000.p/",
            "0/000.p",
            "0/000/",
            "0/000.p/1/",
            "0/x01/000",
            "0/X001/000",
            "0/00a",
            "0/\u{664}00",
            "data/000",
            "Entries/000",
            "entries/../../keys/log.key",
            "../keys/log.key",
            "0/../000",
            "0/..",
            "0/x../000",
            "0/%2e%2e",
            "0/000\0",
            "0\\000",
            "0/000.p/1.p/1",
            "0/x018/x446/x744/x073/x709/x551/616",
            "0/x001/x000/x000/x000/x000/x000/x000/000",
        ];
        for path in cases {
            assert_eq!(TilePath::parse(path), None, "{path:?}");
        }
    }
}
