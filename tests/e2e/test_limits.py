"""The limits of keys, values and lines: what just fits works, what is just over is refused, and the limit is named."""

import base64
import os
import random
import re

from cluster import Cluster, words_error, words_ok, words_value
from kvclient import ask_all, join

KEY_MAX = 1024
VALUE_MAX = 1024 * 1024
VALUE_LIMIT_NAMED = re.compile(r"1048576|1 ?MiB")


def test_value_of_1_mib_goes_in_and_out_and_one_byte_more_is_refused(env):
    """1,048,576 bytes of anything come back as they were; 1,048,577 are refused with the limit named."""
    values = [
        os.urandom(VALUE_MAX),  # mostly \xHH: the longest line that is legal
        b"\x00" * VALUE_MAX,
        b"a" * VALUE_MAX,
        b'"\\\n\r\t ' * (VALUE_MAX // 6),
        b"",
    ]
    with Cluster(env, n_members=3) as cluster, cluster.connect() as client:
        for value in values:
            revision = words_ok(client.ask("put", b"big", value))
            assert words_value(client.ask("get", b"big")) == (revision, value)
        for byte in (b"a", b"\x00"):
            text = words_error(client.ask("put", b"big", byte * (VALUE_MAX + 1)), "too_big")
            assert VALUE_LIMIT_NAMED.search(text), f"the limit is not named: {text!r}"
            text = words_error(client.ask("cas", b"big", 0, byte * (VALUE_MAX + 1)), "too_big")
            assert VALUE_LIMIT_NAMED.search(text), f"the limit is not named: {text!r}"
        assert client.ask("ping") == [b"PONG"]
        assert words_value(client.ask("get", b"big")) == (revision, b""), "a refused put changed the value"
        cluster.wait_agreement()


def test_key_of_1024_bytes_is_the_longest(env):
    """A key of 1,024 bytes of anything works in every command; 1,025 and the empty key are refused."""
    with Cluster(env, n_members=1) as cluster, cluster.connect() as client:
        for key in (b"k" * KEY_MAX, os.urandom(KEY_MAX), b"\x00" * KEY_MAX):
            revision = words_ok(client.ask("put", key, b"v"))
            assert words_value(client.ask("get", key)) == (revision, b"v")
            words_ok(client.ask("cas", key, revision, b"w"))
            words_ok(client.ask("delete", key))
        for request in (("put", b"k" * 1025, b"v"), ("get", b"k" * 1025), ("delete", b"k" * 1025)):
            text = words_error(client.ask(*request), "too_big")
            assert "1024" in text, f"the limit is not named: {text!r}"
        for request in (("put", b"", b"v"), ("get", b""), ("delete", b"")):
            words_error(client.ask(*request), "bad_request")
        assert client.ask("ping") == [b"PONG"]


def test_endless_line_is_refused_without_memory(env):
    """A line of 64 MiB is refused with the limit named, does not grow the bridge, and hurts no other connection."""
    with Cluster(env, n_members=1) as cluster, cluster.connect() as other:
        words_ok(other.ask("put", b"k", b"v"))
        before = cluster.bridge.rss()
        with cluster.connect() as client:
            try:
                for _ in range(64):
                    client.send(b"x" * (1024 * 1024))
                client.send(b"\nping\n")
            except (BrokenPipeError, ConnectionResetError):
                pass  # closing is allowed, after the reason was said
            words_error(client.receive(), "too_big")
            rest = client.receive_line()
            assert rest in (None, b"PONG"), f"after the line: {rest!r}"
        growth = cluster.bridge.rss() - before
        assert growth < 24 * 1024 * 1024 or env.sanitized(cluster.bin), f"the bridge grew by {growth >> 20} MiB"
        words_value(other.ask("get", b"k"))
        env.note(f"bridge grew by {growth >> 10} KiB")


def test_many_big_values_in_flight(env):
    """100 values of 1 MiB, 50 under way at a time: all OK, the last of each key is there, the bridge stays small."""
    rng = random.Random(7)
    blob = base64.b64encode(rng.randbytes(2 * VALUE_MAX))
    with Cluster(env, n_members=3) as cluster, cluster.connect(timeout=120) as client:
        offsets = [rng.randrange(VALUE_MAX) for _ in range(100)]
        revisions = []
        for start in range(0, len(offsets), 50):
            part = offsets[start : start + 50]
            lines = [join("put", b"big-%d" % (offset % 10), blob[offset : offset + VALUE_MAX]) for offset in part]
            revisions += map(words_ok, ask_all(cluster.socket, lines, connections=1, depth=50))
        assert revisions == sorted(set(revisions)), "the revisions of one connection's puts do not increase"
        last = {offset % 10: offset for offset in offsets}
        for slot, offset in last.items():
            value = words_value(client.ask("get", b"big-%d" % slot))[1]
            assert value == blob[offset : offset + VALUE_MAX], f"big-{slot} is not the last value put"
        cluster.wait_agreement()
        size = cluster.bridge.rss()
        env.note(f"bridge {size >> 20} MiB")
        assert size < 256 * 1024 * 1024 or env.sanitized(cluster.bin), f"the bridge holds {size >> 20} MiB"
