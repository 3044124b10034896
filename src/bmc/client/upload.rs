//! A file on its way to a BMC: read as it is sent, and only under the run's lease.

use std::{io, path::PathBuf, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use serde_json::Value;
use tokio::{fs::File, io::AsyncReadExt};

use crate::model::lease::Gate;

/// Bytes that are read and sent at a time.
const CHUNK: usize = 64 * 1024;

/// A firmware image of this host.
#[derive(Clone, Debug)]
pub struct Upload {
    pub file: PathBuf,
    pub size: u64,
    /// UpdateParameters of a multipart push (DSP0266, 7.11.2); `None`: the bare file.
    pub parameters: Option<Value>,
}

/// What stands around the file in the request.
pub(super) struct Frame {
    pub content_type: String,
    head: Bytes,
    tail: Bytes,
}

impl Frame {
    pub fn of(upload: &Upload, boundary: &str) -> Frame {
        let Some(parameters) = &upload.parameters else {
            return Frame {
                content_type: "application/octet-stream".to_owned(),
                head: Bytes::new(),
                tail: Bytes::new(),
            };
        };
        let name = upload.file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        // Quotes and line ends would end the header.
        let name: String = name.chars().filter(|c| c.is_ascii_graphic() && *c != '"').collect();
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"UpdateParameters\"\r\n\
             Content-Type: application/json\r\n\r\n{parameters}\r\n--{boundary}\r\n\
             Content-Disposition: form-data; name=\"UpdateFile\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        Frame {
            content_type: format!("multipart/form-data; boundary={boundary}"),
            head: head.into(),
            tail: format!("\r\n--{boundary}--\r\n").into(),
        }
    }

    /// Bytes of the whole body: many BMCs do not take one whose length is not said before.
    pub fn length(&self, upload: &Upload) -> u64 {
        upload.size.saturating_add(self.head.len() as u64).saturating_add(self.tail.len() as u64)
    }

    pub fn body(
        self,
        upload: &Upload,
        gate: Option<Arc<Gate>>,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        let head = stream::once(std::future::ready(Ok(self.head)));
        let tail = stream::once(std::future::ready(Ok(self.tail)));
        head.chain(content(upload.clone(), gate))
            .chain(tail)
            .filter(|part| std::future::ready(part.as_ref().map_or(true, |bytes| !bytes.is_empty())))
    }
}

/// Exactly as many bytes as were promised.
fn content(upload: Upload, gate: Option<Arc<Gate>>) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let (file, size) = (upload.file, upload.size);
    stream::try_unfold((None::<File>, size), move |(open, left)| {
        let (file, gate) = (file.clone(), gate.clone());
        async move {
            if left == 0 {
                return Ok(None);
            }
            if let Some(gate) = &gate {
                gate.check("upload").map_err(|f| io::Error::other(f.why))?;
            }
            let mut open = match open {
                Some(open) => open,
                None => File::open(&file).await?,
            };
            let mut chunk = vec![0; CHUNK.min(usize::try_from(left).unwrap_or(CHUNK))];
            let read = open.read(&mut chunk).await?;
            if read == 0 {
                return Err(io::Error::other("the file became shorter while it was sent"));
            }
            chunk.truncate(read);
            Ok(Some((Bytes::from(chunk), (Some(open), left - read as u64))))
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    async fn whole(upload: &Upload) -> (u64, Vec<u8>) {
        let frame = Frame::of(upload, "B");
        let length = frame.length(upload);
        let parts: Vec<io::Result<Bytes>> = frame.body(upload, None).collect().await;
        (length, parts.into_iter().flat_map(|p| p.unwrap().to_vec()).collect())
    }

    #[tokio::test]
    async fn the_length_is_what_is_sent() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f\"w.bin");
        std::fs::write(&file, vec![7; CHUNK + 5]).unwrap();
        let mut upload = Upload { file, size: CHUNK as u64 + 5, parameters: Some(json!({"Targets": []})) };
        let (length, body) = whole(&upload).await;
        assert_eq!(length, body.len() as u64);
        let text = String::from_utf8_lossy(&body);
        assert!(text.starts_with("--B\r\n") && text.ends_with("\r\n--B--\r\n"));
        assert!(text.contains("filename=\"fw.bin\"") && text.contains("{\"Targets\":[]}"));
        upload.parameters = None;
        assert_eq!(whole(&upload).await, (CHUNK as u64 + 5, vec![7; CHUNK + 5]));
        // A file that is not what was promised breaks the request off: nothing is filled up.
        upload.size += 1;
        let parts: Vec<io::Result<Bytes>> = Frame::of(&upload, "B").body(&upload, None).collect().await;
        assert!(parts.last().unwrap().is_err());
    }
}
