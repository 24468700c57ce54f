"""What a fresh look at one declared model says."""

from reconciler.adapters.cache.hf_cache import LocalArtifacts
from reconciler.model.observed import Absent, Artifact, Present, Unknown
from tests.programs.tiny_cache import TinyCache

REPO = "mlx-community/Tiny-4bit"
REFERENCE = f"{REPO}@main"


def observed(cache: TinyCache, reference: str = REFERENCE) -> Present[Artifact] | Absent | Unknown:
    return LocalArtifacts(str(cache.root)).look([reference])[reference]


def artifact(cache: TinyCache, reference: str = REFERENCE) -> Artifact:
    answer = observed(cache, reference)
    assert isinstance(answer, Present), answer
    return answer.value


def reason(cache: TinyCache, reference: str = REFERENCE) -> str:
    answer = observed(cache, reference)
    assert isinstance(answer, Unknown), answer
    return answer.reason
