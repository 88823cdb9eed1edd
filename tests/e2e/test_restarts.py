"""Planned work: members are stopped and started again while clients go on. No request may fail."""

import socket
import threading

from cluster import Cluster, wait_for, words_ok, words_value
from load import Counting


def test_stop_of_the_leader_hands_over(env):
    """SIGTERM of the leader under load: exit status 0, a short pause, no failed request."""
    with Cluster(env) as cluster, Counting(cluster.socket) as load:
        longest = stop = 0.0
        for _ in range(3):
            leader = cluster.wait_leader()
            load.wait_progress()
            load.reset()
            stop = max(stop, cluster.members[leader].stop())
            load.wait_progress()
            longest = max(longest, load.longest())
            cluster.members[leader].start()
            load.wait_progress()
        assert longest < 1, f"a request took {longest:.2f} s over a planned stop"
        env.note(f"longest request {longest * 1000:.0f} ms, the stop took {stop * 1000:.0f} ms at most")


def test_kill_of_the_leader_is_a_pause(env):
    """SIGKILL of the leader under load: a pause of about an election, no failed request."""
    with Cluster(env) as cluster, Counting(cluster.socket) as load:
        longest = 0.0
        for _ in range(3):
            leader = cluster.wait_leader()
            load.wait_progress()
            load.reset()
            cluster.members[leader].kill()
            load.wait_progress()
            longest = max(longest, load.longest())
            cluster.members[leader].start()
        assert longest < 3, f"a request took {longest:.2f} s over a killed leader"
        env.note(f"longest request {longest * 1000:.0f} ms")


def test_rolling_restart_fails_no_request(env):
    """All members restarted one after another under load: no failed request, and all agree at the end."""
    with Cluster(env) as cluster:
        with Counting(cluster.socket) as load:
            for k in cluster.ids:
                cluster.members[k].stop()
                load.wait_progress()
                cluster.members[k].start()
                goal = max(member["applied"] for member in cluster.status()["members"] if member["reachable"])
                wait_for(
                    lambda member=k, index=goal: cluster.member_status()[member].get("applied", 0) >= index,
                    20,
                    f"member {k} to catch up",
                )
                load.wait_progress()
        cluster.wait_agreement()
        load.history.check(env)
        env.note(f"{load.requests()} requests, the longest {load.longest() * 1000:.0f} ms")


def test_members_killed_one_after_another_for_a_while(env):
    """Members die with SIGKILL in turn, one at a time, as fast as they come back: no failed request."""
    with Cluster(env, bridge={"request_timeout_ms": 15000}) as cluster:
        with Counting(cluster.socket) as load:
            for k in cluster.ids * (8 if env.full else 2):
                cluster.members[k].kill()
                cluster.members[k].start()
                load.wait_progress(20)
        cluster.wait_agreement()
        load.history.check(env)
        env.note(f"{load.requests()} requests, the longest {load.longest() * 1000:.0f} ms")


def test_bridge_restart(env):
    """A bridge that was killed comes back on the same path, over its old socket, and serves what was written before."""
    with Cluster(env, n_members=3) as cluster:
        for number in range(3):
            with cluster.connect() as client:
                revision = words_ok(client.ask("put", b"k", b"%d" % number))
                cluster.bridge.kill()
            cluster.bridge.start()
            with cluster.connect() as client:
                assert words_value(client.ask("get", b"k")) == (revision, b"%d" % number)
        cluster.bridge.stop()
        cluster.bridge.start()
        with cluster.connect() as client:
            words_ok(client.ask("put", b"k", b"again"))


def test_bridge_that_stops_answers_all_it_was_sent(env):
    """A client of a bridge that is told to stop is answered what it could send; what it could not was not executed."""

    class Sender(threading.Thread):
        """Sends as fast as it may, until it may not; a second thread takes the answers."""

        def __init__(self, path):
            super().__init__(daemon=True)
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(30)
            self.socket.connect(path)
            self.sent, self.answers = 0, []
            self.reader = threading.Thread(target=self.read, daemon=True)
            self.reader.start()

        def run(self):
            try:
                while True:
                    self.socket.sendall(b"put k %d\n" % self.sent)
                    self.sent += 1
            except BrokenPipeError:
                pass

        def read(self):
            with self.socket.makefile("rb") as stream:
                self.answers.extend(stream)

    with Cluster(env, n_members=3) as cluster:
        cluster.wait_leader()
        senders = [Sender(cluster.socket) for _ in range(4)]
        with cluster.connect() as idle:
            words_ok(idle.ask("put", b"idle", b""))
            for sender in senders:
                sender.start()
            wait_for(lambda: all(len(sender.answers) > 1000 for sender in senders), 30, "some load")
            cluster.bridge.stop()
            assert idle.receive_line() is None, "an idle connection ends without a word"
        for sender in senders:
            sender.join(30)
            sender.reader.join(30)
            assert len(sender.answers) == sender.sent, f"{len(sender.answers)} answers to {sender.sent} requests"
            assert all(answer.startswith(b"OK ") for answer in sender.answers)
            sender.socket.close()
        env.note(f"{sum(sender.sent for sender in senders)} requests")
        cluster.bridge.start()
        with cluster.connect() as client:
            assert words_value(client.ask("get", b"idle"))[1] == b""
