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
# # Adaptive neurons on electrocardiograms
#
# **What you learn.** How after-hyperpolarisation changes the firing rate of one neuron. You predict this change with an
# equation and compare the prediction with a simulation. Then you train a network of such neurons on electrocardiograms.
# In every time step the network classifies the current segment of the heartbeat. Finally you inspect the learned
# parameters.
#
# **Who it is for.** Readers who have [trained a network](04_train_a_spiking_network.ipynb).
#
# Reading takes about 10 minutes, and running takes about 30 seconds.
#
# Many neurons show spike-frequency adaptation: after many spikes they need a stronger input to spike again. The cause
# is a slow current, the after-hyperpolarisation. This current gives a neuron a memory of its recent spikes.

# %%
import math

import brainstate
import braintools
import brainunit as u
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import brainhw as bh

brainstate.random.seed(0)

# %% [markdown]
# ## One adaptive neuron
#
# `bh.nn.ALIFLayer` is a leaky integrate-and-fire neuron whose spikes cause a slow current $a$. Let $s$ be its spikes,
# $I$ the synaptic current, $b$ the bias and $\alpha = e^{-\Delta t / \tau_{mem}}$. In each time step the neuron
# computes
#
# $$a_t = \gamma \, (a_{t-1} + w_{ahp} \, s_{t-1}), \qquad \gamma = e^{-\Delta t / \tau_{ahp}}$$
# $$V \leftarrow \alpha V + I_t + a_t + b, \qquad \text{where } V \ge V_{th}: \text{ spike, } V \leftarrow V - V_{th}$$
#
# The currents $I$ and $a$ and the bias $b$ are given as voltages: each is the amount that it adds to the membrane
# potential in one time step. With $w_{ahp} < 0$ each spike lowers the membrane potential. Two neurons receive the same
# input, which rises and falls. One of them has an after-hyperpolarisation with a time constant of 200 ms.

# %%
w_ahp, tau_ahp = -0.005 * u.mV, 200 * u.ms
pair = bh.nn.ALIFLayer(
    2,
    tau_mem=20 * u.ms,
    tau_syn=2 * u.ms,
    tau_ahp=tau_ahp,
    w_ahp=jnp.array([0.0, w_ahp / u.mV]) * u.mV,
)
drive = np.full((2000, 2), 0.045, np.float32)
drive[700:1400] = 0.09

with brainstate.environ.context(dt=1.0 * u.ms):
    spikes, seen = bh.rollout(pair, drive * u.mV, record=(".I_syn", ".I_ahp"))

# %%
time = np.arange(len(drive))
names = ("no adaptation", "adaptive")
figure, axes = plt.subplots(3, 1, figsize=(9, 5.5), sharex=True, layout="constrained")
axes[0].plot(time, seen[".I_syn"][:, 0] / u.mV, color="0.4")
axes[0].set_ylabel("drive\n(mV per step)")
axes[2].plot(time, seen[".I_ahp"][:, 1] / u.mV, color="C1")
axes[2].set(ylabel="after-hyperpol.\n(mV per step)", xlabel="time (ms)")
for neuron, name in enumerate(names):
    fired = np.flatnonzero(spikes[:, neuron])
    rate = 1000 / np.diff(fired)
    axes[1].step(fired[1:], rate, where="pre", label=name)
    after_rise = rate[fired[1:] > 720]
    print(f"{name:13}  {len(fired)} spikes; after the input rises {after_rise[:5].mean():.0f} Hz at first, ", end="")
    print(f"{rate[(fired[1:] > 1200) & (fired[1:] < 1400)].mean():.0f} Hz after half a second")
axes[1].set(ylabel="rate, from intervals\n(Hz)", ylim=(0, None))
axes[1].legend(frameon=False)
plt.show()

# %% [markdown]
# The rate of the first neuron follows the strength of its input. The rate of the adaptive neuron mainly follows changes
# of its input. It overshoots when the input rises and drops almost to zero when the input falls. While the input is
# constant, it is lower than the rate of the first neuron. This is spike-frequency adaptation.
#
# ## The effect of a spike on the rate
#
# Summed over time, the after-hyperpolarisation of one spike lowers the membrane potential by
# $|w_{ahp}| (\gamma + \gamma^2 + \dots) = |w_{ahp}| \, \gamma / (1 - \gamma)$, in addition to the $V_{th}$ that the
# reset subtracts. A neuron with $r$ spikes per step has the mean after-hyperpolarisation
# $\bar a = w_{ahp} \, r \, \gamma / (1 - \gamma)$, so its rate is the solution of
#
# $$r = f(b + \bar a(r)),$$
#
# where $f(b)$ is the rate of the neuron without adaptation. The next cell simulates 93 neurons with different biases,
# first without adaptation and then with adaptation. The first simulation gives $f(b)$. The cell compares the rates of
# the second simulation with the solution of the equation:

