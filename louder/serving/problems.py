"""Which status an error has, and its sentence."""

import traceback

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from louder.errors import InputError
from louder.histories import StoreDamaged, StoreGone
from louder.serving.batching import Overloaded
from louder.serving.log import tell
from louder.serving.wire import Refused, sentence
from louder.streaming import LogGone


def problem(error: Exception) -> tuple[int, str, dict[str, str]]:
    """Its status, sentence and headers. What nobody expected goes to the log with its traceback, and not to the client."""
    match error:
        case Refused():
            return error.status, error.error, {}
        case StoreDamaged():
            tell("damaged", str(error))
            return 500, "The history in the store is damaged; the log of the service says how.", {}
        case InputError():
            return 422, str(error), {}
        case RequestValidationError():
            return 422, sentence(error.errors()), {}
        case Overloaded():
            return 429, str(error), {"retry-after": f"{error.seconds:.0f}"}
        case LogGone():
            tell("log", str(error))
            text = "The event log cannot be written, so nothing is accepted. Recommendations are answered."
            return 503, text, {"retry-after": "1"}
        case StoreGone():
            tell("store", str(error))  # it names hosts and folders, which are nobody's business outside
            text = "The store of histories cannot be reached. Requests that carry their history are answered."
            return 503, text, {"retry-after": "1"}
        case HTTPException():
            return error.status_code, str(error.detail), dict(error.headers or {})
        case _:
            traceback.print_exception(error)
            return 500, "The service has a mistake of its own; its log says which.", {}
