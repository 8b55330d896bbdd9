//! The reader of the message tables, which runs inside `build.rs`: a row that it cannot understand is an error
//! with its line, not a guess.

#[allow(dead_code, reason = "build.rs uses all of it")]
#[path = "../../build/names.rs"]
mod names;
#[allow(dead_code, reason = "build.rs uses all of it")]
#[path = "../../build/table.rs"]
mod table;

use table::{Holds, Scalar};

fn error(text: &str) -> String {
    match table::read("topics", text) {
        Ok(_) => panic!("this was understood:\n{text}"),
        Err(error) => format!("{}: {}", error.line, error.why),
    }
}

#[test]
fn fields_know_their_struct_versions_and_tag() {
    let text = "# A comment.\n\nrequest ThingRequest key=7 versions=2-5 flexible=4+\n  Things []Thing 0+ nullable=3+\n    \
                Name string 0+\n    Old int32 0-1\n  Extra Thing 4+ tag=3@4+ ignorable\n";
    let Ok(messages) = table::read("topics", text) else { panic!("not understood") };
    let [message] = messages.as_slice() else { panic!("one message") };
    assert_eq!((message.name.as_str(), message.key, message.flexible_from), ("ThingRequest", 7, 4));
    let [things, extra] = message.fields.as_slice() else { panic!("two fields") };
    assert!(things.holds == Holds::StructArray("Thing".to_owned()));
    assert_eq!((things.versions.lowest, things.versions.highest), (2, 5));
    assert_eq!((things.nullable.lowest, things.nullable.highest), (3, 5));
    assert_eq!((extra.tag, extra.ignorable), (Some(3), true));
    // A field of versions that are gone is gone.
    let [name] = message.structs["Thing"].fields.as_slice() else { panic!("one field") };
    assert!(name.holds == Holds::Scalar(Scalar::String));
}

#[test]
fn rows_that_cannot_be_understood_are_named_by_line() {
    let head = "request ThingRequest key=7 versions=0-1 flexible=none\n";
    assert_eq!(error("  Name string 0+\n"), "1: a field before any message");
    assert!(error("question ThingRequest\n").starts_with("1: question is none of"));
    assert_eq!(error("request ThingRequest\n\n"), "1: ThingRequest has no versions");
    assert_eq!(error(&format!("{head}  Name\n")), "2: a field is NAME TYPE VERSIONS");
    assert_eq!(error(&format!("{head}  Name strnig 0+\n")), "2: unknown type strnig");
    assert_eq!(error(&format!("{head}  Name string x\n")), "2: x are no versions");
    assert_eq!(error(&format!("{head}  Name string 0+ nulable=0+\n")), "2: unknown attribute nulable=0+");
    assert_eq!(
        error(&format!("{head}  Name string 0+ tag=1@1+\n")),
        "2: Name must be tagged in all of its versions"
    );
    assert_eq!(error(&format!("{head}   Name string 0+\n")), "2: indented by 3: two spaces a level");
    assert_eq!(
        error(&format!("{head}  Name string 0+\n    Part string 0+\n")),
        "3: Part stands under a field that has no struct"
    );
    assert_eq!(
        error(&format!("{head}  Thing Thing 0+\n")),
        "2: ThingRequest: Thing is of the unknown struct Thing"
    );
    assert_eq!(
        error(&format!("{head}  A int8 0+\n  A int8 0+\n")),
        "3: ThingRequest: two fields are named A"
    );
}

#[test]
fn kafkas_names_become_rusts() {
    for (kafka, rust) in [
        ("TimeoutMs", "timeout_ms"),
        ("KRaftVersionFeature", "kraft_version_feature"),
        ("V3AndBelowTopics", "v3_and_below_topics"),
        ("Type", "type_"),
        ("groupInstanceId", "group_instance_id"),
        ("IsrNodes", "isr_nodes"),
    ] {
        assert_eq!(names::snake(kafka), rust);
    }
    assert_eq!(names::camel("KRaftVersion"), "kRaftVersion");
}