# %%
bias = np.linspace(0.04, 0.5, 93).astype(np.float32)
curves = {}
with brainstate.environ.context(dt=1.0 * u.ms):
    for name, w in zip(names, (0.0 * u.mV, w_ahp), strict=True):
        many = bh.nn.ALIFLayer(93, tau_mem=20 * u.ms, tau_ahp=tau_ahp, w_ahp=w, bias=bias * u.mV)
        fired, _ = bh.rollout(many, jnp.zeros((3000, 93)) * u.mV)
        curves[name] = np.asarray(fired[1000:].mean(axis=0))  # spikes per step, in the steady state
        curves[f"{name}, first 50 ms"] = np.asarray(fired[:50].mean(axis=0))

gamma = math.exp(-1 / 200)
cost = -float(w_ahp / u.mV) * gamma / (1 - gamma)
r = np.linspace(0, 0.3, 3001)
plain = np.interp(bias[:, None] - cost * r, bias, curves[names[0]], left=0.0)
expected = r[np.argmin(np.abs(plain - r), axis=1)]
print(f"over time, the adaptation of one spike subtracts {cost:.2f} mV; the reset subtracts 1 mV")

figure, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
ax.plot(bias, 1000 * curves["no adaptation"], label="no adaptation")
ax.plot(bias, 1000 * curves["adaptive, first 50 ms"], color="C1", alpha=0.4, label="adaptive, first 50 ms")
ax.plot(bias, 1000 * curves["adaptive"], "o", color="C1", markersize=3, label="adaptive, settled")
ax.plot(bias, 1000 * expected, color="0.3", linewidth=1, label="adaptive, from the equation")
ax.set(xlabel="bias (mV per step)", ylabel="rate (Hz)")
ax.legend(frameon=False)
plt.show()

error = np.abs(expected - curves["adaptive"]).max()
print(f"largest difference from the equation: {1000 * error:.1f} Hz")
assert error < 0.004

# %% [markdown]
# The solution of the equation agrees with the simulation. The adaptation has two parameters, $\tau_{ahp}$ and
# $w_{ahp}$. The neuron remembers a spike for about the time $\tau_{ahp}$. The total effect of a spike on the membrane
# potential is approximately $w_{ahp} \tau_{ahp} / \Delta t$. Both parameters can be trained. If $w_{ahp}$ becomes
# positive, a spike raises the membrane potential, so the next spike comes earlier.
#
# ## Electrocardiograms as spikes
#
# The QT Database (PhysioNet) contains electrocardiograms in which experts marked the waves. Yin, Corradi and Bohte
# (2021) converted two leads of each recording into events, with 250 time steps per second. Each lead has two channels:
# one for upward changes and one for downward changes. brainhw includes every fifth of their sequences. `bh.data.qtdb`
# reads all of them.

# %%
data = bh.data.qtdb_excerpt()
print(data)
colors = plt.get_cmap("Set2").colors


def shade(ax, labels):
    """Shade the segments of one sequence."""
    edges = np.flatnonzero(np.diff(labels)) + 1
    for first, last in zip([0, *edges], [*edges, len(labels)], strict=True):
        ax.axvspan(first * 4, last * 4, color=colors[labels[first]], linewidth=0)


def legend(figure):
    patches = [plt.Rectangle((0, 0), 1, 1, color=colors[k]) for k in range(data.n_classes)]
    figure.legend(patches, data.class_names, frameon=False, ncols=6, loc="outside lower center")


shown = 3
figure, ax = plt.subplots(figsize=(9, 2.6), layout="constrained")
shade(ax, data.test.y[shown])
steps, channels = np.nonzero(data.test.x[shown] > 0)
ax.plot(steps * 4, channels, "|", color="0.2", markersize=9, markeredgewidth=0.6)
ax.set(xlabel="time (ms)", yticks=range(4), yticklabels=["1 up", "1 down", "2 up", "2 down"], xlim=(0, 5204))
ax.set(ylabel="lead", ylim=(-0.5, 3.5))
legend(figure)
plt.show()

