"""Real input: the package index of the distribution, tens of thousands of records that nobody here wrote."""

import subprocess
import time

from cluster import Cluster, Skip, wait_for, words_ok, words_value
from kvclient import Pipeline, ask_all, join, run_pipelines, split, split_reply

FALLBACKS = ("/var/lib/dpkg/available", "/var/lib/dpkg/status")
KILL_INTERVAL_S = 2.0
CONNECTIONS = 4
DEPTH = 256


def read_index():
    """The index's bytes, from the first source that has any record."""
    try:
        data = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, timeout=120, check=False).stdout
        if b"Package: " in data:
            return data
    except FileNotFoundError:
        pass
    for path in FALLBACKS:
        try:
            with open(path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            continue
        if b"Package: " in data:
            return data
    raise Skip("there is no package index on this machine")


def read_records(limit):
    """{package name: stanza}, the last stanza of a name; at most `limit` names when that is not 0."""
    records = {}
    for stanza in read_index().split(b"\n\n"):
        stanza = stanza.strip(b"\n") + b"\n"
        if stanza.startswith(b"Package: "):
            records[stanza.split(b"\n", 1)[0][len(b"Package: ") :]] = stanza
        if limit and len(records) == limit:
            break
    return records


def make_request(number, key, value):
    """Every second one as a cas of a key that must not exist: applied twice, it would be answered MISMATCH."""
    return join("cas", key, 0, value) if number % 2 else join("put", key, value)


class Load:
    """Sends all records through some connections, in chunks; a leader dies in the middle of each but the last."""

    def __init__(self, cluster, records):
        self.cluster = cluster
        self.requests = [(item[0], make_request(number, *item)) for number, item in enumerate(records.items())]
        self.pipelines = [Pipeline(cluster.socket, DEPTH) for _ in range(CONNECTIONS)]
        self.last_revision = {}
        self.revisions = {}
        self.given = 0
        self.began = self.last_reply = time.monotonic()
        self.longest_pause = 0.0

    def close(self):
        for pipeline in self.pipelines:
            pipeline.close()

    def take(self, pipeline, key, line):
        now = time.monotonic()
        self.longest_pause = max(self.longest_pause, now - self.last_reply)
        self.last_reply = now
        revision = words_ok(split_reply(line))
        assert revision > self.last_revision.get(pipeline, 0), f"{key!r}: revision {revision} is not above the last"
        self.last_revision[pipeline] = revision
        assert key not in self.revisions, f"{key!r} was answered twice"
        self.revisions[key] = revision

    def give(self, upto):
        batch = self.requests[self.given : upto]
        for k, pipeline in enumerate(self.pipelines):
            pipeline.give(batch[k :: len(self.pipelines)])
        self.given = upto

    def run(self, kills):
        total = len(self.requests)
        for k in range(kills):
            chunk_end = total * (k + 1) // (kills + 1)
            middle = (self.given + chunk_end) // 2
            leader = self.cluster.wait_leader()
            self.last_reply = time.monotonic()
            self.give(chunk_end)
            run_pipelines(self.pipelines, self.take, 60, until=lambda: len(self.revisions) >= middle)
            self.cluster.members[leader].kill()
            killed = time.monotonic()
            self.cluster.members[leader].start(wait=False)
            run_pipelines(self.pipelines, self.take, 60)
            self.cluster.members[leader].wait_ready()
            wait_for(lambda: time.monotonic() >= killed + KILL_INTERVAL_S, 10, "the next kill to be due")
        self.give(total)
        self.last_reply = time.monotonic()
        run_pipelines(self.pipelines, self.take, 120)


def check_dumps(cluster, records):
    first = cluster.dump(cluster.ids[0])
    for k in cluster.ids[1:]:
        assert cluster.dump(k) == first, f"the dumps of members {cluster.ids[0]} and {k} differ"
    dumped = [split(line) for line in first.splitlines()]
    expected = [[b"put", key, value] for key, value in sorted(records.items())]
    assert len(dumped) == len(expected), f"{len(dumped)} keys in the dump, {len(expected)} were put"
    for found, wanted in zip(dumped, expected):
        assert found == wanted, f"the dump has {found!r:.300} instead of {wanted!r:.300}"


def check_revisions(cluster, records, revisions):
    """A put that was applied twice would have a later revision than the one it was answered with."""
    keys = list(records)
    replies = ask_all(cluster.socket, [join("get", key) for key in keys], CONNECTIONS, DEPTH)
    for key, reply in zip(keys, replies):
        revision, value = words_value(reply)
        assert value == records[key], f"{key!r} reads {value[:200]!r}"
        assert revision == revisions[key], f"{key!r} was answered with {revisions[key]} and has {revision}"


def test_index_survives_a_kill_of_the_leader_every_two_seconds(env):
    """The package index, pipelined while leaders are killed: all OK, none twice, five dumps equal to the input."""
    records = read_records(env.records)
    with Cluster(env) as cluster:
        load = Load(cluster, records)
        try:
            load.run(env.kills)
        finally:
            load.close()
        assert len(load.revisions) == len(records), f"{len(load.revisions)} of {len(records)} answered"
        assert len(set(load.revisions.values())) == len(records), "two records have one revision"
        cluster.wait_agreement()
        check_dumps(cluster, records)
        check_revisions(cluster, records, load.revisions)
        env.note(f"{len(records)} records, {env.kills} kills, longest pause {load.longest_pause * 1000:.0f} ms")


def test_index_loads_without_failures_at_full_speed(env):
    """The same input with nobody killed: what a person who just loads it sees."""
    records = read_records(env.records)
    with Cluster(env) as cluster:
        load = Load(cluster, records)
        began = time.monotonic()
        try:
            load.run(0)
        finally:
            load.close()
        took = time.monotonic() - began
        size = sum(map(len, records.values()))
        cluster.wait_agreement()
        check_dumps(cluster, records)
        env.note(f"{len(records) / took:.0f} records/s, {size / took / 1e6:.1f} MB/s")
