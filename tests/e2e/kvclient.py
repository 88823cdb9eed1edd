"""The line protocol as a client speaks it: words and quoting, one blocking connection, and many pipelined ones.

What this must not know: processes, members, who leads. It sees a socket path, like any client. With a history
(history.py) it notes every request on a key and its reply there.
"""

import re
import selectors
import socket
import time

_ESCAPES = {b"\\": b"\\", b'"': b'"', b"n": b"\n", b"r": b"\r", b"t": b"\t", b"0": b"\0"}
_NEEDS_QUOTES = re.compile(rb'[\x00-\x20"\\\x7f]')
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_ESCAPE = re.compile(rb'\\(?:x([0-9a-fA-F]{2})|(.))', re.DOTALL)
_WORD = re.compile(rb'"((?:[^"\\]|\\.)*)"|([^ "]+)')


class ProtocolError(Exception):
    """The other side broke the protocol, or hung up in the middle."""


def quote(word):
    """One word as it is written in a line: bare where that is possible, in double quotes otherwise."""
    if word and not _NEEDS_QUOTES.search(word):
        try:
            word.decode("utf-8")
            return word
        except UnicodeDecodeError:
            pass
    text = word.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    text = text.replace(b"\n", b"\\n").replace(b"\r", b"\\r").replace(b"\t", b"\\t")
    text = _CONTROL.sub(lambda match: b"\\x%02x" % match[0][0], text)
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        text = re.sub(rb"[\x80-\xff]", lambda match: b"\\x%02x" % match[0][0], text)
    return b'"' + text + b'"'


def unquote(text):
    """What stands between two double quotes, with its escapes resolved."""

    def resolve(match):
        if match[1] is not None:
            return bytes([int(match[1], 16)])
        if match[2] not in _ESCAPES:
            raise ProtocolError(f"unknown escape {match[0]!r}")
        return _ESCAPES[match[2]]

    return _ESCAPE.sub(resolve, text) if b"\\" in text else text


def split(line):
    """The words of a line."""
    words = []
    position = 0
    while position < len(line):
        match = _WORD.match(line, position)
        if match is None:
            raise ProtocolError(f"not a word at byte {position} of {line[:200]!r}")
        words.append(unquote(match[1]) if match[1] is not None else match[2])
        position = match.end()
        if position < len(line):
            if line[position : position + 1] != b" ":
                raise ProtocolError(f"no space after a word at byte {position} of {line[:200]!r}")
            position += 1
    return words


def split_reply(line):
    """The words of a reply; the text of an error is for people, and is one word here."""
    return line.split(b" ", 2) if line.startswith(b"ERR ") else split(line)


def join(*words):
    """A request line: str words are taken as they are, bytes words are quoted where needed, numbers are written out."""
    parts = []
    for word in words:
        parts.append(quote(word) if isinstance(word, bytes) else str(word).encode())
    return b" ".join(parts) + b"\n"


