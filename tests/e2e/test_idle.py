"""A cluster that nobody uses should not be noticed."""

import time

from cluster import Cluster, cpu_seconds, wait_for, words_ok

RSS_MAX = 10 * 1024 * 1024
MEASURE_S = 3.0
TRIES = 3


def measure(cluster):
    """(share of one core that all processes used, whether somebody was elected) over some seconds."""
    elections = sum(member["elections"] for member in cluster.status()["members"])
    before = [cpu_seconds(process.pid) for process in cluster.processes]
    began = time.monotonic()
    wait_for(lambda: time.monotonic() - began >= MEASURE_S, MEASURE_S + 5, "the measured time", interval=0.2)
    took = time.monotonic() - began
    used = sum(cpu_seconds(process.pid) - start for process, start in zip(cluster.processes, before))
    return used / took, sum(member["elections"] for member in cluster.status()["members"]) > elections


def test_idle_cluster_is_small_and_quiet(env):
    """An idle member with an empty store has less than 10 MiB of RSS; idle members use little processor time."""
    with Cluster(env) as cluster:
        cluster.wait_agreement()
        for attempt in range(1, TRIES + 1):
            share, elections = measure(cluster)
            if not elections:
                break
        rss = {process.name: process.rss() for process in cluster.processes}
        env.note(f"largest {max(rss.values()) / 1048576:.1f} MiB, processor {share * 100:.1f} % of one core")
        assert not elections, f"an idle cluster held elections in each of {TRIES} times {MEASURE_S} s"
        if attempt > 1:
            env.note(f"{attempt - 1} times elections, as on a machine that is busy with something else")
        too_big = {name: size for name, size in rss.items() if size >= RSS_MAX}
        assert not too_big or env.sanitized(cluster.bin), f"10 MiB or more: {too_big}"
        assert share < 0.10, f"{share * 100:.1f} % of one core for nothing"


def test_members_report_their_own_memory(env):
    """rss_bytes and pid of the status are those of the process."""
    with Cluster(env, n_members=3) as cluster:
        with cluster.connect() as client:
            words_ok(client.ask("put", b"k", b"v"))
        for k, member in cluster.member_status().items():
            process = cluster.members[k]
            assert member["pid"] == process.pid
            assert abs(member["rss_bytes"] - process.rss()) < 2 * 1048576, f"member {k}: {member['rss_bytes']}"
