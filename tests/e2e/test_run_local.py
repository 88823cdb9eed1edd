"""What `make run` starts: a cluster for a person, without systemd."""

import os
import pathlib
import signal
import subprocess
import tempfile

from cluster import Skip, wait_for, words_ok, words_value
from kvclient import Connection

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "packaging" / "run-local"


class LocalRun:
    """packaging/run-local in a directory; its output goes to a file."""

    def __init__(self, env, directory, nodes):
        self.directory = directory
        self.log = os.path.join(directory, "output")
        command = [str(SCRIPT), "--bin", env.bin, "--nodes", str(nodes), "--dir", os.path.join(directory, "run")]
        with open(self.log, "ab") as output:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    @property
    def socket(self):
        return os.path.join(self.directory, "run", "kv.sock")

    def output(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def children(self):
        pid = self.process.pid
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]

    def ask(self, *words):
        def connected():
            assert self.process.poll() is None, f"run-local ended: {self.output()}"
            try:
                return Connection(self.socket)
            except (FileNotFoundError, ConnectionRefusedError):
                return None

        with wait_for(connected, 20, "the socket of the local bridge") as client:
            return client.ask(*words)

    def stop(self, number):
        children = self.children()
        self.process.send_signal(number)
        code = self.process.wait(20)
        assert code == 0, f"run-local ended with {code}: {self.output()}"
        left = [pid for pid in children if os.path.exists(f"/proc/{pid}")]
        assert not left, f"processes {left} are left"

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)


def test_run_local_serves_stops_and_keeps_its_data(env):
    """run-local starts members and bridge, says how to talk, stops all on a signal, and uses its data again."""
    if not SCRIPT.exists():
        raise Skip(f"there is no {SCRIPT}")
    with tempfile.TemporaryDirectory(prefix="raft-e2e-") as directory:
        for number, stop_signal in enumerate((signal.SIGTERM, signal.SIGINT)):
            local = LocalRun(env, directory, 3)
            try:
                if number:
                    assert words_value(local.ask("get", b"hello"))[1] == b"world"
                words_ok(local.ask("put", b"hello", b"world"))
                assert len(local.children()) == 4, f"{local.children()}"
                # It is printed when run-local has seen the bridge answer, which may be after our answer.
                wait_for(lambda: local.output().count("nc -U") > number, 20, "run-local to say how to talk")
                local.stop(stop_signal)
            finally:
                local.end()
        output = local.output()
        for text in ("nc -U", "raftctl", "status", "leader", "raftd@1"):
            assert text in output, f"{text!r} is not in {output}"
