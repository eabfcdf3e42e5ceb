"""Plain error messages for known failures inside a network step."""

from __future__ import annotations

from typing import Any

import brainunit as u
import jax

from brainhw.transform.trace import first_reason

__all__ = ["reason_in_words"]


def reason_in_words(error: BaseException, net: Any, x: Any, *, call: str = "") -> BaseException:
    """Return an error with a plain message for a known failure of a step, otherwise the original error.

    ``x`` is the input of the step. Without ``call`` the message starts with the class name of the network.
    """
    error = first_reason(error)
    call = call or type(net).__name__
    # Dropout and the normalisations of brainstate read the setting `fit`.
    if isinstance(error, KeyError) and "Key 'fit' not found in environment" in str(error):
        return RuntimeError(
            f"{call}: a module of the network, such as Dropout or BatchNorm, depends on the setting fit, but fit is "
            "not set. Run the network inside brainstate.environ.context(fit=False), or with fit=True for training."
        )
    dtypes = {str(u.get_mantissa(leaf).dtype) for leaf in jax.tree.leaves(x) if hasattr(leaf, "dtype")}
    if isinstance(error, TypeError) and "same dtypes" in str(error) and "bool" in dtypes:
        return TypeError(
            f"{call}: the input has dtype bool, but a module of the network, such as a convolution, accepts only "
            "floats. Pass xs.astype('float32')."
        )
    return error
