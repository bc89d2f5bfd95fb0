//! Guesses by somebody who has a whole /48 of IPv6, and can come from another /64 each time.

use std::net::IpAddr;

use crate::support::{Gateway, Memory};

use super::login_floods::{BALANCER, connect_from};

/// An address of this network.
fn address(network: u16) -> IpAddr {
    IpAddr::from([0x2001, 0xdb8, 7, network, 0, 0, 0, 1])
}

/// A /56 has 16 times the tries of one address for one name, and a /48 has 64 times its tries for all names, and no more.
/// Others are not concerned.
#[tokio::test(flavor = "multi_thread")]
async fn ipv6_prefix_logins() {
    for (limit, other, step, looked_at) in [
        (
            "limits.login_failures",
            "limits.login_failures_per_address",
            1,
            16.0,
        ),
        (
            "limits.login_failures_per_address",
            "limits.login_failures",
            0x101,
            64.0,
        ),
    ] {
        let settings = [
            ("ftp.trusted_proxies", BALANCER),
            (limit, "1"),
            (other, "0"),
        ];
        let gateway = Gateway::with(Memory, &settings);
        for network in 0..70 {
            let mut client = connect_from(gateway.address(), address(network * step)).await;
            let name = if step == 1 { 0 } else { network };
            client.expect(&format!("USER name{name}"), 331).await;
            client.expect("PASS wrong", 530).await;
        }
        for (outcome, times) in [
            ("unknown_user", looked_at),
            ("locked_out", 70.0 - looked_at),
        ] {
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
