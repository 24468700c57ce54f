"""Only commits that trusted people signed are taken, and nothing that a repository says runs a program."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler.adapters.git.signatures import MOST
from reconciler.adapters.git.source import GitSource, repository
from reconciler.model.problem import ExitCode, ReconcilerError
from tests.adapters.git_parts import TEXT, Repo, made, reference

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")


@dataclass(frozen=True)
class Team:
    """A repository, two people who may sign, and one who may not."""

    repo: Repo
    folder: Path

    @property
    def signers(self) -> Path:
        return self.folder / "allowed_signers"

    def key(self, who: str) -> Path:
        path = self.folder / who
        if not path.exists():
            made_key = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", who, "-f", str(path))
            subprocess.run(made_key, check=True)
        return path

    def allow(self, *people: str, options: str = "") -> None:
        keys = ((who, self.key(who).with_suffix(".pub").read_text()) for who in people)
        self.signers.write_text("".join(f"{who}@example.org {options}{key}" for who, key in keys))

    def commit(self, who: str | None, text: str = TEXT, *options: str) -> str:
        """A commit that this person signs; None: nobody does."""
        signed = () if who is None else ("-c", "gpg.format=ssh", "-c", f"user.signingKey={self.key(who)}")
        self.repo.write(text)
        self.repo.git("add", "--all")
        sign = () if who is None else ("-S",)
        self.repo.git(*signed, "commit", "-q", "--allow-empty", "-m", f"by {who}", *sign, *options)
        return self.repo.head()

    def doubt(self, old: str, new: str) -> str:
        return reference(self.repo.source(signers=self.signers).doubt(old, new))


@pytest.fixture
def team(tmp_path: Path) -> Team:
    (tmp_path / "keys").mkdir()
    team = Team(made(tmp_path / "repo"), tmp_path / "keys")
    team.allow("alice", "bob")
    return team


@pytest.mark.fault("S22")
def test_s22_signed_by_a_trusted_key(team: Team) -> None:
    first = team.commit("alice")
    assert team.doubt("", first) == ""
    assert team.doubt(first, team.commit("bob")) == ""


@pytest.mark.fault("S22")
def test_s22_unsigned_and_signed_by_somebody_else(team: Team) -> None:
    first = team.commit("alice")
    unsigned = team.commit(None)
    doubt = team.repo.source(signers=team.signers).doubt(first, unsigned)
    assert doubt is not None
    assert doubt.reference == "commit-unsigned"
    assert unsigned[:7] in doubt.reason
    assert f"reconciler accept {unsigned[:7]} --reason TEXT" in doubt.hint
    assert team.doubt(unsigned, team.commit("mallory")) == "commit-untrusted"
    assert team.doubt("", team.repo.head()) == "commit-untrusted"
    assert reference(team.repo.source().doubt(first, team.repo.head())) == "", "nobody asked for signatures"


@pytest.mark.fault("S22")
def test_s22_a_key_whose_time_is_over_and_one_for_another_use(team: Team) -> None:
    first, second = team.commit("alice"), team.commit("alice")
    team.allow("alice", options='valid-before="20200101" ')
    assert team.doubt(first, second) == "commit-untrusted"
    team.allow("alice", options='namespaces="file" ')
    assert team.doubt(first, second) == "commit-untrusted"
    team.signers.write_text("")
    assert team.doubt(first, second) == "commit-untrusted"


@pytest.mark.fault("S22")
def test_s22_a_signature_of_another_commit(team: Team) -> None:
    """The header of a signed commit, moved to one with other content."""
    first, signed = team.commit("alice"), team.commit("alice", "good\n")
    good_tree = team.repo.git("rev-parse", f"{signed}^{{tree}}")
    team.commit(None, "evil\n")
    forged = team.repo.git("cat-file", "commit", signed).replace(good_tree, team.repo.git("rev-parse", "HEAD^{tree}"))
    evil = team.repo.git("hash-object", "-t", "commit", "-w", "--stdin", stdin=forged)
    assert team.doubt(first, evil) == "commit-untrusted"
    assert team.doubt(first, signed) == ""


@pytest.mark.fault("S22")
def test_s22_what_is_trusted_follows_the_file(team: Team) -> None:
    first, second = team.commit("alice"), team.commit("alice")
    source = team.repo.source(signers=team.signers)
    assert source.doubt(first, second) is None
    team.allow("bob")
    assert reference(source.doubt(first, second)) == "commit-untrusted"


@pytest.mark.fault("S26")
def test_s26_every_commit_that_a_revision_brings(team: Team) -> None:
    first = team.commit("alice")
    team.commit(None)
    last = team.commit("alice")
    doubt = team.repo.source(signers=team.signers).doubt(first, last)
    assert doubt is not None
    assert doubt.reference == "commit-unsigned"
    assert team.repo.head("HEAD~1")[:7] in doubt.reason
    assert last[:7] in doubt.reason
    assert team.doubt("", last) == "", "without an old one, itself"


@pytest.mark.fault("S26")
def test_s26_the_other_side_of_a_signed_merge(team: Team) -> None:
    first = team.commit("alice")
    team.repo.git("switch", "-q", "-c", "side")
    team.commit("mallory", "side\n")
    team.repo.git("switch", "-q", "main")
    team.commit("alice", "main\n")
    settings = ("-c", "gpg.format=ssh", "-c", f"user.signingKey={team.key('alice')}")
    team.repo.git(*settings, "merge", "-q", "-S", "-s", "ours", "-m", "merged", "side")
    assert team.doubt(first, team.repo.head()) == "commit-untrusted"


@pytest.mark.fault("S26", "D22")
def test_s26_an_older_signed_commit(team: Team) -> None:
    first, second = team.commit("alice"), team.commit("alice", "newer\n")
    assert team.doubt(second, first) == "history-rewritten"
    team.repo.git("reset", "-q", "--hard", first)
    doubt = team.repo.source(signers=team.signers).doubt(second, team.commit(None))
    assert doubt is not None
    assert doubt.reference == "history-rewritten"
    assert "is not signed" in doubt.reason, "whoever releases it releases both"


@pytest.mark.fault("S26")
def test_s26_more_commits_than_can_be_verified_at_once(team: Team) -> None:
    first = team.commit("alice")
    tree = team.repo.git("rev-parse", "HEAD^{tree}")
    lines = "".join(
        f"commit refs/heads/main\ncommitter A <a@b> {n} +0000\ndata 1\n.\n" + (f"from {first}\n" if n == 1 else "\n")
        for n in range(1, MOST + 2)
    )
    team.repo.git("fast-import", "--quiet", stdin=lines)
    assert team.repo.git("rev-parse", "HEAD^{tree}") == tree
    assert team.doubt(first, team.repo.head()) == "commits-too-many"


@pytest.mark.fault("S23")
def test_s23_the_repository_says_who_may_sign(team: Team, tmp_path: Path) -> None:
    first, evil = team.commit("alice"), team.commit("mallory")
    own = tmp_path / "theirs"
    own.write_text(f"mallory@example.org {team.key('mallory').with_suffix('.pub').read_text()}")
    yes = script(
        tmp_path / "yes",
        'cat > /dev/null; echo "Good \\"git\\" signature for alice@example.org with ED25519 key SHA256:0"',
    )
    for name, value in {
        "gpg.ssh.allowedSignersFile": str(own),
        "gpg.ssh.program": str(yes),
        "gpg.minTrustLevel": "undefined",
        "gpg.program": str(yes),
    }.items():
        team.repo.git("config", name, value)
    assert team.repo.git("verify-commit", evil) == "", "git itself believes it"
    assert team.doubt(first, evil) == "commit-untrusted"
    assert team.doubt("", first) == ""


@pytest.mark.fault("S23")
@pytest.mark.parametrize("where", ["repo/allowed_signers", "repo/.git/allowed_signers", "link"])
def test_s23_signers_in_the_repository(team: Team, tmp_path: Path, where: str) -> None:
    (tmp_path / "link").symlink_to("repo/allowed_signers")
    shutil.copy(team.signers, tmp_path / "repo" / "allowed_signers")
    shutil.copy(team.signers, tmp_path / "repo" / ".git" / "allowed_signers")
    first = team.commit("alice")
    with pytest.raises(ReconcilerError) as caught:
        team.repo.source(signers=tmp_path / where).doubt("", first)
    assert (caught.value.reference, caught.value.code) == ("signers-in-repository", ExitCode.TRUST)


@pytest.mark.fault("S23")
def test_s23_signers_that_are_not_there_or_not_ours(team: Team) -> None:
    first = team.commit("alice")
    team.signers.chmod(0o666)

    def refusal() -> str:
        with pytest.raises(ReconcilerError) as caught:
            team.doubt("", first)
        assert caught.value.code is ExitCode.TRUST
        return caught.value.reference

    assert refusal() == "signers-untrusted"
    team.signers.unlink()
    assert refusal() == "signers-unreadable"
    os.mkfifo(team.signers)
    assert refusal() == "signers-unreadable"
    team.signers.unlink()
    team.allow("alice")
    assert team.doubt("", first) == ""
    team.folder.chmod(0o777)
    assert refusal() == "signers-untrusted"


@pytest.mark.fault("S23")
def test_s23_a_replaced_commit_is_not_verified_instead(team: Team) -> None:
    first, signed = team.commit("alice"), team.commit("alice", "good\n")
    evil = team.commit(None, "evil\n", "--amend")
    team.repo.git("replace", evil, signed)
    assert team.doubt(first, evil) == "commit-unsigned"


@pytest.mark.fault("S24")
def test_s24_openpgp_is_refused_whatever_its_program_says(team: Team, tmp_path: Path) -> None:
    first, ran = team.commit("alice"), tmp_path / "ran"
    yes = script(
        tmp_path / "yes", f"cat > /dev/null; touch {ran}; echo '[GNUPG:] NEWSIG'; echo; echo '[GNUPG:] GOODSIG 0 alice'"
    )
    team.repo.git("config", "gpg.program", str(yes))
    text = team.repo.git("cat-file", "commit", team.commit(None))
    header, message = text.split("\n\n", 1)
    signature = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n iHUE\n -----END PGP SIGNATURE-----"
    signed = f"{header}\n{signature}\n\n{message}\n"
    evil = team.repo.git("hash-object", "-t", "commit", "-w", "--stdin", stdin=signed)
    team.repo.git("verify-commit", evil, ok=False)
    assert ran.exists(), "git itself runs the program"
    ran.unlink()
    assert team.doubt(first, evil) == "commit-untrusted"
    assert not ran.exists()


# ------------------------------------------------------------------------------------------------ what git would run


def script(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


SETTINGS = (
    "core.fsmonitor",
    "core.pager",
    "core.editor",
    "core.sshCommand",
    "core.gitProxy",
    "core.askPass",
    "core.alternateRefsCommand",
    "credential.helper",
    "diff.external",
    "diff.evil.textconv",
    "diff.evil.command",
    "filter.evil.smudge",
    "filter.evil.clean",
    "filter.evil.process",
    "gpg.program",
    "gpg.ssh.program",
    "gpg.ssh.defaultKeyCommand",
    "gpg.openpgp.program",
    "gpg.x509.program",
    "remote.origin.uploadpack",
    "sequence.editor",
    "trace2.eventTarget",
    "uploadpack.packObjectsHook",
)
HOOKS = ("post-checkout", "post-index-change", "pre-auto-gc", "reference-transaction", "fsmonitor-watchman")


@pytest.mark.fault("S25")
def test_s25_nothing_that_a_repository_says_is_run(team: Team, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    evil = script(tmp_path / "evil", f'echo "$0 $*" >> {ran}; exit 0')
    first = team.commit("alice")
    team.repo.write("* filter=evil diff=evil\n", ".gitattributes")
    last = team.commit("alice", TEXT + "# more\n")
    (tmp_path / "hooks").mkdir()
    for hook in HOOKS:
        shutil.copy(evil, tmp_path / "hooks" / hook)
        shutil.copy(evil, team.repo.git_dir / "hooks" / hook)
    verbs = ("rev-parse", "cat-file", "ls-tree", "merge-base", "rev-list", "symbolic-ref", "verify-commit")
    included = "".join(f"[alias]\n\t{verb} = !{evil}\n" for verb in verbs)
    (tmp_path / "included").write_text(f'{included}[protocol "ext"]\n\tallow = always\n[core]\n\tfsmonitor = {evil}\n')
    config = team.repo.git_dir / "config"
    lines = "".join(f"[{section(name)}]\n\t{name.rsplit('.', 1)[1]} = {evil}\n" for name in SETTINGS)
    config.write_text(
        f"{config.read_text()}{lines}[include]\n\tpath = {tmp_path / 'included'}\n"
        f"[core]\n\thooksPath = {tmp_path / 'hooks'}\n\trepositoryformatversion = 1\n"
        f"[extensions]\n\tpartialClone = origin\n"
        f'[remote "origin"]\n\turl = ext::{evil} %S\n\tpromisor = true\n\tpartialclonefilter = blob:none\n'
    )
    source = team.repo.source(signers=team.signers)
    position = source.position()
    assert (position.revision, position.reference, position.uncommitted) == (last, "", ())
    assert repository(team.repo.desired) is not None
    assert source.read(last).text.endswith(b"# more\n")
    assert source.doubt(first, last) is None
    assert source.doubt("0" * 40, last) is not None
    assert source.behind(first) == 1
    with pytest.raises(ReconcilerError):
        source.read("0" * 40)
    assert not ran.exists(), ran.read_text()
    team.repo.git("status", ok=False)
    assert ran.exists(), "git itself runs it"


def section(name: str) -> str:
    """`diff.evil.command` -> `diff "evil"`."""
    first, *middle = name.split(".")[:-1]
    return f'{first} "{middle[0]}"' if middle else first


@pytest.mark.fault("S25")
def test_s25_a_promisor_that_is_a_program(team: Team, tmp_path: Path) -> None:
    """What is missing is asked of a remote, and the address of one can be a command."""
    ran = tmp_path / "ran"
    evil = script(tmp_path / "evil", f"touch {ran}; exit 1")
    at = team.commit("alice", "missing\n")
    blob = team.repo.git("rev-parse", f"HEAD:{team.repo.inside}/ensemble.yaml")
    config = team.repo.git_dir / "config"
    config.write_text(
        f'{config.read_text()}[remote "origin"]\n\turl = ext::{evil} %S\n\tpromisor = true\n'
        '[protocol "ext"]\n\tallow = always\n[protocol]\n\tallow = always\n'
    )
    (team.repo.git_dir / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(ReconcilerError) as caught:
        GitSource(team.repo.desired, None, None).read(at)
    assert caught.value.reference == "object-missing", caught.value.message
    assert not ran.exists()
    team.repo.git("cat-file", "blob", blob, ok=False)
    assert ran.exists(), "git itself runs it"


@pytest.mark.fault("S25")
def test_s25_settings_of_the_user_are_not_read(team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".gitconfig").write_text("[core]\n\tbare = nonsense\n[broken\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert team.repo.position().revision == team.repo.head()


@pytest.mark.fault("S23")
@pytest.mark.parametrize("how", ["behind a link", "below a folder"])
def test_signers_that_others_could_replace_are_not_believed(tmp_path: Path, how: str) -> None:
    shared = tmp_path / "shared"
    (shared / "keys").mkdir(parents=True)
    (tmp_path / "keys").mkdir()
    team = Team(made(tmp_path / "repo"), (shared if how == "below a folder" else tmp_path) / "keys")
    team.allow("alice")
    signers = team.signers
    if how == "behind a link":
        signers = shared / "signers"
        signers.symlink_to(team.signers)
    shared.chmod(0o777)
    first, new = team.commit("alice"), team.commit("alice")
    with pytest.raises(ReconcilerError) as refused:
        team.repo.source(signers=signers).doubt(first, new)
    assert refused.value.reference == "signers-untrusted"
