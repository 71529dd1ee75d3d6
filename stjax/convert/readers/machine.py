"""A machine that runs pickles and can build what its table lists, and nothing else.

A pickle is a program. Python's own machine calls what the program asks to be called, allocates what it asks for, and
hashes and prints whatever it has built: 13 bytes can take 10 GiB, 326 bytes for ever (tuples of tuples of the same
tuple). This one never calls a name that it was not lent, holds bytes as views of the file, takes as keys only what is
hashed in one step, and stops after `MOST_STEPS`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stjax.convert.readers.contents import listed
from stjax.convert.readers.limits import LARGEST_NUMBER, MOST_LETTERS, MOST_STEPS, Budget
from stjax.errors import UsageError, printable

MOST_ARGUMENTS = 16
"""Of a call. PyTorch's have eight at most."""
LONGEST_LINE = 512
"""Of the few instructions that end with a line: names of modules, numbers as text."""


@dataclass(frozen=True, eq=False)
class Admitted:
    """What stands for a name that a pickle may use.

    Args:
      name: as the pickle spells it, without its module.
      make: builds our own value from the machine and the arguments of the pickle's call; None where a name is a name.
    """

    name: str
    make: Callable[..., Any] | None = None


class State:
    """A value that takes what a pickle wants to set on it, and judges it."""

    def set_state(self, state: Any) -> None:
        """Called at most as often as the pickle has instructions."""
        raise NotImplementedError


class Machine:
    """Runs pickles that stand one after another.

    Args:
      data: bytes of a file.
      admitted: (module, name) -> what stands for it.
      may: what a pickle of this kind may hold, for the message.

    `at` is where the pickle that was run last has ended.
    """

    def __init__(self, data: memoryview, admitted: Mapping[tuple[str, str], Admitted], may: str) -> None:
        self.data, self.at, self.may, self.admitted = data, 0, may, admitted
        self.steps = Budget(MOST_STEPS, "instructions")
        self.storage: Callable[[Any], Any] | None = None
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, storage: Callable[[Any], Any] | None = None) -> Any:
        """The value of the next pickle.

        Args:
          storage: resolves persistent ids; None where there are none.
        Raises:
          UsageError: it asks for something that it may not have.
          ValueError, IndexError, KeyError, ...: it is damaged.
        """
        self.stack, self.marks, self.memo, self.storage = [], [], {}, storage
        while (code := self.number(1)) != STOP:
            self.steps.spend()
            instruction = INSTRUCTIONS.get(code)
            if instruction is None:
                raise self.refusal(f"has the instruction {code:#x}")
            instruction(self)
        return self.pop()

    def refusal(self, what: str) -> UsageError:
        """That this pickle wants what it may not have."""
        return UsageError(f"a pickle may hold {self.may} only: this one {printable(what)}; not loaded")

    # Bytes

    def take(self, size: int) -> memoryview:
        """The next bytes, where they lie."""
        if size > len(self.data) - self.at:
            raise ValueError(f"{size} bytes are asked for, {len(self.data) - self.at} are left")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size: int) -> int:
        """The next bytes as a number."""
        return int.from_bytes(self.take(size), "little")

    def line(self) -> str:
        """The rest of a line."""
        line, newline, _ = bytes(self.data[self.at : self.at + LONGEST_LINE]).partition(b"\n")
        if not newline:
            raise ValueError(f"a line of more than {LONGEST_LINE} letters")
        self.at += len(line) + 1
        return line.decode()

    # The stack

    def push(self, value: Any) -> None:
        """One value."""
        self.stack.append(value)

    def pop(self) -> Any:
        """The last value, never one below a mark."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise ValueError("a value is missing")
        return self.stack.pop()

    def top(self, *kinds: type) -> Any:
        """The last value, which is to be changed."""
        if not self.stack or not isinstance(self.stack[-1], kinds):
            raise self.refusal("changes something else")
        return self.stack[-1]

    def since_mark(self) -> list[Any]:
        """Everything above the last mark."""
        begin = self.marks.pop()
        values = self.stack[begin:]
        del self.stack[begin:]
        return values

    def tuple_of(self, count: int) -> None:
        """The last values as one."""
        values = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(values)))

    # Values

    def fill(self, found: dict[Any, Any], pairs: Iterable[tuple[Any, Any]]) -> None:
        """Sets items under keys that cost one step each, whatever a pickle makes of them."""
        for key, value in pairs:
            if isinstance(key, str | memoryview):
                key = name_of(key)
            # Integers beyond 64 bits can be chosen so that all hashes are alike.
            if not (isinstance(key, str | bool | float | None) or (isinstance(key, int) and abs(key) < 1 << 63)):
                raise self.refusal(f"has a {type(key).__name__} where a name belongs")
            found[key] = value

    def call(self) -> None:
        """What stands for a name, given the arguments on the stack."""
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, Admitted) or function.make is None:
            raise self.refusal(f"calls {function.name if isinstance(function, Admitted) else 'what is no function'}")
        if not isinstance(arguments, tuple) or len(arguments) > MOST_ARGUMENTS:
            raise ValueError(f"the arguments of {function.name}")
        self.push(function.make(self, *arguments))

    def build(self) -> None:
        """Sets the state of what stands for an array; of a dict, attributes are passed over."""
        state = self.pop()
        target = self.top(State, dict)
        if isinstance(target, State):
            target.set_state(state)

    def named(self, module: Any, name: Any) -> None:
        """What stands for a name."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a name that is no text")
        if (module, name) not in self.admitted:
            raise self.refusal(f"asks for {listed([f'{module}.{name}'])}")
        self.push(self.admitted[module, name])

    def outside(self) -> None:
        """What a persistent id stands for."""
        if self.storage is None:
            raise self.refusal("asks for an object outside it")
        self.push(self.storage(self.pop()))

    def remember(self, index: int) -> None:
        """The last value, under a number. A dict holds them: a list would be as long as the largest number."""
        if not self.stack:
            raise ValueError("a value is missing")
        self.memo[index] = self.stack[-1]


