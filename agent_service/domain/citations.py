"""Which passages an answer stands on, worked out from the answer and from what the model was shown.

A model's own `[n]` is a hint and no more: small models put them anywhere, and any model can be talked into one. A
passage is cited for a sentence of the answer when its words support that sentence: clearly, where the answer names
no number, and somewhat, where it does. Better no citation than a wrong one.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from agent_service.domain.turn import Quotation
from agent_service.domain.wording import Sentence, sentence_at, sentences_of, spans_of, terms_of
from shared.contracts.knowledge import CitationData

MAX_SNIPPET = 300
_MAX_ANSWER = 20_000
_WHOLLY = 0.9
_CLEARLY = 0.6
_SOMEWHAT = 0.4
_NUMBER_WEIGHT = 2.0
_NAME_WEIGHT = 1.5
_ASKED_WEIGHT = 0.5
_FEW_TERMS = 3
_CONTEXT = 0.5
_PER_CHARACTER = 0.001  # what a longer window must be worth

_MARKER = re.compile(r"\s{0,3}[\[【](?:passages?\s+)?(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)[\]】](?!\()", re.IGNORECASE)
_LIST_NUMBER = re.compile(r"^\s*(?:\d{1,3}[.)]|[-*•])\s+")
_DOES_NOT_KNOW = re.compile(
    r"\b(?:(?:do|does|did|can|could|is|are|was|were|has|have) ?(?:not|n['’]t)|cannot|can['’]t|unable to|no) "
    r"(?:\w+ ){0,4}?(?:know|find|found|say|state|specif\w+|mention\w*|contain|provide\w*|answer|tell|information|"
    r"indicate\w*|include|address|given|sure|determine|passages?)\b"
    r"|\b(?:i am|i['’]m) (?:not sure|sorry|unable)|\bunknown\b"
    r"|\bnot (?:mentioned|specified|stated|provided|found|given)\b"
    r"|\b(?:weiß|wissen) (?:ich |wir )?(?:es |das )?nicht|\bkeine (?:angaben?|informationen?|antwort)\b"
    r"|\bne (?:sais|savons|disent|dit|contien\w+|mentionne\w*|précise\w*) (?:pas|rien)"
    r"|\baucune (?:information|réponse)\b"
    r"|\bno (?:lo )?(?:sé|sabemos|dice\w*|contiene\w*|menciona\w*)\b|\bninguna información\b",
    re.IGNORECASE,
)
_NEGATION = re.compile(r"\b(?:not|never|no|none|neither|nor|without|cannot)\b|n['’]t\b", re.IGNORECASE)
_CLAUSE_END = re.compile(r"[.!?](?=\s)|[,;:]|\s[–—-]\s|\b(?:and|but|or|although|though|while|because)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Claim:
    """A sentence of the answer, the numbers of passages it names, and whether it says no to something."""

    sentence: Sentence
    named: frozenset[int]
    denies: bool


class _Window:
    """One sentence of a passage, or two neighbours."""

    def __init__(self, text: str, first: Sentence, last: Sentence) -> None:
        self.text = text[first.start : last.end]
        self.terms = first.terms | last.terms

    @cached_property
    def clauses(self) -> list[tuple[frozenset[str], bool]]:
        """The words of each clause, and whether it says no to something."""
        return [(terms_of(part), _NEGATION.search(part) is not None) for part in _CLAUSE_END.split(self.text)]

    def agrees(self, terms: frozenset[str], *, denies: bool) -> bool:
        """Whether the clauses that share most with these say yes or no to them as the claim does."""
        most = max(len(terms & words) for words, _ in self.clauses)
        return any(negated for words, negated in self.clauses if len(terms & words) == most) == denies


@dataclass(frozen=True, slots=True)
class _Support:
    """How much of a claim's weight a passage holds: as a whole, and in its best window."""

    whole: float
    best: float
    context: float
    window: _Window

    @property
    def rank(self) -> float:
        return self.best + 0.3 * self.context + 0.1 * self.whole


