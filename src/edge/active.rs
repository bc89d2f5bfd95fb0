//! Active data connections: the gateway connects to where its client says.
//!
//! It connects to its client and to nobody else. A client that could send it elsewhere would reach what only
//! the gateway can reach, with bytes of its choice (the "FTP bounce" of RFC 2577). So the address must be that
//! of the control connection, and the port none of those below 1024, where services live.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use thiserror::Error;
use tokio::net::{TcpSocket, TcpStream};

/// Ports below are those of services.
const LOWEST_PORT: u16 = 1024;

/// Why a client's address is not connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum TargetError {
    /// `PORT` with anything but six numbers of a byte each.
    #[error("PORT takes six numbers from 0 to 255, such as 192,0,2,1,195,80")]
    PortSyntax,
    /// `EPRT` with anything but RFC 2428's form.
    #[error("EPRT takes |1|192.0.2.1|50000| or |2|2001:db8::1|50000|")]
    EprtSyntax,
    /// The other family than the control connection's.
    #[error("Network protocol not supported, use ({0})")]
    Family(u8),
    /// Somebody else's address.
    #[error("Only to the address that you have come from")]
    Address,
    /// A port of services.
    #[error("Only to ports from {LOWEST_PORT} up")]
    Port,
}

impl TargetError {
    /// The code of the reply.
    pub(super) fn code(self) -> u16 {
        match self {
            Self::PortSyntax | Self::EprtSyntax => 501,
            Self::Family(_) => 522,
            Self::Address | Self::Port => 504,
        }
    }

    /// The metric label of an attempt to reach somebody else.
    pub(super) fn bounce(self) -> Option<&'static str> {
        match self {
            Self::Address => Some("address"),
            Self::Port => Some("port"),
            Self::PortSyntax | Self::EprtSyntax | Self::Family(_) => None,
        }
    }
}

/// What a client may have us connect to: itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target(SocketAddr);

impl Target {
    /// `PORT h1,h2,h3,h4,p1,p2`.
    ///
    /// # Errors
    /// When it is not that, or not `client`.
    pub(super) fn of_port(argument: &[u8], client: IpAddr) -> Result<Self, TargetError> {
        let numbers: Option<Vec<u8>> = argument
            .trim_ascii()
            .split(|byte| *byte == b',')
            .map(decimal)
            .collect();
        match numbers.as_deref() {
            Some(&[a, b, c, d, high, low]) => {
                let address = Ipv4Addr::new(a, b, c, d).into();
                Self::at(address, u16::from_be_bytes([high, low]), client)
            }
            _ => Err(TargetError::PortSyntax),
        }
    }

    /// `EPRT |family|address|port|`, with any delimiter (RFC 2428).
    ///
    /// # Errors
    /// When it is not that, or not `client`.
    pub(super) fn of_eprt(argument: &[u8], client: IpAddr) -> Result<Self, TargetError> {
        let argument = argument.trim_ascii();
        let delimiter = argument.first().filter(|byte| byte.is_ascii_punctuation());
        let delimiter = *delimiter.ok_or(TargetError::EprtSyntax)?;
        let fields: Vec<_> = argument.split(|byte| *byte == delimiter).collect();
        let [b"", family, address, port, b""] = fields[..] else {
            return Err(TargetError::EprtSyntax);
        };
        let port = decimal(port).ok_or(TargetError::EprtSyntax)?;
        let own = if client.is_ipv4() { 1 } else { 2 };
        let family: u8 = decimal(family).ok_or(TargetError::EprtSyntax)?;
        let address = match (family, own) {
            (1, 1) => parsed::<Ipv4Addr>(address)?.into(),
            (2, 2) => parsed::<Ipv6Addr>(address)?.into(),
            _ => return Err(TargetError::Family(own)),
        };
        Self::at(address, port, client)
    }

    fn at(address: IpAddr, port: u16, client: IpAddr) -> Result<Self, TargetError> {
        if address.to_canonical() != client {
            Err(TargetError::Address)
        } else if port < LOWEST_PORT {
            Err(TargetError::Port)
        } else {
            Ok(Self(SocketAddr::new(client, port)))
        }
    }

