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
# # Coming from other libraries
#
# The leaky integrate-and-fire neurons of two libraries can produce different spikes for the same input. Some libraries
# reset the membrane potential in the same time step as the spike, others reset it one time step later. Some use a decay
# factor `beta`, others use a time constant. Some multiply the input by a decay factor, others do not.
#
# **What you learn.** Which brainhw module corresponds to the neuron of your library, how the arguments are named, and
# how the two neurons differ. For each library, a short NumPy function implements the published equation. A check then
# shows that brainhw produces the same spikes as this function.
#
# **Who it is for.** Users of **snnTorch**, **Rockpool**, **spikeDE**, **NWAVE** and **brainpy.state**. Reading the
# section of your library takes about 5 minutes. Running the whole page takes about 10 seconds.
#
# The NumPy functions were compared with snnTorch 1.0.0, Rockpool 3.1.0, spikeDE 0.1.0 and brainpy 2.9.0. All spikes
# were equal. NWAVE could not be run, because its SDK is not public. For NWAVE, this page relies on the public website
# of the vendor.

# %%
import brainstate
import brainunit as u
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import brainhw as bh

brainstate.environ.set(dt=1.0 * u.ms)
rng = np.random.default_rng(0)

# %% [markdown]
# ## Overview
#
# | | shape of the input | how time is given | leak parameter | what the neuron does with the input |
# | --- | --- | --- | --- | --- |
# | snnTorch | `[T, B, N]` by convention | only through `beta` | `beta`, a factor | adds it |
# | Rockpool | `[B, T, N]` | seconds, as floats | `tau_mem`, `tau_syn` | applies the decay of one step, then adds it |
# | spikeDE | `[T, B, N]` | in units of `x_time` | `tau` and `alpha` | lets the membrane potential decay towards it |
# | NWAVE | `[B, T, N]` | seconds, as floats | `taus` | adds it as a charge |
# | brainpy.state | `[T, B, N]` | a Quantity | `tau` | adds it as a current, times `1 - exp(-dt/tau)` |
# | brainhw | `[T, B, N]` | a Quantity | `tau` | adds it: mV, or fC on a chip |
#
# | | condition for a spike | reset | argument of the surrogate | states are reset by |
# | --- | --- | --- | --- | --- |
# | snnTorch | `V > threshold` | one step later | `V - threshold` | `reset_mem()`, `utils.reset(net)` |
# | Rockpool | `V >= threshold`, several times per step | in the same step | `V` and `threshold` | `reset_state()` |
# | spikeDE | extrapolated `V >= threshold` | through the input | extrapolated `V - threshold` | every call |
# | NWAVE | not documented | in the same step | not documented | `prepare_net(net)` |
# | brainpy.state | `V >= V_th` | one step later | `(V - V_th) / (V_th - V_reset)` | `init_all_states(net)` |
# | brainhw | `V >= V_th` | in the same step | `(V - V_th) / V_th` | `bh.rollout`, `bh.prepare_net` |
#
# In snnTorch and spikeDE, which use `torch.nn.Linear`, the weights have the shape `[out, in]`. In all other libraries
# the shape is `[in, out]`. In Rockpool and NWAVE the time step is an argument of each module. In spikeDE it is the
# difference between consecutive values of `x_time`. In brainpy.state and brainhw it is set in `brainstate.environ`.
# (The conditions `V >= V_th` and `V > V_th` cause different spikes only if a membrane potential is exactly equal to the
# threshold. This can happen if inputs and weights are integers.)
#
# The helper function `run` runs a layer on inputs `[T, N]` and returns its spikes and its membrane potentials in mV.
# The helper function `check` compares these results with the results of the NumPy function.


# %%
def run(layer, drives, membrane):
    spikes, seen = bh.rollout(layer, jnp.asarray(drives, jnp.float32) * u.mV, record=(f".{membrane}",))
    return np.asarray(spikes), np.asarray(seen[f".{membrane}"] / u.mV)


