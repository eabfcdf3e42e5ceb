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
# # Wake a network with `fluct_init`
#
# **What you learn.** Why deep spiking networks start silent, in one line of arithmetic; how `bh.init.fluct_init` wakes
# them; what that changes in rates, membranes, gradients and training; what its one number, `xi`, means; and what the
# weight range of a chip does to it.
#
# **Who it is for.** Readers who have [trained a network](04_train_a_spiking_network.ipynb).
#
# Some ten minutes to read, half a minute to run.
#
# A layer that never spikes sends nothing forward and gets almost no gradient back. Deep networks on sparse spikes often
# start like that: each layer is quieter than the one before, and the last ones are silent.

# %%
import warnings

import brainstate
import braintools
import brainunit as u
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import brainhw as bh

brainstate.environ.set(dt=2.0 * u.ms)
brainstate.random.seed(0)

# %% [markdown]
# ## Sparse spikes, deep network
#
# Randman is generated: ten classes, 20 inputs, and every input fires exactly once in 100 steps of 2 ms. All that tells
# the classes apart is when. The network has four hidden layers of 64 LIF neurons and a leaky readout.

# %%
data = bh.data.randman()
sample = data.train.x[:256]  # [B, T, N], as loaders give it
print(data)


def deep_net(n_layers=4, width=64):
    brainstate.random.seed(0)
    stages = []
    for n_in in (20, *[width] * (n_layers - 1)):
        stages.append(bh.nn.LIFSynapse(n_in, width))
        stages.append(bh.nn.LIFLayer(width, tau=20 * u.ms, spk_fun=bh.surrogate.fast_sigmoid(slope=10)))
    return brainstate.nn.Sequential(*stages, bh.nn.LeakyReadout(width, data.n_classes, tau=20 * u.ms))


# %% [markdown]
# Start with the weights that suit ordinary networks: Kaiming's variance of `2 / n_in`, here in units of the threshold.
# `bh.init.fluct_report` runs any network on data and measures every layer. It changes nothing.

# %%
asleep = deep_net()
bh.init.kaiming_init(asleep, key=0)
before = bh.init.fluct_report(asleep, [sample])
print(before)
bh.visualize.plot_fluct_report(before)
plt.show()

# %% [markdown]
# Read the table from top to bottom: the inputs fire at 5 Hz, the first layer answers with about 1 Hz, and the last one
# not at all. In the figure each row is a layer. At the left stands what one spike does to the membrane per unit of
# weight; in the middle the distribution of the membranes, as they would be without spikes, against the threshold at 1;
# at the right the rate of every neuron. The membranes shrink towards zero from row to row.
#
# ## Why it died
#
# A spike of weight $w$ moves a membrane by $w\,e^{-t/\tau}$. Let $n$ inputs fire at rate $\nu$, independently, with
# weights of mean zero and spread $\sigma_W$. The membrane then fluctuates around zero with
#
# $$\sigma_U = \sigma_W \sqrt{n \, \nu \, \hat\epsilon}, \qquad \hat\epsilon = \int_0^\infty e^{-2t/\tau} dt = \tau/2,$$
#
# and the threshold lies $\xi = (V_{th} - \mu_U) / \sigma_U$ standard deviations away. Kaiming's rule fixes
# $\sigma_W = V_{th} \sqrt{2/n}$, so the number of inputs cancels and $\xi = 1 / \sqrt{\nu \tau}$. It depends on the
# rate alone: few spikes in, a far threshold, fewer spikes out, a threshold still further away in the next layer.

# %%
print("layer  rate in   xi by the formula  xi measured (median)  silent neurons")
for layer in before.layers:
    with np.errstate(divide="ignore"):
        formula = 1 / np.sqrt(float(layer.nu_in * 20 * u.ms))
    print(f"{layer.index:5}  {layer.nu_in:6.2f}  {formula:18.1f}  {layer.xi_median:20.1f}  {layer.dead:8} of 64")

assert before.layers[-1].dead == 64

# %% [markdown]
# For the first two layers the rate alone gives the distance within a fifth: each input fires once here, not as a
# Poisson process, and the first milliseconds have no past, so the real membranes are a bit quieter. Further down
# hardly a neuron fires at all, and most of the spikes that the formula counts on come from the same few neurons.
#
# ## Wake it
#
# `fluct_init` turns the formula around. You say how far the threshold shall be, `xi_target`, and it looks for the
# weights: it measures the response to a spike on the real layer, predicts the variance from your data, draws weights,
# runs the layer, and goes on with the spikes that come out. `families="any"` allows neurons that are not on a chip.

