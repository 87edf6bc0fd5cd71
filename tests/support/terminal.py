"""As much of a terminal as the display needs, with what it shows to be looked at."""

from __future__ import annotations

import re

__all__ = ["Screen"]

_PIECE = re.compile(r"\x1b\[(\??[0-9;]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")


class Screen:
    """Lines of a terminal that is as long as need be.

    Attributes
    ----------
    lines : list of str
        What it shows, without spaces at the ends.
    colors : bool
        Whether a color was ever asked for.
    hidden : bool
        Whether the cursor is hidden.
    """

    def __init__(self, columns: int = 80) -> None:
        self.columns = columns
        self._lines = [""]
        self._row = self._column = 0
        self.colors = self.hidden = False

    @property
    def lines(self) -> list[str]:
        shown = [line.rstrip() for line in self._lines]
        while shown and not shown[-1]:
            shown.pop()
        return shown

    def feed(self, text: str) -> None:
        """Do what a terminal does with this; what it does not know is an error."""
        end = 0
        for piece in _PIECE.finditer(text):
            assert piece.start() == end, text[end : piece.start()]
            end = piece.end()
            arguments, command, control, plain = piece.groups()
            if command is not None:
                self._obey(arguments, command)
            elif control == "\r":
                self._column = 0
            elif control == "\n":
                self._feed_line()
            else:
                self._write(plain)
        assert end == len(text), text[end:]

    def resize(self, columns: int) -> None:
        """Break lines that are too long anew, as terminals do; the cursor stays in its line."""
        broken: list[str] = []
        for number, line in enumerate(self._lines):
            if number == self._row:
                self._row = len(broken)
            line = line.rstrip()
            broken += [line[i : i + columns] for i in range(0, len(line), columns)] or [""]
        self._lines, self.columns = broken, columns

    def _obey(self, arguments: str, command: str) -> None:
        if command == "A":
            self._row -= int(arguments or 1)
            assert self._row >= 0, "above the first line"
        elif command == "K":
            assert not arguments
            self._lines[self._row] = self._lines[self._row][: self._column]
        elif command == "J":
            assert not arguments
            self._lines[self._row] = self._lines[self._row][: self._column]
            del self._lines[self._row + 1 :]
        elif command == "m":
            codes = [int(code or 0) for code in arguments.split(";")]
            self.colors |= any(30 <= code < 38 or 90 <= code < 98 for code in codes)
        else:
            assert arguments == "?25", f"{arguments}{command}"
            self.hidden = command == "l"

    def _feed_line(self) -> None:
        self._row, self._column = self._row + 1, 0  # as the line discipline does
        if self._row == len(self._lines):
            self._lines.append("")

    def _write(self, text: str) -> None:
        for character in text:
            if self._column == self.columns:
                self._feed_line()
            line = self._lines[self._row].ljust(self._column)
            self._lines[self._row] = line[: self._column] + character + line[self._column + 1 :]
            self._column += 1
