"""The amqpinit file format: what it means, and the line and column of what is wrong."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.amqp.topology.default import read_default_topology
from shared.amqp.topology.located import parse_located, to_plain
from shared.amqp.topology.objects import Binding, Exchange, Queue, render_topology
from shared.amqp.topology.parse import parse_topology
from shared.trouble import BadSetting


def test_every_field() -> None:
    topology = parse_topology(
        """[
      {"type": "exchange", "name": "e", "exchangetype": "topic", "durable": false, "auto_delete": true, "internal": true,
       "arguments": {"alternate-exchange": "f"}},
      {"type": "queue", "name": "q", "durable": false, "arguments": {"x-max-length": 5}},
      {"type": "binding", "exchange": "e", "queue": "q", "routingkey": "k.*", "arguments": {"x-match": "any"}},
      {"type": "binding", "exchange": "e", "destination": "f"}
    ]"""
    )
    assert topology.objects == (
        Exchange("e", "topic", False, True, True, {"alternate-exchange": "f"}),
        Queue("q", False, {"x-max-length": 5}),
        Binding("e", "q", "k.*", False, {"x-match": "any"}),
        Binding("e", "f", "", True),
    )
    assert [item.at for item in topology] == [f"line {line}, column 7" for line in (2, 4, 5, 6)]


def test_what_is_not_said_is_durable() -> None:
    exchange, queue = parse_topology('[{"type":"exchange","name":"e","exchangetype":"direct"},{"type":"queue","name":"q"}]')
    assert exchange == Exchange("e", "direct", durable=True)
    assert queue == Queue("q", durable=True)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "line 1, column 1: not JSON"),
        ("[", "line 1, column 2: not JSON"),
        ('[\n {"type": "queue",\n  "name": "q",}\n]', "line 3, column 1"),
        ("{}", "line 1, column 1: expected a list of objects, not an object"),
        ('[{"type":"queue","name":"q"}, 5]', "line 1, column 31: expected an object, not a number"),
        ('[{"name":"q"}]', "line 1, column 2: the field 'type' is missing"),
        ('[{"type":"quue","name":"q"}]', "line 1, column 10: unknown type 'quue': expected exchange, queue or binding"),
        ('[{"type":["queue"],"name":"q"}]', "line 1, column 10: unknown type ['queue']"),
        ('[{"type":"queue",\n  "name":"q",\n  "duarble":true}]', "line 3, column 3: queue: unknown key 'duarble'"),
        ('[{"type":"queue","name":"q","exchangetype":"direct"}]', "queue: unknown key 'exchangetype'"),
        ('[{"type":"queue"}]', "line 1, column 2: queue: the field 'name' is missing"),
        ('[{"type":"queue","name":""}]', "line 1, column 25: queue: name: '': expected a name of 1 to 255 bytes"),
        ('[{"type":"queue","name":7}]', "line 1, column 25: queue: name: 7: expected a string"),
        (f'[{{"type":"queue","name":"{"ü" * 128}"}}]', "longer than 255 bytes"),
        ('[{"type":"queue","name":"\\ud800"}]', "not valid Unicode"),
        ('[{"type":"queue","name":"q","durable":"yes"}]', "line 1, column 39: queue: durable: 'yes': expected true or false"),
        ('[{"type":"queue","name":"q","durable":1}]', "queue: durable: 1: expected true or false"),
        ('[{"type":"queue","name":"q","arguments":[]}]', "queue: arguments: []: expected an object"),
        ('[{"type":"queue","name":"q","arguments":{"x-a":null}}]', "line 1, column 48: queue: argument 'x-a': None"),
        ('[{"type":"queue","name":"q","arguments":{"x-a":{"b":99999999999999999999}}}]', "queue: argument 'b'"),
        ('[{"type":"queue","name":"q","name":"r"}]', "line 1, column 29: key 'name' stands twice"),
        ('[{"type":"queue","name":"NaN","arguments":{"x-a":NaN}}]', "line 1, column 50: NaN is not JSON"),
        ('[{"type":"exchange","name":"e"}]', "exchange: the field 'exchangetype' is missing"),
        ('[{"type":"binding","queue":"q"}]', "binding: the field 'exchange' is missing"),
        ('[{"type":"binding","exchange":"e"}]', "has neither 'queue' nor 'destination'"),
        ('[{"type":"binding","exchange":"e","queue":"q","destination":"f"}]', "has both 'queue' and 'destination'"),
        ('[{"type":"binding","exchange":"","queue":"q"}]', "the default exchange takes no bindings"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(text: str, told: str) -> None:
    with pytest.raises(BadSetting) as caught:
        parse_topology(text, "mine.json")
    assert str(caught.value).startswith("mine.json: ")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_queue_argument_that_rabbitmq_ignores_is_a_warning() -> None:
    topology = parse_topology('[{"type":"queue","name":"q","arguments":{"x-a":1,\n "max-length":1}}]', "mine.json")
    assert topology.warnings == (
        "mine.json: line 2, column 2: queue 'q': argument 'max-length' does not begin with x-: RabbitMQ ignores it",
    )
    assert topology.queues[0].arguments == {"x-a": 1, "max-length": 1}


def test_what_is_rendered_is_parsed_the_same() -> None:
    topology = read_default_topology()
    assert parse_topology(render_topology(topology)).objects == topology.objects
    assert parse_topology(render_topology(())).objects == ()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=15,
)


@given(value=_JSON, indent=st.sampled_from([None, 1, 3]))
def test_any_json_is_read_as_the_standard_library_reads_it(value: object, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    assert to_plain(parse_located(text, "x")) == json.loads(text)
