//! Listening sockets: the unspecified IPv6 address serves IPv4 as well, and is replaced by IPv4's where IPv6 is off.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener as StdListener},
    os::fd::OwnedFd,
};

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, bind as bind_socket, listen, socket_with, sockopt},
};
use tokio::net::TcpListener;

/// Connections that the kernel completes before they are accepted.
const BACKLOG: i32 = 1024;

/// Listens on an address.
///
/// `[::]` accepts IPv4 as well, also where `net.ipv6.bindv6only` is set. Without IPv6 it means `0.0.0.0`.
///
/// # Errors
/// When the address cannot be listened on.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = StdListener::from(with_fallback(address, open)?);
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn with_fallback<T>(
    address: SocketAddr,
    open: impl Fn(SocketAddr) -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    match open(address) {
        Err(error) if is_any_v6(address) && means_no_ipv6(error) => {
            tracing::info!(%address, %error, "IPv6 is off: listening on IPv4 only");
            open(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
        }
        result => result,
    }
}

fn is_any_v6(address: SocketAddr) -> bool {
    address.is_ipv6() && address.ip().is_unspecified()
}

/// What the kernel returns for the socket (`ipv6.disable=1`) or its address (`disable_ipv6`) where IPv6 is off.
fn means_no_ipv6(error: Errno) -> bool {
    matches!(error, Errno::AFNOSUPPORT | Errno::PROTONOSUPPORT | Errno::ADDRNOTAVAIL)
}

fn open(address: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // A restarted agent listens again although connections of its predecessor are still being closed.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if is_any_v6(address) {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    bind_socket(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fallback(address: &str, error: Errno) -> Result<SocketAddr, Errno> {
        let address = address.parse().expect("it is an address");
        with_fallback(address, |tried: SocketAddr| if tried.is_ipv6() { Err(error) } else { Ok(tried) })
    }

    #[test]
    fn ipv4_is_used_where_ipv6_is_off() {
        let any = Ok(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 9109)));
        assert_eq!(fallback("[::]:9109", Errno::AFNOSUPPORT), any, "the kernel has no IPv6");
        assert_eq!(fallback("[::]:9109", Errno::ADDRNOTAVAIL), any, "the interfaces have no IPv6");
    }

    #[test]
    fn an_address_that_was_chosen_is_not_replaced() {
        assert_eq!(fallback("[::]:9109", Errno::ADDRINUSE), Err(Errno::ADDRINUSE));
        assert_eq!(fallback("[fd00::1]:9109", Errno::ADDRNOTAVAIL), Err(Errno::ADDRNOTAVAIL));
    }

    #[tokio::test]
    async fn the_unspecified_address_of_ipv6_accepts_ipv4() {
        let listener = bind("[::]:0".parse().expect("it is an address")).expect("a port is free");
        let port = listener.local_addr().expect("a listener has an address").port();
        std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("IPv4 is accepted");
    }
}