    /// Its port.
    pub(super) fn port(self) -> u16 {
        self.0.port()
    }

    /// Connects, from the address to which the client has come and from this port, with a receive buffer of
    /// `buffer` bytes or what the kernel thinks best.
    ///
    /// # Errors
    /// When nobody answers there, or the port can't be used.
    pub(super) async fn dial(
        self,
        from: SocketAddr,
        buffer: Option<usize>,
    ) -> io::Result<TcpStream> {
        let socket = socket_on(source(from, self.0.ip()))?;
        if let Some(size) = buffer {
            socket.set_recv_buffer_size(u32::try_from(size).unwrap_or(u32::MAX))?;
        }
        socket.connect(self.0).await
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether the source port can be used at all: ports below 1024 need a right to them.
///
/// # Errors
/// The system's, when not.
pub(super) fn try_source_port(port: u16) -> io::Result<()> {
    if port == 0 {
        return Ok(());
    }
    socket_on(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)).map(drop)
}

/// Behind a balancer, the client may speak another family than the balancer does with us.
fn source(from: SocketAddr, client: IpAddr) -> SocketAddr {
    let address = match client {
        IpAddr::V4(_) if !from.is_ipv4() => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) if !from.is_ipv6() => Ipv6Addr::UNSPECIFIED.into(),
        _ => from.ip(),
    };
    SocketAddr::new(address, from.port())
}

