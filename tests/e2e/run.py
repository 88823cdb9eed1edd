#!/usr/bin/env python3
"""Runs the end-to-end tests: every function test_* of every file test_*.py here, one line a test.

    run.py --bin DIR [--san-bin DIR] [--full] [--hostile N] [--keep] [--list] [NAME ...]

NAME selects tests whose file or function name contains it. The last line is `N passed, N failed`.
"""

import argparse
import dataclasses
import importlib
import os
import pathlib
import signal
import sys
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.dont_write_bytecode = True

from cluster import Skip, raise_file_limit  # noqa: E402 (the path must be set first)

TEST_TIMEOUT_S = 240
FULL_TEST_TIMEOUT_S = 3600


@dataclasses.dataclass
class Env:
    """What the tests get: where the programs are, how much to do, and where to leave figures and logs."""

    bin: str
    san_bin: str
    records: int  # of the package index; 0: all
    kills: int  # how often leaders are killed in the long tests
    hostile: int  # random strings per port and socket
    files: int  # descriptors that a process may open
    full: bool
    keep: bool
    notes: list = dataclasses.field(default_factory=list)
    logs: list = dataclasses.field(default_factory=list)

    def note(self, text):
        self.notes.append(text)

    @staticmethod
    def sanitized(programs):
        """Whether the programs are of a sanitizer's build, which needs more memory and keeps what was freed."""
        data = pathlib.Path(programs, "raftd").read_bytes()
        return b"__asan_init" in data or b"__tsan_init" in data


def parse_arguments():
    environ = os.environ
    parser = argparse.ArgumentParser(description="End-to-end tests with real processes.")
    parser.add_argument("--bin", default="build", help="where raftd, raft-bridge and raftctl are")
    parser.add_argument(
        "--san-bin",
        default=environ.get("RAFT_E2E_SAN_BIN"),
        help="the same built with sanitizers, for hostile input (RAFT_E2E_SAN_BIN)",
    )
    parser.add_argument(
        "--full",
        action="store_true",
        default=environ.get("RAFT_E2E_FULL") == "1",
        help="the whole package index, 100,000 hostile strings (RAFT_E2E_FULL=1)",
    )
    parser.add_argument("--records", type=int, default=int(environ.get("RAFT_E2E_RECORDS", "-1")), help="0: all")
    parser.add_argument("--hostile", type=int, default=int(environ.get("RAFT_E2E_HOSTILE", "-1")))
    parser.add_argument("--keep", action="store_true", help="leave the directories of the clusters behind")
    parser.add_argument("--list", action="store_true", help="say which tests there are")
    parser.add_argument("names", nargs="*", metavar="NAME")
    return parser.parse_args()


def find_tests(names):
    """(name, claim, function) of the selected tests, in the order of files and of lines in them."""
    tests = []
    for path in sorted(pathlib.Path(__file__).resolve().parent.glob("test_*.py")):
        module = importlib.import_module(path.stem)
        functions = [item for name, item in vars(module).items() if name.startswith("test_") and callable(item)]
        for function in functions:
            if function.__module__ != module.__name__:
                continue
            name = f"{path.stem[5:]}.{function.__name__[5:]}"
            if not names or any(part in name for part in names):
                tests.append((name, (function.__doc__ or "").strip().split("\n")[0], function))
    return tests


def make_env(arguments):
    programs = os.path.abspath(arguments.bin)
    for program in ("raftd", "raft-bridge", "raftctl"):
        if not os.access(os.path.join(programs, program), os.X_OK):
            sys.exit(f"run.py: there is no {program} in {programs}; build first, or say --bin DIR")
    full = arguments.full
    return Env(
        bin=programs,
        san_bin=os.path.abspath(arguments.san_bin) if arguments.san_bin else programs,
        records=arguments.records if arguments.records >= 0 else (0 if full else 20000),
        kills=30 if full else 8,
        hostile=arguments.hostile if arguments.hostile >= 0 else (100000 if full else 4000),
        files=raise_file_limit(),
        full=full,
        keep=arguments.keep,
    )


def run_test(env, name, claim, function):
    """Returns "passed", "failed" or "skipped", and prints the test's line."""
    env.notes, env.logs = [], []
    began = time.monotonic()
    failure = ""
    signal.alarm(FULL_TEST_TIMEOUT_S if env.full else TEST_TIMEOUT_S)
    try:
        function(env)
        outcome = "passed"
    except Skip as skip:
        outcome = "skipped"
        env.note(str(skip))
    except Exception:  # a test may fail in any way, and the others run all the same
        outcome = "failed"
        failure = traceback.format_exc()
    finally:
        signal.alarm(0)
    took = time.monotonic() - began
    notes = f" [{'; '.join(env.notes)}]" if env.notes else ""
    print(f"{outcome:7} {took:6.1f} s  {name}: {claim}{notes}", flush=True)
    if failure:
        print("\n".join(["", failure, *env.logs, ""]), flush=True)
    return outcome


def on_alarm(_number, _frame):
    raise TimeoutError("the test took too long as a whole")


def on_terminate(_number, _frame):
    sys.exit("run.py: terminated")


def main():
    arguments = parse_arguments()
    tests = find_tests(arguments.names)
    if arguments.list:
        for name, claim, _ in tests:
            print(f"{name}: {claim}")
        return 0
    env = make_env(arguments)
    signal.signal(signal.SIGALRM, on_alarm)
    signal.signal(signal.SIGTERM, on_terminate)
    outcomes = [run_test(env, *test) for test in tests]
    passed, failed, skipped = (outcomes.count(word) for word in ("passed", "failed", "skipped"))
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed or not tests else 0


if __name__ == "__main__":
    sys.exit(main())
