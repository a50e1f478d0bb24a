//! What the commands that look at manifests have in common: folders in, a world out.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use anyhow::Context as _;
use clap::Args;
use kubeng_config::listener::Listener;
use kubeng_config::name::ObjectKind;
use kubeng_config::problem::Problem;
use kubeng_config::provenance::Provenance;
use kubeng_config::route::{Action, Target, TargetAction};
use kubeng_config::snapshot::Snapshot;
use kubeng_controller::control::ControlState;
use kubeng_controller::endpoints::EndpointBook;
use kubeng_controller::expiry;
use kubeng_controller::expiry::overrides::Ends;
use kubeng_controller::intake::Intake;
use kubeng_controller::object::{Event, SourceName};
use kubeng_controller::settings::{Forward, TranslateSettings};
use kubeng_controller::source::manifests;
use kubeng_controller::world::World;

use crate::settings::Settings;
use crate::settings::given::Given;
use crate::wiring;

/// How manifests are read where nothing is served.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Reading {
    /// IngressClass to look at; may be repeated [default: all of controller kubeng.io/ingress-controller]
    #[arg(long = "ingress-class", value_name = "NAME")]
    ingress_classes: Vec<String>,
    /// Take Ingresses that name no class, too
    #[arg(long)]
    without_class: bool,
    /// Take Services of type ExternalName
    #[arg(long)]
    allow_external_name: bool,
    /// Namespace to look at; may be repeated [default: all]
    #[arg(long = "namespace", value_name = "NAME")]
    namespaces: Vec<String>,
    /// Service that gets requests which no Ingress takes
    #[arg(long, value_name = "NAMESPACE/NAME:PORT")]
    default_backend: Option<String>,
    /// Secret with the certificate for hosts that have none of their own
    #[arg(long, value_name = "NAMESPACE/NAME")]
    default_certificate: Option<String>,
}

/// What manifests say, computed once.
pub(super) struct Loaded {
    state: ControlState,
    problems: Vec<Problem>,
}

impl Loaded {
    /// The effective configuration.
    pub(super) fn snapshot(&self) -> &Snapshot {
        self.state.snapshot()
    }

    /// The world behind it.
    pub(super) fn state(&self) -> &ControlState {
        &self.state
    }

    /// Everything that is wrong.
    pub(super) fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

/// Reads folders and files, and computes what they mean on ports 80 and 443.
///
/// # Errors
/// When a path does not exist. What is wrong inside becomes a Problem.
pub(super) fn load(paths: &[PathBuf], reading: &Reading) -> anyhow::Result<Loaded> {
    let settings = settings(reading)?;
    let translate = wiring::translate_settings(&settings);
    translate_with(paths, translate)
}

/// As [`load`], on the Listeners of another configuration, so that the two can be compared.
pub(super) fn load_beside(
    paths: &[PathBuf],
    reading: &Reading,
    other: &Snapshot,
) -> anyhow::Result<Loaded> {
    let settings = settings(reading)?;
    let mut translate = wiring::translate_settings(&settings);
    let listeners = other.listeners().sorted().into_iter();
    translate.listeners = listeners
        .map(|(id, part)| {
            // Its default certificate is what the manifests say.
            (id.clone(), Listener { default_certificate: None, ..Listener::clone(part.value()) })
        })
        .collect();
    translate.forwards = forwards(other);
    translate_with(paths, translate)
}

/// Where the Listeners of a configuration lead that read no requests: its settings said so.
///
/// One that is refused tells no target, and so shows as a difference.
fn forwards(other: &Snapshot) -> Vec<Forward> {
    let mut forwards = Vec::new();
    for (_, part) in other.routes().sorted() {
        let Action::Forward(targets) = &part.value().action else { continue };
        let Some(Target { to: TargetAction::Backend(to), .. }) = targets.first() else { continue };
        for at in &part.value().attached {
            let listener = other.listeners().get(&at.listener);
            if listener.is_some_and(|part| part.value().protocol.reads_requests()) {
                continue;
            }
            forwards.extend(at.hosts.iter().map(|host| Forward {
                listener: at.listener.clone(),
                host: host.clone(),
                to: to.clone(),
            }));
        }
    }
    forwards
}

fn translate_with(paths: &[PathBuf], translate: TranslateSettings) -> anyhow::Result<Loaded> {
    let name = |path: &PathBuf| SourceName(path.display().to_string().into());
    let mut intake = Intake::new(paths.iter().map(|path| (name(path), BTreeSet::new())));
    let mut changes = Vec::new();
    let mut problems = Vec::new();
    for (source, path) in paths.iter().enumerate() {
        std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        let (objects, found) = manifests::load(path);
        let objects: Vec<_> = objects.into_iter().map(Arc::new).collect();
        problems.extend(found);
        for kind in ObjectKind::ALL {
            let of_kind = objects.iter().filter(|object| object.key.kind == kind).cloned();
            let event = Event::Replace(kind, of_kind.collect());
            changes.extend(intake.take(source, event, Instant::now()));
        }
    }
    let mut book = EndpointBook::default();
    for change in &changes {
        book.take(change);
    }
    let now = unix_now();
    let mut ends = Ends::default();
    let changes: Vec<_> = changes.into_iter().map(|change| ends.admit(change, now)).collect();
    let world = World::new(translate).step(&changes).world;
    problems.extend(expiry::problems(&world, now));
    problems.extend(ends.problems(now));
    let state = ControlState::new(world).complete();
    problems.extend(state.problems());
    problems.extend(intake.problems());
    problems.extend(book.problems().cloned());
    problems.sort_by_cached_key(|problem| (problem.provenance.clone(), problem.clone()));
    problems.dedup();
    Ok(Loaded { state, problems })
}

/// In seconds since 1970.
fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn settings(reading: &Reading) -> anyhow::Result<Settings> {
    Given {
        http: Some(([0, 0, 0, 0], 80).into()),
        https: Some(([0, 0, 0, 0], 443).into()),
        ingress_classes: reading.ingress_classes.clone(),
        without_class: Some(reading.without_class),
        allow_external_name: Some(reading.allow_external_name),
        namespaces: reading.namespaces.clone(),
        default_backend: reading.default_backend.clone(),
        default_certificate: reading.default_certificate.clone(),
        ..Given::default()
    }
    .settle()
}

/// Where the Object of a Route was read.
pub(super) fn provenance_of(
    loaded: &Loaded,
) -> impl Fn(&kubeng_config::name::RouteId) -> Option<Provenance> + '_ {
    |id| loaded.state().provenance_of(id)
}
