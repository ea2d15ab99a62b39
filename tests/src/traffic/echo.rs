//! A server that does as little as a server can.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread::{self, JoinHandle};

use anyhow::Result;
use nix::sys::socket::{self, shutdown};

use super::HTTP_PORT;
use crate::lab::Namespace;

/// Answers every byte with the same byte, where the pods of Services serve.
#[derive(Debug)]
pub struct Echo {
    listener: TcpListener,
    acceptor: Option<JoinHandle<()>>,
}

impl Echo {
    /// Starts it in `namespace`.
    ///
    /// # Errors
    /// If the port is taken.
    pub fn start(namespace: &Namespace) -> Result<Self> {
        let listener =
            namespace.run(|| Ok(TcpListener::bind((Ipv6Addr::UNSPECIFIED, HTTP_PORT))?))?;
        let accepted = listener.try_clone()?;
        let acceptor = thread::spawn(move || {
            for stream in accepted.incoming().map_while(Result::ok) {
                thread::spawn(move || echo(stream));
            }
        });
        Ok(Self { listener, acceptor: Some(acceptor) })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // Wakes the thread that waits in accept(2), on Linux.
        let _ = shutdown(self.listener.as_raw_fd(), socket::Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn echo(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut byte = [0];
    while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
    let _ = stream.shutdown(Shutdown::Both);
}
