"""A cluster of real processes in a temporary directory, and what a test needs to hurt it and to look at it.

Every cluster has its own ports, sockets and data, waits for conditions with deadlines, and ends its processes by their
ids. A member that dies without having been killed, or that does not stop cleanly at the end, fails the test.
"""

import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from kvclient import Connection

START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 15
# Below the range from which the kernel takes the ports of outgoing connections, or a member that is down for a moment
# could find its port taken by a neighbour, even by a connection that reached itself.
PORT_MIN, PORT_MAX = 12000, 30000


class Skip(Exception):
    """The machine lacks what the test needs."""


def wait_for(condition, timeout, what, interval=0.01):
    """Returns the first true value of condition(); a failure names what was waited for."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout} s for {what}")
        time.sleep(interval)


def free_ports(count):
    """Ports of the loopback that nobody listens at."""
    ports = set()
    while len(ports) < count:
        port = random.randint(PORT_MIN, PORT_MAX)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
                ports.add(port)
            except OSError:
                continue
    return sorted(ports)


def process_field(pid, name):
    """A field of /proc/PID/status; those in kB come in bytes."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith(name + ":"):
                words = line.split()
                return int(words[1]) * 1024 if words[-1] == "kB" else words[1]
    raise KeyError(name)


def cpu_seconds(pid):
    """Processor time that all threads of a process have used, to the nanosecond."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total / 1e9


class Process:
    """One program of the cluster: started, killed, paused, resumed, stopped by its id; its stderr goes to a file."""

    def __init__(self, name, command, log_path, ready):
        self.name = name
        self.command = command
        self.log_path = log_path
        self.ready = ready  # called with the process: true once it can be used
        self.process = None
        self.paused = False

    @property
    def pid(self):
        return self.process.pid

    def running(self):
        return self.process is not None and self.process.poll() is None

    def start(self, wait=True):
        assert not self.running(), f"{self.name} runs already"
        with open(self.log_path, "ab") as log:
            self.log_start = log.tell()
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        if wait:
            self.wait_ready()

    def wait_ready(self):
        def ready():
            code = self.process.poll()
            if code is not None:
                raise AssertionError(f"{self.name} ended with {code} instead of starting")
            return self.ready(self)

        wait_for(ready, START_TIMEOUT_S, f"{self.name} to be ready")

    def log_since_start(self):
        with open(self.log_path, "rb") as log:
            log.seek(self.log_start)
            return log.read().decode(errors="replace")

    def signal(self, number):
        assert self.running(), f"{self.name} ended by itself with {self.process and self.process.returncode}"
        os.kill(self.process.pid, number)

    def kill(self, wait=True):
        self.signal(signal.SIGKILL)
        self.paused = False
        if wait:
            self.reap()

    def reap(self):
        self.process.wait(STOP_TIMEOUT_S)
        self.process = None

    def pause(self):
        self.signal(signal.SIGSTOP)
        self.paused = True
        wait_for(lambda: process_field(self.pid, "State") == "T", 5, f"{self.name} to be stopped by SIGSTOP")

    def resume(self):
        self.signal(signal.SIGCONT)
        self.paused = False

    def stop(self):
        """The clean stop: SIGTERM, and exit status 0 in time. Returns the seconds that it took."""
        began = time.monotonic()
        self.signal(signal.SIGTERM)
        code = self.process.wait(STOP_TIMEOUT_S)
        assert code == 0, f"{self.name} ended with {code} on SIGTERM"
        self.process = None
        return time.monotonic() - began

    def wait_exit(self, code, timeout=STOP_TIMEOUT_S):
        """Until it has ended by itself, with this exit status."""
        actual = self.process.wait(timeout)
        assert actual == code, f"{self.name} ended with {actual} instead of {code}"
        self.process = None

    def rss(self):
        return process_field(self.pid, "VmRSS")


def member_ready(process):
    return " is ready" in process.log_since_start()


class Cluster:
    """Members 1 … n and a bridge. Use as a context manager."""

    def __init__(self, env, n_members=5, raft=None, bridge=None, name="e2e", endpoints="tcp", sanitized=False):
        self.bin = env.san_bin if sanitized else env.bin
        self.env = env
        self.dir = tempfile.mkdtemp(prefix="raft-e2e-")
        self.name = name
        self.ids = list(range(1, n_members + 1))
        self.config = os.path.join(self.dir, "raft.conf")
        self.socket = os.path.join(self.dir, "kv.sock")
        self.settings = {"raft": dict(raft or {}), "bridge": dict(bridge or {})}
        self.kind = endpoints
        self.endpoints = self.make_endpoints(self.ids)
        self.write_config()
        self.members = {k: self.make_member(k) for k in self.ids}
        self.bridge = self.make_bridge("bridge", self.config, self.socket)
        self.processes = [*self.members.values(), self.bridge]

    def make_endpoints(self, ids):
        if self.kind == "ipc":
            return {k: [f"ipc://{self.dir}/{k}.{use}" for use in ("peer", "client")] for k in ids}
        ports = free_ports(2 * len(ids))
        return {k: [f"tcp://127.0.0.1:{ports.pop()}" for _ in range(2)] for k in ids}

    def write_config(self, path=None, ids=None):
        """Writes the configuration; with ids, one that names only these members."""
        lines = ["[cluster]", f"name = {self.name}"]
        for k in ids or self.ids:
            peer, client = self.endpoints[k]
            lines += [f"[member {k}]", f"peer = {peer}", f"client = {client}"]
        lines += ["[raft]", f"data_root = {self.dir}/data"]
        lines += [self.setting(key, value) for key, value in self.settings["raft"].items()]
        lines += ["[bridge]", f"socket = {self.socket}"]
        lines += [self.setting(key, value) for key, value in self.settings["bridge"].items()]
        with open(path or self.config, "w", encoding="ascii") as file:
            file.write("\n".join(lines) + "\n")

    def setting(self, key, value):
        """A line of the configuration; {dir} in a value is the cluster's directory."""
        return f"{key} = {value}".replace("{dir}", self.dir)

    def data(self, k):
        """The member's data directory."""
        return f"{self.dir}/data/{k}"

    def make_member(self, k):
        os.makedirs(self.data(k))
        command = [self.program("raftd"), "--config", self.config, "--id", str(k)]
        return Process(f"member {k}", command, f"{self.dir}/member-{k}.log", member_ready)

    def make_bridge(self, name, config, path):
        def ready(_process):
            try:
                Connection(path).close()
                return True
            except (FileNotFoundError, ConnectionRefusedError):
                return False

        command = [self.program("raft-bridge"), "--config", config, "--socket", path]
        return Process(name, command, f"{self.dir}/{name}.log", ready)

    def add_bridge(self, name, ids=None):
        """Another bridge with a socket of its own; with ids, one that knows only these members."""
        config = f"{self.dir}/{name}.conf"
        self.write_config(config, ids)
        bridge = self.make_bridge(name, config, f"{self.dir}/{name}.sock")
        self.processes.append(bridge)
        bridge.start()
        return bridge, f"{self.dir}/{name}.sock"

    def new_member(self, k):
        """One more member: endpoints, directory, a section in the configuration file. It is neither started nor added."""
        assert k not in self.members
        self.ids = sorted([*self.ids, k])
        self.endpoints |= self.make_endpoints([k])
        self.write_config()
        self.members[k] = self.make_member(k)
        self.processes.append(self.members[k])
        return self.members[k]

    def forget_member(self, k):
        """It does not belong to the cluster any more: nothing waits for it."""
        self.ids.remove(k)

    def wipe(self, k):
        """The member's disk is lost. It must not run."""
        assert not self.members[k].running()
        shutil.rmtree(self.data(k))
        os.makedirs(self.data(k))

    def program(self, name):
        return os.path.join(self.bin, name)

    # Life

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.abandon()
            raise
        return self

    def __exit__(self, kind, _error, _trace):
        if kind is None:
            try:
                self.finish()
            except BaseException:
                self.abandon()
                raise
            self.remove()
        else:
            self.abandon()

    def start(self):
        for member in self.members.values():
            member.start(wait=False)
        for member in self.members.values():
            member.wait_ready()
        self.bridge.start()
        self.wait_leader()

    def finish(self):
        """Everything that should run still runs, and stops cleanly."""
        for process in self.processes:
            if process.process is not None:
                code = process.process.poll()
                assert code is None, f"{process.name} ended by itself with {code}"
        running = [process for process in self.processes if process.running()]
        for process in running:
            if process.paused:
                process.resume()
        for process in reversed(running):
            process.signal(signal.SIGTERM)
        for process in running:
            code = process.process.wait(STOP_TIMEOUT_S)
            assert code == 0, f"{process.name} ended with {code} on SIGTERM"

    def abandon(self):
        """Ends whatever is left, and keeps the tails of the logs for the report."""
        for process in self.processes:
            if process.running():
                process.process.kill()
                process.process.wait()
        self.env.logs.append(self.log_tails())
        self.remove()

    def remove(self):
        if self.env.keep:
            self.env.note(f"kept {self.dir}")
        else:
            shutil.rmtree(self.dir, ignore_errors=True)

    def log_tails(self, lines=25):
        parts = []
        for process in self.processes:
            code = process.process.returncode if process.process is not None else "not running"
            parts.append(f"--- {process.name} ({code})")
            try:
                with open(process.log_path, encoding="utf-8", errors="replace") as log:
                    parts += [line.rstrip("\n")[:300] for line in log.readlines()[-lines:]]
            except FileNotFoundError:
                parts.append("(never started)")
        return "\n".join(parts)

    # Looking

    def raftctl_command(self, *arguments, config=None):
        return [self.program("raftctl"), "--config", config or self.config, *map(str, arguments)]

    def raftctl(self, *arguments, config=None, timeout=20):
        command = self.raftctl_command(*arguments, config=config)
        return subprocess.run(command, capture_output=True, timeout=timeout, check=False)

    def status(self):
        """What raftctl says of the cluster: the decoded JSON."""
        result = self.raftctl("status", "--json")
        try:
            return json.loads(result.stdout)
        except ValueError as error:
            raise AssertionError(f"raftctl status --json: {result}") from error

    def member_status(self):
        return {member["id"]: member for member in self.status()["members"]}

    def membership(self, timeout_ms=1000):
        """What raftctl member list says: the decoded JSON, or None while nobody leads."""
        result = self.raftctl("--timeout", timeout_ms, "member", "list", "--json")
        assert result.returncode != 2, f"raftctl member list --json: {result}"
        return json.loads(result.stdout) if result.returncode == 0 else None

    def voters(self):
        """{id: incarnation} of the members that vote, when that is committed, otherwise None."""
        membership = self.membership()
        if membership is None or not membership["committed"]:
            return None
        return {m["id"]: m["incarnation"] for m in membership["members"] if m["role"] == "voter"}

    def wait_voters(self, ids, timeout=30):
        """Until exactly these members vote. Returns {id: incarnation}."""

        def reached():
            voters = self.voters()
            return voters if voters is not None and sorted(voters) == sorted(ids) else None

        return wait_for(reached, timeout, f"{sorted(ids)} to be the voters", interval=0.05)

    def leader(self):
        """The id of a running member that leads in the highest term known, or None."""
        leaders = [
            member
            for member in self.status()["members"]
            if member.get("reachable") and member.get("role") == "leader" and self.members[member["id"]].running()
        ]
        return max(leaders, key=lambda member: member["term"])["id"] if leaders else None

    def wait_leader(self, timeout=15, other_than=None):
        def found():
            leader = self.leader()
            return leader if leader != other_than else None

        return wait_for(found, timeout, f"a leader{f' other than {other_than}' if other_than else ''}")

    def followers(self, leader):
        return [k for k in self.ids if k != leader and self.members[k].running()]

    def wait_agreement(self, timeout=60):
        """Until all members are reachable and have applied the same index, with the same hash. Returns the members."""

        def agreed():
            members = [member for member in self.status()["members"] if member.get("reachable")]
            if len(members) < len(self.ids) or len({member["applied"] for member in members}) > 1:
                return None
            hashes = {member["id"]: member["state_hash"] for member in members}
            assert len(set(hashes.values())) == 1, f"the members differ at the same index: {hashes}"
            return members

        return wait_for(agreed, timeout, "all members to have applied the same", interval=0.05)

    def dump(self, k):
        result = self.raftctl("dump", "--id", k, timeout=120)
        assert result.returncode == 0, f"raftctl dump --id {k}: {result.returncode} {result.stderr!r}"
        return result.stdout

    def connect(self, timeout=30.0):
        return Connection(self.socket, timeout)

    @staticmethod
    def connect_to(path, timeout=30.0):
        return Connection(path, timeout)


def raise_file_limit():
    """As many descriptors as the machine allows, inherited by what is started; returns how many that are."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def words_ok(words):
    """The revision of an OK reply; a failure shows the reply."""
    assert len(words) == 2 and words[0] == b"OK" and re.fullmatch(rb"[0-9]+", words[1]), f"not OK: {words!r:.500}"
    return int(words[1])


def words_value(words):
    """(revision, value) of a VALUE reply."""
    assert len(words) == 3 and words[0] == b"VALUE", f"not VALUE: {words!r:.500}"
    return int(words[1]), words[2]


def words_error(words, code):
    """The text of an ERR reply with this code."""
    assert len(words) >= 2 and words[0] == b"ERR" and words[1] == code.encode(), f"not ERR {code}: {words!r:.500}"
    return b" ".join(words[2:]).decode(errors="replace")
