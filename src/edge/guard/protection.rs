//! What of a session is encrypted.

use super::super::tls::DataTls;

/// What is encrypted.
#[derive(Debug, Default)]
pub(super) struct Protection {
    /// The control connection: and this is for its data connections.
    pub(super) control: Option<DataTls>,
    /// Data connections: `PROT P`.
    pub(super) private: bool,
}
