"""python3 -m unittest test_peers: reading of wrk's and h2load's output, and of the command line."""
import os
import string
import subprocess
import sys
import unittest
from unittest import mock

import load
import machine
import proxies

WRK = """\
Running 4s test @ http://127.0.0.1:8080/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.05ms  421.00us   9.71ms   78.71%
    Req/Sec    60.02k     3.93k   65.51k    68.29%
  Latency Distribution
     50%    0.98ms
     75%    1.23ms
     90%    1.52ms
     99%    2.36ms
  244915 requests in 4.10s, 290.07MB read
Requests/sec:  59735.37
Transfer/sec:     70.75MB
"""
WRK_ERRORS = WRK.replace("Requests/sec", "  Socket errors: connect 0, read 847, write 0, timeout 0\n"
                                         "  Non-2xx or 3xx responses: 12\nRequests/sec")
H2LOAD = """\
finished in 4.00s, 29000.25 req/s, 29.10MB/s
requests: 116001 total, 116513 started, 116001 done, 115991 succeeded, 10 failed, 0 errored, 3 timeout
status codes: 115991 2xx, 0 3xx, 0 4xx, 10 5xx
traffic: 116.40MB (122056052) total, 1.10MB (1154010) headers (space savings 95.02%), 113.28MB (118785024) data
                     min         max         mean         sd        +/- sd
time for request:      801us    116.39ms     17.25ms      4.10ms    81.02%
time for connect:     2.01ms      9.90ms      6.01ms      2.40ms    62.50%
"""


class Parse(unittest.TestCase):
    def test_wrk(self):
        self.assertEqual(load.parse_wrk(WRK), (244915, 4.1, 0.98, 2.36, ""))

    def test_wrk_errors_are_kept(self):
        self.assertEqual(load.parse_wrk(WRK_ERRORS)[4], "connect 0, read 847, write 0, timeout 0; non-2xx 12")

    def test_h2load_counts_only_what_succeeded(self):
        self.assertEqual(load.parse_h2load(H2LOAD), (115991, 4.0, 17.25, 116.39, "failed 10; timeout 3; 5xx 10"))

    def test_units(self):
        self.assertEqual([load.milliseconds(t) for t in ("801us", "2ms", "1.5s", "1m")], [0.801, 2.0, 1500.0, 60000.0])

    def test_output_of_a_tool_that_failed(self):
        with self.assertRaises((TypeError, AttributeError)):
            load.parse_wrk("unable to connect to 127.0.0.1:1 Connection refused\n")


class Targets(unittest.TestCase):
    def refused(self, text, kind="h1"):
        with self.assertRaises(machine.Failure) as raised:
            proxies.extra_target(text, kind, 0)
        return str(raised.exception)

    def test_form(self):
        self.assertIn("NAME=URL@PID", self.refused("http://127.0.0.1:80@1"))

    def test_only_loopback_is_loaded(self):
        self.assertIn("not a loopback address", self.refused("x=http://192.0.2.1:80@1"))

    def test_process_must_exist(self):
        self.assertIn("no process", self.refused("x=http://127.0.0.1:80@99999999"))

    def test_scheme_must_fit_the_kind(self):
        with mock.patch("os.sched_getaffinity", return_value={0}):
            self.assertIn("needs an https URL", self.refused("x=http://127.0.0.1:80@1", "h2"))


class Programs(unittest.TestCase):
    def test_a_wrong_variable_is_named(self):
        with mock.patch.dict("os.environ", {"ENVOY": "no/such/envoy"}), self.assertRaises(machine.Failure) as raised:
            machine.program("envoy")
        self.assertIn("ENVOY=no/such/envoy", str(raised.exception))

    def test_time_of_ended_children_counts(self):
        before = machine.cpu_seconds(os.getpid())
        subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass"], check=True)
        self.assertGreater(machine.cpu_seconds(os.getpid()) - before, 0.25)


class Configuration(unittest.TestCase):
    def test_every_template_fills_in(self):
        values = dict.fromkeys(("dir", "upstream", "upstream_ip", "upstream_port", "nofile", "nginx_connections", "cert", "key",
                                "pem", "http_port", "https_port", "body", "cert_base64", "key_base64"), "1")
        for template in (f for f in (proxies.HERE / "conf").rglob("*") if f.is_file()):
            with self.subTest(template.name):
                string.Template(template.read_text()).substitute(values)


if __name__ == "__main__":
    unittest.main()
