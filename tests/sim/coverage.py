#!/usr/bin/env python3
"""Which lines and branches of raft, storage, replicator and kv the simulator reaches. `make coverage` runs this.

Runs a fixed set of seeds, each in a process of its own that ends through exit, so that gcc's counters are written, and
adds up what gcov says. Branches inside raft_assert are not counted: their other side is a bug.
"""

import argparse
import concurrent.futures
import json
import pathlib
import re
import subprocess
import sys

FOLDERS = ["daemon/raft", "daemon/storage", "daemon/replicator", "kv"]
EXCLUDED = {
    "daemon/storage/disk_posix.c": "drives a real disk; the simulator brings its own (tests/unit covers it)",
    "daemon/storage/disk_posix_jobs.c": "the same: what its threads do (tests/unit)",
    "daemon/storage/disk_posix_graves.c": "the same: how large files go (tests/unit)",
    "daemon/replicator/replicator.c": "opens real sockets and files around a replica (tests/e2e)",
}
# Why the simulator does not reach a line: (reason, file or folder, functions, what the line looks like).
REASONS = [
    ("memory never runs out", "", "", r"ENOMEM|out_of_memory|retry_memory_us =|no memory"),
    ("memory never runs out", "", r"raft_new|chunk_new", r"return NULL"),
    ("names for people", "", r"\w+_name", r"return|case|default|switch|const char"),
    ("names for people", "kv/admin.c", "kv_check_text", "unknown check"),
    ("raftctl reads a stopped member's log", "daemon/storage", "", "read_only|EROFS"),
    ("only a real disk has a descriptor", "daemon/storage", "storage_fd", ""),
    ("files of a newer version", "daemon/storage", "", "NEWER|newer version|E_VERSION"),
    ("a directory of another cluster or member: tests/unit", "daemon/", "check_owner|replica_result_from_storage", ""),
    ("a record that verifies and says nonsense: tests/unit", "daemon/storage/format.c", "", "return (0|false|FORMAT_BAD)"),
]
# raft and kv, line by line.
NO_MEMORY = "memory never runs out"
TOO_MUCH = "more than any run has: tests/unit"
NOT_ASKED = "what the replicator never asks of the core: tests/unit"
RARE = "possible, and rarer than these runs: tests/unit"
NEVER_SENT = "what no member sends that has the log it speaks of: tests/unit"
REASONS += [
    (NO_MEMORY, "daemon/raft/life.c", "raft_new", "raft_free"),
    (NO_MEMORY, "kv/", "kv_(store_snapshot|record_alloc|node_alloc|ring_alloc|pins_take)", "return NULL"),
    (NO_MEMORY, "kv/", "kv_(store_load|snapshot_stream)_new", r"return|free\("),
    (NO_MEMORY, "kv/frame.c", "reserve|kv_frame_add", "return (false|NULL)"),  # nor is a frame full
    (NO_MEMORY, "kv/session.c", "grow_slots|kv_sessions_restore", "return false"),
    (NO_MEMORY, "kv/snapshot_load.c", "complete_session|take_session|take_record|take_record_bytes", "KV_LOAD_MEMORY"),
    (NO_MEMORY, "kv/tree_build.c", "alloc_branch|begin|open_leaf|kv_tree_builder_append", "return false|unref"),
    (NO_MEMORY, "kv/pins.c", "seek", "KV_PINS_MEMORY"),
    (TOO_MUCH, "kv/session.c", "kv_sessions_admit", "KV_WINDOW_FULL"),  # 65536 requests in one session
    (TOO_MUCH, "kv/pins.c", "kv_pins_expire", "drop"),  # 100000 entries
    (TOO_MUCH, "kv/pins.c", "kv_pins_read", "return r"),  # 4 MiB passed over
    (TOO_MUCH, "daemon/raft/log.c", "raft_log_fit", "n_max"),  # 8192 entries in a message
    (TOO_MUCH, "daemon/raft/config_codec.c", "raft_config_set", "return false"),  # 15 members
    (NOT_ASKED, "daemon/raft/change.c", "new_voter_is_ready", "return false"),
    (NOT_ASKED, "daemon/raft/change.c", "raft_change_check", "E_NOT_LEADER|E_STALE|E_NOT_READY"),
    (NOT_ASKED, "daemon/raft/change.c", "raft_bootstrap_check", "E_NOT_BLANK|E_CONFIG_INVALID"),
    (NOT_ASKED, "daemon/raft/config_codec.c", "raft_config_remove", "return false"),
    (NOT_ASKED, "daemon/raft/life.c", "raft_recover_config", "E_CONFIG_INVALID"),  # its entry's checksum holds
    (NOT_ASKED, "daemon/raft/life.c", "raft_compact", "return"),
    (NOT_ASKED, "daemon/raft/persist.c", "raft_on_persisted", "return"),
    (NOT_ASKED, "daemon/raft/raft.c", "prepare_propose", "E_NOT_LEADER"),
    (NOT_ASKED, "daemon/raft/room.c", "raft_write_need", "EVENT_READ|break|return nothing"),  # they write nothing
    (NOT_ASKED, "daemon/raft/snapshot.c", "raft_snapshot_check", "return"),  # it looks at them before it fetches them
    (NOT_ASKED, "daemon/raft/check.c", "check_entries|raft_check_message", "return false|E_INVALID"),
    ("a configuration that no bytes decode to: tests/unit", "daemon/raft/config_codec.c", "member_problem|raft_config_problem", "no known role|too long|too many|feature level"),
    (NEVER_SENT, "daemon/raft/check.c", "check_append", "return false"),
    (NEVER_SENT, "daemon/raft/election.c", "raft_on_vote_reply", "nobody can have granted that"),
    (NEVER_SENT, "daemon/raft/snapshot.c", "begin_anew", "following->(verified|acked) = index"),
    (RARE, "daemon/raft/membership.c", "adopt_role", "raft_become_follower"),  # a snapshot takes a candidate's vote
    (RARE, "daemon/raft/snapshot.c", "raft_on_snapshot", "core->commit = index"),  # the log had all of it
    (RARE, "daemon/raft/transfer.c", "raft_on_timeout_now", "return"),  # whoever is to lead has a disk that stalls
    (RARE, "kv/tree.c", "even_out", r"right->records\[0\]"),  # restarts build trees anew before inner nodes differ so much
    ("loading a state takes no simulated time: nobody can look meanwhile", "kv/admin.c", "kv_check_text", "RECOVERED|state: "),
    ("a founding entry is committed when it comes", "daemon/raft/membership.c", "raft_adopt_config", "become_stranger"),
    ("all members of a run have the same timeouts: tests/unit", "daemon/raft/lease.c", "raft_lease_on_reply", "promise_us ="),
]