class _Shown:
    """A quotation with its words counted."""

    def __init__(self, quotation: Quotation) -> None:
        self.quotation = quotation
        self.sentences = sentences_of(quotation.text)
        self.about = terms_of(f"{quotation.passage.heading or ''} {quotation.passage.document_name}")
        self.terms = frozenset[str]().union(*(sentence.terms for sentence in self.sentences))
        self.terms_and_about = self.terms | self.about
        text = quotation.text
        self.windows = [_Window(text, sentence, sentence) for sentence in self.sentences]
        self.windows += [_Window(text, first, second) for first, second in pairwise(self.sentences)]


def cite(answer: str, question: str, quotations: Sequence[Quotation]) -> list[CitationData]:
    """One citation for each passage that the answer stands on, by number. Its snippet is the passage's own words."""
    claims = _claims_of(answer[:_MAX_ANSWER])
    if not claims or not quotations:
        return []
    shown = [_Shown(quotation) for quotation in quotations]
    weigh = _Weights(shown, terms_of(question))
    best: dict[int, tuple[float, _Shown, _Claim, _Window]] = {}
    only_named = _DOES_NOT_KNOW.search(claims[0].sentence.text) is not None
    for claim in claims:
        if _DOES_NOT_KNOW.search(claim.sentence.text):
            continue
        for passage, support in _supporters(claim, shown, weigh, only_named=only_named):
            number = passage.quotation.number
            if number not in best or best[number][0] < support.rank:
                best[number] = (support.rank, passage, claim, support.window)
    return [
        _citation(passage, claim, window) for _, (_, passage, claim, window) in sorted(best.items(), key=_by_number)
    ]


def _by_number(item: tuple[int, object]) -> int:
    return item[0]


def _claims_of(answer: str) -> list[_Claim]:
    claims: list[_Claim] = []
    for start, end in _answer_spans(answer):
        part = answer[start:end]
        named = frozenset(int(number) for match in _MARKER.finditer(part) for number in re.findall(r"\d+", match[1]))
        said = _LIST_NUMBER.sub("", _MARKER.sub("", part))
        sentence = sentence_at(said, 0, len(said))
        if sentence.terms:
            claims.append(_Claim(sentence, named, _NEGATION.search(said) is not None))
        elif named and claims:
            claims[-1] = _Claim(claims[-1].sentence, claims[-1].named | named, claims[-1].denies)
    return claims


def _answer_spans(answer: str) -> list[tuple[int, int]]:
    """Its sentences, each with the markers that follow it: `It closes at ten. [1] It opens at six. [2]`"""
    spans: list[tuple[int, int]] = []
    for start, end in spans_of(answer):
        begin = start
        while spans and (marker := _MARKER.match(answer, begin, end)):
            spans[-1] = (spans[-1][0], marker.end())
            begin = marker.end()
        if answer[begin:end].strip(" .\n"):
            spans.append((begin, end))
    return spans


class _Weights:
    """What a word is worth: more where it is rare among the passages, a number, or a name."""

    def __init__(self, shown: Sequence[_Shown], asked: frozenset[str]) -> None:
        self.asked = asked
        self._counts = Counter(term for passage in shown for sentence in passage.sentences for term in sentence.terms)
        self._sentences = sum(len(passage.sentences) for passage in shown)

    def of(self, terms: Iterable[str], sentence: Sentence) -> dict[str, float]:
        weights = {term: self._rarity(term) for term in terms}
        for term in weights:
            if term in sentence.numbers:
                weights[term] *= _NUMBER_WEIGHT
            elif term in sentence.names:
                weights[term] *= _NAME_WEIGHT
            if term in self.asked:
                weights[term] *= _ASKED_WEIGHT
        return weights

    def _rarity(self, term: str) -> float:
        count = self._counts[term]
        return 0.5 + math.log(1 + (self._sentences - count + 0.5) / (count + 0.5))