# %% [markdown]
# Events are dense around the QRS complex and sparse between the T and the P wave. Where events are sparse, the network
# can identify the segment only by the time since the last heartbeat. This requires a memory of several hundred
# milliseconds. (Time steps that the experts did not mark, such as the first steps in this figure, are labelled as the
# first segment. The published accuracies use the same rule.)
#
# ## The network
#
# The network has 36 recurrent adaptive neurons and a leaky readout that outputs one logit per segment in every time
# step. All time constants and weights are trainable. The initial time constants are drawn at random, with a uniform
# distribution of their logarithms. `ExpT` keeps each time constant above 1 ms. The optimizer updates the logarithm of
# each time constant. A training step therefore changes time constants of 5 ms and of 2 s by a similar factor.

# %%
dt = 4.0 * u.ms
brainstate.environ.set(dt=dt)
n = 36


def spread(low, high, size):
    tau = jnp.exp(brainstate.random.uniform(math.log(low), math.log(high), size)) * u.ms
    return brainstate.nn.Param(tau, t=brainstate.nn.ExpT(1.0 * u.ms))


def scaled(millivolts, scale):
    """Return a trainable voltage, which the optimizer updates in units of `scale`."""
    return brainstate.nn.Param(millivolts * u.mV, t=brainstate.nn.AffineT(scale * u.mV, 0.0 * u.mV))


class SegmentNet(brainstate.nn.Module):
    def __init__(self):
        super().__init__()
        normal = brainstate.random.normal
        tau_mem, tau_syn, tau_ahp = spread(20, 400, n), spread(4, 100, n), spread(50, 2000, n)
        # With a slow synapse or a slow membrane, a spike has a larger total effect, so its initial weight is smaller.
        scale = 2 / jnp.sqrt((tau_mem.value() / dt) * (tau_syn.value() / dt))
        scale_ahp = 2 / jnp.sqrt((tau_mem.value() / dt) * (tau_ahp.value() / dt))
        shared = scale / math.sqrt(n)
        self.to_hidden = bh.nn.LIFSynapse(4, n, weight_init=0.5 * scale * normal(size=(4, n)) * u.mV)
        self.hidden = bh.nn.ALIFLayer(
            n,
            tau_mem=tau_mem,
            tau_syn=tau_syn,
            tau_ahp=tau_ahp,
            w_ahp=scaled(-0.3 * scale_ahp, scale_ahp),
            bias=brainstate.nn.Param(jnp.zeros(n) * u.mV),
            w_rec=scaled(0.3 * shared * normal(size=(n, n)), shared),
            max_spikes_per_step=1,
            spk_fun=bh.surrogate.PeriodicExponential(window=0.5),
        )
        weights = 0.3 / math.sqrt(n) * normal(size=(n, data.n_classes))
        self.readout = bh.nn.LeakyReadout(
            n, data.n_classes, tau=spread(20, 200, data.n_classes), weight_init=weights, bias=True
        )

    def update(self, x):  # one step: spikes [B, 4] to logits [B, 6]
        return self.readout(self.hidden(self.to_hidden(x)))


net = SegmentNet()

# %% [markdown]
# ## Training
#
# The labels have a time axis, `y [B, T]`, and the loss is the mean cross-entropy over all steps. For training, each
# sequence is divided into four pieces of 1.3 s. The test uses whole sequences.

# %%
quarter = 325
pieces = bh.data.Split(
    x=data.train.x[:, : 4 * quarter].reshape(-1, quarter, 4),
    y=data.train.y[:, : 4 * quarter].reshape(-1, quarter),
    lengths=np.full(4 * len(data.train), quarter),
)
x_test, y_test = jnp.swapaxes(data.test.x, 0, 1), jnp.asarray(data.test.y.T)  # time first


def loss(logits, batch):
    return braintools.metric.softmax_cross_entropy_with_integer_labels(logits, batch.y.T).mean()


def named_rightly(logits, batch):
    return (logits.argmax(axis=-1) == batch.y.T).mean()


tau_before = np.asarray(net.hidden.tau_ahp.value() / u.ms)
history = bh.train.fit(
    net,
    pieces,
    data.test,
    loss=loss,
    metrics={"accuracy": named_rightly},
    epochs=25,
    batch_size=62,
    learning_rate=2e-2,
    max_gradient=1.0,
    keep="last",  # do not choose the epoch by the test sequences
    progress=False,
)
accuracy = history.column("validation_accuracy")


