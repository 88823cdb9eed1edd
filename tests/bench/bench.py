#!/usr/bin/env python3
"""Measures a cluster that it starts, and on request etcd of the same size with the same loads in the same run.

Absolute figures say little about another machine: compare ratios, and look at the disk's own rate, which is measured
before and after. README.md in this folder says what each column means.
"""
import argparse
import contextlib
import ctypes
import json
import os
import platform
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

# name, connections, depth, percent of gets
LOADS = [
    ("put 1", 1, 1, 0),
    ("put 64", 64, 1, 0),
    ("put 1000", 1000, 1, 0),
    ("put 50x16", 50, 16, 0),
    ("get 64", 64, 1, 100),
    ("get 50x16", 50, 16, 100),
    ("mix 50x16", 50, 16, 50),
]
READY_SECONDS = 30
STOP_SECONDS = 10


def end_with_parent():
    """The kernel ends the child when this process ends, however it ends."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


class Failure(Exception):
    pass


class Processes:
    """Everything that was started, to be stopped by pid whatever happens."""

    def __init__(self, directory):
        self.directory = directory
        self.running = []

    def start(self, name, command):
        with open(os.path.join(self.directory, name + ".log"), "wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       preexec_fn=end_with_parent)
        self.running.append((name, process))
        return process.pid

    def check(self):
        for name, process in self.running:
            if process.poll() is not None:
                raise Failure(f"{name} ended with {process.returncode}:\n{self.tail(name)}")

    def tail(self, name):
        with open(os.path.join(self.directory, name + ".log"), errors="replace") as log:
            return "".join(log.readlines()[-15:])

    def stop(self):
        for _, process in reversed(self.running):
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for _, process in self.running:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.running = []


def free_ports(n):
    """Ports nobody listens on now: all held at once, so that they differ."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(n):
            held = stack.enter_context(socket.socket())
            held.bind(("127.0.0.1", 0))
            ports.append(held.getsockname()[1])
        return ports


