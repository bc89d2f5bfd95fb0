//! Settings about addresses and ports: what clients are told, and which gateway has what.

mod advertised;
mod cluster;
mod ports;

pub(crate) use advertised::can_be_reached;
pub use advertised::{AddressOverrides, PassiveAddress};
pub use cluster::{PodName, ServiceName};
pub(super) use ports::MOST_SHARED;
pub use ports::{PortRange, PortShare};
