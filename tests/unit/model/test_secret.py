"""What looks like a secret, and what only resembles one."""

import pytest

from reconciler.model.secret import HIDDEN, SECRET, redacted

TOKEN = "Can4ry" * 6


@pytest.mark.fault("S17")
@pytest.mark.parametrize(
    "prefix",
    [
        *("hf_", "sk-", "sk-proj-", "sk-ant-api03-", "sk_live_", "ghp_", "gho_", "ghr_", "ghs_", "ghu_"),
        *("github_pat_", "xoxb-", "xoxp-", "glpat-", "Bearer ", "bearer ", "BEARER "),
    ],
)
def test_s17_a_token_is_hidden_wherever_it_stands(prefix: str) -> None:
    for around in ("{}", "a {} b", "token={}", '{{"key": "{}"}}', "'{}',", "({})", "https://h/?t={}&x=1"):
        shown = redacted(around.format(prefix + TOKEN))
        assert TOKEN[:16] not in shown, around
        assert TOKEN[-6:] not in shown, around
        assert HIDDEN in shown


@pytest.mark.fault("S17")
@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://user:{}@host:80/x", "https://[secret]@host:80/x"),
        ("redis://:{}@host/0", "redis://[secret]@host/0"),
        ("https://{}@host/git", "https://[secret]@host/git"),
        ("https://user:{}@ss@host/x", "https://[secret]@host/x"),
        ("git+https://user:{}@host/x and http://plain/y", "git+https://[secret]@host/x and http://plain/y"),
    ],
)
def test_s17_an_address_is_shown_without_its_user(address: str, shown: str) -> None:
    assert redacted(address.format("p4ssw0rd")) == shown


@pytest.mark.fault("S17")
@pytest.mark.parametrize("line", ["\n", "\\n"], ids=["of lines", "escaped"])
def test_s17_a_private_key_is_hidden_with_what_follows(line: str) -> None:
    for kind in ("", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "):
        key = line.join([f"-----BEGIN {kind}PRIVATE KEY-----", TOKEN, TOKEN, f"-----END {kind}PRIVATE KEY-----"])
        shown = redacted(f"before {key} after")
        assert "Can4ry" not in shown, kind
        assert shown.startswith("before ")


@pytest.mark.fault("S17")
def test_s17_a_key_of_a_cloud_is_hidden() -> None:
    assert redacted("id AKIAIOSFODNN7EXAMPLE.") == f"id {HIDDEN}."


@pytest.mark.parametrize(
    "text",
    [
        "",
        "risk-assessment-of-everything",
        "task-0123456789abcdefghij",
        "hf_hub is a library; hf_short",
        "sk-8 of sk-learn",
        "POST http://127.0.0.1:8100/v1/chat/completions",
        "http://[::1]:8100/x user@host",
        "mail to a@b, see https://host/@name",
        "Bearer of news",
        "models--mlx-community--gpt-oss-120b-MXFP4-Q4/snapshots/0123456789abcdef0123456789abcdef01234567",
        "/opt/models/x:y@z",
    ],
)
def test_what_is_no_secret_is_left_alone(text: str) -> None:
    assert redacted(text) == text
    assert SECRET.search(text) is None


def test_what_is_hidden_stays_hidden() -> None:
    once = redacted(f"hf_{TOKEN} https://a:b@c Bearer {TOKEN}")
    assert redacted(once) == once == f"{HIDDEN} https://{HIDDEN}@c {HIDDEN}"


def test_a_long_text_is_read_in_a_moment() -> None:
    """No pattern goes back and forth: a log line may be a megabyte."""
    for text in ("://" + "a:" * 200_000, "hf_" * 200_000, "Bearer " * 100_000, "sk-" + "-" * 400_000, "://" * 200_000):
        redacted(text)
