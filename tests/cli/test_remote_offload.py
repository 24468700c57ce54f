"""`offload` to another host as a user has it: a host file, a variable, and the ssh that they have."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.model.problem import ExitCode
from tests.adapters.real_move import tree
from tests.adapters.ssh_host import ID, NAME, SshHost, ssh_host
from tests.cli.home import HOST, Home, Result
from tests.programs.tiny_cache import TinyCache, model_files


@pytest.fixture
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHost]:
    with ssh_host(tmp_path_factory.mktemp("host") / "mini") as made:
        yield made


@pytest.fixture
def source(home: Home, host: SshHost) -> Path:
    """A repository in the cache, and a volume that the host file takes for one of this machine."""
    volume = f"volumes: {{shelf: {{path: {host.volume}, id: {ID}, separate: false}}}}\noffload_to: shelf\n"
    (home.root / "host.yaml").write_text(HOST + volume)
    home.write("version: 1\nmodels: {}\n")
    cache = TinyCache(home.hub)
    cache.add("acme/base", model_files())
    return cache.folder("acme/base")


def offload(home: Home, host: SshHost) -> Result:
    """Ask for it, with the host of the volume from the environment."""
    environ = home.environment(MLX_OFFLOAD_HOST=NAME, PATH=host.environ["PATH"])
    return home.run("offload", "acme/base", "--yes", env=environ)


@pytest.mark.req("S1-83")
def test_the_host_of_the_variable_gets_the_weights(home: Home, host: SshHost, source: Path) -> None:
    whole = tree(source)
    done = offload(home, host)
    assert done.code == ExitCode.OK, done.err
    assert not source.exists()
    assert host.connections == 2
    copy = tree(host.volume / source.name)
    assert {path: copy[path] for path in whole} == whole


@pytest.mark.req("S1-83")
def test_a_host_that_cannot_be_reached_blocks_it_and_keeps_the_source(
    home: Home, host: SshHost, source: Path, port: int
) -> None:
    config = host.folder / "config"
    config.write_text(config.read_text().replace(f"Port {host.port}", f"Port {port}"))
    whole = tree(source)
    done = offload(home, host)
    assert done.code == ExitCode.BLOCKED, done.err
    assert "volume-unreachable" in done.out + done.err
    assert tree(source) == whole
    assert list(host.volume.iterdir()) == [host.volume / ".reconciler-volume"]
