"""Programs and processes of this machine: found, started, measured, stopped."""
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


class Failure(Exception):
    """Something the user can act on; printed without a traceback."""


def program(name):
    """Path of a program: the variable NAME in the environment, else PATH; None where there is none."""
    given = os.environ.get(name.upper())
    found = shutil.which(given or name)
    if given and not found:
        fail(f"{name.upper()}={given}: no such program")
    return found and os.path.abspath(found)  # the processes run in another folder


def need(name, package):
    return program(name) or fail(f"{name} not found: install {package}, or set {name.upper()}=PATH")


def fail(text):
    raise Failure(text)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Started:
    """Processes of this run. Stops these, and no others, whatever happens."""

    def __init__(self):
        self.children = []

    def start(self, argv, cpu, cwd, env=None, out=None):
        child = subprocess.Popen(
            argv, cwd=cwd, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL,
            stdout=out or subprocess.DEVNULL, stderr=subprocess.STDOUT, start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {cpu}))
        self.children.append(child)
        return child

    def stop(self, child, patience=5):
        # start_new_session made the child the leader of its own group: workers included, nobody else
        for sig in (signal.SIGTERM, signal.SIGKILL):
            if child.poll() is None:
                try:
                    os.killpg(child.pid, sig)
                    child.wait(patience)
                except (ProcessLookupError, subprocess.TimeoutExpired):
                    pass

    def stop_all(self):
        for child in reversed(self.children):
            self.stop(child)


def tree(pid):
    """A process and its descendants."""
    found = [pid]
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                found += tree(int(child))
    except OSError:
        pass
    return found


def cpu_seconds(pid):
    """User and system time of the tree, children that ended and were waited for (old workers) included."""
    total = 0
    for p in tree(pid):
        try:
            fields = Path(f"/proc/{p}/stat").read_text().rsplit(")", 1)[1].split()
            total += sum(map(int, fields[11:15]))
        except OSError:
            pass
    return total / TICKS


def pss_mib(pid):
    total = 0
    for p in tree(pid):
        try:
            for line in Path(f"/proc/{p}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        except OSError:
            pass
    return total / 1024
