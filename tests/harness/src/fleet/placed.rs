//! Replicas that are told more about their place: addresses that were chosen, variables of their own.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};

use super::{FleetRig, Member, free_addresses};

/// Where a replica is, and what is in its environment.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where it serves HTTP.
    pub address: SocketAddr,
    /// Where its admin listener is.
    pub admin: SocketAddr,
    /// Variables of its environment, beside those of this process.
    pub variables: Vec<(&'static str, OsString)>,
}

impl Place {
    /// On free ports of 127.0.0.1.
    ///
    /// # Errors
    /// When there are none.
    pub fn anywhere() -> Result<Self> {
        let [address, admin] = free_addresses()?;
        Ok(Self { address, admin, variables: Vec::new() })
    }

    /// One for each of `hosts`, with the same two ports on all of them, as machines of their own have
    /// them.
    ///
    /// # Errors
    /// When there are none.
    pub fn alike(hosts: &[IpAddr]) -> Result<Vec<Self>> {
        let (http, admin) = (bind_free(hosts)?, bind_free(hosts)?);
        let place = |(http, admin): (&TcpListener, &TcpListener)| {
            Ok(Self {
                address: http.local_addr()?,
                admin: admin.local_addr()?,
                variables: Vec::new(),
            })
        };
        http.iter().zip(&admin).map(place).collect()
    }
}

/// A port that nobody listens on at this moment on any of `hosts`, held on each of them.
///
/// It is none of those that systems give to who connects: such a one may be taken in the moment before
/// a process listens there.
///
/// # Errors
/// When a thousand in turn are taken.
pub(super) fn bind_free(hosts: &[IpAddr]) -> Result<Vec<TcpListener>> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes that run at one time begin at different ones.
    let first = std::process::id().wrapping_mul(97);
    let mut last = None;
    for _ in 0..1000 {
        let number = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + u16::try_from(number % PORTS.len() as u32)?;
        let bind = |host: &IpAddr| TcpListener::bind((*host, port));
        match hosts.iter().map(bind).collect::<std::io::Result<Vec<_>>>() {
            Ok(held) => return Ok(held),
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("no port was tried")?).context("no port is free")
}

/// Below those that Linux gives to who connects, and above most that services have.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

impl FleetRig {
    /// Starts a replica at `place`. It joins with a token of its own.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn replica_placed(
        &self,
        (fleet, name): (&str, &str),
        controllers: &[&Member],
        place: &Place,
        more: &[&str],
    ) -> Result<Member> {
        let token = self.token(fleet).await?;
        let Place { address, admin, variables } = place;
        let mut arguments: Vec<OsString> = Vec::new();
        for (name, value) in variables {
            let mut set = OsString::from(format!("{name}="));
            set.push(value);
            arguments.push(set);
        }
        // It takes its own place for the program, which keeps the id of the process.
        let program = if variables.is_empty() { self.program.as_path() } else { Path::new("env") };
        if !variables.is_empty() {
            arguments.push(self.program.clone().into());
        }
        arguments.push("proxy".into());
        let mut flag = |flag: &str, value: OsString| arguments.extend([flag.into(), value]);
        flag("--fleet", fleet.into());
        flag("--name", name.into());
        for controller in controllers {
            flag("--controller", format!("https://{}", controller.address).into());
        }
        flag("--join-token", token.into());
        flag("--data", self.data(name).into());
        flag("--admin", admin.to_string().into());
        flag("--listen", format!("http={address}").into());
        flag("--workers", "1".into());
        arguments.extend(more.iter().map(Into::into));
        Member::start(program, name, *admin, *address, arguments)
    }
}
