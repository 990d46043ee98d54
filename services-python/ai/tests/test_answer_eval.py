"""The fixed questions about the project's documents keep being answered. Measured: 0.73, 0.90, 0.80 and 1.00.

The documents change, so the floors lie a few questions below. A question whose passage left its document fails here:
it has to be changed with the document.
"""

import asyncio
import json
from pathlib import Path

from hybrid_ai.evaluate import FOLDER, evaluate


def test_the_answers_do_not_get_worse(tmp_path: Path) -> None:
    questions = json.loads((FOLDER / "questions.json").read_text())
    assert len(questions["questions"]) >= 30
    report = asyncio.run(evaluate(questions, tmp_path))
    assert report.recall_at_1 >= 0.70, report
    assert report.recall_at_3 >= 0.83, report
    assert report.answered >= 0.73, report
    assert report.refused >= 0.87, report
