//! Replicas that are told more about their place: addresses that were chosen, variables of their own.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;

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
    /// When ten pairs of ports in turn are not free on all of them.
    pub fn alike(hosts: &[IpAddr]) -> Result<Vec<Self>> {
        let mut last = None;
        for _ in 0..10 {
            match Self::try_alike(hosts) {
                Ok(places) => return Ok(places),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no hosts were given")?)
    }

    fn try_alike(hosts: &[IpAddr]) -> Result<Vec<Self>> {
        let (mut held, mut places) = (Vec::new(), Vec::new());
        let (mut http, mut admin) = (0, 0);
        for host in hosts {
            let pair = [TcpListener::bind((*host, http))?, TcpListener::bind((*host, admin))?];
            let [address, of_admin] = [pair[0].local_addr()?, pair[1].local_addr()?];
            (http, admin) = (address.port(), of_admin.port());
            places.push(Self { address, admin: of_admin, variables: Vec::new() });
            held.push(pair);
        }
        Ok(places)
    }
}

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
