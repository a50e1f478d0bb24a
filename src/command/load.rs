//! What the commands that look at manifests have in common: folders in, a world for each fleet out.

mod choice;

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
use kubeng_controller::fleets::Fleets;
use kubeng_controller::intake::Intake;
use kubeng_controller::object::{Event, List, Object, SourceName};
use kubeng_controller::settings::{Forward, TranslateSettings};
use kubeng_controller::source::manifests;
use kubeng_controller::world::World;

use crate::settings::Settings;
use crate::settings::given::Given;
use crate::wiring;
use choice::{Chosen, Wanted, choose};

/// How manifests are read where nothing is served.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Reading {
    /// Fleet to look at, by its name; `default` is what `kubeng run` serves without --fleet
    /// [default: the Fleet that the manifests describe]
    #[arg(long, value_name = "NAME")]
    fleet: Option<String>,
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

impl Reading {
    /// The fleet that is asked for, if one is.
    pub(super) fn fleet(&self) -> Option<&str> {
        self.fleet.as_deref()
    }
}

/// What manifests say, computed once.
pub(super) struct Loaded {
    /// What one fleet serves; of several the first by name.
    state: ControlState,
    others: Vec<ControlState>,
    problems: Vec<Problem>,
    tells_endpoints: bool,
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

    /// The same of every fleet, by name; only one unless all were asked for.
    pub(super) fn states(&self) -> impl Iterator<Item = &ControlState> {
        std::iter::once(&self.state).chain(&self.others)
    }

    /// Everything that is wrong.
    pub(super) fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Whether any EndpointSlice stands there.
    pub(super) fn tells_endpoints(&self) -> bool {
        self.tells_endpoints
    }
}

/// Reads folders and files, and computes what they mean for one fleet: by the Fleet that describes it,
/// or by settings on ports 80 and 443.
///
/// # Errors
/// When a path does not exist, or it is not clear which fleet is meant. What is wrong inside becomes a
/// Problem.
pub(super) fn load(paths: &[PathBuf], reading: &Reading) -> anyhow::Result<Loaded> {
    let wanted = reading.fleet().map_or(Wanted::Only, Wanted::Named);
    load_wanted(paths, reading, wanted)
}

/// As [`load`], for all fleets unless one is named.
pub(super) fn load_all(paths: &[PathBuf], reading: &Reading) -> anyhow::Result<Loaded> {
    let wanted = reading.fleet().map_or(Wanted::Every, Wanted::Named);
    load_wanted(paths, reading, wanted)
}

fn load_wanted(paths: &[PathBuf], reading: &Reading, wanted: Wanted<'_>) -> anyhow::Result<Loaded> {
    let settings = settings(reading)?;
    translate_with(paths, reading, wanted, wiring::translate_settings(&settings))
}

/// As [`load`], for the fleet of another configuration if it is known, so that the two can be compared.
/// What settings describe is put on the Listeners of the other one.
pub(super) fn load_beside(
    paths: &[PathBuf],
    reading: &Reading,
    other: &Snapshot,
    fleet: Option<&str>,
) -> anyhow::Result<Loaded> {
    let wanted = reading.fleet().or(fleet).map_or(Wanted::Only, Wanted::Named);
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
    translate_with(paths, reading, wanted, translate)
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

fn translate_with(
    paths: &[PathBuf],
    reading: &Reading,
    wanted: Wanted<'_>,
    translate: TranslateSettings,
) -> anyhow::Result<Loaded> {
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
            let event = Event::Replace(List::of_kind(kind, of_kind.collect()));
            changes.extend(intake.take(source, event, Instant::now()));
        }
    }
    let mut book = EndpointBook::default();
    for change in &changes {
        book.take(change);
    }
    let now = unix_now();
    let mut ends = Ends::default();
    for change in changes {
        let _ = ends.admit(change, now);
    }
    let objects: Vec<_> =
        intake.objects().filter_map(|object| ends.admitted(object)).cloned().collect();
    let worlds = worlds(reading, wanted, translate, &objects)?;
    problems.extend(worlds.iter().flat_map(|world| expiry::problems(world, now)));
    problems.extend(ends.problems(now));
    let state = |world| ControlState::new(world).complete().with_endpoints(&book);
    let mut states = worlds.into_iter().map(state);
    let state = states.next().context("there is no fleet to look at")?;
    let others: Vec<ControlState> = states.collect();
    problems.extend(std::iter::once(&state).chain(&others).flat_map(ControlState::problems));
    problems.extend(intake.problems());
    problems.extend(book.problems().cloned());
    problems.sort_by_cached_key(|problem| (problem.provenance.clone(), problem.clone()));
    problems.dedup();
    let is_slice = |object: &Arc<Object>| object.key.kind == ObjectKind::EndpointSlice;
    Ok(Loaded { state, others, problems, tells_endpoints: objects.iter().any(is_slice) })
}

/// The World of each fleet that is wanted, as the process that serves it makes it.
fn worlds(
    reading: &Reading,
    wanted: Wanted<'_>,
    translate: TranslateSettings,
    objects: &[Arc<Object>],
) -> anyhow::Result<Vec<World>> {
    let chosen = choose(wanted, objects)?;
    let name = match &chosen {
        Chosen::Settings => return Ok(vec![World::rebuild(translate, objects.iter().cloned())]),
        Chosen::All => None,
        Chosen::One(name) => Some(name),
    };
    reading.refuse_what_fleets_say()?;
    let is_wanted =
        |world: &&World| name.is_none_or(|name| world.settings().fleet.as_str() == name);
    Ok(Fleets::of_all(translate, objects).worlds().filter(is_wanted).cloned().collect())
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
