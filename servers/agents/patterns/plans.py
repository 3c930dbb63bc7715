"""A plan as a planner writes it, read with patience: models wrap JSON in prose, number their
steps, and name steps that there are none of. Pure."""

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

MOST_STEPS = 20  # further ones are left out
_MOST_LOOKS = 8  # places in a text where JSON may begin
_LISTS = ("steps", "plan", "subtasks", "tasks")
_TASKS = ("task", "description", "step", "subtask", "title", "name")
_DEPENDS = ("depends_on", "dependencies")
_ODD = re.compile(r"[^\w.-]+")
_LONGEST = 40  # characters of an id


@dataclass(frozen=True, slots=True)
class PlannedStep:
    id: str  # letters, digits and "_.-"; unique in its plan
    task: str
    depends_on: tuple[str, ...] = ()


def plan_of(text: str, done: Collection[str] = ()) -> tuple[PlannedStep, ...]:
    """The steps in an order in which each comes behind those it depends on; none where `text`
    is no plan. `done` are the steps of earlier plans that need not be done again.

    What a step can't depend on is dropped: a step that isn't there, itself, and, in a circle,
    those that are listed later.
    """
    steps = [each for each in _unique(_read(text)) if each.id not in done][:MOST_STEPS]
    known = {each.id for each in steps} | set(done)
    return tuple(_ordered([_on(each, known - {each.id}) for each in steps], set(done)))


def _read(text: str) -> list[PlannedStep]:
    for value in _values(text):
        lists = [value.get(key) for key in _LISTS] if isinstance(value, dict) else [value]
        for items in lists:
            steps = [_step(*each) for each in enumerate(_list(items), 1)]
            if found := [step for step in steps if step.task]:
                return found
    return []


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _step(number: int, item: Any) -> PlannedStep:
    if not isinstance(item, dict):
        return PlannedStep(str(number), item.strip() if isinstance(item, str) else "")
    task = next((item[key] for key in _TASKS if isinstance(item.get(key), str)), "")
    before = [each for key in _DEPENDS for each in _list(item.get(key))]
    return PlannedStep(
        _id(item.get("id"), number), task.strip(), tuple(_id(each, 0) for each in before)
    )


def _id(written: Any, number: int) -> str:
    text = str(written) if isinstance(written, str | int) else ""
    return _ODD.sub("-", text.strip())[:_LONGEST] or str(number)


def _unique(steps: list[PlannedStep]) -> Iterator[PlannedStep]:
    seen: set[str] = set()
    for step in steps:
        id, more = step.id, 2
        while id in seen:
            id, more = f"{step.id}-{more}", more + 1
        seen.add(id)
        yield replace(step, id=id)


def _on(step: PlannedStep, known: set[str]) -> PlannedStep:
    kept = (each for each in dict.fromkeys(step.depends_on) if each in known)
    return replace(step, depends_on=tuple(kept))


def _ordered(steps: list[PlannedStep], settled: set[str]) -> Iterator[PlannedStep]:
    waiting = list(steps)
    while waiting:
        ready = next((each for each in waiting if settled.issuperset(each.depends_on)), None)
        step = ready or _on(waiting[0], settled)  # a circle: the first one begins
        waiting = [each for each in waiting if each.id != step.id]
        settled = settled | {step.id}
        yield step


def _values(text: str) -> Iterator[Any]:
    """The JSON lists and objects in a text, outermost first."""
    decoder, at = json.JSONDecoder(), 0
    for _ in range(_MOST_LOOKS):
        begin = re.compile(r"[\[{]").search(text, at)
        if begin is None:
            return
        try:
            value, at = decoder.raw_decode(text, begin.start())
        except (ValueError, RecursionError):
            at = begin.end()
        else:
            yield value
