"""raftctl restart --rolling, with a systemctl of the test's own that starts and stops this cluster's members."""

import os
import pathlib
import subprocess
import threading
import time

from cluster import Cluster, wait_for
from load import Counting

NEGATIVE = 1
USAGE = 2
FAILED = 4
TIMEOUT = 5

class Systemd:
    """A thread in the place of systemd: members of the cluster are its units."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.dir = pathlib.Path(cluster.dir, "systemd")
        self.dir.mkdir()
        self.units = {f"raft@{k}.service": "active" for k in cluster.ids}
        self.asked = []
        self.shown = []  # states of a unit that did not start, as they are asked for
        self.restart = self.restart_member
        for pipe in ("asked", "answer"):
            os.mkfifo(self.dir / pipe)
        script = self.dir / "systemctl"
        script.write_text(
            "#!/bin/sh\n"
            f'echo "$*" >{self.dir}/asked\n'
            f"exec <{self.dir}/answer\n"
            "read -r code\n"
            "cat\n"
            'exit "$code"\n',
            encoding="ascii",
        )
        script.chmod(0o755)
        self.stopping = False
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def listing(self):
        return "".join(f"{unit} loaded {state} running A member\n" for unit, state in self.units.items())

    def restart_member(self, unit):
        member = self.cluster.members[int(unit.removeprefix("raft@").removesuffix(".service"))]
        member.stop()
        member.start()
        return 0

    def serve(self):
        while not self.stopping:
            with open(self.dir / "asked", encoding="ascii") as pipe:
                words = pipe.read().split()
            if not words:
                continue
            self.asked.append(" ".join(words[:2]))
            code, text = 0, ""
            if words[0] == "list-units":
                text = self.listing()
            elif words[0] == "restart":
                code = self.restart(words[1])
            elif words[0] == "show":
                text = self.shown.pop(0) + "\n"
            if code is not None:
                with open(self.dir / "answer", "w", encoding="ascii") as pipe:
                    pipe.write(f"{code}\n{text}")

    def raftctl(self, *arguments, timeout=90):
        environ = os.environ | {"PATH": f"{self.dir}:{os.environ['PATH']}"}
        command = self.cluster.raftctl_command(*arguments)
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=timeout, check=False)

    def restarted(self):
        return [int(words[13:].removesuffix(".service")) for words in self.asked if words.startswith("restart raft@")]


def pids(cluster):
    return {k: member.pid for k, member in cluster.members.items() if member.running()}


def test_one_after_another_and_the_leader_last(env):
    """All members are restarted under load, the leader last and the bridge after it: no failed request."""
    with Cluster(env) as cluster:
        systemd = Systemd(cluster)
        leader = cluster.wait_leader()
        before = pids(cluster)
        with Counting(cluster.socket) as load:
            result = systemd.raftctl("restart", "--rolling", "--bridge")
            load.wait_progress()
        assert result.returncode == 0, f"{result}"
        assert sorted(systemd.restarted()) == cluster.ids and systemd.restarted()[-1] == leader, f"{systemd.asked}"
        assert systemd.asked[-1] == "try-restart raft-bridge.service", f"{systemd.asked}"
        assert not set(before.values()) & set(pids(cluster).values())
        assert result.stdout.count(": back, ") == 5, f"{result.stdout}"
        cluster.wait_agreement()
        load.history.check(env)
        env.note(f"{load.requests()} requests, the longest {load.longest() * 1000:.0f} ms")


def test_dry_run_and_one_member(env):
    """--dry-run restarts nobody and says whom it would; --id restarts that one; failed units are named and left alone."""
    with Cluster(env, n_members=3) as cluster:
        systemd = Systemd(cluster)
        cluster.wait_leader()
        before = pids(cluster)
        result = systemd.raftctl("restart", "--rolling", "--bridge", "--dry-run")
        assert result.returncode == 0 and result.stdout.count("would restart") == 4, f"{result}"
        assert systemd.restarted() == [] and pids(cluster) == before
        result = systemd.raftctl("--id", "2", "restart", "--rolling")
        assert result.returncode == 0 and systemd.restarted() == [2], f"{result}"
        systemd.units["raft@3.service"] = "failed"
        result = systemd.raftctl("restart", "--rolling", "--dry-run")
        assert result.returncode == 0 and "raft@3.service has failed" in result.stderr, f"{result}"
        systemd.units = {}
        assert "no member runs" in systemd.raftctl("restart", "--rolling").stdout
        assert systemd.raftctl("restart").returncode == USAGE


def test_not_while_a_majority_would_be_lost(env):
    """With one of three members down nobody else is restarted; --force does it; a unit that is just starting is waited for."""
    with Cluster(env, n_members=3) as cluster:
        systemd = Systemd(cluster)
        leader = cluster.wait_leader()
        victim, other = cluster.followers(leader)
        cluster.members[victim].kill()
        del systemd.units[f"raft@{victim}.service"]
        result = systemd.raftctl("--timeout", "500", "restart", "--rolling", "--bridge")
        assert result.returncode == NEGATIVE and "is not restarted" in result.stderr, f"{result}"
        assert "1 do not answer" in result.stderr, f"{result}"
        assert systemd.restarted() == [] and not any("bridge" in words for words in systemd.asked)
        result = systemd.raftctl("--id", other, "restart", "--rolling", "--force")
        assert result.returncode == 0 and systemd.restarted() == [other], f"{result}"
        cluster.members[victim].start()
        systemd.units[f"raft@{victim}.service"] = "activating"
        result = systemd.raftctl("restart", "--rolling")
        assert result.returncode == NEGATIVE and "is activating" in result.stderr, f"{result}"


def test_stops_at_the_first_that_does_not_come_back(env):
    """A member that does not start, is not ready in time or does not catch up ends the restart; the others are untouched."""
    with Cluster(env, n_members=3) as cluster:
        systemd = Systemd(cluster)
        cluster.wait_leader()
        systemd.restart = lambda unit: 1
        systemd.shown = ["activating", "failed"]
        result = systemd.raftctl("restart", "--rolling", "--bridge")
        assert result.returncode == FAILED and "did not start again" in result.stderr, f"{result}"
        assert len(systemd.restarted()) == 1 and systemd.shown == []
        systemd.restart = lambda unit: None  # never ends
        began = time.monotonic()
        result = systemd.raftctl("--timeout", "300", "restart", "--rolling")
        assert result.returncode == TIMEOUT and "is not ready in time" in result.stderr, f"{result}"
        assert time.monotonic() - began < 60 and len(systemd.restarted()) == 2

        def restart_and_pause(unit):
            systemd.restart_member(unit)
            member = cluster.members[int(unit[5:-8])]
            member.pause()
            return 0

        systemd.restart = restart_and_pause
        result = systemd.raftctl("--timeout", "2000", "restart", "--rolling")
        assert result.returncode == TIMEOUT and "has not caught up" in result.stderr, f"{result}"
        assert len(systemd.restarted()) == 3 and not any("bridge" in words for words in systemd.asked)
        for member in cluster.members.values():
            member.resume()
        wait_for(lambda: cluster.leader() is not None, 15, "a leader")


def test_a_unit_that_starts_at_the_second_attempt(env):
    """systemd starts a member again that did not come up at once: the restart waits for that, and goes on."""
    with Cluster(env, n_members=3) as cluster:
        systemd = Systemd(cluster)
        cluster.wait_leader()

        def restart_late(unit):
            systemd.restart_member(unit)
            systemd.shown = ["activating", "active"]
            return 1

        systemd.restart = restart_late
        result = systemd.raftctl("restart", "--rolling")
        assert result.returncode == 0 and result.stdout.count(": back, ") == 3, f"{result}"
        assert sorted(systemd.restarted()) == cluster.ids
