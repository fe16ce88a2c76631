"""(j): the same backlog taken out by one smtp-sender and by two, in turn. What does the second one bring?

A sender is one thread of Python. On two cores the broker, the recorder, Postgres, the sink and the reader of results need their share,
too: with s µs of a sender and o µs of all others for each mail, two senders are 2 s / (s + o) times as fast as one, or a little more,
since o falls when there is more to do at a time. With mail signed by RSA-2048 the others have 40 % of the CPU, and together they are
the limit. So the bar is asked of mail with which the sender is the limit: signed and sealed with RSA-4096, three signatures each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from statistics import median

from tests.bench.plan import SCALING
from tests.bench.queued import SENDER, Drained, QueuedJob, drain, stopped_sender
from tests.bench.rounds import Stage
from tests.bench.signing import SigningKey

COPIES = (1, 2)
_QUICK = 2
"""``--quick``: half of the messages. Each sender has 200 in hand, and at the end one of them may be idle: fewer would tell of that."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of mail, 5 KB each."""

    what: str
    messages: int
    is_signed: bool = False
    """With the key of (d)."""
    is_sealed: bool = False
    """With a longer one, and an ARC set over it: the sender is the limit, and the bar is for this kind."""
    behaviour: str = ""
    """Of the sink (tests.support.mx)."""


KINDS = {
    "signed": Kind("DKIM, RSA-2048", 6000, is_signed=True),
    "sealed": Kind("DKIM and ARC, RSA-4096", 3000, is_sealed=True),
    "slow": Kind("a host that answers each dot after 100 ms", 3000, behaviour="slow-100ms-message"),
}


@dataclass(frozen=True, slots=True)
class ScalingResult:
    """One kind: medians over the rounds that count, by number of senders."""

    kind: str
    messages: int
    rates: Mapping[int, float] = field(default_factory=dict)
    """Mails per second, from when all senders were ready to the last arrival."""
    busy: Mapping[int, float] = field(default_factory=dict)
    """Cores that each sender kept busy."""
    cpu: Mapping[str, float] = field(default_factory=dict)
    """Group → µs per mail, with one sender."""
    faults: tuple[str, ...] = ()
    """Why rounds do not count."""

    @property
    def ratio(self) -> float | None:
        """Two senders over one."""
        one, two = (self.rates.get(copies) for copies in COPIES)
        return two / one if one and two else None

    @property
    def share(self) -> float | None:
        """Of the CPU that a mail costs, the sender's, with one sender."""
        total = sum(self.cpu.values())
        return self.cpu[SENDER] / total if total else None


def measure_scaling(stage: Stage, turns: int, *, quick: bool) -> list[ScalingResult]:
    """Every kind ``turns`` times with one sender and with two, in turn."""
    key = SigningKey(stage.folder, name="long", bits=4096, seals=True)
    with stopped_sender(stage):
        return [_measure(stage, key, name, turns, quick=quick) for name in KINDS]


def _measure(stage: Stage, key: SigningKey, name: str, turns: int, *, quick: bool) -> ScalingResult:
    kind = KINDS[name]
    messages = kind.messages // (_QUICK if quick else 1)
    drained: dict[int, list[Drained]] = {copies: [] for copies in COPIES}
    for turn, copies in product(range(1, turns + 1), COPIES):
        way = "d" if kind.is_signed or kind.is_sealed else "b"
        job = QueuedJob(way, 5, messages, 0, name=f"{SCALING}-{name}-{copies}-{turn}")
        one = _drain(stage, key, kind, job, copies)
        drained[copies].append(one)
        told = f"; DOES NOT COUNT: {', '.join(one.faults)}" if one.faults else ""
        stage.say(f"({SCALING}) {kind.what}, {copies} smtp-sender: {one.rate:,.0f}/s, {one.busy:.0%} of a core each{told}")
        if one.faults:
            break  # the next one would measure what this one has left
    return summarize(name, messages, drained)


def _drain(stage: Stage, key: SigningKey, kind: Kind, job: QueuedJob, copies: int) -> Drained:
    if kind.is_sealed:
        return drain(job, stage, copies, {"DKIM_KEYS": str(key.file)}, check=key.find_flaws)
    if kind.is_signed:
        assert stage.key is not None
        return drain(job, stage, copies, check=stage.key.find_flaws)
    return drain(job, stage, copies, behaviour=kind.behaviour)


def summarize(kind: str, messages: int, drained: Mapping[int, Sequence[Drained]]) -> ScalingResult:
    """Medians of what counts. Pure."""
    sound = {copies: [one for one in some if not one.faults] for copies, some in drained.items()}
    alone = sound.get(1, [])
    names = dict.fromkeys(name for one in alone for name in one.cpu)
    return ScalingResult(
        kind,
        messages,
        rates={copies: median(one.rate for one in some) for copies, some in sound.items() if some},
        busy={copies: median(one.busy for one in some) for copies, some in sound.items() if some},
        cpu={name: median(one.cpu.get(name, 0.0) for one in alone) for name in names},
        faults=tuple(
            f"{copies} smtp-sender: {fault}" for copies, some in drained.items() for one in some for fault in one.faults
        ),
    )
