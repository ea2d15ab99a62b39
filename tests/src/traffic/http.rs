//! As much HTTP/1.1 (RFC 9112) as a pod's server, its clients and probes of a node need: a start line,
//! headers, a body of known length, connections that stay open.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail};

use super::timeout::TIMEOUT;
use crate::lab::Namespace;

/// The largest body accepted, in bytes.
const LARGEST_BODY: usize = 16 << 20;

/// A request or a response.
#[derive(Debug)]
pub struct Message {
    /// The first line: `GET / HTTP/1.1`, or `HTTP/1.1 200 OK`.
    pub start: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Message {
    /// Reads a message; `None` if the connection ends before one begins.
    pub(super) fn read(stream: &mut impl BufRead) -> Result<Option<Self>> {
        let Some(start) = line(stream)? else {
            return Ok(None);
        };
        let mut headers = Vec::new();
        loop {
            let header = line(stream)?.context("the connection ended amid headers")?;
            if header.is_empty() {
                break;
            }
            let (name, value) = header.split_once(':').context("a header without a colon")?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut message = Self { start, headers, body: Vec::new() };
        let length = message.header("content-length").unwrap_or("0").parse()?;
        if length > LARGEST_BODY {
            bail!("a body of {length} bytes, more than {LARGEST_BODY}");
        }
        message.body.resize(length, 0);
        stream.read_exact(&mut message.body).context("the connection ended amid a body")?;
        Ok(Some(message))
    }

    /// Writes the message; its length is added to the headers.
    pub(super) fn write(&self, stream: &mut impl Write) -> Result<()> {
        let mut bytes = format!("{}\r\ncontent-length: {}\r\n", self.start, self.body.len());
        for (name, value) in &self.headers {
            bytes += &format!("{name}: {value}\r\n");
        }
        bytes += "\r\n";
        let mut bytes = bytes.into_bytes();
        bytes.extend_from_slice(&self.body);
        stream.write_all(&bytes)?;
        Ok(())
    }

    /// The status of a response.
    ///
    /// # Errors
    /// If the message is a request.
    pub fn status(&self) -> Result<u16> {
        let status = self.start.split(' ').nth(1).and_then(|status| status.parse().ok());
        status.with_context(|| format!("no status in {:?}", self.start))
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The value of the header `name`, given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header == name)?;
        Some(&found.1)
    }
}

/// Sends `server` a request such as `GET /healthz` from within `namespace`, over a connection of its
/// own.
///
/// # Errors
/// If there is no connection or no response within [`TIMEOUT`].
pub fn probe(namespace: &Namespace, server: SocketAddr, request: &str) -> Result<Message> {
    let stream = namespace.run(|| Ok(TcpStream::connect_timeout(&server, TIMEOUT)?))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let start = format!("{request} HTTP/1.1");
    let headers = vec![("host".into(), server.to_string()), ("connection".into(), "close".into())];
    Message { start, headers, body: Vec::new() }.write(&mut &stream)?;
    let response = Message::read(&mut BufReader::new(stream))?;
    response.with_context(|| format!("{server} closed the connection without a response"))
}

fn line(stream: &mut impl BufRead) -> Result<Option<String>> {
    let mut line = String::new();
    match stream.read_line(&mut line) {
        Ok(0) => Ok(None),
        Ok(_) => Ok(Some(line.trim_end().to_owned())),
        // The other end may reset the connection between messages.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_was_written_reads_the_same() {
        let written = Message {
            start: "POST / HTTP/1.1".into(),
            headers: vec![("x-pod".into(), "web-1".into())],
            body: b"payload".into(),
        };
        let mut bytes = Vec::new();
        written.write(&mut bytes).unwrap();
        let read = Message::read(&mut bytes.as_slice()).unwrap().unwrap();
        assert_eq!((read.start, read.body), (written.start, written.body));
        assert_eq!(read.headers[1], written.headers[0]);
    }

    #[test]
    fn a_connection_that_ends_between_messages_is_no_error() {
        assert!(Message::read(&mut b"".as_slice()).unwrap().is_none());
        assert!(Message::read(&mut b"GET / HTTP/1.1\r\n".as_slice()).is_err());
    }
}
