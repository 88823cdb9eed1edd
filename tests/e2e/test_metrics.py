"""What members tell a monitoring system: names and figures, health, and that no client of it disturbs the cluster."""

import os
import re
import subprocess
import time

import zmtp
from cluster import Cluster, free_ports, wait_for, words_ok
from scrape import Metrics, dial, get

NEGATIVE = 1
USAGE = 2
UNREACHABLE = 3
EXIT_IO = 74
EXIT_CONFIG = 78
TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SOCKETS = {"metrics_listen": "{dir}/%i.metrics"}
QUEUES = (("raftkv_queue_items", "raftkv_queue_limit_items"), ("raftkv_queue_bytes", "raftkv_queue_limit_bytes"))


def where(cluster, k):
    return f"{cluster.dir}/{k}.metrics"


def documented(section):
    """{name: (type, meaning)} of one section of the table in the README."""
    with open(f"{TOP}/daemon/metrics/README.md", encoding="utf-8") as file:
        text = file.read().split(f"\n## {section}\n")[1].split("\n## ")[0]
    return {name: (kind, meaning) for name, kind, meaning in re.findall(r"\| `(\w+)` \| (\w+) \| (.*) \|", text)}


def check_names(env, metrics):
    """Prometheus' own tool has nothing to say against them."""
    result = subprocess.run(
        [f"{TOP}/tests/promtool", f"{TOP}/build/promtool", "check", "metrics"],
        input=metrics.text.encode(),
        capture_output=True,
        timeout=300,
        check=False,
    )
    if result.returncode == 77:
        env.note("no promtool")
        return
    assert result.returncode == 0 and not result.stdout + result.stderr, f"promtool: {result}"


def check_histogram(metrics, name):
    """Buckets grow up to the count."""
    buckets = [value for labels, value in metrics.family(name + "_bucket").items()]
    assert buckets == sorted(buckets) and buckets[-1] == metrics.value(name + "_count"), f"{buckets}"


def test_every_metric_is_documented_and_named_by_the_rules(env):
    """The table of daemon/metrics/README.md and /metrics of leader and follower are the same; promtool agrees."""
    with Cluster(env, n_members=3, raft=SOCKETS) as cluster:
        leader = cluster.wait_leader()
        table = documented("raftd")
        metrics = Metrics(where(cluster, leader))
        check_names(env, metrics)
        assert {name: (metrics.types[name], metrics.helps[name]) for name in metrics.types} == table
        follower = Metrics(where(cluster, cluster.followers(leader)[0]))
        check_names(env, follower)
        assert set(follower.types) < set(table), "a follower shows what only a leader knows"
        for name, kind in metrics.types.items():
            assert re.match("raftkv_|process_", name), name
            assert name.endswith("_total") == (kind == "counter"), name


def test_figures_follow_what_happens(env):
    """Writes, reads, elections, a dead peer: each shows where it should, and every queue shows its bound."""
    with Cluster(env, n_members=3, raft=SOCKETS) as cluster, cluster.connect() as client:
        leader = cluster.wait_leader()
        for number in range(50):
            words_ok(client.ask("put", b"k%d" % number, b"v"))
            client.ask("get", b"k%d" % number)
        cluster.wait_agreement()
        metrics = Metrics(where(cluster, leader))
        status = cluster.member_status()[leader]
        assert metrics.value("raftkv_is_leader") == metrics.value("raftkv_has_leader") == 1
        assert metrics.value("raftkv_leader") == leader and metrics.value("raftkv_role", role="leader") == 1
        assert metrics.value("raftkv_term") == status["term"]
        assert metrics.value("raftkv_commit_index") == metrics.value("raftkv_applied_index") == status["applied"]
        assert metrics.value("raftkv_proposals_total", outcome="applied") >= 50
        assert metrics.value("raftkv_reads_total", outcome="answered") >= 50
        assert metrics.value("raftkv_keys") == 50 and metrics.value("raftkv_voters") == 3
        assert metrics.value("raftkv_sync_duration_seconds_count") > 0
        check_histogram(metrics, "raftkv_sync_duration_seconds")
        check_histogram(metrics, "raftkv_loop_turn_duration_seconds")
        for depths, limits in QUEUES:
            for labels, depth in metrics.family(depths).items():
                assert depth <= metrics.family(limits)[labels], f"{depths}{labels}"
            assert metrics.family(depths).keys() == metrics.family(limits).keys()
        victim = cluster.followers(leader)[0]
        cluster.members[victim].kill()

        def noticed():
            words_ok(client.ask("put", b"more", b"v"))
            now = Metrics(where(cluster, leader))
            return (
                now.value("raftkv_peer_connected", peer=victim) == 0
                and now.value("raftkv_peer_lag_entries", peer=victim) > 0
                and now.value("raftkv_peer_dropped_messages_total", peer=victim, reason="unconnected") > 0
                and now.value("raftkv_peer_silence_seconds", peer=victim) > 0
            )

        wait_for(noticed, 15, f"the leader to show that member {victim} is gone")
        cluster.members[victim].start()


