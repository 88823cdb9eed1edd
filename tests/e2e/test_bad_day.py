"""Everything that can happen to a cluster in a year, within a minute, under a steady load: no client sees a failed request."""

import os
import random
import shutil
import subprocess
import time

from cluster import Cluster, words_ok, words_value
from history import History
from load import Load, Worker
from test_membership import add, done, remove

N_WORKERS = 8
SLOWEST_S = 2.0  # a request that waits longer than this was not a pause but an outage
DISK_BYTES = 48 << 20  # of the small disk: one that the load fills


class Writer(Worker):
    """Writes and reads back its own keys, one request after the other, and keeps every latency."""

    def __init__(self, path, number, history):
        super().__init__(path, number, history)
        self.random = random.Random(number)
        self.latencies = []

    def ask(self, client, *words):
        began = time.monotonic()
        reply = client.ask(*words)
        self.latencies.append(time.monotonic() - began)
        self.requests += 1
        return reply

    def round(self, client):
        key = b"day-%d-%d" % (self.number, self.random.randrange(50))
        value = b"%d " % self.requests * self.random.randrange(1, 200)
        revision = words_ok(self.ask(client, "put", key, value))
        assert words_value(self.ask(client, "get", key)) == (revision, value), f"{key} was not read back"


def flip_bits(directory):
    """Bit rot: some bits in the middle of what a segment holds of the log."""
    names = sorted(name for name in os.listdir(directory) if name.startswith("segment-"))
    with open(os.path.join(directory, names[0]), "r+b") as file:
        data = file.read()
        end = len(data.rstrip(b"\0"))
        for at in (end // 3, end // 2):
            file.seek(at)
            file.write(bytes([data[at] ^ 0x10]))


class SmallDisk:
    """A file system of a few megabytes below a member's directory; None when it cannot be had here (not root)."""

    def __init__(self, cluster, member):
        self.directory = cluster.data(member)
        self.image = os.path.join(cluster.dir, f"disk-{member}.img")
        self.mounted = False

    def mount(self):
        with open(self.image, "wb") as file:
            file.truncate(DISK_BYTES)
        steps = (["mkfs.ext4", "-q", "-F", self.image], ["mount", "-o", "loop", self.image, self.directory])
        for step in steps:
            if subprocess.run(step, capture_output=True, check=False).returncode != 0:
                return False
        self.mounted = True
        return True

    def fill(self):
        """All but nothing of what is free."""
        with open(os.path.join(self.directory, "ballast"), "wb") as file:
            try:
                while file.write(b"x" * 65536):
                    file.flush()
            except OSError:
                pass

    def free(self):
        os.unlink(os.path.join(self.directory, "ballast"))

    def unmount(self):
        """When the members are gone."""
        if self.mounted:
            subprocess.run(["umount", self.directory], check=True)
            shutil.rmtree(os.path.dirname(self.image), ignore_errors=True)


def restart_each(cluster, load):
    for k in cluster.ids:
        cluster.members[k].stop()
        load.wait_progress(200)
        cluster.members[k].start()
        cluster.wait_voters(cluster.ids)


def wipe_one(cluster, load, k):
    cluster.members[k].kill()
    cluster.wipe(k)
    load.wait_progress(200)
    cluster.members[k].start()
    cluster.wait_voters(cluster.ids)


def rot_one(cluster, load, k):
    """It finds the damage when it starts, sets it aside, and learns everything anew from the others."""
    cluster.members[k].kill()
    flip_bits(cluster.data(k))
    load.wait_progress(200)
    cluster.members[k].start()
    cluster.wait_voters(cluster.ids)


def fill_one(cluster, load, k, disk):
    """A full disk is refused cleanly and cleared without a restart."""
    pid = cluster.members[k].pid
    disk.fill()
    load.wait_progress(3000)
    disk.free()
    cluster.wait_agreement()
    assert cluster.members[k].running() and cluster.members[k].pid == pid, "the member did not outlive its full disk"


def have_a_bad_day(cluster, load, disk):
    """Returns whether there was a small disk to be filled."""
    cluster.new_member(6)
    small = disk.mount()
    cluster.members[6].start()
    done(cluster.raftctl("member", "add", 6, *cluster.endpoints[6]))
    add(cluster, 7)
    cluster.wait_voters(cluster.ids)
    leader = cluster.wait_leader()
    remove(cluster, next(k for k in cluster.ids if k not in (leader, 6, 7)))
    remove(cluster, leader)
    load.wait_progress(500)
    wipe_one(cluster, load, next(k for k in cluster.followers(cluster.wait_leader()) if k != 6))
    rot_one(cluster, load, next(k for k in reversed(cluster.followers(cluster.wait_leader())) if k != 6))
    if small:
        fill_one(cluster, load, 6, disk)
    done(cluster.raftctl("backup", os.path.join(cluster.dir, "backup"), timeout=60))
    restart_each(cluster, load)
    load.wait_progress(500)
    return small


def test_a_bad_day_fails_no_request(env):
    """Members added, removed, wiped, rotten, full, restarted, a backup taken: no failed request, one history, equal copies."""
    settings = {"snapshot_log_size": "1MiB", "segment_size": "4MiB"}
    disk = None
    try:
        with Cluster(env, raft=settings, bridge={"request_timeout_ms": 10000}) as cluster:
            disk = SmallDisk(cluster, 6)
            with Load(Writer, N_WORKERS, cluster.socket, History()) as load:
                load.wait_progress(500)
                small = have_a_bad_day(cluster, load, disk)
            cluster.wait_agreement()
            assert len({cluster.dump(k) for k in cluster.ids}) == 1, "the copies differ"
            figures = load.history.check(env)
            latencies = sorted(latency for worker in load.workers for latency in worker.latencies)
    finally:
        if disk is not None:
            disk.unmount()
    slowest, p999 = latencies[-1], latencies[len(latencies) * 999 // 1000]
    assert slowest < SLOWEST_S, f"a request took {slowest:.2f} s"
    env.note(
        f"{figures}; p99.9 {p999 * 1000:.0f} ms, longest {slowest * 1000:.0f} ms"
        f"{'' if small else ', without the full disk: not root, or no loop devices'}"
    )
