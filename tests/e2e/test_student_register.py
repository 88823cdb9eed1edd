"""The student register of packaging/examples: many clerks against seven members, one bridge for each, while members die."""

import importlib.machinery
import importlib.util
import json
import pathlib
import random
import subprocess
import sys
import threading

from cluster import Cluster
from kvclient import split

PROGRAM = pathlib.Path(__file__).resolve().parents[2] / "packaging/examples/student-register/student-register"
MEMBERS, CLERKS, KILLS, ROLLS = 7, 12, 4, 25
STEPS = 60  # of a clerk, between two kills


def load_register():
    loader = importlib.machinery.SourceFileLoader("student_register", str(PROGRAM))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("student_register", loader))
    loader.exec_module(module)
    return module


class Clerk(threading.Thread):
    """Does its work against a bridge chosen anew each time, and keeps what went wrong."""

    def __init__(self, module, sockets, name, seed, steps):
        super().__init__()
        self.module, self.sockets, self.name = module, sockets, name
        self.rng, self.steps = random.Random(seed), steps
        self.done, self.refused, self.failure = 0, 0, None

    def step(self, register, roll):
        verb = self.rng.choice(("register", "fill", "change", "change", "show", "show", "delete"))
        if verb == "fill":
            register.update(roll, {"address": f'{self.name}\'s "street" {self.rng.random()}', "phone": "+49 \t 1"})
        elif verb == "change":
            register.update(roll, {self.rng.choice(("address", "phone")): f"{self.name} \\ {self.rng.random()}"})
        else:
            getattr(register, verb)(roll)

    def run(self):
        try:
            while self.done < self.steps:
                register = self.module.Register(self.rng.choice(self.sockets), self.name)
                try:
                    self.step(register, self.rng.randrange(ROLLS))
                except self.module.Refused as refused:
                    assert "registered" in str(refused) or "all the time" in str(refused), refused
                    self.refused += 1
                register.store.close()
                self.done += 1
        except Exception as error:  # a thread has nobody to tell but the test
            self.failure = error


def replay(log):
    """What the log says the store must hold: {key: (revision, value)}; checks the notes about reads on the way."""
    store, seen, last = {}, {}, {}
    for line in log.splitlines():
        words = split(line)
        index = int(words[0])
        if words[4] not in (b"put", b"cas", b"delete"):
            continue
        verb, key = words[4], words[5]
        session, sequence = map(int, words[3].split(b":"))
        if sequence != last.get(session, 0) + 1:
            continue  # a second copy, or one that overtook another: the store refused it
        last[session] = sequence
        current = store.get(key, (0, b""))[0]
        if verb == b"delete":
            store.pop(key, None)
        elif verb == b"put" or int(words[6]) == current:
            store[key] = (index, words[-1])
        if key.startswith(b"student/"):
            seen.setdefault(key, {0}).add(store.get(key, (0, b""))[0])
        elif key.startswith(b"read/"):
            read = int(words[-1].split()[1])
            student = key.replace(b"read/", b"student/")
            assert read in seen.get(student, {0}), f"the note in entry {index} is about a revision that never was"
    return store


def parse_dump(dump):
    """{key: (revision, value)} of raftctl dump --revisions."""
    items = {}
    for line in dump.splitlines():
        revision, _put, key, value = split(line)
        items[key] = (int(revision), value)
    return items


def run_clerks(cluster, module, sockets, rng):
    """Rounds of clerks; in each one a member is killed, a leader every other time, and started again."""
    done = refused = 0
    for number in range(KILLS):
        clerks = [Clerk(module, sockets, f"clerk{k}", rng.random(), STEPS) for k in range(CLERKS)]
        for clerk in clerks:
            clerk.start()
        victim = cluster.wait_leader() if number % 2 == 0 else rng.choice(cluster.ids)
        cluster.members[victim].kill()
        cluster.members[victim].start()
        for clerk in clerks:
            clerk.join(120)
            assert not clerk.is_alive(), f"{clerk.name} hangs after {clerk.done} steps"
            assert clerk.failure is None, f"{clerk.name}: {clerk.failure!r}"
        done += sum(clerk.done for clerk in clerks)
        refused += sum(clerk.refused for clerk in clerks)
    return done, refused


def test_many_clerks_while_members_die(env):
    """Seven members, clerks at random bridges, members killed: all agree, and all logs tell one story that explains the store."""
    module = load_register()
    rng = random.Random(7)
    with Cluster(env, n_members=MEMBERS, bridge={"request_timeout_ms": 20000}) as cluster:
        sockets = [cluster.socket, *(cluster.add_bridge(f"bridge-{k}")[1] for k in range(2, MEMBERS + 1))]
        done, refused = run_clerks(cluster, module, sockets, rng)
        cluster.wait_agreement()
        logs, dumps = [], []
        for k in cluster.ids:
            result = cluster.raftctl("log", "--id", k, "--values", timeout=60)
            assert result.returncode == 0, result
            logs.append(result.stdout)
            result = cluster.raftctl("dump", "--id", k, "--revisions", timeout=60)
            assert result.returncode == 0, result
            dumps.append(result.stdout)
        assert len(set(logs)) == 1 and len(set(dumps)) == 1, "members tell different stories"
        assert replay(logs[0]) == parse_dump(dumps[0])
        env.note(f"{done} requests of clerks, {refused} refused for good reasons, {len(logs[0].splitlines())} entries")


def test_the_program_as_a_clerk_types_it(env):
    """Register, fill in, change a field, show, delete; what cannot be done is said and changes nothing."""
    with Cluster(env, n_members=3) as cluster:

        def clerk(*words):
            command = [sys.executable, str(PROGRAM), "--socket", cluster.socket, *words]
            return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

        assert clerk("register", "4711").returncode == 0
        assert "registered already" in clerk("register", "4711").stderr
        assert clerk("fill", "4711", '12 "Main" Street\\\n', "555-0199").returncode == 0
        assert clerk("change", "4711", "phone", "555-0123 ü").returncode == 0
        shown = clerk("show", "4711")
        assert json.loads(shown.stdout) == {"address": '12 "Main" Street\\\n', "phone": "555-0123 ü"}, shown
        assert clerk("delete", "4711").returncode == 0
        for verb in (("delete",), ("show",), ("change",)):
            words = (*verb, "4711") if verb != ("change",) else ("change", "4711", "phone", "1")
            result = clerk(*words)
            assert result.returncode == 1 and "not registered" in result.stderr, result
