"""raft-kv installed from its package on a booted systemd, used as an operator uses it.

One machine for all tests here, with five members; they run in the order of the file and each leaves it healthy. Run
alone, a test finds the machine booted and the package installed as well.
"""

import atexit
import functools
import json
import os
import pathlib
import re
import subprocess
import tempfile
import threading
import time

from cluster import wait_for
from kvclient import Connection, ProtocolError
from machine import Machine, base_tree, check_host, repack, seconds_since
from test_packages import built_debs

IDS = [1, 2, 3, 4, 5]
UNITS = [f"raft@{k}.service" for k in IDS]
ALL = "raft@*.service"
SOCKET = "/run/raft/kv.sock"
EXPOSURE_MAX = 12  # tenths
QUIET_S = 3.0
CATCH_UP_S = 60


@functools.cache
def package():
    """The .deb of this tree; RAFT_E2E_DEBS names a folder that has it already."""
    folder = os.environ.get("RAFT_E2E_DEBS") or built_debs().name
    found = list(pathlib.Path(folder).glob("raft-kv_*.deb"))
    assert len(found) == 1, f"{folder} has {found}"
    return found[0]


@functools.cache
def booted():
    check_host()
    machine = Machine(base_tree(package()))
    atexit.register(machine.stop)
    machine.boot()
    return machine


def installed():
    machine = booted()
    if machine.run("dpkg-query", "-W", "-f", "${db:Status-Status}", "raft-kv", check=False).stdout != "installed":
        install(machine, package())
    return machine


def install(machine, path):
    target = f"/root/{path.name}"
    subprocess.run(["cp", path, machine.path(target)], check=True)
    return machine.run("dpkg", "--install", target, timeout=200)


def healthy():
    """A machine with five members that agree."""
    machine = installed()
    if any(machine.show(unit, "ActiveState") != "active" for unit in UNITS):
        machine.systemctl("reset-failed", check=False)
        machine.systemctl("start", *UNITS)
    wait_healthy(machine)
    return machine


def shows_journal(test):
    """A failure comes with what the machine's journal has said since the test began."""

    @functools.wraps(test)
    def run(env):
        began = time.time()
        try:
            test(env)
        except Exception:
            if booted.cache_info().currsize:
                env.logs.append(booted().journal_text(f"--since=@{began:.3f}", "--output=short-precise")[-12000:])
            raise

    return run


def status(machine):
    text = machine.run("raftctl", "status", "--json", check=False).stdout
    return json.loads(text) if text else {"members": []}


def members(machine):
    return {member["id"]: member for member in status(machine)["members"] if member.get("reachable")}


def agree(machine):
    """The members, when all five are there, follow one leader and have applied the same; otherwise None."""
    found = members(machine)
    roles = sorted(member["role"] for member in found.values())
    if roles != ["follower"] * 4 + ["leader"]:
        return None
    same = len({(member["applied"], member["state_hash"]) for member in found.values()}) == 1
    return found if same and len({member["term"] for member in found.values()}) == 1 else None


def wait_healthy(machine, timeout=CATCH_UP_S):
    return wait_for(lambda: agree(machine), timeout, "five members that agree", interval=0.1)


def leader_of(machine, other_than=None):
    leaders = [k for k, member in members(machine).items() if member["role"] == "leader"]
    return leaders[0] if len(leaders) == 1 and leaders[0] != other_than else None


def pid_of(machine, k):
    return int(machine.show(f"raft@{k}.service", "MainPID"))


def status_line(machine, k):
    return machine.show(f"raft@{k}.service", "StatusText")


def connect(machine, timeout=30.0):
    return Connection(str(machine.path(SOCKET)), timeout)


def as_user(machine, user, line):
    return machine.run("runuser", "-u", user, "--", "sh", "-c", line, check=False)


