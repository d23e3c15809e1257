"""What `POST /v1/chat/completions` answers: schemas for the documents, and dictionaries on their way out."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

EXAMPLE_ANSWER: dict[str, Any] = {
    "id": "chatcmpl-0198f3a2c4e17d0c8f3e6b1a2d4c5e6f",
    "object": "chat.completion",
    "created": 1_769_851_800,
    "model": "local",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "The harbour closes at ten.",
                "refusal": None,
                "annotations": None,
                "tool_calls": None,
            },
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 21, "completion_tokens": 5, "total_tokens": 26},
}
_CHUNK = (
    'data: {"id":"chatcmpl-0198f3a2c4e17d0c8f3e6b1a2d4c5e6f","object":"chat.completion.chunk","created":1769851800,'
    '"model":"local","choices":[{"index":0,"delta":%s,"logprobs":null,"finish_reason":%s}]}\n\n'
)
EXAMPLE_STREAM = (
    _CHUNK % ('{"role":"assistant","content":""}', "null")
    + _CHUNK % ('{"content":"The harbour closes at ten."}', "null")
    + _CHUNK % ("{}", '"stop"')
    + "data: [DONE]\n\n"
)


class CompletionFinish(StrEnum):
    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


class FunctionCalled(BaseModel):
    name: str
    arguments: str = Field(description="JSON of an object.")


class CompletionToolCall(BaseModel):
    """`extra_content` is there where a provider signs its calls: hand it back with the call."""

    id: str
    type: Literal["function"]
    function: FunctionCalled
    extra_content: dict[str, Any] | None = None


class UrlCitation(BaseModel):
    """Where a source is named: characters of the content, the end excluded. Both are its length where it is not."""

    start_index: int
    end_index: int
    title: str
    url: str


class FileCitation(BaseModel):
    """The passage itself. `number` is what the text calls it by: `[1]`."""

    file_id: str
    filename: str
    number: int
    chunk_id: str
    page: int | None
    score: float
    snippet: str


class CompletionAnnotation(BaseModel):
    """A source of the answer. `file_citation` is ours, beside OpenAI's `url_citation`."""

    type: Literal["url_citation"]
    url_citation: UrlCitation
    file_citation: FileCitation


class CompletionAnswerMessage(BaseModel):
    role: Literal["assistant"]
    content: str | None
    refusal: None
    annotations: list[CompletionAnnotation] | None
    tool_calls: list[CompletionToolCall] | None


class CompletionChoice(BaseModel):
    index: int
    message: CompletionAnswerMessage
    logprobs: None
    finish_reason: CompletionFinish


class CompletionUsage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionAnswer(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE_ANSWER})

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str = Field(description="As it was asked for.")
    choices: list[CompletionChoice]
    usage: CompletionUsage | None = Field(description="As the provider counted it; null where it does not.")
