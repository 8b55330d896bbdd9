//! Kafka's wire protocol: ONE table of APIs ([`apis`]), ONE table of error codes ([`errors`]), the messages
//! (tables in `messages/*.txt`, from which `build.rs` makes the structs), a bounded codec and the frames.
//!
//! Nothing here trusts a length: each is checked against the bytes that are left before anything is allocated
//! for it, and the memory that decoded collections may take is bounded by the size of the frame. Decoded text
//! and bytes share the frame's buffer. Nothing here knows a socket or a file: record bytes that stand elsewhere
//! are a gap in the encoded message ([`Records::Outside`], [`EncodedPiece::Gap`]), which the caller fills.

pub mod apis;
pub mod codec;
pub mod errors;
pub mod frame;
pub mod messages;
pub mod schema;
mod text;

pub use apis::{Api, ApiKey};
pub use codec::{
    DecodeError, DecodeFault, Decoder, EncodeError, EncodeFault, EncodedPiece, Encoder, Message, Records,
    Request, UnknownTags, decode_whole, encode_to_bytes,
};
pub use errors::ErrorCode;
pub use text::Str;
