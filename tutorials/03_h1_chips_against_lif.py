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
# # H1 chips compared with LIF neurons
#
# **What you learn.** Which properties of a network the chips H1v1 and H1v2 fix, and which properties you choose. Which
# chip parameters the vendor documents, and which brainhw assumes. How chip neurons and LIF neurons differ in the effect
# of a spike, the leak and the reset. Why a chip network must be prepared before it runs. How chips of the same type
# differ from each other.
#
# **Who it is for.** Readers of [Build a network](02_build_a_network.ipynb) who want to use an H1 chip.
#
# Reading takes about 10 minutes, and running takes about 15 seconds.

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
# ## A chip model is one object
#
# A `ChipSpec` contains every parameter of a chip model, with its unit and its provenance. The provenance is
# *documented* if the vendor published the value. It is *assumed* if the vendor did not publish the value. In this case
# brainhw uses a value that agrees with all published information.

# %%
print(bh.chip.H1V1)

# %%
for chip in (bh.chip.H1V1, bh.chip.H1V2):
    sources = list(chip.provenance.values())
    print(f"{chip.name}: {sources.count('documented')} documented, {sources.count('assumed')} assumed")
print(bh.chip.H1V1.notes["V_th"])

# %% [markdown]
# `table(notes=True)` prints the notes on all parameters. Use these models for qualitative results and comparisons. For
# absolute times, voltages and powers you need measurements of your chip. Use `replace` to create a chip spec with the
# measured values. The code of your network stays the same:

# %%
mine = bh.chip.H1V1.replace(V_th=95 * u.mV, provenance="measured")
print(*(line for line in str(mine).splitlines() if line.startswith("*")), sep="\n")
assert mine.provenance["V_th"] == "measured"

# %% [markdown]
# | | LIF | H1v1 | H1v2 |
# | --- | --- | --- | --- |
# | weight | any voltage | number in ±0.9 | number in ±1.66 |
# | effect of a spike | adds the weight | adds a charge, nonlinear in the weight | adds a charge, linear in the weight |
# | time constant | any, may be trainable | the nearest of 8 profiles | the nearest of 8 profiles |
# | threshold | any, may be trainable | the same for all neurons | the same for all neurons |
# | reset | your choice | to zero | subtracts the threshold |
# | membrane potential below zero | yes | no | no |
# | neurons | any number | 4 cores of 64 | cores of 50, 50 and 100 |
#
# In a chip network you choose the layer sizes, the connections (feed-forward, or recurrent within one core), the leak
# profile of each neuron, and the weights. The chip fixes all other properties. If an argument conflicts with the chip,
# the constructor raises an error.

# %%
try:
    bh.nn.H1v1Layer(10, tau=brainstate.nn.Param(20 * u.ms))
except TypeError as error:
    print(error)

# %% [markdown]
# ## From weight to charge
#
# On the chip, each input spike with the weight $w$ adds a *charge* $q(w)$ to the membrane capacitance $C$, so the
# membrane potential changes by $q(w)/C$. The vendor documents that the curve $q(w)$ is nonlinear on H1v1 and linear on
# H1v2, and that the same weight adds less charge on H1v2. The values of both curves are assumed.

# %%
figure, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
for chip in (bh.chip.H1V1, bh.chip.H1V2):
    w = np.linspace(-chip.weight_limit, chip.weight_limit, 101)
    ax.plot(w, chip.charge(w) / u.fcoulomb, label=chip.name)
ax.plot([-0.9, 0.9], [-0.9 * 1.034, 0.9 * 1.034], color="C0", linestyle=":", label="H1v1 without the bend")
millivolts = float((1 * u.fcoulomb / bh.chip.H1V1.C) / u.mV)
right = ax.secondary_yaxis("right", functions=(lambda q: q * millivolts, lambda V: V / millivolts))
right.set_ylabel("change of membrane potential (mV)")
ax.set(xlabel="weight (dimensionless)", ylabel="charge of a spike (fC)")
ax.legend(frameon=False)
plt.show()

for chip in (bh.chip.H1V1, bh.chip.H1V2):
    most = chip.charge(chip.weight_limit)
    print(f"{chip.name}: {float(chip.V_th * chip.C / most):.1f} spikes through the largest weight reach threshold")
    assert 10 < float(chip.V_th * chip.C / most) < 15

