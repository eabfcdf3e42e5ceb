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
# # Units and your first neuron
#
# **What you learn.** How to use quantities with units, how to set the time step, and how to run one leaky
# integrate-and-fire (LIF) neuron with a current or with spikes as input. You also learn three ways to run the neuron,
# and how the time step affects its firing rate.
#
# **Who it is for.** Everybody who starts with brainhw. You should know Python, NumPy and basic differential equations.
#
# Reading takes about 8 minutes, and running takes about 15 seconds.

# %%
import brainstate
import brainunit as u
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import brainhw as bh

# %% [markdown]
# ## Numbers with a unit
#
# Multiply a number by a unit to get a `Quantity`. You can calculate with a `Quantity` as with a number. The unit of the
# result is computed automatically.

# %%
tau = 20 * u.ms
print("sum            ", tau + 0.005 * u.second)
print("in another unit", tau.in_unit(u.second))
print("ratio          ", tau / (5 * u.ms))
print("rate           ", (1 / tau).in_unit(u.Hz))
print("Ohm's law      ", (15 * u.pA * (100 * u.Mohm)).in_unit(u.mV))

# %% [markdown]
# Operations without a physical meaning, such as the sum of a time and a voltage, raise an error. The ratio of two times
# is a plain number. To get a plain number, for example for a plot or for NumPy, divide a `Quantity` by a unit.

# %%
try:
    tau + 1 * u.mV
except u.UnitMismatchError as error:
    print(error)

print("plain number:", tau / u.second)
assert tau / u.second == 0.02

# %% [markdown]
# ## One neuron
#
# The membrane potential $V$ decays to zero with the time constant $\tau$. A current $I$ through the resistance $R$
# increases it:
#
# $$\tau \frac{dV}{dt} = -V + R I$$
#
# If $V$ reaches the threshold, the neuron emits a spike and the membrane potential is reset. The simulation advances in
# time steps $\Delta t$. If the current is constant within each time step, the equation has an exact solution, with
# $\beta = e^{-\Delta t/\tau}$:
#
# $$V_t = \beta V_{t-1} + x_t, \qquad x_t = (1 - \beta) R I_t$$
#
# `bh.nn.LIFLayer` is a layer of such neurons. In each time step its input is the voltage $x_t$.

# %%
neuron = bh.nn.LIFLayer(1, tau=20 * u.ms, V_th=1 * u.mV, reset="zero")

try:
    neuron(jnp.array([0.3]) * u.mV)
except RuntimeError as error:
    print(error)

# %% [markdown]
# A layer does not store the time step. It reads `dt` from the environment of brainstate when it runs, and raises an
# error if `dt` is not set. To set it for a whole script, call `brainstate.environ.set(dt=...)` once. To set it for one
# block of code, use `with brainstate.environ.context(dt=...)`.

# %%
brainstate.environ.set(dt=1 * u.ms)

for _ in range(4):
    spike = neuron(jnp.array([0.3]) * u.mV)
    print(f"membrane potential {neuron.V.value[0]:.3f}, spike {spike[0]:.0f}")

# %% [markdown]
# In each of the four steps the input is 0.3 mV. In the first step the membrane potential increases by 0.3 mV. In the
# following steps it increases by less because of the leak. In the fourth step it crosses the threshold of 1 mV, the
# neuron spikes, and the membrane potential is reset to zero. `neuron.V` and `neuron.spk` are *states*: objects that
# store a value from one time step to the next.

# %%
print(neuron.states())

# %% [markdown]
# ## Current as input
#
# A current of 15 pA flows through a resistance of 100 MOhm. Without a threshold, the membrane potential would approach
# 1.5 mV. The threshold is 1 mV. The current is switched on at 20 ms and off at 150 ms. `brainhw.rollout` resets the
# states, runs the layer over the whole input, and returns the output of every step. Time is the first axis of the
# input. The argument `record` is a list of state names. `rollout` also returns the values of these states in every
# step. `V` is the membrane potential after the reset. `V_pre` is the membrane potential before the reset, so it shows
# when the threshold is crossed.

# %%
R, n_steps = 100 * u.Mohm, 200
dt = brainstate.environ.get_dt()
time = np.arange(n_steps) * float(dt / u.ms)

