"""Settings of OpenSSH, each tried by its own client and by us against real servers: both get in, or neither, for one reason."""

import base64
import contextlib
import getpass
import hashlib
import hmac
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dbrecon.ctools import ssh
from dbrecon.errors import RemoteError
from tests.paths import SHARED
from tests.ssh_servers import Server, agent, keygen, openssh, sign
from tests.waiting import wait_for

CASES = SHARED / "cases"
UNREADABLE = [
    "other ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC\n",
    "[127.0.0.1]:* ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC\n",
    "old 1024 35 1234567890123456789\n",
    "@strange old.example.org ssh-ed25519 AAAA\n",
    "h\xf6st ssh-ed25519 not-base64!\n",
    "|1|broken ssh-ed25519 AAAA\n",
    "name-alone\n\n# a comment\n",
]  # fmt: skip


@dataclass
class Lab:
    """Servers by name, the user's key, an authority, and other keys."""

    folder: Path
    servers: dict[str, Server] = field(default_factory=dict)
    others: list[Path] = field(default_factory=list)

    @property
    def key(self) -> Path:
        return self.folder / "id"

    @property
    def authority(self) -> Path:
        return self.folder / "authority"

    def authority_line(self, marker: str, patterns: str, authority: Path | None = None) -> str:
        return f"{marker} {patterns} {Path(f'{authority or self.authority}.pub').read_text()}"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("ssh"))
    keygen(lab.key)
    keygen(lab.authority)
    keygen(lab.folder / "locked", passphrase="a long one")
    certified = keygen(lab.folder / "certified")
    sign(lab.authority, certified, "-n", getpass.getuser())
    lab.others = [keygen(lab.folder / f"other{number}") for number in range(7)]
    for name in ("open", "certified_copy"):
        source = lab.key if name == "open" else certified
        (lab.folder / name).write_text(source.read_text())
        (lab.folder / name).chmod(0o644 if name == "open" else 0o600)
    authorized = lab.folder / "authorized"
    authorized.write_text("".join(Path(f"{lab.folder / name}.pub").read_text() for name in ("id", "locked")))
    plans: dict[str, dict[str, object]] = {
        "all": {}, "two": {"kinds": ("rsa", "ed25519")}, "jump": {}, "six": {"address": "::1"},
        "users": {"options": [f"TrustedUserCAKeys {lab.authority}.pub"]},
        "closed": {"options": ["PubkeyAuthentication no", "PasswordAuthentication yes"]},
        "forward": {"options": ["AllowTcpForwarding no"]},
    }  # fmt: skip
    try:
        for name, plan in plans.items():
            lab.servers[name] = Server(lab.folder / name, authorized, **plan).start()  # type: ignore[arg-type]
        for name, options in {"signed": ["-n", "127.0.0.1,node"], "stale": ["-n", "127.0.0.1", "-V", "20200101:20200102"]}.items():
            server = Server(
                lab.folder / name, authorized, options=[f"HostCertificate {lab.folder / name / 'host_ed25519-cert.pub'}"]
            )
            sign(lab.authority, keygen(server.key("ed25519")), "-h", *options)
            lab.servers[name] = server.start()
        yield lab
    finally:
        for server in lab.servers.values():
            server.stop()


