//! Frames: a 4-byte size, a header, a message.
//!
//! Request headers are version 1, or 2 (with tagged fields) where the request is flexible; the client id in them
//! is never compact. Response headers are version 0, or 1 where the response is flexible; that of ApiVersions
//! is always 0.

use bytes::Bytes;
use thiserror::Error;

use super::apis::{self, ApiKey};
use super::codec::{
    DecodeError, Decoder, EncodeError, EncodeFault, EncodedPiece, Encoder, Message, Request, UnknownTags,
};
use super::messages::request_header::RequestHeader as WireRequestHeader;
use super::messages::response_header::ResponseHeader as WireResponseHeader;
use super::text::Str;

/// Bytes of the size in front of a frame.
pub const SIZE_PREFIX: usize = 4;

/// A size that no frame may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidFrameSize {
    /// Below zero.
    #[error("a frame of {0} bytes")]
    Negative(i32),
    /// Not even room for a header.
    #[error("a frame of {0} bytes is too short for a header")]
    TooShort(usize),
    /// The first bytes of a TLS handshake, which a client of a plain port should not send.
    #[error("a TLS handshake on a plain listener")]
    TlsHello,
    /// More than allowed.
    #[error("a frame of {size} bytes; {max} is the most")]
    TooLarge {
        /// What it claims.
        size: usize,
        /// The most.
        max: usize,
    },
}

/// The size of the frame that follows these four bytes, if it may have that size.
///
/// # Errors
/// [`InvalidFrameSize`]: the connection cannot be read on.
pub fn frame_size(prefix: [u8; SIZE_PREFIX], max: usize) -> Result<usize, InvalidFrameSize> {
    let claimed = i32::from_be_bytes(prefix);
    let size = usize::try_from(claimed).map_err(|_| InvalidFrameSize::Negative(claimed))?;
    if size > max {
        // 0x16: handshake; 0x03: every version of TLS.
        let is_tls = prefix[0] == 0x16 && prefix[1] == 0x03;
        return Err(if is_tls {
            InvalidFrameSize::TlsHello
        } else {
            InvalidFrameSize::TooLarge { size, max }
        });
    }
    // Correlation id alone, in the shortest response; requests have more, which decoding finds out.
    if size < 4 {
        return Err(InvalidFrameSize::TooShort(size));
    }
    Ok(size)
}

/// What stands before a request.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct RequestHeader {
    /// The API's key, known or not.
    pub api_key: i16,
    /// The version of the request.
    pub api_version: i16,
    /// Comes back in the response.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<Str>,
    /// Tagged fields that are not known.
    pub unknown_tags: UnknownTags,
}

impl RequestHeader {
    /// Reads the header; the request follows in the decoder.
    ///
    /// The header's own version depends on the API and its version. ApiVersions is answered in any version, so
    /// the header of one that is not known is read as far as all versions agree; as is that of an unknown API.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(decoder: &mut Decoder) -> Result<Self, DecodeError> {
        let api_key = decoder.int16();
        let api_version = decoder.int16();
        let header_version = match apis::find(api_key) {
            Some(api) if api_version <= api.highest_unstable => api.request_header_version(api_version),
            _ => 1,
        };
        let correlation_id = decoder.int32();
        let client_id = decoder.string_opt(false, true, "clientId");
        let unknown_tags = decoder.unknown_tags(header_version >= 2);
        match decoder.take_fault() {
            None => Ok(Self { api_key, api_version, correlation_id, client_id, unknown_tags }),
            Some((position, fault)) => Err(DecodeError {
                message: WireRequestHeader::NAME,
                version: header_version,
                position,
                fault,
            }),
        }
    }

    /// Writes the header as the request's version wants it.
    fn write(&self, encoder: &mut Encoder, header_version: i16) {
        let wire = WireRequestHeader {
            request_api_key: self.api_key,
            request_api_version: self.api_version,
            correlation_id: self.correlation_id,
            client_id: self.client_id.clone(),
            unknown_tags: self.unknown_tags.clone(),
        };
        wire.write(encoder, header_version);
    }
}