current = np.where((time >= 20) & (time < 150), 15, 0)[:, None] * u.pA  # [T, 1]: time steps, one neuron
drive = ((1 - u.math.exp(-dt / tau)) * R * current).in_unit(u.mV)
spikes, seen = bh.rollout(neuron, drive, record=("V", "V_pre"))
print("input", drive.shape, "output", spikes.shape, "spikes at", time[np.nonzero(spikes[:, 0])], "ms")

figure, (top, bottom) = plt.subplots(2, figsize=(9, 4), height_ratios=[1, 3], sharex=True, layout="constrained")
top.step(time, current[:, 0] / u.pA, where="post", color="C2")
top.set(ylabel="current (pA)")
bh.visualize.plot_membrane(seen["V"], V_pre=seen["V_pre"], V_th=neuron.threshold(), ax=bottom)
plt.show()

# %% [markdown]
# ## Three ways to run a neuron
#
# There are three ways to run a neuron on an input. They produce the same spikes. A Python loop is the simplest way, but
# also the slowest, because Python executes every step. `brainstate.transform.for_loop` compiles the loop and then runs
# the machine code. `bh.rollout` first calls `bh.prepare_net`, which resets the states, and then runs a compiled loop.
# If the network is a chain of layers, `bh.rollout` is faster than `for_loop`.
#
# With the first two ways, states keep their values between runs. Reset them with `bh.prepare_net`.

# %%
bh.prepare_net(neuron)
python_loop = jnp.stack([neuron(drive[t]) for t in range(n_steps)])

bh.prepare_net(neuron)
compiled_loop = brainstate.transform.for_loop(neuron.update, drive)

assert (python_loop == spikes).all()
assert (compiled_loop == spikes).all()

# %% [markdown]
# Outside of a function under `jit`, every call to `for_loop` or `rollout` compiles the loop again. This takes a few
# tenths of a second. If code runs often, put it into a function decorated with `brainstate.transform.jit`. Such a
# function is compiled only at its first call. `brainstate.transform.jit` corresponds to `jax.jit`, but the function may
# read and write states.


# %%
@brainstate.transform.jit
def run(drive):
    return bh.rollout(neuron, drive)[0]


for picoampere in (9, 11, 15, 30):
    constant = jnp.full((n_steps, 1), picoampere) * u.pA
    count = run(((1 - u.math.exp(-dt / tau)) * R * constant).in_unit(u.mV)).sum()
    print(f"{picoampere:2d} pA: {count:.0f} spikes in {n_steps * dt}")

# %% [markdown]
# ## Firing rate against current
#
# If the membrane potential starts at zero and the current is constant, then $V(t) = R I\,(1 - e^{-t/\tau})$. The
# membrane potential reaches the threshold after
#
# $$T = -\tau \ln\left(1 - \frac{V_{th}}{R I}\right),$$
#
# and it never reaches the threshold if $R I < V_{th}$. Each spike resets the membrane potential to zero, so the next
# spike follows after the same time, and the firing rate is $1/T$. In the simulation the neuron can spike only at the
# end of a time step, so the interval between its spikes is $T$ rounded *up* to an integer multiple of $\Delta t$.
#
# In the next cell, 60 neurons receive 60 different currents for one second. The simulation runs three times, each time
# with a different time step.

# %%
currents = np.linspace(5, 60, 60) * u.pA
layer = bh.nn.LIFLayer(60, tau=tau, V_th=1 * u.mV, reset="zero")
overdrive = np.asarray(currents * R / u.mV)  # R I / V_th
fires = overdrive > 1
interval = -(tau / u.ms) * np.log(1 - 1 / overdrive[fires])  # in ms


def spike_counts(dt):
    """Return the number of spikes of each neuron in one second."""
    steps = round(float(1 * u.second / dt))
    with brainstate.environ.context(dt=dt):
        drive = ((1 - u.math.exp(-dt / tau)) * R * currents).in_unit(u.mV)
        return np.asarray(bh.rollout(layer, u.math.ones((steps, 1)) * drive)[0].sum(axis=0))


counts = {step: spike_counts(step * u.ms) for step in (0.1, 1.0, 5.0)}

figure, ax = plt.subplots(figsize=(9, 3.5), layout="constrained")
ax.plot(currents[fires] / u.pA, 1000 / interval, color="0.3", label="closed form")
for step, count in counts.items():
    ax.plot(currents / u.pA, count, ".", label=f"dt = {step:g} ms")
