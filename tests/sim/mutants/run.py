#!/usr/bin/env python3
"""Shows that the simulator finds bugs: builds raft-sim with one deliberate bug at a time and looks for a seed that fails.

The bugs are in *.txt beside this file. A mutant is killed by the first seed with which raft-sim fails while the raft-sim
without the bug passes, and in a way that it was never seen to fail in. `make mutants` and `make mutants-check` run this; they hand over the compiler's and linker's
commands in the environment, so that there is one place that knows them.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
README = HERE.parent / "README.md"
TABLE_BEGIN = "<!-- mutants: written by `make mutants` -->"
TABLE_END = "<!-- mutants: end -->"
HANG_SECONDS = 120  # of one seed: a run takes a fraction of a second
CALM_SECONDS = 5  # simulated after every run; counts as simulated time


class Stale(Exception):
    """A mutant that no longer fits the sources, or was never right."""


class Mutant:
    def __init__(self, name):
        self.name = name
        self.breaks = ""
        self.harmless = ""  # why no run can show it, if so: then it is compiled, but not hunted
        self.hunks = []  # (path, [lines to find], [lines instead])

    def digest(self):
        text = json.dumps([self.breaks, self.hunks])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def paths(self):
        return sorted({path for path, _, _ in self.hunks})

    def apply(self, path):
        """The file's text with the bug in it. Lines are compared without their indentation."""
        lines = pathlib.Path(path).read_text().split("\n")
        for hunk_path, old, new in self.hunks:
            if hunk_path != path:
                continue
            bare = [line.strip() for line in lines]
            found = [at for at in range(len(bare) - len(old) + 1) if bare[at : at + len(old)] == old]
            if len(found) != 1:
                raise Stale(f"{self.name}: {path} holds its text {len(found)} times, not once: {old[0]!r} …")
            lines[found[0] : found[0] + len(old)] = new
        return "\n".join(lines)


def read_list(path):
    """mutant NAME / breaks SENTENCE / [harmless SENTENCE] / file PATH / lines with - (to find) and + (instead), one hunk for
    each `file`."""
    mutants = []
    for number, line in enumerate(path.read_text().split("\n"), 1):
        word, _, rest = line.partition(" ")
        if not line.strip() or line.startswith("#"):
            continue
        if word == "mutant":
            mutants.append(Mutant(rest.strip()))
        elif word == "breaks":
            mutants[-1].breaks = (mutants[-1].breaks + " " + rest.strip()).strip()
        elif word == "harmless":
            mutants[-1].harmless = (mutants[-1].harmless + " " + rest.strip()).strip()
        elif word == "file":
            mutants[-1].hunks.append((rest.strip(), [], []))
        elif line[0] == "-":
            mutants[-1].hunks[-1][1].append(line[1:].strip())
        elif line[0] == "+":
            mutants[-1].hunks[-1][2].append(line[1:])
        else:
            raise Stale(f"{path.name}:{number}: neither mutant, breaks, harmless, file, - nor +: {line!r}")
    for mutant in mutants:
        if not mutant.breaks or not mutant.hunks or any(not old or old == new for _, old, new in mutant.hunks):
            raise Stale(f"{mutant.name}: needs `breaks`, `file`, and in each hunk lines to find")
    return mutants


def read_lists():
    mutants = [mutant for path in sorted(HERE.glob("*.txt")) for mutant in read_list(path)]
    names = [mutant.name for mutant in mutants]
    for name in names:
        if not re.fullmatch(r"[a-z0-9-]+", name) or names.count(name) > 1:
            raise Stale(f"{name}: used twice, or not made of a-z, 0-9 and -")
    return mutants


# Building ----------------------------------------------------------------------------------------------


def command(variable):
    if variable not in os.environ:
        sys.exit(f"{variable} is not set: use make mutants or make mutants-check")
    return shlex.split(os.environ[variable])


def run_compiler(mutant, arguments):
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise Stale(f"{mutant.name}: does not build:\n{done.stdout}")


