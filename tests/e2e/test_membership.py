"""Who belongs to the cluster: founding it, members that lose their disks, that are added, removed, replaced."""

import os
import re
import shutil
import subprocess
import time

from cluster import Cluster, wait_for, words_ok, words_value
from kvclient import ask_all, join
from load import Counting

EXIT_REMOVED = 69
CTL_FAILED = 4


class Unstarted(Cluster):
    """A cluster whose test starts the members."""

    def start(self):
        pass


def done(result):
    """The words of a raftctl command that succeeded."""
    assert result.returncode == 0, f"{result.args[3:]}: {result.returncode} {result.stderr.decode()}"
    return result.stdout.split()


def refused(result, text):
    """A raftctl command that a member refused, saying this."""
    assert result.returncode == CTL_FAILED, f"{result.args[3:]}: {result.returncode} {result.stdout} {result.stderr}"
    assert text in result.stderr.decode(), f"{result.args[3:]} says {result.stderr.decode()!r}"


def add(cluster, k):
    """Starts a new member and adds it. Returns when it votes."""
    cluster.new_member(k).start()
    done(cluster.raftctl("member", "add", k, *cluster.endpoints[k]))
    wait_for(lambda: k in (cluster.voters() or {}), 30, f"member {k} to vote", interval=0.05)


def remove(cluster, k):
    """Removes a running member. Returns when it has stopped."""
    done(cluster.raftctl("member", "remove", k))
    cluster.members[k].wait_exit(EXIT_REMOVED)
    cluster.forget_member(k)


