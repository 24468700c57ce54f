"""LiteLLM's managed file: a YAML document that holds `model_list` alone and is named by the user's own `include:`.

Facts of LiteLLM 1.109 that the text is made for:
- An `api_base` out of an environment variable that is not set sends requests to api.openai.com without a word; an
  `api_key` that is missing is taken from OPENAI_API_KEY. So both are literal, and no text begins with `os.environ/`.
- Two entries of one `model_name` are a load-balanced group. So a name occurs once, and an alias, which cannot be said
  in `model_list` otherwise, is an entry of its own with the parameters of its label.
- Without `use_chat_completions_api` an `openai/` model answers 404 to /v1/messages and is then cooled down for all.
- An included file must exist and may hold an empty `model_list`; its `router_settings` would replace the user's.
"""

import re
from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any, ClassVar, Final

from reconciler.model.base import noun
from reconciler.model.desired import Scalar
from reconciler.model.names import LABEL, authority
from reconciler.model.routes import Route, Upstream
from reconciler.model.secret import SECRET

from .base import DAMAGED, FOREIGN, NEWER, UNWRITABLE, GatewayTextError

FORMAT: Final = 1
OWNER: Final = "reconciler"
NO_KEY: Final = "none"
"""The key that is sent to servers that ask for none; LiteLLM wants one that is not empty."""
HEADER: Final = (
    f"# Written by reconciler (LiteLLM, format {FORMAT}). Do not edit: the next change of a route replaces this file.\n"
    "# LiteLLM's own configuration names it under `include:`; what is yours belongs there.\n"
)

_FIRST_LINE: Final = re.compile(r"# Written by reconciler \(LiteLLM, format ([0-9]{1,9})\)")
_NOBODYS: Final = frozenset({"", "model_list:", "model_list: []"})
"""What a person writes so that LiteLLM starts before the first route; there is nothing in it to lose."""
_API_BASE: Final = re.compile(r"http://(\[[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*\]|[A-Za-z0-9._-]+):([1-9][0-9]{0,4})/v1")
_ID: Final = re.compile(rf"{OWNER}/([^/]+)(?:/([^/]+))?")
_LAST_PORT: Final = 65535
_PROVIDER: Final = "openai/"
_FROM_ENVIRONMENT: Final = "os.environ/"
_OURS: Final = ("model", "api_base", "api_key", "use_chat_completions_api")
_LIMITS: Final = ("max_input_tokens", "max_output_tokens")
_INFO: Final = frozenset({"id", "managed_by", *_LIMITS})
_RESERVED: Final = frozenset(
    {
        *_OURS,
        "base_url",
        "bucket_name",
        "client_id",
        "client_secret",
        "custom_llm_provider",
        "configurable_clientside_auth_params",
        "model_info",
        "organization",
        "region_name",
        "tenant_id",
        "use_litellm_proxy",
    }
)
_RESERVED_PREFIXES: Final = ("api_", "aws_", "azure_", "gcs_", "litellm_", "mock_", "s3_", "vertex_", "watsonx_")
"""Parameters of LiteLLM (types/router.py, 1.109) that say where a request goes, as whom, or that none is sent."""
_PLAIN_KEY: Final = re.compile(r"(?!(?i:y|n|yes|no|on|off|true|false|null)\Z)[A-Za-z][A-Za-z0-9_]*")
"""Keys that every YAML reads as text without quotes."""
_ESCAPED: Final = re.compile(r'["\\]|[^ -~]')
_BITS: Final = 256
_MAX_DEPTH: Final = 16
_SHOWN: Final = 80


@noun
class _Entry:
    """One entry of `model_list`."""

    label: str
    alias: str | None
    says: Route
    """Everything but the aliases."""