/// A socket with this address, which others may have at the same time.
fn socket_on(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Connections to other clients from the same port, and those that have just ended.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Digits and nothing else, as many as make sense.
fn decimal<T: FromStr>(text: &[u8]) -> Option<T> {
    let is_number = !text.is_empty() && text.len() <= 5 && text.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(text).ok().filter(|_| is_number)?;
    text.parse().ok()
}

fn parsed<T: FromStr>(address: &[u8]) -> Result<T, TargetError> {
    let address = std::str::from_utf8(address).ok();
    let address = address.and_then(|address| address.parse().ok());
    address.ok_or(TargetError::EprtSyntax)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &str = "192.0.2.1";
    const V6: &str = "2001:db8::1";

    fn port(argument: &str) -> Result<String, TargetError> {
        shown(Target::of_port(argument.as_bytes(), V4.parse().unwrap()))
    }

    fn eprt(argument: &str, client: &str) -> Result<String, TargetError> {
        shown(Target::of_eprt(
            argument.as_bytes(),
            client.parse().unwrap(),
        ))
    }

    fn shown(target: Result<Target, TargetError>) -> Result<String, TargetError> {
        target.map(|target| target.0.to_string())
    }

    #[test]
    fn port_names_the_client_and_a_port() {
        assert_eq!(port("192,0,2,1,195,80").as_deref(), Ok("192.0.2.1:50000"));
        assert_eq!(port(" 192,0,2,1,4,0 ").as_deref(), Ok("192.0.2.1:1024"));
        assert_eq!(
            port("192,000,002,001,255,255").as_deref(),
            Ok("192.0.2.1:65535")
        );
    }

    #[test]
    fn what_is_no_port_is_a_syntax_error() {
        for argument in [
            "",
            ",",
            "192,0,2,1,195",
            "192,0,2,1,195,80,1",
            "192,0,2,1,195,",
            "192,0,2,1,,195,80",
            "192,0,2,1,195,256",
            "256,0,2,1,195,80",
            "192,0,2,1,-1,80",
            "192,0,2,1,+1,80",
            "192,0,2,1, 195,80",
            "192,0,2,1,0x1,80",
            "192,0,2,1,195,000080",
            "192.0.2.1,195,80",
            "99999999999999999999,0,2,1,195,80",
            "192,0,2,1,195,\u{0661}",
        ] {
            assert_eq!(port(argument), Err(TargetError::PortSyntax), "{argument}");
        }
    }

    #[test]
    fn eprt_names_both_families_with_any_delimiter() {
        assert_eq!(
            eprt("|1|192.0.2.1|50000|", V4).as_deref(),
            Ok("192.0.2.1:50000")
        );
        assert_eq!(
            eprt("!1!192.0.2.1!50000!", V4).as_deref(),
            Ok("192.0.2.1:50000")
        );
        assert_eq!(
            eprt("|2|2001:db8::1|1024|", V6).as_deref(),
            Ok("[2001:db8::1]:1024")
        );
        assert_eq!(
            eprt("|2|2001:0DB8:0::1|1024|", V6).as_deref(),
            Ok("[2001:db8::1]:1024")
        );
    }

    #[test]
    fn what_is_no_eprt_is_a_syntax_error() {
        for argument in [
            "",
            "|",
            "||||",
            "|||||",
            "|1|192.0.2.1|50000",
            "1|192.0.2.1|50000|",
            "|1|192.0.2.1|50000|x",
            "|1|192.0.2.1|50000||",
            "|1|192.0.2.1|65536|",
            "|1|192.0.2.1|+5000|",
            "|1|192.0.2.1||",
            "|1|192.0.2.256|50000|",
            "|1|localhost|50000|",
            "|1|2001:db8::1|50000|",
            "||192.0.2.1|50000|",
            "|x|192.0.2.1|50000|",
            "|1|192.0.2.1|50000!",
            "x1x192.0.2.1x50000x",
        ] {
            assert_eq!(
                eprt(argument, V4),
                Err(TargetError::EprtSyntax),
                "{argument}"
            );
        }
        for argument in [
            "|2|192.0.2.1|50000|",
            "|2|fe80::1%eth0|50000|",
            "|2|[::1]|50000|",
        ] {
            assert_eq!(
                eprt(argument, V6),
                Err(TargetError::EprtSyntax),
                "{argument}"
            );
        }
    }

    #[test]
    fn the_family_is_the_control_connections() {
        assert_eq!(
            eprt("|2|2001:db8::1|50000|", V4),
            Err(TargetError::Family(1))
        );
        assert_eq!(eprt("|1|192.0.2.1|50000|", V6), Err(TargetError::Family(2)));
        assert_eq!(eprt("|3|192.0.2.1|50000|", V4), Err(TargetError::Family(1)));
        assert_eq!(
            eprt("|2|::ffff:192.0.2.1|50000|", V4),
            Err(TargetError::Family(1))
        );
    }

    #[test]
    fn nobody_else_is_connected_to() {
        assert_eq!(port("192,0,2,2,195,80"), Err(TargetError::Address));
        assert_eq!(port("127,0,0,1,195,80"), Err(TargetError::Address));
        assert_eq!(port("192,0,2,1,3,255"), Err(TargetError::Port));
        assert_eq!(port("192,0,2,1,0,0"), Err(TargetError::Port));
        assert_eq!(eprt("|1|192.0.2.2|50000|", V4), Err(TargetError::Address));
        assert_eq!(eprt("|1|192.0.2.1|25|", V4), Err(TargetError::Port));
        assert_eq!(eprt("|2|2001:db8::2|50000|", V6), Err(TargetError::Address));
        assert_eq!(
            eprt("|2|::ffff:192.0.2.1|50000|", V6),
            Err(TargetError::Address)
        );
        let port_of_v6 = Target::of_port(b"192,0,2,1,195,80", V6.parse().unwrap());
        assert_eq!(port_of_v6, Err(TargetError::Address));
    }

    #[test]
    fn it_comes_from_where_the_client_has_gone_to() {
        let from = |from: &str, to: &str| {
            let from = from.parse().unwrap();
            source(from, to.parse().unwrap()).to_string()
        };
        assert_eq!(from("192.0.2.9:20", V4), "192.0.2.9:20");
        assert_eq!(from("[2001:db8::9]:0", V6), "[2001:db8::9]:0");
        assert_eq!(from("192.0.2.9:20", V6), "[::]:20");
        assert_eq!(from("[2001:db8::9]:20", V4), "0.0.0.0:20");
    }
}
