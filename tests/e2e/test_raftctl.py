"""The operator's tool on a live cluster and on what a stopped member left."""

import os
import subprocess
import tempfile

from cluster import Cluster, wait_for, words_ok, words_value
from kvclient import quote, split

NOT_FOUND = 1
USAGE = 2
UNREACHABLE = 3
FAILED = 4


def test_status_says_who_leads_and_who_is_missing(env):
    """status --json has what scripts need, for running and for missing members; the table names the leader."""
    with Cluster(env, n_members=3) as cluster:
        leader = cluster.wait_leader()
        cluster.wait_agreement()
        status = cluster.status()
        assert status["cluster"] == cluster.name and status["leader"] == leader and status["term"] > 0
        assert [member["id"] for member in status["members"]] == cluster.ids
        for member in status["members"]:
            assert member["reachable"] is True and member["pid"] == cluster.members[member["id"]].pid
            assert member["role"] == ("leader" if member["id"] == leader else "follower")
            for field in ("term", "commit", "applied", "last", "state_hash", "rss_bytes"):
                assert field in member, f"no {field} in {member}"
        table = cluster.raftctl("status")
        assert table.returncode == 0 and f"leader {leader}".encode() in table.stdout, f"{table}"
        victim = cluster.followers(leader)[0]
        cluster.members[victim].kill()
        status = cluster.status()
        assert status["leader"] == leader
        assert {member["id"]: member["reachable"] for member in status["members"]}[victim] is False
        cluster.members[victim].start()


def test_get_put_delete_for_scripts(env):
    """get, put and delete with exit codes that a script can use."""
    with Cluster(env, n_members=3) as cluster:
        assert cluster.raftctl("get", "k").returncode == NOT_FOUND
        assert cluster.raftctl("put", "k", "a value").returncode == 0
        result = cluster.raftctl("get", "k")
        assert result.returncode == 0 and result.stdout.rstrip(b"\n") == b"a value", f"{result}"
        with cluster.connect() as client:
            assert words_value(client.ask("get", b"k"))[1] == b"a value"
        assert cluster.raftctl("delete", "k").returncode == 0
        assert cluster.raftctl("delete", "k").returncode == NOT_FOUND
        assert cluster.raftctl("frobnicate").returncode == USAGE
        assert cluster.raftctl("put", "k").returncode == USAGE
        for member in cluster.members.values():
            member.kill()
        result = cluster.raftctl("--timeout", "1000", "get", "k")
        assert result.returncode == UNREACHABLE, f"{result}"


def test_transfer_moves_the_leadership(env):
    """transfer N makes N the leader; clients see nothing of it."""
    with Cluster(env) as cluster, cluster.connect() as client:
        for _ in range(4):
            leader = cluster.wait_leader()
            target = cluster.followers(leader)[0]
            words_ok(client.ask("put", b"k", b"%d" % target))
            result = cluster.raftctl("transfer", target)
            assert result.returncode == 0, f"{result}"
            wait_for(lambda wanted=target: cluster.leader() == wanted, 5, f"member {target} to lead")
            words_ok(client.ask("put", b"k", b"%d" % target))
        assert cluster.raftctl("transfer", "77").returncode not in (0, -6, -11)


def test_dump_is_ordered_and_can_be_pasted_back(env):
    """dump prints put lines in key order; sent to a bridge as they are, they make the same store again."""
    pairs = {b"b": b"2", b"a a": b"1 1", b"c\n": b"\x00\xff", "ключ".encode(): "значение".encode(), b"empty": b""}
    with Cluster(env, n_members=3) as cluster, cluster.connect() as client:
        for key, value in pairs.items():
            words_ok(client.ask("put", key, value))
        cluster.wait_agreement()
        dump = cluster.dump(1)
        assert dump == cluster.dump(2) == cluster.dump(3)
        assert [split(line)[1:] for line in dump.splitlines()] == [[key, pairs[key]] for key in sorted(pairs)]
        assert dump.splitlines()[0] == b"put " + quote(b"a a") + b" " + quote(b"1 1")
        with Cluster(env, n_members=1, name="other") as other, other.connect() as copy:
            copy.send(dump)
            for _ in pairs:
                words_ok(copy.receive())
            assert other.dump(1) == dump


def test_log_of_a_running_and_of_a_stopped_member(env):
    """log tells each entry in words, the same from a running member and from a stopped member's directory."""
    with Cluster(env, n_members=3) as cluster, cluster.connect() as client:
        revision = words_ok(client.ask("put", b"first key", b"value"))
        words_ok(client.ask("delete", b"first key"))
        cluster.wait_agreement()
        live = cluster.raftctl("log", "--id", "2")
        assert live.returncode == 0, f"{live}"
        lines = live.stdout.splitlines()
        entry = next(line for line in lines if line.startswith(b"%d " % revision))
        assert b" put " in entry and quote(b"first key") in entry, f"{entry!r}"
        assert any(b" delete " in line for line in lines), f"{lines}"
        cluster.members[2].stop()
        stopped = cluster.raftctl("log", "--data", f"{cluster.dir}/data/2")
        assert stopped.returncode == 0, f"{stopped}"
        assert stopped.stdout.splitlines()[: len(lines)] == lines
        cluster.members[2].start()


def test_init_writes_a_configuration(env):
    """init writes what raftd accepts: N members here or one on each host; never over a file without --force, never a wrong one."""
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/raft.conf"

        def init(*arguments):
            command = [f"{env.bin}/raftctl", "--config", path, "init", *arguments]
            return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)

        def lines():
            check = [f"{env.bin}/raftd", "--check-config", "--config", path]
            result = subprocess.run(check, capture_output=True, text=True, timeout=20, check=False)
            assert result.returncode == 0, f"{result}"
            with open(path, encoding="utf-8") as file:
                return file.read().splitlines()

        result = init("--name", "shop", "3")
        assert result.returncode == 0 and "raft@{1..3}" in result.stdout, f"{result}"
        written = lines()
        assert "name = shop" in written and sum(line.startswith("[member ") for line in written) == 3
        assert init("5").returncode == FAILED and lines() == written, "an existing file stays"
        result = init("--force", "a.example", "10.0.0.2", "fd00::3")
        assert result.returncode == 0 and "10.0.0.2:  systemctl enable --now raft@2" in result.stdout, f"{result}"
        written = lines()
        for line in ("peer = tcp://a.example:7401", "client = tcp://10.0.0.2:7502", "peer = tcp://[fd00::3]:7403"):
            assert line in written, f"no {line}"
        for wrong in (["16"], ["0"], [], ["--name", "two words", "3"], ["a b"], ["--json", "3"]):
            assert init("--force", *wrong).returncode == USAGE and lines() == written, f"{wrong}"
        assert os.listdir(directory) == ["raft.conf"]
