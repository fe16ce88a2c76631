"""``mailwarren amqpinit`` and ``mailwarren topology``: exchanges, queues and bindings."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from services.cli.given import Address, Api, Config, load_given, read_text, wait_for
from shared.amqp.connection import connect
from shared.amqp.settings import BrokerSettings
from shared.amqp.topology.apply import plan
from shared.amqp.topology.complete import RESULTS, complete
from shared.amqp.topology.declare import Declared, declare
from shared.amqp.topology.default import READERS, read_default_topology
from shared.amqp.topology.difference import Difference, Kind, find_differences
from shared.amqp.topology.draw import count, render_svg, render_text
from shared.amqp.topology.inspect import fetch_objects, find_missing, parse_vhost
from shared.amqp.topology.objects import Binding, Exchange, Topology, TopologyObject, render_topology
from shared.amqp.topology.parse import parse_topology
from shared.amqp.topology.routing import find_loops
from shared.settings import mask_url
from shared.trouble import BadSetting

File = Annotated[
    Path | None, typer.Argument(metavar="FILE", help="A topology file, - = standard input; default: the one shipped.")
]
_SIGNS = {Kind.MISSING: "-", Kind.OTHER: "~", Kind.EXTRA: "+"}

group = typer.Typer(help="Exchanges, queues and bindings: compare, complete, draw.", no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(amqpinit)
    app.add_typer(group, name="topology")


def amqpinit_main() -> None:
    """The installed program ``amqpinit``."""
    from services.cli.app import call_app

    alone = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    alone.command()(amqpinit)
    sys.exit(call_app(sys.argv[1:], alone, "amqpinit"))


def amqpinit(
    url: Annotated[str, typer.Argument(metavar="URL", help="amqp[s]://user:password@host:port/vhost")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check the file, say what would be declared.")] = False,
    verify: Annotated[bool, typer.Option(help="Check the broker's certificate on amqps.")] = True,
) -> int:
    """Declare a topology file (standard input) in RabbitMQ.

    \b
    The interface and file format of MailerQ's amqpinit. Applied in order; what is there already with the same
    arguments is left alone, so it may be run again and again.
      mailwarren amqpinit amqp://guest:guest@localhost/ < topology.json
      mailwarren topology complete mine.json | mailwarren amqpinit amqp://localhost/mail
    """
    topology = _parse(*read_text(None, "a topology: mailwarren amqpinit URL < topology.json"))
    settings = load_given(BrokerSettings, None, rabbitmq_address=url, rabbitmq_verify=verify)
    if dry_run:
        for item in topology:
            print(f"would declare {item}")
        return 0
    declared = wait_for(_declare(settings, topology))
    if declared.refused is None:
        print(f"declared {count(topology)}")
        return 0
    print(f"{declared.refused} ({declared.refused.at}): {declared.reason}", file=sys.stderr)
    print(f"declared before it: {', '.join(map(str, declared.done)) or 'nothing'}", file=sys.stderr)
    return 1


@group.command()
def check(file: File = None, address: Address = None, api: Api = None, config: Config = None) -> int:
    """Is the broker as our processes need it?

    \b
    As FILE says, or topology.json under the settings' exchange and keys. A line per difference, exit code 1.
    AMQP shows only what exists; with --rabbitmq-api (management plugin) also arguments and bindings are compared.
    Objects beside those of the file are no difference here (see 'topology diff'), unless results lead into a queue
    that our processes read.
      mailwarren topology check --rabbitmq-api http://guest:guest@localhost:15672
    """
    settings = load_given(BrokerSettings, config, rabbitmq_address=address, rabbitmq_api=api)
    wanted = _wanted(file, settings)
    results = {setting: getattr(settings, setting.replace("-", "_")) for setting in RESULTS}
    results = {setting: key for setting, key in results.items() if key}
    if settings.rabbitmq_api:
        found = wait_for(_fetch(settings))
        lines = [str(item) for item in find_differences(wanted, found) if item.kind is not Kind.EXTRA]
    else:
        found = list(wanted)
        lines = [str(Difference(Kind.MISSING, item)) for item in wait_for(_find_missing(settings, wanted))]
    exchanges = [item for item in found if isinstance(item, Exchange)]
    bindings = [item for item in found if isinstance(item, Binding)]
    lines += find_loops(exchanges, bindings, settings.rabbitmq_exchange, results, READERS)
    for line in lines:
        print(line)
    if not settings.rabbitmq_api:
        print("not seen without rabbitmq-api: bindings, arguments of queues and exchanges, extra objects")
    if not lines:
        print(f"as it should be: {count(wanted)}")
    return 1 if lines else 0


@group.command()
def diff(file: File = None, address: Address = None, api: Api = None, config: Config = None) -> int:
    """Every difference between the broker and a file.

    \b
    - missing, ~ other, + on the broker only. Exit code 1 if any.
    Needs the management API (--rabbitmq-api or RABBITMQ_API).
    """
    settings = load_given(BrokerSettings, config, rabbitmq_address=address, rabbitmq_api=api)
    if not settings.rabbitmq_api:
        raise BadSetting(
            "rabbitmq-api is not set: AMQP alone shows neither arguments nor bindings; 'topology check' does what it can"
        )
    differences = find_differences(_wanted(file, settings), wait_for(_fetch(settings)))
    for item in differences:
        print(f"{_SIGNS[item.kind]} {item.subject}" + (f": {item.detail}" if item.detail else ""))
    return 1 if differences else 0


@group.command("complete")
def complete_file(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="Your amqpinit file; default: standard input.")] = None,
) -> int:
    """Print your amqpinit file plus what our processes need.

    \b
    Your objects come first and unchanged. What our processes cannot live with is told on stderr.
      mailwarren topology complete mine.json > whole.json
    """
    whole = complete(_parse(*read_text(file, "a topology"), quiet=True), read_default_topology())
    _warn(whole)
    print(render_topology(whole), end="")
    return 0


@group.command("show")
def draw(
    file: File = None,
    broker: Annotated[bool, typer.Option("--broker", help="What is on the broker (needs --rabbitmq-api).")] = False,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="OUT", help="Write a picture, - = standard output.")] = None,
    png: Annotated[Path | None, typer.Option("--png", metavar="OUT", help="Write a picture (needs matplotlib).")] = None,
    address: Address = None,
    api: Api = None,
    config: Config = None,
) -> int:
    """Draw the map as text, SVG or PNG.

    \b
    Where every key leads, and what becomes of every queue.
      mailwarren topology show
      mailwarren topology show --broker --svg map.svg
    """
    if broker:
        settings = load_given(BrokerSettings, config, rabbitmq_address=address, rabbitmq_api=api)
        if not settings.rabbitmq_api:
            raise BadSetting("rabbitmq-api is not set: AMQP alone does not tell what there is")
        topology = Topology(tuple(wait_for(_fetch(settings))))
    else:
        topology = read_default_topology() if file is None else _parse(*read_text(file, "a topology"))
    if png is not None:
        from services.cli.picture import write_png

        write_png(topology, png)
    if svg is not None and str(svg) != "-":
        _write(svg, render_svg(topology))
    elif svg is not None:
        print(render_svg(topology), end="")
    if svg is None and png is None:
        print(render_text(topology), end="")
    return 0


def _wanted(file: Path | None, settings: BrokerSettings) -> Topology:
    """The file, or the shipped one under the exchange, keys and durability of the settings."""
    if file is None:
        return plan(settings, read_default_topology())
    return _parse(*read_text(file, "a topology"))


def _parse(text: str, source: str, *, quiet: bool = False) -> Topology:
    topology = parse_topology(text, source)
    if not quiet:
        _warn(topology)
    return topology


def _warn(topology: Topology) -> None:
    for warning in topology.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadSetting(f"{path}: {error.strerror}") from None


async def _declare(settings: BrokerSettings, topology: Topology) -> Declared:
    connection = await connect(settings.rabbitmq_address, name="amqpinit", verify=settings.rabbitmq_verify, patience=0)
    try:
        return await declare(connection, topology)
    finally:
        await connection.close()


async def _find_missing(settings: BrokerSettings, wanted: Topology) -> Sequence[TopologyObject]:
    connection = await connect(settings.rabbitmq_address, name="topology", verify=settings.rabbitmq_verify, patience=0)
    try:
        return await find_missing(connection, [*wanted.exchanges, *wanted.queues])
    finally:
        await connection.close()


async def _fetch(settings: BrokerSettings) -> list[TopologyObject]:
    vhost = parse_vhost(settings.rabbitmq_address)
    try:
        return await fetch_objects(settings.rabbitmq_api, vhost, verify=settings.rabbitmq_verify)
    except BadSetting as error:
        raise BadSetting(f"{error} (virtual host {vhost!r} of {mask_url(settings.rabbitmq_address)})") from None
