#!/usr/bin/env python3
"""Measures what a large store costs: memory, disk, snapshots while clients write, an empty member, a restart.

    large.py --bin build [--keys 1000000]

Each figure stands beside its goal, where there is one. Absolute figures say little about another machine: the disk's own rate is
printed first. What is measured, step by step, is in the functions' first lines.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import bench

SAMPLE_SECONDS = 0.02
CATCH_UP_SECONDS = 120
PAUSE_SECONDS = 0.005 # between two looks at what is being timed


def tree_bytes(directory):
    """What the files below take of the disk; files that vanish meanwhile take nothing."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.stat(os.path.join(folder, name)).st_blocks * 512
            except FileNotFoundError:
                continue
    return total


class DiskWatch(threading.Thread):
    """The most that each member's directory takes while it runs."""

    def __init__(self, directories):
        super().__init__(daemon=True)
        self.directories = directories
        self.peaks = dict.fromkeys(directories, 0)
        self.over = threading.Event()

    def run(self):
        while not self.over.wait(SAMPLE_SECONDS):
            for directory in self.directories:
                self.peaks[directory] = max(self.peaks[directory], tree_bytes(directory))

    def end(self):
        self.over.set()
        self.join()
        return max(self.peaks.values())


class LargeStore(bench.RaftKv):
    """The cluster of bench.py with members that say when a snapshot is on the disk, and that can be stopped singly."""

    def __init__(self, options, directory, processes):
        super().__init__(options, directory, processes)
        self.directory = directory
        with open(self.config) as file:
            text = file.read()
        with open(self.config, "w") as file:
            file.write(text.replace("log_level = warning", "log_level = info"))

    def data(self, k):
        return os.path.join(self.directory, str(k))

    def log_lines(self, k, words):
        with open(os.path.join(self.directory, f"raftd-{k}.log"), errors="replace") as log:
            return sum(words in line for line in log)

    def raftctl(self, *words):
        return subprocess.run([self.program("raftctl"), "--config", self.config, *map(str, words)], check=True,
                              stdout=subprocess.PIPE, timeout=60).stdout

    def member(self, k):
        status = self.status()
        return next((m for m in status["members"] if m["id"] == k and m["reachable"]), None) if status else None

    def stop_member(self, k):
        name, process = next(pair for pair in self.processes.running if pair[0] == f"raftd-{k}")
        process.terminate()
        process.wait(bench.STOP_SECONDS)
        self.processes.running.remove((name, process))

    def start_member(self, k, condition, what):
        """Seconds from its start until the condition holds."""
        began = time.monotonic()
        command = [self.program("raftd"), "--config", self.config, "--id", str(k)]
        self.pids[k] = self.processes.start(f"raftd-{k}", command)
        bench.wait_for(what, self.processes, lambda: condition() or None, CATCH_UP_SECONDS, PAUSE_SECONDS)
        return time.monotonic() - began


class Load:
    """raft-bench beside whatever else is done; ends by itself or by its pid."""

    def __init__(self, store, options, arguments):
        command = [os.path.join(options.bin, "raft-bench"), "--json"] + store.begin_load() + bench.sizes(options)
        self.process = subprocess.Popen(command + arguments, stdout=subprocess.PIPE, preexec_fn=bench.end_with_parent)

    def running(self):
        return self.process.poll() is None

    def result(self):
        output = self.process.communicate()[0]
        if self.process.returncode != 0:
            raise bench.Failure(f"raft-bench ended with {self.process.returncode}")
        row = json.loads(output)
        if row["errors"] > 0:
            raise bench.Failure(f"{row['errors']} errors: {row['first_error']}")
        return row


def say(what, figure, goal=""):
    print(f"{what:<66} {figure:>22}" + (f"   (goal: {goal})" if goal else ""))
    sys.stdout.flush()


def raw_bytes(options):
    return options.keys * (options.key_size + options.value_size)


def measure_fill(store, options, figures):
    """Every key once, 50 connections with 16 operations under way each; then the memory of the largest member."""
    watch = DiskWatch([store.data(k) for k in store.pids])
    watch.start()
    load = Load(store, options, ["-c", "50", "-d", "16", "--distribution", "sequential", "--ops", str(options.keys)])
    row = load.result()
    bench.wait_for("until all members had applied everything", store.processes, store.settled)
    peak = watch.end()
    rss = max(member["rss_bytes"] for member in store.status()["members"])
    figures |= {"fill_per_second": row["ops_per_second"], "fill_disk_peak_bytes": peak, "rss_bytes": rss}
    say("fill, puts a second", f"{row['ops_per_second']:,.0f}")
    say("memory of a member", f"{rss / 2**20:,.0f} MiB, {rss / raw_bytes(options):.2f} x raw", "1.5 x raw")
    say("most disk of a member during the fill", f"{peak / 2**20:,.0f} MiB")


def measure_overwriting(store, options, figures):
    """Every key overwritten at full load for a while: the disk against the state, which does not grow any more."""
    watch = DiskWatch([store.data(k) for k in store.pids])
    watch.start()
    row = Load(store, options, ["-c", "50", "-d", "16", "--duration", str(options.seconds)]).result()
    peak = watch.end()
    snapshot = max(os.stat(os.path.join(store.data(1), name)).st_size for name in os.listdir(store.data(1))
                   if name.startswith("snapshot"))
    figures |= {"overwrite_per_second": row["ops_per_second"], "overwrite_disk_peak_bytes": peak, "snapshot_bytes": snapshot,
                "overwrite_p999_us": row["all"]["p999_us"], "overwrite_max_us": row["all"]["max_us"]}
    say("overwriting at full load, puts a second; p99.9, longest",
        f"{row['ops_per_second']:,.0f}; {row['all']['p999_us'] / 1e3:.0f}, {row['all']['max_us'] / 1e3:.0f} ms")
    say("most disk of a member meanwhile", f"{peak / 2**20:,.0f} MiB, {peak / snapshot:.1f} x state", "8 x state")


