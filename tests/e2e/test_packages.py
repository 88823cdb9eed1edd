"""The Debian and rpm packages, built here: what is in them, what their scripts do, what the checkers say of them.

An installed package on a booted systemd is another test's business. `contents/PACKAGE.deb` and `.rpm` list what each package has; a
new file belongs there, too.
"""

import contextlib
import functools
import hashlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile

from cluster import Skip

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONTENTS = pathlib.Path(__file__).resolve().parent / "contents"
BUILD_TIMEOUT_S = 900


def run(*command, **options):
    options = {"check": True, "capture_output": True, "text": True, "timeout": BUILD_TIMEOUT_S} | options
    try:
        return subprocess.run([str(word) for word in command], **options)
    except subprocess.CalledProcessError as error:
        raise AssertionError(f"{error}\n{error.stdout}\n{error.stderr}") from error


def build(script, *arguments, **options):
    """Compiling takes what it takes on a busy host: the time for one test does not run meanwhile."""
    left = signal.alarm(0)
    try:
        run(ROOT / "packaging" / script, *arguments, **options)
    finally:
        signal.alarm(left)


def needs(*programs):
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        raise Skip(f"there is no {', '.join(missing)} here")


@contextlib.contextmanager
def scratch(env):
    path = tempfile.mkdtemp(prefix="raft-packages-")
    try:
        yield pathlib.Path(path)
    finally:
        if env.keep:
            env.note(f"kept {path}")
        else:
            shutil.rmtree(path)


def expect_contents(name, kind, lines, **words):
    text = (CONTENTS / f"{name}.{kind}").read_text(encoding="ascii")
    for word, value in words.items():
        text = text.replace(word, value)
    expected, found = set(text.splitlines()), set(lines)
    assert found == expected, f"{name}.{kind}: too much {sorted(found - expected)}, missing {sorted(expected - found)}"


def package_files(package):
    """MODE PATH [-> TARGET] of the files of a .deb; everything must be root's."""
    lines = []
    for line in run("dpkg-deb", "--contents", package).stdout.splitlines():
        mode, owner, _size, _day, _time, path = line.split(maxsplit=5)
        assert owner == "root/root", line
        if mode.startswith("d"):
            assert mode == "drwxr-xr-x", line
        else:
            lines.append(f"{mode} {path.removeprefix('./')}")
    return lines


def makefile_version():
    return re.search(r"^VERSION *:= *(\S+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)[1]


def test_versions_agree(_env):
    """Makefile, Debian's changelog and the spec name one version; the downgrade guard knows the program's feature level."""
    version = makefile_version()
    changelog = (ROOT / "packaging/debian/changelog").read_text(encoding="utf-8")
    spec = (ROOT / "packaging/rpm/raft-kv.spec").read_text(encoding="utf-8")
    assert changelog.startswith(f"raft-kv ({version}) ")
    assert re.search(r"^Version: *(\S+)", spec, re.M)[1] == version
    assert re.search(rf"^%changelog\n\* .* - {re.escape(version)}-1$", spec, re.M)
    level = re.search(r"#define RAFT_LEVEL_MAX (\d+)u", (ROOT / "daemon/entry.h").read_text(encoding="utf-8"))[1]
    prerm = (ROOT / "packaging/debian/raft-kv.prerm").read_text(encoding="utf-8")
    assert re.search(r"^own_level=(\d+)$", prerm, re.M)[1] == level


def digests(directory):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in pathlib.Path(directory).glob("*.deb")}


DEBIAN_PACKAGES = ("raft-kv", "libreplicator0", "libreplicator-dev")


@functools.cache
def built_debs():
    """One build for several tests; the folder goes when the process ends."""
    needs("dpkg-buildpackage", "dh", "lintian")
    folder = tempfile.TemporaryDirectory(prefix="raft-packages-")
    build("build-deb", "--out", folder.name)
    return folder


def test_debian_packages(_env):
    """The .debs hold what is listed, owned by root, and depend on a libevent with its fixes; lintian finds nothing at all."""
    folder = pathlib.Path(built_debs().name)
    arch = run("dpkg-architecture", "-qDEB_HOST_MULTIARCH").stdout.strip()
    packages = {name: next(folder.glob(f"{name}_{makefile_version()}_*.deb")) for name in DEBIAN_PACKAGES}
    for name, package in packages.items():
        expect_contents(name, "deb", package_files(package), ARCH=arch)
    assert "libevent-core-2.1-7 (>= 2.1.12-" in run("dpkg-deb", "--field", packages["raft-kv"], "Depends").stdout
    assert run("dpkg-deb", "--info", packages["raft-kv"], "conffiles").stdout == "/etc/raft/raft.conf\n"
    changes = next(folder.glob("*.changes"))
    found = run("lintian", "--allow-root", "--pedantic", "--display-info", "--tag-display-limit", "0", changes)
    assert found.stdout == "", found.stdout