/// What stands before a response.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ResponseHeader {
    /// That of the request.
    pub correlation_id: i32,
    /// Tagged fields that are not known.
    pub unknown_tags: UnknownTags,
}

impl ResponseHeader {
    /// Reads the header of a response to a request of this API and version; the response follows.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(decoder: &mut Decoder, key: ApiKey, version: i16) -> Result<Self, DecodeError> {
        let header_version = apis::response_header_version(key, version);
        let wire = WireResponseHeader::decode(decoder, header_version)?;
        Ok(Self { correlation_id: wire.correlation_id, unknown_tags: wire.unknown_tags })
    }
}

/// A whole request with its size, ready to be sent.
///
/// # Errors
/// [`EncodeError`].
pub fn encode_request<R: Request>(
    correlation_id: i32,
    client_id: Option<&Str>,
    version: i16,
    request: &R,
) -> Result<Vec<EncodedPiece>, EncodeError> {
    let mut encoder = framed();
    let header = RequestHeader {
        api_key: R::KEY.key(),
        api_version: version,
        correlation_id,
        client_id: client_id.cloned(),
        unknown_tags: UnknownTags::default(),
    };
    header.write(&mut encoder, apis::request_header_version(R::KEY, version));
    request.encode(&mut encoder, version)?;
    finish::<R>(encoder, version)
}

/// A whole response of this API with its size, ready to be sent.
///
/// # Errors
/// [`EncodeError`].
pub fn encode_response<M: Message>(
    correlation_id: i32,
    key: ApiKey,
    version: i16,
    response: &M,
) -> Result<Vec<EncodedPiece>, EncodeError> {
    let mut encoder = framed();
    let header = WireResponseHeader { correlation_id, ..WireResponseHeader::default() };
    header.write(&mut encoder, apis::response_header_version(key, version));
    response.encode(&mut encoder, version)?;
    finish::<M>(encoder, version)
}

/// An encoder that begins with room for the size.
fn framed() -> Encoder {
    let mut encoder = Encoder::new();
    encoder.int32(0);
    encoder
}

fn finish<M: Message>(mut encoder: Encoder, version: i16) -> Result<Vec<EncodedPiece>, EncodeError> {
    let length = encoder.len() - SIZE_PREFIX;
    let size = i32::try_from(length).map_err(|_| EncodeError {
        message: M::NAME,
        version,
        fault: EncodeFault::TooLong { length },
    })?;
    encoder.patch_int32(0, size);
    Ok(encoder.finish())
}