class LiteLlm:
    """Writes and reads the managed file of LiteLLM.

    `front` is the front door's URL, such as `http://127.0.0.1:1234/v1`, to which the entries of routes without an
    upstream lead, asking for the label itself. None (mode `direct`): such a route is refused. A file of another front
    door reads as routes to that address, which differ from the wanted ones and so are replaced.
    """

    kind: ClassVar[str] = "litellm"

    def __init__(self, front: str | None = None) -> None:
        if front is not None and _address(front) is None:
            raise ValueError(f"{front!r} is not a URL such as http://127.0.0.1:1234/v1")
        self._front = front

    # ------------------------------------------------------------------------------------------------ to text

    def write(self, routes: tuple[Route, ...]) -> str:
        """The whole file; raises GatewayTextError for a route that cannot be said or must not be."""
        names = [name for route in routes for name in (route.label, *route.aliases)]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise _unwritable(f"have the name {twice!r} twice, between which LiteLLM would take turns")
        if not routes:
            return f"{HEADER}model_list: []\n"
        return "".join([HEADER, "model_list:\n", *(line for route in routes for line in self._lines(route))])

    def _lines(self, route: Route) -> Iterator[str]:
        """A label's entry, then one for each alias, which differ in their name and id alone."""
        params = {**self._target(route), "api_key": NO_KEY, "use_chat_completions_api": True}
        for key, value in sorted(route.request_params.items()):
            if why := refusal(key, value):
                raise _unwritable(f"give {route.label!r} a request parameter that {why}")
            params[key] = value
        limits = dict(zip(_LIMITS, (route.context_length, route.max_output_tokens), strict=True))
        for name in (route.label, *route.aliases):
            if not LABEL.regex.fullmatch(name):
                raise _unwritable(f"have the name {_short(name)}, which must be {LABEL.says}")
            identity = f"{OWNER}/{route.label}" if name == route.label else f"{OWNER}/{route.label}/{name}"
            info: dict[str, Scalar] = {"id": identity, "managed_by": OWNER}
            info |= {key: value for key, value in limits.items() if value is not None}
            yield f"  - model_name: {_scalar(name)}\n"
            yield from _mapping("litellm_params", params)
            yield from _mapping("model_info", info)

    def _target(self, route: Route) -> dict[str, Scalar]:
        upstream = route.upstream
        if upstream is None:
            if self._front is None:
                raise _unwritable(f"have no server for {route.label!r}, and no front door that could stand for it")
            return {"model": f"{_PROVIDER}{route.label}", "api_base": self._front}
        api_base = f"http://{authority(upstream.host, upstream.port)}/v1"
        if _address(api_base) != (upstream.host, upstream.port):
            raise _unwritable(f"send {route.label!r} to the address {_short(api_base)}, which is none")
        if api_base == self._front and upstream.served_name == route.label:
            raise _unwritable(f"send {route.label!r} to the front door as if it were its server")
        if not upstream.served_name or _has_surrogate(upstream.served_name):
            raise _unwritable(f"ask the server of {route.label!r} for a model without a proper name")
        return {"model": f"{_PROVIDER}{upstream.served_name}", "api_base": api_base}

    # ---------------------------------------------------------------------------------------------- from text

    def read(self, text: str) -> tuple[Route, ...]:
        """The routes of a file that is all ours; raises GatewayTextError.

        A comment or another order of lines that a person left in it does not matter, and other values are other
        routes; an entry or a key that we would not have written makes the file no longer ours to replace.
        """
        if text.strip() in _NOBODYS:
            return ()
        first = _FIRST_LINE.match(text)
        if first is None:
            raise GatewayTextError(FOREIGN, "was not written by reconciler (its first line says so) and is left alone")
        if int(first[1]) > FORMAT:
            raise GatewayTextError(NEWER, f"is of format {first[1]}, and this reconciler reads up to format {FORMAT}")
        document = _load(text)
        if type(document) is not dict or set(document) != {"model_list"} or type(document["model_list"]) is not list:
            raise GatewayTextError(FOREIGN, "holds something else than `model_list`, which reconciler did not write")
        return _assemble([self._entry(number, item) for number, item in enumerate(document["model_list"], 1)])

    def _entry(self, number: int, item: Any) -> _Entry:
        if type(item) is not dict or set(item) != {"model_name", "litellm_params", "model_info"}:
            raise _foreign(number, "is not what reconciler writes")
        name, params, info = item["model_name"], item["litellm_params"], item["model_info"]
        if type(params) is not dict or type(info) is not dict or info.get("managed_by") != OWNER:
            raise _foreign(number, f"({_short(name)}) is not marked `managed_by: {OWNER}`")
        found = _ID.fullmatch(info["id"]) if type(info.get("id")) is str else None
        if found is None or (found[2] or found[1]) != name or not set(info) <= _INFO:
            raise _foreign(number, f"({_short(name)}) has a `model_info` that reconciler did not write")
        limits = [info.get(key) for key in _LIMITS]
        if any(value is not None and type(value) is not int for value in limits):
            raise _foreign(number, f"({_short(name)}) has a limit that is not a number")
        extra = {key: value for key, value in params.items() if key not in _OURS}
        if any(type(key) is not str or refusal(key, value) for key, value in extra.items()):
            raise _foreign(number, f"({_short(name)}) has a parameter that reconciler did not write")
        route = Route(
            label=found[1],
            upstream=self._upstream(number, found[1], params),
            context_length=limits[0],
            max_output_tokens=limits[1],
            request_params=extra,
        )
        return _Entry(label=found[1], alias=found[2], says=route)

    def _upstream(self, number: int, label: str, params: Mapping[str, Any]) -> Upstream | None:
        model, api_base = params.get("model"), params.get("api_base")
        address = _address(api_base) if type(api_base) is str else None
        if type(model) is not str or not model.startswith(_PROVIDER) or model == _PROVIDER or address is None:
            raise _foreign(number, f"(for {_short(label)}) leads somewhere else than to a server of this project")
        if params.get("api_key") != NO_KEY or params.get("use_chat_completions_api") is not True:
            raise _foreign(number, f"(for {_short(label)}) has parameters that reconciler did not write")
        served_name = model.removeprefix(_PROVIDER)
        if api_base == self._front and served_name == label:
            return None
        return Upstream(host=address[0], port=address[1], served_name=served_name)