def wait_for(what, processes, condition, seconds=READY_SECONDS, pause=0.05):
    """What the condition returns, once that is not None."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        processes.check()
        result = condition()
        if result is not None:
            return result
        time.sleep(pause)
    raise Failure(f"{what} took more than {seconds} seconds")


class RaftKv:
    """Members and a bridge, as a user would start them, with the default timeouts."""
    name = "raft-kv"

    def __init__(self, options, directory, processes):
        self.options = options
        self.processes = processes
        self.config = os.path.join(directory, "raft.conf")
        self.socket = os.path.join(directory, "kv.sock")
        ports = free_ports(2 * options.members)
        text = "[cluster]\nname = bench\n"
        for k in range(options.members):
            data = os.path.join(directory, str(k + 1))
            os.mkdir(data)
            text += (f"[member {k + 1}]\npeer = tcp://127.0.0.1:{ports[2 * k]}\n"
                     f"client = tcp://127.0.0.1:{ports[2 * k + 1]}\ndata = {data}\n")
        text += f"[raft]\nlog_level = warning\n[bridge]\nsocket = {self.socket}\n"
        with open(self.config, "w") as file:
            file.write(text)

    def program(self, name):
        return os.path.join(self.options.bin, name)

    def start(self):
        self.pids = {}
        for k in range(1, self.options.members + 1):
            command = [self.program("raftd"), "--config", self.config, "--id", str(k)]
            self.pids[k] = self.processes.start(f"raftd-{k}", command)
        self.bridge = self.processes.start("bridge", [self.program("raft-bridge"), "--config", self.config])
        wait_for("an election", self.processes, self.ready)

    def status(self):
        done = subprocess.run([self.program("raftctl"), "--config", self.config, "status", "--json"],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        try:
            return json.loads(done.stdout)
        except ValueError:
            return None

    def ready(self):
        status = self.status()
        if status is None or status["leader"] is None or not os.path.exists(self.socket):
            return None
        return status if all(member["reachable"] for member in status["members"]) else None

    def begin_load(self):
        """What the load is aimed at, and whose consumption is asked for."""
        self.before = wait_for("a leader", self.processes, self.ready)
        leader = self.before["leader"]
        followers = ",".join(str(pid) for k, pid in self.pids.items() if k != leader)
        arguments = ["--socket", self.socket, "--pids", f"leader={self.pids[leader]}",
                     "--pids", f"bridge={self.bridge}"]
        return arguments + (["--pids", f"followers={followers}"] if followers else [])

    def end_load(self, row):
        after = wait_for("a leader", self.processes, self.ready)
        if after["leader"] != self.before["leader"] or after["term"] != self.before["term"]:
            row["note"] = "the leader changed during this load"
            return
        first = next(m for m in self.before["members"] if m["id"] == after["leader"])
        last = next(m for m in after["members"] if m["id"] == after["leader"])
        flushes = last["flushes"] - first["flushes"]
        row["syncs_per_second"] = flushes / row["total_seconds"]
        if flushes > 0:
            row["ops_per_sync"] = (last["flushed_entries"] - first["flushed_entries"]) / flushes
            row["sync_us"] = (last["sync_us_total"] - first["sync_us_total"]) / flushes
        row["rss_bytes_max"] = max(member["rss_bytes"] for member in after["members"])

    def end(self):
        """At the end all copies must be the same: a benchmark of something wrong is worth nothing."""
        status = wait_for("until all members had applied everything", self.processes, self.settled)
        if not status["copies_agree"]:
            raise Failure("the members' copies differ")

    def settled(self):
        status = self.ready()
        return status if status is not None and status["copies_agree"] is not None else None


class Etcd:
    """Members from the distribution's package with their defaults; the load goes to the leader over gRPC."""
    name = "etcd"

    def __init__(self, options, directory, processes):
        self.options = options
        self.directory = directory
        self.processes = processes
        self.ports = free_ports(2 * options.members)

    def start(self):
        if shutil.which("etcd") is None:
            raise Failure("--peer etcd needs etcd: apt-get install etcd-server")
        client = [f"http://127.0.0.1:{port}" for port in self.ports[0::2]]
        peer = [f"http://127.0.0.1:{port}" for port in self.ports[1::2]]
        cluster = ",".join(f"m{k}={url}" for k, url in enumerate(peer))
        self.pids = []
        for k in range(self.options.members):
            self.pids.append(self.processes.start(f"etcd-{k}", [
                "etcd", "--name", f"m{k}", "--data-dir", os.path.join(self.directory, f"etcd-{k}"),
                "--listen-client-urls", client[k], "--advertise-client-urls", client[k],
                "--listen-peer-urls", peer[k], "--initial-advertise-peer-urls", peer[k],
                "--initial-cluster", cluster, "--logger", "zap", "--log-level", "error"]))
        self.leader = wait_for("etcd's election", self.processes, self.find_leader)

    def find_leader(self):
        found = None
        for k, port in enumerate(self.ports[0::2]):
            try:
                request = urllib.request.Request(f"http://127.0.0.1:{port}/v3/maintenance/status", data=b"{}")
                with urllib.request.urlopen(request, timeout=1) as reply:
                    status = json.load(reply)
            except (OSError, ValueError):
                return None
            if status.get("leader") == status["header"]["member_id"]:
                found = k
        return found

    def syncs(self):
        port = self.ports[2 * self.leader]
        count = seconds = 0.0
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as reply:
            for line in reply.read().decode().splitlines():
                if line.startswith("etcd_disk_wal_fsync_duration_seconds_count "):
                    count = float(line.split()[1])
                elif line.startswith("etcd_disk_wal_fsync_duration_seconds_sum "):
                    seconds = float(line.split()[1])
        return count, seconds

    def begin_load(self):
        self.leader = wait_for("etcd's leader", self.processes, self.find_leader)
        self.before = self.syncs()
        followers = ",".join(str(pid) for k, pid in enumerate(self.pids) if k != self.leader)
        arguments = ["--etcd", f"127.0.0.1:{self.ports[2 * self.leader]}",
                     "--pids", f"leader={self.pids[self.leader]}"]
        return arguments + (["--pids", f"followers={followers}"] if followers else [])

    def end_load(self, row):
        count, seconds = self.syncs()
        count -= self.before[0]
        seconds -= self.before[1]
        row["syncs_per_second"] = count / row["total_seconds"]
        if count > 0:
            row["ops_per_sync"] = row["put"]["count"] / row["seconds"] * row["total_seconds"] / count
            row["sync_us"] = seconds * 1e6 / count

    def end(self):
        pass


