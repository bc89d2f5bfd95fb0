//! The kernel's buffers of clients' sockets. They count towards the memory of a container, so all of them are bounded.
//!
//! Promises:
//! - A control connection has small buffers from its first packet on.
//! - A data connection has the least buffers in any case. All that is more is shared out of `limits.socket_memory`: each
//!   transfer gets an eighth of what is free, so that the first has nothing to wish for, and later ones have something.
//! - Where the kernel lets programs have little, but decides for more by itself (`net.core.rmem_max` below
//!   `net.ipv4.tcp_rmem`), it decides, as long as there is room for the most that it may take.

use std::io;
use std::sync::Arc;

use prometheus::IntGauge;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::ByteSize;
use crate::memory::{CONTROL_BUFFERS, DATA_SOCKET, IDLE_DATA_BUFFER, LEAST_DATA_BUFFER};
use crate::telemetry::Held;

/// The most that one transfer gets, in KiB of the kernel's memory: enough for 100 MB/s at 40 ms.
const MOST_KIB: usize = 8 * 1024;

/// A transfer gets this part of what is free.
const SHARE: usize = 8;

/// What a data connection has in any case, in KiB of the kernel's memory, in the direction of its transfer.
const LEAST_KIB: usize = 2 * LEAST_DATA_BUFFER / 1024;

/// What one more connection to a transfer's port takes until it is known whose it is, in KiB: the least buffers, 64 KiB in
/// which an upload is read, and the state of its TLS.
const CANDIDATE_KIB: u32 = 256;

/// What all data connections share beyond the least.
#[derive(Debug)]
pub(super) struct SocketMemory {
    /// A permit for each KiB.
    free: Arc<Semaphore>,
    kernel: Kernel,
    held: IntGauge,
}

/// What this kernel gives, in KiB of its memory.
#[derive(Debug, Clone, Copy)]
struct Kernel {
    /// The most that a program can ask for.
    on_request: usize,
    /// The most that a connection takes if nobody asks.
    by_itself: usize,
}

/// The buffers of one data connection. Dropping it gives them back.
#[derive(Debug)]
pub(super) struct Buffers {
    /// What to ask for; `None` lets the kernel decide.
    size: Option<usize>,
    _share: Option<OwnedSemaphorePermit>,
    _held: Held,
}

/// The way that the bytes of a transfer go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    FromClient,
    ToClient,
}

/// Gives a listener's connections the buffers of a control connection: they inherit them.
pub(super) fn bound_control(listener: &impl std::os::fd::AsFd) -> io::Result<()> {
    let socket = SockRef::from(listener);
    socket.set_recv_buffer_size(CONTROL_BUFFERS.0)?;
    socket.set_send_buffer_size(CONTROL_BUFFERS.1)
}

impl SocketMemory {
    pub(super) fn new(memory: ByteSize, held: IntGauge) -> Self {
        Self::on(Kernel::this(), memory, held)
    }

    fn on(kernel: Kernel, memory: ByteSize, held: IntGauge) -> Self {
        let kib = usize::try_from(memory.0 / 1024).unwrap_or(usize::MAX);
        let free = Arc::new(Semaphore::new(kib.min(Semaphore::MAX_PERMITS)));
        Self { free, kernel, held }
    }

    /// The buffers of a transfer's data connection. Never waits.
    pub(super) fn buffers(&self) -> Buffers {
        let room = self.free.available_permits() / SHARE;
        let size = self.kernel.size(room);
        let share = self.take(size.kib().saturating_sub(LEAST_KIB));
        let size = match (size, &share) {
            (Size::Kernels(_), Some(_)) => None,
            (Size::Fixed(kib), Some(_)) => Some(kib * 1024 / 2),
            // Another was faster.
            (_, None) => Some(LEAST_DATA_BUFFER),
        };
        let shared = share.as_ref().map_or(0, OwnedSemaphorePermit::num_permits) as u64;
        Buffers {
            size,
            _share: share,
            _held: Held::bytes(&self.held, DATA_SOCKET + shared * 1024),
        }
    }

    /// The least buffers, for one more connection to the port of a transfer; `None` if too many have some.
    pub(super) fn candidate(&self) -> Option<Buffers> {
        let share = self.take(CANDIDATE_KIB as usize)?;
        Some(Buffers {
            size: Some(LEAST_DATA_BUFFER),
            _share: Some(share),
            _held: Held::bytes(&self.held, u64::from(CANDIDATE_KIB) * 1024),
        })
    }

    fn take(&self, kib: usize) -> Option<OwnedSemaphorePermit> {
        let kib = u32::try_from(kib).ok()?;
        Arc::clone(&self.free).try_acquire_many_owned(kib).ok()
    }
}

/// What a transfer may have, in KiB of the kernel's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Fixed(usize),
    /// At most this, as the kernel decides.
    Kernels(usize),
}

impl Size {
    fn kib(self) -> usize {
        match self {
            Self::Fixed(kib) | Self::Kernels(kib) => kib,
        }
    }
}

