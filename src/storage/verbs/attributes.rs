//! What an object carries: its content type, who sent it, and what the configuration has it carry besides.

use std::collections::BTreeMap;

use mime_guess::mime::Mime;
use object_store::path::Path;
use object_store::{Attribute, Attributes};

use crate::auth::User;
use crate::config;
use crate::storage::store::MetadataNames;
use crate::storage::store::description::{Description, Tags};
use crate::storage::verbs::contract::Uploader;

/// What the gateway's own metadata begins with: it is about one version of an object.
const OWN: &str = "ferry";

/// The description of an object that `user` uploads. What is added to one that is there keeps what that carries.
pub(crate) fn of(
    names: MetadataNames,
    user: &User,
    uploader: Uploader<'_>,
    key: &Path,
    upload: &config::Upload,
    base: Option<&Description>,
) -> Description {
    Description {
        attributes: attributes(names, user, uploader, key, upload, base),
        tags: tags(user, uploader, upload, base),
        is_class_kept: base.is_some(),
    }
}

fn attributes(
    names: MetadataNames,
    user: &User,
    uploader: Uploader<'_>,
    key: &Path,
    upload: &config::Upload,
    base: Option<&Description>,
) -> Attributes {
    let mut attributes = base.map(|it| kept(&it.attributes)).unwrap_or_default();
    let class = user
        .storage_class
        .as_ref()
        .or(upload.storage_class.as_ref());
    if let (None, Some(class)) = (base, class) {
        attributes.insert(Attribute::StorageClass, class.to_string().into());
    }
    if attributes.get(&Attribute::ContentType).is_none() {
        attributes.insert(Attribute::ContentType, content_type(key, upload).into());
    }
    for (name, value) in upload.metadata.with(&user.metadata).iter() {
        let value = in_a_header(&filled(value, user, uploader)).into();
        attributes.insert(Attribute::Metadata(names.of(name).into()), value);
    }
    let user = in_a_header(&user.name).into();
    attributes.insert(Attribute::Metadata(names.user.into()), user);
    let session = uploader.session.to_string().into();
    attributes.insert(Attribute::Metadata(names.session.into()), session);
    attributes
}

