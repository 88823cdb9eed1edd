"""The line protocol as a person with nc meets it."""

import shutil
import subprocess

from cluster import Cluster, Skip, words_error, words_ok, words_value
from kvclient import split


def test_nc_session(env):
    """printf | nc -N -U: every line is answered in order, and the connection ends after the last."""
    if not shutil.which("nc"):
        raise Skip("nc is not installed")
    requests = b'put hello world\nget hello\r\nput "two words" "a \\"quote\\"\\n"\nget "two words"\n'
    requests += b"delete hello\nget hello\n"
    with Cluster(env, n_members=3) as cluster:
        command = ["nc", "-N", "-U", cluster.socket]
        output = subprocess.run(command, input=requests, capture_output=True, timeout=20, check=False).stdout
        replies = [split(line) for line in output.splitlines()]
        assert len(replies) == 6, f"{output!r}"
        first, second = words_ok(replies[0]), words_ok(replies[2])
        assert replies[1] == [b"VALUE", b"%d" % first, b"world"]
        assert replies[3] == [b"VALUE", b"%d" % second, b'a "quote"\n']
        assert output.splitlines()[3].endswith(b' "a \\"quote\\"\\n"'), "what was read can be pasted back"
        words_ok(replies[4])
        assert replies[5] == [b"NOT_FOUND"]


def test_every_command_and_its_replies(env):
    """put, get, get -s, delete, cas, help, status, ping, quit answer as specified."""
    with Cluster(env, n_members=1) as cluster, cluster.connect() as client:
        assert client.ask("get", b"k") == [b"NOT_FOUND"]
        assert client.ask("delete", b"k") == [b"NOT_FOUND"]
        one = words_ok(client.ask("put", b"k", b"1"))
        assert words_value(client.ask("get", b"k")) == (one, b"1")
        assert words_value(client.ask("get", "-s", b"k")) == (one, b"1")
        assert client.ask("cas", b"k", 0, b"x") == [b"MISMATCH", b"%d" % one]
        two = words_ok(client.ask("cas", b"k", one, b"2"))
        assert two > one and words_value(client.ask("get", b"k")) == (two, b"2")
        assert words_ok(client.ask("delete", b"k")) > two
        assert client.ask("cas", b"k", two, b"x") == [b"MISMATCH", b"0"]
        words_ok(client.ask("cas", b"k", 0, b""))
        assert words_value(client.ask("get", b"k"))[1] == b""
        assert client.ask("ping") == [b"PONG"]
        commands = [b"put", b"get", b"delete", b"cas", b"help", b"status", b"ping", b"quit"]
        assert lines_until_ok(client, b"help\n", commands)
        assert lines_until_ok(client, b"status\n", [b"1"])
        assert client.ask("quit") == [b"BYE"]
        assert client.receive_line() is None


def lines_until_ok(client, request, words):
    """The lines before OK hold all these words."""
    client.send(request)
    text = b""
    while True:
        line = client.receive_line()
        if line == b"OK":
            return all(word in text for word in words)
        assert line is not None, f"closed after {text!r}"
        text += line + b"\n"


def test_mistakes_are_named_and_the_connection_goes_on(env):
    """Whatever is wrong with a line is answered with ERR, a code and a text; the next line works."""
    mistakes = [
        (b"frobnicate", "unknown_command"),
        (b"put onlykey", "bad_request"),
        (b"put a b c", "bad_request"),
        (b"get", "bad_request"),
        (b"get -x k", "bad_request"),
        (b"cas k one v", "bad_request"),
        (b"cas k -1 v", "bad_request"),
        (b"cas k 18446744073709551616 v", "bad_request"),
        (b'put "open end', "bad_request"),
        (b'put a "b"c', "bad_request"),
        (b'put a b"c"', "bad_request"),
        (b'put a "\\x4"', "bad_request"),
        (b'put a "\\q"', "bad_request"),
        (b"put a \x01", "bad_request"),
    ]
    with Cluster(env, n_members=1) as cluster, cluster.connect() as client:
        for line, code in mistakes:
            client.send(line + b"\n")
            text = words_error(client.receive(), code)
            assert len(text) > 5, f"{line!r}: the text says nothing: {text!r}"
            assert client.ask("ping") == [b"PONG"], f"after {line!r}"
        client.send(b"".join(line + b"\n" for line, _ in mistakes) + b"ping\n")
        for line, code in mistakes:
            words_error(client.receive(), code)
        assert client.receive() == [b"PONG"]


def test_every_byte_can_be_in_a_key_and_in_a_value(env):
    """All 256 bytes go in and come back, in keys and values, whatever they are next to."""
    everything = bytes(range(256))
    with Cluster(env, n_members=1) as cluster, cluster.connect() as client:
        for key in [bytes([byte]) for byte in range(256)] + [everything, "naïve ключ".encode(), b"\\", b'"', b"-s"]:
            if key == b"-s":
                continue  # a key of this name is asked for with quotes, which this client leaves out
            value = key + everything + key
            revision = words_ok(client.ask("put", key, value))
            assert words_value(client.ask("get", key)) == (revision, value), f"key {key!r}"


def test_end_of_input_without_newline(env):
    """A half-closed connection gets all its replies before it ends; an unfinished line is not executed."""
    with Cluster(env, n_members=1) as cluster:
        with cluster.connect() as client:
            client.send(b"put a 1\nget a\nput a 2")
            client.half_close()
            words_ok(client.receive())
            assert words_value(client.receive())[1] == b"1"
            rest = client.receive_line()
            if rest is not None:  # an unfinished last line may be answered, if only by an error or as a request
                assert split(rest)[0] in (b"ERR", b"OK"), f"{rest!r}"
        with cluster.connect() as client:
            words_value(client.ask("get", b"a"))
