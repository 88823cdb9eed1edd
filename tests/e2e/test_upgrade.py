"""Rolling upgrades: programs of different releases in one cluster, under load. No request may fail.

The programs of the release before are built from the history, those of a later one from this tree (tests/e2e/releases).
"""

import dataclasses
import os
import pathlib
import subprocess
import time

from cluster import Cluster, Skip, wait_for
from history import History
from kvclient import Connection, ProtocolError, join
from load import Load, Worker

HERE = pathlib.Path(__file__).resolve().parent
BUILD_TIMEOUT_S = 600
CANNOT = 77
KEYS = [b"shared-%d" % k for k in range(3)]
# A snapshot after little log, so that a wiped member has to be sent one.
SMALL_LOG = {"snapshot_log_size": "64KiB", "snapshot_log_percent": 50, "segment_size": "4MiB"}


def release(env, which):
    """The directory of that release's programs."""
    directory = os.path.join(env.bin, which)
    result = subprocess.run(
        [HERE / "releases", which, directory], capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False
    )
    text = (result.stdout + result.stderr).strip()
    if result.returncode == CANNOT:
        raise Skip(f"no programs of the {which} release: {text}")
    assert result.returncode == 0, text
    env.note(text)
    return directory


class Client(Worker):
    """Sends puts, gets and deletes of a few keys in bursts over one connection; a reply that is an error is a failure.

    When the bridge closes the connection it connects again, as a client of a bridge that is replaced has to. What it had
    asked and was not told has an unknown fate in the history.
    """

    DEPTH = 8

    def __init__(self, path, number, history):
        super().__init__(path, number, history)
        self.longest = 0.0
        self.lost = []  # requests without an answer, for each lost connection

    def lines(self, burst):
        for k in range(self.DEPTH):
            key = KEYS[(burst + k) % len(KEYS)]
            value = b"%d.%d.%d" % (self.number, burst, k)
            words = [(b"put", key, value), (b"get", key), (b"get", key), (b"delete", key)][(burst + k) % 4]
            yield join(*words)

    def connect(self):
        def connected():
            try:
                return Connection(self.path, history=self.history)
            except (FileNotFoundError, ConnectionRefusedError):
                return None

        return wait_for(connected, 20, "the bridge to accept connections")

    def burst(self, client, lines):
        tokens = [client.recorder.call(line) for line in lines]
        began = time.monotonic()
        try:
            client.send(b"".join(lines))
            while tokens:
                reply = client.receive()
                assert reply[0] in (b"OK", b"VALUE", b"NOT_FOUND"), f"a request failed: {reply}"
                client.recorder.returned(tokens.pop(0), reply)
                self.requests += 1
        except (ProtocolError, ConnectionError):
            self.lost.append(len(tokens))
            client.close()
            client = self.connect()
        self.longest = max(self.longest, time.monotonic() - began)
        return client

    def work(self):
        client = self.connect()
        burst = 0
        while not self.stopping.is_set():
            burst += 1
            client = self.burst(client, list(self.lines(burst)))
        client.close()


class Bursts(Load):
    """Some clients, which have begun."""

    def __init__(self, cluster):
        super().__init__(Client, 4, cluster.socket, History())

    def __enter__(self):
        super().__enter__()
        self.wait_progress(200)
        return self

    def lost_connections(self):
        return sum(len(client.lost) for client in self.workers)

    def longest(self):
        return max(client.longest for client in self.workers)


class Mixed(Cluster):
    """A cluster whose programs come from two directories: older ones first, newer ones as they are replaced."""

    def __init__(self, env, old, new, **arguments):
        super().__init__(dataclasses.replace(env, bin=old), **arguments)
        self.old, self.new = old, new

    def tool(self, directory, *arguments):
        command = [os.path.join(directory, "raftctl"), "--config", self.config, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, timeout=20, check=False)

    def use(self, process, directory):
        process.command[0] = os.path.join(directory, os.path.basename(process.command[0]))

    def replace(self, k, directory):
        """Stops the member, as a package does, and starts the other program; until it has caught up."""
        self.members[k].stop()
        self.use(self.members[k], directory)
        self.members[k].start()
        self.wait_caught_up(k)

    def wait_caught_up(self, k):
        goal = max(member["applied"] for member in self.status()["members"] if member["reachable"])
        wait_for(lambda: self.member_status()[k].get("applied", 0) >= goal, 20, f"member {k} to catch up")

    def level(self):
        """What the newer raftctl says of the cluster."""
        self.bin = self.new
        return self.status()["feature_level"]

    def wait_level(self, level):
        wait_for(lambda: self.level() == level, 20, f"feature level {level}", interval=0.05)

    def lead(self, k):
        result = self.raftctl("transfer", k)
        assert result.returncode == 0 or self.leader() == k, f"{result}"
        wait_for(lambda: self.leader() == k, 20, f"member {k} to lead")

    def snapshot_reaches(self, k, leader, load):
        """The member loses its disk while that other one leads: it is sent a snapshot, and votes again."""
        self.lead(leader)
        old = self.wait_voters(self.ids)[k]
        wait_for(lambda: self.member_status()[leader]["first"] > 2, 30, "the leader's log to be compacted")
        self.members[k].stop()
        self.wipe(k)
        load.wait_progress(200)
        if self.leader() != leader:
            self.lead(leader)
        self.members[k].start()
        wait_for(lambda: (self.voters() or {}).get(k, old) != old, 30, f"member {k} to vote again", interval=0.05)
        self.wait_voters(self.ids)
        assert "installs the snapshot" in self.members[k].log_since_start()
        load.wait_progress(200)

    def refuses_to_start(self, k, directory, code, *texts):
        """The member is stopped; that program does not start on its directory and says why."""
        self.use(self.members[k], directory)
        self.members[k].start(wait=False)
        self.members[k].wait_exit(code)
        for text in texts:
            assert text in self.members[k].log_since_start(), self.members[k].log_since_start()


