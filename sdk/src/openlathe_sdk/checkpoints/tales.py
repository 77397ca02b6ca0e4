"""Short tales out of a small grammar: text that a tiny model learns within seconds, without knowing it by heart.

Who, where and what are drawn once for a tale and come back in its sentences, so that a model that has learnt them is
sure of much of what follows and has to look far back for it. That is what makes losses of precision visible: the
distributions of random weights are flat, and those of a model that knows its text by heart never waver.
"""

from __future__ import annotations

import random

_PEOPLE = {"Ada": "she", "Bruno": "he", "Clara": "she", "Emil": "he", "Frieda": "she", "Jonas": "he", "Mira": "she"}
_TRADES = ("baker", "fisher", "gardener", "miller", "potter", "tailor", "weaver")
_PLACES = ("by the river", "in the old town", "near the harbour", "on the hill", "behind the mill")
_GOODS = {"baskets": "basket", "jars": "jar", "loaves": "loaf", "lamps": "lamp", "ropes": "rope", "shirts": "shirt"}
_COLOURS = ("blue", "brown", "green", "grey", "red", "white")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine")
_WEATHER = ("it rained", "the sun was shining", "there was a strong wind", "snow lay on the roofs")

_OPENINGS = (
    "{name} was a {trade} who lived {place}.",
    "{place_first} lived a {trade} called {name}.",
    "There once was a {trade} {place}, and the name of the {trade} was {name}.",
)
_SENTENCES = (
    "Every {day} {name} went to the market and sold {goods}.",
    "On {day} {weather}, and {name} stayed at home.",
    "The {goods} of {name} were {colour}, and everybody liked the {colour} {goods}.",
    "Once {friend} the {friend_trade} came by and bought {number} {goods}.",
    "{pronoun_first} kept {number} {goods} for {friend}, who was a {friend_trade}.",
    "When {weather}, {pronoun} thought of {friend} and made a {colour} {good}.",
    '"A {good} for you," said {name}. "Thank you, {name}," said {friend}.',
    '"Where does {name} live?" asked {friend}. "The {trade} lives {place}," they said.',
)
_ENDINGS = (
    "And so {name} the {trade} made {colour} {goods} {place} for many years.",
    "In the end {friend} had {number} {goods}, and {name} had a friend.",
)


def tale(seed: int, *, sentences: int = 8) -> str:
    """The tale with this number: the same one every time."""
    drawn = random.Random(seed)
    name, friend = drawn.sample(sorted(_PEOPLE), 2)
    goods = drawn.choice(sorted(_GOODS))
    words = {
        "name": name,
        "friend": friend,
        "pronoun": _PEOPLE[name],
        "pronoun_first": _PEOPLE[name].capitalize(),
        "goods": goods,
        "good": _GOODS[goods],
        "place": (place := drawn.choice(_PLACES)),
        "place_first": place[0].upper() + place[1:],
        "colour": drawn.choice(_COLOURS),
        "number": drawn.choice(_NUMBERS),
    }
    words["trade"], words["friend_trade"] = drawn.sample(_TRADES, 2)
    patterns = [drawn.choice(_OPENINGS), *drawn.choices(_SENTENCES, k=sentences), drawn.choice(_ENDINGS)]
    return " ".join(
        pattern.format(**words, day=drawn.choice(_DAYS), weather=drawn.choice(_WEATHER)) for pattern in patterns
    )


def tell(first: int, count: int) -> str:
    """``count`` tales from the number ``first`` on, a paragraph each."""
    return "\n\n".join(tale(seed) for seed in range(first, first + count))
