//! Tells systemd how the process is, where it runs under systemd: `sd_notify(3)`.
//!
//! The protocol is a datagram of `NAME=value` lines to the socket that
//! `NOTIFY_SOCKET` names. Where the variable is not set nothing is told.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Ready to serve: with `Type=notify` the unit is started now, or its reload has ended.
pub(crate) fn ready() {
    tell("READY=1\nSTATUS=serving");
}

/// The process with this id takes over: the unit lives as long as that process does.
pub(crate) fn handing_over_to(pid: u32) {
    tell(&format!("MAINPID={pid}\nSTATUS=handing over"));
}

/// The process has been told to stop.
pub(crate) fn stopping() {
    tell("STOPPING=1\nSTATUS=finishing requests");
}

fn tell(text: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&socket, text) {
        tracing::warn!(?socket, %error, "cannot notify the service manager");
    }
}

fn send(socket: &OsStr, text: &str) -> io::Result<()> {
    let to = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let from = UnixDatagram::unbound()?;
    // A manager that does not read must not hold the process up.
    from.set_nonblocking(true)?;
    from.send_to_addr(text.as_bytes(), &to).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_abstract_names_are_reached() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("kubeng-test-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        let mut space = [0; 64];
        for (socket, asked) in [
            (UnixDatagram::bind(&path).unwrap(), path.clone().into_os_string()),
            (UnixDatagram::bind_addr(&abstract_name).unwrap(), format!("@{name}").into()),
        ] {
            send(&asked, "READY=1").unwrap();
            let count = socket.recv(&mut space).unwrap();
            assert_eq!(&space[..count], b"READY=1");
        }
        assert!(send(OsStr::new("/nowhere/at/all"), "READY=1").is_err());
    }
}
