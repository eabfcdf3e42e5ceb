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
# # The H1 chips against LIF
#
# **What you learn.** What the chips H1v1 and H1v2 fix and what is left to you; which of their numbers are documented
# and which are brainhw's assumptions; how charge, leak and reset differ from a free LIF neuron; why a chip network must
# be prepared; and that no two chips are alike.
#
# **Who it is for.** Readers of [Build a network](02_build_a_network.ipynb) who have an H1 chip in mind.
#
# Some ten minutes to read, a quarter of a minute to run.

# %%
import warnings

import brainstate
import brainunit as u
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import brainhw as bh

brainstate.environ.set(dt=1 * u.ms)
brainstate.random.seed(0)

# %% [markdown]
# ## A chip is one object
#
# Every number that a chip model uses stands in one `ChipSpec`, with its unit and its provenance. *Documented*: the
# vendor says so in public. *Assumed*: the vendor publishes nothing, and brainhw chose a value with which all that is
# documented holds.

# %%
print(bh.chip.H1V1)

# %%
for chip in (bh.chip.H1V1, bh.chip.H1V2):
    sources = list(chip.provenance.values())
    print(f"{chip.name}: {sources.count('documented')} documented, {sources.count('assumed')} assumed")
print(bh.chip.H1V1.notes["V_th"])

# %% [markdown]
# `table(notes=True)` prints every note. So take shapes and comparisons from these models, and absolute times, voltages
# and powers only after somebody has measured them on your chip. What is measured goes in with `replace`; no layer
# changes:

# %%
mine = bh.chip.H1V1.replace(V_th=95 * u.mV, provenance="measured")
print(*(line for line in str(mine).splitlines() if line.startswith("*")), sep="\n")
assert mine.provenance["V_th"] == "measured"

# %% [markdown]
# | | LIF | H1v1 | H1v2 |
# | --- | --- | --- | --- |
# | weight | any voltage | number in ±0.9 | number in ±1.66 |
# | a spike brings | its weight | charge, bent curve | charge, straight line |
# | time constant | any, may be learnt | the nearest of 8 profiles | the nearest of 8 profiles |
# | threshold | any, may be learnt | one for the chip | one for the chip |
# | reset | your choice | to zero | subtraction |
# | membrane below zero | yes | no | no |
# | neurons | as many as you like | 4 cores of 64 | cores of 50, 50 and 100 |
#
# What is left to you on a chip: sizes, wiring (feed-forward, or recurrent within one core), which profile each neuron
# takes, and the weights. The constructors refuse the rest.

# %%
try:
    bh.nn.H1v1Layer(10, tau=brainstate.nn.Param(20 * u.ms))
except TypeError as error:
    print(error)

# %% [markdown]
# ## From weight to charge
#
# On the chip a spike moves a *charge* $q(w)$ onto the membrane capacitance $C$ and so lifts the membrane by $q(w)/C$.
# That H1v1 bends and H1v2 does not, and that H1v2 gives less charge a weight, is documented; the numbers are assumed.

# %%
figure, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
for chip in (bh.chip.H1V1, bh.chip.H1V2):
    w = np.linspace(-chip.weight_limit, chip.weight_limit, 101)
    ax.plot(w, chip.charge(w) / u.fcoulomb, label=chip.name)
ax.plot([-0.9, 0.9], [-0.9 * 1.034, 0.9 * 1.034], color="C0", linestyle=":", label="H1v1 without the bend")
millivolts = float((1 * u.fcoulomb / bh.chip.H1V1.C) / u.mV)
right = ax.secondary_yaxis("right", functions=(lambda q: q * millivolts, lambda V: V / millivolts))
right.set_ylabel("membrane step (mV)")
ax.set(xlabel="weight (dimensionless)", ylabel="charge of a spike (fC)")
ax.legend(frameon=False)
plt.show()

for chip in (bh.chip.H1V1, bh.chip.H1V2):
    most = chip.charge(chip.weight_limit)
    print(f"{chip.name}: {float(chip.V_th * chip.C / most):.1f} spikes through the largest weight reach threshold")
    assert 10 < float(chip.V_th * chip.C / most) < 15

# %% [markdown]
# A dozen spikes at once, through the largest weights there are: a chip neuron needs many inputs, or busy ones, while a
# LIF neuron takes any weight it needs. This is the first thing to think of when a chip network stays silent.
#
# ## The leak comes in profiles
#
# A requested time constant becomes the nearest profile, on a logarithmic scale. A move of more than one percent is
# reported in a warning, printed here.

