"""The SMTP commands of the scripted MX (RFC 5321), misbehaving where a plan says so."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace

from tests.support.behaviour import ACCEPT, NotABehaviour, Plan, State, Step, render_reply
from tests.support.mx_state import MxState
from tests.support.smtp_connection import SmtpConnection

_PATH = r"<((?:\"(?:[^\"\\]|\\.)*\"|[^\"<>\s])*)>"
_MAIL = re.compile(rf"MAIL FROM:{_PATH}(?: (.+))?", re.IGNORECASE)
_RCPT = re.compile(rf"RCPT TO:{_PATH}(?: (.+))?", re.IGNORECASE)
_NO_PARAMETERS: Mapping[str, str] = {}


class MxSession(SmtpConnection):
    """One client's session: its commands, its transaction, its content."""

    def __init__(self, mx: MxState) -> None:
        super().__init__(mx)
        self._extended = False
        self._accepted = 0
        self._reset_transaction()

    def _take_command(self, verb: str, line: str) -> None:
        _COMMANDS.get(verb, MxSession._unknown)(self, line)

    def _forget_session(self) -> None:
        self._extended = False
        self._reset_transaction()

    def _unknown(self, line: str) -> None:
        self._say("500 5.5.2 Unknown command")

    def _noop(self, line: str) -> None:
        self._say("250 2.0.0 Ok")

    def _vrfy(self, line: str) -> None:
        self._say("252 2.0.0 Try it and see")

    def _quit(self, line: str) -> None:
        self._respond(State.QUIT, b"221 2.0.0 Bye\r\n", then=self._leave)

    def _leave(self) -> None:
        self._gone = True
        self._transport.close()

    def _helo(self, line: str) -> None:
        self._greet(line, State.HELO)

    def _ehlo(self, line: str) -> None:
        self._greet(line, State.EHLO)

    def _greet(self, line: str, state: State) -> None:
        name = line.partition(" ")[2].strip()
        if not name:
            self._say("501 5.5.4 Your name is missing")
            return
        lines = [self._mx.options.hostname, *(self._extensions() if state is State.EHLO else ())]
        if self._respond(state, render_reply("250 " + "\n".join(lines))):
            self._reset_transaction()
            self._extended = state is State.EHLO
            self._facts = replace(self._facts, helo=name)

    def _extensions(self) -> list[str]:
        options = self._mx.options
        offered = {
            "PIPELINING": options.pipelining,
            "8BITMIME": options.eight_bit,
            f"SIZE {options.size}": options.size is not None,
            "SMTPUTF8": options.smtputf8,
            "DSN": options.dsn,
            "ENHANCEDSTATUSCODES": True,
            "STARTTLS": self._mx.tls is not None and not self._facts.tls,
            f"AUTH {' '.join(options.mechanisms)}": self._offers_auth,
        }
        return [keyword for keyword, is_offered in offered.items() if is_offered]

    @property
    def _offers_auth(self) -> bool:
        options = self._mx.options
        return bool(options.users) and not (options.auth_only_under_tls and not self._facts.tls)

    def _starttls(self, line: str) -> None:
        if self._mx.tls is None or self._facts.tls or not self._extended:
            self._say("503 5.5.1 No STARTTLS here and now")
        elif self._buffer:  # what came in clear the handshake must not be taken for what comes after
            self._hang_up("554 5.5.0 Input after STARTTLS and before the handshake")
        else:
            self._respond(State.STARTTLS, b"220 2.0.0 Ready to start TLS\r\n", then=self._begin_tls)

    # --- AUTH (RFC 4954) -------------------------------------------------------------------------------------------

    def _auth(self, line: str) -> None:
        _, mechanism, initial = [*line.split(" ", 2), "", ""][:3]
        if not self._offers_auth or not self._extended or self._facts.auth_user or self._in_mail:
            self._say("503 5.5.1 No AUTH here and now")
        elif mechanism.upper() not in self._mx.options.mechanisms:
            self._say(f"504 5.5.4 {' or '.join(self._mx.options.mechanisms)}")
        elif mechanism.upper() == "PLAIN":
            self._ask("", self._auth_plain, initial)
        elif mechanism.upper() == "LOGIN":
            self._ask("Username:", self._auth_login, initial)
        else:
            challenge = f"<{secrets.token_hex(8)}@{self._mx.options.hostname}>"
            self._ask(challenge, lambda answer: self._auth_cram(challenge, answer))

    def _ask(self, prompt: str, answer: Callable[[str], None], initial: str = "") -> None:
        def take(line: str) -> None:
            try:
                answer("" if line == "=" else base64.b64decode(line, validate=True).decode("utf-8"))
            except (binascii.Error, UnicodeDecodeError):
                self._say("501 5.5.2 Cannot read that as base64" if line != "*" else "501 5.7.0 Cancelled")

        if initial:
            take(initial)
        else:
            self._prompt = take
            self._say(f"334 {base64.b64encode(prompt.encode()).decode()}")

    def _auth_plain(self, answer: str) -> None:
        _, user, password = [*answer.split("\0"), "", ""][:3]
        self._check(user, password)

    def _auth_login(self, user: str) -> None:
        self._ask("Password:", lambda password: self._check(user, password))

    def _auth_cram(self, challenge: str, answer: str) -> None:
        """RFC 2195."""
        user, _, digest = answer.rpartition(" ")
        password = self._mx.options.users.get(user, "")
        right = hmac.new(password.encode(), challenge.encode(), "md5").hexdigest() == digest
        self._check(user, password if right else None)

    def _check(self, user: str, password: str | None) -> None:
        right = user in self._mx.options.users and self._mx.options.users[user] == password
        usual = b"235 2.7.0 Authenticated\r\n" if right else b"535 5.7.8 Wrong user or password\r\n"
        if self._respond(State.AUTH, usual):
            self._facts = replace(self._facts, auth_user=user)

    # --- the transaction -------------------------------------------------------------------------------------------

    def _reset_transaction(self) -> None:
        self._in_mail = False
        self._in_content = False
        self._too_large = False
        self._searched = 0
        self._reverse_path = ""
        self._mail_parameters: Mapping[str, str] = _NO_PARAMETERS
        self._recipients: list[tuple[str, Mapping[str, str]]] = []
        self._plan: dict[State, Step] = {}

    def _rset(self, line: str) -> None:
        self._reset_transaction()
        self._respond(State.RSET, b"250 2.0.0 Ok\r\n")

    def _mail(self, line: str) -> None:
        options = self._mx.options
        match = _MAIL.fullmatch(line)
        if not self._facts.helo or self._in_mail:
            self._say("503 5.5.1 MAIL comes once, after EHLO or HELO")
        elif options.auth_required and not self._facts.auth_user:
            self._say("530 5.7.0 Authentication required")
        elif self._accepted == options.messages_per_connection:
            self._hang_up("421 4.7.0 Enough mails for one connection")
        elif match is None:
            self._say("501 5.5.4 Expected MAIL FROM:<reverse-path>")
        elif (parameters := self._read_parameters(match[2], self._mail_keywords())) is not None:
            self._begin_mail(match[1], parameters)

    def _begin_mail(self, reverse_path: str, parameters: Mapping[str, str]) -> None:
        size = self._mx.options.size
        announced = parameters.get("SIZE", "0")
        if not reverse_path.isascii() and "SMTPUTF8" not in parameters:
            self._say("553 5.6.7 A non-ASCII address needs SMTPUTF8")
        elif not announced.isdigit():
            self._say("501 5.5.4 SIZE is a number")
        elif size is not None and int(announced) > size:
            self._say("552 5.3.4 Larger than SIZE allows")
        else:
            try:
                plan = self._mx.playbook.next_for_reverse_path(reverse_path) if reverse_path else ACCEPT
            except NotABehaviour as error:
                self._say(f"554 5.3.5 {error}")
                return
            if self._respond(State.MAILFROM, b"250 2.1.0 Ok\r\n", plan):
                self._in_mail = True
                self._reverse_path, self._mail_parameters = reverse_path, parameters

    def _mail_keywords(self) -> set[str]:
        options = self._mx.options
        offered = {
            "SIZE": options.size is not None,
            "BODY": options.eight_bit,
            "SMTPUTF8": options.smtputf8,
            "RET": options.dsn,
            "ENVID": options.dsn,
            "AUTH": self._offers_auth,
        }
        return {keyword for keyword, is_offered in offered.items() if is_offered and self._extended}

    def _read_parameters(self, text: str | None, known: set[str]) -> Mapping[str, str] | None:
        """Keywords in upper case to values; None: refused, and the client was told (RFC 5321 4.1.1.11)."""
        if not text:
            return _NO_PARAMETERS
        parameters = {key.upper(): value for key, _, value in (word.partition("=") for word in text.split(" "))}
        if unknown := parameters.keys() - known:
            self._say(f"555 5.5.4 Parameter not offered: {' '.join(sorted(unknown))}")
            return None
        return parameters

    def _rcpt(self, line: str) -> None:
        match = _RCPT.fullmatch(line)
        known = {"NOTIFY", "ORCPT"} if self._mx.options.dsn and self._extended else set()
        if not self._in_mail:
            self._say("503 5.5.1 RCPT comes after MAIL")
        elif match is None or not match[1]:
            self._say("501 5.5.4 Expected RCPT TO:<address>")
        elif not match[1].isascii() and "SMTPUTF8" not in self._mail_parameters:
            self._say("553 5.6.7 A non-ASCII address needs SMTPUTF8")
        elif (parameters := self._read_parameters(match[2], known)) is not None:
            try:
                plan = self._mx.playbook.next_for_recipient(match[1])
            except NotABehaviour as error:
                self._say(f"554 5.3.5 {error}")
                return
            if self._respond(State.RCPTTO, b"250 2.1.5 Ok\r\n", plan):
                self._recipients.append((match[1], parameters))
                for state, step in plan.items():
                    self._plan.setdefault(state, step)

    def _data(self, line: str) -> None:
        if not self._recipients:
            self._say("503 5.5.1 DATA comes after an accepted RCPT" if not self._in_mail else "554 5.5.1 No recipient")
        elif self._buffer:  # RFC 2920 3.1: DATA is the last of its group
            self._hang_up("554 5.5.0 Content before 354")
        else:
            self._respond(State.DATA, b"354 End with <CRLF>.<CRLF>\r\n", self._plan, then=self._begin_content)

    # --- the content -----------------------------------------------------------------------------------------------

    def _begin_content(self) -> None:
        self._in_content = True
        self._searched = 0
        self._buffer[:0] = b"\r\n"  # so that a dot in the first line is like any other

    def _take_content(self) -> bool:
        if self._searched == 0 and (step := self._plan.get(State.CONTENT) or self._mx.connection_plan.get(State.CONTENT)):
            if len(self._buffer) > 2:
                self._searched = 1
                self._act(step)
                return True
            return False
        end = self._buffer.find(b"\r\n.\r\n", max(self._searched - 4, 0))
        if end < 0:
            limit = self._mx.options.size
            if self._too_large or (limit is not None and len(self._buffer) > limit + limit // 10 + 1024):
                self._too_large = True
                del self._buffer[:-4]
            self._searched = len(self._buffer)
            return False
        raw = bytes(self._buffer[: end + 2])
        del self._buffer[: end + 5]
        if b"\r\n." in raw:
            raw = raw.replace(b"\r\n.", b"\r\n")  # RFC 5321 4.5.2
        self._end_content(raw[2:])
        return True

    def _end_content(self, content: bytes) -> None:
        mx = self._mx
        plan: Plan = self._plan
        limit = mx.options.size
        usual = b"250 2.0.0 Ok: queued as %d-%d\r\n" % (self._facts.connection, self._accepted + 1)
        if self._too_large or (limit is not None and len(content) > limit):
            plan, usual = ACCEPT, b"552 5.3.4 Larger than SIZE allows\r\n"
        step = plan.get(State.MESSAGE) or mx.connection_plan.get(State.MESSAGE)
        reply = usual if step is None or step.reply is None else step.reply
        is_stored = step.stored if step is not None and step.stored is not None else reply[:1] == b"2"
        if is_stored and not self._store(content):
            self._say("452 4.3.1 The ledger takes no more")
        elif self._respond(State.MESSAGE, usual, plan):
            self._accepted += 1
        self._reset_transaction()

    def _store(self, content: bytes) -> bool:
        try:
            self._mx.writer.store(
                content,
                reverse_path=self._reverse_path,
                recipients=self._recipients,
                session=self._facts,
                mail_parameters=self._mail_parameters,
            )
        except OSError as error:
            print(f"ledger: {error}", flush=True)
            return False
        self._mx.messages += 1
        return True


_COMMANDS: Mapping[str, Callable[[MxSession, str], None]] = {
    "EHLO": MxSession._ehlo,
    "HELO": MxSession._helo,
    "STARTTLS": MxSession._starttls,
    "AUTH": MxSession._auth,
    "MAIL": MxSession._mail,
    "RCPT": MxSession._rcpt,
    "DATA": MxSession._data,
    "RSET": MxSession._rset,
    "NOOP": MxSession._noop,
    "VRFY": MxSession._vrfy,
    "QUIT": MxSession._quit,
}
