"""raftctl watch-cluster: the leader's heart, while it beats, stops and changes hands."""

import json
import subprocess
import threading

from cluster import Cluster, wait_for

UNREACHABLE = 3


class Watch:
    """A running `raftctl watch-cluster --json` and what it has said."""

    def __init__(self, cluster):
        command = cluster.raftctl_command("watch-cluster", "--json")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self.events = []
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.events.append(json.loads(line))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(10)
        self.reader.join(10)

    def since(self, begin, kind, **wanted):
        """Events of a kind from number `begin` on with these fields."""
        return [e for e in self.events[begin:] if e["event"] == kind and all(e[k] == v for k, v in wanted.items())]

    def wait(self, begin, kind, count=1, timeout=20, **wanted):
        return wait_for(
            lambda: self.since(begin, kind, **wanted)[count - 1 :], timeout, f"{count} of {kind} with {wanted}"
        )


def test_every_beat_is_seen_once_with_who_answered(env):
    """One line a beat, numbers without gaps, every member answers; --count ends it."""
    with Cluster(env, n_members=5) as cluster:
        cluster.wait_agreement()
        leader = cluster.wait_leader()
        with Watch(cluster) as watch:
            watch.wait(0, "beat", count=20, leader=leader)
            beats = watch.since(0, "beat", leader=leader)
            numbers = [beat["number"] for beat in beats]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), f"{numbers}"
            whole = [beat for beat in beats if {a["member"] for a in beat["answers"]} == set(cluster.followers(leader))]
            assert len(whole) > len(beats) // 2, f"{beats}"
            answers = sorted(a["after_us"] for beat in beats for a in beat["answers"])
            env.note(f"answers after {answers[len(answers) // 2]} us (median)")
        text = cluster.raftctl("watch-cluster", "--count", "3")
        assert text.returncode == 0 and text.stdout.count(b"beat ") == 3, f"{text}"
        assert f"leader {leader}".encode() in text.stdout


def test_it_stops_with_the_quorum_and_goes_on_with_the_next_leader(env):
    """The leader is killed: the next one's beats. A majority is killed: it says that the heart has stopped, and no beat
    comes. They are back: it beats again."""
    with Cluster(env, n_members=3) as cluster:
        leader = cluster.wait_leader()
        with Watch(cluster) as watch:
            watch.wait(0, "beat", count=3, leader=leader)
            at = len(watch.events)
            cluster.members[leader].kill()
            watch.wait(at, "role", member=leader, role="unreachable")
            other = cluster.wait_leader(other_than=leader)
            watch.wait(at, "role", member=other, role="leader")
            watch.wait(at, "beat", count=3, leader=other)
            at = len(watch.events)
            last = cluster.followers(other)[0]
            cluster.members[last].kill()
            watch.wait(at, "stopped")
            stopped = watch.events.index(watch.since(at, "stopped")[0])
            assert not watch.since(stopped, "beat"), "it beats without a quorum"
            at = len(watch.events)
            cluster.members[last].start()
            watch.wait(at, "beat", count=3)
            cluster.members[leader].start()
        for member in cluster.members.values():
            member.kill()
        result = cluster.raftctl("--timeout", "500", "watch-cluster")
        assert result.returncode == UNREACHABLE, f"{result}"


def test_one_member_alone_does_not_look_dead(env):
    """Who leads alone sends no heartbeats, and is not said to have stopped."""
    with Cluster(env, n_members=1) as cluster:
        cluster.wait_leader()
        with Watch(cluster) as watch:
            watch.wait(0, "role", member=1, role="leader")
            try:
                watch.wait(0, "stopped", timeout=1.5)
            except TimeoutError:
                return
            raise AssertionError("it is said to have stopped")
