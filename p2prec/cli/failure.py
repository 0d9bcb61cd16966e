"""From errors to messages and exit codes, the same for every command.

Exit codes: 0 done; 1 it could not be done (the reason is on stderr); 2 it was asked wrongly; 130 interrupted.
Results go to stdout, everything else to stderr, so that output can be piped.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from p2prec.errors import P2PRecError, UsageError


def fail(message: str, remedy: str = "") -> None:
    """Print an error the way every command does."""
    print(f"p2prec: {message}", file=sys.stderr)
    if remedy:
        print(f"  {remedy}", file=sys.stderr)


def exit_code(command: Callable[[], object]) -> int:
    """Run a command and return its exit code; never shows a traceback for an error that we raise on purpose."""
    try:
        result = command()
    except UsageError as error:
        fail(str(error), error.remedy)
        return 2
    except P2PRecError as error:
        fail(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader (head, less) has had enough: not an error. Keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return result if isinstance(result, int) else 0
