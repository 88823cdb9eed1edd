"""Everything at once: what many clients see of a few keys while members are killed, restarted and paused is one history."""

import random
import time

from cluster import Cluster
from history import History
from load import Load, Worker

KEYS = [b"key-%d" % k for k in range(4)]
CLIENTS = 8
SEED = 20


class Client(Worker):
    """Asks for anything, about any key, as fast as it is answered; remembers revisions so that its cas can succeed."""

    def __init__(self, path, number, history):
        super().__init__(path, number, history)
        self.random = random.Random(SEED * 1000 + number)
        self.revisions = dict.fromkeys(KEYS, 0)
        self.replies = {}  # by first words

    def round(self, client):
        key = self.random.choice(KEYS)
        value = b"%d.%d" % (self.number, self.requests)
        chance = self.random.random()
        if chance < 0.4:
            reply = client.ask("get", key)
        elif chance < 0.6:
            reply = client.ask("put", key, value)
        elif chance < 0.7:
            reply = client.ask("delete", key)
        else:
            reply = client.ask("cas", key, self.revisions[key], value)
        if reply[0] in (b"OK", b"VALUE", b"MISMATCH"):
            self.revisions[key] = int(reply[1])
        elif reply[0] == b"NOT_FOUND":
            self.revisions[key] = 0
        self.requests += 1
        kind = b" ".join(reply[:2] if reply[0] == b"ERR" else reply[:1]).decode()
        self.replies[kind] = self.replies.get(kind, 0) + 1


def kill_leader(cluster, load):
    leader = cluster.wait_leader()
    cluster.members[leader].kill()
    load.wait_progress(200)
    cluster.members[leader].start()


def pause_leader(cluster, load):
    """It wakes up as a leader that was deposed, with requests in its sockets."""
    leader = cluster.wait_leader()
    cluster.members[leader].pause()
    load.wait_progress(200)
    cluster.members[leader].resume()


def restart_follower(cluster, load):
    follower = cluster.followers(cluster.wait_leader())[0]
    cluster.members[follower].stop()
    load.wait_progress(100)
    cluster.members[follower].start()


def lose_majority(cluster, load):
    """Three of five pause for longer than a request may take: reads fail, the fate of writes becomes unknown."""
    paused = [cluster.wait_leader()]
    paused += cluster.followers(paused[0])[:2]
    for member in paused:
        cluster.members[member].pause()
    load.wait_progress(2 * CLIENTS)  # one answer for each client may have been on its way
    for member in paused:
        cluster.members[member].resume()


def kill_all(cluster, _load):
    for member in cluster.members.values():
        member.kill(wait=False)
    for member in cluster.members.values():
        member.reap()
    for member in cluster.members.values():
        member.start(wait=False)
    for member in cluster.members.values():
        member.wait_ready()


def test_what_clients_see_while_members_die_and_sleep_is_linearizable(env):
    """Concurrent get, put, delete and cas on a few keys through kills, pauses and restarts: raft-linearizability agrees."""
    faults = [kill_leader, pause_leader, restart_follower, lose_majority, kill_all]
    history = History()
    began = time.monotonic()
    with Cluster(env, bridge={"request_timeout_ms": 1000}) as cluster:
        with Load(Client, CLIENTS, cluster.socket, history) as load:
            load.wait_progress(500)
            for fault in faults * (6 if env.full else 1):
                fault(cluster, load)
                load.wait_progress(500)
        cluster.wait_agreement()
        replies = {}
        for client in load.workers:
            for kind, count in client.replies.items():
                replies[kind] = replies.get(kind, 0) + count
        for kind in ("OK", "VALUE", "NOT_FOUND", "MISMATCH"):
            assert replies.get(kind, 0) > 100, f"too few answers of a kind: {replies}"
        assert any(kind.startswith("ERR") for kind in replies), f"no request was in doubt: {replies}"
    env.note(f"{history.check(env)}, {time.monotonic() - began:.0f} s")
