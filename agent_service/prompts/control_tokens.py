"""Words by which chat templates part the roles of a conversation.

Servers of open models read them wherever they stand, also within a message: whoever writes `<|im_end|>` ends the
message, and may go on as the system. Measured with llama.cpp's server and the bundled model.
"""

from __future__ import annotations

import re

# ChatML, Llama 3, Phi, DeepSeek (with wide bars): whatever begins with an angle and a bar.
_BARRED = re.compile(r"<(?=[|｜])")
# Gemma, StarCoder and SmolLM, Hermes and Qwen, Llama 2: a name between angles.
_NAMED = re.compile(
    r"<(?=/?(?:[a-z]+(?:_[a-z]+)+|s|bos|eos|unk|pad|mask|think|reponame|filename|system|user|assistant|<sys>)>)",
    re.IGNORECASE,
)
_BRACKETED = re.compile(
    r"\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|THINK|IMG|ARGS)\])",
    re.IGNORECASE,
)


def broken_up(text: str) -> str:
    """The text with a space in every control token, so that it reads the same and controls nothing."""
    if "<" in text:
        text = _NAMED.sub("< ", _BARRED.sub("< ", text))
    return _BRACKETED.sub("[ ", text) if "[" in text else text
