"""Problems as documents, and as they stand in the OpenAPI document."""

from __future__ import annotations

from fastapi.exceptions import RequestValidationError

from shared.problems import (
    PROBLEM_JSON,
    FieldError,
    MalformedRequest,
    NotAuthenticated,
    Problem,
    ProblemDocument,
    ServiceUnavailable,
    ValidationFailed,
)
from shared.web.responses import field_errors, problem_response, problems


class CursorLost(ValidationFailed):
    code = "cursor-lost"
    title = "The cursor is lost"


def test_every_problem_stands_under_its_status_with_an_example() -> None:
    documented = problems(ValidationFailed, CursorLost, MalformedRequest)
    assert set(documented) == {400, 422}
    assert documented[422]["description"] == "The request is not valid · The cursor is lost"
    content = documented[422]["content"]
    assert set(content) == {PROBLEM_JSON}
    assert content[PROBLEM_JSON]["schema"] == {"$ref": "#/components/schemas/ProblemDocument"}
    examples = content[PROBLEM_JSON]["examples"]
    assert set(examples) == {"validation-failed", "cursor-lost"}
    for code, example in examples.items():
        document = ProblemDocument.model_validate(example["value"])
        assert (document.code, document.status) == (code, 422)


def test_those_to_be_tried_again_say_when() -> None:
    documented = problems(ServiceUnavailable, MalformedRequest)
    assert set(documented[503]["headers"]) == {"Retry-After"}
    assert "headers" not in documented[400]


def test_a_problem_becomes_an_answer() -> None:
    answer = problem_response(ServiceUnavailable(retry_after=9), "trace-1")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "9")
    assert answer.headers["content-type"] == PROBLEM_JSON
    document = ProblemDocument.model_validate_json(bytes(answer.body))
    assert (document.code, document.request_id, document.errors) == ("service-unavailable", "trace-1", None)


def test_who_must_sign_in_is_told_how() -> None:
    assert problem_response(NotAuthenticated(), None).headers["www-authenticate"] == "Bearer"


def test_fields_that_are_not_set_are_left_out() -> None:
    assert set(Problem("x").as_json()) == {"type", "title", "status", "detail", "code"}
    errors = [FieldError(loc=["body", 0], msg="m", type="t")]
    assert ValidationFailed(errors=errors).as_json()["errors"] == [{"loc": ["body", 0], "msg": "m", "type": "t"}]


def test_what_was_sent_is_not_echoed() -> None:
    raw = [{"loc": ("body", "\ud800"), "msg": "bad", "type": "t", "input": "SECRET", "ctx": {"error": "SECRET"}}]
    (error,) = field_errors(RequestValidationError(raw))
    assert error == FieldError(loc=["body", "\\ud800"], msg="bad", type="t")


def test_a_thousand_mistakes_are_not_all_told() -> None:
    raw = [{"loc": ("body", number), "msg": "bad", "type": "t"} for number in range(1000)]
    assert len(field_errors(RequestValidationError(raw))) == 50
