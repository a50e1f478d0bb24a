"""The load: rounds of wrk or h2load, idle connections, and the tables of what they gave."""
import http.client
import os
import re
import socket
import ssl
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from machine import cpu_seconds, fail, need, pss_mib
from proxies import BODY, insecure_tls


def milliseconds(text):
    m = re.fullmatch(r"([\d.]+)(us|ms|s|m|h)", text)
    return float(m[1]) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60000, "h": 3600000}[m[2]]


def parse_wrk(out):
    """Requests, seconds, 50 % and 99 % latency in ms, errors as text."""
    n, took = re.search(r"(\d+) requests in ([\d.]+\w+)", out).groups()
    p50 = re.search(r"(?m)^\s+50%\s+(\S+)", out)[1]
    p99 = re.search(r"(?m)^\s+99%\s+(\S+)", out)[1]
    bad = re.search(r"Socket errors: (.*)", out)
    codes = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    errors = [bad[1]] if bad else []
    errors += [f"non-2xx {codes[1]}"] if codes else []
    return int(n), milliseconds(took) / 1000, milliseconds(p50), milliseconds(p99), "; ".join(errors)


def parse_h2load(out):
    """Requests, seconds, mean and greatest latency in ms, errors as text."""
    took = re.search(r"finished in ([\d.]+\w+),", out)[1]
    counts = {k: int(v) for v, k in re.findall(r"(\d+) (succeeded|failed|errored|timeout)", out)}
    codes = {k: int(v) for v, k in re.findall(r"(\d+) ([2345]xx)", out)}
    high, mean = re.search(r"time for request:\s+\S+\s+(\S+)\s+(\S+)", out).groups()
    errors = [f"{k} {v}" for k, v in {**counts, **codes}.items() if v and k not in ("succeeded", "2xx")]
    return counts["succeeded"], milliseconds(took) / 1000, milliseconds(mean), milliseconds(high), "; ".join(errors)


def load(kind, url, args):
    if kind == "h2":
        argv = [need("h2load", "nghttp2-client"), "-t1", f"-c{args.h2_conns}", f"-m{args.h2_streams}", "-D", str(args.secs),
                "--header", f":authority: {args.host}", url + args.path]
        parse = parse_h2load
    else:
        argv = [need("wrk", "wrk"), "-t1", f"-c{args.conns}", f"-d{args.secs}s", "--latency", "-H", f"Host: {args.host}"]
        argv += ["-H", "Connection: close"] if kind == "handshake" else []
        argv += [url + args.path]
        parse = parse_wrk
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=args.secs + 60,
                         preexec_fn=lambda: os.sched_setaffinity(0, {args.load_cpu}))
    try:
        return parse(ran.stdout)
    except (TypeError, KeyError, AttributeError):
        fail(f"{Path(argv[0]).name} printed no result: {(ran.stdout + ran.stderr).strip()[-400:]}")


class Watcher(threading.Thread):
    """One keep-alive connection with a request every 20 ms: what a client with a long-lived connection sees."""

    def __init__(self, url, args):
        super().__init__(daemon=True)
        self.at, self.args, self.ending = urlsplit(url), args, threading.Event()
        self.answers = self.closes = self.errors = 0
        self.slowest = 0.0

    def run(self):
        conn = None
        while not self.ending.is_set():
            try:
                conn = conn or http.client.HTTPConnection(self.at.hostname, self.at.port, timeout=5)
                began = time.monotonic()
                conn.request("GET", self.args.path, headers={"Host": self.args.host})
                answer = conn.getresponse()
                answer.read()
                self.slowest = max(self.slowest, time.monotonic() - began)
                if answer.status == 200:
                    self.answers += 1
                else:
                    self.errors += 1
                if answer.will_close:
                    self.closes, conn = self.closes + 1, None
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                self.closes, conn = self.closes + 1, None
            except OSError:
                self.errors, conn = self.errors + 1, None
            self.ending.wait(0.02)

    def finish(self):
        self.ending.set()
        self.join(10)
        return f"{self.answers} answers, {self.closes} closes, {self.errors} errors, slowest {self.slowest * 1000:.0f} ms"


def one_round(target, kind, args, started):
    url = target.url(kind)
    side = started.start(["sh", "-c", args.during], args.load_cpu, os.getcwd(),
                         {"TARGET": target.name, "TARGET_PID": str(target.pid)}) if args.during else None
    watcher = Watcher(url, args) if args.watch else None
    if watcher:
        watcher.start()
    cpu, began = cpu_seconds(target.pid), time.monotonic()
    n, seconds, low, high, errors = load(kind, url, args)
    cpu, wall = cpu_seconds(target.pid) - cpu, time.monotonic() - began
    if watcher:
        held = "held: " + watcher.finish()
        errors = f"{errors}; {held}" if errors else held
    if side:
        started.stop(side)
    target.rows.append((n / seconds, low, high, 100 * cpu / wall, 1e6 * cpu / max(n, 1), pss_mib(target.pid), errors))


