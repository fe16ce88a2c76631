"""docs/sending-from-an-application.md: every program on the page is run, in order, and does what the page says."""

from __future__ import annotations

from pathlib import Path

import orjson

from tests.pipeline.clients.line import Line
from tests.support.pages import Block, read_blocks, run_block
from tests.support.waiting import wait_until

BLOCKS = read_blocks("sending-from-an-application.md", "sh", "python", "js", "php")
RECIPIENTS = {
    "someone@good.example": 3, "one@good.example": 2, "two@good.example": 2, "three@good.example": 1, "once@good.example": 1,
    "pika@good.example": 1, "node@good.example": 1, "php@good.example": 1, "asked@good.example": 1,
}  # fmt: skip
"""Of the whole page, and how many mails they get."""


def find(beginning: str) -> int:
    """The place of the block that has this text."""
    [place] = [place for place, block in enumerate(BLOCKS) if beginning in block.text]
    return place


def documents(block: Block, said: str) -> list[dict[str, object]]:
    """The JSON objects that a block printed, a line each."""
    assert block.language == "sh"
    return [orjson.loads(row) for row in said.replace("}{", "}\n{").splitlines() if row.startswith("{")]


def test_the_whole_page(line: Line, tmp_path: Path) -> None:
    line.take_results()
    before = {recipient: len(mails) for recipient, mails in line.ledger.by_recipient().items()}
    said: list[str] = []
    for place, block in enumerate(BLOCKS):
        if place == find('for queue in ("success"'):
            wait_until(lambda: line.ledger.count() - sum(before.values()) >= sum(RECIPIENTS.values()) - 1, within=30)
        said.append(run_block(block, tmp_path, line.stack.env))

    def arrived() -> dict[str, int]:
        grown = {one: len(mails) - before.get(one, 0) for one, mails in line.ledger.by_recipient().items()}
        return {one: count for one, count in grown.items() if count}

    wait_until(lambda: sum(arrived().values()) >= sum(RECIPIENTS.values()), within=30)
    assert arrived() == RECIPIENTS

    [first] = documents(BLOCKS[0], said[0])
    assert isinstance(messages := first["messages"], list)
    assert set(messages[0]) == {"message-id", "recipient", "id"}
    place = find("?partial=true")
    [partly] = documents(BLOCKS[place], said[place])
    assert isinstance(errors := partly["errors"], list)
    assert [error["index"] for error in errors] == [1]
    place = find("Idempotency-Key")
    once, again = documents(BLOCKS[place], said[place])
    assert once == again
    results = said[find('for queue in ("success"')].splitlines()
    assert {row.split()[1] for row in results} >= set(RECIPIENTS) - {"asked@good.example"}
    assert all(" 250 " in row for row in results)
    shown = said[find("mailwarren show")]
    assert '"delivered"' in shown
    assert "asked@good.example" in shown