/// The pieces as one, where nothing stands outside: for tests and small clients.
#[must_use]
pub fn join(pieces: &[EncodedPiece]) -> Option<Bytes> {
    let mut whole = Vec::with_capacity(pieces.iter().map(EncodedPiece::len).sum());
    for piece in pieces {
        match piece {
            EncodedPiece::Bytes(bytes) => whole.extend_from_slice(bytes),
            EncodedPiece::Gap { .. } => return None,
        }
    }
    Some(Bytes::from(whole))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::codec::{DecodeFault, Records, decode_whole};
    use crate::protocol::messages::api_versions_request::ApiVersionsRequest;
    use crate::protocol::messages::api_versions_response::ApiVersionsResponse;
    use crate::protocol::messages::fetch_response::{FetchResponse, FetchableTopicResponse, PartitionData};
    use crate::protocol::messages::metadata_request::MetadataRequest;

    #[test]
    fn a_request_comes_back_with_its_header() {
        let client = Str::from("klamm");
        for version in MetadataRequest::VERSIONS {
            let request = MetadataRequest::default();
            let bytes = join(&encode_request(7, Some(&client), version, &request).unwrap()).unwrap();
            assert_eq!(frame_size(bytes[..4].try_into().unwrap(), 1 << 20), Ok(bytes.len() - 4));
            let mut decoder = Decoder::new(bytes.slice(4..));
            let header = RequestHeader::decode(&mut decoder).unwrap();
            assert_eq!((header.api_key, header.api_version, header.correlation_id), (3, version, 7));
            assert_eq!(header.client_id.as_deref(), Some("klamm"));
            assert_eq!(decode_whole::<MetadataRequest>(&mut decoder, version).unwrap(), request);
        }
    }

    #[test]
    fn the_client_id_is_not_compact_in_header_version_2() {
        let bytes =
            join(&encode_request(1, Some(&"ab".into()), 3, &ApiVersionsRequest::default()).unwrap()).unwrap();
        assert_eq!(&bytes[4..], b"\0\x12\0\x03\0\0\0\x01\0\x02ab\0\x01\x01\0");
    }

    #[test]
    fn an_api_versions_response_always_has_header_version_0() {
        let bytes =
            join(&encode_response(9, ApiKey::ApiVersions, 3, &ApiVersionsResponse::default()).unwrap())
                .unwrap();
        let error_code_at = 8;
        assert_eq!(&bytes[4..error_code_at], 9i32.to_be_bytes());
        let mut decoder = Decoder::new(bytes.slice(error_code_at..));
        assert!(decode_whole::<ApiVersionsResponse>(&mut decoder, 3).is_ok());
    }

    #[test]
    fn an_api_versions_request_of_an_unknown_version_still_has_a_header() {
        let frame = Bytes::from_static(b"\0\x12\0\x63\0\0\0\x05\0\x02ab\x09\x09\x09");
        let header = RequestHeader::decode(&mut Decoder::new(frame)).unwrap();
        assert_eq!((header.api_version, header.correlation_id), (99, 5));
        assert_eq!(header.client_id.as_deref(), Some("ab"));
    }

    #[test]
    fn s1_8_sizes_that_no_frame_has_are_refused() {
        let max = 100;
        assert_eq!(frame_size((-1i32).to_be_bytes(), max), Err(InvalidFrameSize::Negative(-1)));
        assert_eq!(frame_size(i32::MIN.to_be_bytes(), max), Err(InvalidFrameSize::Negative(i32::MIN)));
        assert_eq!(frame_size(0i32.to_be_bytes(), max), Err(InvalidFrameSize::TooShort(0)));
        let size = i32::MAX as usize;
        assert_eq!(frame_size(i32::MAX.to_be_bytes(), max), Err(InvalidFrameSize::TooLarge { size, max }));
        assert_eq!(frame_size(100i32.to_be_bytes(), max), Ok(100));
    }

    #[test]
    fn kafka_4090_a_tls_hello_is_named_after_four_bytes() {
        assert_eq!(frame_size([0x16, 0x03, 0x01, 0x02], 104_857_600), Err(InvalidFrameSize::TlsHello));
    }

    #[test]
    fn records_outside_leave_a_gap_that_the_size_counts() {
        let partition = PartitionData { records: Some(Records::Outside { len: 5000 }), ..Default::default() };
        let topic =
            FetchableTopicResponse { partitions: vec![partition.clone(), partition], ..Default::default() };
        let response = FetchResponse { responses: vec![topic], ..Default::default() };
        let pieces = encode_response(1, ApiKey::Fetch, 12, &response).unwrap();
        assert_eq!(pieces.iter().filter(|piece| matches!(piece, EncodedPiece::Gap { len: 5000 })).count(), 2);
        let EncodedPiece::Bytes(first) = &pieces[0] else { panic!("a frame begins with its size") };
        let total: usize = pieces.iter().map(EncodedPiece::len).sum();
        assert_eq!(frame_size(first[..4].try_into().unwrap(), 1 << 20), Ok(total - 4));
    }

    #[test]
    fn bytes_after_a_request_are_an_error() {
        let mut decoder = Decoder::new(Bytes::from_static(b"\x01\x01\0\0"));
        let error = decode_whole::<ApiVersionsRequest>(&mut decoder, 3).unwrap_err();
        assert_eq!(error.fault, DecodeFault::TrailingBytes { left: 1 });
    }
}
