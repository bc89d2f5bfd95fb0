//! How Azure says no: a status, a code for programs, and a sentence for people.

use quick_xml::escape::partial_escape;

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) message: &'static str,
    /// Further elements of the body.
    details: Vec<(&'static str, String)>,
    /// How many bytes a blob has that the wanted range isn't in.
    pub(crate) length: Option<u64>,
}

impl Failure {
    pub(crate) const fn new(status: u16, code: &'static str, message: &'static str) -> Self {
        Self {
            status,
            code,
            message,
            details: Vec::new(),
            length: None,
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.details.push((name, value.into()));
        self
    }

    /// The body that goes with it.
    pub(crate) fn body(&self, request_id: &str) -> String {
        let (code, message) = (self.code, self.message);
        let time = chrono::Utc::now().format("%Y-%m-%dT%H:%M:%S%.6f0Z");
        let details = self.details.iter();
        let details = details
            .map(|(name, value)| format!("<{name}>{}</{name}>", partial_escape(value.as_str())));
        format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code><Message>{}\n\
             RequestId:{request_id}\nTime:{time}</Message>{}</Error>",
            partial_escape(message),
            details.collect::<String>()
        )
    }
}

/// The failure that Azure sends with `status`. The status itself is set on the answer.
pub(crate) fn planned(status: u16) -> Failure {
    match status {
        400 => INVALID_INPUT,
        401 => NO_AUTHENTICATION,
        403 => Failure::new(
            403,
            "AuthorizationFailure",
            "This request is not authorized to perform this operation.",
        ),
        404 => BLOB_NOT_FOUND,
        409 => BLOB_ALREADY_EXISTS,
        412 => CONDITION_NOT_MET,
        429 | 503 => Failure::new(503, "ServerBusy", "The server is busy."),
        _ => Failure::new(
            500,
            "InternalError",
            "The server encountered an internal error. Please retry the request.",
        ),
    }
}

/// A header that can't be understood.
pub(crate) fn invalid_header(name: &str) -> Failure {
    let message = "The value for one of the HTTP headers is not in the correct format.";
    Failure::new(400, "InvalidHeaderValue", message).with("HeaderName", name)
}

pub(crate) fn missing_header(name: &str) -> Failure {
    let message = "An HTTP header that's mandatory for this request is not specified.";
    Failure::new(400, "MissingRequiredHeader", message).with("HeaderName", name)
}

pub(crate) fn unsupported_header(name: &str) -> Failure {
    let message = "One of the HTTP headers specified in the request is not supported.";
    Failure::new(400, "UnsupportedHeader", message).with("HeaderName", name)
}

pub(crate) fn invalid_parameter(name: &str) -> Failure {
    let message = "Value for one of the query parameters specified in the request URI is invalid.";
    Failure::new(400, "InvalidQueryParameterValue", message).with("QueryParameterName", name)
}

pub(crate) fn unsupported_parameter(name: &str) -> Failure {
    let message = "One of the query parameters specified in the request URI is not supported.";
    Failure::new(400, "UnsupportedQueryParameter", message).with("QueryParameterName", name)
}

pub(crate) fn missing_parameter(name: &str) -> Failure {
    let message = "A query parameter that's mandatory for this request is not specified.";
    Failure::new(400, "MissingRequiredQueryParameter", message).with("QueryParameterName", name)
}

/// Something that Azure can do, and this double can't.
pub(crate) fn not_implemented(what: &str) -> Failure {
    let message = "The requested operation is not implemented on the specified resource.";
    Failure::new(501, "NotImplemented", message).with("Reason", what)
}

pub(crate) fn invalid_range(length: u64) -> Failure {
    let message = "The range specified is invalid for the current size of the resource.";
    Failure {
        length: Some(length),
        ..Failure::new(416, "InvalidRange", message)
    }
}

pub(crate) fn authentication_failed(detail: &str) -> Failure {
    let message = "Server failed to authenticate the request. Make sure the value of Authorization \
                   header is formed correctly including the signature.";
    let failure = Failure::new(403, "AuthenticationFailed", message);
    failure.with("AuthenticationErrorDetail", detail)
}

pub(crate) const NO_AUTHENTICATION: Failure = Failure::new(
    401,
    "NoAuthenticationInformation",
    "Server failed to authenticate the request. Please refer to the information in the \
     www-authenticate header.",
);

pub(crate) const TOKEN_EXPIRED: Failure = Failure::new(
    401,
    "InvalidAuthenticationInfo",
    "Lifetime validation failed. The token is expired.",
);

pub(crate) const INVALID_AUTHENTICATION: Failure = Failure::new(
    400,
    "InvalidAuthenticationInfo",
    "Authentication information is not given in the correct format. Check the value of \
     Authorization header.",
);

pub(crate) const CONTAINER_NOT_FOUND: Failure = Failure::new(
    404,
    "ContainerNotFound",
    "The specified container does not exist.",
);

pub(crate) const BLOB_NOT_FOUND: Failure =
    Failure::new(404, "BlobNotFound", "The specified blob does not exist.");

pub(crate) const BLOB_ALREADY_EXISTS: Failure = Failure::new(
    409,
    "BlobAlreadyExists",
    "The specified blob already exists.",
);

pub(crate) const CONDITION_NOT_MET: Failure = Failure::new(
    412,
    "ConditionNotMet",
    "The condition specified using HTTP conditional header(s) is not met.",
);

pub(crate) const TARGET_CONDITION_NOT_MET: Failure = Failure::new(
    412,
    "TargetConditionNotMet",
    "The target condition specified using HTTP conditional header(s) is not met.",
);

pub(crate) const SOURCE_CONDITION_NOT_MET: Failure = Failure::new(
    412,
    "SourceConditionNotMet",
    "The source condition specified using HTTP conditional header(s) is not met.",
);

/// To a read this is no failure, but an answer without a body.
pub(crate) const NOT_MODIFIED: Failure = Failure::new(
    304,
    "ConditionNotMet",
    "The condition specified using HTTP conditional header(s) is not met.",
);

pub(crate) const UNSATISFIABLE_CONDITION: Failure = Failure::new(
    400,
    "UnsatisfiableCondition",
    "The request includes an unsatisfiable condition for this operation.",
);

pub(crate) const SEVERAL_CONDITIONS: Failure = Failure::new(
    400,
    "MultipleConditionHeadersNotSupported",
    "Multiple condition headers are not supported.",
);

pub(crate) const INVALID_INPUT: Failure = Failure::new(
    400,
    "InvalidInput",
    "One of the request inputs is not valid.",
);

pub(crate) const INVALID_URI: Failure = Failure::new(
    400,
    "InvalidUri",
    "The requested URI does not represent any resource on the server.",
);

pub(crate) const PENDING_COPY: Failure = Failure::new(
    409,
    "PendingCopyOperation",
    "There is currently a pending copy operation.",
);
