//! What is counted of the store: each request, once.

use crate::support::{Gateway, MIB, Store, eventually, noise};

#[tokio::test(flavor = "multi_thread")]
async fn every_request_to_the_store_is_counted_once() {
    for store in [Store::s3(), Store::google()] {
        let settings = [
            ("upload.part_size", "5 MiB"),
            ("download.part_size", "1 MiB"),
        ];
        let gateway = Gateway::with(store, &settings);
        let server = gateway.store.server();
        let mut client = gateway.client().await;
        assert_eq!(client.store("a.txt", b"x").await.code, 226);
        assert_eq!(client.store("d/b.bin", &noise(12 * MIB)).await.code, 226);
        assert_eq!(client.upload("APPE a.txt", b"y").await.code, 226);
        client.retrieve("d/b.bin").await;
        client.expect("MKD d/e", 257).await;
        for listing in ["LIST", "MLSD", "NLST"] {
            client.list(listing, "d").await;
        }
        client.expect("STAT d", 213).await;
        for (from, to) in [("a.txt", "c.txt"), ("d", "f")] {
            client.expect(&format!("RNFR {from}"), 350).await;
            client.expect(&format!("RNTO {to}"), 250).await;
        }
        client.expect("DELE f/b.bin", 250).await;
        client.expect("RMD f/e", 250).await;
        client.expect("SIZE none", 550).await;
        eventually("as many counted as asked", || {
            let asked = server.requests();
            counted(&gateway) == asked.len() && server.requests() == asked
        })
        .await;
    }
}

fn counted(gateway: &Gateway) -> usize {
    let text = gateway.inner.metrics().render().unwrap();
    let lines = text.lines();
    let counts = lines.filter(|line| line.starts_with("bucketferry_store_requests_total{"));
    let values = counts.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok());
    values.sum()
}
