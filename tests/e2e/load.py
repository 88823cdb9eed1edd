"""Clients in threads beside a test: they go on until the test is over, and the first failure of any of them is the test's."""

import threading
import time

from cluster import wait_for, words_ok, words_value
from history import History
from kvclient import Connection

PROGRESS_S = 30


class Worker(threading.Thread):
    """One client. A subclass says in `round(client)` what it asks, and counts in `requests` what was answered."""

    def __init__(self, path, number, history):
        super().__init__()
        self.path = path
        self.number = number
        self.history = history
        self.stopping = threading.Event()
        self.requests = 0
        self.failure = None

    def run(self):
        try:
            self.work()
        except Exception as error:  # handed to the test, which raises it
            self.failure = error

    def work(self):
        with Connection(self.path, history=self.history) as client:
            while not self.stopping.is_set():
                self.round(client)

    def round(self, client):
        raise NotImplementedError


class Load:
    """Some workers of one class; leaving the context ends them and raises the first failure."""

    def __init__(self, worker, count, path, history):
        self.history = history
        self.workers = [worker(path, number, history) for number in range(count)]

    def __enter__(self):
        for worker in self.workers:
            worker.start()
        return self

    def __exit__(self, kind, *_):
        for worker in self.workers:
            worker.stopping.set()
        for worker in self.workers:
            worker.join()
        if kind is None:
            self.check()

    def check(self):
        for worker in self.workers:
            if worker.failure:
                raise worker.failure

    def requests(self):
        return sum(worker.requests for worker in self.workers)

    def wait_progress(self, count=100):
        target = self.requests() + count

        def progressed():
            self.check()
            return self.requests() >= target

        wait_for(progressed, PROGRESS_S, f"{count} more requests to be answered")


class Counter(Worker):
    """Puts numbers under its own key and reads them back, one request after the other."""

    def __init__(self, path, number, history):
        super().__init__(path, number, history)
        self.key = b"worker-%d" % number
        self.value = 0
        self.longest = 0.0

    def ask(self, client, *words):
        began = time.monotonic()
        reply = client.ask(*words)
        self.longest = max(self.longest, time.monotonic() - began)
        self.requests += 1
        return reply

    def round(self, client):
        self.value += 1
        revision = words_ok(self.ask(client, "put", self.key, b"%d" % self.value))
        assert words_value(self.ask(client, "get", self.key)) == (revision, b"%d" % self.value)


class Counting(Load):
    """Four counters, which have begun."""

    def __init__(self, path):
        super().__init__(Counter, 4, path, History())

    def __enter__(self):
        super().__enter__()
        self.wait_progress()
        return self

    def longest(self):
        return max(worker.longest for worker in self.workers)

    def reset(self):
        for worker in self.workers:
            worker.longest = 0.0
