"""The part of an ensemble that one host serves."""

from dataclasses import replace

from reconciler.model.desired import Desired
from reconciler.model.problem import ExitCode, ReconcilerError

from .findings import shown


def select(desired: Desired, host_name: str | None) -> Desired:
    """The labels of `host_name`, with what belongs to them; all of them where the document names no hosts.

    Raises ReconcilerError where it names hosts and this one is not among them: serving nothing by mistake would
    stop everything.
    """
    hosts = desired.state.hosts
    if not hosts:
        return desired
    if host_name is None or host_name not in hosts:
        said = "has no name" if host_name is None else f"is called {shown(host_name)}"
        raise ReconcilerError(
            "host-not-in-hosts",
            f"the desired state names the hosts {', '.join(sorted(hosts))} and this machine {said}; "
            "nothing was changed",
            hint="set `name` in the host file to one of them",
            code=ExitCode.INVALID,
        )
    labels = frozenset(hosts[host_name].models)
    models = {label: model for label, model in desired.state.models.items() if label in labels}
    wanted = frozenset(model.chat_template for model in models.values())
    return replace(
        desired,
        state=replace(desired.state, models=models, hosts={host_name: hosts[host_name]}),
        templates={path: text for path, text in desired.templates.items() if path in wanted},
        provenance={label: origin for label, origin in desired.provenance.items() if label in labels},
    )
