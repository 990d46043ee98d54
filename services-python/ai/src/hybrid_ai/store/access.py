"""Who may read what. One rule for both halves of retrieval, applied inside each before anything is ranked."""

from collections.abc import Sequence
from dataclasses import dataclass

from hybrid_ai.identity import EVERYBODY, Identity

# A document's access list: its owner and readers.
Subjects = frozenset[str]


@dataclass(frozen=True)
class Access:
    """What a search may see: for every group, documents whose access list shares a subject with it."""

    groups: tuple[Subjects, ...]

    def allows(self, subjects: Subjects) -> bool:
        """Whether documents with this access list may be seen."""
        return all(not group.isdisjoint(subjects) for group in self.groups)


def access_list(owner: str, readers: Sequence[str]) -> Subjects:
    """A document's access list."""
    return frozenset(subject for subject in (owner, *readers) if subject)


def access_for(identity: Identity, visible_to: Sequence[str]) -> Access:
    """What the caller may see, narrowed to what each subject of `visible_to` may read as well.

    A service sees what those subjects may read, so it must name one: without any it sees what everybody does.
    """
    narrowed = [frozenset((subject, EVERYBODY)) for subject in dict.fromkeys(visible_to)]
    if identity.kind == "service" and narrowed:
        return Access(tuple(narrowed))
    own = frozenset((identity.subject, EVERYBODY)) if identity.kind == "user" else frozenset((EVERYBODY,))
    return Access((own, *narrowed))