def check(name, ours, theirs):
    differing = int((ours[0] != theirs[0]).sum())
    distance = np.abs(ours[1] - theirs[1]).max()
    print(f"{name}: {int(theirs[0].sum())} spikes, {differing} differ; membrane potentials within {distance:.0e} mV")
    assert differing == 0
    assert theirs[0].sum() > 50
    assert distance < 1e-4


# %% [markdown]
# ## snnTorch 1.0
#
# | snnTorch | brainhw |
# | --- | --- |
# | `snn.Leaky(beta)` | `bh.nn.LIFLayer(N, tau=-dt / log(beta))` |
# | `threshold=1.0` | `V_th=1 * u.mV` |
# | `reset_mechanism="zero"` | `reset="zero"`; the membrane potential of snnTorch is `V_pre` |
# | `reset_mechanism="subtract"`, the default | see below; `reset="subtract"` equals `Leaky(reset_delay=False)` |
# | `reset_mechanism="none"` | `reset="none"` |
# | `learn_beta=True`, `learn_threshold=True` | `tau=brainstate.nn.Param(...)`, `V_th=brainstate.nn.Param(...)` |
# | `spike_grad=surrogate.fast_sigmoid(25)` | `spk_fun=bh.surrogate.fast_sigmoid(25)`, default (snnTorch: `atan(2)`) |
# | `nn.Linear(in, out)` with bias | `bh.nn.LIFSynapse(in, out)`, weights `[in, out]` in mV, no bias |
# | `snn.RLeaky(all_to_all=True)` | `topology="RC"`, without bias |
# | `for step in range(T): spk, mem = lif(x[step], mem)` | `bh.rollout(net, x, record=("lif.V_pre",))` |
# | `SF.ce_count_loss()` | `softmax_cross_entropy_with_integer_labels(spikes.sum(axis=0), y)` of `braintools.metric` |
# | `SF.accuracy_rate` | `bh.train.accuracy`, `bh.train.accuracy_population` |
#
# `Leaky` resets the membrane potential one time step after the spike. With `reset_mechanism="zero"` this delay changes
# the stored membrane potential but not the spikes. With `"subtract"` it also changes the spikes. `Leaky` subtracts the
# threshold *after* the leak of the next step, so each spike lowers the next membrane potential by `threshold`. An
# immediate reset subtracts the threshold before this leak, so a spike lowers the next membrane potential by only
# `beta * threshold`. To get the spikes of `Leaky` in brainhw, use `reset="none"` and a recurrent weight of `-V_th` from
# each neuron to itself.


# %%
def snntorch_leaky(x, beta, threshold, reset):
    membranes, spikes = [], []
    mem, fired = np.zeros(x.shape[1:]), np.zeros(x.shape[1:])
    for drive in x:
        mem = beta * mem + drive - fired * (threshold if reset == "subtract" else beta * mem)
        fired = (mem > threshold).astype(float)
        membranes.append(mem)
        spikes.append(fired)
    return np.array(spikes), np.array(membranes)


n, beta = 8, 0.9
tau = -brainstate.environ.get_dt() / np.log(beta)
x = rng.uniform(0.0, 0.6, (200, n))

zero = bh.nn.LIFLayer(n, tau=tau, reset="zero")
check("Leaky, zero", run(zero, x, "V_pre"), snntorch_leaky(x, beta, 1.0, "zero"))

delayed = bh.nn.LIFLayer(n, tau=tau, reset="none", topology="RC", recurrent_init=-np.eye(n) * u.mV)
theirs = snntorch_leaky(x, beta, 1.0, "subtract")
check("Leaky, subtract", run(delayed, x, "V"), theirs)

at_once = run(bh.nn.LIFLayer(n, tau=tau), x, "V_pre")
print(f"immediate reset: {int(at_once[0].sum())} spikes instead of {int(theirs[0].sum())}")
assert at_once[0].sum() > theirs[0].sum()