def wait_quiet(store):
    """Until no member writes a snapshot."""
    def quiet():
        pairs = ((store.log_lines(k, " writes a snapshot"), store.log_lines(k, "is on the disk")) for k in store.pids)
        return True if all(begun <= ended for begun, ended in pairs) else None

    bench.wait_for("the last snapshot", store.processes, quiet)


def take_snapshot(store, k):
    """Seconds until member k's snapshot is on the disk."""
    before = store.log_lines(k, "is on the disk")
    began = time.monotonic()
    store.raftctl("snapshot", "--id", k)
    bench.wait_for("a snapshot", store.processes, lambda: store.log_lines(k, "is on the disk") > before or None,
                   CATCH_UP_SECONDS, PAUSE_SECONDS)
    return time.monotonic() - began


def measure_snapshots(store, options, figures):
    """A load that leaves the machine room, once without and once with a leader that writes one snapshot after another."""
    arguments = ["-c", "16", "-d", "1", "--duration", str(options.seconds)]
    wait_quiet(store)
    calm = Load(store, options, arguments).result()
    wait_quiet(store)
    leader = store.status()["leader"]
    alone = take_snapshot(store, leader)
    load, times = Load(store, options, arguments), []
    while load.running():
        times.append(take_snapshot(store, leader))
    busy = load.result()
    figures |= {"snapshot_alone_seconds": alone, "snapshot_busy_seconds": max(times), "calm_p99_us": calm["all"]["p99_us"],
                "snapshot_p99_us": busy["all"]["p99_us"]}
    say("snapshot alone; the slowest of " + f"{len(times)} under load", f"{alone:.2f} s; {max(times):.2f} s", "2 s")
    ratio = busy["all"]["p99_us"] / calm["all"]["p99_us"]
    say("p99 of 16 connections, without and with snapshots all the time",
        f"{calm['all']['p99_us'] / 1e3:.2f}, {busy['all']['p99_us'] / 1e3:.2f} ms: {ratio:.2f} x", "2 x")


def measure_empty_member(store, options, figures):
    """A follower's directory is emptied: from its start until it is a voter that has applied all."""
    leader = store.status()["leader"]
    k = next(k for k in store.pids if k != leader)
    store.stop_member(k)
    shutil.rmtree(store.data(k))
    os.mkdir(store.data(k))

    def caught_up():
        mine, its = store.member(k), store.member(leader)
        voters = json.loads(store.raftctl("member", "list", "--json"))["members"]
        return (mine is not None and its is not None and mine["applied"] >= its["commit"]
                and any(member["id"] == k and member["role"] == "voter" for member in voters))

    seconds = store.start_member(k, caught_up, "the empty member")
    figures["empty_member_seconds"] = seconds
    say("an empty member, from its start to being a voter with everything", f"{seconds:.2f} s", "4 s")


def measure_restart(store, options, figures):
    """A follower stops and starts: until it has applied all that the leader has committed and answers."""
    leader = store.status()["leader"]
    k = next(k for k in store.pids if k != leader)
    store.stop_member(k)

    def serves():
        mine, its = store.member(k), store.member(leader)
        return mine is not None and its is not None and mine["applied"] >= its["commit"]

    seconds = store.start_member(k, serves, "the restart")
    figures["restart_seconds"] = seconds
    say("a restart, from the start to serving", f"{seconds:.2f} s", "1 s")


STEPS = [measure_fill, measure_overwriting, measure_snapshots, measure_empty_member, measure_restart]


def parse_options():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=os.path.normpath(os.path.join(here, "..", "..", "build")))
    parser.add_argument("--dir", help="where data directories are made (a real disk!); default: --bin")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--keys", type=int, default=1000000)
    parser.add_argument("--key-size", type=int, default=16)
    parser.add_argument("--value-size", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each load")
    parser.add_argument("--keep", action="store_true", help="leave data and logs")
    options = parser.parse_args()
    options.bin = os.path.abspath(options.bin)
    options.dir = os.path.abspath(options.dir or options.bin)
    options.duration = 2.0
    return options


def main():
    options = parse_options()
    directory = tempfile.mkdtemp(prefix="bench-", dir=options.dir)
    processes = bench.Processes(directory)
    figures = {"options": vars(options), "load_average_before": os.getloadavg()}
    try:
        disk = bench.measure_disk(options, directory)
        print(f"{os.cpu_count()} CPUs, load average before: {os.getloadavg()[0]:.2f}; {options.members} members, {options.keys:,} keys; "
              f"the disk alone: {disk['syncs_per_second']:,.0f} syncs/s, p50 {disk['p50_us']:,.0f} us")
        store = LargeStore(options, directory, processes)
        store.start()
        for step in STEPS:
            step(store, options, figures)
        store.end()
    except (bench.Failure, subprocess.SubprocessError, OSError, KeyboardInterrupt) as failure:
        print(f"large: {failure or 'interrupted'}", file=sys.stderr)
        return 1
    finally:
        processes.stop()
        if options.keep:
            print(f"kept: {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(figures, file, indent=1)
            file.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