# %% [markdown]
# Even with the largest weight, a neuron needs about twelve simultaneous input spikes to reach the threshold. A chip
# neuron therefore spikes only if it has many inputs or high input rates. The weights of a LIF neuron can have any
# value, so it can spike with few inputs. If a chip network is silent, first check whether its neurons receive enough
# spikes.
#
# ## Leak profiles
#
# A chip offers eight leak profiles, each with a fixed time constant. brainhw chooses the profile whose time constant is
# nearest to the requested time constant on a logarithmic scale. If the two time constants differ by more than one
# percent, brainhw warns. The next cell prints such a warning.

# %%
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    layer = bh.nn.H1v1Layer(3, tau=[3, 20, 30] * u.ms)
print(caught[0].message)
print("used:", layer.tau)
assert (layer.tau == [2, 20, 20] * u.ms).all()

# %% [markdown]
# ## Reset and clamp
#
# The next cell runs one neuron of each kind with the same threshold, time constant and input. The input consists of
# three pulses. The first pulse is far above the threshold, the second pulse is negative, and the third pulse is
# slightly above the threshold. The input of the LIF neuron is a voltage. The input of the chip neurons is the charge
# that changes the membrane potential by this voltage.

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
# The reset at 10 ms sets the membrane potential of H1v1 to zero. In the other two neurons it subtracts the threshold,
# so the excess above the threshold remains. At 40 ms the membrane potential of the LIF neuron becomes negative and
# decays slowly. The membrane potential of a chip neuron cannot be negative, so the inhibition ends with the pulse.
# Therefore the last pulse makes the chip neurons spike, but not the LIF neuron.
#
# ## Prepare a network, then run it
#
# A chip network must be prepared with `bh.prepare_net` before it runs. This function computes the charge of each weight
# once per batch. It includes the rounding, the charge curve and the mismatch. `bh.rollout` calls `bh.prepare_net`
# automatically. If you run single steps yourself, call it before the first step. A step raises an error if the network
# was not prepared or if its weights have changed since then. A network therefore never runs with outdated charges.

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
# ## The same input through three neuron types
#
# The input is the first recording of the previous tutorial. The weights are drawn at random from a uniform distribution
# over the weight range of H1v1. The H1v2 network runs twice: once with the same weights, and once with these weights
# scaled to the wider range of H1v2. The weights of the LIF network are the voltages that the charges of H1v1 cause. The
# LIF network has the same threshold and reset as H1v1.

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
# On H1v2 the same weight adds less charge, so the H1v2 network emits only a third as many spikes as the H1v1 network.
# With scaled weights it emits about as many spikes as the H1v1 network. The spikes of the LIF network differ a little
# from those of the H1v1 network, although the input causes the same voltages in both. The reason is inhibition: it
# makes the membrane potential of a LIF neuron negative, but the membrane potential of a chip neuron stops at zero. With
# non-negative weights there is no inhibition, and both networks emit exactly the same spikes:

# %%
h1v1.synapse.weight.value = jnp.asarray(np.abs(weights))
on_chip, seen = bh.rollout(h1v1, x, record=("layer.V",))
as_lif, lif_seen = bh.rollout(lif_of(np.abs(weights)), x, record=("layer.V",))
print(f"spikes: chip {on_chip.sum():.0f}, LIF {as_lif.sum():.0f}, different {(on_chip != as_lif).sum()}")
assert (on_chip == as_lif).all()
assert np.allclose(seen["layer.V"] / u.mV, lif_seen["layer.V"] / u.mV, atol=1e-3)
h1v1.synapse.weight.value = jnp.asarray(weights)

# %% [markdown]
# ## Chips differ from each other
#
# On both chips the leak currents vary between neurons. In addition, the effective weights vary on H1v1, and the
# thresholds vary on H1v2. (The vendor documents this variation. The size of the variation is assumed.)
# `bh.sample_chip(net, key)` applies the mismatch of one sampled chip. The same key always gives the same chip. The
# network keeps this mismatch until you sample another chip or call `bh.nominal_chip`.


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
right.set(xlabel="time (ms)", ylabel="membrane potential of neuron 0 (mV)")
plt.show()

bh.nominal_chip(h1v1)
assert (spikes_and_membrane()[0] == nominal).all()

# %% [markdown]
# `bh.rollout(net, x, key=...)` samples a chip for this call only. If you train with a new key for every batch, the
# network learns weights that work on most chips.
#
# ## Next steps
#
# - [Train a spiking network](04_train_a_spiking_network.ipynb): compute gradients through spikes, for LIF and chip
#   layers.
# - [Train a network for a chip](08_train_for_the_chip.ipynb): train with rounding, sign blocks and mismatch, then place
#   and export the network.
# - [Chip parameters](../docs/chips.md) lists every parameter of both chips.
