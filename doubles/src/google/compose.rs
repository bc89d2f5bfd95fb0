//! Objects composed of others, without their bytes being sent.

use hyper::Response;
use s3s::Body;
use serde::Deserialize;

use crate::bucket::{Attributes, Bucket, Content, Object, now};

use super::Google;
use super::answer::{attributes, store_without_md5, written};
use super::ask::Ask;
use super::checksums::{crc32c_of_object, joined, kept};
use super::conditions::Generations;
use super::objects::live;
use super::refusal::{Answered, invalid_argument, malformed_xml, precondition_failed};
use super::xml;

/// One object is composed of at most so many.
const MOST: usize = 32;

#[derive(Deserialize)]
struct ComposeRequest {
    #[serde(rename = "Component", default)]
    components: Vec<Component>,
}

/// An object that becomes a piece of another.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Component {
    name: String,
    generation: Option<u64>,
    if_generation_match: Option<u64>,
}

impl Google {
    pub(crate) async fn compose(&self, ask: &Ask, body: Body) -> Answered<Response<Body>> {
        let conditions = Generations::of_target(&ask.headers)?;
        let attributes = attributes(&ask.headers)?;
        let request: ComposeRequest = xml::read(body).await?;
        request.check()?;
        let mut bucket = self.bucket();
        conditions.check(bucket.objects.get(&ask.key))?;
        let object = put_together(&mut bucket, &request.components, attributes)?;
        Ok(written(store_without_md5(&mut bucket, &ask.key, object)))
    }
}

impl ComposeRequest {
    fn check(&self) -> Answered<()> {
        match self.components.len() {
            0 => Err(malformed_xml(
                "You must provide at least one source component.",
            )),
            1..=MOST => Ok(()),
            count => Err(invalid_argument(format!(
                "The number of source components provided ({count}) exceeds the maximum ({MOST})"
            ))),
        }
    }
}

/// Shares the memory of the components, and makes the new checksum of theirs.
fn put_together(
    bucket: &mut Bucket,
    components: &[Component],
    attributes: Attributes,
) -> Answered<Object> {
    let mut chunks = Vec::new();
    let mut sums = Vec::new();
    for component in components {
        let object = component.find(bucket)?;
        check_class(object, &attributes)?;
        chunks.extend_from_slice(object.content.chunks());
        sums.push((crc32c_of_object(object), object.content.len));
    }
    Ok(Object {
        content: Content::new(chunks),
        etag: String::new(),
        generation: 0,
        modified: now(),
        attributes,
        checksum: kept(joined(sums)),
        blocks: Vec::new(),
    })
}

/// An object is composed of what has its class.
fn check_class(component: &Object, new: &Attributes) -> Answered<()> {
    let (of_new, of_component) = (new.class(), component.attributes.class());
    if of_new == of_component {
        return Ok(());
    }
    Err(invalid_argument(format!(
        "Cannot compose object with destination storage class {of_new} from source components that have different \
         storage classes ({of_component})"
    )))
}

impl Component {
    fn find<'b>(&self, bucket: &'b mut Bucket) -> Answered<&'b mut Object> {
        let object = live(bucket, &self.name, self.generation)?;
        let wanted = self.if_generation_match;
        if wanted.is_some_and(|wanted| wanted != object.generation) {
            return Err(precondition_failed("IfGenerationMatch"));
        }
        Ok(object)
    }
}
