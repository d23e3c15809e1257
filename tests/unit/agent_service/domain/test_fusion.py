"""Two rankings become one that is no worse than the better of them, whatever the scores look like."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.domain.fusion import MANY_CODES, Fused, QueryScale, code_share, fuse, text_score

SCALE = QueryScale(idf_mass=20.0, code_share=0.0, mean=0.1, deviation=0.1, passages=5000)


def chunk(number: int) -> UUID:
    return UUID(int=number)


def scores(*values: float) -> dict[UUID, float]:
    return {chunk(number): value for number, value in enumerate(values)}


def order(fused: list[Fused]) -> list[int]:
    return [hit.chunk_id.int for hit in fused]


def by_score(part: Mapping[UUID, float]) -> list[int]:
    return [chunk_id.int for chunk_id in sorted(part, key=lambda chunk_id: (-part[chunk_id], chunk_id))]


parts = st.dictionaries(st.integers(0, 30).map(chunk), st.floats(-1, 1), max_size=25)
bm25_parts = st.dictionaries(st.integers(0, 30).map(chunk), st.floats(0, 60), max_size=25)
scales = st.builds(
    QueryScale,
    idf_mass=st.sampled_from([0.0, 1e-9, 3.0, 40.0]),
    code_share=st.floats(0, 1),
    mean=st.floats(-0.5, 0.9),
    deviation=st.sampled_from([0.0, 5e-324, 1e-9, 0.05, 0.3]),
    passages=st.sampled_from([0, 1, 2, 11, 100_000]),
)


@given(parts, bm25_parts, scales)
def test_has_everything_once_the_best_first_between_0_and_1(
    dense: dict[UUID, float], text: dict[UUID, float], scale: QueryScale
) -> None:
    fused = fuse(dense, text, scale)
    assert {hit.chunk_id for hit in fused} == dense.keys() | text.keys()
    assert len(fused) == len(dense.keys() | text.keys())
    assert all(0.0 <= hit.score <= 1.0 for hit in fused)
    assert all(first.score >= second.score for first, second in itertools.pairwise(fused))


@given(parts, bm25_parts, scales, st.randoms(use_true_random=False))
def test_the_order_in_which_scores_come_makes_no_difference(
    dense: dict[UUID, float], text: dict[UUID, float], scale: QueryScale, chance: random.Random
) -> None:
    def shuffled(part: dict[UUID, float]) -> dict[UUID, float]:
        return dict(chance.sample(list(part.items()), len(part)))

    assert fuse(shuffled(dense), shuffled(text), scale) == fuse(dense, text, scale)


@pytest.mark.parametrize("scale", [SCALE, replace(SCALE, code_share=MANY_CODES), replace(SCALE, deviation=0.0)])
def test_words_alone_keep_their_order(scale: QueryScale) -> None:
    text = scores(3.0, 41.0, 7.5, 38.0, 0.2)
    fused = fuse({}, text, scale)
    assert order(fused) == by_score(text) == [1, 3, 2, 0, 4]
    assert [hit.score for hit in fused] == [text_score(text[hit.chunk_id], scale.idf_mass) for hit in fused]


def test_words_that_weigh_nothing_change_nothing() -> None:
    dense = scores(0.3, 0.7, 0.25, 0.5)
    scale = replace(SCALE, idf_mass=0.0)
    assert fuse(dense, scores(9.0, 0.0, 4.0, 1.0), scale) == fuse(dense, {}, scale)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_meaning_alone_keeps_its_order_whatever_the_query_is_made_of(share: float) -> None:
    dense = scores(0.3, 0.7, 0.25, 0.5)
    assert order(fuse(dense, {}, replace(SCALE, code_share=share))) == [1, 3, 0, 2]


def test_a_search_that_finds_nothing() -> None:
    assert fuse({}, {}, SCALE) == []


def test_equals_stand_by_meaning_and_then_by_id() -> None:
    # Three are no more like the query than any passage: by id.
    assert order(fuse(scores(0.05, 0.05, 0.5, 0.05), {}, SCALE)) == [2, 0, 1, 3]
    codes = replace(SCALE, code_share=1.0)
    assert order(fuse(scores(0.2, 0.6, 0.4, 0.2), scores(9.0, 0.0, 0.0, 9.0), codes)) == [0, 3, 1, 2]


def test_a_single_passage_is_as_good_as_its_cosine() -> None:
    scale = replace(SCALE, deviation=0.0, passages=1)
    (close,) = fuse(scores(0.8), {}, scale)
    (far,) = fuse(scores(0.1), {}, scale)
    assert close.score > 0.5 > far.score > 0


def test_the_nearest_of_few_passages_counts_although_it_cannot_stand_out_far() -> None:
    scale = QueryScale(idf_mass=5.0, code_share=0.0, mean=0.3, deviation=0.2, passages=3)
    dense, text = scores(0.15, 0.58, 0.17), {chunk(0): 2.0}
    assert order(fuse(dense, text, scale))[0] == 1
    assert order(fuse(dense, text, replace(scale, passages=1000)))[0] == 0


FLAT = [0.40 - 0.001 * place for place in range(30)]
"""Cosines of a search that gropes about: thirty passages, all alike."""


def test_a_part_that_gropes_about_does_not_displace_what_words_have_found() -> None:
    dense = scores(0.1, *FLAT)
    text = scores(19.0, *(2.0 + 0.01 * place for place in range(30)))
    assert order(fuse(dense, text, SCALE))[0] == 0


def test_a_part_that_gropes_about_does_not_displace_what_meaning_has_found() -> None:
    dense = scores(0.75, *(0.1 + 0.001 * place for place in range(30)))
    text = scores(0.0, *(6.0 + 0.1 * place for place in range(30)))
    assert order(fuse(dense, text, SCALE))[0] == 0


def test_the_best_of_a_part_is_not_certain_because_it_is_the_best() -> None:
    # One word of ten is in passage 1, the others are in none. Passage 0 is what the question means.
    dense = scores(0.6, 0.15, *(0.3 - 0.005 * place for place in range(20)))
    text = {chunk(1): 2.0, chunk(5): 1.0}
    assert order(fuse(dense, text, SCALE))[0] == 0


def test_what_both_have_found_stands_before_what_one_has_found() -> None:
    dense = scores(0.62, 0.58, 0.1, *FLAT[:12])
    text = scores(0.0, 17.0, 18.0, *(4.0 - 0.1 * place for place in range(12)))
    assert order(fuse(dense, text, SCALE))[0] == 1


def test_a_true_score_counts_although_the_other_part_did_not_bring_the_passage() -> None:
    dense = scores(0.55, 0.50, *FLAT)
    known = fuse(dense, {chunk(0): 9.0, chunk(1): 14.0}, SCALE)
    unknown = fuse(dense, {chunk(0): 9.0}, SCALE)
    assert order(known)[0] == 1
    assert order(unknown)[0] == 0


def test_a_query_of_codes_is_left_to_words() -> None:
    dense = scores(0.05, 0.7, *FLAT)
    text = scores(7.0, 6.0, *(2.0 - 0.05 * place for place in range(30)))
    assert order(fuse(dense, text, SCALE))[0] == 1
    assert order(fuse(dense, text, replace(SCALE, code_share=0.1))) == order(fuse(dense, text, SCALE))
    assert order(fuse(dense, text, replace(SCALE, code_share=0.7)))[:2] == [0, 1]


def test_the_more_of_a_query_are_codes_the_less_meaning_counts() -> None:
    dense, text = scores(0.7, *FLAT), scores(1.0, *(0.5 for _ in FLAT))
    found = [fuse(dense, text, replace(SCALE, code_share=share / 10))[0].score for share in range(1, 8)]
    assert found == sorted(found, reverse=True)
    assert found[1] > found[3] > found[5] == found[6]


@given(parts, bm25_parts, st.sampled_from([0.25, 2.0, 4.0]), st.sampled_from([0.0, 0.25, 0.5]))
def test_models_with_narrow_or_high_cosines_give_the_same_scores(
    dense: dict[UUID, float], text: dict[UUID, float], factor: float, shift: float
) -> None:
    other = replace(SCALE, mean=SCALE.mean * factor + shift, deviation=SCALE.deviation * factor)
    moved = {chunk_id: cosine * factor + shift for chunk_id, cosine in dense.items()}
    expected = {hit.chunk_id: hit.score for hit in fuse(dense, text, SCALE)}
    for hit in fuse(moved, text, other):
        assert hit.score == pytest.approx(expected[hit.chunk_id], abs=1e-6)


def test_codes_are_words_with_digits() -> None:
    found = [("error", 2.0), ("ora-12154", 6.0), ("2.2.0", 1.0), ("größe", 1.0)]
    assert code_share(found, 20.0) == pytest.approx(0.35)
    assert code_share([], 20.0) == 0.0
    assert code_share([], 0.0) == 0.0


def test_words_that_come_often_keep_their_order_at_the_top() -> None:
    assert text_score(0.0, 20.0) == 0.0
    assert text_score(20.0, 0.0) == 0.0
    often = [text_score(bm25, 20.0) for bm25 in (20.0, 30.0, 40.0, 44.0)]
    assert often == sorted(set(often))
    assert often[0] == pytest.approx(1 - math.exp(-1))
    assert often[-1] < 1.0
