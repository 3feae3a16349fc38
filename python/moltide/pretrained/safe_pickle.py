"""Pickles read as data: a stack machine that knows values and containers, and calls nothing.

Source of the opcodes: `pickletools` of the standard library, which takes the stream apart. Names
of classes and functions become `Name`, calls of them `Call`, and persistent ids `Persistent`; what
these mean is for the caller to decide. Opcodes that make objects in other ways are refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol


class Stream(Protocol):
    """What `pickletools` reads from."""

    def read(self, size: int = ..., /) -> bytes:
        """At most `size` bytes."""
        ...

    def readline(self) -> bytes:
        """To the next newline."""
        ...


class Name(NamedTuple):
    """A class or function that the pickle names."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Persistent(NamedTuple):
    """What lies outside the pickle, found by `id`."""

    id: Any


class Call(NamedTuple):
    """A call that the pickle asks for."""

    function: Name
    arguments: tuple[Any, ...]


class Refused(ValueError):
    """The pickle asks for more than data; the message says what."""


class _Mark:
    pass


_MARK = _Mark()


def read_pickle(stream: Stream, resolve: Callable[[Call], Any]) -> Any:
    """The value of the next pickle in `stream`, which is left behind its end.

    Args:
        resolve: gives the value of a call; raises `Refused` for one it does not know.

    Raises:
        Refused: an opcode that is not for data, or a call that `resolve` refuses.
        ValueError, IndexError, TypeError, KeyError: a damaged pickle.
    """
    machine = _Machine(resolve)
    source: Any = stream  # annotated as a whole file
    for opcode, argument, _ in pickletools.genops(source):
        if opcode.name == "STOP":
            return machine.stack.pop()
        machine.step(opcode.name, argument)
    raise ValueError("the pickle has no end")


class _Machine:
    def __init__(self, resolve: Callable[[Call], Any]) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.resolve = resolve

    def step(self, name: str, argument: Any) -> None:
        """Carry out one opcode."""
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _STORES:
            self.memo[argument] = self.stack[-1]
        elif name in _FETCHES:
            self.stack.append(self.memo[argument])
        elif name in _TUPLES:
            count = _TUPLES[name]
            parts = tuple(self.stack[len(self.stack) - count :])
            if len(parts) != count:
                raise IndexError("the pickle takes more than it put")
            del self.stack[len(self.stack) - count :]
            self.stack.append(parts)
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        elif name not in ("PROTO", "FRAME"):
            raise Refused(f"opcode {name}")

    def marked(self) -> list[Any]:
        """Everything above the last mark, which goes."""
        for at in range(len(self.stack) - 1, -1, -1):
            if self.stack[at] is _MARK:
                found = self.stack[at + 1 :]
                del self.stack[at:]
                return found
        raise IndexError("the pickle has no mark")

    def container(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise TypeError(f"{type(self.stack[-1]).__name__} where a {kind.__name__} was expected")
        return self.stack[-1]


def _memoize(machine: _Machine, _: Any) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


def _pop(machine: _Machine, _: Any) -> None:
    machine.stack.pop()


def _mark(machine: _Machine, _: Any) -> None:
    machine.stack.append(_MARK)


def _tuple(machine: _Machine, _: Any) -> None:
    machine.stack.append(tuple(machine.marked()))


def _list(machine: _Machine, _: Any) -> None:
    machine.stack.append(machine.marked())


def _dict(machine: _Machine, _: Any) -> None:
    machine.stack.append(_pairs(machine.marked()))


def _append(machine: _Machine, _: Any) -> None:
    value = machine.stack.pop()
    machine.container(list).append(value)


def _appends(machine: _Machine, _: Any) -> None:
    values = machine.marked()
    machine.container(list).extend(values)


def _setitem(machine: _Machine, _: Any) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.container(dict)[key] = value


def _setitems(machine: _Machine, _: Any) -> None:
    values = machine.marked()
    machine.container(dict).update(_pairs(values))


def _global(machine: _Machine, argument: str) -> None:
    machine.stack.append(Name(*argument.split(" ", 1)))


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise TypeError("a name that is no text")
    machine.stack.append(Name(module, name))


def _reduce(machine: _Machine, _: Any) -> None:
    arguments, function = machine.stack.pop(), machine.stack.pop()
    if not isinstance(function, Name) or type(arguments) is not tuple:
        raise TypeError(f"a call of {str(function)[:80]}")
    machine.stack.append(machine.resolve(Call(function, arguments)))


def _persistent(machine: _Machine, _: Any) -> None:
    machine.stack.append(Persistent(machine.stack.pop()))


def _build(machine: _Machine, _: Any) -> None:
    """The attributes of a dictionary, such as a state_dict's versions: left aside."""
    machine.stack.pop()
    if not isinstance(machine.stack[-1], dict):
        raise Refused(f"the state of a {type(machine.stack[-1]).__name__}")


def _pairs(values: list[Any]) -> dict[Any, Any]:
    return dict(zip(values[::2], values[1::2], strict=True))


_VALUES = frozenset((
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE"),
    *("BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
))  # fmt: skip
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_STORES = frozenset(("PUT", "BINPUT", "LONG_BINPUT"))
_FETCHES = frozenset(("GET", "BINGET", "LONG_BINGET"))
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "MEMOIZE": _memoize,
    "POP": _pop,
    "MARK": _mark,
    "TUPLE": _tuple,
    "LIST": _list,
    "DICT": _dict,
    "APPEND": _append,
    "APPENDS": _appends,
    "SETITEM": _setitem,
    "SETITEMS": _setitems,
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "BINPERSID": _persistent,
    "BUILD": _build,
}
