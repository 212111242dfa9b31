"""What a stage was like at one point of a history, so that many histories may go on from there.

A history is the same whether its beginning was played for it or put back: what many have in common is played once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import is_dataclass
from datetime import date, time, timedelta, tzinfo
from enum import Enum
from functools import cache
from types import BuiltinFunctionType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

from local.proof.history import Moment, Record
from tests.protocol.steps import Step
from token_rotator.domain.grant import Grant

_UNCHANGING = (
    *(type(None), bool, int, float, str, bytes, date, time, timedelta, tzinfo),
    *(Enum, type, ModuleType, BuiltinFunctionType, type(threading.Lock()), type(threading.RLock())),
    *(Record, Moment, Step, Grant),
)
"""What has no state; or, as a lock, none while everybody rests."""


class Snapshot:
    """The state of whatever can be reached from an object, to be put back as often as it is wanted.

    Everything keeps its identity, so that who refers to it sees it as it was. What has a state that cannot be put back,
    an iterator for instance, is refused.
    """

    def __init__(self, root: object) -> None:
        self._attributes: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._slots: list[tuple[object, dict[str, Any]]] = []
        self._dicts: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
        self._lists: list[tuple[list[Any], list[Any]]] = []
        self._sets: list[tuple[set[Any], set[Any]]] = []
        self._seen: dict[int, object] = {}
        left = [root]
        while left:
            thing = left.pop()
            keep = _keeper(type(thing))
            if keep is not None and id(thing) not in self._seen:
                self._seen[id(thing)] = thing  # also so that nobody else gets its id meanwhile
                left += keep(self, thing)

    def restore(self) -> None:
        """Put everything back."""
        for attributes, before in self._attributes:
            if attributes.keys() != before.keys():
                attributes.clear()
            attributes.update(before)
        for thing, before in self._slots:
            for name, value in before.items():
                setattr(thing, name, value)
        for mapping, before in self._dicts:
            mapping.clear()
            mapping.update(before)
        for items, was in self._lists:
            items[:] = was
        for members, were in self._sets:
            members.clear()
            members.update(were)

    # --- each keeps one thing's own state, and gives what it refers to

    def _dict(self, mapping: dict[Any, Any]) -> Iterable[object]:
        self._dicts.append((mapping, mapping.copy()))
        return (*mapping.keys(), *mapping.values())

    def _list(self, items: list[Any]) -> Iterable[object]:
        self._lists.append((items, items.copy()))
        return items

    def _set(self, members: set[Any]) -> Iterable[object]:
        self._sets.append((members, members.copy()))
        return members

    def _object(self, thing: Any) -> Iterable[object]:
        attributes, slots = _read(thing)
        if attributes:
            self._attributes.append((vars(thing), attributes))
        if slots:
            self._slots.append((thing, slots))
        return (*attributes.values(), *slots.values())


def _closure(function: FunctionType) -> Iterable[object]:
    return (*(cell.cell_contents for cell in function.__closure__ or ()), *(function.__defaults__ or ()))


def _read(thing: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give a thing's attributes, and those that have slots."""
    slots = {name: getattr(thing, name) for name in _slots_of(type(thing)) if hasattr(thing, name)}
    return dict(getattr(thing, "__dict__", ())), slots


def _frozen(thing: Any) -> Iterable[object]:
    attributes, slots = _read(thing)
    return (*attributes.values(), *slots.values())


@cache
def _slots_of(kind: type) -> tuple[str, ...]:
    return tuple(name for each in kind.__mro__ for name in vars(each).get("__slots__", ()) if name != "__weakref__")


_KEEPERS: tuple[tuple[type, Callable[[Snapshot, Any], Iterable[object]]], ...] = (
    (dict, Snapshot._dict),
    (list, Snapshot._list),
    (set, Snapshot._set),
    (tuple, lambda _, thing: thing),
    (frozenset, lambda _, thing: thing),
    (MappingProxyType, lambda _, view: (*view.keys(), *view.values())),  # what it shows, nobody has
    (MethodType, lambda _, method: (method.__self__,)),
    (FunctionType, lambda _, function: _closure(function)),
)


@cache
def _keeper(kind: type) -> Callable[[Snapshot, Any], Iterable[object]] | None:
    """Say how things of a type are kept; None: there is nothing to keep."""
    if issubclass(kind, _UNCHANGING):
        return None
    for base, keeper in _KEEPERS:
        if issubclass(kind, base):
            return keeper
    if kind.__dictoffset__ == 0 and not any("__slots__" in vars(each) for each in kind.__mro__):
        raise TypeError(f"the state of a {kind.__qualname__} cannot be put back")
    frozen = is_dataclass(kind) and kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    return (lambda _, thing: _frozen(thing)) if frozen else Snapshot._object
