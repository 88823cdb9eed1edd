"""Manual pages and completions say what the programs say: commands, options, keys, defaults, functions, events.

The programs are asked for their tables where they can print them; the sources, where they cannot.
"""

import pathlib
import re
import shlex
import shutil
import subprocess
import tempfile

from cluster import Skip

ROOT = pathlib.Path(__file__).resolve().parents[2]
MAN = ROOT / "packaging/man"
COMPLETION = ROOT / "packaging/completion"


def page(name):
    return (MAN / name).read_text(encoding="ascii")


def source(*patterns):
    paths = [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def ask(*command, **options):
    command = [str(word) for word in command]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, **options)


def expect_same(what, documented, real):
    documented, real = set(documented), set(real)
    assert documented == real, f"{what}: not documented {sorted(real - documented)}, invented {sorted(documented - real)}"


def flags(text):
    """The long options that a page names."""
    return set(re.findall(r"(?:Fl|\|) -([a-z-]+)", text))


def commands_of(env):
    """{command: (options, words)} of raftctl; "" has the options of all commands."""
    result = ask(f"{env.bin}/raftctl", "help", "commands")
    assert result.returncode == 0, f"{result}"
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert all(len(line) == 4 for line in lines), f"{lines}"
    return {name: (options.replace("=", "").split(), words.split()) for name, options, words, _about in lines}


def test_pages_are_well_formed(_env):
    """mandoc -Tlint has nothing to say about any page."""
    if not shutil.which("mandoc"):
        raise Skip("there is no mandoc here")
    pages = sorted(path.name for path in MAN.iterdir())
    assert len(pages) == 6
    result = ask("mandoc", "-Tlint", *pages, cwd=MAN)  # where it finds those that they refer to
    assert result.stdout == "", result.stdout


def test_raftctl_page(env):
    """raftctl(1) has every command, every option and every exit code, and no others."""
    commands = commands_of(env)
    text = page("raftctl.1")
    real = [name for name, (_, words) in commands.items() if name and (not words or name == "help")]
    real += [f"{name} {word}" for name, (_, words) in commands.items() if name != "help" for word in words]
    documented = re.findall(r"^\.It Ic ((?:[a-z-]+ ?)+?)(?= (?:Oo|Op|Bo|Ar|Fl)\b|$)", text, re.M)
    expect_same("commands", documented, real)
    options = {option.removeprefix("--") for wanted, _ in commands.values() for option in wanted}
    expect_same("options", flags(text), options)
    codes = re.search(r"enum ctl_exit \{(.*?)\}", source("bridge/raftctl.h"), re.S)[1]
    expect_same("exit codes", exit_statuses(text), re.findall(r"= (\d+)", codes))


def exit_statuses(text):
    """The numbers below EXIT STATUS, with their asterisks."""
    section = text.split(".Sh EXIT STATUS")[1].split("\n.Sh ")[0]
    return re.findall(r"^\.It (\d+\*?)$", section, re.M)


def test_pages_of_the_daemons(env):
    """raftd(8) and raft-bridge(8) have the options of --help; the exit statuses that no restart can mend are the unit's."""
    for program in ("raftd", "raft-bridge"):
        text = page(f"{program}.8")
        usage = ask(f"{env.bin}/{program}", "--help").stdout
        expect_same(program, flags(text), set(re.findall(r"--([a-z-]+)", usage)))
    unit = source("systemd/raft@.service")
    prevented = re.search(r"^RestartPreventExitStatus=(.*)$", unit, re.M)[1].split()
    statuses = exit_statuses(page("raftd.8"))
    expect_same("exit statuses without restart", [status[:-1] for status in statuses if "*" in status], prevented)
    codes = set(re.findall(r"EXIT_CODE_\w+ = (\d+)", source("daemon/*.[ch]")))
    expect_same("exit statuses", [status.rstrip("*") for status in statuses], codes)