# -- the table --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """Settings and a file of known hosts; whether they let us in, or what ssh(1) and we say.

    In ``config`` a server's name in braces is its port; what each test needs beside it is appended. ``known`` makes the file of
    known hosts. ``agent`` names the keys that an agent holds.
    """

    name: str
    config: str
    known: Callable[[Lab], str] = lambda lab: lab.servers["all"].line("ed25519")
    host: str = "n1"
    agent: tuple[str, ...] = ()
    identity: str = "{key}"
    ours: str = ""
    theirs: str = ""


def all_line(lab: Lab) -> str:
    return lab.servers["all"].line("ed25519")


def before_all(line: str) -> Callable[[Lab], str]:
    return lambda lab: line + all_line(lab)


def with_jump(lab: Lab) -> str:
    return all_line(lab) + lab.servers["jump"].line("ed25519") + lab.servers["two"].line("rsa")


def hashed(lab: Lab) -> str:
    name, rest = all_line(lab).split(" ", 1)
    salt = b"0123456789abcdefghij"
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()} {rest}"


ALL = "Host n1\n HostName 127.0.0.1\n Port {all}\n"
TWO = "Host n1\n HostName 127.0.0.1\n Port {two}\n"
CHANGED: dict[str, Any] = {"ours": "shows another host key .*ssh-keygen -R", "theirs": "REMOTE HOST IDENTIFICATION HAS CHANGED"}
NEW: dict[str, Any] = {"ours": "its host key is not in", "theirs": "Host key verification failed"}
REVOKED: dict[str, Any] = {"ours": "a host key that is revoked", "theirs": "REVOKED HOST KEY DETECTED"}
REFUSED: dict[str, Any] = {"ours": "refuses {user}: none of your keys is in", "theirs": "Permission denied \\(publickey\\)"}
TABLE = [
    # known_hosts
    Case("plain", ALL),
    Case("unknown", ALL, lambda lab: "", **NEW),
    *(Case(f"unreadable_line_{number}", ALL, before_all(line)) for number, line in enumerate(UNREADABLE)),
    Case("only_an_unreadable_line", ALL, lambda lab: UNREADABLE[1], **NEW),
    Case("a_byte_beyond_utf8", ALL, lambda lab: "# \udcff\udcfe\n" + all_line(lab)),
    Case("windows_line_ends", ALL, lambda lab: all_line(lab).replace("\n", "\r\n")),
    Case("hashed", ALL, hashed),
    Case("patterns", ALL, lambda lab: lab.servers["all"].line("ed25519", "!x,[127.0.0.?]:*,y")),
    Case("negated", ALL, lambda lab: lab.servers["all"].line("ed25519", "[127.0.0.?]:*,![127.0.0.1]:*"), **NEW),
    Case("without_the_port", ALL, lambda lab: lab.servers["all"].line("ed25519", "127.0.0.1")),
    Case("several_keys_one_right", ALL, lambda lab: lab.servers["two"].line("ed25519", "[127.0.0.1]:*") + all_line(lab)),
    Case("another_key", ALL, lambda lab: lab.servers["two"].line("ed25519", "[127.0.0.1]:*"), **CHANGED),
    Case("the_server_s_second_type", ALL, lambda lab: lab.servers["all"].line("rsa")),
    Case("key_order", TWO, lambda lab: lab.servers["all"].line("ecdsa", "[127.0.0.1]:*") + lab.servers["two"].line("rsa")),
    Case("a_type_that_the_server_has_not", TWO, lambda lab: lab.servers["all"].line("ecdsa", "[127.0.0.1]:*"), **CHANGED),
    Case("alias", ALL + " HostKeyAlias node\n", lambda lab: lab.servers["all"].line("ed25519", "node")),
    Case("alias_unknown", ALL + " HostKeyAlias node\n", **NEW),
    Case("several_files", ALL + " UserKnownHostsFile {folder}/none {known}\n"),
    Case("global_file", ALL + " UserKnownHostsFile /dev/null\n GlobalKnownHostsFile {known}\n"),
    Case("no_files_nothing_asked", ALL + " UserKnownHostsFile /dev/null\n StrictHostKeyChecking no\n"),
    Case("accept_new", ALL + " StrictHostKeyChecking accept-new\n", lambda lab: ""),
    Case("accept_new_does_not_take_a_changed_key", ALL + " StrictHostKeyChecking accept-new\n",
         lambda lab: lab.servers["two"].line("ed25519", "[127.0.0.1]:*"), **CHANGED),
    Case("nothing_asked_of_a_changed_key", ALL + " StrictHostKeyChecking no\n",
         lambda lab: lab.servers["two"].line("ed25519", "[127.0.0.1]:*")),
    Case("addresses_not_checked", ALL + " CheckHostIP no\n"),
    Case("no_check_on_loopback", ALL + " NoHostAuthenticationForLocalhost yes\n", lambda lab: ""),
    Case("revoked", ALL, lambda lab: all_line(lab) + "@revoked " + lab.servers["all"].line("ed25519", "*"), **REVOKED),
    Case("another_s_key_revoked", ALL, lambda lab: all_line(lab) + "@revoked " + lab.servers["two"].line("ed25519", "*")),
    Case("revoked_list", ALL + " RevokedHostKeys {folder}/all/host_ed25519.pub\n", ours="is revoked", theirs="revoked"),
    Case("revoked_list_of_others", ALL + " RevokedHostKeys {folder}/two/host_ed25519.pub\n"),
    # certificates of hosts
    Case("certificate", "Host n1\n HostName 127.0.0.1\n Port {signed}\n", lambda lab: lab.authority_line("@cert-authority", "*")),
    Case("certificate_beside_a_plain_key", "Host n1\n HostName 127.0.0.1\n Port {signed}\n",
         lambda lab: lab.servers["all"].line("rsa", "[127.0.0.1]:*") + lab.authority_line("@cert-authority", "[127.0.0.1]:*")),
    Case("certificate_for_an_alias", "Host n1\n HostName 127.0.0.1\n Port {signed}\n HostKeyAlias node\n",
         lambda lab: lab.authority_line("@cert-authority", "node")),
    Case("certificate_for_another_name", "Host n1\n HostName 127.0.0.1\n Port {signed}\n HostKeyAlias other\n",
         lambda lab: lab.authority_line("@cert-authority", "other"),
         ours="its host key is not in .*for 127.0.0.1, node", theirs="."),
    Case("certificate_of_another_authority", "Host n1\n HostName 127.0.0.1\n Port {signed}\n",
         lambda lab: lab.authority_line("@cert-authority", "*", lab.key), **NEW),
    Case("certificate_of_another_authority_but_the_key_is_known", "Host n1\n HostName 127.0.0.1\n Port {signed}\n",
         lambda lab: lab.servers["signed"].line("ed25519") + lab.authority_line("@cert-authority", "*", lab.key)),
    Case("certificate_expired", "Host n1\n HostName 127.0.0.1\n Port {stale}\n",
         lambda lab: lab.authority_line("@cert-authority", "*"),
         ours="its host key is not in .*expired", theirs="expired|verification failed"),
    Case("authority_revoked", "Host n1\n HostName 127.0.0.1\n Port {signed}\n",
         lambda lab: lab.authority_line("@cert-authority", "*") + lab.authority_line("@revoked", "*"), **REVOKED),
    Case("authority_known_server_without_certificate", ALL, lambda lab: lab.authority_line("@cert-authority", "*") + all_line(lab)),
    # the settings file
    Case("comment", "Host n1\n HostName 127.0.0.1\n Port {all} # lab\n"),
    Case("equals_sign_and_quotes", 'Host n1\n HostName="127.0.0.1"\n Port = {all}\n'),
    Case("include", "Include {folder}/inc*.cfg\n"),
    Case("include_within_a_block", "Host n1\n Include {folder}/bare.cfg\nHost other\n Port 1\n"),
    Case("match", "Match originalhost n? exec true\n HostName 127.0.0.1\n Port {all}\nMatch all\n"),
    Case("match_that_does_not", "Match originalhost n1 exec false\n HostName 127.0.0.1\n Port 1\n" + ALL),
    Case("pattern_and_negation", "Host !n2 n*\n HostName 127.0.0.1\n Port {all}\n"),
    Case("tokens", "Host n1\n HostName 127.0.0.1\n Port {all}\n UserKnownHostsFile {folder}/%p-%n-%h\n",
         ours="its host key is not in .*/\\d+-n1-127", theirs="Host key verification failed"),
    Case("unknown_option", ALL + " Frobnicate yes\n", ours="ssh refuses its settings .*1 bad|refuses its settings .*robnicate",
         theirs="Bad configuration option"),
    Case("unknown_option_ignored", "IgnoreUnknown Frobnicate\n" + ALL + " Frobnicate yes\n"),
    Case("bad_port", "Host n1\n HostName 127.0.0.1\n Port many\n", ours="ssh refuses its settings .*[Pp]ort", theirs="[Bb]ad"),
    Case("restricted_algorithms", ALL + " KexAlgorithms curve25519-sha256\n Ciphers aes256-ctr\n MACs hmac-sha2-256\n"),
    Case("host_key_algorithms", ALL + " HostKeyAlgorithms rsa-sha2-256\n", lambda lab: lab.servers["all"].line("rsa")),
    # addresses
    Case("ipv6", "Host n1\n HostName ::1\n Port {six}\n", lambda lab: lab.servers["six"].line("ed25519")),
    Case("ipv6_literal", "Host x\n", lambda lab: lab.servers["six"].line("ed25519"), host="[::1]:{six}"),
    Case("address_and_port", "Host x\n", host="127.0.0.1:{all}"),
    Case("address_family", "Host n1\n HostName localhost\n Port {all}\n AddressFamily inet\n HostKeyAlias node\n",
         lambda lab: lab.servers["all"].line("ed25519", "node")),
    Case("nobody_listens", "Host n1\n HostName 127.0.0.1\n Port 1\n", ours="Connection refused", theirs="Connection refused"),
    Case("no_such_name", "Host n1\n HostName no-such.invalid\n", ours="the name cannot be resolved",
         theirs="Could not resolve hostname"),
    # the way there
    Case("jump", ALL + " ProxyJump {user}@127.0.0.1:{jump}\n", with_jump),
    Case("jump_by_name", ALL + " ProxyJump j\nHost j\n HostName 127.0.0.1\n Port {jump}\n", with_jump),
    Case("jump_uri", ALL + " ProxyJump ssh://{user}@127.0.0.1:{jump}\n", with_jump),
    Case("two_jumps", ALL + " ProxyJump 127.0.0.1:{two},127.0.0.1:{jump}\n", with_jump),
    Case("jumps_that_the_hops_name", ALL + " ProxyJump j\nHost j\n HostName 127.0.0.1\n Port {jump}\n ProxyJump k\n"
         "Host k\n HostName 127.0.0.1\n Port {two}\n", with_jump),
    Case("no_jump", ALL + " ProxyJump none\n"),
    Case("jump_whose_key_is_unknown", ALL + " ProxyJump 127.0.0.1:{jump}\n",
         ours="n1: by way of 127.0.0.1:\\d+: its host key is not in", theirs="Host key verification failed"),
    Case("jump_that_nobody_runs", ALL + " ProxyJump 127.0.0.1:1\n", ours="n1: by way of 127.0.0.1:1: Connection refused",
         theirs="port 1: Connection refused"),
    Case("jump_that_does_not_forward", ALL + " ProxyJump 127.0.0.1:{forward}\n",
         lambda lab: all_line(lab) + lab.servers["forward"].line("ed25519"),
         ours="127.0.0.1:\\d+ cannot reach 127.0.0.1:", theirs="administratively prohibited|stdio forwarding failed"),
    Case("command", ALL + " ProxyCommand ssh -F {config} -o BatchMode=yes -W %h:%p j 2>/dev/null\nHost j\n HostName 127.0.0.1\n"
         " Port {jump}\n", with_jump),
    Case("command_that_complains", ALL + " ProxyCommand echo sorry, no way to %n >&2; exit 1\n",
         ours="n1: ProxyCommand says: sorry, no way to n1", theirs="Connection closed"),  # ssh(1) shows the complaint, or not
    # who we are
    Case("no_key", ALL, identity="{folder}/none", ours="you have no SSH key here", theirs="Permission denied"),
    Case("another_key_of_ours", ALL, identity="{folder}/other1", **REFUSED),
    Case("another_user", ALL + " User nobody-here\n", ours="refuses nobody-here", theirs="Permission denied"),
    Case("locked", ALL, identity="{folder}/locked", ours="has a passphrase: give it to the agent", theirs="Permission denied"),
    Case("readable_by_others", ALL, identity="{folder}/open", ours="may be read by others", theirs="UNPROTECTED PRIVATE KEY FILE"),
    Case("two_identities", ALL + " IdentityFile {folder}/other1\n"),
    Case("agent", ALL, identity="{folder}/none", agent=("id",)),
    Case("agent_of_the_settings", ALL + " IdentityAgent {folder}/agent\n", identity="{folder}/none", agent=("id",)),
    Case("agent_not_wanted", ALL + " IdentityAgent none\n", identity="{folder}/none", agent=("id",), ours="no SSH key",
         theirs="Permission denied"),
    Case("agent_with_many_keys", ALL, identity="{folder}/none", agent=(*(f"other{number}" for number in range(7)), "id"),
         ours="after 6 keys .*IdentitiesOnly yes", theirs="Too many authentication failures"),
    Case("agent_with_many_keys_one_named", ALL, identity="{key}.pub", agent=(*(f"other{number}" for number in range(7)), "id")),
    Case("agent_with_many_keys_and_a_file", ALL, agent=tuple(f"other{number}" for number in range(7)),
         ours="after 6 keys .*IdentitiesOnly yes", theirs="Too many authentication failures"),
    Case("identities_only", ALL + " IdentitiesOnly yes\n", agent=tuple(f"other{number}" for number in range(7))),
    Case("identities_only_and_an_agent", ALL + " IdentitiesOnly yes\n", identity="{folder}/other1", agent=("id",), **REFUSED),
    Case("user_certificate", "Host n1\n HostName 127.0.0.1\n Port {users}\n", lambda lab: lab.servers["users"].line("ed25519"),
         identity="{folder}/certified"),
    Case("user_certificate_file", "Host n1\n HostName 127.0.0.1\n Port {users}\n CertificateFile {folder}/certified-cert.pub\n",
         lambda lab: lab.servers["users"].line("ed25519"), identity="{folder}/certified_copy"),
    Case("user_certificate_in_the_agent", "Host n1\n HostName 127.0.0.1\n Port {users}\n",
         lambda lab: lab.servers["users"].line("ed25519"), identity="{folder}/none", agent=("certified",)),
    Case("no_keys_taken", "Host n1\n HostName 127.0.0.1\n Port {closed}\n", lambda lab: lab.servers["closed"].line("ed25519"),
         ours="it takes no keys there, but nothing", theirs="Permission denied"),
    Case("keys_not_wanted", ALL + " PubkeyAuthentication no\n", ours="you have no SSH key here", theirs="Permission denied"),
]  # fmt: skip


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_what_openssh_connects_to_we_connect_to_and_what_it_refuses_we_refuse(
    case: Case, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, known = tmp_path / "config", tmp_path / "known_hosts"
    places = {name: str(server.port) for name, server in lab.servers.items()}
    words = places | {
        "key": str(lab.key),
        "folder": str(lab.folder),
        "known": str(known),
        "user": getpass.getuser(),
        "config": str(config),
    }
    (lab.folder / "inc1.cfg").write_text(ALL.format_map(words))
    (lab.folder / "bare.cfg").write_text(f"HostName 127.0.0.1\nPort {words['all']}\n")
    ending = f"Host *\n UserKnownHostsFile {known}\n GlobalKnownHostsFile /dev/null\n IdentityFile {case.identity}\n"
    config.write_text((case.config + ending).format_map(words))
    env = {"SSH_AUTH_SOCK": ""}
    with contextlib.ExitStack() as stack:
        if case.agent:
            keys = [lab.folder / name for name in case.agent]
            env["SSH_AUTH_SOCK"] = stack.enter_context(agent(lab.folder, *keys))
        host = case.host.format_map(words)
        known.write_text(case.known(lab), errors="surrogateescape")
        theirs = openssh(config, host, env)
        known.write_text(case.known(lab), errors="surrogateescape")
        monkeypatch.setenv("SSH_AUTH_SOCK", env["SSH_AUTH_SOCK"])
        ours = by_us(config, host)
    assert theirs[0] == (not case.theirs), theirs[1]
    assert re.search(case.theirs.format_map(words), theirs[1], re.DOTALL)
    assert ours[0] == (not case.ours), ours[1]
    assert re.search(case.ours.format_map(words), ours[1])
    assert "\n" not in ours[1]


def by_us(config: Path, host: str) -> tuple[bool, str]:
    """Whether we get in, and what is said if not."""
    try:
        done = ssh.run(host, "echo in\n", ssh.SshSettings(config_file=str(config)), 30.0)
    except RemoteError as error:
        return False, str(error)
    return done.out == "in\n", done.err


# -- beyond the table -------------------------------------------------------------------------------------------------------


def home_with(tmp_path: Path, lab: Lab, config: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An operator's home whose ~/.ssh has these settings, a key and all servers' keys."""
    folder = tmp_path / "home" / ".ssh"
    folder.mkdir(parents=True)
    ports = {name: str(server.port) for name, server in lab.servers.items()}
    (folder / "config").write_text(config.format_map(ports))
    (folder / "id_ed25519").write_text(lab.key.read_text())
    (folder / "id_ed25519").chmod(0o600)
    (folder / "known_hosts").write_text("".join(lab.servers[name].line("ed25519") for name in ("all", "jump")))
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setenv("SSH_AUTH_SOCK", "")
    return folder


