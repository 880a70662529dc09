"""The one exception a caller can fix."""


class InputError(Exception):
    """Says in a sentence what was found, what was needed and what to type.

    The command line prints it and exits with code 2; a server answers 422 with the same sentence.
    Any other exception is a bug in Louder and keeps its traceback.
    """


class Interrupted(Exception):
    """The user stopped a command. Says how to go on."""


def missing_extra(package: str, extra: str) -> InputError:
    return InputError(f"This needs the package {package!r}, which is not installed: pip install 'louder[{extra}]'.")
