//! The part of an input that says how the rest arrives.

/// The most bytes of a plan.
const LIMIT: u8 = 64;

/// Splits an input into a plan and what it is for. The first byte says how
/// long the plan is.
pub(crate) fn split(data: &[u8]) -> (&[u8], &[u8]) {
    let Some((first, rest)) = data.split_first() else {
        return (&[], &[]);
    };
    let length = usize::from(first % LIMIT);
    rest.split_at(length.min(rest.len()))
}

/// A length made of one byte of a plan. Squares reach both single bytes and
/// some thousands.
pub(crate) fn length(byte: u8) -> usize {
    let byte = usize::from(byte);
    1 + byte * byte / 8
}

/// Cuts a stream into pieces of the lengths planned, and a rest.
pub(crate) fn pieces<'a>(plan: &[u8], stream: &'a [u8]) -> Vec<&'a [u8]> {
    let mut rest = stream;
    let mut pieces = Vec::new();
    for byte in plan {
        let (piece, behind) = rest.split_at(length(*byte).min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces.push(rest);
    pieces
}
