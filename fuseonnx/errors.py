"""What can go wrong, each said in one line that names the file and the cure."""


class FuseOnnxError(Exception):
    """Base of every error a user can cause; the command line prints it as one line and exits with 2."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))  # names in a broken model may hold line breaks


class ModelLoadError(FuseOnnxError):
    """The source is not a usable ONNX model (not ONNX, truncated, empty, missing or escaping data…)."""


class ExportError(FuseOnnxError):
    """A framework's model cannot become ONNX, or what it became does not answer as the framework does."""


class ModelSaveError(FuseOnnxError):
    """The artifact cannot be written (folder not writable, disk full, would overwrite the input…)."""


class RewriteError(FuseOnnxError):
    """The rewriter itself failed: rules that undo each other, or a rule that broke the graph."""


class BackendError(FuseOnnxError):
    """onnxruntime is missing, or cannot load or run a model."""


class OptionError(FuseOnnxError):
    """An option names something that does not exist or contradicts another one."""