# %% [markdown]
# If weights were trained in snnTorch with `"subtract"`, a network with these weights and `reset="subtract"` emits more
# spikes in brainhw. The recurrent weight described above avoids this. It is a trainable parameter, so exclude it from
# the optimizer. Alternatively, use `reset="subtract"` and continue the training in brainhw.

# %%
figure, ax = plt.subplots(figsize=(8, 3), layout="constrained")
steps = slice(0, 40)
ax.plot(theirs[1][steps, 0], "o-", markersize=3, label="snnTorch: reset one step later")
ax.plot(at_once[1][steps, 0], "s-", markersize=3, label="brainhw: immediate reset")
ax.axhline(1.0, color="0.5", linestyle="--", label="threshold")
ax.set(xlabel="time (ms)", ylabel="membrane potential\nbefore the reset (mV)")
ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
plt.show()

# %% [markdown]
# **Surrogates.** Both libraries use the same surrogate functions, but with different arguments. snnTorch passes
# `V - threshold`, and brainhw passes `(V - V_th) / V_th`. With a threshold of 1 there is no difference. With any other
# threshold, replace a slope `k` in snnTorch by the slope `k * V_th` in brainhw. The derivative of the spike with
# respect to the membrane potential in brainhw is then the derivative in snnTorch divided by `V_th` in mV.

# %%
V_th, slope, drive = 0.5, 5.0, 0.3
layer = bh.nn.LIFLayer(1, tau=tau, V_th=V_th * u.mV, spk_fun=bh.surrogate.fast_sigmoid(slope * V_th))


def spike(x):
    bh.prepare_net(layer)
    return layer(jnp.full((1,), x) * u.mV)[0]


derivative = float(brainstate.transform.grad(spike, argnums=0)(drive))
snntorch_derivative = 1 / (1 + slope * abs(drive - V_th)) ** 2
print(f"d spike / d V: snnTorch {snntorch_derivative:.4f}, brainhw {derivative:.4f}, at V_th = {V_th} mV")
assert abs(derivative - snntorch_derivative / V_th) < 1e-6

# %% [markdown]
# ## Rockpool 3.1
#
# | Rockpool | brainhw |
# | --- | --- |
# | `LIFTorch((N * S, N))`, `aLIFTorch((N * S, N))` | `bh.nn.CubaLIFLayer(N, S)`, `bh.nn.ALIFLayer(N, S)` |
# | `tau_mem=20e-3` | `tau_mem=20 * u.ms` |
# | `threshold`, `has_rec=True` | `V_th`, `w_rec=True` |
# | `spike_generation_fn=StepPWL` | `spk_fun=bh.surrogate.StepPWL()`, the default of these two layers |
# | trainable, unless `Constant(...)` | fixed, unless `brainstate.nn.Param(...)`; recurrent weights are trainable |
# | `out, state, record = module(x, record=True)` | `spikes, records = bh.rollout(layer, x, record=(".V",))` |
#
# These layers of brainhw behave like the neurons of Rockpool. An input decays for one time step before it changes the
# membrane potential. A neuron can spike several times in one time step. The after-hyperpolarisation of a spike starts
# one time step after the spike.


# %%
def rockpool_alif(x, tau_mem, tau_syn, tau_ahp, w_ahp, threshold=1.0):
    leak, synapse, slow = (np.exp(-1.0 / tau) for tau in (tau_mem, tau_syn, tau_ahp))
    v = current = hyperpolarisation = counts = np.zeros(x.shape[1:])
    spikes, membranes = [], []
    for drive in x:
        current = synapse * (current + drive)
        hyperpolarisation = slow * (hyperpolarisation + w_ahp * counts)
        v = leak * v + current + hyperpolarisation
        counts = np.maximum(np.floor(v / threshold), 0.0)
        v = v - counts * threshold
        spikes.append(counts)
        membranes.append(v)
    return np.array(spikes), np.array(membranes)


