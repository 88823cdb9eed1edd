"""Clients that are many, idle, greedy or slow: they cost little, and they do not hurt each other."""

import contextlib
import selectors
import socket
import time

from cluster import Cluster, Skip, process_field, wait_for, words_error, words_ok, words_value
from kvclient import ProtocolError, split, split_reply

MIB = 1024 * 1024
ELECTIONS_MAX = 2  # a machine that is busy with something else may cost one now and then


def open_idle(path, count):
    sockets = []
    for _ in range(count):
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.connect(path)  # blocking: with a timeout a full backlog would be an error
        client.settimeout(30)
        sockets.append(client)
    return sockets


def test_ten_thousand_idle_connections_cost_little(env):
    """10,000 connections that say nothing: little memory, no processor time, and everybody is still served."""
    count = min(10000, env.files - 300)
    if count < 1000:
        raise Skip(f"only {env.files} descriptors are allowed")
    with Cluster(env, n_members=1, bridge={"connections_max": 12000}) as cluster, contextlib.ExitStack() as stack:
        with cluster.connect() as client:
            words_ok(client.ask("put", b"k", b"v"))
        before = cluster.bridge.rss()
        sockets = open_idle(cluster.socket, count)
        for client in sockets:
            stack.callback(client.close)
        for client in sockets:  # all were accepted, not only queued
            client.sendall(b"ping\n")
        for client in sockets:
            assert client.recv(64) == b"PONG\n"
        growth = cluster.bridge.rss() - before
        with cluster.connect() as client:
            assert words_value(client.ask("get", b"k"))[1] == b"v"
        assert growth < count * 8 * 1024, f"{growth // count} bytes a connection"
        env.note(f"{count} connections, {growth // count} bytes each in the bridge")


def test_connections_over_the_limit_are_refused_and_room_is_found_again(env):
    """More than connections_max are told so by name, the others are served; when they leave, there is room."""
    with Cluster(env, n_members=1, bridge={"connections_max": 16}) as cluster:
        sockets = open_idle(cluster.socket, 64)
        try:
            for client in sockets[:8]:
                client.sendall(b"ping\n")
                assert client.recv(64) == b"PONG\n"
            text = words_error(split_reply(sockets[-1].recv(1000).rstrip(b"\n")), "busy")
            assert "connections_max" in text, f"{text!r}"
        finally:
            for client in sockets:
                client.close()

        def finds_room():
            try:
                with cluster.connect() as client:
                    return client.ask("put", b"k", b"v", timeout=5)[0] == b"OK"
            except (ProtocolError, ConnectionError):
                return False

        wait_for(finds_room, 10, "room for a connection after all others left")


def count_elections(cluster):
    return sum(member.get("elections", 0) for member in cluster.status()["members"])


class Flood:
    """A connection that sends as much as the other side takes and reads nothing."""

    def __init__(self, path, line, count):
        self.data = memoryview(line * 1000)
        self.line_size = len(line)
        self.left = count * len(line)
        self.position = 0
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self.socket.setblocking(False)

    def send_until_stalled(self, quiet_s=0.7):
        """Sends until nothing has been taken for quiet_s seconds; returns the requests that were handed over."""
        total = self.left
        with selectors.DefaultSelector() as selector:
            selector.register(self.socket, selectors.EVENT_WRITE)
            while self.left > 0 and selector.select(quiet_s):
                end = min(len(self.data), self.position + self.left)
                with contextlib.suppress(BlockingIOError):
                    n = self.socket.send(self.data[self.position : end])
                    self.left -= n
                    self.position = (self.position + n) % len(self.data)
        return (total - self.left) // self.line_size

    def receive_lines(self, count):
        """Reads that many replies now."""
        self.socket.settimeout(30)
        buffer = bytearray()
        lines = 0
        while lines < count:
            data = self.socket.recv(1 << 20)
            assert data, f"closed after {lines} of {count} replies"
            lines += data.count(b"\n")
            buffer += data
            del buffer[: max(0, len(buffer) - 4 * MIB)]
        return lines

    def close(self):
        self.socket.close()


def memory(cluster):
    return {process.name: process.rss() for process in cluster.processes}