class Connection:
    """One connection that asks and waits. Every wait has a deadline. Only what goes through ask() is recorded."""

    def __init__(self, path, timeout=30.0, history=None):
        self.timeout = timeout
        self.recorder = history.connection() if history else None
        self.buffer = bytearray()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.socket.connect(path)  # blocking: with a timeout a full backlog would be an error
        except OSError:
            self.socket.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.settimeout(self.timeout)
        self.socket.sendall(data)

    def half_close(self):
        self.socket.shutdown(socket.SHUT_WR)

    def receive_line(self, timeout=None):
        """The next line without its end; None when the other side closed."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        searched = 0
        while True:
            end = self.buffer.find(b"\n", searched)
            if end >= 0:
                line = bytes(self.buffer[:end])
                del self.buffer[: end + 1]
                return line
            searched = len(self.buffer)
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no reply in {self.timeout if timeout is None else timeout} s")
            self.socket.settimeout(left)
            data = self.socket.recv(1 << 18)
            if not data:
                if self.buffer:
                    raise ProtocolError(f"closed in the middle of the line {bytes(self.buffer[:200])!r}")
                return None
            self.buffer += data

    def receive(self, timeout=None):
        """The next reply as words."""
        line = self.receive_line(timeout)
        if line is None:
            raise ProtocolError("the connection was closed")
        return split_reply(line)

    def ask(self, *words, timeout=None):
        """Sends one request, returns its reply as words."""
        line = join(*words)
        token = self.recorder.call(line) if self.recorder else None
        self.send(line)
        reply = self.receive(timeout)
        if self.recorder:
            self.recorder.returned(token, reply)
        return reply


class Pipeline:
    """One connection that has many requests under way. Give it (tag, line) pairs; replies come back in order."""

    def __init__(self, path, depth, history=None):
        self.depth = depth
        self.recorder = history.connection() if history else None
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self.socket.setblocking(False)
        self.waiting = []  # (tag, line) not yet handed to the socket, last first
        self.unsent = memoryview(b"")
        self.tags = []  # of the requests that were sent or are in unsent, oldest first
        self.tokens = []  # the recorder's, as tags
        self.n_answered = 0  # tags before this one are done
        self.buffer = bytearray()

    def close(self):
        self.socket.close()

    def give(self, requests):
        self.waiting[:0] = reversed(requests)

    def in_flight(self):
        return len(self.tags) - self.n_answered

    def idle(self):
        return not self.waiting and self.in_flight() == 0

    def wants_write(self):
        return bool(self.unsent) or (bool(self.waiting) and self.in_flight() < self.depth)

    def write(self):
        if not self.unsent:
            lines = []
            while self.waiting and self.in_flight() < self.depth:
                tag, line = self.waiting.pop()
                self.tags.append(tag)
                self.tokens.append(self.recorder.call(line) if self.recorder else None)
                lines.append(line)
            self.unsent = memoryview(b"".join(lines))
        try:
            n = self.socket.send(self.unsent[: 1 << 18])
        except BlockingIOError:
            return
        self.unsent = self.unsent[n:]

    def read(self, on_reply):
        """Takes what has arrived, calls on_reply(tag, line) for each reply."""
        try:
            data = self.socket.recv(1 << 18)
        except BlockingIOError:
            return
        if not data:
            raise ProtocolError(f"closed with {self.in_flight()} requests unanswered")
        self.buffer += data
        if b"\n" not in data:
            return
        *lines, rest = bytes(self.buffer).split(b"\n")
        self.buffer = bytearray(rest)
        for line in lines:
            if self.in_flight() == 0:
                raise ProtocolError(f"a reply to no request: {line[:200]!r}")
            tag = self.tags[self.n_answered]
            if self.recorder:
                self.recorder.returned(self.tokens[self.n_answered], split_reply(line))
            self.n_answered += 1
            on_reply(tag, line)


def run_pipelines(pipelines, on_reply, timeout, until=None):
    """Drives the pipelines until all are idle, or until() says so. on_reply(pipeline, tag, line)."""
    deadline = time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        for pipeline in pipelines:
            selector.register(pipeline.socket, selectors.EVENT_READ, pipeline)
        while not (until() if until else all(pipeline.idle() for pipeline in pipelines)):
            if time.monotonic() > deadline:
                left = sum(pipeline.in_flight() + len(pipeline.waiting) for pipeline in pipelines)
                raise TimeoutError(f"{left} requests are unanswered after {timeout} s")
            for pipeline in pipelines:
                events = selectors.EVENT_READ | (selectors.EVENT_WRITE if pipeline.wants_write() else 0)
                if selector.get_key(pipeline.socket).events != events:
                    selector.modify(pipeline.socket, events, pipeline)
            for key, mask in selector.select(0.05):
                pipeline = key.data
                if mask & selectors.EVENT_READ:
                    pipeline.read(lambda tag, line, owner=pipeline: on_reply(owner, tag, line))
                if mask & selectors.EVENT_WRITE:
                    pipeline.write()


def ask_all(path, lines, connections=4, depth=256, timeout=120.0, history=None):
    """Sends all lines over some connections, returns the replies as words, in the order of the lines."""
    replies = [None] * len(lines)
    pipelines = [Pipeline(path, depth, history) for _ in range(connections)]

    def take(_pipeline, tag, line):
        replies[tag] = split_reply(line)

    try:
        for k, pipeline in enumerate(pipelines):
            pipeline.give([(tag, lines[tag]) for tag in range(k, len(lines), connections)])
        run_pipelines(pipelines, take, timeout)
    finally:
        for pipeline in pipelines:
            pipeline.close()
    return replies