x = rng.uniform(0.0, 0.3, (200, n))
same = {"tau_mem": 20 * u.ms, "tau_syn": 10 * u.ms}
lif, alif = bh.nn.CubaLIFLayer(n, **same), bh.nn.ALIFLayer(n, **same, tau_ahp=50 * u.ms, w_ahp=-0.2 * u.mV)
check("LIFTorch", run(lif, x, "V"), rockpool_alif(x, 20.0, 10.0, 50.0, 0.0))
check("aLIFTorch", run(alif, x, "V"), rockpool_alif(x, 20.0, 10.0, 50.0, -0.2))

# %% [markdown]
# ## spikeDE 0.1
#
# | spikeDE | brainhw |
# | --- | --- |
# | `SNNWrapper(base, integrator="fdeint", alpha=...)` | the layers, then `bh.set_fractional_orders(net, alpha)` |
# | `LIFNeuron(tau, threshold)`, `IFNeuron` | `bh.nn.FractionalLIFLayer(N, tau=..., V_th=...)`, `FractionalIFLayer` |
# | `net(x, x_time, method="gl")` | `bh.rollout(net, x)` with `dt` of `x_time`; `method="gl"` on the layer |
# | `alpha_mode="per_layer"`, `"multiterm"` | the same argument of `bh.set_fractional_orders` |
# | `learn_alpha=True` | `learn_alpha="raw"` as in spikeDE; `True` keeps the order between 0 and 1 |
#
# spikeDE extrapolates the membrane potential linearly by one unit of time. If the extrapolated value reaches the
# threshold, the neuron spikes. The threshold is then subtracted from the input of the same time step, not from the
# membrane potential. The arguments that `bh.nn.spikede_preset()` returns select this behaviour in brainhw. By default,
# brainhw compares the membrane potential after the step with the threshold. In both cases the membrane potential is a
# weighted sum over the complete past, and the weights decrease as a power of time.


# %%
def spikede_lif(x, alpha, tau, threshold, step):
    weights = np.cumprod([1.0, *(1 - (1 + alpha) / m for m in range(1, len(x) + 1))])
    V, spikes = np.zeros((len(x) + 1, *x.shape[1:])), np.zeros(x.shape)
    for k, drive in enumerate(x):
        slope = (drive - V[k]) / tau
        spikes[k] = V[k] + slope >= threshold
        past = sum(weights[m] * V[k + 1 - m] for m in range(1, k + 1))
        V[k + 1] = step**alpha * (slope - spikes[k] * threshold / tau) - past
    return spikes, V[1:]


x, step = rng.uniform(0.0, 4.0, (64, n)), 0.125
layer = bh.nn.FractionalLIFLayer(n, alpha=0.6, tau=2 * u.ms, method="gl", **bh.nn.spikede_preset(time_unit=1 * u.ms))
with brainstate.environ.context(dt=step * u.ms):
    check("LIFNeuron, gl", run(layer, x, "V"), spikede_lif(x, 0.6, 2.0, 1.0, step))