@brainstate.transform.jit
def told():
    logits, seen = bh.rollout(net, x_test, record=("hidden.spk",))
    return logits.argmax(axis=-1), seen["hidden.spk"]


commonest = np.bincount(data.train.y.ravel()).argmax()
chance = float((y_test == commonest).mean())
print(f"test accuracy {accuracy[-1]:.3f}; if the answer is always {data.class_names[commonest]!r}: {chance:.3f}")
assert accuracy[-1] > 0.7

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
left.plot(np.arange(1, len(accuracy) + 1), history.column("loss"))
left.set(xlabel="epoch", ylabel="training loss", ylim=(0, None))
right.plot(np.arange(1, len(accuracy) + 1), accuracy, label="network")
right.axhline(chance, color="0.5", linestyle="--", label="most common segment")
right.set(xlabel="epoch", ylabel="share of test steps", ylim=(0, 1))
right.legend(frameon=False, loc="lower right")
plt.show()

# %% [markdown]
# With only 124 training sequences and 29 test sequences, the accuracy is limited. With the whole data set the same
# network reaches an accuracy of 0.861 ([results](../docs/results.md)). This is the mean over three seeds of
# `gallery/ecg_alif.py`. The best published network of this kind reaches 0.859 (Yin, Corradi and Bohte 2021).
#
# ## Output of the network
#
# For one test sequence, the figure shows the marks of the experts, the output of the network, and the spikes of its
# neurons.

# %%
says, hidden = told()
figure, axes = plt.subplots(
    3, 1, figsize=(9, 4.6), sharex=True, layout="constrained", gridspec_kw={"height_ratios": [1, 1, 4]}
)
shade(axes[0], data.test.y[shown])
shade(axes[1], np.asarray(says[:, shown]))
bh.visualize.plot_raster(hidden[:, shown], ax=axes[2], color="0.2")
for ax, name in zip(axes, ("experts", "network"), strict=False):
    ax.set_ylabel(name, rotation=0, ha="right", va="center")
    ax.set_yticks([])
legend(figure)
plt.show()

# %% [markdown]
# ## The role of adaptation
#
# The next cell shows the learned parameters. Then it switches the after-hyperpolarisation off in the trained network,
# and the accuracy drops. If a network is trained without after-hyperpolarisation from the start, it uses recurrent
# weights and long membrane time constants instead. With the whole data set, such a network reaches an accuracy of 0.857
# (`gallery/ecg_alif.py --no-ahp`).

# %%
learnt_tau = np.asarray(net.hidden.tau_ahp.value() / u.ms)
learnt_w = np.asarray(net.hidden.w_ahp.value() / u.mV)
gamma = np.exp(-4.0 / learnt_tau)
per_spike = learnt_w * gamma / (1 - gamma)
figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
ax.plot(learnt_tau, per_spike, "o", markersize=4)
ax.axhline(0, color="0.5", linewidth=0.8)
ax.set(xscale="log", xlabel="time constant of the adaptation (ms)", ylabel="total effect of a spike (mV)")
plt.show()

changed = np.exp(np.abs(np.log(learnt_tau / tau_before)).mean())
print(f"{(learnt_w < 0).sum()} of {n} neurons adapt (w_ahp < 0); mean change of a time constant: factor {changed:.2f}")

kept = net.hidden.w_ahp.val.value
net.hidden.w_ahp.val.value = jnp.zeros_like(kept)
without = float((told()[0] == y_test).mean())
net.hidden.w_ahp.val.value = kept
print(f"with after-hyperpolarisation {accuracy[-1]:.3f}, with it switched off {without:.3f}")
assert without < accuracy[-1]

# %% [markdown]
# ## Next steps
#
# - `gallery/ecg_alif.py` trains networks of two sizes on the whole data set, with and without adaptation.
# - [Coming from Rockpool](../docs/coming_from_rockpool.md): `bh.nn.ALIFLayer` corresponds to `aLIFTorch` of Rockpool.
#   The page lists the corresponding arguments and the differences.
# - [Fractional memory](07_fractional_memory.ipynb): neurons whose membrane potential has a long memory.
#   `gallery/ecg_fractional.py` trains such neurons on these electrocardiograms.