def fill(cluster, count, size=100, prefix=b"fill", path=None):
    """Puts so many keys. Returns {key: value}."""
    pairs = {b"%s-%06d" % (prefix, n): (b"%d " % n) * (size // 4) for n in range(count)}
    for reply in ask_all(path or cluster.socket, [join("put", key, value) for key, value in pairs.items()]):
        words_ok(reply)
    return pairs


def verify(cluster, pairs, path=None):
    """All these pairs are there."""
    replies = ask_all(path or cluster.socket, [join("get", key) for key in pairs])
    for (key, value), reply in zip(pairs.items(), replies):
        assert words_value(reply)[1] == value, f"{key}: {reply!r:.200}"


# Founding


def found(env, order, patience_ms):
    """Members are started one by one; before the last one nobody comes to lead, however long that is waited for."""
    with Unstarted(env, n_members=len(order)) as cluster:
        cluster.bridge.start()
        for k in order[:-1]:
            cluster.members[k].start()
            assert cluster.membership(patience_ms) is None, "founded without having heard from everybody"
        cluster.members[order[-1]].start()
        began = time.monotonic()
        cluster.wait_voters(cluster.ids)
        took = time.monotonic() - began
        verify(cluster, fill(cluster, 100))
        cluster.wait_agreement()
        founded = [k for k in cluster.ids if "founds the cluster" in cluster.members[k].log_since_start()]
        assert founded == [1], f"founded by {founded}"
        return took


def test_three_found_a_cluster_in_any_order(env):
    """Three members, started seconds apart: the first of them founds it once all were heard, in whatever order."""
    took = [found(env, order, 1200) for order in ([1, 2, 3], [3, 2, 1], [2, 1, 3])]
    env.note(f"all vote {max(took):.1f} s after the last start")


def test_five_found_a_cluster_in_any_order(env):
    """Five members, started one after another in the two extreme orders."""
    took = [found(env, order, 700) for order in ([5, 4, 3, 2, 1], [1, 2, 3, 4, 5])]
    env.note(f"all vote {max(took):.1f} s after the last start")


def test_bootstrap_founds_without_the_one_that_never_comes(env):
    """With one configured member missing nothing is founded, until the operator says so; the missing one joins later."""
    with Unstarted(env, n_members=3) as cluster:
        cluster.bridge.start()
        cluster.members[2].start()
        cluster.members[3].start()
        assert cluster.membership(3000) is None  # many rounds of hellos: nobody comes to lead
        done(cluster.raftctl("bootstrap", "--id", 3))
        cluster.wait_voters([2, 3])
        refused(cluster.raftctl("bootstrap", "--id", 3), "belongs to a cluster already")
        pairs = fill(cluster, 100)
        refused(cluster.raftctl("bootstrap", "--id", 2), "belongs to a cluster already")
        cluster.members[1].start()
        cluster.wait_voters([1, 2, 3])
        verify(cluster, pairs)
        cluster.wait_agreement()


# Lost disks


def test_a_wiped_member_rejoins_by_itself(env):
    """A member whose directory was emptied votes again under another incarnation, with all data, unnoticed by clients."""
    with Cluster(env, n_members=3) as cluster:
        before = cluster.wait_voters([1, 2, 3])
        pairs = fill(cluster, 2000)
        with Counting(cluster.socket) as load:
            victim = cluster.followers(cluster.wait_leader())[0]
            cluster.members[victim].kill()
            load.wait_progress()
            cluster.wipe(victim)
            cluster.members[victim].start()
            began = time.monotonic()
            wait_for(
                lambda: (cluster.voters() or {}).get(victim, before[victim]) != before[victim],
                30,
                "the wiped member to vote again",
                interval=0.05,
            )
            took = time.monotonic() - began
            load.wait_progress()
        after = cluster.wait_voters([1, 2, 3])
        assert [k for k in before if before[k] != after[k]] == [victim]
        cluster.wait_agreement()
        verify(cluster, pairs)
        assert cluster.dump(victim) == cluster.dump(cluster.wait_leader())
        env.note(f"voted again after {took:.1f} s; longest request {load.longest() * 1000:.0f} ms")


def test_members_wiped_one_after_another(env):
    """Every member of three loses its disk in turn, the leader too: nothing is lost, no request fails."""
    with Cluster(env, n_members=3) as cluster:
        before = cluster.wait_voters([1, 2, 3])
        pairs = fill(cluster, 1000)
        with Counting(cluster.socket) as load:
            for victim in [cluster.wait_leader(), *cluster.followers(cluster.wait_leader())]:
                incarnation = cluster.wait_voters([1, 2, 3])[victim]
                cluster.members[victim].kill()
                cluster.wipe(victim)
                cluster.members[victim].start()
                wait_for(
                    lambda k=victim, old=incarnation: (cluster.voters() or {}).get(k, old) != old,
                    30,
                    f"member {victim} to vote again",
                    interval=0.05,
                )
                load.wait_progress()
        after = cluster.wait_voters([1, 2, 3])
        assert all(before[k] != after[k] for k in before)
        cluster.wait_agreement()
        verify(cluster, pairs)


def test_a_disk_that_was_not_mounted_comes_back(env):
    """A member that voted from an empty directory for a while votes again from its first one, with all data."""
    with Cluster(env, n_members=3) as cluster:
        before = cluster.wait_voters([1, 2, 3])
        pairs = fill(cluster, 1000)
        victim = cluster.followers(cluster.wait_leader())[0]
        for pause in (0, 1):  # the leader has heard the other directory a moment ago, or not any more
            cluster.members[victim].kill()
            os.rename(cluster.data(victim), cluster.data(victim) + ".unmounted")
            os.makedirs(cluster.data(victim))
            cluster.members[victim].start()
            wait_for(
                lambda: (cluster.voters() or {}).get(victim, before[victim]) != before[victim],
                30,
                "the member to vote from an empty directory",
                interval=0.05,
            )
            cluster.members[victim].kill()
            shutil.rmtree(cluster.data(victim))
            os.rename(cluster.data(victim) + ".unmounted", cluster.data(victim))
            time.sleep(pause)  # a person mounts it; nothing is waited for
            cluster.members[victim].start()
            wait_for(
                lambda: (cluster.voters() or {}).get(victim) == before[victim],
                30,
                "the member to vote from its first directory",
                interval=0.05,
            )
            pairs.update(fill(cluster, 100, prefix=b"after-%d" % pause))
        cluster.wait_agreement()
        verify(cluster, pairs)


# Changes


def test_members_are_added_and_removed_under_load(env):
    """A cluster of three becomes one of five, then of three others, its leader removed too: no failed request."""
    with Cluster(env, n_members=3) as cluster:
        pairs = fill(cluster, 1000)
        with Counting(cluster.socket) as load:
            add(cluster, 4)
            load.wait_progress()
            add(cluster, 5)
            load.wait_progress()
            remove(cluster, cluster.followers(cluster.wait_leader())[0])
            load.wait_progress()
            load.reset()
            leader = cluster.wait_leader()
            remove(cluster, leader)
            assert "was removed from the cluster" in cluster.members[leader].log_since_start()
            load.wait_progress()
            env.note(f"longest request over the leader's removal {load.longest() * 1000:.0f} ms")
        cluster.wait_voters(cluster.ids)
        cluster.wait_agreement()
        verify(cluster, pairs)


def test_members_are_replaced_the_living_and_the_dead(env):
    """member replace under load: a living leader leaves when the new one votes, a dead one at once; repeated, it goes on."""
    with Cluster(env, n_members=3) as cluster:
        pairs = fill(cluster, 500)
        with Counting(cluster.socket) as load:
            leader = cluster.wait_leader()
            cluster.new_member(4).start()
            result = cluster.raftctl("--timeout", 30000, "member", "replace", leader, 4, *cluster.endpoints[4], timeout=40)
            assert result.returncode == 0 and b"does not answer" not in result.stdout, result
            cluster.members[leader].wait_exit(69)
            cluster.forget_member(leader)
            cluster.wait_voters(cluster.ids)
            load.wait_progress()

            dead = cluster.followers(cluster.wait_leader())[0]
            cluster.members[dead].kill()
            cluster.forget_member(dead)
            member = cluster.new_member(5)
            result = cluster.raftctl("--timeout", 3000, "member", "replace", dead, 5, *cluster.endpoints[5])
            assert result.returncode == 5 and b"does it run" in result.stderr, result
            member.start()
            result = cluster.raftctl("--timeout", 30000, "member", "replace", dead, 5, *cluster.endpoints[5], timeout=40)
            assert result.returncode == 0, result
            cluster.wait_voters(cluster.ids)
            load.wait_progress()
        for words in ((9, 6), (4, 4)):
            result = cluster.raftctl("member", "replace", *words, "tcp://127.0.0.1:1", "tcp://127.0.0.1:2")
            assert result.returncode in (2, 4) and result.stderr, result
        cluster.wait_agreement()
        verify(cluster, pairs)


def test_a_cluster_that_grew_from_one_hands_over(env):
    """The founder's file names only itself; stopped as the leader of three it hands over like any other."""
    with Cluster(env, n_members=1) as cluster:
        alone = f"{cluster.dir}/alone.conf"
        shutil.copy(cluster.config, alone)
        command = cluster.members[1].command
        command[command.index(cluster.config)] = alone
        cluster.members[1].stop()
        cluster.members[1].start()
        add(cluster, 2)
        add(cluster, 3)
        assert cluster.wait_leader() == 1
        _, path = cluster.add_bridge("all")
        with Counting(path) as load:
            cluster.members[1].stop()
            load.wait_progress()
        assert "hands leadership over" in cluster.members[1].log_since_start()
        cluster.members[1].start()
        cluster.wait_agreement()


def test_a_member_removed_while_it_was_away(env):
    """It comes back, hears that it was removed, says so and ends with status 69, every time."""
    with Cluster(env, n_members=4) as cluster:
        cluster.wait_voters([1, 2, 3, 4])
        victim = cluster.followers(cluster.wait_leader())[-1]
        cluster.members[victim].stop()
        done(cluster.raftctl("member", "remove", victim))
        fill(cluster, 100)
        for _ in range(2):
            cluster.members[victim].start(wait=False)
            cluster.members[victim].wait_exit(EXIT_REMOVED)
            assert "was removed from the cluster" in cluster.members[victim].log_since_start()
        cluster.forget_member(victim)
        cluster.wait_agreement()


def test_impossible_changes_are_refused(env):
    """A used id, an unknown one, a voter to be promoted, the last voter to be removed: refused, with words."""
    with Cluster(env, n_members=3) as cluster:
        cluster.wait_voters([1, 2, 3])
        endpoints = cluster.make_endpoints([9])[9]
        refused(cluster.raftctl("member", "add", 2, *endpoints), "impossible: add names a new id")
        refused(cluster.raftctl("member", "remove", 9), "impossible")
        refused(cluster.raftctl("member", "promote", 1), "impossible")
        assert cluster.raftctl("member", "add", 9, "tcp://nowhere", endpoints[1]).returncode == 2
        for k in list(cluster.ids)[:2]:
            remove(cluster, k)
        refused(cluster.raftctl("member", "remove", 3), "the last voter stays")
        with cluster.connect() as client:
            words_ok(client.ask("put", b"alone", b"1"))


def test_two_changes_at_once(env):
    """While one change is not committed another is refused; it is committed when the members answer again."""
    settings = {"election_timeout_min_ms": 4000, "election_timeout_max_ms": 5000}  # the leader stays when it is alone
    with Cluster(env, n_members=3, raft=settings) as cluster:
        cluster.wait_voters([1, 2, 3])
        for k in (2, 3):
            cluster.members[k].pause()
        command = cluster.raftctl_command("--timeout", 20000, "member", "add", 9, *cluster.make_endpoints([9])[9])
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as first:
            wait_for(lambda: not (cluster.membership() or {}).get("committed", True), 5, "the first change")
            refused(cluster.raftctl("member", "remove", 2), "another change of the membership is not committed yet")
            for k in (2, 3):
                cluster.members[k].resume()
            output = first.communicate(timeout=20)
            assert first.returncode == 0 and output[0].startswith(b"OK "), output
        done(cluster.raftctl("member", "remove", 9))


def test_a_bridge_follows_when_all_members_are_replaced(env):
    """A bridge whose file names only the first three keeps serving when all of them were replaced, one by one."""
    with Cluster(env, n_members=3) as cluster:
        old = cluster.ids[:]
        _, path = cluster.add_bridge("old", old)
        pairs = fill(cluster, 200, path=path)
        with Counting(path) as load:
            for k in old:
                add(cluster, k + 3)
                load.wait_progress()
                remove(cluster, k)
                load.wait_progress()
        verify(cluster, pairs, path)
        cluster.wait_voters([4, 5, 6])
        cluster.wait_agreement()
        env.note(f"{load.requests()} requests, the longest {load.longest() * 1000:.0f} ms")


# Snapshots


def directory_bytes(path):
    return sum(entry.stat().st_blocks * 512 for entry in os.scandir(path))


def newest_snapshot(cluster, k):
    """The name of the member's newest snapshot, which has the index in it; empty if there is none."""
    return max((n for n in os.listdir(cluster.data(k)) if re.fullmatch("snapshot-[0-9a-f]{16}", n)), default="")


def test_snapshots_bound_the_directory_and_reach_a_wiped_member(env):
    """With a snapshot after little log: directories stay bounded, a wiped member gets one, a restart loses nothing."""
    settings = {"snapshot_log_size": "64KiB", "snapshot_log_percent": 50, "segment_size": "4MiB"}
    with Cluster(env, n_members=3, raft=settings) as cluster:
        cluster.wait_voters([1, 2, 3])
        sizes = []
        for _ in range(8):
            before = {k: newest_snapshot(cluster, k) for k in cluster.ids}
            pairs = fill(cluster, 2000, size=1000)
            for k in cluster.ids:
                wait_for(lambda k=k, old=before[k]: newest_snapshot(cluster, k) > old, 20, f"a snapshot of member {k}")
            sizes.append(max(directory_bytes(cluster.data(k)) for k in cluster.ids))
        # Two snapshots of 2 MiB, the log since the older of them, spare segments.
        assert sizes[-1] <= 24 << 20, f"the directories grow: {sizes}"
        assert all(member["first"] > 6000 for member in cluster.status()["members"]), "the log was not compacted"
        victim = cluster.followers(cluster.wait_leader())[0]
        old = cluster.wait_voters([1, 2, 3])[victim]
        cluster.members[victim].kill()
        cluster.wipe(victim)
        cluster.members[victim].start()
        wait_for(lambda: (cluster.voters() or {}).get(victim, old) != old, 30, "the wiped member to vote again")
        assert "installs the snapshot" in cluster.members[victim].log_since_start()
        cluster.wait_agreement()
        for k in cluster.ids:
            cluster.members[k].kill()
        for k in cluster.ids:
            cluster.members[k].start()
        cluster.wait_leader()
        verify(cluster, pairs)
        cluster.wait_agreement()
        assert len({cluster.dump(k) for k in cluster.ids}) == 1
        env.note(f"largest directory {max(sizes) >> 20} MiB")
