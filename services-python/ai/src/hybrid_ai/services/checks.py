"""Checks of requests that more than one service makes. Each adds what is wrong as (field path, description)."""

from collections.abc import Sequence

MAX_SUBJECT = 256

Violations = list[tuple[str, str]]


def check_length(violations: Violations, field: str, value: str, low: int, high: int) -> None:
    """Adds a violation unless the value has from `low` to `high` characters."""
    if not low <= len(value) <= high:
        violations.append((field, f"has {len(value)} characters; {low} to {high} are allowed"))


def check_subjects(violations: Violations, field: str, subjects: Sequence[str], most: int) -> None:
    """Adds a violation for too many subjects, and for each that is empty or too long."""
    if len(subjects) > most:
        violations.append((field, f"has {len(subjects)} subjects; at most {most} are allowed"))
        return
    for index, subject in enumerate(subjects):
        check_length(violations, f"{field}[{index}]", subject, 1, MAX_SUBJECT)


def check_range(violations: Violations, field: str, value: float, low: float, high: float) -> None:
    """Adds a violation unless the value lies between both, which are allowed, too."""
    if not low <= value <= high:
        violations.append((field, f"is {value:g}; {low:g} to {high:g} are allowed"))