# %% [markdown]
# ## NWAVE
#
# The NWAVE SDK is not public. This section uses only the public website of the vendor.
#
# | NWAVE | brainhw |
# | --- | --- |
# | `H1v1Synapse(nb_inputs=16, nb_outputs=32)` | `bh.nn.H1v1Synapse(16, 32)` |
# | `H1v1Layer(n_neurons=32, taus=10e-3)` | `bh.nn.H1v1Layer(32, tau=10 * u.ms)` |
# | `dt=1e-3`, `layer_topology="RC"`, `spike_grad` | `dt` in `brainstate.environ`, `topology="RC"`, `spk_fun` |
# | `LIFLayer(thresholds=1.0, reset_mechanism="subtraction")` | `bh.nn.LIFLayer(V_th=1 * u.mV, reset="subtract")` |
# | `prepare_net(self)` in `forward`, a loop over time | `bh.rollout(net, x)` |
# | `spk, mem = layer(cur)` | `spikes = layer(charge)`; the membrane potential is the state `layer.V` |
# | `fluct_init(model, dataloader, xi_target, alpha, n_batches)` | `bh.init.fluct_init` with the same arguments |
# | the `fluct_init` procedure of the vendor | `bh.init.fluct_init(..., **bh.init.nwave_preset())` |
# | `layer_pairs`, `frontend_stage` | the same names; add `graph_invisible_attrs = ("layer_pairs",)` to the class |
# | `weight_magnitude_loss(model)`, `topology_loss(model)` | the same names in `bh.train` |
# | `SignAnnealing(net, total_epochs)` | `bh.train.SignAnnealing(net, total_epochs)` |
# | `is_net_deployable(model)` | `bh.deploy.is_net_deployable(net)`; `check_deployable` lists the reasons |
# | `get_chip_consumption` | `bh.deploy.estimate_power(net, x)` |
# | `fast_sigmoid(slope=25)`, `atan(alpha=2)`, `sigmoid(slope=25)` | the same names in `bh.surrogate` |
#
# (The default surrogate of the H1 layers in brainhw is `fast_sigmoid(5)`.) The vendor publishes the derivatives of
# `fast_sigmoid`, `atan` and `sigmoid`. The next cell compares them with the derivatives in brainhw.

# %%
distances = np.linspace(-1.0, 1.0, 201)
published = {
    "atan, alpha 2": (bh.surrogate.atan(2.0), 1 / (1 + (np.pi * distances) ** 2)),
    "fast_sigmoid, slope 25": (bh.surrogate.fast_sigmoid(25.0), (25 * np.abs(distances) + 1) ** -2.0),
    "sigmoid, slope 25": (
        bh.surrogate.sigmoid(25.0),
        25 * np.exp(-25 * distances) / (np.exp(-25 * distances) + 1) ** 2,
    ),
}
for name, (ours, formula) in published.items():
    ours_there = np.asarray(ours.surrogate_grad(jnp.asarray(distances, jnp.float32)))
    distance = np.abs(ours_there - formula).max()
    print(f"{name}: largest difference {distance:.0e}")
    assert distance < 1e-4

# %% [markdown]
# According to the website of the vendor, the membrane potential cannot be negative, a spike resets it to zero on
# H1v1, and the charge is a nonlinear function of the weight. The threshold, the capacitance and the charge curve are
# **assumed** in brainhw. One published example constrains them. In this example a layer receives spikes from a frontend
# at a rate of 145.2 Hz, with a mean weight of 0.3841. The `fluct_init` of the vendor reports a mean membrane potential
# of `0.097`. The charge curve of brainhw was chosen to give this value for 16 inputs and for the time constant of the
# example, 10 ms.

# %%
chip = bh.chip.H1V1
layer = bh.nn.H1v1Layer(1, tau=10 * u.ms)
one_unit = jnp.zeros((400, 1)).at[0].set(1.0) * chip.charge.slope_at_zero
area = layer.subthreshold(one_unit).sum() * brainstate.environ.get_dt()
mean_membrane = (16 * 0.3841 * 145.2 * u.Hz * area).to(u.volt)
print(f"mean membrane potential {mean_membrane.mantissa:.3f} V")
assert abs(mean_membrane.mantissa - 0.097) < 5e-4


def h1v1(spikes_in, weights, tau):
    V_th, C = (float(q.mantissa) for q in (chip.V_th, chip.C))  # mV, fF: assumed
    charges = 1.034 * 1.8 * np.tanh(weights / 1.8)  # fC: assumed; fC / fF is a volt
    v, spikes, membranes = np.zeros(weights.shape[1]), [], []
    for arriving in spikes_in:
        v = np.maximum(np.exp(-1.0 / tau) * v + 1e3 * (arriving @ charges) / C, 0.0)
        fired = (v >= V_th).astype(float)
        membranes.append(v)
        spikes.append(fired)
        v = v * (1 - fired)
    return np.array(spikes), np.array(membranes)


