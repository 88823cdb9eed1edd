"""libreplicator as another program sees it: installed somewhere, found by pkg-config, built against, run as a cluster."""

import os
import pathlib
import shutil
import subprocess
import tempfile

from cluster import Process, free_ports, wait_for

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLE = "usr/share/doc/libreplicator-dev/examples/counter.c"


def install(env, directory):
    """What `make install` puts there: the folder that stands for the root of a file system."""
    command = ["make", "-s", "-C", str(ROOT), "install-library", f"DESTDIR={directory}", "PREFIX=/usr", "LIBDIR=/usr/lib"]
    build = pathlib.Path(env.bin)
    if build.name.startswith("san-"):
        command += [f"SAN={build.name[4:].replace('-', ',')}"]
        build = build.parent
    subprocess.run([*command, f"BUILD={build}"], check=True, capture_output=True, timeout=200)


def pkg_config(directory, *arguments):
    environ = dict(os.environ)
    environ |= {"PKG_CONFIG_PATH": f"{directory}/usr/lib/pkgconfig", "PKG_CONFIG_SYSROOT_DIR": directory}
    command = ["pkg-config", *arguments, "libreplicator"]
    return subprocess.run(command, env=environ, check=True, capture_output=True, text=True).stdout.split()


def compile_example(directory, *options):
    program = f"{directory}/counter"
    flags = pkg_config(directory, "--cflags", "--libs")
    command = [*options, "-Wall", "-Wextra", "-Werror", f"{directory}/{EXAMPLE}", "-o", program, *flags]
    result = subprocess.run([*command, f"-Wl,-rpath,{directory}/usr/lib"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return program


class Counter(Process):
    """One member of the example's cluster: lines in, lines out."""

    def __init__(self, directory, program, k):
        super().__init__(f"counter {k}", [program, str(k), f"{directory}/counter.conf"], f"{directory}/{k}.log", None)
        os.makedirs(f"{directory}/data/{k}")
        self.asked = 0

    def start(self, wait=False):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.DEVNULL)
        self.answered_before = len(self.lines())

    def lines(self):
        with open(self.log_path, encoding="ascii") as log:
            return log.read().splitlines()

    def ask(self, text):
        """The answer to one line."""
        seen = len(self.lines())
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()
        wait_for(lambda: len(self.lines()) > seen, 10, f"an answer of {self.name} to {text!r}")
        return self.lines()[seen]


def ask_leader(counters, text):
    """Asks one after the other until one answers that it could; an addition that was refused changed nothing."""

    def answer():
        for counter in counters:
            if counter.running():
                reply = counter.ask(text)
                assert not reply.startswith("unknown"), reply
                if not reply.startswith(("no:", "again:")):
                    return reply
        return None

    return wait_for(answer, 20, f"somebody to answer {text!r}", interval=0.05)


def write_config(directory):
    ports = free_ports(6)
    lines = ["[cluster]", "name = counters"]
    for k in (1, 2, 3):
        lines += [f"[member {k}]", f"peer = tcp://127.0.0.1:{ports.pop()}", f"client = tcp://127.0.0.1:{ports.pop()}"]
    lines += ["[raft]", f"data_root = {directory}/data"]
    with open(f"{directory}/counter.conf", "w", encoding="ascii") as file:
        file.write("\n".join(lines) + "\n")


def run_counters(directory, program):
    write_config(directory)
    counters = [Counter(directory, program, k) for k in (1, 2, 3)]
    try:
        for counter in counters:
            counter.start()
        assert ask_leader(counters, "40").endswith(" 40")
        assert ask_leader(counters, "2").endswith(" 42")
        leader = next(counter for counter in counters if counter.ask("") == "total 42")
        assert leader.ask("twelve") == "type a whole number, or nothing"
        leader.kill()
        assert ask_leader(counters, "-2").endswith(" 40")
        leader.start()
        for counter in counters:
            if counter is not leader and counter.ask("") == "total 40":
                counter.kill()
                break
        assert ask_leader(counters, "") == "total 40", "with the restarted member in the majority"
    finally:
        for counter in counters:
            if counter.running():
                counter.process.stdin.close()
                assert counter.process.wait(15) == 0, f"{counter.name} at the end of its input"


def test_example_runs_against_the_installed_library(env):
    """The example of libreplicator-dev, built with pkg-config: three counters agree, a killed one catches up."""
    directory = tempfile.mkdtemp(prefix="raft-e2e-library-")
    try:
        install(env, directory)
        assert len(pathlib.Path(directory, EXAMPLE).read_text(encoding="utf-8").splitlines()) < 100
        run_counters(directory, compile_example(directory, "cc"))
    finally:
        shutil.rmtree(directory)


def test_header_stands_alone(env):
    """replicator.h compiles by itself, strictly, as C11 and as C++, and the library shows its functions only."""
    directory = tempfile.mkdtemp(prefix="raft-e2e-library-")
    try:
        install(env, directory)
        cflags = pkg_config(directory, "--cflags")
        for language, standard in (("c", "c11"), ("c++", "c++11")):
            command = ["cc", "-x", language, f"-std={standard}", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", *cflags, "-"]
            source = "#include <replicator/replicator.h>\n"
            result = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
            assert result.returncode == 0, result.stderr
        library = f"{directory}/usr/lib/libreplicator.so.0"
        names = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
        shown = {line.split()[-1] for line in names.splitlines() if line.split()[1] == "T"}
        assert shown and all(name.startswith("replicator_") and name.endswith("@@REPLICATOR_0") for name in shown), shown
    finally:
        shutil.rmtree(directory)
