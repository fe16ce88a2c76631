"""The map of a topology: as text for a terminal, as SVG for a page. Pure."""

from collections.abc import Iterable, Mapping
from html import escape

from shared.amqp.topology.default import READERS
from shared.amqp.topology.objects import Binding, Exchange, Queue, Topology

_ROW = 26
_LEFT, _MIDDLE, _RIGHT = 20, 300, 560
_BOX, _HEIGHT = 200, 20
_WIDTH = 960


def render_text(topology: Topology) -> str:
    """Every exchange with where its keys lead, then every queue with what happens to it."""
    lines = []
    for exchange in topology.exchanges:
        lines.append(f"exchange {exchange.name} ({exchange.kind})")
        rows = _gather(topology, exchange.name)
        width = max((len(keys) for keys, _ in rows), default=0)
        lines += [f"  {keys:<{width}} ──▶ {target}" for keys, target in rows] or ["  leads nowhere"]
    lines.append("")
    width = max((len(queue.name) for queue in topology.queues), default=0)
    lines += [f"queue {queue.name:<{width}}  {_describe(queue)}".rstrip() for queue in topology.queues]
    return "\n".join(lines) + "\n"


def render_svg(topology: Topology) -> str:
    """Exchanges on the left, queues on the right, a line for every binding with its key."""
    sources = {item.name: index for index, item in enumerate(topology.exchanges)}
    for binding in topology.bindings:
        sources.setdefault(binding.exchange, len(sources))
    kinds = {item.name: item.kind for item in topology.exchanges}
    queues = list(dict.fromkeys([*(item.name for item in topology.queues), *_targets(topology.bindings)]))
    details = {item.name: _describe(item) for item in topology.queues}
    rows = max(len(queues), len(sources))
    spread = rows / max(len(sources), 1)
    left = {name: round((index * spread + spread / 2) * _ROW) + _ROW for name, index in sources.items()}
    right = {name: index * _ROW + _ROW + _ROW // 2 for index, name in enumerate(queues)}
    parts = [_line(*ends, ", ".join(keys), left, right) for ends, keys in bundle(topology.bindings).items()]
    parts += [_box(_LEFT, y, f"{name} ({kinds.get(name, '?')})", "#cfe3f5") for name, y in left.items()]
    parts += [_box(_RIGHT, y, name, "#f5e6c8", details.get(name, "")) for name, y in right.items()]
    height = (rows + 1) * _ROW + _ROW // 2
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}" '
        'font-family="sans-serif" font-size="11">\n<title>exchanges and queues</title>\n'
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>\n'
    )
    return head + "\n".join(parts) + "\n</svg>\n"


def _gather(topology: Topology, exchange: str) -> list[tuple[str, str]]:
    """(keys, target) of one exchange; the keys that lead to the same target stand together."""
    keys: dict[str, list[str]] = {}
    for binding in topology.bindings:
        if binding.exchange == exchange:
            kind = "exchange" if binding.to_exchange else "queue"
            keys.setdefault(f"{kind} {binding.destination}", []).append(binding.routing_key)
    return [(", ".join(key or "(any)" for key in found), target) for target, found in keys.items()]


def _describe(queue: Queue) -> str:
    """Who reads it, its type, what bounds it and where it leads."""
    arguments: Mapping[str, object] = queue.arguments
    words = [queue.kind if queue.durable else f"{queue.kind}, not durable"]
    if "x-message-ttl" in arguments:
        words.append(f"waits {_seconds(arguments['x-message-ttl'])}")
    if "x-max-length" in arguments:
        words.append(f"at most {arguments['x-max-length']}, {arguments.get('x-overflow', 'drop-head')}")
    if "x-dead-letter-exchange" in arguments:
        key = arguments.get("x-dead-letter-routing-key", "the same key")
        words.append(f"then ▶ {arguments['x-dead-letter-exchange'] or 'default exchange'}/{key}")
    if queue.name in READERS:
        words.insert(0, f"read by {READERS[queue.name]}")
    return "; ".join(words)


def _seconds(milliseconds: object) -> str:
    return f"{milliseconds / 1000:g} s" if isinstance(milliseconds, int | float) else str(milliseconds)


def _targets(bindings: Iterable[Binding]) -> list[str]:
    return [binding.destination for binding in bindings if not binding.to_exchange]


def bundle(bindings: Iterable[Binding]) -> dict[tuple[str, str, bool], list[str]]:
    """(exchange, destination, to an exchange) → keys: one line each."""
    bundles: dict[tuple[str, str, bool], list[str]] = {}
    for binding in bindings:
        keys = bundles.setdefault((binding.exchange, binding.destination, binding.to_exchange), [])
        keys += [binding.routing_key] if binding.routing_key else []
    return bundles


def _line(source: str, target: str, to_exchange: bool, keys: str, left: Mapping[str, int], right: Mapping[str, int]) -> str:
    start, x = left[source], _LEFT + _BOX
    if to_exchange:
        end, label = left.get(target, start), (_MIDDLE - 30, (start + left.get(target, start)) // 2, "start")
        curve, style = f"M{x} {start} C{_MIDDLE} {start} {_MIDDLE} {end} {x} {end}", ' stroke-dasharray="3 2"'
    else:
        end, style = right[target], ""
        label = (_RIGHT - 8, end - 3, "end")
        curve = f"M{x} {start} C{_MIDDLE} {start} {_MIDDLE + 40} {end} {_RIGHT} {end}"
    text = f'<text x="{label[0]}" y="{label[1]}" text-anchor="{label[2]}" fill="#556">{escape(keys)}</text>' if keys else ""
    return f'<path d="{curve}" fill="none" stroke="#889"{style}/>{text}'


def _box(x: int, middle: int, text: str, colour: str, detail: str = "") -> str:
    top = middle - _HEIGHT // 2
    box = (
        f'<rect x="{x}" y="{top}" width="{_BOX if not detail else 110}" height="{_HEIGHT}" rx="3" fill="{colour}" stroke="#889"/>'
        f'<text x="{x + 6}" y="{middle + 4}">{escape(text)}</text>'
    )
    return box + (f'<text x="{x + 118}" y="{middle + 4}" fill="#556" font-size="9">{escape(detail)}</text>' if detail else "")


def count(topology: Topology) -> str:
    """``11 exchanges, 19 queues, 23 bindings``."""
    pairs = ((Exchange, "exchanges"), (Queue, "queues"), (Binding, "bindings"))
    return ", ".join(f"{sum(isinstance(item, kind) for item in topology)} {word}" for kind, word in pairs)
