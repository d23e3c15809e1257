"""Arithmetic, which models get wrong."""

from __future__ import annotations

from typing import Any

from agent_service.ports.tools import BUILTIN, ToolContext, ToolFailed, ToolOutput, ToolSpec
from agent_service.tools.arithmetic import MAX_CHARACTERS, NotComputable, compute
from shared.contracts.tools import ToolRisk


class Calculator:
    def __init__(self) -> None:
        self.spec = ToolSpec(
            name="calculator",
            title="Calculator",
            description=(
                "Works out an arithmetic expression: + - * / // % **, parentheses, sqrt, abs, round, floor, ceil, min,"
                " max, exp, log, ln, log10, log2, sin, cos, tan (radians), pi, e."
            ),
            source=BUILTIN,
            risk=ToolRisk.SAFE,
            repeatable=True,
            parameters={
                "type": "object",
                "properties": {
                    "expression": {
                        "type": "string",
                        "description": "For example (3 + 4) * 2",
                        "minLength": 1,
                        "maxLength": MAX_CHARACTERS,
                    }
                },
                "required": ["expression"],
                "additionalProperties": False,
            },
            timeout_seconds=5.0,
        )

    async def call(self, arguments: dict[str, Any], context: ToolContext) -> ToolOutput:
        expression = arguments["expression"].strip()
        try:
            return ToolOutput(f"{expression} = {compute(expression)}".replace("= ≈", "≈"))
        except NotComputable as error:
            raise ToolFailed(str(error)) from None
