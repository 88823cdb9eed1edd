"""Counters: a request that is applied twice, or lost after it was answered, shows in the sum."""

import threading
import time

from cluster import Cluster, wait_for, words_ok, words_value
from history import History
from kvclient import Connection

CLIENTS = 8
KILL_INTERVAL_S = 2.0


class Incrementer(threading.Thread):
    """Adds 1 to a counter with get and cas until told to stop."""

    def __init__(self, cluster, key, history=None):
        super().__init__()
        self.cluster = cluster
        self.history = history
        self.key = key
        self.stopping = threading.Event()
        self.added = []  # the value that each OK cas wrote
        self.mismatches = 0
        self.unknown = 0
        self.failure = None

    def run(self):
        try:
            with Connection(self.cluster.socket, history=self.history) as client:
                while not self.stopping.is_set():
                    self.increment(client)
        except Exception as error:  # handed to the test, which raises it
            self.failure = error

    def increment(self, client):
        revision, value = words_value(client.ask("get", self.key))
        number = int(value) + 1
        reply = client.ask("cas", self.key, revision, b"%d" % number)
        if reply[0] == b"OK":
            assert words_ok(reply) > revision
            self.added.append(number)
        elif reply[0] == b"MISMATCH":
            self.mismatches += 1
        else:
            assert reply[:2] == [b"ERR", b"unknown"], f"{reply!r}"
            self.unknown += 1


def test_cas_counter_adds_up_while_leaders_are_killed(env):
    """Many connections increment counters by cas while leaders die: the sums are exactly the numbers of OKs."""
    keys = [b"counter-%d" % k for k in range(CLIENTS // 2)]
    history = History()
    with Cluster(env, bridge={"request_timeout_ms": 10000}) as cluster:
        with Connection(cluster.socket, history=history) as client:
            for key in keys:
                words_ok(client.ask("cas", key, 0, b"0"))
        workers = [Incrementer(cluster, keys[k % len(keys)], history) for k in range(CLIENTS)]
        for worker in workers:
            worker.start()
        try:
            for _ in range(env.kills // 2):
                kill_leader(cluster, workers)
        finally:
            for worker in workers:
                worker.stopping.set()
            for worker in workers:
                worker.join()
        for worker in workers:
            if worker.failure:
                raise worker.failure
        check_sums(cluster, keys, workers)
        cluster.wait_agreement()
        unknown = sum(worker.unknown for worker in workers)
        env.note(f"{sum(len(worker.added) for worker in workers)} increments, {unknown} unknown")
        assert unknown == 0, "a minority's death let a request's fate become unknown"
    history.check(env)


def kill_leader(cluster, workers):
    due = time.monotonic() + KILL_INTERVAL_S
    leader = cluster.wait_leader()
    cluster.members[leader].kill()
    cluster.members[leader].start(wait=False)
    done = sum(len(worker.added) for worker in workers)

    def may_go_on():
        for worker in workers:
            if worker.failure:
                raise worker.failure
        return time.monotonic() >= due and sum(len(worker.added) for worker in workers) > done

    wait_for(may_go_on, 20, "increments after a kill")
    cluster.members[leader].wait_ready()


def check_sums(cluster, keys, workers):
    with cluster.connect() as client:
        for key in keys:
            mine = [worker for worker in workers if worker.key == key]
            added = [number for worker in mine for number in worker.added]
            unknown = sum(worker.unknown for worker in mine)
            final = int(words_value(client.ask("get", key))[1])
            assert len(added) == len(set(added)), f"{key!r}: two increments were answered OK for one value"
            what = f"{key!r}: {final} after {len(added)} OK, {unknown} unknown"
            assert len(added) <= final <= len(added) + unknown, what


def test_bridge_killed_under_load_neither_loses_nor_doubles(env):
    """Bridges die while counting: every OK counts once, and each request under way at a death at most once."""
    history = History()
    with Cluster(env, n_members=3) as cluster:
        with Connection(cluster.socket, history=history) as client:
            words_ok(client.ask("cas", b"counter", 0, b"0"))
        added, open_requests = 0, 0
        for _ in range(4):
            workers = [Incrementer(cluster, b"counter", history) for _ in range(4)]
            for worker in workers:
                worker.start()
            wait_for(lambda team=workers: sum(len(worker.added) for worker in team) > 50, 20, "increments")
            cluster.bridge.kill()
            for worker in workers:
                worker.join()
                if isinstance(worker.failure, AssertionError):  # a cut connection is what was meant to happen
                    raise worker.failure
            added += sum(len(worker.added) for worker in workers)
            open_requests += len(workers)
            cluster.bridge.start()
        with Connection(cluster.socket, history=history) as client:
            final = int(words_value(client.ask("get", b"counter"))[1])
        assert added <= final <= added + open_requests, f"{final} after {added} OK and {open_requests} cut off"
        cluster.wait_agreement()
    history.check(env)
