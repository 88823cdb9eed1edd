"""A majority is gone: what is answered, when, and how exactly it is true."""

import time

from cluster import Cluster, wait_for, words_error, words_ok, words_value

TIMEOUT_MS = 1500
ELECTION_TIMEOUT_MAX_MS = 300
RESUME_TRIES = 3


def timed(client, *words):
    """A reply and the seconds that it took."""
    began = time.monotonic()
    reply = client.ask(*words)
    return reply, time.monotonic() - began


def check_deadline(took, what):
    assert TIMEOUT_MS * 0.9 / 1000 <= took <= TIMEOUT_MS / 1000 + 1, f"{what} was answered after {took:.2f} s"


def test_lost_majority_is_said_exactly(env):
    """Three of five dead: no_quorum for what never started, unknown for what may commit, get -s works, all resumes."""
    with Cluster(env, bridge={"request_timeout_ms": TIMEOUT_MS}) as cluster, cluster.connect() as client:
        first = words_ok(client.ask("put", b"a", b"1"))
        leader = cluster.wait_leader()
        victims = cluster.followers(leader)[:3]
        for k in victims:
            cluster.members[k].pause()
        reply, took = timed(client, "put", b"appended", b"2")
        words_error(reply, "unknown")
        check_deadline(took, "the write that was appended")
        for k in victims:
            cluster.members[k].kill()

        reply, took = timed(client, "get", b"a")
        words_error(reply, "no_quorum")
        check_deadline(took, "the linearizable read")
        reply, took = timed(client, "put", b"never", b"3")
        words_error(reply, "no_quorum")
        check_deadline(took, "the write that no member appended")
        reply, took = timed(client, "get", "-s", b"a")
        assert words_value(reply) == (first, b"1") and took < 1, f"stale read: {reply!r} after {took:.2f} s"

        second = check_resume(env, cluster, client, victims[0])

        # The bridge repeats what may have been appended until its fate is known, before anything later.
        revision, value = words_value(client.ask("get", b"appended"))
        assert value == b"2" and first < revision < second
        assert client.ask("get", b"never") == [b"NOT_FOUND"], "a write that was said to have failed was applied"
        for k in victims[1:]:
            cluster.members[k].start()
        cluster.wait_agreement()


def check_resume(env, cluster, client, third):
    """Writes go on within two election timeouts of the third member's return; returns the revision of one. A machine
    that is busy with something else gets two more tries."""
    limit = 2 * ELECTION_TIMEOUT_MAX_MS / 1000
    for attempt in range(1, RESUME_TRIES + 1):
        cluster.members[third].start()
        began = time.monotonic()
        revision = wait_for(lambda: retry_put(client, b"b", b"4"), 10, "writes to resume")
        took = time.monotonic() - began
        if took <= limit:
            break
        assert attempt < RESUME_TRIES, f"writes resumed {took:.2f} s after the third member was ready"
        cluster.members[third].kill()
    env.note(f"resumed {took * 1000:.0f} ms after the third member was ready")
    return revision


def retry_put(client, key, value):
    """The revision, or 0 for a put that definitely failed."""
    reply = client.ask("put", key, value)
    if reply[0] == b"OK":
        return words_ok(reply)
    words_error(reply, "no_quorum")
    return 0


def test_unknown_write_is_applied_once_after_the_members_come_back(env):
    """A write in the leader's log only is answered unknown, and is there exactly once when the followers continue."""
    with Cluster(env, n_members=3, bridge={"request_timeout_ms": TIMEOUT_MS}) as cluster, cluster.connect() as client:
        words_ok(client.ask("cas", b"counter", 0, b"0"))
        leader = cluster.wait_leader()
        followers = cluster.followers(leader)
        for k in followers:
            cluster.members[k].pause()
        words_error(client.ask("put", b"x", b"unknown"), "unknown")
        words_error(client.ask("get", b"x"), "no_quorum")
        for k in followers:
            cluster.members[k].resume()
        last = wait_for(lambda: retry_put(client, b"y", b"later"), 10, "writes to resume")
        revision, value = words_value(client.ask("get", b"x"))
        assert value == b"unknown" and revision < last
        cluster.wait_agreement()


def test_all_members_dead_and_back(env):
    """With no member at all the bridge answers in time, and works again by itself."""
    with Cluster(env, n_members=3, bridge={"request_timeout_ms": TIMEOUT_MS}) as cluster, cluster.connect() as client:
        words_ok(client.ask("put", b"a", b"1"))
        for member in cluster.members.values():
            member.kill()
        for words in (("get", b"a"), ("put", b"a", b"2"), ("get", "-s", b"a")):
            reply, took = timed(client, *words)
            words_error(reply, "no_quorum")
            assert took <= TIMEOUT_MS / 1000 + 1, f"{words[0]} was answered after {took:.2f} s"
        assert client.ask("ping") == [b"PONG"]
        for member in cluster.members.values():
            member.start()
        wait_for(lambda: retry_put(client, b"b", b"3"), 15, "writes to resume")
        assert words_value(client.ask("get", b"a"))[1] == b"1", "a put that was answered no_quorum was applied"
