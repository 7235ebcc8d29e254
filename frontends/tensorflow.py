from __future__ import annotations


def is_tf_function(model: object) -> bool:
    return False


def convert_tf_function(*args): raise NotImplementedError
