//! Input formats against what they must take, refuse and give back.

use super::*;

fn all(splitter: &Splitter, bytes: &[u8]) -> Vec<Result<InputRecord<'static>, String>> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        match splitter.take(&bytes[at..], true) {
            Take::Record(taken, record) => {
                found.push(Ok(owned(&record)));
                at += taken;
            }
            Take::Skip(taken) => at += taken,
            Take::Wrong(taken, why) => {
                found.push(Err(why));
                if taken == 0 {
                    break;
                }
                at += taken;
            }
            Take::More => panic!("more of {:?}", bytes.escape_ascii().to_string()),
        }
    }
    found
}

fn owned(record: &InputRecord<'_>) -> InputRecord<'static> {
    let bytes = |b: &Option<Cow<'_, [u8]>>| b.as_ref().map(|b| Cow::Owned(b.to_vec()));
    InputRecord {
        topic: record.topic.as_ref().map(|t| Cow::Owned(t.to_string())),
        partition: record.partition,
        timestamp_ms: record.timestamp_ms,
        key: bytes(&record.key),
        value: bytes(&record.value),
        headers: record
            .headers
            .iter()
            .map(|h| InputHeader { key: Cow::Owned(h.key.to_vec()), value: bytes(&h.value) })
            .collect(),
    }
}

fn pair(key: Option<&'static str>, value: Option<&'static str>) -> Result<InputRecord<'static>, String> {
    let bytes = |text: Option<&'static str>| text.map(|text| Cow::Borrowed(text.as_bytes()));
    Ok(InputRecord { key: bytes(key), value: bytes(value), ..InputRecord::default() })
}

fn value(text: &'static str) -> Result<InputRecord<'static>, String> {
    pair(None, Some(text))
}

#[test]
fn lines_are_cut_at_delimiters_and_empty_ones_kept() {
    let lines = Splitter::Delimited(Box::new(Delimited::new(b"\n", None, false)));
    assert_eq!(all(&lines, b"a\n\nb"), [value("a"), value(""), value("b")]);
    let long = Splitter::Delimited(Box::new(Delimited::new(b"-=-", None, false)));
    assert_eq!(all(&long, b"a-=-b-=--=-"), [value("a"), value("b"), value("")]);
    assert_eq!(long.take(b"a-=", false), Take::More);
    assert_eq!(long.resume(b"xxx-="), Some(Resume::Later(3)));
    assert_eq!(long.resume(b"xxx-=-y"), Some(Resume::At(6)));
}

#[test]
fn keys_are_split_off_at_the_first_key_delimiter() {
    let keyed = Splitter::Delimited(Box::new(Delimited::new(b"\n", Some(b"::"), false)));
    let found = all(&keyed, b"k::v::w\n::\nnone\nx::y\n");
    assert_eq!(found[0], pair(Some("k"), Some("v::w")));
    assert_eq!(found[1], pair(Some(""), Some("")));
    assert!(found[2].as_ref().unwrap_err().contains("\"::\""));
    assert_eq!(found[3], pair(Some("x"), Some("y")));
    let nulls = Splitter::Delimited(Box::new(Delimited::new(b"\n", Some(b":"), true)));
    assert_eq!(all(&nulls, b":v\nk:\n:\n"), [pair(None, Some("v")), pair(Some("k"), None), pair(None, None)]);
}

#[test]
fn format_strings_read_what_they_describe() {
    let cases: [(&str, &[u8], InputRecord<'static>); 6] = [
        ("%k=%v\n", b"a=b=c\n", pair(Some("a"), Some("b=c")).unwrap()),
        ("%K{big32}%k%V{big16}%v", b"\0\0\0\x01k\0\x02vw", pair(Some("k"), Some("vw")).unwrap()),
        ("%K %k%V %v\n", b"-1 2 ab\n", pair(None, Some("ab")).unwrap()),
        ("%v{hex};", b"6869;", value("hi").unwrap()),
        ("%V{3}%v{base64}", b"002aGk=", value("hi").unwrap()),
        ("%v{re[[0-9]+]}%k\n", b"12ab\n", pair(Some("ab"), Some("12")).unwrap()),
    ];
    for (format, bytes, expected) in cases {
        let splitter = Splitter::Format(InputFormat::compile(format, false).unwrap());
        assert_eq!(all(&splitter, bytes), [Ok(expected)], "{format}");
    }
}

#[test]
fn format_strings_read_everything_else_of_a_record() {
    let format = InputFormat::compile("%t %p %T %o %H %h{%k:%V:%v,}%v\n", false).unwrap();
    let found = all(&Splitter::Format(format), b"t 3 1700000000000 9 2 a:1:x,b:-1:,val\n");
    let record = found[0].as_ref().unwrap();
    assert_eq!(record.topic.as_deref(), Some("t"));
    assert_eq!((record.partition, record.timestamp_ms), (Some(3), Some(1_700_000_000_000)));
    assert_eq!(record.headers.len(), 2);
    assert_eq!(record.headers[0].value.as_deref(), Some(&b"x"[..]));
    assert_eq!(record.headers[1].value, None);
    assert_eq!(record.value.as_deref(), Some(&b"val"[..]));
    let timed = InputFormat::compile("%T{rfc3339} %v\n", false).unwrap();
    let found = all(&Splitter::Format(timed), b"2026-01-01T00:00:00Z x\n");
    assert_eq!(found[0].as_ref().unwrap().timestamp_ms, Some(1_767_225_600_000));
}

#[test]
fn every_cut_of_a_record_asks_for_more() {
    let format = InputFormat::compile("%K{big16}%k%H %h{%K{big8}%k%V{big8}%v}%v\n", false).unwrap();
    let splitter = Splitter::Format(format);
    let bytes = b"\0\x01k2 \x01a\x01x\x01b\xffvalue\n";
    for cut in 1..bytes.len() {
        assert_eq!(splitter.take(&bytes[..cut], false), Take::More, "{cut}");
    }
    assert!(matches!(splitter.take(bytes, false), Take::Record(taken, _) if taken == bytes.len()));
}

#[test]
fn formats_that_cannot_be_read_are_refused() {
    for (format, named) in [
        ("", "empty"),
        ("%k%v\n", "%k"),
        ("%h", "%H"),
        ("%q", "%q"),
        ("%V%v{json}", "json"),
        ("%H%h{%o}", "%o"),
        ("%H %h{}", "%k"),
        ("%v{re[(]}\n", "%v"),
    ] {
        let error = InputFormat::compile(format, false).unwrap_err();
        assert!(error.contains(named), "{format}: {error}");
    }
}

#[test]
fn input_that_does_not_fit_is_named() {
    for (format, bytes, named) in [
        ("a%v\n", &b"b\n"[..], "\"a\" is expected"),
        ("%V{big32}%v", b"\0\0\0\x05ab", "ends inside"),
        ("%p %v\n", b"x y\n", "not a number"),
        ("%V %v", b"-2 ", "no length"),
        ("%v{hex}\n", b"zz\n", "hexadecimal"),
    ] {
        let splitter = Splitter::Format(InputFormat::compile(format, false).unwrap());
        let found = all(&splitter, bytes);
        assert!(found[0].as_ref().unwrap_err().contains(named), "{format}: {found:?}");
    }
}

#[test]
fn json_lines_skip_blanks_and_name_what_is_wrong() {
    let found = all(&Splitter::Json, b"{\"value\":\"a\"}\n\n  \n{]\n{\"value\":null}");
    assert_eq!(found.len(), 3);
    assert_eq!(found[0], value("a"));
    assert!(found[1].is_err());
    assert_eq!(found[2], pair(None, None));
}
