//! HTTP servers in pods, and clients that check what comes back byte by byte.

use std::io::BufReader;
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{
    self, AddressFamily, SockFlag, SockType, SockaddrStorage, shutdown, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::http::Message;
use super::timeout::TIMEOUT;
use crate::lab::Namespace;

/// An HTTP server. It sends back the body of a request, or a sentence where there is none;
/// headers name the pod and the client.
#[derive(Debug)]
pub struct TcpServer {
    listener: TcpListener,
    connections: Arc<Mutex<Vec<TcpStream>>>,
    acceptor: Option<JoinHandle<()>>,
}

impl TcpServer {
    /// Starts a server on every address of `namespace` that calls itself `name`.
    ///
    /// # Errors
    /// If the port is taken.
    pub fn start(namespace: &Namespace, name: &str, port: u16) -> Result<Self> {
        Self::start_at(namespace, name, (Ipv6Addr::UNSPECIFIED, port).into())
    }

    /// The same at one address.
    ///
    /// # Errors
    /// If the port is taken.
    pub fn start_at(namespace: &Namespace, name: &str, at: SocketAddr) -> Result<Self> {
        let listener = namespace.run(|| Ok(TcpListener::bind(at)?))?;
        let connections = Arc::new(Mutex::new(Vec::new()));
        let acceptor = {
            let (listener, connections) = (listener.try_clone()?, Arc::clone(&connections));
            let name = name.to_owned();
            thread::spawn(move || accept(&listener, &name, &connections))
        };
        Ok(Self { listener, connections, acceptor: Some(acceptor) })
    }
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        // Wakes the thread that waits in accept(2), on Linux.
        let _ = shutdown(self.listener.as_raw_fd(), socket::Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        for connection in
            self.connections.lock().map_or_else(|_| Vec::new(), |mut c| c.split_off(0))
        {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, name: &str, connections: &Mutex<Vec<TcpStream>>) {
    while let Ok((stream, client)) = listener.accept() {
        if let (Ok(copy), Ok(mut connections)) = (stream.try_clone(), connections.lock()) {
            connections.retain(|connection| connection.peer_addr().is_ok());
            connections.push(copy);
        }
        let name = name.to_owned();
        // A client that breaks off reports that itself.
        thread::spawn(move || respond_to_all(stream, &name, canonical(client)));
    }
}

fn respond_to_all(mut stream: TcpStream, name: &str, client: SocketAddr) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut requests = BufReader::new(stream.try_clone()?);
    while let Some(request) = Message::read(&mut requests)? {
        let sentence = format!("{name} answers {client}\n").into_bytes();
        let response = Message {
            start: "HTTP/1.1 200 OK".into(),
            headers: vec![("x-pod".into(), name.into()), ("x-client".into(), client.to_string())],
            body: if request.body.is_empty() { sentence } else { request.body },
        };
        response.write(&mut stream)?;
    }
    let _ = stream.shutdown(Shutdown::Both);
    Ok(())
}

/// A server's response: its pod, and its client as it saw it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    /// The pod that responded.
    pub pod: String,
    /// The client's address and port as the pod saw them.
    pub client: SocketAddr,
    /// The client's own address and port.
    pub own: SocketAddr,
}

/// A client's connection, which may stay open as long as one likes.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    responses: BufReader<TcpStream>,
    server: SocketAddr,
}

impl Client {
    /// Connects from within `namespace`.
    ///
    /// # Errors
    /// If the connection is refused or not accepted within [`TIMEOUT`].
    pub fn connect(namespace: &Namespace, server: SocketAddr) -> Result<Self> {
        namespace.run(|| Self::connect_here(server))
    }

    /// Connects from within the calling thread's namespace.
    ///
    /// # Errors
    /// If the connection is refused or not accepted within [`TIMEOUT`].
    pub fn connect_here(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&server, TIMEOUT)
            .with_context(|| format!("no connection to {server} within {TIMEOUT:?}"))?;
        Self::over(stream, server)
    }

    /// Connects from within `namespace` and from the address and port `own`, which other connections
    /// may come from too.
    ///
    /// # Errors
    /// If the port is taken, or the connection is refused or not accepted within [`TIMEOUT`].
    pub fn connect_from(
        namespace: &Namespace,
        own: SocketAddr,
        server: SocketAddr,
    ) -> Result<Self> {
        let family = match own {
            SocketAddr::V4(_) => AddressFamily::Inet,
            SocketAddr::V6(_) => AddressFamily::Inet6,
        };
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket =
            namespace.run(|| Ok(socket::socket(family, SockType::Stream, flags, None)?))?;
        socket::setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        // On Linux the time-out for sending is the one for connecting too.
        let timeout = TimeVal::seconds(TIMEOUT.as_secs().cast_signed());
        socket::setsockopt(&socket, sockopt::SendTimeout, &timeout)?;
        socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(own))
            .with_context(|| format!("cannot send from {own}"))?;
        socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(server))
            .with_context(|| format!("no connection from {own} to {server}"))?;
        Self::over(socket.into(), server)
    }

    fn over(stream: TcpStream, server: SocketAddr) -> Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let responses = BufReader::new(stream.try_clone()?);
        Ok(Self { stream, responses, server })
    }

    /// Sends `length` bytes and has them sent back; 0 asks for a sentence instead.
    ///
    /// # Errors
    /// If there is no response within [`TIMEOUT`], or it is not what was sent.
    pub fn exchange(&mut self, length: usize) -> Result<Response> {
        let request = Message {
            start: "POST / HTTP/1.1".into(),
            headers: vec![("host".into(), self.server.to_string())],
            body: payload(length, self.stream.local_addr()?.port()),
        };
        let mut stream = self.stream.try_clone()?;
        let response = thread::scope(|scope| {
            // Both directions at once: a large body fills the buffers on its way back.
            let sending = scope.spawn(|| request.write(&mut stream));
            let response = Message::read(&mut self.responses)
                .with_context(|| format!("no response from {} to {length} bytes", self.server))?
                .with_context(|| format!("{} closed the connection", self.server))?;
            sending.join().map_or(Ok(()), |sent| sent)?;
            anyhow::Ok(response)
        })?;
        ensure!(
            length == 0 || response.body == request.body,
            "{} bytes came back from {} changed",
            length,
            self.server
        );
        let header =
            |name| response.header(name).with_context(|| format!("a response without {name}"));
        Ok(Response {
            pod: header("x-pod")?.to_owned(),
            client: header("x-client")?.parse()?,
            own: canonical(self.stream.local_addr()?),
        })
    }
}

/// Sends one request over a connection of its own.
///
/// # Errors
/// If there is no connection or no response within [`TIMEOUT`].
pub fn get(namespace: &Namespace, server: SocketAddr) -> Result<Response> {
    Client::connect(namespace, server)?.exchange(0)
}

/// Bytes that differ from connection to connection, and from byte to byte.
fn payload(length: usize, seed: u16) -> Vec<u8> {
    let mut state = u32::from(seed) | 1 << 16;
    let mut next = || {
        // Marsaglia's xorshift: any generator would do.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

/// The IPv4 address that an IPv4-mapped IPv6 address stands for; others as they are.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
