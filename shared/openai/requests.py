"""The body of `POST /v1/chat/completions`, as OpenAI's clients write it.

Fields that are not named here are ignored, unlike everywhere else: the clients send new ones with each release, and
an answer without what those ask for is worth more to their users than none. What is named here is one of three: it is
done; it is ignored, and says why; or it would change what the answer is, and is refused by a 400 that names it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from shared.contracts.chat import ToolChoice
from shared.contracts.tools import MAX_CALLS, MAX_TOOLS, ToolName
from shared.openai.models import MAX_MODEL_NAME
from shared.schema import check_storable

_Flag = Annotated[bool, Field(strict=True)]
_Penalty = Annotated[float, Field(ge=-2, le=2, strict=True)]
_MaxTokens = Annotated[int, Field(ge=1, le=1_000_000, strict=True)]
_Word = Annotated[str, StringConstraints(max_length=512)]
_StopSequence = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class TextPart(BaseModel):
    type: Literal["text"]
    text: str


class RefusalPart(BaseModel):
    type: Literal["refusal"]
    refusal: str


class ImageUrl(BaseModel):
    """`detail` is ignored: providers other than OpenAI do not know it."""

    url: str = Field(min_length=1, description="A `data:` URL: PNG, JPEG, GIF or WebP, in base64. Others are refused.")


class ImagePart(BaseModel):
    type: Literal["image_url"]
    image_url: ImageUrl


UserPart = Annotated[TextPart | ImagePart, Field(discriminator="type", title="UserPart")]
AssistantPart = Annotated[TextPart | RefusalPart, Field(discriminator="type", title="AssistantPart")]


class InstructionMessage(BaseModel):
    """`developer` is OpenAI's newer word for `system`."""

    role: Literal["system", "developer"]
    content: str | list[TextPart]


class UserMessage(BaseModel):
    """Pictures come after the text, whatever the order of the parts."""

    role: Literal["user"]
    content: str | list[UserPart]
    name: str | None = Field(default=None, min_length=1, max_length=64)


class CalledFunction(BaseModel):
    name: str = Field(min_length=1, max_length=200)
    arguments: str = Field(description="JSON of an object, as the model wrote it.")


class AssistantToolCall(BaseModel):
    """`extra_content` comes with a call and is handed back with it: some providers sign their calls."""

    id: str = Field(min_length=1, max_length=200)
    type: Literal["function"] = "function"
    function: CalledFunction
    extra_content: dict[str, Any] | None = None


class AssistantMessage(BaseModel):
    role: Literal["assistant"]
    content: str | list[AssistantPart] | None = None
    tool_calls: list[AssistantToolCall] | None = Field(default=None, max_length=MAX_CALLS)


class ToolMessage(BaseModel):
    role: Literal["tool"]
    content: str | list[TextPart]
    tool_call_id: str = Field(min_length=1, max_length=200)


CompletionMessage = Annotated[
    InstructionMessage | UserMessage | AssistantMessage | ToolMessage,
    Field(discriminator="role", title="CompletionMessage"),
]


class FunctionDefinition(BaseModel):
    """`strict` is ignored: not every provider can promise that the arguments fit. Check them before you use them."""

    name: ToolName
    description: str | None = Field(default=None, max_length=8_192)
    parameters: dict[str, Any] | None = Field(default=None, description="JSON Schema of an object.")


class FunctionTool(BaseModel):
    type: Literal["function"]
    function: FunctionDefinition


class FunctionName(BaseModel):
    name: ToolName


class NamedTool(BaseModel):
    """This function, and no other, is to be called."""

    type: Literal["function"]
    function: FunctionName


class AllowedTools(BaseModel):
    mode: Literal["auto", "required"]
    tools: list[NamedTool] = Field(min_length=1, max_length=MAX_TOOLS)