def compile_file(mutant, path, directory, options):
    """A bug may leave a variable unused: warnings are off. Asserts still name the file in the tree."""
    source = directory / path
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(mutant.apply(path))
    output = source.with_suffix(".o")
    run_compiler(
        mutant,
        command("MUTANT_COMPILE")
        + ["-w", "-Werror=implicit-function-declaration", "-iquote", os.path.dirname(path)]
        + [f"-fmacro-prefix-map={directory}/=", *options]
        + ["-c", str(source), "-o", str(output)],
    )
    return str(output)


def build(mutant, directory):
    """Mutated objects come before the archives, which then need not supply their symbols."""
    shutil.rmtree(directory, ignore_errors=True)
    objects = [compile_file(mutant, path, directory, []) for path in mutant.paths()]
    program = directory / "raft-sim"
    run_compiler(mutant, command("MUTANT_LINK") + objects + command("MUTANT_LIBS") + ["-o", str(program)])
    return program


def check(mutants, directory, jobs):
    def check_one(mutant):
        for path in mutant.paths():
            compile_file(mutant, path, directory / mutant.name, ["-fsyntax-only"])

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        list(pool.map(check_one, mutants))
    print(f"{len(mutants)} mutants apply and compile")


# Running -----------------------------------------------------------------------------------------------


