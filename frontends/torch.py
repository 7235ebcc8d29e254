from __future__ import annotations


def is_torch_model(model: object) -> bool:
    return False


def convert_torch(*args): raise NotImplementedError
