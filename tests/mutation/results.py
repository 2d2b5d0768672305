"""What became of the mutants: one by one, as a log, and as figures."""

import json
from pathlib import Path

from attrs import frozen

from tests.mutation.mutants import Mutant
from tests.mutation.survivors import Key, explained

_SURVIVED = "survived"


@frozen
class Result:
    """What became of a mutant: `killed`, `timeout` or `survived`."""

    mutant: Mutant
    outcome: str
    killer: str
    seconds: float

    def as_json(self) -> str:
        """The result as one line."""
        mutant = self.mutant
        return json.dumps(
            {
                "module": mutant.module,
                "function": mutant.function,
                "family": mutant.family,
                "line": mutant.first_line,
                "before": mutant.before,
                "after": mutant.after,
                "outcome": self.outcome,
                "killer": self.killer,
                "seconds": round(self.seconds, 3),
            }
        )


def survivors_in(log: Path) -> set[Key]:
    """The mutants that survived, by a log."""
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    return {
        (row["module"], row["function"], row["before"], row["after"])
        for row in rows
        if row["outcome"] in {_SURVIVED, "no tests"}
    }


def report(results: list[Result], seconds: float) -> tuple[list[str], int]:
    """What is to be read of a run, and 1 where a survivor has no reason, else 0."""
    known = explained()
    left = [each for each in results if each.outcome == _SURVIVED]
    unexplained = [each for each in left if each.mutant.key not in known]
    lines: list[str] = []
    for result in unexplained:
        lines += _described(result)
    lines += ["", "operators  mutants   killed  hung  survived"]
    for family in ("mutmut", "guard"):
        ours = [each for each in results if each.mutant.family == family]
        hung = sum(each.outcome == "timeout" for each in ours)
        lived = sum(each.outcome == _SURVIVED for each in ours)
        killed = len(ours) - hung - lived
        lines.append(f"{family:9} {len(ours):8} {killed:8} {hung:5} {lived:9}")
    rate = 100 * (1 - len(left) / len(results)) if results else 100.0
    lines.append(
        f"{len(results)} mutants, {rate:.2f} % killed; {len(left)} survived, "
        f"{len(left) - len(unexplained)} of them explained; {seconds:.0f} s"
    )
    return lines, 1 if unexplained else 0


def _described(result: Result) -> list[str]:
    mutant = result.mutant
    return [
        "",
        f"{mutant.module}.py:{mutant.first_line} {mutant.function}: {result.outcome}",
        *(f"  - {line}" for line in mutant.before.splitlines()),
        *(f"  + {line}" for line in mutant.after.splitlines()),
    ]
