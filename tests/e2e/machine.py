"""A whole machine with its own systemd, in a container: what an operator has after `apt install` and a boot.

The base system is made once by mmdebstrap, from the mirrors and the release that apt has here, and kept in the cache
($RAFT_E2E_CACHE, otherwise ~/.cache/raft-kv). A machine is a copy of it, booted by systemd-nspawn without a network and entered
with nsenter. Needs root.
"""

import fcntl
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time

from cluster import Skip, wait_for

BASE_TIMEOUT_S = 900
BOOT_TIMEOUT_S = 90
STOP_TIMEOUT_S = 60
# Whatever the package needs comes from its own Depends.
BASE_PACKAGES = ["systemd-sysv", "dbus", "init-system-helpers", "netcat-openbsd"]
PROGRAMS = ["mmdebstrap", "systemd-nspawn", "nsenter", "apt-get", "dpkg-deb"]


def check_host():
    """Skips where a person has no root; where CI runs, or who asks for it, is told that it fails."""
    if os.environ.get("RAFT_E2E_SYSTEMD") == "0":
        raise Skip("RAFT_E2E_SYSTEMD=0")
    wrong = ""
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if missing:
        wrong = f"there is no {', '.join(missing)} here; packaging/install-deps installs them"
    elif os.geteuid() != 0:
        wrong = "booting a machine with systemd-nspawn needs root"
    if wrong and (os.environ.get("CI") or os.environ.get("RAFT_E2E_SYSTEMD") == "1"):
        raise AssertionError(wrong)
    if wrong:
        raise Skip(wrong)