def test_debian_packages_are_reproducible(env):
    """A build elsewhere, by somebody with other habits, gives the same bytes."""
    first = digests(built_debs().name)
    with scratch(env) as directory:
        environ = os.environ | {"TZ": "Pacific/Auckland", "LC_ALL": "C.UTF-8", "USER": "somebody", "HOME": str(directory)}
        place = directory / "a-place-with-a-much-longer-name"
        build("build-deb", "--out", directory, "--work", place, env=environ, umask=0o077)
        second = digests(directory)
    assert len(first) == 5 and first == second, f"{first}\n{second}"


# Stand-ins note that they were called; the script runs where it can change nothing: see run_script().
FAKES = ("systemctl", "deb-systemd-helper", "deb-systemd-invoke", "systemd-sysusers", "raftctl", "systemd-tmpfiles", "journalctl")
PRELUDE = """
set -e
[ ! -e /usr/sbin/policy-rc.d ] || mount --bind "$FAKES/policy" /usr/sbin/policy-rc.d
for place in /run /etc /var/lib; do mount -t tmpfs none "$place"; done
mkdir -p /run/systemd/system /var/lib/raft/1 /var/lib/raft/2 /etc/raft /etc/systemd/system/raft.target.wants
echo data >/var/lib/raft/1/log
ln -s nowhere /etc/systemd/system/raft.target.wants/raft@1.service
[ -z "$MARK" ] || : >"$MARK"
status=0
sh "$SCRIPT" "$@" || status=$?
find /var/lib /run /etc -mindepth 1 ! -path '/run/systemd*' ! -path /run/mount | sort >"$CALLS.left" || true
exit "$status"
"""

ENABLED = ["/etc/raft", "/etc/systemd", "/etc/systemd/system", "/etc/systemd/system/raft.target.wants"]
ENABLED += ["/etc/systemd/system/raft.target.wants/raft@1.service"]
DATA = [*ENABLED, "/var/lib/raft", "/var/lib/raft/1", "/var/lib/raft/1/log", "/var/lib/raft/2"]


class Scripts:
    """Maintainer scripts, run one at a time as root in a mount namespace with stand-ins for all that acts on the host."""

    def __init__(self, directory):
        if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False).returncode != 0:
            raise Skip("scripts are run as root, in a mount namespace")
        self.directory = directory
        self.calls = directory / "calls"
        (directory / "fakes").mkdir()
        self.policy = 104  # of a host that has a policy-rc.d: do it
        self.answers = {name: "exit 0" for name in FAKES}

    def run(self, script, *arguments, mark=""):
        """(exit status, calls, files that are left, what was said)"""
        for name, answer in self.answers.items():
            fake = self.directory / "fakes" / name
            fake.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.calls}\n{answer}\n', encoding="ascii")
            fake.chmod(0o755)
        self.calls.write_text("", encoding="ascii")
        environ = {"PATH": f"{self.directory}/fakes:/usr/sbin:/usr/bin:/sbin:/bin", "SCRIPT": str(script), "MARK": mark}
        policy = self.directory / "fakes" / "policy"
        policy.write_text(f"#!/bin/sh\nexit {self.policy}\n", encoding="ascii")
        policy.chmod(0o755)
        environ |= {"FAKES": str(policy.parent), "CALLS": str(self.calls), "DPKG_MAINTSCRIPT_PACKAGE": "raft-kv", "DPKG_MAINTSCRIPT_NAME": "x"}
        command = ["unshare", "-m", "--propagation", "private", "sh", "-c", PRELUDE, "sh", *arguments]
        result = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
        calls = self.calls.read_text(encoding="ascii").splitlines()
        left = pathlib.Path(f"{self.calls}.left").read_text(encoding="ascii").split()
        return result.returncode, calls, left, result.stdout + result.stderr


def stops_or_restarts(calls):
    return [call for call in calls if re.match(r"(systemctl|deb-systemd-invoke) (-\S+ )*(stop|restart|try-restart|reload)\b", call)]


