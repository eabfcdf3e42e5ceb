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
# **What you learn.** How to use numbers with units, how to set the time step, and how to run one leaky
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
# result is computed as well.

# %%
tau = 20 * u.ms
print("sum            ", tau + 0.005 * u.second)
print("in another unit", tau.in_unit(u.second))
print("ratio          ", tau / (5 * u.ms))
print("rate           ", (1 / tau).in_unit(u.Hz))
print("Ohm's law      ", (15 * u.pA * (100 * u.Mohm)).in_unit(u.mV))

# %% [markdown]
# Operations without a physical meaning, such as the sum of a time and a voltage, raise an error. The ratio of two times
# is a plain number. To get a plain number for a plot or for NumPy, divide by the unit that you want.

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
# time steps $\Delta t$. If the current is constant within a step, the equation has an exact solution, with $\beta =
# e^{-\Delta t/\tau}$:
#
# $$V_t = \beta V_{t-1} + x_t, \qquad x_t = (1 - \beta) R I_t$$
#
# `bh.nn.LIFLayer` is a layer of such neurons. Its input at each step is the voltage $x_t$.

# %%
neuron = bh.nn.LIFLayer(1, tau=20 * u.ms, V_th=1 * u.mV, reset="zero")

try:
    neuron(jnp.array([0.3]) * u.mV)
except RuntimeError as error:
    print(error)

# %% [markdown]
# A layer does not store a time step. It reads `dt` from the environment when it runs, and raises an error if `dt` is
# not set. To set it for a whole script, call `brainstate.environ.set(dt=...)` once. To set it for one block of code,
# use `with brainstate.environ.context(dt=...)`.

# %%
brainstate.environ.set(dt=1 * u.ms)

for _ in range(4):
    spike = neuron(jnp.array([0.3]) * u.mV)
    print(f"membrane potential {neuron.V.value[0]:.3f}, spike {spike[0]:.0f}")

# %% [markdown]
# In each of the four steps the input is 0.3 mV. The membrane potential increases by a little less than 0.3 mV per step
# because of the leak. In the fourth step it crosses the threshold of 1 mV, the neuron spikes, and the membrane
# potential is reset to zero. `neuron.V` and `neuron.spk` are *states*: objects that keep a value from one step to the
# next.

# %%
print(neuron.states())

# %% [markdown]
# ## Current as input
#
# Without a threshold, 15 pA into 100 MOhm would bring the membrane potential to 1.5 mV. The threshold is 1 mV. The
# current is switched on at 20 ms and off at 150 ms. `brainhw.rollout` resets the states, runs the layer over the whole
# input, and returns the output of every step. Time is the first axis of the input. `record` names the states whose
# values are stored at every step. `V` is the membrane potential after the reset. `V_pre` is the membrane potential
# before the reset, so it shows where the threshold is crossed.

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
# ## Three ways to run it
#
# Below, the same neuron runs over the same input in three ways. A Python loop is the simplest way and the slowest,
# because Python executes every step. `brainstate.transform.for_loop` compiles one step and runs the loop in machine
# code. `bh.rollout` first calls `bh.prepare_net` and then runs such a compiled loop. If the network is a chain of
# layers, `bh.rollout` is faster than `for_loop`.
#
# States keep their values between runs. Reset them with `bh.prepare_net`.

# %%
bh.prepare_net(neuron)
python_loop = jnp.stack([neuron(drive[t]) for t in range(n_steps)])

bh.prepare_net(neuron)
compiled_loop = brainstate.transform.for_loop(neuron.update, drive)

assert (python_loop == spikes).all()
assert (compiled_loop == spikes).all()

# %% [markdown]
# Outside of `jit`, a `for_loop` or `rollout` is compiled at every call. This takes some tenths of a second. Put code
# that runs often into a function decorated with `brainstate.transform.jit`. Such a function is compiled at its first
# call only. `brainstate.transform.jit` corresponds to `jax.jit`, but the function may read and write states.


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
# and it never reaches the threshold if $R I < V_{th}$. After the reset this repeats, so the firing rate is $1/T$. In
# the simulation the neuron can spike only at the end of a step, so the interval between its spikes is $T$ rounded *up*
# to a whole number of steps.
#
# In the next cell, 60 neurons receive 60 different currents for one second. The simulation is repeated with three
# different time steps.

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
# Below the threshold the membrane potential is exact for every `dt`. A large step changes only the *times* of the
# spikes, and with them the rate of neurons that spike often. A neuron spikes at most once per step. The scripts in
# `gallery/` use time steps from 1 to 5 ms.
#
# A function under `jit` keeps the `dt` with which it was compiled. Define a separate function for each `dt`.
#
# ## Spikes as input
#
# Most neurons receive spikes instead of currents. A synapse takes spikes, given as zeros and ones, and returns voltage
# steps. Each spike adds the weight of its connection. Here 100 inputs spike at random at 10 Hz each, and every spike
# adds 0.04 mV.

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
# The mean of the membrane potential, 0.8 mV, is below the threshold. The neuron spikes only when fluctuations carry its
# membrane potential above the threshold. The units check the formula for the mean. A number of inputs times a frequency
# times a voltage times a time is a voltage, so `in_unit(u.mV)` succeeds. With a wrong combination of units it would
# raise an error.
#
# To check the values of both formulas, the next cell runs the same neuron without a reset (`reset="none"`):

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
# - [Initialise a network with fluct_init](05_wake_a_network_with_fluct_init.ipynb): choose weights from the mean and
#   the fluctuation of membrane potentials.
# - [Coming from other libraries](10_coming_from_other_libraries.ipynb): brainhw for users of snnTorch, Rockpool and
#   others.
# - `help(bh.nn.LIFLayer)` describes learnt time constants and thresholds, other resets, and recurrent weights.
