"""Rounds, one after the other, told as they end."""

from collections.abc import Sequence

from tests.bench.plan import Job
from tests.bench.rounds import Round, Stage, run_round


def run_series(jobs: Sequence[Job], stage: Stage) -> list[Round]:
    """Run all of them; stop after a round that has left mail under way."""
    rounds = []
    for job in jobs:
        one = run_round(job, stage)
        rounds.append(one)
        recorded = f", {one.recorded:,.0f}/s recorded" if one.recorded else ""
        told = f"; DOES NOT COUNT: {', '.join(one.faults)}" if one.faults else ""
        stage.say(f"{job.title}: {job.messages} mails, {one.delivered:,.0f}/s delivered{recorded}{told}")
        if one.is_stuck:
            stage.say("Stopped: the rounds to come would measure what this one has left")
            break
    return rounds