def test_refused_frames_and_suppressed_lines_are_counted(env):
    """Fifty frames that nobody understands: fifty in the metrics, some lines in the journal, the rest counted."""
    with Cluster(env, n_members=1, raft=SOCKETS) as cluster:
        cluster.wait_leader()
        with zmtp.connect(cluster.endpoints[1][1]) as connection:
            zmtp.shake_hands(connection)
            connection.sendall(zmtp.message(b"nonsense") * 50)
            wait_for(
                lambda: Metrics(where(cluster, 1)).value("raftkv_client_refused_frames_total") == 50,
                10,
                "all frames to be refused",
                interval=0.11,
            )
        metrics = Metrics(where(cluster, 1))
        lines = cluster.members[1].log_since_start().count("refused a client's frame")
        assert 0 < lines < 50
        assert metrics.value("raftkv_journal_suppressed_lines_total") == 50 - lines
        assert metrics.value("raftkv_journal_lines_total") > lines


def test_the_bridge_tells_what_its_clients_do(env):
    """Names by the table and by promtool; requests, connections, bounds; ready only while a leader can be reached; bad
    clients of its metrics hold up nobody."""
    with Cluster(env, n_members=3, bridge={"metrics_listen": "{dir}/bridge.metrics"}) as cluster:
        with cluster.connect() as client, cluster.connect() as second:
            place = f"{cluster.dir}/bridge.metrics"
            for number in range(20):
                words_ok(client.ask("put", b"k%d" % number, b"v"))
                second.ask("get", b"k%d" % number)
            metrics = Metrics(place)
            check_names(env, metrics)
            check_histogram(metrics, "raftkv_bridge_loop_turn_duration_seconds")
            assert {name: (metrics.types[name], metrics.helps[name]) for name in metrics.types} == documented("raft-bridge")
            assert metrics.value("raftkv_bridge_connections") == 2
            assert metrics.value("raftkv_bridge_requests_total", kind="write") == 20
            assert metrics.value("raftkv_bridge_requests_total", kind="read") >= 20
            assert metrics.value("raftkv_bridge_leader") == cluster.leader()
            assert all(metrics.value("raftkv_bridge_member_connected", member=k) == 1 for k in cluster.ids)
            for unit in ("items", "bytes"):
                depths = metrics.family(f"raftkv_bridge_queue_{unit}")
                limits = metrics.family(f"raftkv_bridge_queue_limit_{unit}")
                assert depths.keys() == limits.keys() and all(depths[key] <= limits[key] for key in depths)
            crowd = [dial(place) for _ in range(20)]
            for number in range(50):
                words_ok(client.ask("put", b"k", b"%d" % number))
            assert get(place, "/healthz", timeout=30)[0] == 200
            for connection in crowd:
                connection.close()
            assert get(place, "/readyz") == (200, "[+]loop: turns\n[+]clients: served\n[+]leader: known\nok\n")
            for k in (1, 2):
                cluster.members[k].kill()
            wait_for(lambda: get(place, "/readyz")[0] == 503, 15, "the bridge to know no leader")
            assert "[-]leader: none can be reached" in get(place, "/readyz")[1]
            assert get(place, "/healthz")[0] == 200
            for k in (1, 2):
                cluster.members[k].start()
            wait_for(lambda: get(place, "/readyz")[0] == 200, 15, "the bridge to be ready again")


