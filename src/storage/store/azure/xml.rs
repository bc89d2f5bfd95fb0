//! What Azure's answers have in common.

/// Azure begins its answers with it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// An answer without its byte order mark, which is no XML.
pub(crate) fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body)
}
