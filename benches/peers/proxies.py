"""The proxies: how each is set up, started and asked whether it works."""
import http.client
import os
import re
import socket
import ssl
import string
import subprocess
import sys
import time
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from machine import Failure, fail, free_port, need, program

HERE = Path(__file__).resolve().parent
BODY = 1024
OVER_TLS = ("tls", "handshake", "h2", "idle-tls", "idle-h2")


@dataclass
class Target:
    name: str
    pid: int
    http: str = ""
    https: str = ""
    rows: list = field(default_factory=list)

    def url(self, kind):
        return self.https if kind in OVER_TLS else self.http


PEERS = {
    "nginx": dict(conf=["nginx.conf"], argv=["{bin}", "-p", "{dir}", "-c", "{dir}/nginx.conf"]),
    "haproxy": dict(conf=["haproxy.cfg"], argv=["{bin}", "-db", "-f", "{dir}/haproxy.cfg"]),
    "envoy": dict(conf=["envoy.yaml"], argv=["{bin}", "-c", "{dir}/envoy.yaml", "--concurrency", "1",
                                             "--disable-hot-restart", "-l", "error"]),
    "traefik": dict(conf=["traefik.yml", "traefik-routes.yml"], argv=["{bin}", "--configFile={dir}/traefik.yml"],
                    env={"GOMAXPROCS": "1"}),
    "caddy": dict(conf=["Caddyfile"], argv=["{bin}", "run", "--config", "{dir}/Caddyfile", "--adapter", "caddyfile"],
                  env={"GOMAXPROCS": "1"}),
    # Everything it owns is on one core, as with the others: worker, control loop and admin page.
    "kubeng": dict(conf=["kubeng/site.yaml"],
                   argv=["{bin}", "run", "--manifests", "{dir}/kubeng", "--data", "{dir}/kubeng-data", "--workers", "1",
                         "--default-certificate", "bench/certificate",
                         "--http", "127.0.0.1:{http_port}", "--https", "127.0.0.1:{https_port}",
                         "--admin", "127.0.0.1:{admin_port}",
                         # All idle connections come from one address.
                         "--client-connections-max", "0"]),
}


def certificate(directory):
    cert, key, pem = directory / "cert.pem", directory / "key.pem", directory / "both.pem"
    made = subprocess.run(
        [need("openssl", "openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=example.com",
         "-addext", "subjectAltName=DNS:*.example.com,DNS:example.com"], capture_output=True, text=True)
    if made.returncode:
        fail(f"openssl made no certificate: {made.stderr.strip()}")
    pem.write_text(cert.read_text() + key.read_text())
    return dict(cert=cert, key=key, pem=pem, cert_base64=base64(cert), key_base64=base64(key))


def base64(file):
    return b64encode(file.read_bytes()).decode()


def write_conf(name, directory, values):
    text = string.Template((HERE / "conf" / name).read_text()).substitute(values)
    (directory / name).parent.mkdir(exist_ok=True)
    (directory / name).write_text(text)


def wait_for_port(port, child, what, log, seconds=15):
    for _ in range(seconds * 20):
        if child.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    fail(f"{what} does not listen on its port; its output ends:\n{log.read_text(errors='replace')[-600:]}")


def start_logged(started, name, argv, cpu, directory, port, env=None):
    log = directory / f"{name}.out"
    with open(log, "wb") as out:
        child = started.start(argv, cpu, directory, env, out)
    wait_for_port(port, child, name, log)
    return child


def start_upstream(started, directory, cpu, values):
    rustc, port = program("rustc"), int(values["upstream_port"])
    if rustc:
        binary = directory / "upstream"
        built = subprocess.run([rustc, "-O", "--edition", "2021", "-o", binary, HERE / "upstream.rs"],
                               cwd=directory, capture_output=True, text=True)
        if built.returncode:
            fail(f"upstream.rs does not compile:\n{built.stderr[-600:]}")
        argv = [binary, str(port)]
    else:
        write_conf("upstream-nginx.conf", directory, {**values, "body": "x" * BODY})
        argv = [need("nginx", "nginx or rustc"), "-p", directory, "-c", directory / "upstream-nginx.conf"]
    start_logged(started, "upstream", argv, cpu, directory, port)


def start_peer(started, name, directory, cpu, base):
    spec, binary = PEERS[name], program(name)
    ports = dict(http_port=free_port(), https_port=free_port(), admin_port=free_port())
    for conf in spec["conf"]:
        write_conf(conf, directory, {**base, **ports})
    argv = [a.format(bin=binary, dir=directory, **ports) for a in spec["argv"]]
    child = start_logged(started, name, argv, cpu, directory, ports["http_port"], spec.get("env"))
    return Target(name, child.pid, f"http://127.0.0.1:{ports['http_port']}", f"https://127.0.0.1:{ports['https_port']}")


def version(name):
    flag = {"traefik": "version", "caddy": "version", "envoy": "--version", "kubeng": "--version"}.get(name, "-v")
    try:
        said = subprocess.run([program(name), flag], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "?"
    found = re.search(r"\d+\.\d+\.\d+", said.stdout + said.stderr)
    return found[0] if found else "?"


def extra_target(text, kind, proxy_cpu):
    m = re.fullmatch(r"([\w.-]+)=(https?://[\w.:\[\]-]+)@(\d+)", text)
    if not m:
        fail(f"--target {text}: expected NAME=URL@PID, for instance mine=http://127.0.0.1:8080@4711")
    name, url, pid = m[1], m[2], int(m[3])
    host = urlsplit(url).hostname
    if not (host == "::1" or host == "localhost" or host.startswith("127.")):
        fail(f"--target {name}: {host} is not a loopback address; this program loads loopback only")
    if not os.path.isdir(f"/proc/{pid}"):
        fail(f"--target {name}: there is no process {pid}")
    target = Target(name, pid, **{urlsplit(url).scheme: url})
    if not target.url(kind):
        fail(f"--target {name}: {kind} needs an {'https' if kind in OVER_TLS else 'http'} URL")
    if os.sched_getaffinity(pid) != {proxy_cpu}:
        print(f"note: {name} is not pinned to core {proxy_cpu}; start it with: taskset -c {proxy_cpu} …", file=sys.stderr)
    return target


def insecure_tls(alpn):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(alpn)
    return context


def check_until_right(target, kind, host, path, seconds=10):
    """A proxy may open its port before it has read its routes, so a wrong answer is asked again."""
    for left in reversed(range(seconds * 10)):
        try:
            return check(target, kind, host, path)
        except (OSError, Failure, http.client.HTTPException):
            if not left:
                raise
            time.sleep(0.1)


def check(target, kind, host, path):
    """One request before anything is timed: the right answer, through the right protocol."""
    url = urlsplit(target.url(kind))
    if url.scheme == "https":
        context = insecure_tls(["h2"] if kind.endswith("h2") else ["http/1.1"])
        with socket.create_connection((url.hostname, url.port), 5) as raw, context.wrap_socket(raw, server_hostname=host) as s:
            if kind.endswith("h2") and s.selected_alpn_protocol() != "h2":
                fail(f"{target.name} does not offer h2 by ALPN")
    if kind.endswith("h2"):
        return
    cls = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    more = {"context": insecure_tls(["http/1.1"])} if url.scheme == "https" else {}
    conn = cls(url.hostname, url.port, timeout=5, **more)
    conn.request("GET", path, headers={"Host": host})
    answer = conn.getresponse()
    body = answer.read()
    conn.close()
    if answer.status != 200 or len(body) != BODY:
        fail(f"{target.name} answers {answer.status} with {len(body)} bytes; expected 200 with {BODY}")