# %%
awake = deep_net()
after = bh.init.fluct_init(awake, [sample], xi_target=1.0, families="any", key=0, return_report=True)
print(after)
bh.visualize.plot_fluct_report(after)
plt.show()

assert all(layer.dead == 0 for layer in after.layers)
assert all(abs(layer.xi_median - 1) < 0.1 for layer in after.layers)

# %% [markdown]
# All four layers now fluctuate at the distance that was asked for, and no neuron is silent. Weights are in mV; look at
# their spread: the first layer has 20 slow inputs and needs large weights, the others have 64 faster ones and need
# less.
#
# ## Does it learn?
#
# Both networks are trained in the same way. The step also returns the norm of the gradient in each synapse, so the
# very first step says what each layer is given to learn from.


# %%
def train(net, epochs=5):
    weights = net.states(brainstate.ParamState)
    optimizer = braintools.optim.Adam(lr=2e-3)
    optimizer.register_trainable_weights(weights)

    def loss(x, y):
        logits, _ = bh.rollout(net, x)
        highest = logits.max(axis=0)  # [B, classes]: the highest value at any step
        hits = (highest.argmax(axis=-1) == y).mean()
        return braintools.metric.softmax_cross_entropy_with_integer_labels(highest, y).mean(), hits

    gradient = brainstate.transform.grad(loss, weights, has_aux=True, return_value=True)

    @brainstate.transform.jit
    def step(x, y):
        grads, value, hits = gradient(x, y)
        optimizer.update(grads)
        return value, hits, [jnp.linalg.norm(u.get_mantissa(g)) for g in grads.values()]

    @brainstate.transform.jit
    def evaluate(x, y):
        return loss(x, y)[1]

    curve, norms = [], None
    x_test, y_test = jnp.swapaxes(data.test.x, 0, 1), jnp.asarray(data.test.y)
    for epoch in range(epochs):
        for batch in bh.data.batches(data.train, 128, seed=0, epoch=epoch):
            *_, sizes = step(jnp.swapaxes(batch.x, 0, 1), jnp.asarray(batch.y))
            norms = np.array(sizes) if norms is None else norms
        curve.append(float(evaluate(x_test, y_test)))
    return norms, np.array(curve)


runs = {"Kaiming": train(asleep), "fluct_init": train(awake)}

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
places = ["1", "2", "3", "4", "readout"]
for name, (norms, curve) in runs.items():
    left.semilogy(places, np.where(norms > 0, norms, np.nan), "o-", label=name)
    right.plot(np.arange(1, len(curve) + 1), curve, "o-", label=name)
    print(f"{name:10}  gradients {', '.join(f'{n:.1e}' for n in norms)}  test accuracy {curve[-1]:.3f}")
left.set(xlabel="synapses of layer", ylabel="gradient norm (1/mV; readout: 1)", title="before the first step")
right.axhline(1 / data.n_classes, color="0.5", linestyle="--", label="chance")
right.set(xlabel="epoch", ylabel="test accuracy", ylim=(0, 1), xticks=range(1, len(curve) + 1))
right.legend(frameon=False)
plt.show()

assert (runs["fluct_init"][0][:4] > 50 * runs["Kaiming"][0][:4]).all()
assert runs["fluct_init"][1][-1] > runs["Kaiming"][1][-1] + 0.1

# %% [markdown]
# The silent network's gradients are some hundred to a thousand times smaller, and exactly zero (missing in the figure)
# behind the last spike: in the synapses of the fourth layer and in the readout. A few epochs pass before it wakes up by
# itself; with more layers it may never do so. [Starting alive](../docs/fluct_init.md) has the numbers for 2 to 8 layers
# and for chips.
#
# ## What `xi` means
#
# `xi` is the distance from the mean membrane to the threshold in standard deviations. At 1 a neuron crosses often and
# fires much; at 3 it waits for rare coincidences. One layer on the same data, three times:

# %%
figure, axes = plt.subplots(1, 3, figsize=(9, 2.8), sharey=True, layout="constrained")
one = brainstate.nn.Sequential(bh.nn.LIFSynapse(20, 64), bh.nn.LIFLayer(64, tau=20 * u.ms))
for ax, xi in zip(axes, (1.0, 2.0, 3.0), strict=True):
    report = bh.init.fluct_init(one, [sample], xi, families="any", verbose=False, return_report=True)
    layer = report.layers[0]
    bh.visualize.plot_membrane_distribution(layer, ax=ax)
    ax.set_xlim(-1.5, 1.5)
    print(f"xi {xi:g}: weights of {layer.weight_spread:.2f} mV, rate {layer.nu_out:.1f}, {layer.dead} silent")
    assert abs(layer.xi_median - xi) < 0.1 * xi
for ax in axes[1:]:
    ax.set_ylabel("")
plt.show()

# %% [markdown]
# (Shaded: above threshold. The left distribution goes on at both sides.) Between 1 and 3 is the recommended range.
# Small values suit deep networks and sparse input, where rates would otherwise fade; larger ones save spikes. Outside
# of that range `fluct_init` warns.
#
# ## Look at any network
#
# The report needs no initialisation: it measures whatever you have. Here is the network after its training. Learning
# has moved the membranes, as it should.

# %%
trained = bh.init.fluct_report(awake, [sample])
figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
bh.visualize.plot_layer_rates(trained, ax=ax)
ax.set_title("after training: a dot for each neuron, a bar for the mean")
plt.show()
for layer in trained.layers:
    print(f"layer {layer.index}: xi {layer.xi_median:.2f}, rate {layer.nu_out:.1f}, {layer.dead} silent")

# %% [markdown]
# ## On a chip: `in_range`
#
# An H1 chip cannot take any weight. Give `fluct_init` a network of chip layers and analog input, the Japanese vowels:
# 24 channels, each frame held for two steps.

# %%
vowels = bh.data.japanese_vowels()
scale = bh.data.fit_channel_scale(vowels.train)
frames = bh.data.repeat_frames(bh.data.split_on_off(scale.apply(vowels.train).x), 2)[::2]
# Every step counts, the still ones behind a short recording too: the net of this section is to hear them all.
lengths = [frames.shape[1]] * len(frames)


def chip_net():
    return brainstate.nn.Sequential(
        bh.nn.H1v1Synapse(24, 50),
        bh.nn.H1v1Layer(50, tau=20 * u.ms),
        bh.nn.H1v1Synapse(50, 45),
        bh.nn.H1v1Layer(45, tau=20 * u.ms),
    )


free, bounded = chip_net(), chip_net()
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    bh.init.fluct_init(free, [frames], in_range=False, lengths=lengths, verbose=False)
for warning in said:
    print(warning.message)

# %% [markdown]
# Each sentence says what is wrong and what would mend it. The first layer meets its target with some weights that the
# chip cannot store. The second hears a few slow spikes, and a weight brings ever less charge the larger it is (an
# assumption about this chip, see `print(bh.chip.H1V1)`): even weights of 12 do not make it fluctuate enough. With
# `in_range=True` the spread stays within the range, and the mean is raised instead until the neurons come as near to
# threshold as was asked for. The default, `'auto'`, does so for every layer that meets its target that way.

# %%
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    bh.init.fluct_init(bounded, [frames], in_range=True, lengths=lengths, verbose=False)
for warning in said:
    print(warning.message)
figure, axes = plt.subplots(2, 1, figsize=(7, 5), layout="constrained")
for ax, (title, net) in zip(axes, {"as targeted": free, "in_range=True": bounded}.items(), strict=True):
    bh.visualize.plot_weight_histogram(net, ax=ax)
    ax.set_ylabel(f"{title}\ndensity")
    for layer in bh.init.fluct_report(net, [frames], lengths=lengths).layers:
        print(
            f"{title:13}  layer {layer.index}: xi {layer.xi_median:.2f}, rate {layer.nu_out:.0f}, "
            f"{layer.dead} silent, {layer.out_of_range} weights out of range"
        )
plt.show()

assert bh.train.out_of_range(free) > 0
assert bh.train.out_of_range(bounded) == 0

# %% [markdown]
# Keep the weights there while you train: `bh.train.clip_weights(net)` after each step, as the chip scripts of the
# gallery do.
#
# ## Where next
#
# - [Starting alive: fluct_init](../docs/fluct_init.md): every step of the method, its validation, and where it does
#   not help.
# - `gallery/deep_networks.py`: the same comparison with more layers, on three more data sets and on chips.
# - [Adaptive neurons](06_adaptive_lif_on_ecg.ipynb): neurons that tire, on electrocardiograms.