impl Kernel {
    /// What this one gives. What can't be found out is taken for little.
    fn this() -> Self {
        let asked = on_request().unwrap_or(LEAST_KIB * 1024);
        let most = ["tcp_rmem", "tcp_wmem"].map(|name| by_itself(name).unwrap_or(usize::MAX));
        Self {
            on_request: asked / 1024,
            by_itself: most[0].max(most[1]) / 1024,
        }
    }

    /// What a transfer gets that may have `room` KiB.
    fn size(self, room: usize) -> Size {
        let wanted = room.min(MOST_KIB);
        let asked = wanted.min(self.on_request).max(LEAST_KIB);
        if asked < wanted && self.by_itself > asked && self.by_itself <= room {
            Size::Kernels(self.by_itself)
        } else {
            Size::Fixed(asked)
        }
    }
}

/// Bytes that the kernel gives to who asks for the most.
fn on_request() -> io::Result<usize> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_recv_buffer_size(MOST_KIB * 1024 / 2)?;
    socket.set_send_buffer_size(MOST_KIB * 1024 / 2)?;
    Ok(socket.recv_buffer_size()?.min(socket.send_buffer_size()?))
}

/// The last of three numbers: least, default and most.
fn by_itself(name: &str) -> Option<usize> {
    let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok()?;
    text.split_whitespace().last()?.parse().ok()
}

impl Buffers {
    /// What to ask for before a connection is there: later its window can't grow any more.
    pub(super) fn receive(&self) -> Option<usize> {
        self.size
    }

    /// Bounds both buffers of a connection, once it is known which way the bytes go.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn apply(&self, socket: &impl std::os::fd::AsFd, flow: Flow) -> io::Result<()> {
        let socket = SockRef::from(socket);
        match flow {
            Flow::FromClient => {
                socket.set_send_buffer_size(IDLE_DATA_BUFFER)?;
                self.size
                    .map_or(Ok(()), |size| socket.set_recv_buffer_size(size))
            }
            Flow::ToClient => {
                socket.set_recv_buffer_size(IDLE_DATA_BUFFER)?;
                self.size
                    .map_or(Ok(()), |size| socket.set_send_buffer_size(size))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ours, where programs may ask for what they want.
    const GENEROUS: Kernel = Kernel {
        on_request: MOST_KIB,
        by_itself: 32 * 1024,
    };

    /// The defaults of Linux before 6.18.
    const OLDER: Kernel = Kernel {
        on_request: 416,
        by_itself: 6 * 1024,
    };

    fn memory(kernel: Kernel, mib: u64) -> (SocketMemory, IntGauge) {
        let held = IntGauge::new("held", "for the test").unwrap();
        (
            SocketMemory::on(kernel, ByteSize::mib(mib), held.clone()),
            held,
        )
    }

    #[test]
    fn transfers_never_have_more_than_there_is() {
        for kernel in [GENEROUS, OLDER] {
            for mib in [0, 1, 128] {
                let (memory, held) = memory(kernel, mib);
                let all: Vec<_> = (0..1000).map(|_| memory.buffers()).collect();
                let fixed = all.iter().filter_map(|buffers| buffers.size);
                assert!(fixed.clone().all(|size| size >= LEAST_DATA_BUFFER));
                let by_kernel = all.len() - fixed.clone().count();
                let taken = fixed
                    .map(|size| 2 * (size + IDLE_DATA_BUFFER))
                    .sum::<usize>()
                    + by_kernel * (kernel.by_itself * 1024 + 2 * IDLE_DATA_BUFFER);
                assert!(
                    taken as u64 <= (mib << 20) + 1000 * DATA_SOCKET,
                    "{taken} of {mib} MiB on {kernel:?}"
                );
                assert!(held.get().cast_unsigned() >= taken as u64, "of {taken}");
                drop(all);
                assert_eq!(held.get(), 0);
                assert_eq!(memory.free.available_permits() as u64, mib * 1024);
            }
        }
    }

    #[test]
    fn the_first_have_the_most_and_later_ones_more_than_the_least() {
        let (memory, _) = memory(GENEROUS, 128);
        let all: Vec<_> = (0..40).map(|_| memory.buffers().size.unwrap()).collect();
        assert!(all.iter().all(|size| *size == MOST_KIB * 512), "given back");
        let held: Vec<_> = (0..40).map(|_| memory.buffers()).collect();
        let sizes: Vec<_> = held.iter().filter_map(Buffers::receive).collect();
        assert_eq!(sizes[7], MOST_KIB * 512);
        assert!(sizes.is_sorted_by(|a, b| a >= b));
        assert!(sizes[39] > LEAST_DATA_BUFFER, "{}", sizes[39]);
    }

    #[test]
    fn the_kernel_decides_where_it_gives_more_and_there_is_room() {
        let (memory, _) = memory(OLDER, 128);
        let held: Vec<_> = (0..40).map(|_| memory.buffers()).collect();
        assert_eq!(held[0].receive(), None);
        assert_eq!(held[39].receive(), Some(416 * 512));
    }

    #[test]
    fn candidates_are_bounded() {
        let (memory, held) = memory(GENEROUS, 1);
        let all: Vec<_> = std::iter::from_fn(|| memory.candidate()).collect();
        assert_eq!(all.len(), 4);
        assert_eq!(held.get(), 1 << 20);
    }
}
