"""Metrics and health over HTTP as a monitoring system asks for them: a Unix socket or an address, one request a
connection, Prometheus' text taken apart."""

import re
import socket

SAMPLE = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)(?:\{(.*)\})? (\S+)')
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


def dial(where, timeout=10):
    """A connected socket. where: a path, or (host, port)."""
    family = socket.AF_UNIX if isinstance(where, str) else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.connect(where)  # blocking: a full backlog is waited for
    connection.settimeout(timeout)
    return connection


def get(where, path, timeout=10):
    """(status, body)."""
    with dial(where, timeout) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        reply = b""
        while True:
            some = connection.recv(65536)
            if not some:
                break
            reply += some
    head, _, body = reply.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


class Metrics:
    """One scrape."""

    def __init__(self, where):
        status, self.text = get(where, "/metrics")
        assert status == 200, f"/metrics: {status} {self.text}"
        self.types = {}
        self.helps = {}
        self.samples = {}
        for line in self.text.splitlines():
            if line.startswith("# HELP "):
                _, _, name, text = line.split(" ", 3)
                assert name not in self.helps, f"{name} comes twice"
                self.helps[name] = text
            elif line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ", 3)
                self.types[name] = kind
            else:
                match = SAMPLE.fullmatch(line)
                assert match, f"no sample: {line!r}"
                labels = frozenset(LABEL.findall(match[2] or ""))
                assert (match[1], labels) not in self.samples, f"{line!r} comes twice"
                self.samples[match[1], labels] = float(match[3])

    def value(self, name, **labels):
        return self.samples[name, frozenset((key, str(value)) for key, value in labels.items())]

    def family(self, name):
        """{labels: value} of all samples of the name."""
        return {labels: value for (sample, labels), value in self.samples.items() if sample == name}