def test_health_says_which_check_fails(env):
    """With the quorum gone members are live and not ready; raftctl health says the same by its exit code."""
    with Cluster(env, n_members=3, raft=SOCKETS) as cluster:
        cluster.wait_leader()
        wait_for(lambda: get(where(cluster, 1), "/readyz")[0] == 200, 10, "member 1 to be ready")
        wait_for(lambda: cluster.raftctl("health").returncode == 0, 10, "all members to be ready")
        for k in (2, 3):
            cluster.members[k].kill()
        wait_for(lambda: get(where(cluster, 1), "/readyz")[0] == 503, 15, "member 1 to know no leader")
        body = get(where(cluster, 1), "/readyz")[1]
        assert "[-]leader: none is known\n" in body and "[+]disk: answers\n" in body and body.endswith("failed\n")
        status, body = get(where(cluster, 1), "/healthz")
        assert status == 200 and body.endswith("ok\n") and "leader:" not in body, body
        assert cluster.raftctl("health", "--id", "1", "--live").returncode == 0
        ready = cluster.raftctl("health", "--id", "1")
        assert ready.returncode == NEGATIVE and b"[-]leader: none is known" in ready.stdout, f"{ready}"
        assert cluster.raftctl("health", "--live").returncode == NEGATIVE, "two of three are dead"
        assert cluster.raftctl("health", "--id", "2").returncode == UNREACHABLE
        assert cluster.raftctl("health", "--live", "--ready").returncode == USAGE
        assert b"member 1 is not ready: leader" in cluster.raftctl("status").stdout
        for k in (2, 3):
            cluster.members[k].start()
        wait_for(lambda: cluster.raftctl("health", "--json").returncode == 0, 15, "all members to be ready again")


def test_a_full_disk_raises_an_alarm_until_there_is_room(env):
    """The disk of the only member fills: writes are refused by name, status and metrics say why. It grows: all is well again."""
    cluster = Cluster(env, n_members=1, raft=SOCKETS | {"segment_size": "4MiB", "snapshot_log_size": "1GiB"})
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "raft-e2e", cluster.data(1)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        env.note("cannot mount a small disk")
        cluster.remove()
        return
    try:
        with cluster, cluster.connect() as client:
            fill_the_disk(cluster, client)
    finally:
        subprocess.run(["umount", "--lazy", cluster.data(1)], check=True)
        cluster.remove()


def fill_the_disk(cluster, client):
    value = b"v" * 500_000
    refused = next(words for words in (client.ask("put", b"k", value) for _ in range(100)) if words[0] == b"ERR")
    assert refused[1] == b"disk_full", f"{refused}"
    assert cluster.member_status()[1]["alarms"] == ["disk_full"]
    assert b"member 1: ALARM disk_full" in cluster.raftctl("status").stdout
    metrics = Metrics(where(cluster, 1))
    assert metrics.value("raftkv_disk_full") == 1
    assert metrics.value("raftkv_proposals_total", outcome="disk_full") > 0
    subprocess.run(["mount", "-o", "remount,size=128m", cluster.data(1)], check=True)
    wait_for(lambda: cluster.member_status()[1]["alarms"] == [], 15, "the alarm to end")
    words_ok(client.ask("put", b"k", value))
    assert Metrics(where(cluster, 1)).value("raftkv_disk_full") == 0