def name_of(value: Any) -> str:
    """Text, or what Python 2 wrote for text.

    Raises:
      ValueError: neither, or longer than any name.
    """
    if not isinstance(value, str | memoryview):
        raise ValueError(f"a {type(value).__name__} for a name")
    if len(value) > MOST_LETTERS:
        raise ValueError(f"a name of {len(value)} letters")
    return value if isinstance(value, str) else str(value, "latin1")


def ordered(machine: Machine, items: Any = ()) -> dict[Any, Any]:
    """collections.OrderedDict: empty, to be filled, or (Python 2) made of a list of pairs."""
    if not isinstance(items, list | tuple):
        raise ValueError(f"a {type(items).__name__} for a list of pairs")
    machine.steps.spend(len(items))
    found: dict[Any, Any] = {}
    machine.fill(found, items)
    return found


def _pairs(values: list[Any]) -> Iterable[tuple[Any, Any]]:
    return zip(values[::2], values[1::2], strict=True)


def _integer(content: memoryview) -> int:
    if len(content) > LARGEST_NUMBER:
        raise ValueError(f"an integer of {len(content)} bytes")
    return int.from_bytes(content, "little", signed=True)


def _written(machine: Machine) -> Any:
    """A number as text; 00 and 01 are how protocol 1 writes truth."""
    line = machine.line()
    if len(line) > 2 * LARGEST_NUMBER:
        raise ValueError(f"an integer of {len(line)} letters")
    return {"00": False, "01": True}[line] if line in ("00", "01") else int(line.rstrip("L"))


def _same(content: memoryview) -> memoryview:
    return content


def _text(content: memoryview) -> str:
    return str(content, "utf-8", "surrogatepass")


