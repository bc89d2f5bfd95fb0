//! Who may log in, and what they may do once they are in.
//!
//! [`Authenticator`] is the front door: a name, a password and a [`Client`] go in, a
//! [`Standing`] or a [`LoginError`] comes out. Behind it stand the users ([`Users`], read from a file
//! and kept fresh by [`Users::watch`], or given in plain), the password hashes and the lockout.
//!
//! # Promises
//! - An unknown user, a wrong password and a user who may not log in are the same to a client: the same text, the
//!   same work.
//! - No more guesses than [`LockoutPolicy`] allows are ever checked, however many run in parallel.
//! - Hashing never blocks the runtime, never runs on more than one thread per core, and never takes more memory than
//!   `limits.hashing_memory`.
//! - A users file that is broken changes nothing: those who could log in still can.
//! - A session that is logged in keeps the [`User`] it logged in as, as long as it could log in again: [`Standing`]
//!   tells when that is over.
//!
//! # Must not
//! Print, log or keep a password; print or log a hash (`Debug` included); know of FTP replies or
//! of the store.

mod access;
mod allowance;
mod authenticator;
mod certificate_name;
mod expectation;
mod fault;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod hashing;
mod lockout;
mod origin;
mod password;
mod permissions;
mod recent;
mod reload;
mod standing;
mod table;
mod tally;
mod user;
mod users_file;

pub use access::{Access, Client, Denied};
pub use allowance::Allowance;
pub use authenticator::{Authenticator, LoginError};
pub use certificate_name::CertificateName;
pub use fault::{UserFault, UsersFileErrors};
pub use hashing::HashingFailed;
pub use lockout::LockoutPolicy;
pub use origin::shares::{Holding, to_take};
pub use origin::{Origin, OriginCounts};
pub use password::{HashError, generate_password, hash_password};
pub use permissions::{Permission, Permissions, UnknownPermission};
pub use reload::{ReloadOutcome, Users, UsersLoadError};
pub use standing::{Lapse, Standing};
pub use table::UserTable;
pub use user::{Leads, Mount, Place, User};
