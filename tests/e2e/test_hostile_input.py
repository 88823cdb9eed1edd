"""Random and malicious bytes on every port and socket: nothing crashes, nothing grows, the service goes on.

Runs the sanitized build where one is given (--san-bin).
"""

import errno
import os
import random
import socket
import struct

import zmtp
from cluster import Cluster, Skip, words_ok, words_value
from kvclient import Connection

CONNECTIONS_TO_STRINGS = 20  # strings that share a connection where that is possible
REQUEST_LEADER = 7  # kv/request.h
RSS_GROWTH_MAX = 64 * 1024 * 1024
WORDS = [
    b"put",
    b"get",
    b"delete",
    b"cas",
    b"help",
    b"status",
    b"ping",
    b"get -s",
    b"-s",
    b"quit ",
    b"PUT",
    b"scan",
    b"",
    b" ",
    b'"',
    b'"\\x',
    b'"\\x4',
    b'"\\xzz"',
    b"\\",
    b'""',
    b'"a"b',
    b'a"b"',
    b"\t",
    b"\0",
    b"\r",
    b"\xff\xfe",
    b"\xf0\x9f\x98",
    b"18446744073709551615",
    b"18446744073709551616",
    b"-1",
    b"0x10",
    b"1" * 400,
    b"k" * 2000,
    b'"' + b"\\n" * 3000 + b'"',
]


