//! Objects composed of others.

use super::raw::Answer;
use super::{ask, put, start};
use crate::Server;

/// Composes `target` of these components, each the inside of its element.
async fn compose(server: &Server, target: &str, components: &[String]) -> Answer {
    compose_if(server, target, components, &[]).await
}

async fn compose_if(
    server: &Server,
    target: &str,
    components: &[String],
    headers: &[(&str, &str)],
) -> Answer {
    let components = components
        .iter()
        .map(|inside| format!("<Component>{inside}</Component>"));
    let body = format!(
        "<ComposeRequest>{}</ComposeRequest>",
        components.collect::<String>()
    );
    let asking = ask(server, "PUT", &format!("{target}?compose"));
    let asking = headers
        .iter()
        .fold(asking, |asking, (name, value)| asking.with(name, value));
    asking.body(body).send().await
}

fn named(name: &str) -> String {
    format!("<Name>{name}</Name>")
}

#[tokio::test]
async fn composes_one_object_of_others() {
    let server = start();
    put(&server, "a%26b", "hello ").await;
    put(&server, "c", "world").await;
    let components = [named("a&amp;b"), named("c")];
    let headers = [("content-type", "text/plain"), ("x-goog-meta-k", "v")];
    let made = compose_if(&server, "d", &components, &headers).await;
    assert_eq!((made.status, made.body.as_str()), (200, ""));
    assert_eq!(server.object("d").as_deref(), Some(&b"hello world"[..]));
    assert_eq!(server.content_type("d").as_deref(), Some("text/plain"));
    assert_eq!(server.metadata("d", "k").as_deref(), Some("v"));
    assert_eq!(server.count("Compose"), 1);
    let read = ask(&server, "GET", "d").send().await;
    for answer in [&made, &read] {
        // That of "hello world". There is no MD5.
        assert_eq!(answer.header("x-goog-hash"), "crc32c=yZRlqg==");
        assert!(answer.header("etag").starts_with("\"-"), "{answer:?}");
        assert_eq!(
            answer.header("x-goog-generation"),
            read.header("x-goog-generation")
        );
    }
}

#[tokio::test]
async fn appends_to_itself_and_changes_its_tag() {
    let server = start();
    put(&server, "a", "1").await;
    put(&server, "b", "2").await;
    let both = [named("a"), named("b")];
    let first = compose(&server, "a", &both).await;
    let second = compose(&server, "a", &both).await;
    assert_eq!(server.object("a").as_deref(), Some(&b"122"[..]));
    assert_ne!(first.header("etag"), second.header("etag"));
}

#[tokio::test]
async fn components_have_the_generation_they_should() {
    let server = start();
    let generation = put(&server, "a", "1").await;
    let of = |generation: &str| {
        [format!(
            "<Name>a</Name><Generation>{generation}</Generation>"
        )]
    };
    assert_eq!(compose(&server, "b", &of(&generation)).await.status, 200);
    let refused = compose(&server, "b", &of("1")).await;
    assert_eq!(refused.refusal(), (404, "NoSuchKey"));
    let refused = compose(&server, "b", &[named("none")]).await;
    assert_eq!(refused.refusal(), (404, "NoSuchKey"));
    let only_if = |generation: &str| {
        [format!(
            "<Name>a</Name><IfGenerationMatch>{generation}</IfGenerationMatch>"
        )]
    };
    let made = compose(&server, "b", &only_if(&generation)).await;
    assert_eq!(made.status, 200);
    let refused = compose(&server, "b", &only_if("1")).await;
    assert_eq!(refused.refusal(), (412, "PreconditionFailed"));
}

#[tokio::test]
async fn target_has_the_generation_it_should() {
    let server = start();
    let generation = put(&server, "a", "1").await;
    let twice = [named("a"), named("a")];
    let only_if = |generation| [("x-goog-if-generation-match", generation)];
    let refused = compose_if(&server, "a", &twice, &only_if("0")).await;
    assert_eq!(refused.refusal(), (412, "PreconditionFailed"));
    let made = compose_if(&server, "a", &twice, &only_if(&generation)).await;
    assert_eq!(made.status, 200);
    let late = compose_if(&server, "a", &twice, &only_if(&generation)).await;
    assert_eq!(late.status, 412);
    assert_eq!(server.object("a").as_deref(), Some(&b"11"[..]));
}

#[tokio::test]
async fn composes_at_most_32_objects() {
    let server = start();
    put(&server, "a", "1").await;
    let many = vec![named("a"); 32];
    assert_eq!(compose(&server, "b", &many).await.status, 200);
    let too_many = vec![named("a"); 33];
    let refused = compose(&server, "b", &too_many).await;
    assert_eq!(refused.refusal(), (400, "InvalidArgument"));
    assert_eq!(server.size("b"), Some(32));
}

#[tokio::test]
async fn refuses_what_is_no_composition() {
    let server = start();
    put(&server, "a", "1").await;
    let unknown = "<Name>a</Name><Condition>1</Condition>".to_owned();
    for components in [vec![], vec![String::new()], vec![unknown]] {
        let refused = compose(&server, "b", &components).await;
        assert_eq!(refused.refusal(), (400, "MalformedXML"));
    }
    let refused = ask(&server, "PUT", "b?compose").body("<oops").send().await;
    assert_eq!(refused.refusal(), (400, "MalformedXML"));
    assert_eq!(server.keys(), ["a"]);
}
