//! What the session knows of TLS on its control connection.

/// An encrypted control connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secured {
    /// For logs and people: `TLS 1.3`.
    pub protocol: &'static str,
    /// The names in the client's verified certificate; empty if it showed none.
    pub certificate_names: Vec<String>,
}