def test_a_crowd_of_bad_clients_disturbs_nobody(env):
    """Silent, slow, rude and many clients of /metrics on every member: no leader changes, no request fails, and a good
    client is still served."""
    # Patient enough for a machine that does other things: only a loop that stands still for seconds loses its leader.
    patient = {"election_timeout_min_ms": 2000, "election_timeout_max_ms": 4000}
    with Cluster(env, n_members=3, raft=SOCKETS | patient) as cluster, cluster.connect() as client:
        cluster.wait_leader()
        cluster.wait_agreement()
        term = cluster.status()["term"]
        crowd = []
        for k in cluster.ids:
            for bytes_sent in (b"", b"GET /metrics", b"GET /metrics HTTP/1.1\r\nX: ", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n"):
                for _ in range(4):
                    connection = dial(where(cluster, k))
                    connection.sendall(bytes_sent)
                    crowd.append(connection)
        for number in range(300):
            words_ok(client.ask("put", b"k", b"%d" % number))
        for k in cluster.ids:
            assert get(where(cluster, k), "/healthz", timeout=30)[0] == 200
            for _ in range(100):
                assert get(where(cluster, k), "/metrics", timeout=30)[0] == 200
        for connection in crowd:
            connection.close()
        assert cluster.status()["term"] == term, "the leader changed"
        name = "raftkv_metrics_longest_render_seconds"  # in the next rendering
        slowest = wait_for(lambda: Metrics(where(cluster, 1)).value(name), 5, "a second rendering")
        env.note(f"longest rendering {slowest * 1e6:.0f} us")


def test_an_address_for_each_member_and_nothing_by_default(env):
    """tcp with %i; a place that is taken stops the start and says so; without metrics_listen nothing listens."""
    with Cluster(env, n_members=2) as cluster:
        cluster.wait_leader()
        assert not [name for name in os.listdir(cluster.dir) if "metrics" in name]
        port = next(p for p in free_ports(200) if p % 10 == 1 and p + 1 < 30000)
        cluster.settings["raft"]["metrics_listen"] = f"tcp://127.0.0.1:{port // 10}%i"
        cluster.write_config()
        for k in cluster.ids:
            cluster.members[k].stop()
        for k in cluster.ids:
            cluster.members[k].start(wait=False)
        for k in cluster.ids:
            cluster.members[k].wait_ready()
            assert Metrics(("127.0.0.1", port - 1 + k)).value("raftkv_member_info", member=k, cluster="e2e") == 1
        cluster.members[1].stop()
        cluster.settings["raft"]["metrics_listen"] = f"tcp://127.0.0.1:{port + 1}"
        cluster.write_config()
        cluster.members[1].start(wait=False)
        cluster.members[1].wait_exit(EXIT_IO)
        assert f"cannot serve metrics at 127.0.0.1, port {port + 1}" in cluster.members[1].log_since_start()
        cluster.settings["raft"]["metrics_listen"] = f"tcp://0.0.0.0:{port}"
        cluster.write_config()
        cluster.members[1].start(wait=False)
        cluster.members[1].wait_exit(EXIT_CONFIG)
        assert "open-to-network" in cluster.members[1].log_since_start()
        del cluster.settings["raft"]["metrics_listen"]
        cluster.write_config()
        cluster.members[1].start()


def wakeups(pid):
    """How often the main thread has gone to sleep."""
    with open(f"/proc/{pid}/task/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("voluntary_ctxt_switches:"))


def test_metrics_cost_nothing_while_nobody_asks(env):
    """An idle member alone in its cluster sleeps although it serves metrics, also after it was asked."""
    with Cluster(env, n_members=1, raft=SOCKETS) as cluster:
        cluster.wait_leader()
        cluster.bridge.stop()
        Metrics(where(cluster, 1))
        rendered = time.monotonic()
        wait_for(lambda: time.monotonic() - rendered > 0.5, 5, "the answer to be forgotten")
        first = wakeups(cluster.members[1].pid)
        begin = time.monotonic()
        wait_for(lambda: time.monotonic() - begin > 2, 5, "two seconds to pass")
        count = wakeups(cluster.members[1].pid) - first
        env.note(f"{count} wakeups in 2 s")
        assert count < 20, f"{count} wakeups in two seconds without work"
