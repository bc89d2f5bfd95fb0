//! Networks without IPv4.

use crate::support::client::Client;
use crate::support::gateway::Gateway;
use crate::support::host::join;
use crate::support::network;

#[test]
#[ignore = "needs root: make test-network"]
fn both_modes_work_on_ipv6_alone() {
    let Some(mut network) = network() else { return };
    let (client, server) = (network.host("client"), network.host("server"));
    join((&client, "2001:db8::2/64"), (&server, "2001:db8::10/64"));
    let gateway = Gateway::on(&server, &[("active.enabled", "true")]);
    let programs = [
        Client::Curl,
        Client::Lftp,
        Client::Ftplib,
        Client::CurlActive,
        Client::LftpActive,
        Client::FtplibActive,
    ];
    for program in programs {
        program.works(&client, "2001:db8::10", &gateway);
    }
    gateway.says(&["transfer", "[2001:db8::2]"]);
}
