//! A broker for tests that answers from a script, in this process.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::protocol::frame::{self, RequestHeader};
use crate::protocol::messages::api_versions_response::{ApiVersion, ApiVersionsResponse};
use crate::protocol::{ApiKey, Decoder, Message, Request};

use super::stream::Dial;

/// One request that came.
pub(crate) struct Asked {
    /// Which connection, from 0.
    pub(crate) connection: usize,
    pub(crate) header: RequestHeader,
    body: Decoder,
}

impl Asked {
    pub(crate) fn key(&self) -> ApiKey {
        ApiKey::from_key(self.header.api_key).unwrap()
    }

    pub(crate) fn read<R: Request>(&mut self) -> R {
        R::decode(&mut self.body, self.header.api_version).unwrap()
    }

    pub(crate) fn answer<M: Message>(&self, response: &M) -> Reply {
        let header = &self.header;
        let pieces =
            frame::encode_response(header.correlation_id, self.key(), header.api_version, response).unwrap();
        Reply::Bytes(frame::join(&pieces).unwrap())
    }

    /// ApiVersions as a Kafka 4.3 answers them.
    pub(crate) fn answer_api_versions(&self) -> Reply {
        self.answer(&api_versions())
    }
}

pub(crate) fn api_versions() -> ApiVersionsResponse {
    let keys = (0..100).filter_map(ApiKey::from_key).map(|key| ApiVersion {
        api_key: key.key(),
        min_version: key.api().lowest_announced(),
        max_version: key.api().highest,
        ..Default::default()
    });
    ApiVersionsResponse { api_keys: keys.collect(), ..Default::default() }
}

/// What a script says to one request.
pub(crate) enum Reply {
    Bytes(Bytes),
    Nothing,
    Close,
}

type Script = dyn Fn(Asked) -> Reply + Send + Sync;

/// The broker.
pub(crate) struct Fake {
    script: Arc<Script>,
    connections: AtomicUsize,
}

impl Fake {
    pub(crate) fn dialled(script: impl Fn(Asked) -> Reply + Send + Sync + 'static) -> Arc<dyn Dial> {
        Arc::new(Self { script: Arc::new(script), connections: AtomicUsize::new(0) })
    }
}

/// Answers whoever connects to `path`, for as long as the runtime lives.
pub(crate) fn listen(path: &Path, script: impl Fn(Asked) -> Reply + Send + Sync + 'static) {
    let listener = UnixListener::bind(path).unwrap();
    let script: Arc<Script> = Arc::new(script);
    tokio::spawn(async move {
        for connection in 0.. {
            let Ok((stream, _)) = listener.accept().await else { return };
            tokio::spawn(serve(connection, stream, Arc::clone(&script)));
        }
    });
}

impl Dial for Fake {
    fn dial(&self) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        let connection = self.connections.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(serve(connection, theirs, Arc::clone(&self.script)));
        Ok(ours)
    }
}

async fn serve(connection: usize, mut stream: UnixStream, script: Arc<Script>) {
    while let Ok(size) = stream.read_u32().await {
        let mut body = vec![0; size as usize];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        let mut body = Decoder::new(body.into());
        let header = RequestHeader::decode(&mut body).unwrap();
        match script(Asked { connection, header, body }) {
            Reply::Bytes(mut bytes) => {
                while bytes.has_remaining() {
                    if stream.write_buf(&mut bytes).await.is_err() {
                        return;
                    }
                }
            }
            Reply::Nothing => {}
            Reply::Close => return,
        }
    }
}
