"""Everything but the 10,000,000 messages: `python -m benchmarks`, or with `--short` only to see that it runs."""

from __future__ import annotations

import sys

from benchmarks import append, fanout, footprint, history, large, people, relay, tool_loop
from benchmarks.figures import Figure, machine, print_figures
from benchmarks.plan import Plan, plan_from_arguments
from benchmarks.stack import Stack, stop_on_signals

_LARGE = 100_000
_LARGE_IN_SHORT = 20_000


def main() -> None:
    stop_on_signals()
    plan = plan_from_arguments(__doc__)
    print(machine(), flush=True)
    missed = sum(figure.missed for figure in _measure(plan))
    if plan.short:
        print("\nA short run shows that everything can be measured; its figures mean little.")
    elif missed:
        print(f"\n{missed} missed: docs/benchmarks.md says what holds them back.", file=sys.stderr)


def _measure(plan: Plan) -> list[Figure]:
    everything: list[Figure] = []

    def show(title: str, figures: list[Figure]) -> None:
        print_figures(title, figures)
        everything.extend(figures)

    with Stack() as stack:
        model = stack.model()
        agent = stack.agent(f"http://127.0.0.1:{model.port}/v1")
        api = stack.api(agent_port=agent.port)
        show(append.TITLE, append.measure(stack, api, plan))
        show(history.TITLE, history.measure(stack, api, plan))
        show(people.TITLE, people.measure(stack, api, plan))
        show(relay.TITLE, relay.measure(stack, api, agent, model, plan))
        show(fanout.Scale.of(plan).title, fanout.measure(stack, plan))
        messages = _LARGE_IN_SHORT if plan.short else _LARGE
        show(large.title(messages), large.measure(stack, plan, messages))
        if plan.short:
            show(tool_loop.TITLE, tool_loop.measure(stack, plan))
    if not plan.short:
        with Stack() as alone:  # nobody else's processes and rows
            show(tool_loop.TITLE, tool_loop.measure(alone, plan))
    show(footprint.TITLE, footprint.measure(plan))
    return everything


if __name__ == "__main__":
    main()