def _supporters(
    claim: _Claim, shown: Sequence[_Shown], weigh: _Weights, *, only_named: bool
) -> list[tuple[_Shown, _Support]]:
    weights = weigh.of(claim.sentence.terms, claim.sentence)
    numbers = _numbers_wanted(claim, shown)
    found = [(passage, _support(claim, passage, weights, weigh.asked, numbers(passage))) for passage in shown]
    named = [
        (passage, support)
        for passage, support in found
        if support is not None and passage.quotation.number in claim.named
    ]
    if named or only_named:
        return named
    clear = [
        (passage, support)
        for passage, support in found
        if support is not None and support.best >= _CLEARLY and _is_specific(claim, support, weigh.asked)
    ]
    return [max(clear, key=lambda item: item[1].rank)] if clear else []


def _numbers_wanted(claim: _Claim, shown: Sequence[_Shown]) -> Callable[[_Shown], frozenset[str]]:
    """What numbers a passage must hold: all, or where several are named for one sentence, what no other of them has."""
    numbers = claim.sentence.numbers
    named = [passage for passage in shown if passage.quotation.number in claim.named]

    def wanted(passage: _Shown) -> frozenset[str]:
        if passage not in named:
            return numbers
        return numbers.difference(*(other.terms_and_about for other in named if other is not passage))

    return wanted


def _is_specific(claim: _Claim, support: _Support, asked: frozenset[str]) -> bool:
    """Whether more is shared than the question's own words, and more than a word that stands anywhere."""
    terms = claim.sentence.terms
    if len(terms) < _FEW_TERMS:
        # "At ten." says nothing without what was asked, so that must stand there as well.
        return terms <= support.window.terms and (not asked or support.context >= _CONTEXT)
    # "Yes, it closes at ten": all of it was asked already, and then all of it must stand there.
    return len(terms & support.window.terms) > 1 and (
        support.best >= _WHOLLY or bool((terms - asked) & support.window.terms)
    )


def _support(
    claim: _Claim, passage: _Shown, weights: Mapping[str, float], asked: frozenset[str], numbers: frozenset[str]
) -> _Support | None:
    """None where it does not hold enough of the claim, lacks one of the numbers, or says the contrary."""
    terms, total = claim.sentence.terms, sum(weights.values())
    whole = _held(weights, passage.terms_and_about) / total
    # The rest is dearer, and no window holds more than the whole.
    if whole < _SOMEWHAT or not terms & passage.terms or not numbers <= passage.terms_and_about:
        return None
    window = max(
        (window for window in passage.windows if terms & window.terms),
        key=lambda window: _held(weights, window.terms) - _PER_CHARACTER * len(window.text),
    )
    if not window.agrees(terms, denies=claim.denies):
        return None
    held = window.terms | passage.about
    return _Support(
        whole=whole,
        best=_held(weights, held) / total,
        context=len(asked & held) / len(asked) if asked else 1.0,
        window=window,
    )


def _held(weights: Mapping[str, float], terms: frozenset[str]) -> float:
    return sum([weight for term, weight in weights.items() if term in terms])


def _citation(shown: _Shown, claim: _Claim, window: _Window) -> CitationData:
    passage = shown.quotation.passage
    return CitationData(
        index=shown.quotation.number,
        document_id=passage.document_id,
        document_name=passage.document_name,
        chunk_id=passage.chunk_id,
        page=passage.page,
        score=passage.score,
        snippet=_snippet(window.text, claim.sentence.terms),
    )


def _snippet(text: str, terms: frozenset[str]) -> str:
    """The text, or the stretch of it that holds most of the terms, cut between words."""
    if len(text) <= MAX_SNIPPET:
        return text
    words = list(re.finditer(r"\S+", text))
    shared = [index for index, word in enumerate(words) if terms & terms_of(word.group())]
    best, best_count = 0, -1
    for index in [0, *shared]:
        reach = words[index].start() + MAX_SNIPPET
        count = sum(words[other].end() <= reach for other in shared if other >= index)
        if count > best_count:
            best, best_count = index, count
    start = words[best].start()
    last = max((word.end() for word in words[best:] if word.end() <= start + MAX_SNIPPET), default=start + MAX_SNIPPET)
    return text[start:last]