class Load:
    """Clients that write and read all the time, until the end of the block. Each reply that is an error, each value that is not the
    last one written and each connection that ends before its answer is a failed request."""

    def __init__(self, machine, n_clients=3, may_reconnect=False):
        self.machine = machine
        self.n_clients = n_clients
        self.may_reconnect = may_reconnect  # the bridge is restarted: a request that it did not take is sent again
        self.failures = []
        self.n_requests = 0
        self.n_reconnects = 0
        self.ended = threading.Event()
        self.slowest = 0.0

    def __enter__(self):
        self.threads = [threading.Thread(target=self.client, args=(k,)) for k in range(self.n_clients)]
        for thread in self.threads:
            thread.start()
        wait_for(lambda: self.n_requests > 10 * self.n_clients or self.failures, 30, "the load to begin")
        return self

    def __exit__(self, kind, _error, _trace):
        if kind is None:
            after = self.n_requests + 10 * self.n_clients
            wait_for(lambda: self.n_requests > after or self.failures, 30, "requests after what was done under load")
        self.ended.set()
        for thread in self.threads:
            thread.join(60)
        if kind is None:
            assert not self.failures, f"{len(self.failures)} of {self.n_requests} requests failed: {self.failures[:5]}"

    def ask(self, connection, *words):
        """The reply, and the connection for the next request."""
        began = time.monotonic()
        while True:
            try:
                reply = connection.ask(*words)
                break
            except (OSError, ProtocolError):
                if not self.may_reconnect:
                    raise
                self.n_reconnects += 1
                connection.close()
                connection = connect(self.machine)
        self.n_requests += 1
        self.slowest = max(self.slowest, time.monotonic() - began)
        return reply, connection

    def client(self, k):
        key = b"load-%d" % k
        n = 0
        try:
            connection = connect(self.machine)
            while not self.ended.is_set():
                n += 1
                reply, connection = self.ask(connection, "put", key, b"%d" % n)
                if reply[0] != b"OK":
                    self.failures.append((n, reply))
                reply, connection = self.ask(connection, "get", key)
                if reply[0] != b"VALUE" or reply[2] != b"%d" % n:
                    self.failures.append((n, reply))
            connection.close()
        except (OSError, ProtocolError) as error:
            self.failures.append((n, repr(error)))


def story(machine, *words):
    """Who led in which term, as the journal has it: [(member, term)]."""
    lines = machine.journal("RAFT_EVENT=leader", *words)
    return [(int(line["RAFT_NODE"]), int(line["RAFT_TERM"])) for line in lines]


@shows_journal
def test_installing_starts_no_member(env):
    """dpkg --install makes users, opens the socket for clients, starts no member; the units are tight and without mistakes."""
    machine = booted()
    install(machine, package())
    assert machine.show("raft-bridge.socket", "ActiveState") == "active"
    assert machine.show("raft.target", "ActiveState") == "active"
    assert machine.show("raft-bridge.service", "ActiveState") == "inactive"
    assert machine.systemctl("list-units", "--all", "--no-legend", ALL).stdout == ""
    assert machine.run("stat", "-c", "%U %G %a", SOCKET).stdout == "root raft-client 660\n"
    assert not machine.path("/var/lib/raft/1").exists()
    assert machine.run("getent", "passwd", "raft").returncode == 0
    units = ["raft@1.service", "raft.target", "raft-bridge.socket", "raft-bridge.service"]
    verify = machine.run("systemd-analyze", "verify", "--man=no", *units, check=False)
    assert (verify.returncode, verify.stdout, verify.stderr) == (0, "", ""), f"{verify}"
    for unit in ("raft@1.service", "raft-bridge.service"):
        machine.run("systemd-analyze", "security", f"--threshold={EXPOSURE_MAX}", unit)
    listed = machine.run("journalctl", "--list-catalog").stdout
    catalogue = (pathlib.Path(__file__).parents[2] / "systemd" / "raft.catalog").read_text(encoding="utf-8")
    ids = re.findall(r"^-- ([0-9a-f]{32})$", catalogue, re.M)
    missing = [number for number in ids if number not in listed]
    assert len(ids) > 60 and not missing, f"not in the catalogue of the machine: {missing}"
    env.note(f"{len(ids)} entries in the catalogue")