# storage and replicator, line by line.
TOO_MUCH_HERE = "more than any run has"
NOT_ASKED_OF_LOG = "what the replicator never asks of the log"
SELDOM = "possible, and rarer than these runs"
READ_FAILS = "a read that fails in just that place"
LOCKED = "a file that changes while it is read: the directory is locked"
NONSENSE = "bytes that verify and say nonsense"
ALL_ALIKE = "all members of a run have the same, and keep it"
NEVER_BROKEN = "the caller has made sure that it does not come to that"
REASONS += [
    (NO_MEMORY, "daemon/storage/", "chunk_new|reserve_buffers|begin|storage_snapshot_begin|storage_receive_begin", r"return (NULL|r)|release\("),
    (NO_MEMORY, "daemon/storage/storage.c", "append_reset|storage_append", r"return r;"),
    (NO_MEMORY, "daemon/storage/flush.c", "submit_record", r"return r;"),
    (NO_MEMORY, "daemon/storage/recovery.c", "visit_file", "return"),
    (NO_MEMORY, "daemon/storage/recovery_heal.c", "recovery_note_config", "an older one remains"),
    (NO_MEMORY, "daemon/storage/segments.c", "segments_retire", "until the next compaction"),
    (NO_MEMORY, "daemon/storage/check.c", "walk_records|walk_segment|check_snapshot", "return (r|verdict.result);"),
    (NO_MEMORY, "daemon/replicator/", "pending_push|replica_propose_step|replica_read", "return r;"),
    (NO_MEMORY, "daemon/replicator/damage.c", "replica_on_unreadable", "log-unreadable|storage_result_name"),
    (TOO_MUCH_HERE, "daemon/storage/flush.c", "flush_release_buffers", ""),  # records of more than 256 KiB
    (TOO_MUCH_HERE, "daemon/storage/log_cache.c", "log_cache_shrink", "reserve"),  # chunks of 256 KiB
    (TOO_MUCH_HERE, "daemon/storage/storage.c", "relax", "markers"),  # 1024 writes under way
    (TOO_MUCH_HERE, "daemon/storage/recovery_heal.c", "set_aside", "ENAMETOOLONG"),  # a name of 60 characters
    (TOO_MUCH_HERE, "daemon/storage/recovery_repair.c", "adopt_spare", "return false"),  # spare files, or numbers of them
    (TOO_MUCH_HERE, "daemon/replicator/replica.c", "replica_receive", r"work_left = true|return 0"),  # 256 frames in one turn
    ("the simulated disk finishes writes between turns", "daemon/replicator/replica.c", "replica_process", "work_left = true"),
    (NOT_ASKED_OF_LOG, "daemon/storage/storage.c", "storage_open|check_write|append_reset|storage_read|storage_compact", r"EINVAL|impossible options|E_COMPACTED|return 0;|append.cut = write->truncate_from"),
    (NOT_ASKED_OF_LOG, "daemon/storage/storage.c", "append_reset|storage_append", "E_FULL"),  # it asks for room first
    (NOT_ASKED_OF_LOG, "daemon/storage/snapshot_output.c", "check_begin|check_filling|storage_snapshot_begin|storage_receive_write", "EINVAL|E_BUSY"),
    ("raftctl reads a stopped member's log", "daemon/storage/storage.c", "storage_process", "return 0;"),
    ("what no member sends", "daemon/storage/snapshot_output.c", "look_at_part|storage_receive_write", "SNAPSHOT_BAD"),
    (LOCKED, "daemon/storage/", "", "became shorter while it was read|another file since it was verified"),
    (READ_FAILS, "daemon/storage/", "is_covered|may_give_up|recovery_rewrite_tail|recovery_adopt_files|next_record|reader_read|snapshot_reader_raw", r"return (r|e|\(int\)got);"),
    (READ_FAILS, "daemon/storage/", "snapshots_removed|segments_roll|tend_retired|segments_tend", r"error = error|free\(header\)|return( r| false)?;"),
    (READ_FAILS, "daemon/replicator/snapshot_install.c", "restoring_feed|replica_load_snapshot|restoring_begin|install", "snapshot-unreadable|restoring->index|snapshot_reader_free|result_from_storage|at the next offer"),
    (READ_FAILS, "daemon/replicator/snapshot_send.c", "sending_open|replica_on_snapshot_request", "return|snapshot-unreadable|sending->index"),
    (NONSENSE, "daemon/storage/snapshot.c", "parse_header|parse_block|snapshot_parse", "SNAPSHOT_BAD"),
    (NONSENSE, "daemon/replicator/snapshot_meta.c", "snapshot_meta_decode", "return false"),
    (NONSENSE, "daemon/replicator/snapshot_install.c", "read_meta", "EBADMSG|E_VERSION"),
    (NONSENSE, "daemon/replicator/start.c", "may_give_up|replica_recover_config|replica_recover_run", "return (false|STORAGE_E_VERSION|r);"),
    ("damage that could cost the cluster its data is not drawn", "daemon/replicator/start.c", "may_give_up", "return false"),
    ("a state machine that has no snapshots", "daemon/replicator/", "replica_snapshot|replica_load_snapshot|replica_tend_taking", "EOPNOTSUPP|cannot load any|snprintf|return 0;"),
    ("the simulator's transport takes every endpoint", "daemon/replicator/membership.c", "replica_on_endpoint|connect_members", "unreachable|cannot connect|endpoint"),
    ("no frame holds an endpoint that is too long", "daemon/replicator/membership.c", "set_endpoints|change_config", "return (false|-EINVAL)"),
    (ALL_ALIKE, "daemon/replicator/divergence.c", "on_question", "another distance"),
    (NEVER_BROKEN, "daemon/replicator/membership.c", "result_from_change", "E_NOT_LEADER|E_STALE|return r;"),  # replica_change looks first
    (NEVER_BROKEN, "daemon/replicator/requests.c", "replica_propose_step|replica_propose", "EINVAL"),  # of its size
    (NEVER_BROKEN, "daemon/replicator/message.c", "replica_message_from_wire", "default|return false"),
    (NEVER_BROKEN, "daemon/replicator/replica.c", "replica_take_message|replica_take_frame|replica_take_event", "return 0;"),
    (NEVER_BROKEN, "daemon/replicator/update.c", "trace_progress|replica_find_read", r"TRACE_TERM|raft_assert\(false\)|return NULL"),
    (SELDOM, "daemon/replicator/update.c", "replica_step", "failed = r|return r;"),  # the disk fails between two writes
    (SELDOM, "daemon/replicator/replica.c", "replica_note_durable|replica_release_reads|replica_take_frame", "once there is room|read.failed = true|return replica->failed"),
    (SELDOM, "daemon/replicator/room.c", "replica_tick", "tick_held_us|return 0;"),  # a full disk when an election is due
    (SELDOM, "daemon/replicator/membership.c", "found|replica_bootstrap", r"DISK_FULL|return found"),  # told before it is founded
    (SELDOM, "daemon/replicator/requests.c", "replica_propose_step", "DISK_FULL"),
    (SELDOM, "daemon/replicator/snapshot_install.c", "ask_ahead|is_here|replica_on_snapshot_offer", "requested = wanted|newest.term|return install"),
    (SELDOM, "daemon/replicator/snapshot_install.c", "install|replica_on_snapshot_chunk", "replica_fail_level|return replica->failed"),  # an older program meets a newer snapshot
    (SELDOM, "daemon/storage/flush.c", "plan", "return 0;"),  # no spare file, and the record just fits
    (SELDOM, "daemon/storage/recovery_repair.c", "adopt_part", "return 0;"),  # a part that does not begin like one
    (SELDOM, "daemon/storage/check.c", "check_snapshot", "belongs to another cluster"),
]


