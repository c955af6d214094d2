"""The text of Snort 2, Snort 3 and Suricata rule files as statements: a rule's header and options.

Read are comments (`#`, `;`, `/* */`, `#begin` .. `#end`), lines joined by a backslash, rules that simply
go on behind their parenthesis, and quotes inside a quoted option. Whatever cannot be read is a statement
with its problem, and reading goes on behind it: no line takes others with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_MARK = "\ud800"  # which no file's text has: decoded bytes give other surrogates only
_JOIN = _MARK + "\n"
"""A newline that a backslash took: it belongs to its line, and separates nothing inside quotes."""
_NEWLINE = re.compile(r"\r\n?|\n")
_CONTINUED = re.compile(r"\\[ \t]*\n")
_BLANK = re.compile(rf"[\s{_MARK}]*")
_BLANK_IN_LINE = re.compile(rf"(?:[^\S\n]|{_JOIN})*")
_LINE = re.compile(rf"(?:[^\n]*{_JOIN})*[^\n]*")
_ACTIONS = (
    "alert|drop|pass|log|reject|rejectsrc|rejectdst|rejectboth|sdrop|block|react|rewrite|"
    "activate|dynamic|config"
)
_BEGINS = re.compile(
    rf"[ \t]*(?:(?:{_ACTIONS}|var|ipvar|portvar|include)[ \t]+[^\s:;]"
    r"|\w+(?:[ \t]+\S+){3}[ \t]+[-<=]>[ \t])"
)
"""How a statement begins, so that one that has no end does not swallow it."""
_VARIABLE = re.compile(r"(?:var|ipvar|portvar)\s+(\w+)\s+(\S.*)", re.DOTALL)
_HEADER = re.compile(rf"(?:\$\([^()\n]*\)|{_JOIN}|[^(\n#]|(?<=\S)#)*")
_KEY = re.compile(rf'[^\s{_MARK}:;()"]+')
_STOP = re.compile(r'\\.|[;"\n)]', re.DOTALL)
_BEHIND_QUOTE = re.compile(rf"[\s{_MARK}]*(?:[;,]|\)[^\S\n]*(?:#|\n|$))")
_BEHIND_PATTERN = re.compile(rf"[\s{_MARK}]*(?:;|\)[^\S\n]*(?:#|\n|$))")
"""What follows the closing quote of a pattern, in which quotes and commas mean themselves."""
_PATTERNS = frozenset(("pcre", "regex", "sd_pattern"))
_LAST_LINE = re.compile(r"\)\s*(?:#.*)?$")
_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Statement:
    """A rule (`header` and `options`), a variable (its name and value), or a problem with its text."""

    line: int
    header: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    variable: tuple[str, str] | None = None
    problem: tuple[str, str] | None = None
    """What cannot be read, shortened, and why."""


class _Broken(ValueError):
    """What cannot be read, and why; `ended`: the statement ends there all the same."""

    def __init__(self, what: str, why: str, *, ended: bool = False) -> None:
        super().__init__(why)
        self.what = what
        self.ended = ended


def statements(data: bytes) -> Iterator[Statement]:
    """All statements of a file in order; bytes that are no UTF-8 stay as they are (surrogateescape)."""
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    scanner = _Scanner(_CONTINUED.sub(_JOIN, _NEWLINE.sub("\n", text)))
    while (statement := scanner.next()) is not None:
        yield statement


def shown(text: str) -> str:
    """A piece of a file for a message: one line, and short."""
    line = " ".join(text.replace(_MARK, " ").split())
    line = line.encode("utf-8", "replace").decode("utf-8")
    return line if len(line) <= _SHOWN else line[: _SHOWN - 3] + "..."


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self._line, self._counted = 1, 0

    def next(self) -> Statement | None:
        """The next statement; None at the end."""
        try:
            self._skip("#;")
        except _Broken as error:
            line, self.at = self._number(), len(self.text)
            return Statement(line, problem=(error.what, str(error)))
        if self.at >= len(self.text):
            return None
        line = self._number()
        whole = self._rest_of_line().partition(" #")[0]
        variable = _VARIABLE.fullmatch(whole.replace(_JOIN, " ").strip())
        if variable is not None:
            self.at += len(whole)
            return Statement(line, variable=(variable[1], variable[2]))
        start = self.at
        try:
            header = self._header()
            return Statement(line, header, tuple(self._options()))
        except _Broken as error:
            if error.ended:
                self.at += len(self._rest_of_line())
            else:
                self._recover(start)
            return Statement(line, problem=(error.what, str(error)))

    def _number(self) -> int:
        """The line that the scanner is in; it only goes on."""
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line

    def _rest_of_line(self) -> str:
        return _match(_LINE, self.text, self.at)

    def _begins(self) -> bool:
        """Whether a statement begins in the line at whose begin the scanner is."""
        return _BEGINS.match(self.text, self.at) is not None

    def _skip(self, marks: str = "#") -> None:
        """Over blanks and comments, whose lines begin with one of the marks, to what comes next."""
        while True:
            self.at += len(_match(_BLANK, self.text, self.at))
            if self.text.startswith("/*", self.at):
                end = self.text.find("*/", self.at + 2)
                if end < 0:
                    raise _Broken("/*", "a comment is not closed")
                self.at = end + 2
            elif self.text[self.at : self.at + 1] in tuple(marks):
                self._comment()
            else:
                return

    def _comment(self) -> None:
        """A comment line; a rule that is commented out takes the lines that a backslash joins to it."""
        first, _, _ = self._rest_of_line().partition("\n")
        if first.strip() == "#begin":
            end = re.compile(r"^[ \t]*#end[ \t]*$", re.MULTILINE).search(self.text, self.at)
            if end is None:
                raise _Broken("#begin", "a comment is not closed with #end")
            self.at = end.end()
            return
        while True:
            newline = self.text.find("\n", self.at)
            if newline < 0:
                self.at = len(self.text)
                return
            joined, self.at = self.text[newline - 1] == _MARK, newline + 1
            if not joined or self._begins():
                return

    def _header(self) -> tuple[str, ...]:
        """The words before the options, lists without blanks; then the scanner is behind the `(`."""
        text = ""
        while True:
            piece = _match(_HEADER, self.text, self.at)
            text += piece + " "
            self.at += len(piece)
            end_of_line = self.at
            if not self.text.startswith("(", self.at):
                self._skip()
            if self.text.startswith("(", self.at):
                self.at += 1
                return _words(text)
            begins, goes_on = _BEGINS.match(text), text.count("[") > text.count("]")
            indented = self.at > 0 and self.text[self.at - 1] in " \t"
            if not begins or not (goes_on or indented) or self._at_statement():
                self.at = end_of_line
                why = "is no 'ACTION PROTOCOL FROM PORTS -> TO PORTS (OPTIONS)'"
                raise _Broken(shown(text), why, ended=True)

    def _options(self) -> Iterator[tuple[str, str]]:
        """(keyword, value) of `key:value; key; ...`; then the scanner is behind the rule's line."""
        while True:
            self._skip()
            if self._at_statement():
                raise _Broken("(", "the parenthesis of the options is not closed")
            if self.text[self.at] == ")":
                break
            key = _match(_KEY, self.text, self.at)
            if not key:
                raise _Broken(shown(self._rest_of_line()), "an option is expected, like sid:1;")
            self.at += len(key)
            self.at += len(_match(_BLANK, self.text, self.at))
            mark = self.text[self.at : self.at + 1]
            if mark == ":":
                self.at += 1
                yield key, self._value(key)
            elif mark == ";":
                yield key, ""
            else:
                raise _Broken(shown(key), "the option does not end with ';'")
            self.at += 1
        self.at += 1
        self.at += len(_match(_BLANK_IN_LINE, self.text, self.at))
        behind = self._rest_of_line().strip()
        if behind.startswith("/*"):
            return  # a comment, which is skipped before the next statement
        if behind and not behind.startswith("#"):
            raise _Broken(shown(behind), "stands behind the rule", ended=True)

    def _at_statement(self) -> bool:
        """Whether a statement begins at the scanner's place, or the text has ended."""
        start = self.text.rfind("\n", 0, self.at) + 1
        if self.at >= len(self.text):
            return True
        if self.text[start - 2 : start] == _JOIN or self.text[start : self.at].strip():
            return False
        return _BEGINS.match(self.text, start) is not None

    def _value(self, key: str) -> str:
        """Up to the semicolon that ends an option, which is the scanner's place then."""
        start = self.at
        closing = _BEHIND_PATTERN if key in _PATTERNS else _BEHIND_QUOTE
        quoted = False
        for stop in _STOP.finditer(self.text, self.at):
            at, text = stop.start(), stop[0]
            if text == '"' and quoted:
                quoted = closing.match(self.text, at + 1) is None
            elif text == '"':
                before = self.text[start:at].rstrip()
                quoted = not before or before[-1] in "!,"
            elif text == ";" and not quoted:
                self.at = at
                return self.text[start:at].replace(_JOIN, "").strip()
            elif text == "\n" and self.text[at - 1] != _MARK:
                self._check_goes_on(key, at, quoted=quoted)
            elif text == ")" and not quoted and self._ends_line(at + 1):
                break
        what = "a quote is not closed" if quoted else "the option does not end with ';'"
        value = self.text[start : start + _SHOWN].partition("\n")[0]
        raise _Broken(shown(f"{key}:{value}"), what)

    def _check_goes_on(self, key: str, newline: int, *, quoted: bool) -> None:
        if quoted:
            raise _Broken(shown(key), "a quote is not closed")
        if _BEGINS.match(self.text, newline + 1):
            raise _Broken(shown(key), "the option does not end with ';'")

    def _ends_line(self, at: int) -> bool:
        behind = _match(_LINE, self.text, at).strip()
        return not behind or behind.startswith("#")

    def _recover(self, start: int) -> None:
        """Behind what cannot be read: a line that ends it, or before one that begins another."""
        if self.at > start and self.at < len(self.text) and self._at_statement():
            return
        begun = _BEGINS.match(self.text, start) is not None
        self.at = max(start, self.text.rfind("\n", 0, self.at) + 1)
        while self.at < len(self.text):
            line = self._rest_of_line()
            self.at += len(line)
            if not begun or _LAST_LINE.search(line):
                return
            self.at += 1
            if self._begins():
                return


def _words(text: str) -> tuple[str, ...]:
    """Words apart by blanks; blanks inside brackets and behind `!` separate nothing."""
    text = re.sub(r"!\s+", "!", text.replace(_JOIN, " "))
    words: list[str] = []
    depth = 0
    for word in text.split():
        if depth:
            words[-1] += word
        else:
            words.append(word)
        depth += word.count("[") - word.count("]")
    return tuple(words)


def _match(pattern: re.Pattern[str], text: str, at: int) -> str:
    """What a pattern that may match nothing matches there."""
    match = pattern.match(text, at)
    return match[0] if match else ""
