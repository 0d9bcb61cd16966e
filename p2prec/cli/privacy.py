"""`p2prec privacy`: what was promised, what has been spent, and to whom."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from p2prec.cli.app import app
from p2prec.cli.options import JsonOption, StateOption

if TYPE_CHECKING:
    from rich.text import Text

EPILOG = """Examples:

p2prec privacy

p2prec privacy --json | jq .spent.epsilon
"""
SEEN_BY_NEIGHBOURS = "whoever receives this peer's messages, or watches the peers that do: neighbours, and theirs"
SEEN_IN_SUMS = (
    "nobody as it is: your contributions leave under noise of their own and masks that only their sum is free of; the sums are"
    " everybody's"
)


@app.command(epilog=EPILOG)
def privacy(as_json: JsonOption = False, state: StateOption = None) -> None:
    """Say in plain words what others can know of you.

    What this swarm promises, what this device has spent of it, what never
    leaves the device, and what nothing can take back.
    """
    from p2prec.api.privacy import privacy_report
    from p2prec.cli.ask import state_directory
    from p2prec.cli.screen import print_json, show

    report = privacy_report(state_directory(state))
    if as_json:
        print_json(report)
    else:
        show(privacy_lines(report))


def privacy_lines(report: dict[str, Any]) -> list[Text]:
    """The report as lines for a person."""
    from p2prec.cli.screen import counted, labelled

    lines = [
        labelled(
            "Swarm", (report["swarm"], "bold"), f"  {'members only' if report['private_swarm'] else 'open to anybody'}"
        ),
        labelled("Promised", _promised(report["promised"])),
        labelled("Spent", *_spent(report["spent"], report["verdict"])),
        *(labelled(f"  sum {one['number']}", _sum(one)) for one in report["sums"]),
    ]
    if report["lifetime"]["swarms"] > 1:
        lines.append(labelled("In all", _lifetime(report["lifetime"])))
    if report["forgotten"]:
        lost = counted(report["forgotten"], "contribution")
        lines.append(
            labelled(
                "Restored", (f"the store comes from an old backup and lacks {lost}; they count as spent", "yellow")
            )
        )
    return [
        *lines,
        labelled("Means", _meaning(report)),
        labelled("Seen by", SEEN_IN_SUMS if report["sums"] else SEEN_BY_NEIGHBOURS),
        labelled(
            "Stays here", f"your {counted(report['interactions'], 'interaction')}, your taste, your recommendations"
        ),
        labelled("Not hidden", "that this device is in the swarm, its address, when it is on; and what is on its disk"),
        labelled("For good", "what was sent cannot be recalled; p2prec forget ends what goes on being used"),
    ]


def _promised(promised: dict[str, Any]) -> str:
    if promised["noise_multiplier"] == 0:
        return "nothing: this swarm adds no noise to contributions"
    delta = f"delta {promised['delta']:g}, for everything you ever did together"
    if promised["people_needed"] is not None:
        return (
            f"epsilon at most {promised['epsilon_budget']:g} ({delta}): two private sums among at least"
            f" {promised['people_needed']:,} people, even if {promised['colluding_partners']} of this device's mask partners"
            " work against you; then this device only receives"
        )
    if promised["epsilon_budget"] is None:
        return (
            f"noise of {promised['noise_multiplier']:g} times a contribution, without a limit on their number ({delta})"
        )
    most = promised["max_contributions"]
    return f"epsilon at most {promised['epsilon_budget']:g} ({delta}): {most:,} contributions, then this device only receives"


def _sum(one: dict[str, Any]) -> str:
    """What this device gave to one private sum."""
    from p2prec.cli.screen import counted

    about = f"{one['about']}: "
    if one["contributed"] and one["sat_out"]:
        return f"{about}counts as spent (epsilon {one['epsilon']:.3g}); this device then dropped out, since {one['sat_out']}"
    if one["contributed"]:
        masks = f", under masks shared with {counted(one['partners'], 'other device')}" if one["partners"] else ""
        people = f", one of {one['enrolled']:,} people" if one["enrolled"] else ""
        return f"{about}contributed{masks}{people}; epsilon {one['epsilon']:.3g}"
    if one["sat_out"]:
        return f"{about}nothing, since {one['sat_out']}"
    return about + ("nothing yet" if one["open"] else "nothing, and it is over")


def _spent(spent: dict[str, Any], verdict: str) -> list[str | tuple[str, str]]:
    from p2prec.cli.screen import counted

    if verdict == "nothing-sent":
        return ["nothing: no contribution has left this device"]
    count = counted(spent["contributions"], "contribution")
    if spent["last_time"] is not None:
        count += f", the last on {_day(spent['last_time'])}"
    if spent["contributions_left"] is not None:
        count += f", {spent['contributions_left']:,} left"
    if spent["epsilon"] is None:
        return [("everything", "yellow"), f": {count}, without noise"]
    figure = f"epsilon {spent['epsilon']:.3g}"
    return [(figure, "yellow") if verdict == "too-weak" else figure, f"  ({count})"]


def _lifetime(lifetime: dict[str, Any]) -> str:
    from p2prec.cli.screen import counted

    spent = "without limit" if lifetime["epsilon"] is None else f"epsilon {lifetime['epsilon']:.3g}"
    return (
        f"{spent} over {counted(lifetime['swarms'], 'swarm')} and {counted(lifetime['contributions'], 'contribution')}"
    )


def _meaning(report: dict[str, Any]) -> str:
    verdict = report["verdict"]
    if verdict == "nothing-sent":
        return "nobody has learned anything about your taste from this device"
    if verdict == "no-noise":
        return "whoever saw your messages can work out much of what you did"
    if verdict == "too-weak":
        return "the noise blurs single contributions; it is no promise against somebody who sees many of them"
    from p2prec.cli.promise_text import meaning

    return meaning(report["spent"]["epsilon"])


def _day(time: float) -> str:
    try:
        return datetime.datetime.fromtimestamp(time).strftime("%Y-%m-%d")
    except (OverflowError, ValueError, OSError):
        return "a day that this device's clock had wrong"
