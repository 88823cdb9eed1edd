"""Mistakes of an operator: found before anything starts, named with file and line, and told apart by the exit code."""

import re
import subprocess

from cluster import Cluster

EX_USAGE = 64
EX_CONFIG = 78
PROGRAMS = ("raftd", "raft-bridge")

GOOD = """[cluster]
name = test
[member 1]
peer = tcp://127.0.0.1:11901
client = tcp://127.0.0.1:11902
[raft]
data_root = {dir}/nodata
"""

# (what to replace, by what, the line of the mistake, what the message must name)
MISTAKES = [
    ("name = test", "name = te/st", 2, "name"),
    ("name = test", "nmae = test", 2, "nmae"),
    ("name = test", "name = test\nname = again", 3, "name"),
    ("[member 1]", "[member one]", 3, "member"),
    ("peer = tcp://127.0.0.1:11901", "peer = tcp://127.0.0.1:119010", 4, "peer"),
    ("peer = tcp://127.0.0.1:11901", "peer = udp://127.0.0.1:11901", 4, "peer"),
    ("[raft]", "[raft]\nheartbeat_ms = 50ms", 7, "heartbeat_ms"),
    ("[raft]", "[raft]\nheartbeat_ms = 0", 7, "heartbeat_ms"),
    ("[raft]", "[raft]\nelection_timeout_min_ms = 400", 7, "election_timeout"),
    ("[raft]", "[raft]\nsegment_size = 5000", 7, "segment_size"),
    ("[raft]", "[raft]\nlog_level = loud", 7, "log_level"),
    ("[raft]", "[bridge]\nrequest_timeout_ms = 1\n[raft]", 7, "request_timeout_ms"),
    ("[raft]", "[rafd]", 6, "rafd"),
    ("[raft]", "what is this\n[raft]", 6, ""),
]


class Fixture:
    """A directory of a cluster that is never started."""

    def __init__(self, env):
        self.cluster = Cluster(env, n_members=1)

    def __enter__(self):
        return self.cluster

    def __exit__(self, *_):
        self.cluster.remove()


def run(cluster, program, *arguments):
    command = [cluster.program(program), *arguments]
    return subprocess.run(command, capture_output=True, timeout=20, check=False, text=True, errors="replace")


def arguments_for(program, config):
    return ["--config", config] + (["--id", "1"] if program == "raftd" else [])


def test_mistakes_in_the_configuration_are_named_with_their_line(env):
    """Each mistake: exit status 78, and a line with file:line and the key; several mistakes are all reported."""
    with Fixture(env) as cluster:
        path = f"{cluster.dir}/bad.conf"
        good = GOOD.format(dir=cluster.dir)
        for old, new, line, name in MISTAKES:
            with open(path, "w", encoding="utf-8") as file:
                file.write(good.replace(old, new, 1))
            for program in PROGRAMS:
                result = run(cluster, program, *arguments_for(program, path))
                assert result.returncode == EX_CONFIG, f"{program}, {new!r}: {result}"
                found = re.search(rf"bad\.conf:{line}: .*{re.escape(name)}", result.stderr)
                assert found, f"{program}, {new!r}: expected bad.conf:{line} and {name!r} in {result.stderr!r}"
        with open(path, "w", encoding="utf-8") as file:
            file.write(good.replace("name = test", "name = te/st").replace("[raft]", "[raft]\nheartbeat_ms = x"))
        result = run(cluster, "raftd", *arguments_for("raftd", path))
        assert "bad.conf:2" in result.stderr and "bad.conf:7" in result.stderr, f"{result.stderr!r}"


def test_unreadable_configuration(env):
    """A configuration that does not exist, is a directory, empty or garbage: 78 and its name, no crash."""
    with Fixture(env) as cluster:
        empty, garbage = f"{cluster.dir}/empty.conf", f"{cluster.dir}/garbage.conf"
        with open(empty, "wb"):
            pass
        with open(garbage, "wb") as file:
            file.write(bytes(range(256)) * 40 + b"[" * 5000 + b"\n=\n[]\n" + b"a=" + b"x" * 3000)
        for path in (f"{cluster.dir}/missing.conf", cluster.dir, empty, garbage):
            for program in PROGRAMS:
                result = run(cluster, program, *arguments_for(program, path))
                assert result.returncode == EX_CONFIG, f"{program} {path}: {result}"
                assert path in result.stderr, f"{program} {path}: {result.stderr!r}"


def test_usage_mistakes(env):
    """Wrong options and arguments: exit status 64 and how it is used."""
    with Fixture(env) as cluster:
        cases = [
            ("raftd", []),
            ("raftd", ["--config", cluster.config]),
            ("raftd", ["--id", "1"]),
            ("raftd", ["--config", cluster.config, "--id", "0"]),
            ("raftd", ["--config", cluster.config, "--id", "1x"]),
            ("raftd", ["--config", cluster.config, "--id", "-1"]),
            ("raftd", ["--config", cluster.config, "--id", "1", "--frobnicate"]),
            ("raftd", ["--config", cluster.config, "--id", "1", "extra"]),
            ("raft-bridge", ["--frobnicate"]),
            ("raft-bridge", ["--config", cluster.config, "extra"]),
        ]
        for program, arguments in cases:
            result = run(cluster, program, *arguments)
            assert result.returncode == EX_USAGE, f"{program} {arguments}: {result}"
            assert program in result.stderr, f"{program} {arguments}: {result.stderr!r}"
        for program in ("raftd", "raft-bridge", "raftctl"):
            for option in ("--help", "--version"):
                result = run(cluster, program, option)
                assert result.returncode == 0 and result.stdout, f"{program} {option}: {result}"


def test_check_config_and_unknown_member(env):
    """--check-config accepts a good file without starting; a member that the file does not name is a mistake of it."""
    with Fixture(env) as cluster:
        result = run(cluster, "raftd", "--config", cluster.config, "--check-config")
        assert result.returncode == 0, f"{result}"
        result = run(cluster, "raftd", "--config", cluster.config, "--id", "9")
        assert result.returncode == EX_CONFIG and "9" in result.stderr, f"{result}"


def test_data_directory_that_is_missing_or_taken(env):
    """Without its data directory a member does not start; a second process on one directory does not either."""
    with Fixture(env) as cluster:
        path = f"{cluster.dir}/good.conf"
        with open(path, "w", encoding="utf-8") as file:
            file.write(GOOD.format(dir=cluster.dir))
        result = run(cluster, "raftd", "--config", path, "--id", "1")
        assert result.returncode not in (0, EX_USAGE) and result.returncode > 0, f"{result}"
        assert f"{cluster.dir}/nodata" in result.stderr, f"{result.stderr!r}"
    with Cluster(env, n_members=1) as cluster:
        result = run(cluster, "raftd", "--config", cluster.config, "--id", "1")
        assert result.returncode > 0, f"{result}"
        assert f"{cluster.dir}/data/1" in result.stderr, f"{result.stderr!r}"
        with cluster.connect() as client:
            assert client.ask("get", b"k") == [b"NOT_FOUND"]
