"""One connection's requests take effect in the order in which they were sent, however many are under way."""

import random

from cluster import Cluster, words_ok
from kvclient import Pipeline, join, run_pipelines, split_reply

KEYS = [b"a", b"b", b"c", b"d", b"e f", b'g"h']


class Model:
    """What the store must hold if requests take effect in order; follows the replies for the revisions."""

    def __init__(self):
        self.values = {}  # key: (revision, value)
        self.last = 0

    def check(self, request, reply):
        verb, key, *rest = request
        revision, value = self.values.get(key, (0, None))
        if verb == "get":
            wanted = [b"NOT_FOUND"] if value is None else [b"VALUE", b"%d" % revision, value]
        elif verb == "delete" and value is None:
            wanted = [b"NOT_FOUND"]
        elif verb == "cas" and rest[0] != revision:
            wanted = [b"MISMATCH", b"%d" % revision]
        else:
            self.change(verb, key, rest, words_ok(reply))
            return
        assert reply == wanted, f"{request!r} was answered {reply!r} instead of {wanted!r}"

    def change(self, verb, key, rest, revision):
        assert revision > self.last, f"revision {revision} after {self.last}"
        self.last = revision
        if verb == "delete":
            del self.values[key]
        else:
            self.values[key] = (revision, rest[-1])


def make_program(rng, length, prefix):
    """Random requests; cas only with revisions that are known beforehand: 0 and one that never was."""
    program = []
    for number in range(length):
        key = prefix + rng.choice(KEYS)
        verb = rng.choice(["put", "put", "get", "get", "get", "delete", "cas"])
        if verb == "put":
            program.append((verb, key, b"value %d" % number))
        elif verb == "cas":
            program.append((verb, key, rng.choice([0, 0, 1 << 60]), b"cas %d" % number))
        else:
            program.append((verb, key))
    return program


def run_programs(cluster, programs, depth, timeout=60, until=None):
    """Returns (pipelines, replies so far by program)."""
    pipelines = [Pipeline(cluster.socket, depth) for _ in programs]
    replies = [[] for _ in programs]
    for pipeline, program in zip(pipelines, programs):
        pipeline.give([(number, join(*request)) for number, request in enumerate(program)])

    def take(pipeline, tag, line):
        mine = replies[pipelines.index(pipeline)]
        assert tag == len(mine)
        mine.append(split_reply(line))

    run_pipelines(pipelines, take, timeout, until and (lambda: until(replies)))
    return pipelines, replies, take


def check_programs(programs, replies):
    for program, answers in zip(programs, replies):
        model = Model()
        assert len(answers) == len(program)
        for request, reply in zip(program, answers):
            model.check(request, reply)


def test_pipelined_mix_has_the_effects_of_its_order(env):
    """put, get, delete and cas on the same keys, pipelined: every reply is the one of the program's order."""
    rng = random.Random(42)
    programs = [make_program(rng, 1500, b"%d " % k) for k in range(4)]
    with Cluster(env, n_members=3) as cluster:
        pipelines, replies, _ = run_programs(cluster, programs, depth=1500)
        for pipeline in pipelines:
            pipeline.close()
        check_programs(programs, replies)


def test_order_holds_while_leaders_are_killed(env):
    """The same while leaders die: the replies are still exactly those of the program's order."""
    rng = random.Random(43)
    programs = [make_program(rng, 1000, b"%d " % k) for k in range(4)]
    with Cluster(env, bridge={"request_timeout_ms": 20000}) as cluster:
        total = sum(map(len, programs))
        kills = 4
        pipelines, replies, take = run_programs(
            cluster, programs, depth=300, until=lambda got: sum(map(len, got)) >= total // (kills + 1)
        )
        try:
            for k in range(2, kills + 2):
                leader = cluster.wait_leader()
                cluster.members[leader].kill()
                cluster.members[leader].start(wait=False)
                share = total * k // (kills + 1)
                run_pipelines(pipelines, take, 60, until=lambda limit=share: sum(map(len, replies)) >= limit)
                cluster.members[leader].wait_ready()
        finally:
            for pipeline in pipelines:
                pipeline.close()
        check_programs(programs, replies)
        cluster.wait_agreement()
