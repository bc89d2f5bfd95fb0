//! Sockets that listen.
//!
//! Promises:
//! - `[::]` is every address, IPv4's as well, whatever the system's default is; where the kernel knows no
//!   IPv6, it is every IPv4 address.
//! - `0.0.0.0` and `[::]` with the same port can be listened on together.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use rustix::io::Errno;
use socket2::{Domain, Socket, Type};

/// Connections that the system keeps for us between two accepts.
const BACKLOG: i32 = 1024;

/// Listens on `address`, without blocking. `beside` is what is, or will be, listened on as well.
///
/// # Errors
/// What the system says: a port that is taken, an address of another machine.
pub fn listen(address: SocketAddr, beside: &[SocketAddr]) -> io::Result<TcpListener> {
    match open(address, beside) {
        Err(error) => match without_ipv6(address, beside, &error) {
            Some(instead) => open(instead, beside),
            None => Err(error),
        },
        opened => opened,
    }
}

fn open(address: SocketAddr, beside: &[SocketAddr]) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        socket.set_only_v6(beside.contains(&all_of_ipv4(address.port())))?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// What to listen on instead, if all that is wrong is that the kernel knows no IPv6.
fn without_ipv6(
    address: SocketAddr,
    beside: &[SocketAddr],
    error: &io::Error,
) -> Option<SocketAddr> {
    let instead = all_of_ipv4(address.port());
    let is_unknown = error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error());
    let is_all = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    (is_unknown && is_all && !beside.contains(&instead)).then_some(instead)
}

fn all_of_ipv4(port: u16) -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, port).into()
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn all_of_ipv6(port: u16) -> SocketAddr {
        (Ipv6Addr::UNSPECIFIED, port).into()
    }

    fn answers(address: IpAddr, port: u16) -> bool {
        TcpStream::connect((address, port)).is_ok()
    }

    const FOUR: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const SIX: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    #[test]
    fn every_ipv6_address_is_every_ipv4_address_too() {
        let listener = listen(all_of_ipv6(0), &[all_of_ipv6(0)]).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(answers(FOUR, port) && answers(SIX, port));
    }

    #[test]
    fn all_of_both_can_be_listened_on_together() {
        let free = listen(all_of_ipv6(0), &[]).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let both = [all_of_ipv4(port), all_of_ipv6(port)];
        for order in [both, [both[1], both[0]]] {
            let listeners = order.map(|address| listen(address, &order).unwrap());
            assert!(answers(FOUR, port) && answers(SIX, port));
            drop(listeners);
        }
    }

    #[test]
    fn a_kernel_without_ipv6_has_ipv4_all_the_same() {
        let unknown = Errno::AFNOSUPPORT.into();
        let instead = |address, beside: &[SocketAddr]| without_ipv6(address, beside, &unknown);
        assert_eq!(instead(all_of_ipv6(21), &[]), Some(all_of_ipv4(21)));
        assert_eq!(instead(all_of_ipv6(21), &[all_of_ipv4(21)]), None);
        assert_eq!(instead("[::1]:21".parse().unwrap(), &[]), None);
        let taken = Errno::ADDRINUSE.into();
        assert_eq!(without_ipv6(all_of_ipv6(21), &[], &taken), None);
    }
}
