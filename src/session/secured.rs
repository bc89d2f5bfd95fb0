//! What the session knows of TLS on its control connection.

use crate::auth::CertificateName;

/// An encrypted control connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secured {
    /// For logs and people: `TLS 1.3`.
    pub protocol: &'static str,
    /// The names of the client's verified certificate; empty if it showed none.
    pub certificate: Vec<CertificateName>,
}