class Guard:
    """Remembers the processes of a cluster and checks that they are the same, small and at work."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.check_service(0)
        self.pids = {process.name: process.pid for process in cluster.processes}
        self.rss = {process.name: process.rss() for process in cluster.processes}

    def check_service(self, number):
        with self.cluster.connect(timeout=20) as client:
            revision = words_ok(client.ask("put", b"guard", b"%d" % number))
            assert words_value(client.ask("get", b"guard")) == (revision, b"%d" % number)

    def check(self):
        for process in self.cluster.processes:
            code = process.process.poll()
            assert code is None, f"{process.name} ended with {code}"
        self.check_service(1)
        growth = {process.name: process.rss() - self.rss[process.name] for process in self.cluster.processes}
        if not self.cluster.env.sanitized(self.cluster.bin):
            assert max(growth.values()) < RSS_GROWTH_MAX, f"memory grew: {growth}"
        self.cluster.wait_agreement()


def random_line(rng):
    style = rng.randrange(4)
    if style == 0:
        return rng.randbytes(rng.choice([1, 7, 60, 300, 5000]))
    line = b" ".join(rng.choice(WORDS) for _ in range(rng.randrange(1, 6)))
    if style == 1:
        return line
    if style == 2:
        line = b'put "key" "' + rng.randbytes(40).replace(b"\n", b"") + b'"'
    damaged = bytearray(line or b"x")
    for _ in range(rng.randrange(1, 4)):
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
    return bytes(damaged)


def throw_lines(path, rng, count):
    """Sends lines, reads whatever comes back until the other side is done."""
    for start in range(0, count, CONNECTIONS_TO_STRINGS):
        lines = [random_line(rng) for _ in range(min(CONNECTIONS_TO_STRINGS, count - start))]
        end = rng.choice([b"\n", b"\r\n", b"\n"])
        data = end.join(lines) + rng.choice([b"", b"\n", end])
        with Connection(path, timeout=30) as client:
            try:
                client.send(data)
                if rng.randrange(4):
                    client.half_close()
                    while client.socket.recv(1 << 16):
                        pass
            except (BrokenPipeError, ConnectionResetError):
                pass


def tcp_throw(endpoint, pieces, shake):
    """Sends the pieces to a port, which must be open; after that the other side may hang up when it likes."""
    with zmtp.connect(endpoint) as connection:
        try:
            if shake:
                zmtp.shake_hands(connection)
            for piece in pieces:
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 16):  # an early close would take back what was not read yet
                pass
        except (ConnectionError, TimeoutError):
            pass
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise


def raw_string(rng):
    style = rng.randrange(4)
    if style == 0:
        return rng.randbytes(rng.choice([1, 10, 64, 1000]))
    greeting = bytearray(zmtp.GREETING)
    if style == 1:
        greeting[rng.randrange(len(greeting))] = rng.randrange(256)
        return bytes(greeting) + rng.randbytes(100)
    if style == 2:
        return bytes(greeting) + bytes([rng.randrange(8)]) + rng.randbytes(rng.randrange(300))
    return bytes(greeting)[: rng.randrange(64)]


def random_message(rng, magic):
    """A well-formed ZeroMQ message with contents of all kinds of wrong."""
    style = rng.randrange(6)
    if style == 0:
        return zmtp.message(rng.randbytes(rng.choice([0, 1, 31, 32, 33, 255, 256, 2000])))
    if style == 1:
        return zmtp.message(magic + rng.randbytes(rng.randrange(200)))
    if style == 2:
        return zmtp.message(b"", 1) + zmtp.message(magic + b"\x01\x01" + rng.randbytes(60))
    if style == 3:
        return b"".join(zmtp.message(rng.randbytes(8), 1) for _ in range(rng.randrange(1, 20))) + zmtp.message(b"end")
    if style == 4:
        return zmtp.message(magic + struct.pack("<BBHII", 1, 1, 0, 0xFFFFFFFF, 0xFFFFFFFF) + rng.randbytes(48))
    return zmtp.message(magic + bytes(rng.randrange(256) for _ in range(rng.randrange(1, 120))))


def sealed_message(rng, xxh3, cluster):
    """A frame of client requests whose checksum is right and whose contents are not."""
    style = rng.randrange(4)
    if style == 0:
        body = rng.randbytes(8 * rng.randrange(30))
        return zmtp.message(zmtp.seal(xxh3, cluster, body, rng.choice([0, 1, 3, 1 << 31, 0xFFFFFFFF])))
    items = []
    for _ in range(rng.randrange(1, 6)):
        size = rng.choice([0, 1, 8, 15, 16, 24, 48, 49, 100])
        data = rng.randbytes(size) if style != 2 else bytes(size)
        items.append((rng.randrange(1 << 64), rng.choice([*range(9), 255]), data))
    if style == 3:  # nearly a command: its version and operation are right, its sizes are not
        header = struct.pack("<BBHI", 1, rng.randrange(7), rng.randrange(1 << 16), rng.randrange(1 << 21))
        items.append((1, 1, header + rng.randbytes(56)))
    return zmtp.message(zmtp.client_frame(xxh3, cluster, items, rng.choice([None, None, 2, 0])))


def throw_tcp(endpoint, rng, count, make_message):
    """Half of the strings raw, half in messages after a good handshake."""
    for _ in range(0, count // 2, 2):
        tcp_throw(endpoint, [raw_string(rng)], shake=False)
        tcp_throw(endpoint, [raw_string(rng)], shake=True)
    for start in range(0, count // 2, CONNECTIONS_TO_STRINGS):
        pieces = [make_message(rng) for _ in range(min(CONNECTIONS_TO_STRINGS, count // 2 - start))]
        tcp_throw(endpoint, pieces, shake=True)


def check_handshake(endpoint):
    """The handshake by hand works, or what is thrown after it would never get far."""
    with zmtp.connect(endpoint) as connection:
        zmtp.shake_hands(connection)


def check_frame(endpoint, xxh3, cluster):
    """A good frame by hand is answered, or the bad ones prove nothing."""
    with zmtp.connect(endpoint) as connection:
        zmtp.shake_hands(connection)
        connection.sendall(zmtp.message(zmtp.client_frame(xxh3, cluster, [(77, REQUEST_LEADER, b"")])))
        reply = connection.recv(4096)
        assert b"RKVC" in reply and struct.pack("<Q", 77) in reply, f"{reply!r}"


def huge_claim(endpoint):
    """A message that claims more bytes than there can be."""
    for size in (1 << 62, (1 << 64) - 1, 1 << 31, 9 << 20):
        tcp_throw(endpoint, [b"\x02" + struct.pack(">Q", size) + b"RKVC" + os.urandom(4096)], shake=True)


def seeded(env):
    seed = int.from_bytes(os.urandom(4), "big")
    env.note(f"seed {seed}, {env.hostile} strings, {'sanitized' if env.sanitized(env.san_bin) else 'plain'} build")
    return random.Random(seed)


def run_hostile(env, throw):
    rng = seeded(env)
    settings = {"request_timeout_ms": 2000}
    with Cluster(env, n_members=3, bridge=settings, sanitized=True) as cluster:
        guard = Guard(cluster)
        throw(cluster, rng)
        guard.check()


def test_random_lines_on_the_socket_crash_nothing(env):
    """Random and damaged lines on the bridge's socket: no crash, no growth, the service goes on."""
    run_hostile(env, lambda cluster, rng: throw_lines(cluster.socket, rng, env.hostile))


