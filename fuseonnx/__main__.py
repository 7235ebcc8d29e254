"""Lets `python -m fuseonnx` run the command line."""

from fuseonnx.cli import main

if __name__ == "__main__":
    main()
