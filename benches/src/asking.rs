//! Clients that ask one host again and again while something is done to what answers.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use kubeng_harness::client::{Client, Counts};
use kubeng_harness::process::Kubeng;
use tokio::task::JoinSet;

use crate::manifest::{self, CertificatePair, Folder};
use crate::report::Report;

/// The host that is asked for.
pub(crate) const HOST: &str = "app.bench.example";
/// The Secret of it, as the flag for the default certificate wants it.
pub(crate) const DEFAULT_CERTIFICATE: &str = "bench/certificate";

/// Writes a site: the host, its certificate, and one Service with these endpoints.
pub(crate) fn write_site(path: &Path, endpoints: &[SocketAddr]) -> Result<Folder> {
    let folder = Folder::new(path);
    let pair = CertificatePair::make(HOST)?;
    let paths = [("/".to_owned(), "app")];
    let text = manifest::service("bench", "app")
        + &manifest::ingress("bench", "app", HOST, &paths, Some("certificate"))
        + &manifest::secret("bench", "certificate", &pair);
    folder.save("site.yaml", &text)?;
    let endpoints: Vec<_> = endpoints.iter().map(|address| (*address, true)).collect();
    folder.save("slice.yaml", &manifest::slice("bench", "app-1", "app", &endpoints))?;
    Ok(folder)
}

/// Where new connections go: what a balancer knows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Front {
    http: SocketAddr,
    https: SocketAddr,
}

impl Front {
    pub(crate) fn of(kubeng: &Kubeng) -> Self {
        Self { http: kubeng.http, https: kubeng.https }
    }
}

/// What kind of client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Http,
    Https,
    /// A connection for each request.
    Fresh,
}

/// Clients at work.
pub(crate) struct Asking {
    front: Arc<Mutex<Front>>,
    is_over: Arc<AtomicBool>,
    clients: JoinSet<(Kind, Tally)>,
}

/// What the clients of one kind saw.
#[derive(Clone, Debug, Default)]
struct Tally {
    counts: Counts,
    not_ok: u64,
    example: Option<String>,
}

impl Asking {
    /// Starts [`CLIENTS`] of each kind.
    pub(crate) fn start(front: Front) -> Self {
        let front = Arc::new(Mutex::new(front));
        let is_over = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for kind in Kind::ALL {
            for _ in 0..CLIENTS {
                clients.spawn(ask(kind, Arc::clone(&front), Arc::clone(&is_over)));
            }
        }
        Self { front, is_over, clients }
    }

    /// New connections go there from here on.
    pub(crate) fn move_to(&self, front: Front) {
        *self.front.lock().unwrap_or_else(PoisonError::into_inner) = front;
    }

    /// Ends it and writes what was seen into `report`, with its goals.
    pub(crate) async fn end(mut self, report: &mut Report) -> Result<()> {
        self.is_over.store(true, Ordering::Relaxed);
        let mut tallies = [Tally::default(), Tally::default(), Tally::default()];
        while let Some(done) = self.clients.join_next().await {
            let (kind, tally) = done?;
            tallies[kind as usize].add(tally);
        }
        let mut all = Tally::default();
        for (kind, tally) in Kind::ALL.iter().zip(tallies) {
            let Tally { counts, not_ok, example } = &tally;
            let figures = [counts.sent, counts.answered - not_ok, *not_ok, counts.failed];
            let [sent, right, other, failed] = figures.map(|n| n.to_string());
            report.row([kind.name().into(), sent, right, other, failed, counts.opened.to_string()]);
            if let Some(example) = example {
                report.note(format!("{}: {example}", kind.name()));
            }
            all.add(tally);
        }
        let Tally { counts, not_ok, example: _ } = all;
        report
            .goal("every request is accounted for", counts.sent == counts.answered + counts.failed);
        let wrong = counts.failed + not_ok;
        report.goal(format!("0 failed requests ({wrong} were)"), wrong == 0 && counts.sent > 0);
        Ok(())
    }

    /// The head of the table that [`end`](Self::end) fills.
    pub(crate) const HEAD: [&str; 6] =
        ["client", "sent", "200", "other status", "failed", "connections"];
}

async fn ask(kind: Kind, front: Arc<Mutex<Front>>, is_over: Arc<AtomicBool>) -> (Kind, Tally) {
    let mut tally = Tally::default();
    let mut open: Option<(Front, Client)> = None;
    while !is_over.load(Ordering::Relaxed) {
        let now = *front.lock().unwrap_or_else(PoisonError::into_inner);
        // A connection that is open is used wherever it leads, as behind a balancer.
        if let Some((to, client)) = &mut open
            && *to != now
            && !client.is_open()
        {
            tally.counts += client.counts().await;
            open = None;
        }
        let (_, client) = match &mut open {
            Some(open) => open,
            none => match kind.client(now) {
                Ok(client) => none.insert((now, client)),
                Err(error) => return (kind, tally.with(format!("{error:#}"))),
            },
        };
        match client.get(HOST, "/").await {
            Ok(answer) if answer.status == 200 => {}
            Ok(answer) => {
                tally.not_ok += 1;
                tally = tally.with(format!("status {}", answer.status));
            }
            Err(error) => tally = tally.with(format!("{error:#}")),
        }
        if kind == Kind::Fresh {
            client.close();
        }
        tokio::time::sleep(BETWEEN_REQUESTS).await;
    }
    if let Some((_, client)) = &mut open {
        tally.counts += client.counts().await;
    }
    (kind, tally)
}

impl Kind {
    const ALL: [Self; 3] = [Self::Http, Self::Https, Self::Fresh];

    fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTP/1.1 keep-alive",
            Self::Https => "HTTPS keep-alive",
            Self::Fresh => "a connection for each request",
        }
    }

    fn client(self, front: Front) -> Result<Client> {
        match self {
            Self::Http | Self::Fresh => Ok(Client::plain(front.http)),
            Self::Https => Client::tls(front.https, HOST),
        }
    }
}

impl Tally {
    fn with(mut self, example: String) -> Self {
        self.example.get_or_insert(example);
        self
    }

    fn add(&mut self, other: Self) {
        let Self { counts, not_ok, example } = other;
        self.counts += counts;
        self.not_ok += not_ok;
        self.example = self.example.take().or(example);
    }
}

/// Of each kind.
const CLIENTS: usize = 8;
const BETWEEN_REQUESTS: Duration = Duration::from_millis(4);