def output_of(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def find_sources():
    """(codename, lines of sources.list) of the distribution that runs here, without what others have added."""
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', pathlib.Path("/etc/os-release").read_text(encoding="utf-8"), re.M))
    codename = release["VERSION_CODENAME"]
    listing = ["apt-get", "indextargets", "--format", "$(REPO_URI)\t$(RELEASE)\t$(COMPONENT)\t$(ORIGIN)", "Identifier: Packages"]
    targets = output_of(*listing)
    if release["ID"].lower() not in targets.lower():
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        targets = output_of(*listing)
    components = {}
    for line in targets.splitlines():
        uri, suite, component, origin = line.split("\t")
        if origin.lower() == release["ID"] and suite.startswith(codename):
            components.setdefault((uri, suite), set()).add(component)
    assert components, f"apt knows no mirror of {release['ID']} {codename}:\n{targets}"
    return codename, [f"deb {uri} {suite} {' '.join(sorted(names))}" for (uri, suite), names in sorted(components.items())]


def needed_packages(package):
    """The first alternative of everything that the .deb depends on."""
    depends = output_of("dpkg-deb", "--field", str(package), "Depends")
    return sorted({*BASE_PACKAGES, *(re.match(r"\s*([^\s(|:]+)", word)[1] for word in depends.split(","))})


def base_tree(package):
    """The folder of a base system in which the package can be installed; made when it is not in the cache."""
    cache = pathlib.Path(os.environ.get("RAFT_E2E_CACHE") or pathlib.Path.home() / ".cache" / "raft-kv")
    cache.mkdir(parents=True, exist_ok=True)
    codename, sources = find_sources()
    packages = needed_packages(package)
    key = hashlib.sha256("\n".join([*sources, *packages]).encode()).hexdigest()[:12]
    tree = cache / f"base-{codename}-{key}"
    with open(cache / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if tree.exists():
            return tree
        signal.alarm(BASE_TIMEOUT_S)
        part = cache / f"part-{os.getpid()}"
        command = ["mmdebstrap", "--quiet", "--variant=minbase", "--dpkgopt=force-unsafe-io", f"--include={','.join(packages)}"]
        made = subprocess.run([*command, codename, part, *sources], capture_output=True, text=True, check=False)
        if made.returncode != 0:
            shutil.rmtree(part, ignore_errors=True)
            raise AssertionError(f"mmdebstrap: {made.stderr[-3000:]}")
        part.rename(tree)
    return tree


class Machine:
    """Boots; `run` runs a command in it."""

    def __init__(self, base):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="raft-machine-", dir="/var/tmp"))
        self.console = self.root.with_suffix(".console")
        self.nspawn = None
        self.pid = None
        subprocess.run(["cp", "-a", "--reflink=auto", f"{base}/.", self.root], check=True)

    def boot(self):
        command = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network", "--console=pipe"]
        command += ["--resolv-conf=off", "--timezone=off", "--hostname=raft-e2e", "--boot", f"--directory={self.root}"]
        # The older hierarchy of cgroups has a race in a container: one that was emptied is sometimes gone when the next
        # process of its unit is to enter it (status=219/CGROUP).
        environ = os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
        with open(self.console, "wb") as console:
            self.nspawn = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True, env=environ
            )

        def started():
            code = self.nspawn.poll()
            if code is not None:
                raise AssertionError(f"systemd-nspawn ended with {code}:\n{self.read_console()}")
            self.pid = self.find_init()
            return self.pid and self.run("systemctl", "is-system-running", check=False).stdout.strip() in (
                "running",
                "degraded",
            )

        wait_for(started, BOOT_TIMEOUT_S, "the machine to boot", interval=0.2)

    def find_init(self):
        path = pathlib.Path(f"/proc/{self.nspawn.pid}/task/{self.nspawn.pid}/children")
        children = path.read_text(encoding="ascii").split()
        return int(children[0]) if children else None

    def read_console(self):
        return self.console.read_text(encoding="utf-8", errors="replace")[-4000:]

    def path(self, inside):
        """A file of the running machine, also below /run, as this process reaches it."""
        return pathlib.Path(f"/proc/{self.pid}/root{inside}")

    def run(self, *command, check=True, timeout=120, **options):
        options = {"capture_output": True, "text": True} | options
        words = ["nsenter", "-t", str(self.pid), "-a", "--", *map(str, command)]
        result = subprocess.run(words, timeout=timeout, check=False, **options)
        if check and result.returncode != 0:
            raise AssertionError(f"{' '.join(map(str, command))}: {result.returncode}\n{result.stdout}\n{result.stderr}")
        return result

    def systemctl(self, *words, check=True, timeout=120):
        return self.run("systemctl", *words, check=check, timeout=timeout)

    def show(self, unit, name):
        return self.systemctl("show", "--value", f"--property={name}", unit).stdout.strip()

    def journal(self, *words):
        """Lines as dictionaries of their fields."""
        lines = self.run("journalctl", "--no-pager", "--output=json", "--all", *words).stdout.splitlines()
        return [json.loads(line) for line in lines]

    def journal_text(self, *words):
        return self.run("journalctl", "--no-pager", *words).stdout

    def stop(self):
        if self.nspawn is not None and self.nspawn.poll() is None:
            if self.pid:
                os.kill(self.pid, signal.SIGRTMIN + 4)  # poweroff, systemd(1)
            try:
                self.nspawn.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.nspawn.kill()
                self.nspawn.wait()
        shutil.rmtree(self.root, ignore_errors=True)
        self.console.unlink(missing_ok=True)


def repack(package, version, directory):
    """The same package under a newer version: what an upgrade does depends on the scripts, not on the programs."""
    tree = tempfile.mkdtemp(prefix="repack-", dir=directory)
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
    control = pathlib.Path(tree, "DEBIAN", "control")
    control.write_text(re.sub(r"(?m)^Version: .*$", f"Version: {version}", control.read_text(encoding="utf-8")), encoding="utf-8")
    path = pathlib.Path(directory, f"upgrade-{version}.deb")
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", tree, path], check=True, capture_output=True)
    shutil.rmtree(tree)
    return path


def seconds_since(began):
    return time.monotonic() - began
