"""What an artifact can be made for."""

from __future__ import annotations

from typing import Literal

Target = Literal["portable", "cpu", "cuda", "tensorrt"]

PROVIDERS: dict[Target, str] = {"portable": "cpu", "cpu": "cpu", "cuda": "cuda", "tensorrt": "tensorrt"}
"""Target to the execution provider that is its own."""
