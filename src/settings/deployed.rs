//! What deploy/ starts: its arguments are settings that can be used.

use clap::{Args as _, Command, FromArgMatches as _};

use super::controller::GivenController;

/// Those of a unit, with the defaults that stand in it.
fn of_unit(unit: &str) -> Vec<String> {
    let line = |start: &str| {
        let found = unit.lines().find_map(|line| line.strip_prefix(start));
        found.unwrap_or_else(|| panic!("no {start}")).to_owned()
    };
    let mut command = line("ExecStart=");
    for (name, value) in line("Environment=").split(' ').filter_map(|one| one.split_once('=')) {
        let value = value.replace("%H", "ctl1");
        command = command.replace(&format!("${{{name}}}"), &value);
        command = command.replace(&format!(" ${name}"), if value.is_empty() { "" } else { " x" });
    }
    assert!(!command.contains('$'), "{command}");
    command.split_whitespace().map(str::to_owned).collect()
}

/// Those of the first container of a manifest.
fn of_manifest(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).skip_while(|line| *line != "args:").skip(1);
    let lines = lines.take_while(|line| line.starts_with(['-', '#']));
    lines.filter_map(|line| line.strip_prefix("- ").map(str::to_owned)).collect()
}

#[track_caller]
fn check(arguments: &[String], name: &str) {
    let at = arguments.iter().position(|one| one == "controller").expect("a controller");
    let command = GivenController::augment_args(Command::new("controller"));
    let matches = command.try_get_matches_from(&arguments[at..]).unwrap();
    let settings = GivenController::from_arg_matches(&matches).unwrap().settle().unwrap();
    assert_eq!(settings.names, [name]);
}

#[test]
fn controllers_start_and_have_the_name_that_replicas_ask_for() {
    let unit = include_str!("../../deploy/systemd/kubeng-controller.service");
    check(&of_unit(unit), "ctl1");
    let manifest = include_str!("../../deploy/kubernetes/controller.yaml");
    check(&of_manifest(manifest), "kubeng-controller.kubeng.svc");
    for proxies in [
        include_str!("../../deploy/kubernetes/proxy-daemonset.yaml"),
        include_str!("../../deploy/kubernetes/proxy-deployment.yaml"),
    ] {
        let asks = "- --controller=https://kubeng-controller.kubeng.svc:9190";
        assert!(proxies.lines().any(|line| line.trim() == asks));
    }
}
