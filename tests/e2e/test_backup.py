"""Whole states: dumps while clients write, backups and what becomes of them, directories checked and recovered."""

import os
import re
import shutil
import threading

from cluster import Cluster, wait_for, words_ok
from load import Counting
from test_membership import Unstarted, done, fill, refused, verify


class Pairs(threading.Thread):
    """Writes the same number under two keys, the last and the first, one after the other: in every state they are equal
    or one apart, and in two states mixed they are not."""

    def __init__(self, cluster):
        super().__init__()
        self.cluster = cluster
        self.stopping = threading.Event()
        self.failure = None
        self.number = 0

    def __enter__(self):
        self.start()
        wait_for(lambda: self.number > 10 or self.failure, 20, "pairs to be written")
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.join()
        if self.failure:
            raise self.failure

    def run(self):
        try:
            with self.cluster.connect() as client:
                while not self.stopping.is_set():
                    self.number += 1
                    for key in (b"zz-last", b"aa-first"):
                        words_ok(client.ask("put", key, b"%d" % self.number))
        except Exception as error:  # handed to the test, which raises it
            self.failure = error

    @staticmethod
    def check(dump):
        """What a dump says of the two keys is one state."""
        lines = dict(line.split(b" ")[1:3] for line in dump.splitlines() if line.startswith((b"put aa-", b"put zz-")))
        first, last = int(lines[b"aa-first"]), int(lines[b"zz-last"])
        assert last - first in (0, 1), f"a mixture of states: the first key has {first}, the last {last}"


def test_dump_of_a_large_store_is_one_state(env):
    """A dump of many pages ends while clients write as fast as they can, and is of one state."""
    with Cluster(env, n_members=3) as cluster:
        pairs = fill(cluster, 20000, size=1000)
        with Pairs(cluster) as writer, Counting(cluster.socket):
            for k in cluster.ids:
                before = writer.number
                dump = cluster.dump(k)
                assert writer.number > before, "nothing was written meanwhile"
                Pairs.check(dump)
                lines = dump.splitlines()
                assert sum(line.startswith(b"put fill-") for line in lines) == len(pairs)
        env.note(f"{len(dump) >> 20} MiB")


# Backups


def dump_lines(cluster, k):
    """The lines of a dump with revisions: the whole visible state."""
    result = cluster.raftctl("dump", "--id", k, "--revisions", timeout=120)
    assert result.returncode == 0, result
    return result.stdout.splitlines()


def revision_of(words):
    """Of what backup, restore print: OK revision N, …"""
    assert words[:2] == [b"OK", b"revision"], words
    return int(words[2].rstrip(b","))


class Restored(Unstarted):
    """A new cluster whose first member has the state of a backup."""

    def __init__(self, env, n_members, file, name="e2e"):
        super().__init__(env, n_members=n_members, name=name)
        self.words = done(self.raftctl("restore", "--data", self.data(1), file))

    def start(self):
        for k in self.ids:
            self.members[k].start()
        self.bridge.start()
        self.wait_leader()
        self.wait_voters(self.ids)


def test_backup_under_load_is_restored_into_clusters_of_any_size(env):
    """Five members, a backup under load, restored into one and into three: each has the backup's state, and goes on."""
    with Cluster(env, n_members=5) as cluster:
        file = f"{cluster.dir}/backup"
        fill(cluster, 20000, size=400)
        with Pairs(cluster) as writer:
            before = writer.number
            words = done(cluster.raftctl("backup", file))
            after = writer.number
        revision = revision_of(words)
        assert int(words[3]) == os.path.getsize(file)
        refused(cluster.raftctl("backup", file), "exists; --force replaces it")
        shutil.copy(file, file + ".old")
        done(cluster.raftctl("backup", "--force", file + ".old"))
        dumps = []
        for size, name in ((1, "e2e"), (3, "another-name")):
            with Restored(env, size, file, name) as restored:
                assert revision_of(restored.words) == revision
                members = restored.wait_agreement()
                lines = dump_lines(restored, 1)
                assert all(dump_lines(restored, k) == lines for k in restored.ids)
                dumps.append(lines)
                assert max(int(line.split(b" ", 1)[0]) for line in lines) <= revision
                plain = restored.dump(1)
                Pairs.check(plain)
                number = int([line for line in plain.splitlines() if line.startswith(b"put aa-")][0].split(b" ")[2])
                assert before - 1 <= number <= after
                with restored.connect() as client:
                    assert words_ok(client.ask("put", b"new", b"1")) > revision
                assert len(members) == size
        assert dumps[0] == dumps[1] and len(dumps[0]) == 20002
        env.note(f"{os.path.getsize(file) >> 20} MiB")


def test_backup_of_a_still_store_equals_it(env):
    """Nothing is written: the restored cluster dumps exactly what the old one did, revisions included."""
    with Cluster(env, n_members=3) as cluster:
        fill(cluster, 500)
        cluster.wait_agreement()
        file = f"{cluster.dir}/backup"
        done(cluster.raftctl("backup", "--id", 2, file))
        with Restored(env, 3, file) as restored:
            assert dump_lines(restored, 3) == dump_lines(cluster, 1)


