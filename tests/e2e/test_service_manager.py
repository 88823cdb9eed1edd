"""What a service manager sees of a member: a socket in this process stands for systemd."""

import os
import signal
import socket
import subprocess
import threading
import time

from cluster import Cluster, wait_for, words_ok

WATCHDOG_S = 1.0


class Manager:
    """Takes what a member sends to $NOTIFY_SOCKET, at once: it waits for whoever does not read."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.path = path
        self.seen = []  # (time, assignments of one message)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        while True:
            message = self.socket.recv(4096).decode()
            self.seen.append((time.monotonic(), dict(line.split("=", 1) for line in message.splitlines())))

    def find(self, key, start=0):
        return [message[key] for _, message in list(self.seen)[start:] if key in message]

    def status(self):
        lines = self.find("STATUS")
        return lines[-1] if lines else ""


class ManagedCluster(Cluster):
    """Every member has a service manager of its own."""

    def make_member(self, k):
        if not hasattr(self, "managers"):
            self.managers = {}
        self.managers[k] = Manager(f"{self.dir}/notify-{k}")
        member = super().make_member(k)
        environment = [f"NOTIFY_SOCKET={self.managers[k].path}", f"WATCHDOG_USEC={int(WATCHDOG_S * 1e6)}"]
        member.command = ["/usr/bin/env", *environment, *member.command]
        return member


def test_the_status_line_follows_the_member(env):
    """READY=1 once, a status line with role, term, commit and quorum that follows what happens, STOPPING=1 at the end."""
    with ManagedCluster(env, n_members=3) as cluster, cluster.connect() as client:
        leader = cluster.wait_leader()
        managers = cluster.managers
        for manager in managers.values():
            assert manager.find("READY") == ["1"]
        revision = [words_ok(client.ask("put", b"k", b"%d" % n)) for n in range(50)][-1]
        wait_for(lambda: managers[leader].status().endswith("quorum 2: 3 answer"), 10, "all to answer the leader")
        status = wait_for(
            lambda: managers[leader].status() if cluster.member_status()[leader]["commit"] >= revision else None, 10, "it"
        )
        assert status.startswith("leader of 3, term "), status
        wait_for(
            lambda: f", commit {cluster.member_status()[leader]['commit']}," in managers[leader].status(),
            10,
            "the status line to show the commit index",
        )
        other, victim = cluster.followers(leader)
        wait_for(lambda: managers[other].status().endswith(f", leader {leader}"), 10, "a follower to name its leader")
        cluster.members[victim].kill()
        wait_for(lambda: managers[leader].status().endswith("quorum 2: 2 answer"), 10, "one to be missed")
        cluster.members[other].kill()
        wait_for(
            lambda: "no leader, quorum 2: 1 connected" in managers[leader].status(), 10, "the loss of the quorum to show"
        )
        text = "no leader for 5 s: 1 of 3 voters are connected, this one included; 2 are needed"
        wait_for(lambda: text in cluster.members[leader].log_since_start(), 20, "a line on what is missing")
        for k in (victim, other):
            cluster.members[k].start()
        leader = cluster.wait_leader()
        cluster.members[leader].stop()
        assert managers[leader].find("STOPPING") == ["1"]
        cluster.members[leader].start()


def test_the_status_line_costs_nothing_while_nothing_happens(env):
    """A cluster at rest sends watchdog pings and nothing else; under load the status line changes once a second at most."""
    with ManagedCluster(env, n_members=3) as cluster, cluster.connect() as client:
        leader = cluster.wait_leader()
        manager = cluster.managers[leader]
        wait_for(lambda: manager.status().endswith("quorum 2: 3 answer"), 10, "all to answer")
        began = time.monotonic()
        first = len(manager.seen)
        while time.monotonic() - began < 3 * WATCHDOG_S:
            words_ok(client.ask("put", b"k", b"v"))
        times = [at for at, message in manager.seen[first:] if "STATUS" in message]
        assert len(times) <= 3 * WATCHDOG_S + 1, f"{len(times)} status lines in {3 * WATCHDOG_S} s"
        commit = cluster.member_status()[leader]["commit"]
        wait_for(lambda: f"commit {commit}," in manager.status(), 10, "the last change to show")
        first = len(manager.seen)
        wait_for(lambda: len(manager.find("WATCHDOG", first)) >= 4, 20, "some pings")
        if cluster.member_status()[leader]["commit"] == commit and cluster.leader() == leader:
            assert {key for _, message in manager.seen[first:] for key in message} == {"WATCHDOG"}


def test_reload_says_what_took_effect(env):
    """raftctl reload and SIGHUP read the file again: what can change does, the rest is named, mistakes change nothing."""
    with ManagedCluster(env, n_members=3) as cluster:
        leader = cluster.wait_leader()
        manager = cluster.managers[leader]
        member = cluster.members[leader]
        result = cluster.raftctl("reload", "--id", leader)
        assert result.returncode == 0 and b"nothing has changed" in result.stdout, f"{result}"

        cluster.settings["raft"] |= {"log_level": "debug", "snapshot_log_size": "64KiB", "heartbeat_ms": 40}
        cluster.write_config()
        first = len(manager.seen)
        result = cluster.raftctl("reload", "--id", leader)
        assert result.returncode == 0, f"{result}"
        assert b"reloaded [raft] snapshot_log_size, [raft] log_level" in result.stdout, f"{result}"
        assert b"needs a restart: [raft] heartbeat_ms" in result.stdout, f"{result}"
        messages = [message for _, message in manager.seen[first:]]
        began = next(n for n, message in enumerate(messages) if "RELOADING" in message)
        assert int(messages[began]["MONOTONIC_USEC"]) > 0
        assert any("READY" in message for message in messages[began:]), messages
        assert "started again: [raft] heartbeat_ms" in member.log_since_start()
        with cluster.connect() as client:
            for n in range(80):
                words_ok(client.ask("put", b"k%d" % n, b"v" * 2000))
        wait_for(lambda: "the snapshot of entry" in member.log_since_start(), 20, "a snapshot by the new limit")

        with open(cluster.config, "a", encoding="ascii") as file:
            file.write("nonsense = 1\n")
        good = f"{cluster.dir}/good.conf"  # for raftctl itself
        cluster.write_config(good)
        result = cluster.raftctl("reload", "--id", leader, config=good)
        assert result.returncode == 4 and b"nonsense" in result.stderr, f"{result}"
        os.kill(member.pid, signal.SIGHUP)
        wait_for(lambda: member.log_since_start().count("goes on with what it has") == 2, 10, "SIGHUP to be seen")
        cluster.write_config()
        assert cluster.raftctl("put", "k", "v").returncode == 0


def test_a_hanging_disk_is_not_alive(env):
    """While a sync hangs the watchdog is not fed, although the loop turns; and it says why, once."""
    source = """
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <unistd.h>
        #include <stdlib.h>
        int fdatasync(int fd)
        {
            int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
            while (access(getenv("HANG"), F_OK) == 0)
                usleep(10000);
            return real(fd);
        }
    """
    with ManagedCluster(env, n_members=3) as cluster:
        library = f"{cluster.dir}/hang.so"
        path = f"{cluster.dir}/hang"
        subprocess.run(["cc", "-shared", "-fPIC", "-xc", "-", "-o", library], input=source.encode(), check=True)
        victim = cluster.followers(cluster.wait_leader())[0]
        member, manager = cluster.members[victim], cluster.managers[victim]
        member.stop()
        member.command[1:1] = [f"LD_PRELOAD={library}", f"HANG={path}"]
        member.start()
        wait_for(lambda: manager.find("WATCHDOG"), 10, "the first ping")
        with open(path, "w", encoding="ascii"):
            pass
        with cluster.connect() as client:
            words_ok(client.ask("put", b"k", b"v"))
        wait_for(lambda: "watchdog is not fed" in member.log_since_start(), 30, "the watchdog to be left alone")
        pings = len(manager.find("WATCHDOG"))
        began = time.monotonic()
        wait_for(lambda: time.monotonic() - began > 2 * WATCHDOG_S, 10, "two times the watchdog's time")
        assert len(manager.find("WATCHDOG")) == pings
        assert member.log_since_start().count("watchdog is not fed") == 1
        os.unlink(path)
        wait_for(lambda: len(manager.find("WATCHDOG")) > pings, 10, "a ping after the disk answered")