def without_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No program ssh is found."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.mark.parametrize("client", [True, False], ids=["by_its_client", "by_the_library"])
@pytest.mark.parametrize(
    "config",
    [
        ALL,
        "Include inc.cfg\n",
        "Include missing.cfg i*.cfg\nHost n2\n Port 1\n",
        "Host n1\n HostName 127.0.0.1\n Port {all} # lab\n",
        "# a comment\nHost n1 # here too\n HostName = 127.0.0.1\n Port={all}\n",
        ALL + " ProxyJump j\nHost j\n HostName 127.0.0.1\n Port {jump}\n",
        'Match originalhost n1\n HostName "127.0.0.1"\n Port {all}\n',
        "Host n1\n HostName 127.0.0.1\n Include bare.cfg\nHost n2\n Port 1\n",
    ],
)
def test_the_settings_below_home_count_with_openssh_s_client_and_without(
    config: str, client: bool, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = home_with(tmp_path, lab, config, monkeypatch)
    port = lab.servers["all"].port
    (folder / "inc.cfg").write_text(f"Host n1\n HostName 127.0.0.1\n Port {port}\n")
    (folder / "bare.cfg").write_text(f"Port {port}\n")
    if not client:
        without_client(monkeypatch, tmp_path)
    assert ssh.run("n1", "echo in\n", ssh.SshSettings(), 30.0).out == "in\n"


def test_without_the_client_a_line_that_cannot_be_read_is_named_and_a_wrong_port_refused(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = home_with(tmp_path, lab, ALL + "Host\nHost n2\n Port many\n", monkeypatch)
    without_client(monkeypatch, tmp_path)
    assert ssh.run("n1", "echo in\n", ssh.SshSettings(), 30.0).out == "in\n"
    assert f"{folder / 'config'}: the line 'Host' is passed over" in caplog.text
    with pytest.raises(ssh.SshError, match="n2: Port many is no port: correct it in"):
        ssh.run("n2", "echo in\n", ssh.SshSettings(), 30.0)


def test_a_jump_that_leads_in_a_circle_is_refused(lab: Lab, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host n1\n ProxyJump j\nHost j\n ProxyJump n1\n")
    with pytest.raises(ssh.SshError, match="more than 8 hosts, or in a circle"):
        ssh.run("n1", "true\n", ssh.SshSettings(config_file=str(config), connect_seconds=60.0), 60.0)


def test_a_match_that_never_ends_costs_the_deadline_and_no_more(tmp_path: Path) -> None:
    config, mark = tmp_path / "config", tmp_path / "pid"
    config.write_text(f'Match exec "echo $$ >{mark}; sleep 600"\n Port 1\n')
    with pytest.raises(ssh.SshError, match=r"a command in .*config \(Match exec\) does not end"):
        ssh.run("n1", "true\n", ssh.SshSettings(config_file=str(config), connect_seconds=2.0), 60.0)
    wait_for(lambda: not Path(f"/proc/{mark.read_text().strip()}").exists(), "the end of the command")


def test_a_command_that_waits_for_ever_is_ended_with_what_it_started(tmp_path: Path) -> None:
    config, mark = tmp_path / "config", tmp_path / "pid"
    config.write_text(f"Host n1\n HostName 127.0.0.1\n ProxyCommand sh -c 'echo $$ >{mark}; sleep 600'\n")
    with pytest.raises(ssh.Unreachable, match="n1 does not answer within 2 s"):
        ssh.run("n1", "true\n", ssh.SshSettings(config_file=str(config), connect_seconds=2.0), 60.0)
    wait_for(lambda: not Path(f"/proc/{mark.read_text().strip()}").exists(), "the end of the command")


@pytest.mark.parametrize("hash_names", [False, True])
def test_an_accepted_key_is_remembered_as_the_settings_say(hash_names: bool, lab: Lab, tmp_path: Path) -> None:
    config, known = tmp_path / "config", tmp_path / "new" / "known_hosts"
    port, names = lab.servers["all"].port, "yes" if hash_names else "no"
    config.write_text(
        f"Host n1\n HostName 127.0.0.1\n Port {port}\n UserKnownHostsFile {known}\n GlobalKnownHostsFile /dev/null\n"
        f" IdentityFile {lab.key}\n IdentityAgent none\n HashKnownHosts {names}\n"
    )
    settings = ssh.SshSettings(config_file=str(config), accept_new=True)
    for _ in range(2):
        assert ssh.run("n1", "echo in\n", settings, 30.0).out == "in\n"
    [line] = known.read_text().splitlines()
    assert line.startswith("|1|" if hash_names else f"[127.0.0.1]:{port} ssh-ed25519 ")
    assert openssh(config, "n1", {"SSH_AUTH_SOCK": ""}) == (True, "")


def test_lines_of_known_hosts_that_met_people_elsewhere(lab: Lab, tmp_path: Path) -> None:
    lines = CASES / "ssh_known_hosts" / "lines"
    if not lines.exists():
        pytest.skip("needs ../shared/cases, which is not here")
    config, known = tmp_path / "config", tmp_path / "known_hosts"
    config.write_text(
        f"Host n1\n HostName 127.0.0.1\n Port {lab.servers['all'].port}\nHost *\n UserKnownHostsFile {known}\n"
        f" GlobalKnownHostsFile /dev/null\n IdentityFile {lab.key}\n IdentityAgent none\n"
    )
    known.write_bytes(lines.read_bytes().rstrip(b"\n") + b"\n" + all_line(lab).encode())
    assert by_us(config, "n1") == (True, "") == openssh(config, "n1", {})