@shows_journal
def test_five_members_elect_a_leader(env):
    """systemctl start raft@{1..5}: roles in the status lines; the journal has one election, explained; then it is quiet."""
    machine = installed()
    began = time.monotonic()
    machine.systemctl("start", *UNITS)
    found = wait_healthy(machine)
    env.note(f"{seconds_since(began):.1f} s to a healthy cluster")
    leader = next(k for k, member in found.items() if member["role"] == "leader")
    wait_for(lambda: status_line(machine, leader).endswith("quorum 3: 5 answer"), 10, "the leader's status line")
    assert status_line(machine, leader).startswith(f"leader of 5, term {found[leader]['term']}, commit ")
    for k in IDS:
        if k != leader:
            wait_for(lambda k=k: status_line(machine, k).endswith(f", leader {leader}"), 10, f"the status line of {k}")
            assert status_line(machine, k).startswith("follower of 5, term ")
    assert f"Status: \"{status_line(machine, leader)[:20]}" in machine.systemctl("status", f"raft@{leader}").stdout

    assert story(machine) == [(leader, found[leader]["term"])]
    text = machine.journal_text("--catalog", "-u", "raft@*")
    assert f"Subject: Member {leader} leads in term" in text and "A majority voted for it." in text
    lines = machine.journal("-u", "raft@*", "_COMM=raftd")
    assert lines and all(int(line["PRIORITY"]) <= 6 and "MESSAGE_ID" in line for line in lines)
    assert {line["RAFT_NODE"] for line in lines} == {str(k) for k in IDS}
    assert {line["SYSLOG_IDENTIFIER"] for line in lines} == {f"raftd@{k}" for k in IDS}
    assert len(lines) <= 8 + 4 * 4 + 2, "\n".join(line["MESSAGE"] for line in lines)
    follows = [line for line in lines if line.get("RAFT_EVENT") == "follower"]
    assert {line["RAFT_LEADER"] for line in follows} == {str(leader)}

    time.sleep(QUIET_S)  # to show that nothing happens
    assert len(machine.journal("-u", "raft@*")) == len(machine.journal("-u", "raft@*", f"--until=-{int(QUIET_S) - 1}s"))


@shows_journal
def test_clients_need_the_group(env):
    """A user in raft-client puts, gets and deletes with nc; one outside is refused by the socket."""
    machine = healthy()
    if machine.run("id", "alice", check=False).returncode != 0:
        machine.run("useradd", "--groups", "raft-client", "alice")
        machine.run("useradd", "bob")
    line = f"printf 'put greeting \"hello world\"\\nget greeting\\ndelete greeting\\nget greeting\\n' | nc -N -U {SOCKET}"
    result = as_user(machine, "alice", line)
    pattern = r'OK (\d+)\nVALUE \1 "hello world"\nOK \d+\nNOT_FOUND\n'
    assert result.returncode == 0 and re.fullmatch(pattern, result.stdout), f"{result}"
    refused = as_user(machine, "bob", line)
    assert refused.returncode != 0 and refused.stdout == "" and "Permission denied" in refused.stderr, f"{refused}"
    assert machine.show("raft-bridge.service", "ActiveState") == "active"
    env.note(machine.show("raft-bridge.service", "StatusText"))


@shows_journal
def test_a_killed_leader_is_replaced_and_comes_back(env):
    """systemctl kill -s KILL of the leader: another one leads; systemd starts the old one again; it catches up."""
    machine = healthy()
    old, pid = leader_of(machine), pid_of(machine, leader_of(machine))
    before = len(story(machine))
    began = time.monotonic()
    machine.systemctl("kill", "--signal=KILL", "--kill-who=main", f"raft@{old}")
    with connect(machine) as client:
        assert client.ask("put", b"k", b"after the kill")[0] == b"OK"
    env.note(f"a write after {seconds_since(began):.2f} s")
    wait_for(lambda: pid_of(machine, old) not in (0, pid), 30, "systemd to start the old leader again", interval=0.1)
    found = wait_healthy(machine)
    new = next(k for k, member in found.items() if member["role"] == "leader")
    elections = story(machine)[before:]
    assert elections[-1] == (new, found[new]["term"]) and len(elections) == 1, f"{elections}"
    assert machine.show(f"raft@{old}.service", "NRestarts") != "0"
    votes = machine.journal("RAFT_EVENT=vote-granted", f"RAFT_TERM={found[new]['term']}")
    assert len(votes) >= 2 and {line["RAFT_PEER"] for line in votes} == {str(new)}


