"""Options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

StateOption = Annotated[
    Path | None,
    typer.Option(
        "--state",
        metavar="DIR",
        envvar="P2PREC_STATE",
        help="State directory of this peer (identity, swarm, interactions, model).",
        show_default="the user's data directory",
    ),
]
TransportOption = Annotated[
    str | None,
    typer.Option(
        "--transport",
        metavar="tls|libp2p",
        envvar="P2PREC_TRANSPORT",
        help="What to speak with peers. All of a swarm must speak the same; libp2p needs p2prec[libp2p].",
        show_default="tls",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]
