//! Several gateways behind one Service of Kubernetes, each with passive ports of its own.
//!
//! A Service without a selector has the endpoints that somebody writes. Each gateway writes those of its pod: in one
//! `EndpointSlice` the control ports, in another its share of the passive ports, for each family of addresses. So a
//! control connection goes to any gateway, and a data connection to the one that has opened the port.
//!
//! Promises:
//! - A pod that is not ready, or that ends, gets no new control connections. Its data connections go on to it for as long
//!   as it is there: sessions that it has may still need them.
//! - When the process is told to end, the slices say so before the gateway stops to listen: see [`Member::withdraw`].
//! - Slices that Kubernetes has left from a time when the Service had a selector are removed. If it gets one again,
//!   gateways remove their own.
//! - A gateway writes the slices of another pod only to take something away, and only when the API server says of that
//!   pod that it ends, is not ready or is gone.
//! - Every write is on the condition of the version that it was decided on, and the pods are read after that version
//!   was. So who has read less than another never undoes what that one has written.
//! - Without rights or API server the gateway serves on, and tries again within [`RETRY`].
//!
//! Must not: know what a session is.

mod api;
mod check;
mod member;
mod slices;

pub use check::try_out;
pub use member::Member;