@shows_journal
def test_a_hanging_member_is_restarted_by_the_watchdog(env):
    """SIGSTOP a member: the watchdog kills and restarts it within WatchdogSec, and the others go on meanwhile."""
    machine = healthy()
    victim = next(k for k in IDS if k != leader_of(machine))
    pid = pid_of(machine, victim)
    limit = int(machine.show(f"raft@{victim}.service", "WatchdogUSec").removesuffix("s"))
    began = time.monotonic()
    machine.systemctl("kill", "--signal=STOP", "--kill-who=main", f"raft@{victim}")
    with connect(machine) as client:
        assert client.ask("put", b"k", b"while one hangs")[0] == b"OK"
    wait_for(lambda: pid_of(machine, victim) not in (0, pid), limit + 20, "the watchdog to restart it", interval=0.2)
    env.note(f"restarted after {seconds_since(began):.0f} s, WatchdogSec={limit}s")
    text = machine.journal_text("-u", f"raft@{victim}")
    assert "Watchdog timeout" in text, text[-2000:]
    wait_healthy(machine)


@shows_journal
def test_restarts_one_by_one_fail_no_request(env):
    """systemctl restart raft@N, one after another, under load: no failed request."""
    machine = healthy()
    pids = {k: pid_of(machine, k) for k in IDS}
    with Load(machine) as load:
        for k in IDS:
            machine.systemctl("restart", f"raft@{k}")
            target = max(member["commit"] for member in members(machine).values())
            wait_for(
                lambda k=k, target=target: members(machine).get(k, {}).get("applied", 0) >= target, 30, f"{k} to catch up"
            )
    env.note(f"{load.n_requests} requests, the slowest {load.slowest:.2f} s")
    assert all(pid_of(machine, k) != pids[k] for k in IDS)
    wait_healthy(machine)


@shows_journal
def test_without_a_majority_nothing_is_promised(env):
    """Three of five stopped: ERR no_quorum or unknown, and a status line that says why; started again, it resumes."""
    machine = healthy()
    down, up = UNITS[:3], IDS[3:]
    machine.systemctl("stop", *down)
    with connect(machine, timeout=60) as client:
        reply = wait_for(
            lambda: (lambda words: words if words[:2] == [b"ERR", b"no_quorum"] else None)(client.ask("get", b"k")),
            60,
            "ERR no_quorum",
        )
        env.note(reply[2].decode(errors="replace")[:60])
        for k in up:
            wait_for(lambda k=k: "no leader" in status_line(machine, k), 30, f"member {k} to say that nobody leads")
        wait_for(lambda: machine.journal("RAFT_EVENT=no-leader"), 30, "a line in the journal")
        assert "The cluster has no leader" in machine.journal_text("--catalog", "RAFT_EVENT=no-leader")
        machine.systemctl("start", *down)
        wait_healthy(machine)
        assert client.ask("put", b"k", b"again")[0] == b"OK"


@shows_journal
def test_the_socket_outlives_the_bridge(env):
    """The bridge stopped: the next connection starts it. Killed: connections made meanwhile are served by the next one."""
    machine = healthy()
    machine.systemctl("stop", "raft-bridge.service")
    assert machine.show("raft-bridge.socket", "ActiveState") == "active"
    began = time.monotonic()
    with connect(machine) as client:
        assert client.ask("put", b"k", b"woken")[0] == b"OK"
    env.note(f"a write {seconds_since(began):.2f} s after the first connection")
    pid = int(machine.show("raft-bridge.service", "MainPID"))
    machine.systemctl("kill", "--signal=KILL", "--kill-who=main", "raft-bridge.service")
    wait_for(lambda: int(machine.show("raft-bridge.service", "MainPID")) != pid, 10, "the bridge to die")
    with connect(machine) as client:
        assert client.ask("get", b"k")[2] == b"woken"