# %%
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    layer = bh.nn.H1v1Layer(3, tau=[3, 20, 30] * u.ms)
print(caught[0].message)
print("taken:", layer.tau)
assert (layer.tau == [2, 20, 20] * u.ms).all()

# %% [markdown]
# ## Reset and clamp
#
# One neuron of each kind, the same threshold, time constant and input: a push well over threshold, later a pull, and
# then a push that is just enough. The LIF neuron takes voltages, the chip neurons the charges that make the same
# voltages.

# %%
pushes = np.zeros((80, 1))
pushes[[10, 40, 55], 0] = 160, -120, 105  # mV
C = bh.chip.H1V1.C
neurons = {
    "LIF": (bh.nn.LIFLayer(1, tau=20 * u.ms, V_th=100 * u.mV), pushes * u.mV),
    "H1v1": (bh.nn.H1v1Layer(1, tau=20 * u.ms), (pushes * u.mV * C).in_unit(u.fcoulomb)),
    "H1v2": (bh.nn.H1v2Layer(1, tau=20 * u.ms), (pushes * u.mV * C).in_unit(u.fcoulomb)),
}
fired = {}
figure, axes = plt.subplots(1, 3, figsize=(9.5, 3.2), sharey=True, layout="constrained")
for ax, (name, (neuron, drive)) in zip(axes, neurons.items(), strict=True):
    spikes, seen = bh.rollout(neuron, drive, record=("V", "V_pre"))
    fired[name] = np.nonzero(spikes[:, 0])[0].tolist()
    bh.visualize.plot_membrane(seen["V"], V_pre=seen["V_pre"], V_th=neuron.threshold(), ax=ax)
    ax.set_title(f"{name}: reset {neuron.reset!r}", y=1.1)
    ax.axhline(0, color="0.8", linewidth=1, zorder=0)
plt.show()
print("spikes, in ms:", fired)
assert fired == {"LIF": [10], "H1v1": [10, 55], "H1v2": [10, 55]}

# %% [markdown]
# At 10 ms H1v1 forgets what was over threshold, the other two keep it. At 40 ms the LIF membrane goes below zero and
# stays inhibited; on the chips, which are clamped at zero, the pull is gone as soon as it is over. So the last push
# makes the chips fire and the LIF neuron not.
#
# ## Prepare, then run
#
# A chip network is a module like any other, with one step more: `bh.prepare_net` computes, once per batch, the charge
# that each weight becomes (rounding, charge curve, mismatch). `bh.rollout` prepares by itself. Where you step by hand,
# a network that is not prepared, or whose weights have changed since, is an error and never a stale number.

# %%
n_in, n_neurons = 24, 50


class OneLayer(brainstate.nn.Module):
    def __init__(self, synapse, layer):
        super().__init__()
        self.synapse, self.layer = synapse, layer

    def update(self, x):
        return self.layer(self.synapse(x))


h1v1 = OneLayer(bh.nn.H1v1Synapse(n_in, n_neurons), bh.nn.H1v1Layer(n_neurons, tau=20 * u.ms))


def attempt():
    try:
        h1v1(jnp.ones(n_in))
    except RuntimeError as error:
        print(error, end="\n\n")
    else:
        print("runs\n")


attempt()
bh.prepare_net(h1v1)
attempt()
weights = np.random.default_rng(0).uniform(-0.9, 0.9, (n_in, n_neurons)).astype(np.float32)
h1v1.synapse.weight.value = jnp.asarray(weights)
attempt()

# %% [markdown]
# ## The same input through the three
#
# The recording of the tutorial before, and weights drawn evenly over the range of H1v1. H1v2 gets the same weights once
# as they are and once stretched to its wider range. The LIF net gets for each weight the voltage that the charge of
# H1v1 makes, and H1v1's threshold and reset.

# %%
data = bh.data.japanese_vowels()
scale = bh.data.fit_channel_scale(data.train)
x = jnp.asarray(bh.data.repeat_frames(bh.data.split_on_off(scale.apply(data.train).x[:1]), 4)[0])  # [T, 24]
x = x[: 4 * data.train.lengths[0]]


def h1v2_of(weights):
    synapse = bh.nn.H1v2Synapse(n_in, n_neurons, weight_init=weights)
    return OneLayer(synapse, bh.nn.H1v2Layer(n_neurons, tau=20 * u.ms))


