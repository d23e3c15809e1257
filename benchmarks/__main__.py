"""Everything: `python -m benchmarks`, or with `--short` only to see that it runs."""

from __future__ import annotations

from benchmarks import append, history
from benchmarks.figures import Figure, machine, print_figures
from benchmarks.plan import plan_from_arguments
from benchmarks.stack import Stack, stop_on_signals


def main() -> None:
    stop_on_signals()
    plan = plan_from_arguments(__doc__)
    print(machine(), flush=True)
    everything: list[Figure] = []

    def show(title: str, figures: list[Figure]) -> None:
        print_figures(title, figures)
        everything.extend(figures)

    with Stack() as stack:
        api = stack.api()
        show(append.TITLE, append.measure(stack, api, plan))
        show(history.TITLE, history.measure(stack, api, plan))


if __name__ == "__main__":
    main()