def test_debian_scripts(env):
    """Installing starts the socket only, upgrading restarts through raftctl alone, removing keeps data, purging deletes them."""
    needs("unshare")
    with scratch(env) as directory:
        scripts = Scripts(directory)
        # As packed: debhelper writes a part of each.
        run("dpkg-deb", "--control", next(pathlib.Path(built_debs().name).glob("raft-kv_*.deb")), directory / "control")
        script = {name: directory / "control" / name for name in ("preinst", "postinst", "prerm", "postrm")}
        mark = "/run/raft-kv.install"

        status, calls, left, _ = scripts.run(script["preinst"], "install")
        assert status == 0 and calls == [] and sorted([mark, *DATA]) == left, f"{calls} {left}"
        status, calls, left, _ = scripts.run(script["postinst"], "configure", "", mark=mark)
        assert status == 0 and left == DATA and stops_or_restarts(calls) == [], f"{calls} {left}"
        assert "deb-systemd-invoke start raft-bridge.socket raft.target" in calls
        assert not any(call.startswith("raftctl") for call in calls), f"{calls}"

        status, calls, left, _ = scripts.run(script["preinst"], "upgrade", "0.2.0")
        assert status == 0 and calls == [] and left == DATA, f"{calls} {left}"
        status, calls, left, _ = scripts.run(script["prerm"], "upgrade", "9.0.0")
        assert status == 0 and calls == [] and left == DATA, f"{calls} {left}"
        status, calls, left, _ = scripts.run(script["postrm"], "upgrade", "9.0.0")
        assert status == 0 and calls == [] and left == DATA, f"{calls} {left}"
        status, calls, left, _ = scripts.run(script["postinst"], "configure", "0.2.0")
        assert status == 0 and left == DATA and stops_or_restarts(calls) == [], f"{calls} {left}"
        assert calls[-2:] == ["systemctl --system daemon-reload", "raftctl restart --rolling --bridge"], f"{calls}"
        if os.path.exists("/usr/sbin/policy-rc.d"):
            scripts.policy = 101
            assert scripts.run(script["postinst"], "configure", "0.2.0")[1][-1] == "systemctl --system daemon-reload"
            scripts.policy = 104
        scripts.answers["raftctl"] = "exit 1"
        status, calls, left, said = scripts.run(script["postinst"], "configure", "0.2.0")
        assert status == 0 and "not all of what runs here was restarted" in said, f"{status} {said}"

        status, calls, left, _ = scripts.run(script["prerm"], "remove")
        assert status == 0 and len(stops_or_restarts(calls)) == 1 and "raft@*.service" in calls[0] and left == DATA, f"{calls} {left}"
        status, calls, left, _ = scripts.run(script["postrm"], "remove")
        assert status == 0 and left == DATA and stops_or_restarts(calls) == [], f"{calls} {left}"
        status, calls, left, _ = scripts.run(script["postrm"], "purge")
        assert status == 0 and left == ["/etc/systemd", "/etc/systemd/system"], f"{calls} {left}"


def test_debian_downgrade(env):
    """A version that cannot read the data does not replace this one, unless the cluster still runs at its feature level."""
    needs("dpkg", "unshare")
    with scratch(env) as directory:
        scripts = Scripts(directory)
        prerm = ROOT / "packaging/debian/raft-kv.prerm"
        assert scripts.run(prerm, "upgrade", "0.3.0")[:2] == (0, [])
        scripts.answers["raftctl"] = """echo '{"feature_level":2,"members":[{"feature_level":2}]}'"""
        status, calls, left, said = scripts.run(prerm, "upgrade", "0.1.0")
        assert status == 1 and "version 0.1.0 cannot read" in said and left == DATA and stops_or_restarts(calls) == []
        scripts.answers["raftctl"] = "exit 3"
        assert scripts.run(prerm, "upgrade", "0.1.0")[0] == 1
        # Nothing in /var/lib/raft: raft.conf has put the data elsewhere, or there is none.
        elsewhere = "rm -rf /var/lib/raft/*\n"
        scripts.answers["raftctl"] = elsewhere + """echo '{"feature_level":2,"members":[{"feature_level":2}]}'"""
        assert scripts.run(prerm, "upgrade", "0.1.0")[0] == 1
        scripts.answers["raftctl"] = elsewhere + """echo '{"feature_level":null,"members":[{"feature_level":null}]}'; exit 3"""
        assert scripts.run(prerm, "upgrade", "0.1.0")[0] == 0
        scripts.answers["raftctl"] = """echo '{"feature_level":1,"members":[{"feature_level":1}]}'"""
        assert scripts.run(prerm, "upgrade", "0.1.0")[0] == 0
        assert scripts.run(prerm, "failed-upgrade", "0.3.0", "0.2.0")[0] == 1, "the older version must not insist"
        assert scripts.run(prerm, "failed-upgrade", "0.2.0", "0.3.0")[0] == 0


