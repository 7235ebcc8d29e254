"""The Keras models of tools/zoo.py: every constructor of keras.applications, with random weights.

Answers are worth comparing only if signals neither die nor explode on their way through the layers, and if
rounding does not grow with the depth. Statistics of BatchNormalization are therefore those of a batch that
went through the model, shaken, and the second moment stands for the variance: normalised by their variance
alone, random networks as deep as EfficientNet turn one ulp of the image into a hundredth of the logits. The
layer scale of ConvNeXt, which starts at 1e-6 and hides its block, is drawn anew; the classifier is scaled.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from fuseonnx.frontends._quiet import quiet_first_import
from tools.zoo_subject import Arrays, Subject

DEFAULT_SIZE = 224
"""Height and width where a constructor leaves them open."""
LOGIT_SCALE = 10.0
"""Standard deviation of the logits."""
CALIBRATION_IMAGES = 1
TILES = 4
OUTPUTS = ("logits", "probabilities")


def constructors() -> dict[str, Callable[..., Any]]:
    """Return all constructors of keras.applications by name."""
    with quiet_first_import():
        import keras

    found = vars(keras.applications).items()
    return {name: function for name, function in sorted(found) if inspect.isfunction(function)}


def subject(name: str, images: int, threads: int) -> Subject:
    """Return a model of `constructors()` with both its logits and its probabilities as outputs."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    model, magnitude = build(name)
    shape = image_shape(model)
    pixels = draw(np.random.default_rng(1), (images, *shape), magnitude)
    batches = [pixels[index : index + 1] for index in range(images)]
    compiled = tf.function(lambda image: model(image, training=False))

    def predict() -> list[Arrays]:
        logits, probabilities = model.predict(pixels, batch_size=1, verbose=0)
        return [(logits[i : i + 1], probabilities[i : i + 1]) for i in range(images)]

    return Subject(
        model=model,
        options={"input_names": ["image"], "output_names": OUTPUTS},
        batches=[{"image": batch} for batch in batches],
        predict=predict,
        compiled=lambda: [[output.numpy() for output in compiled(batch)] for batch in batches],
        input="×".join(map(str, shape)),
        layers=len(model.layers) - 1,  # the Softmax is an activation in the model as its users have it
        parameters=model.count_params(),
        outputs=OUTPUTS,
    )


def build(name: str, calibration_images: int = CALIBRATION_IMAGES, **arguments: Any) -> tuple[Any, float]:
    """Return a model from images to `[logits, probabilities]`, and the magnitude of its input values.

    Args:
        name: of `constructors()`.
        calibration_images: size of the batch whose statistics it takes.
        arguments: of the constructor besides the weights and the last activation.
    """
    constructor = constructors()[name]
    import keras

    keras.utils.set_random_seed(0)
    classifier = constructor(weights=None, classifier_activation=None, **arguments)
    magnitude = input_magnitude(constructor)
    rng = np.random.default_rng(0)
    pixels = draw(rng, (calibration_images, *image_shape(classifier)), magnitude)
    randomise(classifier, pixels, rng)
    logits = classifier.output
    probabilities = keras.layers.Softmax(name="probabilities")(logits)
    return keras.Model(classifier.input, [logits, probabilities], name=classifier.name), magnitude


def input_magnitude(constructor: Callable[..., Any]) -> float:
    """Return the largest magnitude of what `preprocess_input` makes of the colours 0 to 255.

    It is 1 for most, about 2.6 and 151 for those with ImageNet's means, and 255 for models that preprocess
    in the graph.
    """
    module: Any = inspect.getmodule(constructor)
    colours = np.zeros((2, 1, 1, 3), np.float32)
    colours[1] = 255
    return float(np.abs(module.preprocess_input(colours)).max())


def image_shape(model: Any) -> tuple[int, int, int]:
    """Return height, width and channels."""
    height, width, channels = model.inputs[0].shape[1:]
    return height or DEFAULT_SIZE, width or DEFAULT_SIZE, channels


def draw(rng: np.random.Generator, shape: tuple[int, int, int, int], magnitude: float) -> Any:
    """Return signed images [count, height, width, channels], float32: coloured tiles under noise."""
    count, height, width, channels = shape
    tiles = rng.uniform(-1, 1, (count, TILES, TILES, channels))
    rows, columns = (np.arange(size) * TILES // size for size in (height, width))
    pixels = 0.7 * tiles[:, rows][:, :, columns] + 0.3 * rng.uniform(-1, 1, shape)
    return (magnitude * pixels).astype(np.float32)


def randomise(model: Any, pixels: Any, rng: np.random.Generator) -> None:
    """Give a classifier random vectors, statistics of BatchNormalization, and logits of `LOGIT_SCALE`."""
    import keras

    for weight in model.trainable_weights:
        if weight.path.endswith("gamma"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.path.endswith("beta"):
            weight.assign(rng.normal(0, 0.5, weight.shape))
        elif len(weight.shape) == 1:
            weight.assign(rng.normal(0, 0.1, weight.shape))
    normalizations = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in normalizations]
    for layer in normalizations:
        layer.momentum = 0.0
    if normalizations:
        model(pixels, training=True)
    for layer, momentum in zip(normalizations, momenta, strict=True):
        layer.momentum = momentum
        mean, variance = np.asarray(layer.moving_mean), np.asarray(layer.moving_variance)
        moment = np.maximum(variance, 0.1 * variance.mean()) + mean**2
        layer.moving_variance.assign(moment * rng.uniform(0.5, 1.5, moment.shape))
        layer.moving_mean.assign(mean + rng.normal(0, 0.1, moment.shape) * np.sqrt(moment))
    spread = float(np.asarray(model(pixels, training=False)).std())
    kernel = next(weight for weight in reversed(model.trainable_weights) if len(weight.shape) > 1)
    kernel.assign(np.asarray(kernel) * (LOGIT_SCALE / spread))