def run_seed(program, seed, seconds):
    """(what failed or None, core seconds) of one seed."""
    process = subprocess.Popen(
        [str(program), "--seed", str(seed), "--seconds", str(seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    timer = threading.Timer(HANG_SECONDS, process.kill)
    timer.start()
    output = process.stdout.read().decode(errors="replace")
    process.stdout.close()
    _, status, usage = os.wait4(process.pid, 0)
    timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    return judge(process.returncode, output), usage.ru_utime + usage.ru_stime


def kind_of(failure):
    """What two failures of one cause have in common: all but the numbers."""
    return re.sub(r"\d+", "#", failure)


def judge(code, output):
    if code == 0:
        return None
    for pattern in (r"FAILED at \d+ us: (.*)", r"(?:<2>)?(.*invariant broken: .*)"):
        found = re.search(pattern, output)
        if found:
            return found.group(1)
    if code == -signal.SIGKILL:
        return "does not end"
    last = [line for line in output.split("\n") if line.strip()][-1:]
    ended = signal.Signals(-code).name if code < 0 else f"exit {code}"
    return f"{ended}: {last[0] if last else 'says nothing'}"


def passes_without(seed, options):
    """Whether the raft-sim without a bug passes; how it fails is no sign of a mutant any more."""
    without, _ = run_seed(options.original, seed, options.seconds)
    if without is not None and kind_of(without) not in options.failures_without:
        options.failures_without.add(kind_of(without))
        print(f"seed {seed} fails WITHOUT any mutant: {without}", flush=True)
    return without is None


def hunt(mutant, directory, options):
    program = build(mutant, directory / mutant.name)
    result = {"digest": mutant.digest(), "seconds": options.seconds, "killed": False, "seeds": 0, "core_seconds": 0.0}
    seed = options.first_seed
    while result["core_seconds"] < options.max_seconds:
        failure, core_seconds = run_seed(program, seed, options.seconds)
        result["seeds"] += 1
        result["core_seconds"] += core_seconds
        if failure is not None:
            undecided = "gave up" in failure  # the checker of histories ran out of patience
            if not undecided and passes_without(seed, options) and kind_of(failure) not in options.failures_without:
                result.update(killed=True, seed=seed, failure=failure)
                break
        seed += 1
    if not options.keep:
        shutil.rmtree(directory / mutant.name, ignore_errors=True)
    result["hours"] = result["seeds"] * (options.seconds + CALM_SECONDS) / 3600
    report = f"killed by seed {result['seed']}: {result['failure']}" if result["killed"] else "SURVIVED"
    print(
        f"{mutant.name}: {report} ({result['seeds']} seeds, {result['hours']:.2f} h simulated,"
        f" {result['core_seconds']:.1f} s)",
        flush=True,
    )
    return mutant.name, result


# Telling -----------------------------------------------------------------------------------------------


def measured(mutant, results):
    """What was found out about the mutant as it is written now, or None."""
    result = results.get(mutant.name)
    return result if result is not None and result["digest"] == mutant.digest() else None


def table(mutants, results):
    harmless = [f"- `{mutant.name}`: {mutant.breaks} {mutant.harmless}" for mutant in mutants if mutant.harmless]
    mutants = [mutant for mutant in mutants if not mutant.harmless]
    rows = ["| mutant | what it breaks | seed | seeds | simulated | core | found as |", "|---|---|---|---|---|---|---|"]
    for mutant in mutants:
        result = measured(mutant, results)
        if result is None:
            rows.append(f"| `{mutant.name}` | {mutant.breaks} | – | – | – | – | not measured as it stands |")
            continue
        found = result["failure"].replace("|", "\\|") if result["killed"] else "**survived**"
        rows.append(
            f"| `{mutant.name}` | {mutant.breaks} | {result.get('seed', '–')} | {result['seeds']} |"
            f" {result['hours']:.2f} h | {result['core_seconds']:.1f} s | {found} |"
        )
    known = [measured(mutant, results) for mutant in mutants]
    killed = sum(result is not None and result["killed"] for result in known)
    head = f"{len(mutants)} mutants, {killed} killed, {len(mutants) - killed - known.count(None)} survived"
    head += f", {known.count(None)} not measured as they stand." if None in known else "."
    return "\n".join(
        [head, "", *rows, "", "Changes that no run can show, and why:", "", *harmless]
    )


def write_table(mutants, results):
    text = README.read_text()
    before, begin, rest = text.partition(TABLE_BEGIN)
    _, end, after = rest.partition(TABLE_END)
    if not begin or not end:
        raise Stale(f"{README} lacks the lines {TABLE_BEGIN} and {TABLE_END}")
    README.write_text(f"{before}{begin}\n\n{table(mutants, results)}\n\n{end}{after}")


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="only these mutants")
    parser.add_argument("--list", action="store_true", help="print names and sentences")
    parser.add_argument("--check", action="store_true", help="only: do all mutants apply and compile?")
    parser.add_argument("--table", action="store_true", help="only: write the table from what was measured before")
    parser.add_argument("--survivors", action="store_true", help="only those that survived the last time, or are new")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time, one core each")
    parser.add_argument("--max-seconds", type=float, default=300, help="core seconds for one mutant")
    parser.add_argument("--seconds", type=int, default=60, help="simulated seconds of one seed")
    parser.add_argument("--keep", action="store_true", help="leave each mutant's raft-sim in the build folder")
    parser.add_argument("--baseline", type=int, default=40, help="seeds that the raft-sim without a bug runs first")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build/mutants"))
    parser.add_argument("--original", help="the raft-sim without a bug")
    return parser.parse_args()


def main():
    options = parse_options()
    mutants = read_lists()
    wanted = [m for m in mutants if m.name in options.names or (not options.names and (options.check or not m.harmless))]
    unknown = set(options.names) - {mutant.name for mutant in mutants}
    if unknown:
        raise Stale(f"no such mutant: {', '.join(sorted(unknown))}")
    if options.list:
        for mutant in wanted:
            print(f"{mutant.name}: {mutant.breaks}")
        return 0
    if options.check:
        check(wanted, options.build / "check", options.jobs)
        return 0
    options.failures_without = set()  # kinds of failures that prove nothing about a mutant
    options.build.mkdir(parents=True, exist_ok=True)
    record = options.build / "results.json"
    results = json.loads(record.read_text()) if record.exists() else {}
    if options.table:
        write_table(mutants, results)
        return 0
    if options.survivors:
        wanted = [m for m in wanted if results.get(m.name, {}).get("digest") != m.digest() or not results[m.name]["killed"]]
    began = time.time()
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda seed: passes_without(seed, options), range(1, options.baseline + 1)))
        for done in concurrent.futures.as_completed([pool.submit(hunt, m, options.build, options) for m in wanted]):
            name, result = done.result()
            results[name] = result
            record.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    survivors = [mutant.name for mutant in wanted if not results[mutant.name]["killed"]]
    print(f"{len(wanted)} mutants, {len(survivors)} survived, {time.time() - began:.0f} s: {' '.join(survivors)}")
    write_table(mutants, results)
    return 1 if survivors else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Stale as problem:
        sys.exit(f"mutants: {problem}")
