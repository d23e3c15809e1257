"""Sentences out of the word lists. The same number gives the same sentences."""

from __future__ import annotations

import random
from collections.abc import Sequence

from chat_api.cli.seeding import words
from chat_api.cli.seeding.words import Subject


class Writer:
    """Fills templates. Whoever shares `chosen` with it goes on where it stopped."""

    def __init__(self, chosen: random.Random) -> None:
        self.chosen = chosen

    def subject(self) -> Subject:
        """Some are asked about much more than others."""
        return words.SUBJECTS[min(int(self.chosen.expovariate(0.18)), len(words.SUBJECTS) - 1)]

    def fill(self, template: str, subject: Subject) -> str:
        chosen = self.chosen
        day, other_day = chosen.sample(words.DAYS, 2)
        year = chosen.randint(1820, 1960)
        return template.format(
            **subject._asdict(),
            Name=subject.name.capitalize(),
            aspect=chosen.choice(list(words.ASPECTS)).lower(),
            day=day,
            other_day=other_day,
            hour=chosen.randint(6, 10),
            late=chosen.randint(17, 22),
            minutes=chosen.choice((15, 20, 30, 45)),
            price=f"€{chosen.randint(3, 180)}.{chosen.choice(('00', '50', '90'))}",
            share=chosen.choice((10, 15, 20, 25, 30, 50)),
            days=chosen.randint(2, 14),
            hours=chosen.choice((12, 24, 36, 48, 72)),
            people=chosen.randint(5, 30),
            year=year,
            later_year=year + chosen.randint(3, 50),
        )

    def one_of(self, templates: Sequence[str], subject: Subject) -> str:
        return self.fill(self.chosen.choice(templates), subject)

    def answer(self, subject: Subject) -> str:
        parts = self.chosen.choices((1, 2, 3), (6, 3, 1))[0]
        return "\n\n".join(self.fill(template, subject) for template in self.chosen.sample(words.ANSWERS, parts))


def passages() -> list[tuple[str, str]]:
    """Every passage that a seeded document may have, with its heading, in an order of no meaning.

    There are 240. Documents share them word for word, as the handbooks of one organisation share their rules, so each
    is embedded once, however many documents there are.
    """
    writer = Writer(random.Random("passages"))  # noqa: S311 - nothing here is secret
    found = []
    for subject in words.SUBJECTS:
        for aspect, templates in words.ASPECTS.items():
            text = " ".join(writer.fill(template, subject) for template in templates)
            found.append((f"{subject.name.capitalize()} › {aspect}", text))
    writer.chosen.shuffle(found)
    return found
