//! A reply as bytes on the wire, and the faults that spoil them there.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::Bytes;

use super::{Fault, Faults, reply::Reply};

/// Marks a response that is not to reach its client.
#[derive(Clone)]
pub struct Lost;

/// Pieces that a slow body comes in.
const PIECES: usize = 10;
/// A body that no client should read to its end.
const OVERSIZED: usize = 6 << 20;
const NESTED: usize = 100_000;

/// `target`: whether hostile bodies are for this resource.
pub fn response(reply: Reply, faults: &Faults, target: bool) -> Response {
    let error = reply.status >= 400;
    let mut media = "application/json";
    let mut bytes = match (&reply.text, &reply.body) {
        (Some(named), _) => {
            media = named.0;
            named.1.clone().into_bytes()
        }
        (None, Some(body)) => serde_json::to_vec(body).unwrap_or_default(),
        (None, None) => Vec::new(),
    };
    if error && faults.has(Fault::ErrorHtml) {
        media = "text/html";
        bytes =
            format!("<html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>", reply.status).into_bytes();
    } else if error && faults.has(Fault::ErrorBare) {
        bytes.clear();
    }
    let mut declared = None;
    if let Some(kind) = faults.text(Fault::HostileBody).filter(|_| target) {
        (bytes, declared) = hostile(kind, bytes);
        if kind == "html" {
            media = "text/html";
        }
    }
    let gzip = faults.has(Fault::GzipAlways) && !bytes.is_empty();
    if gzip {
        bytes = gzipped(&bytes);
    }
    let mut response = Response::new(body(bytes.clone(), declared, faults));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if !bytes.is_empty() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    }
    if let Some(length) = declared {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert("odata-version", HeaderValue::from_static("4.0"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    for (name, value) in reply.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    response
}

/// The body, and a content length that is not its own.
fn hostile(kind: &str, bytes: Vec<u8>) -> (Vec<u8>, Option<u64>) {
    match kind {
        "oversized" => (vec![b' '; OVERSIZED], None),
        "nested" => (vec![b'['; NESTED], None),
        "truncated" => (bytes.get(..bytes.len() / 2).unwrap_or_default().to_vec(), None),
        "short-length" => (bytes.clone(), Some(bytes.len() as u64 / 2)),
        "long-length" => (bytes.clone(), Some(bytes.len() as u64 * 2)),
        "html" => (b"<html><body>Loading, please wait</body></html>".to_vec(), None),
        _ => (b"System: all right, no complaints".to_vec(), None),
    }
}

/// In one piece; or as a stream, where it is to be slow or its length is a lie.
fn body(bytes: Vec<u8>, declared: Option<u64>, faults: &Faults) -> Body {
    let time = faults.time(Fault::SlowBody);
    if time.is_none() && declared.is_none() {
        return Body::from(bytes);
    }
    let pause = time.unwrap_or(Duration::ZERO) / PIECES as u32;
    let size = bytes.len().div_ceil(PIECES).max(1);
    // No more than was declared: the connection is to stay in order where that is the lie.
    let most = declared.map_or(bytes.len(), |d| (d as usize).min(bytes.len()));
    let pieces: Vec<Bytes> = bytes[..most].chunks(size).map(Bytes::copy_from_slice).collect();
    let stream = futures_util::stream::unfold(pieces.into_iter(), move |mut pieces| async move {
        let piece = pieces.next()?;
        tokio::time::sleep(pause).await;
        Some((Ok::<_, std::io::Error>(piece), pieces))
    });
    Body::from_stream(stream)
}

/// A gzip of stored blocks (RFC 1951 3.2.4, RFC 1952): the format, without compressing.
fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut blocks = bytes.chunks(65_535).peekable();
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        out.push(u8::from(blocks.peek().is_none()));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    out.extend_from_slice(&crc32(bytes).to_le_bytes());
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out
}

/// CRC-32 of RFC 1952, bit by bit: bodies here are small.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    };
    !bytes.iter().fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_rfc() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let packed = gzipped(b"{}");
        assert_eq!(packed[10..17], [1, 2, 0, 253, 255, b'{', b'}']);
        assert_eq!(packed[packed.len() - 4..], [2, 0, 0, 0]);
    }
}