def refusal(name: str, value: Any) -> str | None:
    """Why LiteLLM must not be given a request parameter, as the end of a sentence; None: it may.

    The value is never quoted: it may be a secret that somebody meant to pass.
    """
    shown = _short(name)
    if name in _RESERVED or name.startswith(_RESERVED_PREFIXES):
        return f"decides where requests go or as whom: {shown}"
    if _has_surrogate(name) or not name:
        return f"has no proper name: {shown}"
    if type(value) is str:
        if value.startswith(_FROM_ENVIRONMENT):
            return f"LiteLLM would replace by a variable of its environment: {shown}"
        if SECRET.fullmatch(value):
            return f"looks like a secret: {shown}"
        return f"is not text: {shown}" if _has_surrogate(value) else None
    if type(value) is float:
        return None if isfinite(value) else f"is not a finite number: {shown}"
    if type(value) is int:
        return None if value.bit_length() <= _BITS else f"is too large a number: {shown}"
    return None if type(value) is bool else f"is neither text, number nor truth value: {shown}"


def _assemble(entries: list[_Entry]) -> tuple[Route, ...]:
    """Each label with its aliases; an alias that says something else than its label is nothing that we write."""
    labels = {entry.label: entry.says for entry in entries if entry.alias is None}
    aliases: dict[str, list[str]] = {label: [] for label in labels}
    names = [entry.alias or entry.label for entry in entries]
    if len(set(names)) != len(names):
        raise GatewayTextError(DAMAGED, "has a `model_name` twice, between which LiteLLM takes turns")
    for entry in entries:
        if entry.alias is None:
            continue
        if labels.get(entry.label) != entry.says:
            raise GatewayTextError(DAMAGED, f"sends the alias {_short(entry.alias)} somewhere else than its label")
        aliases[entry.label].append(entry.alias)
    return tuple(
        Route(
            label=label,
            aliases=tuple(aliases[label]),
            upstream=route.upstream,
            context_length=route.context_length,
            max_output_tokens=route.max_output_tokens,
            request_params=route.request_params,
        )
        for label, route in labels.items()
    )


def _load(text: str) -> Any:
    """The document as LiteLLM would load it. PyYAML's C parser, where it is built in, is ten times as fast.

    It ends the whole process on a text that is nested too deeply (6.0.3), so the events are looked at first.
    """
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = 0
    try:
        for event in yaml.parse(text, Loader=loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _MAX_DEPTH or isinstance(event, yaml.AliasEvent):
                raise GatewayTextError(DAMAGED, "has YAML that reconciler does not write (deep nesting or an alias)")
        return yaml.load(text, Loader=loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" (line {mark.line + 1})"
        raise GatewayTextError(DAMAGED, f"is no YAML that could be loaded{where}") from error


def _address(api_base: str) -> tuple[str, int] | None:
    """Host and port of a URL as this module writes it; None for any other text."""
    found = _API_BASE.fullmatch(api_base)
    if found is None or int(found[2]) > _LAST_PORT:
        return None
    return found[1].strip("[]"), int(found[2])


def _mapping(name: str, values: Mapping[str, Scalar]) -> Iterator[str]:
    yield f"    {name}:\n"
    for key, value in values.items():
        yield f"      {key if _PLAIN_KEY.fullmatch(key) else _scalar(key)}: {_scalar(value)}\n"


def _scalar(value: Scalar) -> str:
    """`value` so that YAML 1.1 and 1.2 read the same type and content: text is quoted and ASCII."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{_ESCAPED.sub(_escape, value)}"'
    digits = repr(value)
    if isinstance(value, float) and "e" in digits and "." not in digits:
        return digits.replace("e", ".0e")  # YAML 1.1 takes 1e-05 for text
    return digits


def _escape(found: re.Match[str]) -> str:
    character, code = found[0], ord(found[0])
    if character in '"\\':
        return f"\\{character}"
    if code <= 0xFF:  # noqa: PLR2004
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _short(value: Any) -> str:
    shown = ascii(value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."


def _unwritable(what: str) -> GatewayTextError:
    return GatewayTextError(UNWRITABLE, what)


def _foreign(number: int, what: str) -> GatewayTextError:
    return GatewayTextError(FOREIGN, f"has an entry (number {number}) that {what} and is left alone")


GATEWAY = LiteLlm
