# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Train a spiking network
#
# A spike is all or nothing, so its derivative is zero almost everywhere and plain backpropagation learns nothing.
# Surrogate gradients keep the hard spike going forward and put a smooth bump in place of its derivative going backward.
# This page builds a small classifier from brainhw modules, with units, trains it, and compares surrogates.
#
# It takes about five minutes to read and ten seconds to run. You should have met `brainstate` modules before.

# %%
import brainstate
import braintools
import brainunit as u
import matplotlib.pyplot as plt
import numpy as np

import brainhw as bh

brainstate.environ.set(dt=1.0 * u.ms)
brainstate.random.seed(1)

# %% [markdown]
# ## The network
#
# A hundred Poisson inputs, four leaky integrate-and-fire neurons, and two leaky readouts that turn spikes into logits.
# Weights are voltages, time constants are times: a wrong unit fails right here, in the constructor.


# %%
class Classifier(brainstate.nn.Module):
    def __init__(self, n_in, n_hidden, n_out, spk_fun):
        super().__init__()
        self.synapse = bh.nn.LIFSynapse(n_in, n_hidden, weight_init=braintools.init.KaimingNormal(unit=u.mV))
        self.hidden = bh.nn.LIFLayer(n_hidden, tau=20 * u.ms, V_th=1 * u.mV, spk_fun=spk_fun)
        self.readout = bh.nn.LeakyReadout(n_hidden, n_out, tau=10 * u.ms)

    def update(self, spikes):
        return self.readout(self.hidden(self.synapse(spikes)))


try:
    bh.nn.LIFLayer(4, tau=20 * u.mV)
except TypeError as error:
    print(error)

# %% [markdown]
# ## The task
#
# 256 samples of 200 ms of 5 Hz Poisson spikes with labels tossed by a coin. There is nothing to generalise: the
# question is whether the net can be fitted at all, which without a surrogate gradient it cannot.

# %%
n_in, n_hidden, n_out, n_steps, n_samples = 100, 4, 2, 200, 256
rate = 5 * u.Hz
rng = np.random.default_rng(0)
probability = float(rate * brainstate.environ.get_dt())
x = (rng.random((n_steps, n_samples, n_in)) < probability).astype(np.float32)
y = rng.integers(0, n_out, n_samples)

# %% [markdown]
# ## One training step
#
# `bh.rollout` puts every state at rest, runs the net over time, and returns the outputs `[T, B, n_out]`. Everything
# that repeats stands inside `brainstate.transform.jit`: a time loop outside it would be compiled anew at every call.


# %%
def train(spk_fun, epochs=200):
    brainstate.random.seed(1)
    net = Classifier(n_in, n_hidden, n_out, spk_fun)
    weights = net.states(brainstate.ParamState)
    optimizer = braintools.optim.Adam(lr=3e-3)
    optimizer.register_trainable_weights(weights)

    def loss():
        outputs, _ = bh.rollout(net, x)
        logits = outputs.mean(axis=0)
        return braintools.metric.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    @brainstate.transform.jit
    def step():
        grads, value = brainstate.transform.grad(loss, weights, return_value=True)()
        optimizer.update(grads)
        return value

    return net, np.array([float(step()) for _ in range(epochs)])


net, losses = train(braintools.surrogate.ReluGrad())
print(f"first loss {losses[0]:.4f}, last loss {losses[-1]:.4f}")
assert losses[-1] < losses[0] - 0.05

# %% [markdown]
# The first loss is near `log 2 = 0.693`, that of a coin. Any braintools surrogate fits `spk_fun`, and so do brainhw's
# own. They see the dimensionless `(V - V_th)/V_th`, so a slope means the same for every threshold.

# %%
surrogates = {
    "ReluGrad()": braintools.surrogate.ReluGrad(),
    "fast_sigmoid(5)": bh.surrogate.fast_sigmoid(5.0),
    "fast_sigmoid(25)": bh.surrogate.fast_sigmoid(25.0),
    "atan(2)": bh.surrogate.atan(2.0),
}
curves = {name: losses if name == "ReluGrad()" else train(spk_fun)[1] for name, spk_fun in surrogates.items()}

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
distance = np.linspace(-1, 1, 401, dtype=np.float32)
for name, spk_fun in surrogates.items():
    left.plot(distance, spk_fun.surrogate_grad(distance), label=name)
    right.plot(curves[name], label=name)
left.set(xlabel="(V - V_th) / V_th", ylabel="surrogate derivative", xticks=[-1, -0.5, 0, 0.5, 1])
right.set(xlabel="epoch", ylabel="training loss")
right.legend(frameon=False)
plt.show()

# %% [markdown]
# A narrow derivative sees only neurons that nearly fire, so `fast_sigmoid(25)` starts slowest. With one hidden layer
# that is all the difference there is; in deep nets the choice decides whether the first layers learn at all.
#
# ## Look inside
#
# `record` names states to keep at every step. `V_pre` is the membrane before the reset, where the threshold is crossed.

# %%
_, seen = bh.rollout(net, x[:, 0], record=("hidden.V", "hidden.V_pre", "hidden.spk"))
time = np.arange(n_steps)
figure, ax = plt.subplots(figsize=(9, 3), layout="constrained")
ax.plot(time, seen["hidden.V_pre"][:, 0] / u.mV, label="before the reset")
ax.plot(time, seen["hidden.V"][:, 0] / u.mV, label="after the reset")
ax.axhline(1.0, color="0.5", linestyle="--", label="threshold")
ax.set(xlabel="time (ms)", ylabel="membrane (mV)", title="hidden neuron 0, sample 0")
ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()
print(f"{int(seen['hidden.spk'].sum())} spikes from {n_hidden} neurons in {n_steps} ms")

# %% [markdown]
# ## Where next
#
# The script `gallery/japanese_vowels_h1.py` trains chip layers on real speech with the same few calls; what changes is
# the family of the modules, `bh.init.fluct_init` before the first step, and a penalty that keeps weights in range.
