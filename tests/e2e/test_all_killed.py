"""The power goes: every member dies at once, in mid-load."""

import itertools

from cluster import Cluster, words_ok, words_value
from history import History
from kvclient import Pipeline, ask_all, join, run_pipelines, split_reply

CONNECTIONS = 4
DEPTH = 64


def test_all_five_killed_at_once_keep_every_acknowledged_write(env):
    """Kill all five in mid-load and restart: everything that was answered OK is there, once."""
    rounds = 3
    answered = {}
    other = {}
    history = History()

    def take(_pipeline, key, line):
        words = split_reply(line)
        if words[0] == b"OK":
            answered[key] = words_ok(words)
        else:
            other[key] = words

    with Cluster(env, bridge={"request_timeout_ms": 30000}) as cluster:
        counter = itertools.count()
        for _ in range(rounds):
            pipelines = [Pipeline(cluster.socket, DEPTH, history) for _ in range(CONNECTIONS)]
            for pipeline in pipelines:
                keys = [b"key-%06d" % next(counter) for _ in range(2000)]
                pipeline.give([(key, join("put", key, key * 8)) for key in keys])
            enough = len(answered) + 2000
            run_pipelines(pipelines, take, 60, until=lambda limit=enough: len(answered) >= limit)
            for member in cluster.members.values():
                member.kill(wait=False)
            for member in cluster.members.values():
                member.reap()
            for member in cluster.members.values():
                member.start(wait=False)
            run_pipelines(pipelines, take, 60)
            for pipeline in pipelines:
                pipeline.close()
        assert not other, f"{len(other)} requests were not answered OK, such as {next(iter(other.items()))!r:.300}"
        keys = list(answered)
        replies = ask_all(cluster.socket, [join("get", key) for key in keys], history=history)
        for key, reply in zip(keys, replies):
            revision, value = words_value(reply)
            assert value == key * 8, f"{key!r} reads {value!r:.300}"
            assert revision == answered[key], f"{key!r} was answered with {answered[key]} and has {revision}"
        cluster.wait_agreement()
        env.note(f"{len(answered)} writes, {rounds} power cuts")
    history.check(env)


def test_nothing_is_lost_when_the_bridge_dies_as_well(env):
    """Members and bridge die together: what a client was told before is there afterwards."""
    answered = {}

    def take(_pipeline, key, line):
        answered[key] = words_ok(split_reply(line))

    with Cluster(env, n_members=3) as cluster:
        pipelines = [Pipeline(cluster.socket, DEPTH) for _ in range(CONNECTIONS)]
        for k, pipeline in enumerate(pipelines):
            keys = [b"key-%d-%05d" % (k, number) for number in range(5000)]
            pipeline.give([(key, join("put", key, key)) for key in keys])
        run_pipelines(pipelines, take, 60, until=lambda: len(answered) >= 2000)
        for process in cluster.processes:
            process.kill(wait=False)
        for process in cluster.processes:
            process.reap()
        for pipeline in pipelines:
            pipeline.close()
        cluster.start()
        keys = list(answered)
        for key, reply in zip(keys, ask_all(cluster.socket, [join("get", key) for key in keys])):
            assert words_value(reply) == (answered[key], key), f"{key!r}: {answered[key]} was answered, {reply!r:.300}"
        with cluster.connect() as client:
            words_ok(client.ask("put", b"after", b"all"))