def test_random_bytes_on_the_peer_port_crash_nothing(env):
    """Random bytes, bad ZMTP and bad frames on the port that the other members use."""

    def throw(cluster, rng):
        endpoint = cluster.endpoints[cluster.wait_leader()][0]
        check_handshake(endpoint)
        throw_tcp(endpoint, rng, env.hostile, lambda generator: random_message(generator, b"RKVP"))
        huge_claim(endpoint)

    run_hostile(env, throw)


def test_random_bytes_on_the_client_port_crash_nothing(env):
    """The same on the port for bridges, and frames with a good checksum and bad contents."""
    xxh3 = zmtp.load_xxh3()

    def throw(cluster, rng):
        def make(generator):
            if xxh3 and generator.randrange(3):
                return sealed_message(generator, xxh3, cluster.name)
            return random_message(generator, b"RKVC")

        endpoint = cluster.endpoints[cluster.wait_leader()][1]
        check_handshake(endpoint)
        if xxh3:
            check_frame(endpoint, xxh3, cluster.name)
        throw_tcp(endpoint, rng, env.hostile, make)
        huge_claim(endpoint)

    run_hostile(env, throw)


NUMBERS = [0, 1, 2, 3, 5, 100, 1 << 20, (1 << 63) - 1, 1 << 63, (1 << 64) - 2, (1 << 64) - 1]


def forged_body(rng, kind, pick):
    """The fixed body of each message between members (and an append's entries) with numbers that pick() chooses."""
    if kind == 1:
        return struct.pack("<QQQ", pick(), pick(), rng.randrange(4))
    if kind == 2:
        return struct.pack("<QQ", pick(), rng.randrange(4))
    if kind == 3:
        entries = []
        for _ in range(rng.randrange(4)):
            size = rng.choice([0, 1, 8, 50])
            header = struct.pack("<QQII", pick(), 0, size, rng.randrange(1, 4))
            entries.append(header + rng.randbytes(size) + b"\0" * (-size % 8))
        return struct.pack("<QQQQII", pick(), pick(), pick(), pick(), len(entries), 0) + b"".join(entries)
    if kind == 4:
        return struct.pack("<QQQQQQ", pick(), pick(), pick(), pick(), pick(), rng.randrange(2))
    return b"" if kind == 5 else struct.pack("<HHI", 0, rng.choice([0, 1, 65535]), rng.randrange(2))


def forge(rng, xxh3, cluster, receiver, member):
    """A message that a member could have sent, had it lost its mind: right addresses, numbers near the true ones."""
    term, last = member.get("term", 1), member.get("last", 1)
    near = [term, term + 1, last, last + 1, max(last - 1, 0)] * 4

    def pick():
        return rng.choice(NUMBERS + near)

    sender = rng.choice([k for k in cluster.ids if k != receiver])
    kind = rng.randrange(1, 7)
    said_term = rng.choice([term, term, term + 1, pick()])
    return zmtp.peer_frame(xxh3, cluster.name, sender, receiver, said_term, kind, forged_body(rng, kind, pick))


def throw_forged(cluster, rng, xxh3, count):
    links = {k: zmtp.connect(cluster.endpoints[k][0]) for k in cluster.ids}
    try:
        for link in links.values():
            zmtp.shake_hands(link)
        for number in range(count):
            if number % 20 == 0:
                members = cluster.member_status()
            receiver = rng.choice(cluster.ids)
            links[receiver].sendall(zmtp.message(forge(rng, xxh3, cluster, receiver, members[receiver])))
        for link in links.values():
            link.shutdown(socket.SHUT_WR)
            while link.recv(1 << 16):
                pass
    finally:
        for link in links.values():
            link.close()


def test_forged_messages_of_members_crash_nothing(env):
    """Messages between members with a good checksum and impossible contents crash nothing."""
    xxh3 = zmtp.load_xxh3()
    if xxh3 is None:
        raise Skip("libxxhash cannot be loaded")
    rng = seeded(env)
    rounds = 4 if not env.full else 100
    for _ in range(rounds):
        # They can start elections and rewrite logs, as a member could: only that all still run is to be seen.
        with Cluster(env, n_members=3, bridge={"request_timeout_ms": 500}, sanitized=True) as cluster:
            with cluster.connect() as client:
                for number in range(5):
                    words_ok(client.ask("put", b"key-%d" % number, b"v"))
            throw_forged(cluster, rng, xxh3, 100)
            assert len(cluster.member_status()) == 3