# A copy of this host's file system, in memory, where packages are installed: no service manager runs in it.
COPY = """
set -e
mount -t tmpfs none "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay none -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount -t tmpfs none "$1/root/run"
for place in dev proc; do mount --rbind "/$place" "$1/root/$place"; done
mkdir "$1/root/packages"
cp "$2"/*.deb "$3" "$1/root/packages"
rm -rf "$1/root/etc/raft" "$1/root/var/lib/raft" "$1/root/var/lib/man-db/auto-update"
chroot "$1/root" sh -euc "$4"
"""

LIFE = """
cd /packages
export DEBIAN_FRONTEND=noninteractive
installed() { dpkg-query -W -f '${Version} ${Status}' raft-kv; }
expect() { [ "$2" = "$3" ] || { echo "$1: $2, not $3"; exit 1; }; }

dpkg -i raft-kv_$V.deb
expect 'after the installation' "$(installed)" "$V install ok installed"
[ ! -e /var/lib/raft ] || { echo 'a data directory was made'; exit 1; }
id raft
getent group raft-client
raftd --check-config --config /etc/raft/raft.conf --id 5

mkdir -p /var/lib/raft/1
echo data >/var/lib/raft/1/log
echo '# mine' >>/etc/raft/raft.conf
dpkg -i raft-kv_9.0.0.deb
expect 'after the upgrade' "$(installed)" '9.0.0 install ok installed'
expect 'the configuration' "$(tail -n 1 /etc/raft/raft.conf)" '# mine'

! dpkg -i raft-kv_0.1.0.deb || { echo 'it was replaced by a version that cannot read its data'; exit 1; }
expect 'after the downgrade' "$(installed)" '9.0.0 install ok installed'

dpkg -r raft-kv
[ ! -e /usr/sbin/raftd ] || { echo 'the program is still there'; exit 1; }
expect 'data after the removal' "$(cat /var/lib/raft/1/log)" data
expect 'the configuration' "$(tail -n 1 /etc/raft/raft.conf)" '# mine'
dpkg -i raft-kv_$V.deb
dpkg -P raft-kv
for path in /var/lib/raft /etc/raft /usr/sbin/raftd /usr/bin/raftctl; do
	[ ! -e "$path" ] || { echo "$path is still there"; exit 1; }
done
id raft >/dev/null

dpkg -i libreplicator0_*.deb libreplicator-dev_*.deb
sh ./library
"""


