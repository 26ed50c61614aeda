//! Compression of a records section, as Kafka's clients write it. Only tools, internal topics and topics whose
//! configuration demands it come here; the data path does not.
//!
//! Output is bounded by the caller's limit whatever the input claims, plus at most one window or block of the codec.

use std::io::{self, Read, Write};

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use crate::error::BatchError;
use crate::header::Codec;

/// Marks the framing of snappy-java; without it the bytes are one plain snappy block (librdkafka, Go clients).
const XERIAL_MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;
/// No snappy element yields more output per byte of input than a copy of 64 bytes in 2 bytes and a tag.
const SNAPPY_BEST_RATIO: usize = 64;
const READ_BYTES: usize = 16 * 1024;
const ZSTD_LEVEL: i32 = 3;

/// Decompresses `data` to at most `limit` bytes.
pub(crate) fn decompress(codec: Codec, data: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
    match codec {
        Codec::None if data.len() > limit => Err(BatchError::TooLarge { limit }),
        Codec::None => Ok(data.to_vec()),
        Codec::Gzip => drain(codec, MultiGzDecoder::new(data), limit),
        Codec::Snappy => unsnappy(data, limit),
        Codec::Lz4 => drain(codec, FrameDecoder::new(data), limit),
        // The decoder's own bound on windows (128 MiB, touched only as far as data goes) stays: level 22 needs it.
        Codec::Zstd => {
            drain(codec, zstd::stream::read::Decoder::with_buffer(data).map_err(|_| corrupt(codec))?, limit)
        }
    }
}

/// Compresses `data` with the settings that Kafka's producer has by default.
pub(crate) fn compress(codec: Codec, data: &[u8]) -> io::Result<Vec<u8>> {
    match codec {
        Codec::None => Ok(data.to_vec()),
        Codec::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(data)?;
            encoder.finish()
        }
        Codec::Snappy => snappy(data),
        Codec::Lz4 => {
            let frame = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
            let mut encoder = FrameEncoder::with_frame_info(frame, Vec::new());
            encoder.write_all(data)?;
            encoder.finish().map_err(io::Error::other)
        }
        Codec::Zstd => zstd::stream::encode_all(data, ZSTD_LEVEL),
    }
}

fn corrupt(codec: Codec) -> BatchError {
    BatchError::BadCompression { codec }
}

fn drain(codec: Codec, mut from: impl Read, limit: usize) -> Result<Vec<u8>, BatchError> {
    let mut out = Vec::new();
    let mut chunk = [0; READ_BYTES];
    loop {
        let n = from.read(&mut chunk).map_err(|_| corrupt(codec))?;
        if n == 0 {
            return Ok(out);
        }
        if n > limit - out.len() {
            return Err(BatchError::TooLarge { limit });
        }
        out.extend_from_slice(&chunk[..n]);
    }
}

fn unsnappy(data: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
    let mut out = Vec::new();
    if !data.starts_with(&XERIAL_MAGIC) {
        unsnappy_block(data, limit, &mut out)?;
        return Ok(out);
    }
    let mut rest = data.get(XERIAL_HEADER_BYTES..).ok_or(corrupt(Codec::Snappy))?;
    while !rest.is_empty() {
        // snappy-java lets streams be concatenated: a header may stand where a block length is expected.
        if rest.starts_with(&XERIAL_MAGIC) {
            rest = rest.get(XERIAL_HEADER_BYTES..).ok_or(corrupt(Codec::Snappy))?;
            continue;
        }
        let (len, tail) = rest.split_first_chunk::<4>().ok_or(corrupt(Codec::Snappy))?;
        let len = usize::try_from(i32::from_be_bytes(*len)).map_err(|_| corrupt(Codec::Snappy))?;
        let block = tail.get(..len).ok_or(corrupt(Codec::Snappy))?;
        unsnappy_block(block, limit, &mut out)?;
        rest = &tail[len..];
    }
    Ok(out)
}

fn unsnappy_block(block: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), BatchError> {
    let claimed = snap::raw::decompress_len(block).map_err(|_| corrupt(Codec::Snappy))?;
    if claimed > block.len().saturating_mul(SNAPPY_BEST_RATIO) {
        return Err(corrupt(Codec::Snappy));
    }
    if claimed > limit - out.len() {
        return Err(BatchError::TooLarge { limit });
    }
    let at = out.len();
    out.resize(at + claimed, 0);
    let n =
        snap::raw::Decoder::new().decompress(block, &mut out[at..]).map_err(|_| corrupt(Codec::Snappy))?;
    out.truncate(at + n);
    Ok(())
}

fn snappy(data: &[u8]) -> io::Result<Vec<u8>> {
    const VERSION: i32 = 1;
    let mut out = Vec::with_capacity(XERIAL_HEADER_BYTES + data.len() / 2);
    out.extend_from_slice(&XERIAL_MAGIC);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&VERSION.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in data.chunks(XERIAL_BLOCK_BYTES) {
        let block = encoder.compress_vec(block).map_err(io::Error::other)?;
        out.extend_from_slice(&(block.len() as i32).to_be_bytes());
        out.extend_from_slice(&block);
    }
    Ok(out)
}