/// Those of the base, as far as there is room beside the configured ones.
fn tags(
    user: &User,
    uploader: Uploader<'_>,
    upload: &config::Upload,
    base: Option<&Description>,
) -> Tags {
    let wanted = upload.tags.with(&user.tags);
    let wanted = wanted.iter().map(|(name, value)| {
        let value = in_a_tag(&filled(value, user, uploader));
        (name.to_owned(), value)
    });
    let mut tags: BTreeMap<_, _> = wanted.collect();
    for (name, value) in base.iter().flat_map(|base| &base.tags.0) {
        if tags.len() < config::MOST_TAGS && !is_of_a_version(name) {
            tags.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    Tags(tags)
}

/// Whether a tag is about the content of one version: the verdict of a scanner must not be that of what was added.
fn is_of_a_version(tag: &str) -> bool {
    let tag = tag.to_lowercase();
    let is_verdict = VERDICTS.iter().any(|word| tag.contains(word)) || tag.starts_with("av-");
    is_verdict || OF_A_VERSION_IN_TAGS.iter().any(|word| tag.contains(word))
}

/// What scanners for malware have in the names of their tags (those of AWS, of Microsoft and others).
const VERDICTS: [&str; 9] = [
    "malware",
    "virus",
    "threat",
    "clamav",
    "scan-",
    "scan_",
    "scan ",
    "scanstatus",
    "scanresult",
];

/// Checksums and times.
const OF_A_VERSION_IN_TAGS: [&str; 8] = [
    "md5", "sha1", "sha256", "sha512", "crc32", "crc64", "checksum", "mtime",
];

/// What no tag can hold is `_`, and what is too long ends early.
fn in_a_tag(text: &str) -> String {
    let taken = |c: char| if config::is_in_tags(c) { c } else { '_' };
    text.chars().take(config::LONGEST_TAG).map(taken).collect()
}

/// A value of the configuration with what is known of an upload in its places. What is filled in fills nothing itself.
fn filled(value: &str, user: &User, uploader: Uploader<'_>) -> String {
    let mut parts = value.split('{');
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (place, rest) = part.split_once('}').unwrap_or((part, ""));
        match place {
            "user" => filled.push_str(&user.name),
            "peer" => filled.push_str(&uploader.peer.to_string()),
            "session" => filled.push_str(&uploader.session.to_string()),
            "home" => filled.push_str(&user.home.to_string()),
            // The configuration has no others.
            _ => {}
        }
        filled.push_str(rest);
    }
    filled
}

/// What metadata of other programs has in its name that is about the content of one version: checksums and times.
const OF_A_VERSION: [&str; 9] = [
    "md5",
    "sha",
    "crc",
    "checksum",
    "chksum",
    "hash",
    "etag",
    "mtime",
    "s3cmd-attrs",
];

/// Bytes of other programs' metadata that are kept: S3 takes 2 KiB in all, and some of that is the gateway's.
const MOST_KEPT: usize = 1024;

/// What Google says of objects of which nobody has said it.
const GOOGLES_CACHE_CONTROL: &str = "private, max-age=0";

/// What the next version of an object says as well.
fn kept(base: &Attributes) -> Attributes {
    let is_kept = |attribute: &Attribute, value: &str| match attribute {
        Attribute::Metadata(name) => {
            let name = name.to_lowercase();
            !name.starts_with(OWN) && !OF_A_VERSION.iter().any(|it| name.contains(it))
        }
        // Some stores keep how a request was encoded.
        Attribute::ContentEncoding => !value.contains("aws-chunked"),
        Attribute::CacheControl => value != GOOGLES_CACHE_CONTROL,
        _ => true,
    };
    let mut room = MOST_KEPT;
    let mut fits = |attribute: &Attribute, value: &str| {
        let Attribute::Metadata(name) = attribute else {
            return true;
        };
        let bytes = name.len() + value.len();
        let fits = bytes <= room;
        room -= if fits { bytes } else { 0 };
        fits
    };
    let kept = base.iter();
    let kept =
        kept.filter(|(attribute, value)| is_kept(attribute, value) && fits(attribute, value));
    kept.map(|(attribute, value)| (attribute.clone(), value.clone()))
        .collect()
}

/// By the name, which is all there is.
fn content_type(key: &Path, upload: &config::Upload) -> String {
    let end = key.filename().and_then(|name| name.rsplit_once('.'));
    if let Some(wanted) = end.and_then(|(_, end)| upload.content_types.get(end)) {
        return wanted.to_owned();
    }
    let guessed = mime_guess::from_path(key.as_ref()).first_or_octet_stream();
    if is_active(&guessed) && !upload.active_content {
        return mime_guess::mime::APPLICATION_OCTET_STREAM.to_string();
    }
    guessed.to_string()
}

/// Whether a browser may run what it gets with this type. XML can be a page: it names its own style sheet and scripts.
fn is_active(content_type: &Mime) -> bool {
    let (essence, subtype) = (content_type.essence_str(), content_type.subtype().as_str());
    let is_xml = subtype == "xml"
        || subtype == "xsl"
        || content_type.suffix() == Some(mime_guess::mime::XML);
    let is_script = [
        "javascript",
        "ecmascript",
        "jscript",
        "vbscript",
        "typescript",
    ]
    .iter()
    .any(|language| subtype.contains(language));
    let is_page = [
        "text/html",
        "text/x-component",
        "text/cache-manifest",
        "message/rfc822",
        "application/x-shockwave-flash",
        "application/x-silverlight-app",
        "application/java-archive",
        "application/x-java-applet",
    ];
    is_xml || is_script || is_page.contains(&essence)
}

/// Metadata travels in headers, which hold ASCII: the rest is written as a URL would.
fn in_a_header(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::CONTROLS).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ObjectMetadata;
    use crate::session::{OwnUploads, SessionId};

    #[test]
    fn types_go_by_the_name() {
        let types = |upload: &config::Upload, names: &[&str]| {
            let types = names
                .iter()
                .map(|name| content_type(&Path::from(*name), upload));
            types.collect::<Vec<_>>()
        };
        let none = "application/octet-stream";
        let mut upload = config::Upload::default();
        let passive = ["in/scan.PDF", "in/a.csv", "in/none", "a.jpg", "in.d/csv"];
        assert_eq!(
            types(&upload, &passive),
            ["application/pdf", "text/csv", none, "image/jpeg", none]
        );
        let active = [
            "a.html", "a.HTM", "a.xhtml", "a.svg", "a.xml", "a.js", "a.mjs", "a.xsl", "a.xslt",
            "a.swf", "a.mht", "a.rss", "a.svgz", "a.shtml", "a.jar", "a.htc", "a.vbs",
        ];
        for name in active {
            assert_eq!(types(&upload, &[name]), [none], "{name}");
        }
        upload.active_content = true;
        let own = types(&upload, &["a.html", "a.svg", "a.js"]);
        assert_eq!(own, ["text/html", "image/svg+xml", "text/javascript"]);
        upload.active_content = false;
        upload.content_types = toml_types();
        assert_eq!(
            types(&upload, &["a.XML", "a.html"]),
            ["application/xml", none]
        );
    }

    fn uploader(own: &OwnUploads) -> Uploader<'_> {
        Uploader {
            session: SessionId::random(),
            peer: [192, 0, 2, 1].into(),
            told: None,
            own,
            may_return: true,
        }
    }

    #[test]
    fn metadata_has_places_for_what_is_known_of_an_upload() {
        let table = |text: &str| ObjectMetadata::from_table(&text.parse().unwrap()).unwrap();
        let mut upload = config::Upload {
            metadata: table("from = '{user}@{peer} {home}'\nby = '{session}'\nkind = 'any'"),
            ..config::Upload::default()
        };
        let mut anna = User::unrestricted("{peer} Müller".to_owned());
        anna.metadata = table("kind = 'scan'");
        let own = OwnUploads::default();
        let uploader = uploader(&own);
        let names = MetadataNames::HYPHENED;
        let attributes = of(names, &anna, uploader, &Path::from("a"), &upload, None).attributes;
        let value = |name: &'static str| {
            let value = attributes.get(&Attribute::Metadata(name.into()));
            value.map(|it| it.to_string()).unwrap_or_default()
        };
        assert_eq!(value("from"), "{peer} M%C3%BCller@192.0.2.1 /");
        assert_eq!(value("by"), uploader.session.to_string());
        assert_eq!(value("kind"), "scan");
        upload.metadata = table("a-b = 'x'");
        let (names, key) = (MetadataNames::IDENTIFIERS, Path::from("a"));
        let attributes = of(names, &anna, uploader, &key, &upload, None).attributes;
        assert!(attributes.get(&Attribute::Metadata("a_b".into())).is_some());
    }

    fn toml_types() -> config::ContentTypes {
        let sources = config::Sources {
            environment: vec![(
                "BUCKETFERRY_UPLOAD__CONTENT_TYPES".to_owned(),
                "xml=application/xml".to_owned(),
            )],
            ..config::Sources::default()
        };
        config::Config::load(&sources).unwrap().upload.content_types
    }

    #[test]
    fn what_is_added_to_keeps_what_it_says_of_itself() {
        let metadata = |name: &'static str| Attribute::Metadata(name.into());
        let base: Attributes = [
            (Attribute::ContentType, "text/x-ledger"),
            (Attribute::CacheControl, "no-store"),
            (metadata("invoice"), "7"),
            (metadata("ftp-user"), "bert"),
            (metadata("ferryupload"), "of another version"),
            (metadata("ferrycrc64"), "of another version"),
            (metadata("md5chksum"), "of another version"),
            (metadata("mtime"), "1700000000.5"),
        ]
        .into_iter()
        .collect();
        let anna = User::unrestricted("anna".to_owned());
        let upload = config::Upload::default();
        let key = Path::from("a.csv");
        let own = OwnUploads::default();
        let names = MetadataNames::HYPHENED;
        let base = Description::from(base);
        let attributes = of(names, &anna, uploader(&own), &key, &upload, Some(&base)).attributes;
        let value = |attribute| attributes.get(&attribute).map(|it| it.to_string());
        assert_eq!(
            value(Attribute::ContentType).as_deref(),
            Some("text/x-ledger")
        );
        assert_eq!(value(Attribute::CacheControl).as_deref(), Some("no-store"));
        assert_eq!(value(metadata("invoice")).as_deref(), Some("7"));
        assert_eq!(value(metadata("ftp-user")).as_deref(), Some("anna"));
        assert_eq!(value(metadata("ferryupload")), None);
        assert_eq!(value(metadata("ferrycrc64")), None);
        assert_eq!(value(metadata("md5chksum")), None);
        assert_eq!(value(metadata("mtime")), None);
        let long = "x".repeat(700);
        let base = ["a", "b"].map(|name| (metadata(name), long.clone()));
        let base: Attributes = base.into_iter().collect();
        let base = Description::from(base);
        let attributes = of(names, &anna, uploader(&own), &key, &upload, Some(&base)).attributes;
        let left = attributes
            .iter()
            .filter(|(_, value)| value.as_ref() == long);
        assert_eq!(left.count(), 1, "there is no room for both");
    }

    #[test]
    fn verdicts_are_not_those_of_what_was_added() {
        let mut base = Description::default();
        let dropped = [
            "GuardDutyMalwareScanStatus",
            "Malware Scanning scan result",
            "av-status",
            "scan-result",
            "MD5",
        ];
        let kept = ["scanner", "scanned-by", "retain", "shared"];
        for name in dropped.iter().chain(&kept) {
            base.tags.0.insert((*name).to_owned(), "x".to_owned());
        }
        let (own, anna) = (OwnUploads::default(), User::unrestricted("anna".to_owned()));
        let upload = config::Upload::default();
        let tags = super::tags(&anna, uploader(&own), &upload, Some(&base));
        let mut left: Vec<_> = tags.0.keys().map(String::as_str).collect();
        left.sort_unstable();
        let mut kept = kept;
        kept.sort_unstable();
        assert_eq!(left, kept);
    }

    #[test]
    fn those_of_the_configuration_are_there_first() {
        let tags = |text: &str| config::ObjectTags::from_table(&text.parse().unwrap()).unwrap();
        let upload = config::Upload {
            tags: tags("by = '{user}'\nkind = 'any'"),
            ..config::Upload::default()
        };
        let mut anna = User::unrestricted("ännä".repeat(100));
        anna.tags = tags("kind = 'scan'");
        let mut base = Description::default();
        for number in 0..10 {
            base.tags.0.insert(format!("{number}"), String::new());
        }
        let own = OwnUploads::default();
        let tags = super::tags(&anna, uploader(&own), &upload, Some(&base)).0;
        assert_eq!(tags.len(), 10);
        assert_eq!(tags["kind"], "scan");
        assert!(tags["by"].starts_with("_nn__nn_") && tags["by"].len() == 256);
    }

    #[test]
    fn names_fit_into_headers() {
        assert_eq!(in_a_header("scanner 1"), "scanner 1");
        assert_eq!(in_a_header("Müller"), "M%C3%BCller");
    }
}