def keys_of(env, section):
    """What raftd names as the keys of a section when it meets an unknown one."""
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write(f"[{section}]\nno_such_key = 1\n")
        file.flush()
        said = ask(f"{env.bin}/raftd", "--check-config", "--config", file.name)
    line = next(line for line in (said.stdout + said.stderr).splitlines() if "no_such_key" in line)
    return set(re.findall(r"[a-z_]+", line.rsplit(" are ", 1)[1]))


def conf_items(text, heading):
    """{key: text} of one section of raft.conf(5); keys that share a text have all of it."""
    section = text.split(f".Ss {heading}\n")[1]
    section = re.split(r"^\.S[sh] ", section, flags=re.M)[0]
    items, pending = {}, []
    for part in re.split(r"^\.It Ic ", section, flags=re.M)[1:]:
        head, _, body = part.partition("\n")
        pending.append(head.split()[0])
        if body.strip():
            items |= dict.fromkeys(pending, body)
            pending = []
    return items


def test_raft_conf_page(env):
    """raft.conf(5) has every key of every section, no other, and the defaults that the sample shows."""
    text = page("raft.conf.5")
    headings = {"cluster": "Section cluster", "member 1": "Sections member N", "raft": "Section raft", "bridge": "Section bridge"}
    for section, heading in headings.items():
        expect_same(f"[{section}]", conf_items(text, heading), keys_of(env, section))
    sample = (ROOT / "packaging/raft.conf").read_text(encoding="utf-8")
    for section in ("raft", "bridge"):
        items = conf_items(text, headings[section])
        part = sample.split(f"\n[{section}]\n")[1].split("\n[")[0]
        defaults = dict(re.findall(r"^#([a-z_]+) = (.*)$", part, re.M))
        expect_same(f"[{section}] of the sample", defaults, items)
        for key, value in defaults.items():
            assert re.search(rf"(?<![\w.]){re.escape(value)}(?![\w])", items[key]), f"{key}: {value} is not in {items[key]}"


def test_replicator_page(_env):
    """replicator(3) has every function and every result of replicator.h, and no others."""
    text, header = page("replicator.3"), source("daemon/replicator/replicator.h")
    declared = set(re.findall(r"\b(replicator_\w+)\(", re.sub(r"/\*.*?\*/", "", header, flags=re.S)))
    expect_same("functions", re.findall(r"^\.F[no] (replicator_\w+)", text.split(".Sh DESCRIPTION")[0], re.M), declared)
    described = set(re.findall(r"^\.Fn (replicator_\w+)", text.split(".Sh DESCRIPTION")[1], re.M))
    expect_same("described functions", described, declared)
    expect_same("results", re.findall(r"^\.It Dv (REPLICATOR_E_\w+)", text, re.M), re.findall(r"(REPLICATOR_E_\w+) = ", header))
    fields = re.search(r"struct replicator_machine \{(.*?)^\};", header, re.S | re.M)[1]
    machine = text.split(".Ss The state machine")[1].split(".Ss ")[0]
    items = re.findall(r"^\.It Fa (.*)$", machine, re.M)
    documented = [name for item in items for name in item.split(" , ")]
    expect_same("functions of a machine", documented, re.findall(r"\(\*(\w+)\)", fields))


def test_protocol_page(_env):
    """raft-kv(7) has every request that the bridge's help names, and every error that it may answer."""
    text = page("raft-kv.7")
    protocol = text.split(".Ss Requests")[1].split(".Ss Order")[0]
    requests = set(re.findall(r'"# (?!words )([a-z]+) ', source("bridge/*.c")))
    expect_same("requests", re.findall(r"^\.It Ic ([a-z]+)", protocol, re.M), requests)
    table = source("bridge/README.md").split("| code | meaning")[1].split("\n\n")[0]
    codes = re.findall(r"^\| `([a-z_]+)` \|", table, re.M)
    expect_same("errors", re.findall(r"^\.It Er ([a-z_]+)", protocol, re.M), codes)
    for code in codes:
        assert f'"{code}"' in source("bridge/*.c"), f"nothing answers {code}"


