//! The cost of a request at 10 and at 50,000 routes.

mod find;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use kubeng_harness::cores;
use kubeng_harness::process::Kubeng;

use crate::manifest::{self, Folder};
use crate::program::{Setting, until_answered};
use crate::raw;
use crate::report::Report;
use crate::samples::median;
use crate::upstream;

/// How routes differ from each other.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// A host for each.
    Hosts,
    /// One host, a path for each.
    Paths,
}

/// What one round gave.
#[derive(Clone, Copy, Debug)]
struct Round {
    cpu_microseconds: f64,
    requests_per_second: f64,
}

pub(crate) async fn run(setting: &Setting) -> Result<Vec<Report>> {
    let upstream = start_upstream(setting)?;
    let large = setting.pick(LARGE, 1_000);
    let title = format!("lookup: a request at {SMALL} and at {large} routes");
    let head = [
        "routes",
        "asked for",
        "CPU us/req, few",
        "CPU us/req, many",
        "ratio of medians",
        "ratio in each round",
        "req/s, few",
        "req/s, many",
        "seconds to load",
    ];
    let mut report = Report::new(&title, head);
    for (shape, asked) in
        Shape::ALL.into_iter().flat_map(|shape| Asked::ALL.map(|asked| (shape, asked)))
    {
        // What one shape cannot do must not cost the figures of the other.
        if let Err(error) = compare(&mut report, setting, (shape, asked), large, upstream).await {
            report.goal(format!("{}: it can be measured ({error:#})", shape.name()), false);
        }
    }
    report.note(
        "the goal is for the same requests: with thousands of different ones, what each of them alone \
         needs is not in a cache, whatever the size of the table",
    );
    let mut reports = vec![report];
    let micro = cores::on_core(setting.load_core(), || find::run(setting))?;
    reports.push(micro);
    Ok(reports)
}

async fn compare(
    report: &mut Report,
    setting: &Setting,
    (shape, asked): (Shape, Asked),
    large: usize,
    upstream: SocketAddr,
) -> Result<()> {
    let few = Proxy::start(setting, shape, (SMALL, asked), upstream).await?;
    let many = Proxy::start(setting, shape, (large, asked), upstream).await?;
    // Files that were read as soon as they were written are read once more; that is no request's cost.
    tokio::time::sleep(setting.pick(SETTLED_AFTER, Duration::ZERO)).await;
    let mut pairs = Vec::new();
    for number in 0..setting.pick(12, 2) {
        // Forward, then backward: slow drift of the machine hits both alike.
        let few_first = number % 2 == 0;
        let first = if few_first { &few } else { &many }.round(setting).await?;
        let second = if few_first { &many } else { &few }.round(setting).await?;
        pairs.push(if few_first { [first, second] } else { [second, first] });
    }
    judge(report, (shape, asked), &pairs, many.loaded_after);
    Ok(())
}

fn judge(
    report: &mut Report,
    (shape, asked): (Shape, Asked),
    pairs: &[[Round; 2]],
    loaded_after: Duration,
) {
    let of = |at: usize, figure: fn(&Round) -> f64| {
        median(&pairs.iter().map(|pair| figure(&pair[at])).collect::<Vec<_>>())
    };
    let [few, many] = [0, 1].map(|at| of(at, |round| round.cpu_microseconds));
    let [few_rate, many_rate] = [0, 1].map(|at| of(at, |round| round.requests_per_second));
    let mut ratios: Vec<f64> =
        pairs.iter().map(|[few, many]| many.cpu_microseconds / few.cpu_microseconds).collect();
    ratios.sort_unstable_by(f64::total_cmp);
    let [least, greatest] = [ratios.first(), ratios.last()].map(|r| r.copied().unwrap_or(0.0));
    let ratio = median(&ratios);
    report.row([
        shape.name().to_owned(),
        asked.name().to_owned(),
        format!("{few:.1}"),
        format!("{many:.1}"),
        format!("{:.2}", many / few),
        format!("{ratio:.2} ({least:.2}..{greatest:.2})"),
        format!("{few_rate:.0}"),
        format!("{many_rate:.0}"),
        format!("{:.1}", loaded_after.as_secs_f64()),
    ]);
    let text = format!("{}: within 10 % (median of the ratios {ratio:.2})", shape.name());
    match asked {
        Asked::SameTen => report.speed_goal(text, ratio <= 1.10),
        Asked::Many => {}
    }
}

/// Which routes are asked for.
#[derive(Clone, Copy, Debug)]
enum Asked {
    /// The same ten, however many there are.
    SameTen,
    /// Up to [`ASKED_MAX`], where there are as many.
    Many,
}

impl Asked {
    const ALL: [Self; 2] = [Self::SameTen, Self::Many];

    fn name(self) -> &'static str {
        match self {
            Self::SameTen => "the same ten",
            Self::Many => "ten; 2,000",
        }
    }

    /// The routes among `routes`, spread over all in no order.
    fn numbers(self, routes: usize) -> Vec<usize> {
        match self {
            Self::SameTen => (0..SMALL).collect(),
            // A prime step visits every number once, far from the one before.
            Self::Many => {
                (0..routes.min(ASKED_MAX)).map(|number| number * 30_011 % routes).collect()
            }
        }
    }
}

impl Shape {
    const ALL: [Self; 2] = [Self::Hosts, Self::Paths];

