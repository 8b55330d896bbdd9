//! Zstandard frames, one after another. The window a frame asks for is bounded, as Kafka bounds it.

use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, get_error_name};

use super::super::error::BatchError;
use super::Codec;

/// A context that one odd batch made larger than this is not kept.
const KEPT_SIZE_MAX: usize = 16 << 20;

#[derive(Default)]
pub(super) struct Context {
    decoder: Option<DCtx<'static>>,
}

pub(super) struct Stream<'s> {
    input: InBuffer<'s>,
    size: usize,
    decoder: &'s mut DCtx<'static>,
    inside_frame: bool,
}

impl<'s> Stream<'s> {
    pub(super) fn new(
        input: &'s [u8],
        window_log_max: u32,
        context: &'s mut Context,
    ) -> Result<Self, BatchError> {
        if input.is_empty() {
            return Err(Codec::Zstd.broken("it is empty"));
        }
        if context.decoder.as_ref().is_some_and(|decoder| decoder.sizeof() > KEPT_SIZE_MAX) {
            context.decoder = None;
        }
        let decoder = match &mut context.decoder {
            Some(decoder) => decoder,
            empty => empty.insert(DCtx::try_create().ok_or_else(|| Codec::Zstd.broken("out of memory"))?),
        };
        decoder.reset(ResetDirective::SessionOnly).map_err(broken)?;
        decoder.set_parameter(DParameter::WindowLogMax(window_log_max)).map_err(broken)?;
        Ok(Self { size: input.len(), input: InBuffer::around(input), decoder, inside_frame: false })
    }

    pub(super) fn fill(&mut self, out: &mut [u8]) -> Result<usize, BatchError> {
        loop {
            if self.input.pos() == self.size && !self.inside_frame {
                return Ok(0);
            }
            let read_before = self.input.pos();
            let mut output = OutBuffer::around(&mut *out);
            let hint = self.decoder.decompress_stream(&mut output, &mut self.input).map_err(broken)?;
            self.inside_frame = hint != 0;
            let written = output.pos();
            if written > 0 {
                return Ok(written);
            }
            if self.inside_frame && self.input.pos() == read_before {
                return Err(Codec::Zstd.broken("it ends early"));
            }
        }
    }
}

fn broken(code: usize) -> BatchError {
    Codec::Zstd.broken(get_error_name(code))
}