def test_release_before_is_upgraded_under_load(env):
    """Five members and a bridge of the release before, replaced one after another; one goes back before the last is done."""
    old = release(env, "previous")
    with Mixed(env, old, env.bin, raft=SMALL_LOG) as cluster:
        cluster.wait_voters(cluster.ids)
        with Bursts(cluster) as load:
            load.wait_progress(4000)
            cluster.replace(1, env.bin)
            load.wait_progress(200)
            cluster.replace(2, env.bin)
            assert cluster.level() == 1
            # What is new is held back: going back is possible.
            cluster.replace(2, old)
            load.wait_progress(200)
            cluster.replace(2, env.bin)
            cluster.snapshot_reaches(4, 1, load)  # from a new leader to an old member
            cluster.snapshot_reaches(2, 5, load)  # and the other way round
            for directory in (old, env.bin):
                for words in (("status",), ("member", "list"), ("dump", "--id", 1), ("dump", "--id", 5), ("verify",)):
                    result = cluster.tool(directory, *words)
                    assert result.returncode == 0, f"{directory} {words}: {result}"
            for k in (3, 4):
                cluster.replace(k, env.bin)
                load.wait_progress(200)
                assert cluster.level() == 1
            assert b"feature level 1; higher when newer versions run on member 5" in cluster.raftctl("status").stdout
            # The bridge: connections end, the socket's path stays, clients come back. Without a socket that systemd keeps
            # open, one that comes back at once may still meet the old bridge, and has to come back again.
            assert load.lost_connections() == 0
            cluster.bridge.stop()
            cluster.use(cluster.bridge, env.bin)
            cluster.bridge.start()
            wait_for(lambda: all(client.lost for client in load.workers), 20, "all clients to have moved")
            load.wait_progress(200)
            lost = load.lost_connections()
            cluster.replace(5, env.bin)
            cluster.wait_level(2)
            load.wait_progress(200)
            # From here on the release before would misread what is written, and refuses it.
            cluster.members[3].stop()
            cluster.refuses_to_start(3, old, 76, "was written by a newer version; install that version again")
            cluster.use(cluster.members[3], env.bin)
            cluster.members[3].start()
            load.wait_progress(200)
            assert load.lost_connections() == lost
        cluster.wait_agreement()
        assert len({cluster.dump(k) for k in cluster.ids}) == 1
        figures = load.history.check(env)
        unanswered = sum(sum(client.lost) for client in load.workers)
        env.note(f"{figures}; {unanswered} unanswered when the bridge was replaced; longest burst {load.longest():.2f} s")


def test_later_release_is_an_upgrade_like_any_other(env):
    """This release to one that knows a level more: the level rises at the end, going back and joining are refused by name."""
    new = release(env, "next")
    with Mixed(env, env.bin, new, n_members=3) as cluster:
        cluster.wait_voters(cluster.ids)
        cluster.wait_level(2)
        with Bursts(cluster) as load:
            for k in cluster.ids:
                cluster.replace(k, new)
                load.wait_progress(200)
                if k < 3:
                    assert cluster.level() == 2
            cluster.wait_level(3)
            load.wait_progress(200)
            cluster.members[2].stop()
            cluster.refuses_to_start(
                2, env.bin, 78, "was written at feature level 3", "knows levels up to 2; install the newer version again"
            )
            cluster.use(cluster.members[2], new)
            cluster.members[2].start()
            late = cluster.new_member(4)
            cluster.use(late, env.bin)
            late.start()
            added = cluster.raftctl("member", "add", "4", *cluster.endpoints[4])
            assert added.returncode in (0, 1), f"{added}"
            late.wait_exit(78)
            assert "the cluster is at feature level 3" in late.log_since_start(), late.log_since_start()
            load.wait_progress(200)
            cluster.use(late, new)
            late.start()
            cluster.wait_voters([1, 2, 3, 4])
            load.wait_progress(200)
        cluster.wait_agreement()
        assert len({cluster.dump(k) for k in cluster.ids}) == 1
        assert load.lost_connections() == 0
        env.note(f"{load.history.check(env)}; longest burst {load.longest():.2f} s")
