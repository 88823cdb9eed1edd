"""What clients asked and were told, recorded while it happens, and judged by raft-linearizability afterwards.

What this must not know: sockets, members. The format of the file is in tests/linearizability/README.md.
"""

import os
import re
import subprocess
import threading
import time

from kvclient import join, split

CHECK_TIMEOUT_S = 120
# A client is one request at a time; a connection with many under way is many clients.
CLIENTS_PER_CONNECTION = 10000
# Answers that promise that nothing was written and nothing will be.
WITHOUT_EFFECT = {b"bad_request", b"unknown_command", b"too_big", b"no_quorum", b"busy", b"disk_full"}


def _call(words):
    """The call as words of the file, or None for what is no operation on a key."""
    name = words[0]
    if name == b"get" and len(words) == 3:
        return ["get-stale", words[2]]
    if name in (b"get", b"delete") and len(words) == 2 or name == b"put" and len(words) == 3:
        return [name.decode(), *words[1:]]
    if name == b"cas" and len(words) == 4:
        return ["cas", words[1], "revision", int(words[2]), words[3]]
    return None


def _outcome(name, reply):
    if reply[0] == b"OK":
        return ["ok", int(reply[1])]
    if reply[0] == b"VALUE":
        return ["value", reply[2], int(reply[1])]
    if reply[0] == b"NOT_FOUND":
        return ["not_found"]
    if reply[0] == b"MISMATCH":
        return ["mismatch", int(reply[1])]
    assert reply[0] == b"ERR", f"not a reply: {reply!r:.300}"
    return ["failed" if name.startswith("get") or reply[1] in WITHOUT_EFFECT else "unknown"]


class History:
    """The events of all connections in one order: a call is noted before it is sent, a return after it was received."""

    def __init__(self):
        self.lock = threading.Lock()
        self.lines = []
        self.n_connections = 0

    def connection(self):
        with self.lock:
            self.n_connections += 1
            return Recorder(self, self.n_connections * CLIENTS_PER_CONNECTION)

    def note(self, client, *words):
        with self.lock:
            self.lines.append(join(time.monotonic_ns(), client, *words))

    def write(self, path):
        with self.lock, open(path, "wb") as file:
            file.writelines(self.lines)

    def check(self, env):
        """Fails with the checker's explanation, keeping the file; returns the figures that it printed."""
        path = os.path.join(os.path.abspath(env.bin), f"history-{os.getpid()}.txt")
        self.write(path)
        result = subprocess.run(
            [os.path.join(env.bin, "raft-linearizability"), path],
            capture_output=True,
            timeout=CHECK_TIMEOUT_S,
            check=False,
        )
        text = result.stdout.decode(errors="replace") + result.stderr.decode(errors="replace")
        assert result.returncode == 0, f"raft-linearizability: {result.returncode}\n{text}"
        os.unlink(path)
        figures = re.search(r": (\d+ operations, \d+ of unknown fate, \d+ keys)", text)
        assert figures, f"not a verdict: {text!r}"
        return figures[1]


class Recorder:
    """One connection's side of a history. Of a request that is never answered only the call is noted."""

    def __init__(self, history, first_client):
        self.history = history
        self.free = []
        self.next = first_client

    def call(self, line):
        """Before a request line is sent. Returns what returned() needs."""
        call = _call(split(line.rstrip(b"\r\n")))
        if call is None:
            return None
        if not self.free:
            self.free.append(self.next)
            self.next += 1
        client = self.free.pop()
        self.history.note(client, "call", *call)
        return client, call[0]

    def returned(self, token, reply):
        """After the reply, as words."""
        if token is None:
            return
        client, name = token
        self.history.note(client, "return", *_outcome(name, reply))
        self.free.append(client)