@shows_journal
def test_reload_waits_for_the_result(env):
    """systemctl reload takes a changed log level over, names what needs a restart, and fails when the file has mistakes."""
    machine = healthy()
    path = machine.path("/etc/raft/raft.conf")
    original = path.read_text(encoding="utf-8")
    pids = [pid_of(machine, k) for k in IDS]
    try:
        path.write_text(original.replace("[raft]", "[raft]\nlog_level = notice\nheartbeat_ms = 49", 1), encoding="utf-8")
        machine.systemctl("reload", ALL)
        reloaded = machine.journal("RAFT_EVENT=reloaded")
        assert {line["RAFT_NODE"] for line in reloaded} == {str(k) for k in IDS}
        assert len(machine.journal("RAFT_EVENT=restart-needed")) == 5
        machine.systemctl("start", "raft-bridge.service")
        machine.systemctl("reload", "raft-bridge.service")
        path.write_text(original + "\nnonsense = 1\n", encoding="utf-8")
        for unit in ("raft@1.service", "raft-bridge.service"):
            assert machine.systemctl("reload", unit, check=False).returncode != 0, unit
            assert machine.show(unit, "ActiveState") == "active"
    finally:
        path.write_text(original, encoding="utf-8")
    machine.systemctl("reload", ALL)
    assert [pid_of(machine, k) for k in IDS] == pids


@shows_journal
def test_what_cannot_start_is_not_tried_again(env):
    """An instance that raft.conf does not name, and a file with mistakes: failed at once, one start, with the reason."""
    machine = healthy()
    assert machine.systemctl("start", "raft@9", check=False).returncode != 0
    assert "there is no section [member 9]" in machine.journal_text("-u", "raft@9")
    assert machine.show("raft@9.service", "ActiveState") == "failed"
    assert machine.show("raft@9.service", "NRestarts") == "0"
    machine.systemctl("reset-failed", "raft@9")


@shows_journal
def test_the_target_is_the_handle_of_all(env):
    """Enabled instances stop and start with raft.target; enabling one starts no other."""
    machine = healthy()
    machine.systemctl("enable", *UNITS)
    machine.systemctl("stop", "raft.target")
    wait_for(lambda: {machine.show(unit, "ActiveState") for unit in UNITS} == {"inactive"}, 30, "all to have stopped")
    machine.systemctl("start", "raft.target")
    assert {machine.show(unit, "ActiveState") for unit in UNITS} == {"active"}
    wait_healthy(machine)


@shows_journal
def test_an_upgrade_fails_no_request(env):
    """The next version of the package installed under load: every member is restarted, no request fails."""
    machine = healthy()
    pids = [pid_of(machine, k) for k in IDS]
    with tempfile.TemporaryDirectory(prefix="raft-upgrade-") as directory:
        newer = repack(package(), "99.0", directory)
        began = time.monotonic()
        with Load(machine, may_reconnect=True) as load:
            result = install(machine, newer)
    env.note(f"{load.n_requests} requests in {seconds_since(began):.0f} s, the slowest {load.slowest:.2f} s")
    assert "not all of what runs here was restarted" not in result.stderr, result.stderr
    assert all(pid_of(machine, k) not in (0, pid) for k, pid in zip(IDS, pids)), "a member was not restarted"
    wait_healthy(machine)


@shows_journal
def test_removal_keeps_data_and_purge_does_not(env):
    """dpkg --remove stops everything and keeps data and configuration; installed again all is there; --purge leaves nothing."""
    machine = healthy()
    machine.systemctl("enable", *UNITS)
    with connect(machine) as client:
        assert client.ask("put", b"kept", b"yes")[0] == b"OK"
    machine.run("dpkg", "--remove", "raft-kv")
    assert not machine.path(SOCKET).exists() and machine.run("pgrep", "raft", check=False).stdout == ""
    for path in ("/var/lib/raft/1", "/etc/raft/raft.conf"):
        assert machine.path(path).exists(), path
    assert not machine.path("/usr/sbin/raftd").exists()
    install(machine, package())
    wait_healthy(machine)
    with connect(machine) as client:
        assert client.ask("get", b"kept")[2] == b"yes"
    machine.run("dpkg", "--purge", "raft-kv")
    left = machine.run("find", "/etc", "/var/lib", "/run", "/usr", "-name", "*raft*", "-not", "-path", "/run/systemd/*").stdout
    left = [line for line in left.splitlines() if "/dpkg/" not in line and "/sys/" not in line]
    assert left == [], f"left behind: {left}"
    assert machine.systemctl("list-units", "--all", "--no-legend", "--plain", "raft*").stdout.strip() == ""
