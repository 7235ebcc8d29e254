"""Import what the user names as `package.module:function`, from the working folder too."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from fuseonnx.errors import FuseOnnxError, OptionError


def samples_from(name: str) -> Callable[[], Iterator[Any]]:
    """Return what yields the samples of the function called `name`, each time that it is called.

    Raises:
        OptionError: the name is not of the form `package.module:function`, or nothing can be imported.
    """
    with working_folder():
        function = _imported(name)

    def samples() -> Iterator[Any]:
        with working_folder():
            try:
                made: Iterable[Any] = function()
                yield from made
            except FuseOnnxError:
                raise
            except Exception as error:  # the user's own code can raise anything
                raise OptionError(f"{name}: {type(error).__name__}: {error}") from error

    return samples


def _imported(name: str) -> Callable[[], Iterable[Any]]:
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise OptionError(f"'{name}': write package.module:function")
    try:
        function: Callable[[], Iterable[Any]] = getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        message = f"{name}: no module '{error.name}'; run it where the module can be imported"
        raise OptionError(message) from error
    except AttributeError as error:
        raise OptionError(f"{name}: {error}") from error
    except Exception as error:  # the user's own code can raise anything
        raise OptionError(f"{name}: {type(error).__name__}: {error}") from error
    if not callable(function):
        raise OptionError(f"{name}: is a {type(function).__name__}; name a function that yields samples")
    return function


@contextlib.contextmanager
def working_folder() -> Iterator[None]:
    """Let modules of the working folder be imported."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