def peak_memory(cluster):
    return {process.name: process_field(process.pid, "VmHWM") for process in cluster.processes}


def check_flood(env, what, line, members_max, value=b"v", bridge_max=32 * MIB):
    """One million times `line` without reading: the bridge stays small, and others are served."""
    with Cluster(env, n_members=3, raft={"log_cache_size": "1MiB"}) as cluster, cluster.connect() as other:
        words_ok(other.ask("put", b"k", value))
        before = memory(cluster)
        elections = count_elections(cluster)
        floods = [Flood(cluster.socket, line, 1000000) for _ in range(4)]
        try:
            sent = [flood.send_until_stalled() for flood in floods]
            began = time.monotonic()
            words_value(other.ask("get", b"k"))
            words_ok(other.ask("put", b"other", b"v"))
            latency = time.monotonic() - began
            assert latency < (20 if env.sanitized(cluster.bin) else 2), f"another connection waited {latency:.1f} s"
            n_read = min(min(sent), 2000)
            floods[0].receive_lines(n_read)
        finally:
            for flood in floods:
                flood.close()
        after = peak_memory(cluster)
        growth = {name: after[name] - before[name] for name in before}
        bridge = growth.pop("bridge")
        words_value(other.ask("get", b"k"))
        env.note(f"{what}: bridge +{bridge >> 10} KiB, members at most +{max(growth.values()) >> 10} KiB")
        elections = count_elections(cluster) - elections
        env.note(f"another connection waited {latency * 1000:.0f} ms; {elections} elections")
        assert elections <= ELECTIONS_MAX, f"{elections} elections: the flood keeps leaders from their heartbeats"
        if not env.sanitized(cluster.bin):
            assert bridge < bridge_max, f"the bridge grew by {bridge >> 20} MiB over {what}"
            assert max(growth.values()) < members_max, f"members grew over {what}: {growth}"


def test_million_unread_gets_grow_nothing(env):
    """A client that pipelines 1,000,000 reads and reads no reply does not grow memory and delays nobody."""
    check_flood(env, "gets", b"get k\n", 16 * MIB, value=b"v" * 1000)


def test_million_unread_puts_grow_nothing(env):
    """The same with writes: what is not read is not taken in."""
    check_flood(env, "puts", b"put flood " + b"v" * 100 + b"\n", 32 * MIB)


def test_unread_big_replies_grow_nothing(env):
    """A client that asks for 1 MiB a million times and reads nothing gets some replies buffered, not all."""
    check_flood(env, "1 MiB gets", b"get k\n", 64 * MIB, value=b"v" * MIB, bridge_max=64 * MIB)


def test_million_requests_are_all_answered_in_order_once_they_are_read(env):
    """The flood of one connection, read at last: one reply a request, in order."""
    count = 1000000 if env.full else 100000
    with Cluster(env, n_members=1) as cluster, cluster.connect() as client:
        words_ok(client.ask("put", b"k", b"v"))
        requests = b"".join(b"get k\nget none-%d\nping\n" % n for n in range(count // 3))
        lines = exchange(client.socket, requests, count // 3 * 3)
        for k in range(0, len(lines), 3):
            assert split(lines[k])[0] == b"VALUE" and lines[k + 1] == b"NOT_FOUND" and lines[k + 2] == b"PONG"


def exchange(connection, requests, n_replies):
    """Sends everything while it takes what comes back; returns the reply lines."""
    connection.setblocking(False)
    view = memoryview(requests)
    taken = n_lines = 0
    replies = []
    deadline = time.monotonic() + 120
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while n_lines < n_replies:
            assert time.monotonic() < deadline, f"{n_lines} of {n_replies} replies"
            for _, mask in selector.select(1):
                if mask & selectors.EVENT_WRITE:
                    taken += connection.send(view[taken : taken + MIB])
                    if taken == len(requests):
                        selector.modify(connection, selectors.EVENT_READ)
                if mask & selectors.EVENT_READ:
                    data = connection.recv(MIB)
                    assert data, f"closed after {n_lines} of {n_replies} replies"
                    n_lines += data.count(b"\n")
                    replies.append(data)
    return b"".join(replies).split(b"\n")[:-1]
