"""Just enough of ZeroMQ's wire protocol (ZMTP 3.0, NULL mechanism) to send bad frames to a port: a DEALER by hand.

And the frame of kv/request.h, so that hostile contents can arrive behind a good checksum.
"""

import ctypes
import ctypes.util
import errno
import socket
import struct
import time

GREETING = b"\xff" + b"\0" * 8 + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + b"\0" + b"\0" * 31
_PROPERTIES = (b"Socket-Type", b"DEALER"), (b"Identity", b"")
KIND_REQUESTS = 1


def _ready():
    body = b"\x05READY"
    for name, value in _PROPERTIES:
        body += bytes([len(name)]) + name + struct.pack(">I", len(value)) + value
    return bytes([4, len(body)]) + body


def connect(endpoint, timeout=5.0):
    """A TCP connection to a tcp://HOST:PORT endpoint, waiting for a local port when all are used up."""
    host, port = endpoint.removeprefix("tcp://").rsplit(":", 1)
    deadline = time.monotonic() + 90  # longer than a closed connection keeps its port
    while True:
        try:
            connection = socket.create_connection((host, int(port)), timeout)
            break
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    connection.settimeout(timeout)
    return connection


def shake_hands(connection):
    """Greets and reads the other side's greeting and READY."""
    connection.sendall(GREETING + _ready())
    received = b""
    while len(received) < 66 or len(received) < 66 + received[65]:
        data = connection.recv(4096)
        if not data:
            raise ConnectionError("closed in the handshake")
        received += data


def message(payload, flags=0):
    """One frame of a message; flags 1: more frames follow."""
    if len(payload) < 256:
        return bytes([flags, len(payload)]) + payload
    return bytes([flags | 2]) + struct.pack(">Q", len(payload)) + payload


def load_xxh3():
    """XXH3_64bits of libxxhash, or None where it cannot be loaded."""
    try:
        function = ctypes.CDLL(ctypes.util.find_library("xxhash") or "libxxhash.so.0").XXH3_64bits
    except (OSError, AttributeError):
        return None
    function.restype = ctypes.c_uint64
    function.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    return lambda data: function(data, len(data))


def client_frame(xxh3, cluster, items, n_items=None, kind=KIND_REQUESTS):
    """A frame of requests (kv/request.h): items are (id, type, body). The count may lie; the checksum is right."""
    body = b""
    for number, kind_of_item, data in items:
        body += struct.pack("<QB3xI", number, kind_of_item, len(data)) + data + b"\0" * (-len(data) % 8)
    count = len(items) if n_items is None else n_items
    return seal(xxh3, cluster, body, count, kind)


def seal(xxh3, cluster, body, count, kind=KIND_REQUESTS):
    """A header with a good checksum in front of whatever body."""
    head = struct.pack("<4sBBHII", b"RKVC", 1, kind, 0, count & 0xFFFFFFFF, 32 + len(body))
    head += struct.pack("<Q", xxh3(cluster.encode()) or 1)
    checksum = xxh3(head + b"\0" * 8 + body)
    return head + struct.pack("<Q", checksum) + body


def peer_frame(xxh3, cluster, sender, receiver, term, kind, body):
    """A frame between members (daemon/transport/README.md) with a good checksum, whatever it says."""
    cluster_id = xxh3(cluster.encode()) or 1
    size = 64 + len(body)

    def header(checksum):
        numbers = (checksum, cluster_id, sender, 1, receiver, term, size, 0)
        return struct.pack("<4sBBHQQQQQQII", b"RKVP", 1, kind, 0, *numbers)

    return header(xxh3(header(0) + body)) + body
