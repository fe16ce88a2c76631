"""The map."""

from xml.etree import ElementTree

from shared.amqp.topology.default import read_default_topology
from shared.amqp.topology.draw import count, render_svg, render_text
from shared.amqp.topology.objects import Binding, Exchange, Queue, Topology


def test_the_text_names_every_object() -> None:
    topology = read_default_topology()
    text = render_text(topology)
    assert "  outbox, retries, dsn ──▶ queue outbox\n" in text
    assert "queue outbox    read by smtp-sender; quorum; then ▶ mailwarren/dead\n" in text
    assert "waits 7200 s; then ▶ mailwarren/the same key" in text
    assert all(f"exchange {exchange.name} " in text for exchange in topology.exchanges)
    assert all(f"queue {queue.name} " in text for queue in topology.queues)


def test_the_picture_is_xml_whatever_the_names() -> None:
    hostile = "<&\"'>"
    objects = (
        Exchange(hostile, "direct"),
        Exchange("e", "fanout"),
        Queue(hostile),
        Binding(hostile, hostile, hostile),
        Binding(hostile, "e", "k", to_exchange=True),
        Binding("elsewhere", "unknown"),
    )
    root = ElementTree.fromstring(render_svg(Topology(objects)))  # noqa: S314 - our own output
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert hostile in texts
    assert f"{hostile} (direct)" in texts
    assert ElementTree.fromstring(render_svg(Topology(()))) is not None  # noqa: S314


def test_count() -> None:
    assert count(Topology((Exchange("e", "direct"), Queue("q"), Queue("r")))) == "1 exchanges, 2 queues, 0 bindings"