    fn name(self) -> &'static str {
        match self {
            Self::Hosts => "one host each",
            Self::Paths => "all on one host",
        }
    }

    /// Host and path of a route.
    fn route(self, number: usize) -> (String, String) {
        match self {
            Self::Hosts => (format!("app-{number}.apps.example.com"), "/api".into()),
            Self::Paths => ("one.apps.example.com".into(), format!("/team-{number}/api")),
        }
    }
}

/// A program with a number of routes.
struct Proxy {
    kubeng: Kubeng,
    requests: Arc<Vec<Vec<u8>>>,
    loaded_after: Duration,
    _manifests: tempfile::TempDir,
}

impl Proxy {
    async fn start(
        setting: &Setting,
        shape: Shape,
        (routes, asked): (usize, Asked),
        upstream: SocketAddr,
    ) -> Result<Self> {
        let manifests = tempfile::tempdir()?;
        write(manifests.path(), shape, routes, upstream)?;
        let before = Instant::now();
        let kubeng = setting.start(manifests.path(), setting.proxy_core()).await?;
        let (host, path) = shape.route(routes - 1);
        until_answered(kubeng.http, &host, &path, |answer| answer.status == 200).await?;
        let loaded_after = before.elapsed();
        let requests = asked.numbers(routes).into_iter().map(|number| {
            let (host, path) = shape.route(number);
            raw::request(&host, &format!("{path}/page"))
        });
        let requests = Arc::new(requests.collect());
        Ok(Self { kubeng, requests, loaded_after, _manifests: manifests })
    }

    /// Asks for some seconds over keep-alive connections.
    async fn round(&self, setting: &Setting) -> Result<Round> {
        let duration = setting.pick(Duration::from_secs(2), Duration::from_millis(300));
        let before = self.kubeng.usage()?.cpu;
        let started = Instant::now();
        let (to, core) = (self.kubeng.http, setting.load_core());
        let requests = Arc::clone(&self.requests);
        let load = move || load(to, &requests, core, duration);
        let answered = tokio::task::spawn_blocking(load).await??;
        let took = started.elapsed().as_secs_f64();
        let cpu = (self.kubeng.usage()?.cpu - before).as_secs_f64();
        ensure!(answered > 0, "no request was answered");
        let answered = answered as f64;
        Ok(Round { cpu_microseconds: cpu * 1e6 / answered, requests_per_second: answered / took })
    }
}

/// Asks over [`CONNECTIONS`] connections and says how often the answer was 200; none may be another.
fn load(
    to: SocketAddr,
    requests: &Arc<Vec<Vec<u8>>>,
    core: Option<usize>,
    duration: Duration,
) -> Result<u64> {
    let until = Instant::now() + duration;
    let threads: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            let requests = Arc::clone(requests);
            let work = move || {
                cores::pin_this_thread(core);
                // Each begins elsewhere, so that they do not ask in step.
                ask(to, requests.iter().cycle().skip(number * 61), until)
            };
            thread::Builder::new().stack_size(256 * 1024).spawn(work)
        })
        .collect();
    let mut answered = 0;
    for thread in threads {
        answered += thread?.join().map_err(|_| anyhow!("a client panicked"))??;
    }
    Ok(answered)
}

fn ask<'a>(
    to: SocketAddr,
    requests: impl Iterator<Item = &'a Vec<u8>>,
    until: Instant,
) -> Result<u64> {
    let mut connection = raw::Connection::open(to)?;
    let mut answered = 0;
    for request in requests {
        if Instant::now() > until {
            break;
        }
        let answer = connection.ask(request)?;
        ensure!(answer.status == 200, "a request is answered with {}", answer.status);
        answered += 1;
    }
    Ok(answered)
}

/// Writes the manifests: files of 100 Ingresses, each of one path or, on one host, of 10.
fn write(path: &Path, shape: Shape, routes: usize, upstream: SocketAddr) -> Result<()> {
    let folder = Folder::new(path);
    let text = manifest::service("bench", "origin")
        + &manifest::slice("bench", "origin", "origin", &[(upstream, true)]);
    folder.save("origin.yaml", &text)?;
    let of_one_ingress = match shape {
        Shape::Hosts => 1,
        Shape::Paths => 10,
    };
    let numbers: Vec<usize> = (0..routes).collect();
    for (file, numbers) in numbers.chunks(100 * of_one_ingress).enumerate() {
        let mut text = String::new();
        for numbers in numbers.chunks(of_one_ingress) {
            let first = numbers.first().context("a chunk is not empty")?;
            let (host, _) = shape.route(*first);
            let paths: Vec<_> =
                numbers.iter().map(|number| (shape.route(*number).1, "origin")).collect();
            let name = format!("site-{first}");
            text += &manifest::ingress("bench", &name, &host, &paths, None);
        }
        folder.save(&format!("sites-{file}.yaml"), &text)?;
    }
    Ok(())
}

/// Starts what answers, in threads of this process.
fn start_upstream(setting: &Setting) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let core = setting.load_core();
    thread::Builder::new().spawn(move || {
        cores::pin_this_thread(core);
        // It ends with the process.
        let _ = upstream::answer_all(&listener);
    })?;
    Ok(address)
}

/// Longer than between two looks at the folder.
const SETTLED_AFTER: Duration = Duration::from_secs(35);
const SMALL: usize = 10;
const LARGE: usize = 50_000;
const ASKED_MAX: usize = 2_000;
const CONNECTIONS: usize = 32;