weights, arriving = rng.uniform(-0.6, 0.9, (16, n)), (rng.random((200, 16)) < 0.3).astype(float)
net = brainstate.nn.Sequential(
    bh.nn.H1v1Synapse(16, n, weight_init=jnp.asarray(weights, jnp.float32)), bh.nn.H1v1Layer(n, tau=10 * u.ms)
)
spikes, seen = bh.rollout(net, jnp.asarray(arriving, jnp.float32), record=("layers.1.V_pre",))
ours = np.asarray(spikes), np.asarray(seen["layers.1.V_pre"] / u.mV)
theirs = h1v1(arriving, weights, 10.0)
print(f"H1v1, with the assumed constants: {int(theirs[0].sum())} spikes, {int((ours[0] != theirs[0]).sum())} differ")
assert (ours[0] == theirs[0]).all()
assert np.abs(ours[1] - theirs[1]).max() < 1e-2

# %% [markdown]
# If you have measured the charge curve, the threshold and the leak profiles of your chip, enter them once with
# `bh.chip.H1V1.replace(V_th=..., charge=bh.chip.TabulatedCharge(...),
# provenance="measured")`. Pass the result as `chip=` to each module.
#
# ## brainpy.state (brainpy 2.9)
#
# | brainpy.state | brainhw |
# | --- | --- |
# | `LIF(n, tau=20 * u.ms, V_th=1 * u.mV, R=1 * u.ohm)` | `bh.nn.LIFLayer(n, tau=20 * u.ms, V_th=1 * u.mV)` |
# | input in mA, multiplied by `1 - exp(-dt/tau)` | input in mV, added without a factor |
# | `spk_reset="soft"`, `"hard"` | `reset="subtract"`, `"zero"` |
# | `V` is the value before the reset | `V` is the value after the reset; `V_pre` is the value before it |
# | `tau` is not trainable | `tau=brainstate.nn.Param(...)` |
# | `init_all_states(net, batch_size=B)`, `for_loop(net.update, x)` | `bh.rollout(net, x)` |
# | `nn.Linear`, `Expon`, projections | `bh.nn.LIFSynapse`; `bh.nn.CubaLIFLayer` includes the exponential synapse |
#
# The modules of both libraries are brainstate modules, so optimizers, surrogates, transforms and states work in the
# same way. In brainhw the reset is the last operation of a time step. In brainpy.state it is the first operation of the
# next time step. This does not change the spikes.


# %%
def brainpy_lif(currents, tau, threshold, reset):
    decay, v = np.exp(-1.0 / tau), np.zeros(currents.shape[1:])
    spikes, membranes = [], []
    for current in currents:
        v = np.where(v >= threshold, v - threshold if reset == "soft" else 0.0, v)
        v = decay * v + (1 - decay) * current
        membranes.append(v)
        spikes.append((v >= threshold).astype(float))
    return np.array(spikes), np.array(membranes)


currents = rng.uniform(0.0, 3.0, (200, n))
for theirs, ours in (("soft", "subtract"), ("hard", "zero")):
    layer = bh.nn.LIFLayer(n, tau=20 * u.ms, reset=ours)
    drives = (1 - np.exp(-1.0 / 20.0)) * currents
    check(f"LIF, {theirs}", run(layer, drives, "V_pre"), brainpy_lif(currents, 20.0, 1.0, theirs))

# %% [markdown]
# ## Next steps
#
# - `docs/coming_from_snntorch.md`, `docs/coming_from_rockpool.md`, `docs/coming_from_spikede.md` and
#   `docs/coming_from_nwave.md` have the complete tables and describe the differences.
# - `04_train_a_spiking_network.py` shows how to write a training loop with brainstate.
# - `08_train_for_the_chip.py` shows how to train a network within the limits of a chip.
# - `docs/troubleshooting.md` lists problems, their causes and their solutions.