def run_seed(program, seed, seconds):
    done = subprocess.run(
        [program, "--seed", str(seed), "--seconds", str(seconds)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode != 0:
        last = done.stdout.decode(errors="replace").strip().split("\n")[-1:]
        print(f"seed {seed} fails and leaves no coverage: {''.join(last)}", flush=True)
    return done.returncode == 0


def gcov(build):
    """{file: {line: [count, [branch counts], function]}} of everything below the folders."""
    files = {}
    for notes in sorted(path for folder in FOLDERS for path in (build / "obj" / folder).rglob("*.gcno")):
        done = subprocess.run(
            ["gcov", "--json-format", "--stdout", "--branch-probabilities", str(notes)],
            stdout=subprocess.PIPE,
            check=True,
        )
        for one in json.loads(done.stdout)["files"]:
            if not any(one["file"].startswith(folder + "/") for folder in FOLDERS):
                continue
            lines = files.setdefault(one["file"], {})
            for line in one["lines"]:
                known = lines.setdefault(line["line_number"], [0, [], line.get("function_name", "")])
                branches = [branch["count"] for branch in line["branches"]]
                known[0] += line["count"]
                if len(known[1]) == len(branches):
                    known[1] = [a + b for a, b in zip(known[1], branches)]
                elif not known[1]:
                    known[1] = branches
    return files


def assert_lines(text):
    """Numbers of the lines that a raft_assert spans."""
    numbers = set()
    for found in re.finditer(r"\braft_assert\(", text):
        depth, at = 1, found.end()
        while depth > 0 and at < len(text):
            depth += {"(": 1, ")": -1}.get(text[at], 0)
            at += 1
        numbers.update(range(text.count("\n", 0, found.start()) + 1, text.count("\n", 0, at) + 2))
    return numbers


class Count:
    def __init__(self):
        self.lines = self.lines_hit = self.branches = self.branches_hit = 0

    def add(self, other):
        for name in vars(self):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def __str__(self):
        def part(hit, of):
            return f"{100 * hit / of if of else 100:6.1f} % of {of:5}"

        return f"lines {part(self.lines_hit, self.lines)}   branches {part(self.branches_hit, self.branches)}"


def reason_of(path, function, source):
    for reason, where, functions, pattern in REASONS:
        if path.startswith(where) and re.search(pattern, source) and (not functions or re.fullmatch(functions, function)):
            return reason
    return "NOT EXPLAINED"


def measure(path, lines, missed):
    """missed: {reason: [lines]} grows."""
    count = Count()
    text = pathlib.Path(path).read_text()
    asserted = assert_lines(text)
    source = [line.strip() for line in text.split("\n")]
    for number, (hits, branches, function) in sorted(lines.items()):
        bare = source[number - 1]
        count.lines += 1
        count.lines_hit += hits > 0
        if hits == 0:
            missed.setdefault(reason_of(path, function, bare), []).append(f"{path}:{number}: {function}: {bare}")
        if number not in asserted and len(branches) > 1:
            count.branches += len(branches)
            count.branches_hit += sum(taken > 0 for taken in branches)
            if hits > 0 and 0 in branches:
                missed.setdefault("branches", []).append(f"{path}:{number}: {function}: {bare}")
    return count


def report(files, options):
    missed, whole = {}, Count()
    for folder in FOLDERS:
        total = Count()
        for path in sorted(path for path in files if str(pathlib.Path(path).parent) == folder):
            if path in EXCLUDED:
                continue
            count = measure(path, files[path], missed)
            total.add(count)
            print(f"  {path:36} {count}")
        print(f"{folder:38} {total}\n")
        whole.add(total)
    print(f"{'in all':38} {whole}\n")
    for path, why in EXCLUDED.items():
        print(f"  not counted: {path}: {why}")
    branches = missed.pop("branches", [])
    print("\nLines that were not reached:")
    for reason in sorted(missed):
        print(f"  {len(missed[reason]):5} {reason}")
        if options.unreached:
            print("\n".join(f"        {line}" for line in missed[reason]))
    if options.branches:
        print("\n".join(["\nReached, but not in every direction:", *(f"        {line}" for line in branches)]))
    return 100 * whole.lines_hit / whole.lines


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, required=True, help="holds raft-sim and obj/, built with --coverage")
    parser.add_argument("--seeds", type=int, default=400)
    parser.add_argument("--seconds", type=int, default=60, help="simulated seconds of one seed")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--unreached", action="store_true", help="list the lines that were not reached")
    parser.add_argument("--branches", action="store_true", help="and the branches")
    parser.add_argument("--least", type=float, default=0, help="fail below so many per cent of lines")
    options = parser.parse_args()
    for old in options.build.rglob("*.gcda"):
        old.unlink()
    program = str(options.build / "raft-sim")
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        passed = list(pool.map(lambda seed: run_seed(program, seed, options.seconds), range(1, options.seeds + 1)))
    print(f"{sum(passed)} seeds of {options.seconds} simulated seconds\n")
    return report(gcov(options.build), options) < options.least


if __name__ == "__main__":
    sys.exit(main())
