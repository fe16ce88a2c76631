"""The map as PNG."""

from pathlib import Path

from shared.amqp.topology.draw import bundle
from shared.amqp.topology.objects import Topology
from shared.trouble import BadSetting


def write_png(topology: Topology, path: Path) -> None:
    """Draw exchanges, queues and bindings into a file. Raises BadSetting when that cannot be done."""
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        raise BadSetting("--png needs matplotlib: pip install matplotlib; --svg needs nothing") from None
    sources = list(dict.fromkeys([*(item.name for item in topology.exchanges), *(item.exchange for item in topology.bindings)]))
    targets = list(
        dict.fromkeys(
            [*(item.name for item in topology.queues), *(item.destination for item in topology.bindings if not item.to_exchange)]
        )
    )
    rows = max(len(sources), len(targets), 1)
    left = {name: -(index + 0.5) * rows / max(len(sources), 1) for index, name in enumerate(sources)}
    right = {name: -(index + 0.5) * rows / max(len(targets), 1) for index, name in enumerate(targets)}
    figure, axes = pyplot.subplots(figsize=(10, rows * 0.36 + 0.4))
    axes.set_axis_off()
    for name, y in left.items():
        axes.text(0, y, name, va="center", ha="right", bbox={"boxstyle": "round", "facecolor": "#cfe3f5"})
    for name, y in right.items():
        axes.text(1, y, name, va="center", ha="left", bbox={"boxstyle": "round", "facecolor": "#f5e6c8"})
    for (source, target, to_exchange), keys in bundle(topology.bindings).items():
        y = left[target] if to_exchange else right[target]
        x = 0.02 if to_exchange else 0.98
        axes.annotate("", (x, y), (0.02, left[source]), arrowprops={"arrowstyle": "->", "color": "#889"})
        if not to_exchange and keys:
            axes.text(0.94, y + 0.12, ", ".join(keys), ha="right", va="bottom", fontsize=7, color="#556")
    axes.set_xlim(-0.25, 1.25)
    axes.set_ylim(-rows - 0.2, 0.2)
    try:
        figure.savefig(path, format="png", dpi=110)
    except OSError as error:
        raise BadSetting(f"{path}: {error.strerror}") from None
    finally:
        pyplot.close(figure)