def _append(machine: Machine) -> None:
    value = machine.pop()
    machine.top(list).append(value)


def _append_all(machine: Machine) -> None:
    values = machine.since_mark()
    machine.top(list).extend(values)


def _set(machine: Machine) -> None:
    value, key = machine.pop(), machine.pop()
    machine.fill(machine.top(dict), [(key, value)])


def _set_all(machine: Machine) -> None:
    values = machine.since_mark()
    machine.fill(machine.top(dict), _pairs(values))


def _dict(machine: Machine) -> None:
    found: dict[Any, Any] = {}
    machine.fill(found, _pairs(machine.since_mark()))
    machine.push(found)


def _stack_named(machine: Machine) -> None:
    name, module = machine.pop(), machine.pop()
    machine.named(module, name)


def _protocol(machine: Machine) -> None:
    if (number := machine.number(1)) > 5:
        raise ValueError(f"protocol {number}")


STOP = ord(".")

_SIZED: dict[int, tuple[int, Callable[[memoryview], Any]]] = {
    ord("U"): (1, _same), ord("T"): (4, _same),  # Python 2's strings: bytes, until somebody wants a name
    ord("C"): (1, _same), ord("B"): (4, _same), 0x8E: (8, _same), 0x96: (8, _same),
    0x8C: (1, _text), ord("X"): (4, _text), 0x8D: (8, _text),
    0x8A: (1, _integer), 0x8B: (4, _integer),
}  # fmt: skip
"""Instructions that are followed by a length and so many bytes -> bytes of the length, and what they become."""

INSTRUCTIONS: dict[int, Callable[[Machine], Any]] = {
    0x80: _protocol,
    0x95: lambda m: m.take(8),  # a frame's length, which says nothing that the instructions do not
    ord("("): lambda m: m.marks.append(len(m.stack)),
    ord("0"): lambda m: m.pop(),
    ord("1"): lambda m: m.since_mark(),
    ord("2"): lambda m: m.push(m.stack[-1]),
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("I"): lambda m: m.push(_written(m)),
    ord("L"): lambda m: m.push(_written(m)),
    ord("J"): lambda m: m.push(struct.unpack("<i", m.take(4))[0]),
    ord("K"): lambda m: m.push(m.number(1)),
    ord("M"): lambda m: m.push(m.number(2)),
    ord("G"): lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
    ord("]"): lambda m: m.push([]),
    ord("l"): lambda m: m.push(m.since_mark()),
    ord("a"): _append,
    ord("e"): _append_all,
    ord(")"): lambda m: m.push(()),
    ord("t"): lambda m: m.push(tuple(m.since_mark())),
    0x85: lambda m: m.tuple_of(1),
    0x86: lambda m: m.tuple_of(2),
    0x87: lambda m: m.tuple_of(3),
    ord("}"): lambda m: m.push({}),
    ord("d"): _dict,
    ord("s"): _set,
    ord("u"): _set_all,
    # Sets are no part of weights: as lists they stand beside them, and nothing in them is hashed.
    0x8F: lambda m: m.push([]),
    0x90: _append_all,
    0x91: lambda m: m.push(m.since_mark()),
    ord("q"): lambda m: m.remember(m.number(1)),
    ord("r"): lambda m: m.remember(m.number(4)),
    0x94: lambda m: m.remember(len(m.memo)),
    ord("h"): lambda m: m.push(m.memo[m.number(1)]),
    ord("j"): lambda m: m.push(m.memo[m.number(4)]),
    ord("c"): lambda m: m.named(m.line(), m.line()),
    0x93: _stack_named,
    ord("R"): lambda m: m.call(),
    ord("b"): lambda m: m.build(),
    ord("Q"): lambda m: m.outside(),
    **{
        code: lambda m, size=size, made=made: m.push(made(m.take(m.number(size))))
        for code, (size, made) in _SIZED.items()
    },
}