class AllowedToolChoice(BaseModel):
    """Only these of the `tools` are offered."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


ToolSelection = Annotated[NamedTool | AllowedToolChoice, Field(discriminator="type", title="ToolSelection")]


class StreamOptions(BaseModel):
    include_usage: _Flag | None = Field(default=None, description="A last chunk with `usage` and no `choices`.")


class ResponseFormatType(StrEnum):
    TEXT = "text"
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"


class ResponseFormat(BaseModel):
    type: ResponseFormatType


class Modality(StrEnum):
    TEXT = "text"
    AUDIO = "audio"


class CompletionRequest(BaseModel):
    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "additionalProperties": True,
            "example": {
                "model": "local",
                "messages": [
                    {"role": "system", "content": "You are brief."},
                    {"role": "user", "content": "What is a conversation?"},
                ],
            },
        },
    )

    model: str = Field(
        min_length=1,
        max_length=MAX_MODEL_NAME,
        description="`<provider>:<name>`, or a provider alone for its default. A bare name is one of OpenAI's.",
    )
    messages: list[CompletionMessage] = Field(min_length=1, max_length=2_000)
    stream: _Flag | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(default=None, ge=0, le=2, strict=True)
    max_completion_tokens: _MaxTokens | None = Field(default=None, description="Wins over `max_tokens`.")
    max_tokens: _MaxTokens | None = Field(default=None, description="The older name.")
    stop: _StopSequence | Annotated[list[_StopSequence], Field(max_length=4)] | None = Field(
        default=None, description="Where the answer is cut off. The turn ends there, so its `usage` is not known."
    )
    tools: list[FunctionTool] | None = Field(
        default=None, max_length=MAX_TOOLS, description="Functions of your own. Calls of them end the turn."
    )
    tool_choice: ToolChoice | ToolSelection | None = None
    parallel_tool_calls: _Flag | None = Field(
        default=None, description="With `false`, of several calls that a model makes at once the first is handed out."
    )

    top_p: float | None = Field(
        default=None, ge=0, le=1, strict=True, description="Ignored: not every provider has it. Use `temperature`."
    )
    presence_penalty: _Penalty | None = Field(default=None, description="Ignored: not every provider has it.")
    frequency_penalty: _Penalty | None = Field(default=None, description="Ignored: not every provider has it.")
    seed: int | None = Field(default=None, strict=True, description="Ignored: OpenAI itself promises nothing by it.")
    user: _Word | None = Field(default=None, description="Ignored: the credential says who calls.")
    safety_identifier: _Word | None = Field(default=None, description="Ignored, like `user`.")
    prompt_cache_key: _Word | None = Field(default=None, description="Ignored: providers cache by themselves.")
    metadata: dict[str, _Word] | None = Field(
        default=None, max_length=16, description="Ignored: nothing is stored that it could be found by."
    )
    store: _Flag | None = Field(default=None, description="Ignored: nothing is ever stored.")
    service_tier: _Word | None = Field(default=None, description="Ignored: an affair between OpenAI and its customers.")
    reasoning_effort: _Word | None = Field(default=None, description="Ignored: the model's own default holds.")
    verbosity: _Word | None = Field(default=None, description="Ignored: say it in the prompt.")

    n: int | None = Field(default=None, ge=1, le=1, strict=True, description="1. More choices are refused.")
    response_format: ResponseFormat | None = Field(
        default=None, description="Only `text`: not every provider can promise JSON. Use a tool with a schema."
    )
    logprobs: _Flag | None = Field(default=None, description="`true` is refused: providers do not tell them.")
    top_logprobs: int | None = Field(default=None, ge=0, le=0, strict=True, description="0, as `logprobs`.")
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = Field(
        default=None, description="Refused unless empty: tokens are numbered by each model in its own way."
    )
    modalities: Annotated[list[Modality], Field(max_length=2)] | None = Field(
        default=None, description="Only `text`: `audio` is refused."
    )
    audio: dict[str, Any] | None = Field(default=None, description="Refused: answers are text.")
    functions: list[Any] | None = Field(default=None, description="Refused: use `tools`, which took its place.")
    function_call: Any = Field(default=None, description="Refused: use `tool_choice`, which took its place.")
    web_search_options: dict[str, Any] | None = Field(default=None, description="Refused: nothing here searches.")

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, data: Any) -> Any:
        # What is ignored too: no field is a way around the rules of text.
        check_storable(data)
        return data

    @property
    def stop_sequences(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else list(self.stop or ())

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)