def test_bad_backups_are_refused(env):
    """Damaged, cut, foreign files, a directory that is not empty or in use: refused, and nothing is written."""
    with Cluster(env, n_members=1) as cluster:
        file = f"{cluster.dir}/backup"
        refused(cluster.raftctl("backup", file), "the store is empty")
        fill(cluster, 500)
        refused(cluster.raftctl("backup", f"{cluster.dir}/missing/backup"), "cannot create")
        done(cluster.raftctl("backup", file))
        good = open(file, "rb").read()
        empty = f"{cluster.dir}/empty"
        os.mkdir(empty)

        def attempt(data, text, directory=empty):
            with open(f"{cluster.dir}/bad", "wb") as bad:
                bad.write(data)
            refused(cluster.raftctl("restore", "--id", 1, "--data", directory, f"{cluster.dir}/bad"), text)

        for at in (5, 20, 40, 60, 64, 100, len(good) // 2, len(good) - 1):
            attempt(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :], "is")
        attempt(good[:40], "too short")
        attempt(good[:-1], "too short")
        attempt(good + b"x", "is damaged")
        attempt(b"x" * 1000, "not a backup")
        assert os.listdir(empty) == []
        cluster.new_member(2)
        with open(f"{cluster.dir}/bad", "wb") as copy:
            copy.write(good)
        result = cluster.raftctl("restore", "--id", 2, "--data", empty, f"{cluster.dir}/bad")
        refused(result, "member 1 at")
        assert os.listdir(empty) == []
        cluster.forget_member(2)
        attempt(good, "is in use by a running member", cluster.data(1))
        cluster.members[1].stop()
        attempt(good, "is not empty", cluster.data(1))


# Directories


def snapshots(cluster, k):
    """The complete ones in the member's directory."""
    return [name for name in os.listdir(cluster.data(k)) if re.fullmatch("snapshot-[0-9a-f]{16}", name)]


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def test_check_finds_a_flipped_bit(env):
    """A stopped member's directory is fine; one flipped bit in its log, or in a snapshot, is found and named."""
    with Cluster(env, n_members=1) as cluster:
        fill(cluster, 2000)
        done(cluster.raftctl("snapshot", "--id", 1))
        wait_for(lambda: snapshots(cluster, 1), 20, "a snapshot")
        refused(cluster.raftctl("check", "--data", cluster.data(1)), "in use by a running member")
        cluster.members[1].stop()
        good = cluster.raftctl("check", "--data", cluster.data(1))
        assert good.returncode == 0 and b"nothing is damaged" in good.stdout, good
        for name in os.listdir(cluster.data(1)):
            if not name.startswith(("snapshot-", "segment-")):
                continue
            copy = f"{cluster.dir}/copy"
            shutil.copytree(cluster.data(1), copy)
            flip(f"{copy}/{name}", 6000)
            bad = cluster.raftctl("check", "--data", copy)
            assert bad.returncode == 1 and f"DAMAGED {name}".encode() in bad.stdout, bad
            shutil.rmtree(copy)


def test_verify_compares_all_members_under_load(env):
    """verify ends while clients write, and says who cannot be reached."""
    with Cluster(env, n_members=3) as cluster:
        fill(cluster, 5000)
        with Counting(cluster.socket):
            for _ in range(3):
                result = cluster.raftctl("verify")
                assert result.returncode == 0 and b"all 3 copies are the same" in result.stdout, result
        cluster.members[3].kill()
        missing = cluster.raftctl("verify")
        assert missing.returncode == 3 and b"member 3 cannot be reached" in missing.stderr, missing
        cluster.members[3].start()
        done(cluster.raftctl("snapshot", "--id", 3))
        wait_for(lambda: snapshots(cluster, 3), 20, "a snapshot")
        cluster.members[3].kill()
        cluster.members[3].start()  # begins in the middle of the entries
        with Counting(cluster.socket):
            done(cluster.raftctl("verify"))


def test_recover_makes_a_cluster_of_one(env):
    """Two of three are lost: the third becomes a cluster of one with everything, and grows to three again."""
    with Cluster(env, n_members=3) as cluster:
        pairs = fill(cluster, 2000)
        survivor = cluster.wait_leader()
        done(cluster.raftctl("snapshot", "--id", survivor))
        pairs |= fill(cluster, 500, prefix=b"more")
        cluster.wait_agreement()
        old = cluster.wait_voters([1, 2, 3])[survivor]
        data = cluster.data(survivor)
        cluster.members[survivor].kill()
        refused(cluster.raftctl("recover", "--data", data, "--yes"), "runs and belongs to cluster e2e")
        for k in cluster.ids:
            if k != survivor:
                cluster.members[k].kill()
        before = sorted(os.listdir(data))
        unsure = cluster.raftctl("recover", "--data", data)
        assert unsure.returncode == 2 and b"LOST" in unsure.stderr and b"--yes" in unsure.stderr, unsure
        assert sorted(os.listdir(data)) == before
        done(cluster.raftctl("recover", "--data", data, "--yes"))
        assert sorted(os.listdir(data + ".before-recovery")) == before
        cluster.members[survivor].start()
        voters = cluster.wait_voters([survivor])
        assert voters[survivor] != old
        verify(cluster, pairs)
        for k in cluster.ids:
            if k != survivor:
                cluster.wipe(k)
                cluster.members[k].start()
                done(cluster.raftctl("member", "add", k, *cluster.endpoints[k]))
                wait_for(lambda k=k: k in (cluster.voters() or {}), 30, f"member {k} to vote", interval=0.05)
        verify(cluster, pairs)
        cluster.wait_agreement()
