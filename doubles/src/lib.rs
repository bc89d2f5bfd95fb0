//! Stores in memory that speak the protocols of S3, Google Cloud Storage and Azure Blob Storage.
//!
//! A [`Server`] is one bucket behind one protocol, over HTTP, inside the process of the test. It checks credentials
//! and answers as the protocol's document says: conditions on writes, ranges, listings by page, uploads in parts.
//! A test looks into the bucket directly, and tells the server what to do wrong.
//!
//! One bucket and one HTTP server ([`http`]) serve all; a protocol adds what requests and answers look
//! like. It must not answer what the real store would not.

mod azure;
mod bucket;
mod faults;
mod faulty;
mod google;
pub mod http;
mod s3;
mod server;
mod tags;

pub use bucket::Damage;
pub use faults::{Fault, Strike};
pub use server::{Protocol, Server};