def load_table(targets, kind, base):
    names = ("mean_ms", "max_ms") if kind == "h2" else ("p50_ms", "p99_ms")
    heads = [name.replace("_", " ") for name in names]
    print(f"| proxy | req/s | ratio | min..max | {heads[0]} | {heads[1]} | CPU % | CPU µs/req | CPU ratio | PSS MiB | errors |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    mid = {t.name: [statistics.median(r[i] for r in t.rows) for i in range(6)] for t in targets}
    b = mid[base]
    for t in sorted(targets, key=lambda t: -mid[t.name][0]):
        m, rates = mid[t.name], [r[0] for r in t.rows]
        errors = " / ".join(dict.fromkeys(r[6] for r in t.rows if r[6]))
        print(f"| {t.name} | {m[0]:.0f} | {m[0] / b[0]:.2f} | {min(rates):.0f}..{max(rates):.0f} | {m[1]:.2f} | {m[2]:.2f} "
              f"| {m[3]:.0f} | {m[4]:.1f} | {m[4] / b[4] if b[4] else 0:.2f} | {m[5]:.1f} | {errors} |")
    for t in targets:
        rates = [r[0] for r in t.rows]
        if max(rates) > 1.2 * min(rates):
            print(f"note: {t.name} spread over {100 * (max(rates) / min(rates) - 1):.0f} %: add rounds, or quiet the machine")
        if kind != "handshake" and mid[t.name][3] < 90:
            print(f"note: {t.name} used {mid[t.name][3]:.0f} % of its core, so it was not the bottleneck: compare CPU µs/req")
    return {name: dict(zip(("requests_per_second", *names, "cpu_percent", "cpu_microseconds", "pss_mib"), m))
            for name, m in mid.items()}


def h2_request(host, path):
    """The preface, no settings, and one GET on stream 1 (RFC 9113, RFC 7541 section 6.2.2)."""
    fields = b"\x82\x87" + b"".join(bytes([name, len(text)]) + text for name, text in
                                     ((0x04, path.encode()), (0x01, host.encode())))
    frame = len(fields).to_bytes(3, "big") + b"\x01\x05" + (1).to_bytes(4, "big") + fields
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5) + frame


def read_h2_answer(s, f):
    while True:
        head = f.read(9)
        if len(head) < 9:
            fail("an HTTP/2 connection ended before its first answer")
        size, kind, flags, stream = int.from_bytes(head[:3], "big"), head[3], head[4], int.from_bytes(head[5:], "big")
        f.read(size)
        if kind == 4 and not flags & 1:
            s.sendall(bytes(3) + b"\x04\x01" + bytes(4))
        if stream == 1 and flags & 1 and kind in (0, 1):
            return


def idle_connection(kind, url, args, context):
    """A connection that has had one answer."""
    s = socket.create_connection((url.hostname, url.port), 5)
    if context:
        s = context.wrap_socket(s, server_hostname=args.host)
    with s.makefile("rb") as f:
        if kind == "idle-h2":
            s.sendall(h2_request(args.host, args.path))
            read_h2_answer(s, f)
        else:
            s.sendall(f"GET {args.path} HTTP/1.1\r\nHost: {args.host}\r\n\r\n".encode())
            while f.readline().strip():
                pass
            f.read(BODY)
    return s


def is_open(s):
    """Whether nothing but what HTTP/2 and TLS say by themselves came, and no end."""
    s.setblocking(False)
    try:
        return bool(s.recv(4096))
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    except OSError:
        return False


def idle(targets, args):
    print("| proxy | connections | PSS MiB before | after | KiB per connection | CPU ms/s while idle | still open |")
    print("|---|---|---|---|---|---|---|")
    found = {}
    context = {"idle-tls": insecure_tls(["http/1.1"]), "idle-h2": insecure_tls(["h2"])}.get(args.kind)
    for t in targets:
        url, socks = urlsplit(t.url(args.kind)), []
        # What the first connections of a process cost once is not theirs.
        for _ in range(10):
            idle_connection(args.kind, url, args, context).close()
        time.sleep(args.idle_pause)
        before = pss_mib(t.pid)
        for _ in range(args.idle_conns):
            try:
                socks.append(idle_connection(args.kind, url, args, context))
            except OSError as error:
                # A proxy with a limit of its own must not cost the figures of the others.
                print(f"note: {t.name} takes no more than {len(socks)} connections: {error}", file=sys.stderr)
                break
        if not socks:
            continue
        time.sleep(args.idle_pause)
        cpu, began = cpu_seconds(t.pid), time.monotonic()
        time.sleep(3 * args.idle_pause)
        rate = 1000 * (cpu_seconds(t.pid) - cpu) / (time.monotonic() - began)
        after = pss_mib(t.pid)
        still = sum(is_open(s) for s in socks)
        for s in socks:
            s.close()
        # A connection that was closed meanwhile for being idle too long holds nothing any more.
        each = 1024 * (after - before) / max(still, 1)
        print(f"| {t.name} | {len(socks)} | {before:.1f} | {after:.1f} | {each:.1f} | {rate:.1f} | {still} |", flush=True)
        found[t.name] = dict(kib_per_connection=each, cpu_ms_per_second=rate, still_open=still, connections=len(socks))
        time.sleep(args.idle_pause)
    return found
