"""What ``mailwarren show`` prints of a mail."""

from services.cli.show import render_mail


def test_the_class_of_every_attempt_is_told() -> None:
    attempts = [{"attempt": 1, "code": 452, "class": "quota", "description": "full"}, {"attempt": 2, "code": 250}]
    mail = {"recipient": "bob@example.net", "status": "delivered", "envelope": "", "accepted": None, "attempts": attempts}
    head, first, second = render_mail(mail).splitlines()[-3:]
    assert (head.split().index("class"), first.split()) == (6, ["1", "452", "quota", "full"])
    assert second.split() == ["2", "250"]
    assert "accepted" not in render_mail(mail)