def repack(package, version, directory):
    """The same package under another version."""
    tree = directory / f"tree-{version}"
    run("dpkg-deb", "--raw-extract", package, tree)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^Version: .*$", f"Version: {version}", control.read_text(encoding="utf-8")), encoding="utf-8")
    run("dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, directory / f"raft-kv_{version}.deb")


def test_debian_packages_live(env):
    """dpkg installs, upgrades, refuses a downgrade, removes and purges; the library's own test passes as installed."""
    folder = pathlib.Path(built_debs().name)
    if os.geteuid() != 0 or not shutil.which("systemd-sysusers"):
        raise Skip("packages are installed as root, on a host with systemd")
    with scratch(env) as directory:
        debs = directory / "debs"
        debs.mkdir()
        version = makefile_version()
        package = next(folder.glob(f"raft-kv_{version}_*.deb"))
        shutil.copy(package, debs / f"raft-kv_{version}.deb")
        for name in ("libreplicator0", "libreplicator-dev"):
            shutil.copy(next(folder.glob(f"{name}_{version}_*.deb")), debs)
        for other in ("9.0.0", "0.1.0"):
            repack(package, other, debs)
        (directory / "copy").mkdir()
        mountable = 'mount -t tmpfs none "$1" && cd "$1" && mkdir u w m && mount -t overlay none -o lowerdir=/,upperdir=u,workdir=w m'
        private = ["unshare", "-m", "--propagation", "private", "sh", "-c"]
        if subprocess.run([*private, mountable, "sh", directory / "copy"], capture_output=True, check=False).returncode != 0:
            raise Skip("this kernel lets nobody mount an overlay here")
        life = f"V={version}\n{LIFE}"
        arguments = [directory / "copy", debs, ROOT / "packaging/debian/tests/library", life]
        result = subprocess.run([*private, COPY, "sh", *arguments], capture_output=True, text=True, timeout=120, check=False)
        assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"


def rpm_files(package):
    lines = []
    for line in run("rpm", "-qp", "--queryformat", "[%{FILEMODES:perms} %{FILENAMES} %{FILEUSERNAME}\n]", package).stdout.splitlines():
        mode, path, owner = line.split()
        assert owner == "root", line
        path = re.sub(r"(/man[0-9]/.*)[.]gz$", r"\1", path)  # compressed or not, as the distribution likes
        lines.append(f"{mode} {path.removeprefix('/')}")
    return lines


def rpm_script(package, name, path):
    """One scriptlet as a file."""
    path.write_text(run("rpm", "-qp", "--queryformat", f"%{{{name}}}", package).stdout, encoding="utf-8")
    return path


def check_rpm_scripts(directory, package):
    scripts = Scripts(directory)
    name = {tag: rpm_script(package, tag, directory / tag) for tag in ("PREIN", "POSTIN", "PREUN", "POSTUN")}
    status, calls, left, said = scripts.run(name["POSTIN"], "1")
    assert status == 0 and left == DATA and stops_or_restarts(calls) == [], f"{calls} {left} {said}"
    assert calls == ["systemctl --no-reload preset raft.target raft-bridge.socket raft-bridge.service"], f"{calls}"
    assert scripts.run(name["POSTIN"], "2")[1] == ["systemctl daemon-reload"]
    assert scripts.run(name["PREUN"], "1")[:3] == (0, [], DATA)
    status, calls, left, said = scripts.run(name["POSTUN"], "1")
    assert (status, calls, left) == (0, ["raftctl restart --rolling --bridge"], DATA), f"{status} {calls} {left} {said}"
    scripts.answers["raftctl"] = "exit 4"
    status, calls, left, said = scripts.run(name["POSTUN"], "1")
    assert status == 0 and "not all of what runs here was restarted" in said, said
    status, calls, left, said = scripts.run(name["PREUN"], "0")
    assert status == 0 and left == DATA and "systemctl stop raft@*.service" in calls, f"{calls} {left} {said}"
    assert scripts.run(name["POSTUN"], "0")[:3] == (0, [], DATA)


def test_rpm_packages(env):
    """The rpms hold what is listed, install into a scratch root, depend on what they need, and rpmlint finds no error."""
    needs("rpmbuild", "rpm", "rpmlint")
    with scratch(env) as directory:
        build("build-rpm", "--out", directory / "out")
        version = makefile_version()
        names = ("raft-kv", "libreplicator0", "libreplicator-devel")
        packages = {name: next((directory / "out").glob(f"{name}-{version}-1*.x86_64.rpm")) for name in names}
        for name, package in packages.items():
            expect_contents(name, "rpm", rpm_files(package), VERSION=version)
        configuration = run("rpm", "-qp", "--configfiles", packages["raft-kv"]).stdout
        assert configuration == "/etc/raft/raft.conf\n", configuration
        needed = run("rpm", "-qp", "--requires", packages["raft-kv"]).stdout
        for word in ("libevent_core", "libzmq.so", "libsystemd.so", "libiniparser.so", "libxxhash.so", "libevent >= 2.1.12"):
            assert word in needed, f"no {word} in {needed}"
        lint = subprocess.run(
            ["rpmlint", "-c", ROOT / "packaging/rpm/rpmlint.toml", *(directory / "out").glob("*.rpm"), ROOT / "packaging/rpm/raft-kv.spec"],
            capture_output=True,
            text=True,
            timeout=BUILD_TIMEOUT_S,
            check=False,
        )
        assert lint.returncode == 0 and " 0 errors, 0 warnings" in lint.stdout, lint.stdout

        root = directory / "root"
        command = ["rpm", "--root", root, "--dbpath", "/var/lib/rpm", "--install", "--nodeps", "--noscripts"]
        run(*command, *packages.values())
        assert run(root / "usr/bin/raftctl", "--version").stdout == f"raftctl {version}\n"
        run(root / "usr/sbin/raftd", "--check-config", "--config", root / "etc/raft/raft.conf")
        check_rpm_scripts(directory, packages["raft-kv"])
