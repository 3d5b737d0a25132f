"""The made world `scenes`: shapes that move, with captions, questions and full ground truth.

`Scenes` is a source of clips, made on the fly; `Oracle` reads clips without any network, so that
generated video can be scored; `parse_caption` does the same for sentences.
"""

from data.scenes.accuracy import baselines, check_oracle
from data.scenes.oracle import Oracle
from data.scenes.parse import parse_caption
from data.scenes.score import SlotScore, score_answer, score_caption, total_score
from data.scenes.spec import COLOURS, MOTIONS, SHAPES, SLOTS, Reading
from data.scenes.world import Scenes

__all__ = [
    "COLOURS",
    "MOTIONS",
    "SHAPES",
    "SLOTS",
    "Oracle",
    "Reading",
    "Scenes",
    "SlotScore",
    "baselines",
    "check_oracle",
    "parse_caption",
    "score_answer",
    "score_caption",
    "total_score",
]