def run_bench(options, arguments):
    command = [os.path.join(options.bin, "raft-bench"), "--json"] + arguments
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False, preexec_fn=end_with_parent)
    if done.returncode != 0:
        raise Failure(f"{' '.join(command)} ended with {done.returncode}")
    return json.loads(done.stdout)


def sizes(options):
    return ["--key-size", str(options.key_size), "--value-size", str(options.value_size), "--keys", str(options.keys)]


def measure_disk(options, directory):
    result = run_bench(options, ["--disk", directory, "--duration", str(min(2.0, options.duration))])
    return {"syncs_per_second": result["ops_per_second"], "p50_us": result["all"]["p50_us"],
            "p99_us": result["all"]["p99_us"]}


def server_cpu(row):
    return sum(us for name, us in row["cpu_us_per_op"].items() if name != "load")


def measure_load(options, store, load):
    """The median run by throughput of as many as were asked for."""
    _, connections, depth, get_percent = load
    rows = []
    for seed in range(1, options.runs + 1):
        arguments = store.begin_load() + sizes(options) + [
            "-c", str(connections), "-d", str(depth), "--get", str(get_percent), "--seed", str(seed),
            "--distribution", options.distribution,
            "--duration", str(options.duration), "--warmup", str(options.warmup)]
        row = run_bench(options, arguments)
        store.end_load(row)
        rows.append(row)
    median = statistics.median_low([row["ops_per_second"] for row in rows])
    row = next(row for row in rows if row["ops_per_second"] == median)
    row["load"] = load[0]
    row["all_runs"] = [row["ops_per_second"] for row in rows]
    row["server_cpu_us_per_op"] = server_cpu(row)
    return row