ax.axvline(10, color="0.7", linestyle="--", linewidth=1)
ax.text(10.6, 180, "R I = threshold", color="0.4")
ax.set(xlabel="current (pA)", ylabel="firing rate (Hz)")
ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

for step, count in counts.items():
    assert (count[~fires] == 0).all()
    rounded_up = np.ceil(interval / step)
    assert (count[fires] == round(1000 / step) // rounded_up).all()
    error = np.abs(count[fires] - 1000 / interval).max()
    print(f"dt = {step:3g} ms: at most {error:5.1f} Hz from the closed form")

# %% [markdown]
# Below the threshold the membrane potential is exact for every `dt`. A large time step changes only the *times* of the
# spikes. This also changes the firing rate of neurons that spike often. A neuron spikes at most once per time step. The
# scripts in `gallery/` use time steps from 1 to 5 ms.
#
# A function under `jit` keeps the value of `dt` with which it was compiled. Define a separate function for each `dt`.
#
# ## Spikes as input
#
# Most neurons receive spikes instead of currents. The input of a synapse is an array of zeros and ones, in which each
# one is a spike. The output is a voltage for each neuron: the sum of the weights of all inputs that spike in this time
# step. Here each of 100 inputs spikes at random with a mean rate of 10 Hz, and all weights are 0.04 mV.

# %%
n_inputs, rate, weight = 100, 10 * u.Hz, 0.04 * u.mV
synapse = bh.nn.LIFSynapse(n_inputs, 1, weight_init=u.math.ones((n_inputs, 1)) * weight)
net = brainstate.nn.Sequential(synapse, neuron)

probability = float(rate * dt)  # of a spike in one step; a frequency times a time has no unit
x = (np.random.default_rng(0).random((1000, n_inputs)) < probability).astype(np.float32)
spikes, seen = bh.rollout(net, x, record=("layers.1.V", "layers.1.V_pre"))

mean = (n_inputs * rate * weight * tau).in_unit(u.mV)
sigma = weight * float(n_inputs * rate * tau / 2) ** 0.5
print(f"without reset: mean {mean}, standard deviation {sigma:.3f}; with reset: {spikes.sum():.0f} spikes in 1 s")

figure, (top, bottom) = plt.subplots(2, figsize=(9, 4.5), height_ratios=[2, 3], sharex=True, layout="constrained")
bh.visualize.plot_raster(x, ax=top, color="C2")
top.set(xlabel="", ylabel="input")
bh.visualize.plot_membrane(
    seen["layers.1.V"], V_pre=seen["layers.1.V_pre"], V_th=neuron.threshold(), spikes=spikes, ax=bottom
)
plt.show()

# %% [markdown]
# Without a reset, the mean of the membrane potential is 0.8 mV, which is below the threshold of 1 mV. The neuron spikes
# only when a fluctuation raises its membrane potential to the threshold. The formula for the mean multiplies a number
# of inputs, a rate, a voltage and a time. The product is a voltage, so `in_unit(u.mV)` succeeds. If the formula had a
# different unit, `in_unit(u.mV)` would raise an error.
#
# To check the formulas for the mean and the standard deviation, the next cell runs the same neuron without a reset
# (`reset="none"`):

# %%
free = brainstate.nn.Sequential(synapse, bh.nn.LIFLayer(1, tau=tau, V_th=1 * u.mV, reset="none"))
_, seen = bh.rollout(free, x, record=("layers.1.V",))
V = seen["layers.1.V"][100:] / u.mV  # skip the first 100 ms, in which V rises from zero
print(f"measured: mean {V.mean():.3f} mV, standard deviation {V.std():.3f} mV")
assert abs(V.mean() - mean / u.mV) < 0.05
assert abs(V.std() - sigma / u.mV) < 0.03
assert 0 < spikes.sum() < 50

# %% [markdown]
# ## Next steps
#
# - [Build a network](02_build_a_network.ipynb): combine layers, synapses and readouts in a module, and run batches.
# - [Initialise a network with fluct_init](05_wake_a_network_with_fluct_init.ipynb): choose weights that give the
#   membrane potentials a suitable mean and fluctuation.
# - [Coming from other libraries](10_coming_from_other_libraries.ipynb): brainhw for users of snnTorch, Rockpool and
#   others.
# - `help(bh.nn.LIFLayer)` describes trainable time constants and thresholds, other resets, and recurrent weights.