def lif_of(weights, chip=bh.chip.H1V1):
    voltages = (chip.charge(weights) / chip.C).in_unit(u.mV)
    layer = bh.nn.LIFLayer(n_neurons, tau=20 * u.ms, V_th=chip.V_th, reset=chip.reset)
    return OneLayer(bh.nn.LIFSynapse(n_in, n_neurons, weight_init=voltages), layer)


nets = {
    "LIF": lif_of(weights),
    "H1v1": h1v1,
    "H1v2": h1v2_of(weights),
    "H1v2, stretched": h1v2_of(weights * 1.66 / 0.9),
}
figure, axes = plt.subplots(1, 4, figsize=(10, 3), sharey=True, layout="constrained")
counts = {}
for ax, (name, net) in zip(axes, nets.items(), strict=True):
    spikes, _ = bh.rollout(net, x)
    counts[name] = int(spikes.sum())
    bh.visualize.plot_raster(spikes, ax=ax)
    ax.set(title=f"{name}\n{counts[name]} spikes", ylabel="neuron" if name == "LIF" else "")
plt.show()
assert counts["H1v2"] < counts["H1v2, stretched"]
assert counts["LIF"] != counts["H1v1"]

# %% [markdown]
# H1v2 gets less charge from the same weight and fires a third as often; stretched to its own range it comes near H1v1.
# H1v1 and the LIF net differ by a few spikes, although each spike moves both membranes alike: what inhibition takes
# away below zero is lost on a chip. That the clamp is the whole difference shows where nothing pulls. With weights from
# zero up, the LIF net with the chip's charges, threshold and reset *is* the chip:

# %%
h1v1.synapse.weight.value = jnp.asarray(np.abs(weights))
on_chip, seen = bh.rollout(h1v1, x, record=("layer.V",))
as_lif, lif_seen = bh.rollout(lif_of(np.abs(weights)), x, record=("layer.V",))
print(f"spikes: chip {on_chip.sum():.0f}, LIF {as_lif.sum():.0f}, different {(on_chip != as_lif).sum()}")
assert (on_chip == as_lif).all()
assert np.allclose(seen["layer.V"] / u.mV, lif_seen["layer.V"] / u.mV, atol=1e-3)
h1v1.synapse.weight.value = jnp.asarray(weights)

# %% [markdown]
# ## No two chips are alike
#
# Leak currents vary from neuron to neuron, on H1v1 the effective weights too, on H1v2 the thresholds. (That they vary
# is documented, by how much is assumed.) `bh.sample_chip(net, key)` puts one chip in place. One key is one chip: it
# stays the same over steps, batches and calls, until another is put in place or `bh.nominal_chip` is called.


# %%
def spikes_and_membrane():
    spikes, seen = bh.rollout(h1v1, x, record=("layer.V",))
    return spikes, seen["layer.V"]


nominal, V = spikes_and_membrane()
figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.3), width_ratios=[2, 3], layout="constrained")
left.axhline(20, color="0.3", label="nominal")
right.plot(np.arange(len(x)), V[:, 0] / u.mV, color="0.3")
for key in range(3):
    bh.sample_chip(h1v1, key)
    spikes, V = spikes_and_membrane()
    again, _ = spikes_and_membrane()
    assert (again == spikes).all()
    assert (spikes != nominal).any()
    print(f"chip {key}: {spikes.sum():.0f} spikes instead of {nominal.sum():.0f}")
    left.plot(np.sort(h1v1.layer.chip_tau.value / u.ms), ".", label=f"chip {key}")
    right.plot(np.arange(len(x)), V[:, 0] / u.mV, linewidth=1)
left.set(xlabel="neuron, in ascending order", ylabel="time constant (ms)")
left.legend(frameon=False)
right.set(xlabel="time (ms)", ylabel="membrane of neuron 0 (mV)")
plt.show()

bh.nominal_chip(h1v1)
assert (spikes_and_membrane()[0] == nominal).all()

# %% [markdown]
# `bh.rollout(net, x, key=...)` takes a chip for that call alone. Inside of a training step, with another key for every
# batch, the network learns what works on most chips.
#
# ## Where next
#
# - [Train a spiking network](04_train_a_spiking_network.ipynb): gradients through spikes, on LIF and on chip layers
#   alike.
# - [Train for the chip](08_train_for_the_chip.ipynb): rounding, sign blocks, mismatch, placement, power, and the file.
# - [What is documented, what is assumed](../docs/chips.md): every number of both chips.
