"""A leader that sleeps through its own deposition: it must not answer from what it remembers."""

import threading
import time

from cluster import Cluster, wait_for, words_ok, words_value
from history import History
from kvclient import Connection

ROUNDS = 4


class Reader(threading.Thread):
    """Reads one key all the time; a read that began after a write was acknowledged must not return an older one."""

    def __init__(self, cluster, acknowledged, history):
        super().__init__()
        self.cluster = cluster
        self.history = history
        self.acknowledged = acknowledged  # called: the last acknowledged number
        self.stopping = threading.Event()
        self.reads = 0
        self.failure = None

    def run(self):
        try:
            with Connection(self.cluster.socket, history=self.history) as client:
                seen = 0
                while not self.stopping.is_set():
                    floor = max(seen, self.acknowledged())
                    seen = int(words_value(client.ask("get", b"number"))[1])
                    assert seen >= floor, f"read {seen} after {floor} was acknowledged or read"
                    self.reads += 1
        except Exception as error:  # handed to the test, which raises it
            self.failure = error


class Writer:
    """Puts 1, 2, 3 … and remembers the last that was answered OK."""

    def __init__(self, cluster, history):
        self.client = Connection(cluster.socket, history=history)
        self.last = 0

    def write(self):
        words_ok(self.client.ask("put", b"number", b"%d" % (self.last + 1)))
        self.last += 1


def leased_reads(cluster):
    return sum(member.get("leased_reads", 0) for member in cluster.status()["members"])


def test_paused_leader_never_serves_a_stale_read(env):
    """SIGSTOP the leader, write through the next one, SIGCONT: no read returns less than was acknowledged."""
    pause_leaders(env, "index")


def test_paused_leader_with_a_lease_never_serves_a_stale_read(env):
    """The same with read_mode = lease: a leader that was stopped finds its lease over."""
    pause_leaders(env, "lease")


def pause_leaders(env, read_mode):
    history = History()
    with Cluster(env, raft={"read_mode": read_mode}, bridge={"request_timeout_ms": 10000}) as cluster:
        writer = Writer(cluster, history)
        writer.write()
        readers = [Reader(cluster, lambda: writer.last, history) for _ in range(4)]
        for reader in readers:
            reader.start()
        try:
            longest = 0.0
            for _ in range(ROUNDS):
                old = cluster.wait_leader()
                cluster.members[old].pause()
                began = time.monotonic()
                writer.write()
                longest = max(longest, time.monotonic() - began)
                for _ in range(50):
                    writer.write()
                cluster.members[old].resume()
                written = writer.last + 200
                while writer.last < written:
                    writer.write()
                seen = sum(reader.reads for reader in readers)
                wait_for(lambda n=seen: sum(reader.reads for reader in readers) > n + 50, 10, "more reads")
        finally:
            for reader in readers:
                reader.stopping.set()
            for reader in readers:
                reader.join()
            writer.client.close()
        for reader in readers:
            if reader.failure:
                raise reader.failure
        cluster.wait_agreement()
        reads = sum(reader.reads for reader in readers)
        leased = leased_reads(cluster)
        assert (leased > 0) == (read_mode == "lease"), f"{leased} batches of reads were answered by lease"
        env.note(f"{reads} reads, {writer.last} writes, longest pause {longest * 1000:.0f} ms")
    history.check(env)


def test_request_that_waited_in_a_paused_leader_is_not_answered_from_its_memory(env):
    """A read that sits in a paused leader's socket while the next one writes is not answered with the old value."""
    settings = {"request_timeout_ms": 1500}
    for read_mode in ("index", "lease", "index", "lease"):
        raft = {"read_mode": read_mode}
        with Cluster(env, n_members=3, raft=raft, bridge=settings) as cluster, cluster.connect() as client:
            words_ok(client.ask("put", b"x", b"old"))
            old = cluster.wait_leader()
            # A bridge whose file names nobody but the old leader.
            _, path = cluster.add_bridge("lone", ids=[old])
            with cluster.connect_to(path) as lone:
                assert words_value(lone.ask("get", b"x"))[1] == b"old"
                cluster.members[old].pause()
                lone.send(b"get x\nget x\nget x\n")
                words_ok(client.ask("put", b"x", b"new"))
                cluster.members[old].resume()
                # This bridge has heard of the other members: it may have asked the next leader before the write was made.
                for _ in range(3):
                    reply = lone.receive()
                    assert reply[:2] == [b"ERR", b"no_quorum"] or reply[2] in (b"old", b"new"), f"{reply!r}"
                reply = lone.ask("get", b"x")
                assert reply[:2] == [b"ERR", b"no_quorum"] or reply[2] == b"new", f"stale: {reply!r}"