def test_journal_page(_env):
    """raft-kv(7) has every event that is logged as a warning or worse, and none that is logged nowhere."""
    code = source("daemon/*.c", "daemon/replicator/*.c", "daemon/service/*.c", "bridge/*.c")
    logged = re.findall(r'\b([0-7]),\s*"([a-z-]+)",', code)
    everything = set(re.findall(r'"([a-z-]+)"', code))
    section = page("raft-kv.7").split(".Sh WHAT THE JOURNAL SAYS")[1].split("\n.Sh ")[0]
    documented = {event for item in re.findall(r"^\.It Li (.*)$", section, re.M) for event in item.split(" , ")}
    missing = {event for level, event in logged if int(level) <= 4} - documented - INTERNAL_EVENTS
    assert not missing, f"no word about {sorted(missing)}"
    assert documented <= everything, f"nothing logs {sorted(documented - everything)}"


# Lines that lead to nothing an operator could do beyond what another line says.
INTERNAL_EVENTS = {"no-memory", "broken-answer", "loop-failed", "member-socket-failed", "session-broken", "start-failed"}


class Completion:
    """Asks one shell's completion for the words that may stand at the end of a command line."""

    def __init__(self, env, directory):
        self.env = env
        self.config = f"{directory}/raft.conf"
        with open(self.config, "w", encoding="ascii") as file:
            file.write("[cluster]\nname = c\n[member 7]\npeer = x\n[member 12] ; far away\n")

    def words(self, line):
        line = line.replace("CONFIG", self.config)
        words = [f"{self.env.bin}/raftctl", *line.split(" ")]
        result = self.ask(words)
        assert result.returncode == 0 and result.stderr == "", f"{line}: {result}"
        return result.stdout.split()


class Bash(Completion):
    def ask(self, words):
        script = f"""
            . /usr/share/bash-completion/bash_completion
            . {COMPLETION}/raftctl.bash
            COMP_WORDS=({shlex.join(words)}) COMP_CWORD={len(words) - 1}
            COMP_LINE={shlex.quote(" ".join(words))} COMP_POINT={len(" ".join(words))}
            _raftctl; printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        return ask("bash", "--norc", "-c", script)


class Zsh(Completion):
    def ask(self, words):
        script = f"""
            compadd() {{ if [[ $1 == -a ]]; then print -l -- ${{(P)2}}; else shift; print -l -- "$@"; fi }}
            _describe() {{ print -l -- ${{(P)2%%:*}} }}
            _files() {{ print files }}
            _message() {{ }}
            words=({shlex.join(words)}) CURRENT={len(words)} PREFIX={shlex.quote(words[-1])}
            . {COMPLETION}/raftctl.zsh
        """
        result = ask("zsh", "-f", "-c", script)
        result.stdout = "\n".join(word for word in result.stdout.split() if word.startswith(words[-1]) or word == "files")
        return result


def check_completion(env, completion):
    commands = commands_of(env)
    everywhere = commands[""][0]
    expect_same("commands", completion.words(""), [name for name in commands if name])
    expect_same("commands with re", completion.words("re"), [name for name in commands if name.startswith("re")])
    for name, (options, _) in commands.items():
        if name:
            expect_same(f"options of {name}", completion.words(f"{name} --"), everywhere + options)
    expect_same("words of member", completion.words("member "), commands["member"][1])
    for line in ("--config CONFIG --id ", "--config CONFIG transfer ", "--config CONFIG member remove "):
        expect_same(line, completion.words(line), ["7", "12"])
    expect_same("after an id", completion.words("--config CONFIG member remove 7 "), [])
    assert completion.words("--config CONFIG --timeout 5 --id 1") == ["12"]
    assert completion.words("log --from ") == [], "a number"


def test_bash_completion(env):
    """bash knows raftctl's commands, options and words, and the members of the configuration file."""
    if not pathlib.Path("/usr/share/bash-completion/bash_completion").exists():
        raise Skip("there is no bash-completion here")
    with tempfile.TemporaryDirectory() as directory:
        check_completion(env, Bash(env, directory))


def test_zsh_completion(env):
    """zsh knows the same."""
    if not shutil.which("zsh"):
        raise Skip("there is no zsh here")
    with tempfile.TemporaryDirectory() as directory:
        check_completion(env, Zsh(env, directory))