def measure_store(options, store_class, loads):
    directory = tempfile.mkdtemp(prefix="bench-", dir=options.dir)
    processes = Processes(directory)
    try:
        result = {"disk_before": measure_disk(options, directory)}
        store = store_class(options, directory, processes)
        store.start()
        print_store(store.name, options, result["disk_before"])
        fill = store.begin_load() + sizes(options) + ["-c", "50", "-d", "16", "--distribution", "sequential",
                                                      "--ops", str(options.keys)]
        result["fill"] = run_bench(options, fill)
        result["loads"] = []
        for load in loads:
            row = measure_load(options, store, load)
            result["loads"].append(row)
            print_row(row)
        store.end()
        result["disk_after"] = measure_disk(options, directory)
        return result
    finally:
        processes.stop()
        if options.keep:
            print(f"kept: {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)


def print_store(name, options, disk):
    print(f"\n{name}, {options.members} members, {options.key_size}-byte keys, {options.value_size}-byte values; "
          f"the disk alone: {disk['syncs_per_second']:,.0f} syncs/s, p50 {disk['p50_us']:,.0f} us")
    print(f"{'load':<10} {'ops/s':>9} {'p50':>8} {'p99':>8} {'p99.9':>8} {'max ms':>8} | "
          f"{'leader':>7} {'others':>7} {'bridge':>7} {'sum':>7} {'load':>6} us/op | "
          f"{'syncs/s':>8} {'ops/sync':>8} {'sync us':>8}")
    sys.stdout.flush()


def print_row(row):
    cpu = row["cpu_us_per_op"]
    latency = row["all"]
    print(f"{row['load']:<10} {row['ops_per_second']:>9,.0f} {latency['p50_us'] / 1e3:>8.3f} "
          f"{latency['p99_us'] / 1e3:>8.3f} {latency['p999_us'] / 1e3:>8.3f} {latency['max_us'] / 1e3:>8.2f} | "
          f"{cpu.get('leader', 0):>7.2f} {cpu.get('followers', 0):>7.2f} {cpu.get('bridge', 0):>7.2f} "
          f"{row['server_cpu_us_per_op']:>7.2f} {cpu['load']:>6.2f}       | "
          f"{row.get('syncs_per_second', 0):>8,.0f} {row.get('ops_per_sync', 0):>8.1f} {row.get('sync_us', 0):>8.0f}")
    for what in ("errors", "unanswered", "not_found"):
        if row[what] > 0:
            print(f"           {row[what]} {what.replace('_', ' ')}: {row['first_error'] or 'no text'}")
    if "note" in row:
        print(f"           {row['note']}")
    sys.stdout.flush()


def print_comparison(results):
    print(f"\n{'raft-kv to etcd':<16} {'ops/s':>8} {'p50':>8} {'p99':>8} {'CPU/op':>8}")
    for ours, theirs in zip(results["raft-kv"]["loads"], results["etcd"]["loads"]):
        print(f"{ours['load']:<16} {ours['ops_per_second'] / theirs['ops_per_second']:>7.2f}x "
              f"{ours['all']['p50_us'] / theirs['all']['p50_us']:>7.2f}x "
              f"{ours['all']['p99_us'] / theirs['all']['p99_us']:>7.2f}x "
              f"{ours['server_cpu_us_per_op'] / theirs['server_cpu_us_per_op']:>7.2f}x")


def parse_options():
    here = os.path.dirname(os.path.abspath(__file__))
    build = os.path.normpath(os.path.join(here, "..", "..", "build"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=build, help="where raftd, raft-bridge, raftctl and raft-bench are")
    parser.add_argument("--dir", help="where data directories are made (a real disk!); default: --bin")
    parser.add_argument("--json", metavar="FILE", help="write everything there")
    parser.add_argument("--peer", choices=["etcd"], help="the same loads on this store")
    parser.add_argument("--only-peer", action="store_true", help="do not measure raft-kv")
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--loads", help="comma-separated names: " + ", ".join(load[0] for load in LOADS))
    parser.add_argument("--duration", type=float, default=5.0, help="seconds of each load")
    parser.add_argument("--warmup", type=float, default=1.0, help="seconds before it")
    parser.add_argument("--runs", type=int, default=1, help="of each load; the median counts")
    parser.add_argument("--keys", type=int, default=100000)
    parser.add_argument("--key-size", type=int, default=16)
    parser.add_argument("--value-size", type=int, default=256)
    parser.add_argument("--distribution", choices=["uniform", "zipf"], default="uniform")
    parser.add_argument("--keep", action="store_true", help="leave data and logs")
    options = parser.parse_args()
    options.bin = os.path.abspath(options.bin)
    options.dir = os.path.abspath(options.dir or options.bin)
    if not 1 <= options.members <= 15 or options.runs < 1:
        parser.error("--members is 1 to 15, --runs at least 1")
    return options, parser


def choose_loads(options, parser):
    if options.loads is None:
        return LOADS
    names = [name.strip() for name in options.loads.split(",")]
    unknown = [name for name in names if name not in [load[0] for load in LOADS]]
    if unknown:
        parser.error(f"no such load: {unknown[0]}")
    return [load for load in LOADS if load[0] in names]


def end_orderly(signum, frame):
    raise SystemExit(128 + signum)


def main():
    options, parser = parse_options()
    loads = choose_loads(options, parser)
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, end_orderly)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # a thousand connections, and the bridge's side of them
    stores = [] if options.only_peer else [RaftKv]
    if options.peer:
        stores.append(Etcd)
    results = {"date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "machine": platform.machine(),
               "kernel": platform.release(), "cpus": os.cpu_count(), "load_average_before": os.getloadavg(),
               "options": vars(options)}
    print(f"{os.cpu_count()} CPUs, load average before: {os.getloadavg()[0]:.2f}")
    try:
        for store_class in stores:
            results[store_class.name] = measure_store(options, store_class, loads)
    except (Failure, OSError, KeyboardInterrupt) as failure:
        print(f"bench: {failure or 'interrupted'}", file=sys.stderr)
        return 1
    if len(stores) == 2:
        print_comparison(results)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=1)
            file.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
