//! Guesses by somebody who has a whole /48 of IPv6, and can come from another /64 each time.

use std::net::IpAddr;

use crate::support::Gateway;
use crate::support::Memory;
use crate::support::ftp::Client;

/// The balancer that says where its clients are.
const BALANCER: &str = "127.0.0.9";

/// A connection from any address, by a header of the balancer. The client has been greeted.
async fn connect_from(gateway: &Gateway<Memory>, address: IpAddr) -> Client {
    let balancer = BALANCER.parse().unwrap();
    let mut client = Client::connect_from(balancer, gateway.address())
        .await
        .unwrap();
    let (family, own) = match address {
        IpAddr::V4(_) => ("TCP4", "198.51.100.2"),
        IpAddr::V6(_) => ("TCP6", "2001:db8::2"),
    };
    let header = format!("PROXY {family} {address} {own} 40000 21\r\n");
    client.send_raw(header.as_bytes()).await;
    client.expect_reply(220).await;
    client
}

/// An address of another /64, and of another /56, than the one before.
fn address(network: u16) -> IpAddr {
    IpAddr::from([0x2001, 0xdb8, 7, network << 8 | network, 0, 0, 0, 1])
}

/// A /48 has four times the tries of one address, for one name and for all names, and no more. Others are not concerned.
#[tokio::test(flavor = "multi_thread")]
async fn ipv6_prefix_logins() {
    for (limit, other, per_name) in [
        (
            "limits.login_failures",
            "limits.login_failures_per_address",
            true,
        ),
        (
            "limits.login_failures_per_address",
            "limits.login_failures",
            false,
        ),
    ] {
        let settings = [
            ("ftp.trusted_proxies", BALANCER),
            (limit, "3"),
            (other, "0"),
        ];
        let gateway = Gateway::with(Memory, &settings);
        for network in 0..30 {
            let mut client = connect_from(&gateway, address(network)).await;
            let name = if per_name { 0 } else { network };
            client.expect(&format!("USER name{name}"), 331).await;
            client.expect("PASS wrong", 530).await;
        }
        for (outcome, times) in [("unknown_user", 12.0), ("locked_out", 18.0)] {
            let series = format!("bucketferry_logins_total{{outcome={outcome:?}}}");
            assert!(
                (gateway.metric(&series) - times).abs() < 0.5,
                "{limit}: {outcome}"
            );
        }
        for honest in ["2001:db8:8::1", "192.0.2.1"] {
            let mut client = connect_from(&gateway, honest.parse().unwrap()).await;
            client.login("ferry", "secret").await;
        }
    }
}
