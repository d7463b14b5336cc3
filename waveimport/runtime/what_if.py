"""The policy that `replay --what-if` tries: a limit, or the function `decide` of a Python file."""

import importlib.util
import re
import sys
import traceback
from pathlib import Path

from waveimport.core.policies import Policy, with_limit
from waveimport.core.waves import Decision, JobSnapshot
from waveimport.errors import BadPolicy

_LIMIT = re.compile(r"limit=([1-9]\d{0,5})")
_HELP = (
    "name a Python file with `def decide(snapshot)`, which takes a waveimport.core.waves.JobSnapshot and returns a"
    " Decision; or `limit=N`"
)


def policy_of(word: str) -> Policy:
    """Return the policy that a word names: `limit=N`, or a Python file. Raises BadPolicy."""
    limit = _LIMIT.fullmatch(word)
    if limit is not None:
        return with_limit(int(limit[1]))
    path = Path(word)
    if not path.is_file():
        raise BadPolicy(f"there is no file `{word}`, and it is no `limit=N`", where="--what-if", help=_HELP)
    spec = importlib.util.spec_from_file_location("waveimport_what_if", path.resolve())
    if spec is None or spec.loader is None:
        raise BadPolicy(f"{path} is no Python file", where="--what-if", help=_HELP)
    module = importlib.util.module_from_spec(spec)
    # Dataclasses of the file look their module up.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise BadPolicy(f"{path} cannot be loaded: {_said(error)}", where=_place(error, path), help=_HELP) from error
    found = getattr(module, "decide", None)
    if not callable(found):
        raise BadPolicy(f"{path} has no function `decide`", where=str(path), help=_HELP)

    def policy(snapshot: JobSnapshot) -> Decision:
        try:
            decision = found(snapshot)
        except Exception as error:
            raise BadPolicy(
                f"`decide` of {path} raised {_said(error)}",
                where=_place(error, path),
                help="mend it; nothing was changed",
            ) from error
        if not isinstance(decision, Decision):
            raise BadPolicy(
                f"`decide` of {path} returned {type(decision).__name__}, not a Decision", where=str(path), help=_HELP
            )
        return decision

    return policy


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _place(error: Exception, path: Path) -> str:
    """Return the line of the file that an error came from."""
    if isinstance(error, SyntaxError) and error.lineno is not None:
        return f"{path}:{error.lineno}"
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path.resolve()
    ]
    return f"{path}:{lines[-1]}" if lines else str(path)
