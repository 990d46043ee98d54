"""Records what scikit-learn says of probe texts, for the test that the exported model says the same.

python -m setup.record_toxicity        # where alt-profanity-check and its scikit-learn are installed; not here
"""

import json
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "tests" / "toxicity_probes.json"
PROBES = (
    "You are a complete idiot.",
    "Thank you, that was a great help.",
    "What the fuck is this?",
    "This is fucking brilliant, well done!",
    "The kettle boils at a hundred degrees.",
    "y0u 4re st00pid",
    "i d i o t",
    "Kill all processes that listen on port 8080.",
    "Go to hell and never come back, you piece of shit",
    "Das ist völlig idiotisch, du Arschloch.",
    'He said: "shut up", and she left the room.',
    "The the THE of and to a",
    "42",
    "",
    "shit " * 500,
    "The gateway keeps a client's socket open while a service behind it restarts. " * 40,
)


def main() -> None:
    from profanity_check import predict_prob  # type: ignore[import-not-found]

    recorded = [[text, float(score)] for text, score in zip(PROBES, predict_prob(list(PROBES)), strict=True)]
    TARGET.write_text(json.dumps(recorded, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
