//! What a broker reads from a stranger: a request header and a request of any API and version.
#![no_main]

use bytes::Bytes;
use klamm::protocol::Decoder;
use klamm::protocol::frame::RequestHeader;
use klamm::protocol::messages;
use klamm::protocol::schema::Kind;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: klamm_fuzz::write_seeds("request"), |data: &[u8]| {
    let mut decoder = Decoder::new(Bytes::copy_from_slice(data));
    let Ok(header) = RequestHeader::decode(&mut decoder) else { return };
    let Some(entry) = messages::entry(Kind::Request, header.api_key, None) else { return };
    klamm_fuzz::recode(entry, &decoder.take_remaining(), header.api_version);
});
