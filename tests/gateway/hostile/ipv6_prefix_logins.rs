//! Guesses by somebody who has a whole /48 of IPv6, and can come from another /64 each time.

use std::net::IpAddr;

use crate::support::{Gateway, Memory};

use super::login_floods::{BALANCER, connect_from};

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
            let mut client = connect_from(gateway.address(), address(network)).await;
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
            let mut client = connect_from(gateway.address(), honest.parse().unwrap()).await;
            client.login("ferry", "secret").await;
        }
    }
}
