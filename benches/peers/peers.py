#!/usr/bin/env python3
"""Compare reverse proxies on one machine: one worker each, one upstream, interleaved rounds.

    ./peers.py h1                                     the peers that are installed
    ./peers.py tls --rounds 8 --peers nginx,haproxy   two of them, more rounds
    ./peers.py h1 --target mine=http://127.0.0.1:8080@4711   and a proxy that runs already

Needs Linux and Python 3.9; nothing outside the standard library. README.md says what is measured and why.
"""
import argparse
import http.client
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import load
import proxies
from machine import Failure, Started, fail, free_port, program
from proxies import PEERS

KINDS = {
    "h1": "HTTP/1.1 keep-alive, wrk",
    "tls": "HTTP/1.1 over TLS, keep-alive, wrk",
    "handshake": "a new TLS connection for every request, wrk",
    "h2": "HTTP/2 over TLS, h2load",
    "idle": "memory of idle HTTP/1.1 keep-alive connections",
    "idle-tls": "the same over TLS 1.3",
    "idle-h2": "the same with HTTP/2 over TLS",
}


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                epilog="kinds: " + "; ".join(f"{k}: {v}" for k, v in KINDS.items()))
    p.add_argument("kind", choices=KINDS)
    p.add_argument("--rounds", type=int, default=5, help="rounds per proxy, 1 to 50 (default 5)")
    p.add_argument("--secs", type=int, default=4, help="seconds of load per round, 1 to 60 (default 4)")
    p.add_argument("--peers", default=",".join(PEERS), help="comma list, or none (default: all that are installed)")
    p.add_argument("--target", action="append", default=[], metavar="NAME=URL@PID", help="a proxy that runs already; may be repeated")
    p.add_argument("--base", help="the proxy that counts as 1.00 (default: the first)")
    p.add_argument("--upstream", metavar="IP:PORT", help="use this upstream, already running on loopback, instead of starting one")
    p.add_argument("--print-upstream", action="store_true", help="start the upstream only, print its address, wait for Enter")
    p.add_argument("--conns", type=int, default=64, help="wrk connections (default 64)")
    p.add_argument("--h2-conns", type=int, default=16, help="h2load connections (default 16)")
    p.add_argument("--h2-streams", type=int, default=32, help="h2load streams per connection (default 32)")
    p.add_argument("--idle-conns", type=int, default=1000, help="idle connections, 1 to 12000 (default 1000)")
    p.add_argument("--idle-pause", type=float, default=1, help="seconds between the steps of idle (default 1)")
    p.add_argument("--host", default="bench.example.com")
    p.add_argument("--path", default="/api/v1/x")
    p.add_argument("--proxy-cpu", type=int, default=0, help="core of the proxies (default 0)")
    p.add_argument("--load-cpu", type=int, default=1, help="core of the upstream and the load generator (default 1)")
    p.add_argument("--during", metavar="COMMAND", help="shell command that runs beside every round and is stopped after it")
    p.add_argument("--watch", action="store_true", help="hold one more connection (kind h1) and report its closes and errors")
    p.add_argument("--json", metavar="FILE", help="also write the medians to this file")
    p.add_argument("--keep", action="store_true", help="keep the working folder and print its name")
    a = p.parse_args()
    for name, low, high in (("rounds", 1, 50), ("secs", 1, 60), ("idle_conns", 1, 12000), ("conns", 1, 4000)):
        if not low <= getattr(a, name) <= high:
            p.error(f"--{name.replace('_', '-')} must be between {low} and {high}")
    if a.watch and a.kind != "h1":
        p.error("--watch goes with kind h1")
    a.wanted = [] if a.peers == "none" else [n.strip() for n in a.peers.split(",")]
    cores = os.sched_getaffinity(0)
    if not {a.proxy_cpu, a.load_cpu} <= cores:
        p.error(f"cores {sorted(cores)} are usable; choose --proxy-cpu and --load-cpu among them")
    return a


def start_proxies(args, started, directory, base):
    """The targets that run already and the peers that are installed, each known to answer rightly."""
    targets = [proxies.extra_target(t, args.kind, args.proxy_cpu) for t in args.target]
    for name in args.wanted:
        if name not in PEERS:
            fail(f"--peers {name}: unknown; known are {', '.join(PEERS)}")
        if not program(name):
            print(f"skipped {name}: not on PATH, and {name.upper()} is not set", file=sys.stderr)
            continue
        targets.append(proxies.start_peer(started, name, directory, args.proxy_cpu, base))
    ready = []
    for t in targets:
        try:
            proxies.check_until_right(t, args.kind, args.host, args.path)
            ready.append(t)
        except (OSError, Failure, http.client.HTTPException) as e:
            print(f"left out {t.name}: {e}", file=sys.stderr)
    return ready or fail("no proxy to measure")


def measure(args, started, ready):
    first = args.base or next((n for n in args.wanted if any(t.name == n for t in ready)), ready[0].name)
    if not any(t.name == first for t in ready):
        fail(f"--base {first}: not among {', '.join(t.name for t in ready)}")
    versions = ", ".join(f"{t.name} {proxies.version(t.name)}" for t in ready if t.name in PEERS)
    print(f"\n## {args.kind}: {KINDS[args.kind]}\n")
    what = f"{args.idle_conns} connections each" if args.kind.startswith("idle") else f"{args.rounds} rounds of {args.secs} s, interleaved"
    print(f"{what}; proxies on core {args.proxy_cpu}, upstream and load on core "
          f"{args.load_cpu}; Linux {os.uname().release.split('-')[0]}, {os.cpu_count()} cores; {versions}; base {first}\n", flush=True)
    if args.kind.startswith("idle"):
        return load.idle(ready, args)
    for r in range(args.rounds):
        # forward, then backward: slow drift of the machine hits every proxy alike
        for t in ready if r % 2 == 0 else reversed(ready):
            load.one_round(t, args.kind, args, started)
        print(f"round {r + 1} of {args.rounds}", file=sys.stderr)
    return load.load_table(ready, args.kind, first)


def raise_open_files():
    """As many as this process may have; each proxy keeps room for connections to its upstream."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for wanted in (max(hard, 32768), hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return wanted
        except (OSError, ValueError):
            pass
    return hard


def run(args, started, directory):
    hard = raise_open_files()
    if args.kind.startswith("idle") and args.idle_conns > (most := hard * 52 // 100):
        print(f"note: only {hard} files may be open, so {most} connections instead of {args.idle_conns}")
        args.idle_conns = most
    upstream = args.upstream or f"127.0.0.1:{free_port()}"
    ip, _, port = upstream.rpartition(":")
    if not ip.startswith("127."):
        fail(f"--upstream {upstream}: not a loopback address")
    base = dict(dir=directory, upstream=upstream, upstream_ip=ip, upstream_port=port, nofile=hard,
                nginx_connections=min(16384, hard - 64), **proxies.certificate(directory))
    if not args.upstream:
        proxies.start_upstream(started, directory, args.load_cpu, base)
    if args.print_upstream:
        print(f"upstream on {upstream}; Enter stops it", flush=True)
        sys.stdin.readline()
        return
    figures = measure(args, started, start_proxies(args, started, directory, base))
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=1) + "\n")


def main():
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the clean-up below runs
    started, directory = Started(), Path(tempfile.mkdtemp(prefix="peers-"))
    try:
        run(args, started, directory)
    except Failure as e:
        sys.exit(f"peers.py: {e}")
    finally:
        started.stop_all()
        if args.keep:
            print(f"kept {directory}", file=sys.stderr)
        else:
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
