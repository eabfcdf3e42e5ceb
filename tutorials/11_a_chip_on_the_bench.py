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
# # Calibrate a chip and train with it
#
# The presets of brainhw contain assumed values for the thresholds, time constants and charges of a chip. The values of
# a real chip differ from the preset and vary between neurons. A network that was trained on the preset therefore loses
# accuracy on a real chip. In this tutorial you measure the chip, enter the measured values into the model, and then
# train with the chip in the loop.
#
# **What you learn.** How to program the chip on a test bench, calibrate the model from three tables, compare the model
# with the chip, train with the chip in the loop, and export the result. You need no hardware. A `VirtualChip` simulates
# the bench and a chip whose parameters differ from the preset.
#
# **Who it is for.** Readers of [Train a network for a chip](08_train_for_the_chip.ipynb).
#
# Reading takes about 10 minutes, and running takes about 1 minute.

# %%

import os
import tempfile

import brainstate
import braintools
import brainunit as u
import matplotlib.pyplot as plt
import numpy as np

import brainhw as bh

brainstate.environ.set(dt=1.0 * u.ms)
brainstate.random.seed(0)

# %% [markdown]
# ## Train on the preset
#
# The data are the Japanese Vowels recordings, which are part of brainhw: nine speakers, 12 channels, 7 to 29 frames.
# During training the weights are quantised to the 5 bits of the chip.

# %%
N_CLASSES, POPULATION, N_HIDDEN, STEPS_PER_FRAME, BATCH = 9, 5, 60, 2, 54

data = bh.data.japanese_vowels()
scale = bh.data.fit_channel_scale(data.train)


def encode(split):
    x = bh.data.repeat_frames(bh.data.split_on_off(scale.apply(split).x), STEPS_PER_FRAME)
    return bh.data.Split(x=x, y=split.y, lengths=split.lengths * STEPS_PER_FRAME)


def time_first(x):
    return np.ascontiguousarray(np.swapaxes(x, 0, 1), dtype=np.float32)


train, test = encode(data.train), encode(data.test).take(slice(None, None, 2))
x_test, y_test = time_first(test.x), test.y


class SpeakerNet(brainstate.nn.Module):
    def __init__(self):
        super().__init__()
        n_out = N_CLASSES * POPULATION
        self.to_hidden = bh.nn.H1v2Synapse(24, N_HIDDEN, weight_bits="chip")
        self.hidden = bh.nn.H1v2Layer(N_HIDDEN, tau=20 * u.ms)
        self.to_output = bh.nn.H1v2Synapse(N_HIDDEN, n_out, weight_bits="chip")
        self.output = bh.nn.H1v2Layer(n_out, tau=20 * u.ms)

    def update(self, x):
        return self.output(self.to_output(self.hidden(self.to_hidden(x))))


def loss(outputs, y):
    votes = bh.train.population_votes(outputs, N_CLASSES)
    return braintools.metric.softmax_cross_entropy_with_integer_labels(votes, y).mean()


def accuracy(outputs, y):
    return bh.train.accuracy_population(outputs, y, N_CLASSES)


def train_model(net, epochs, learning_rate):
    bh.train.fit(
        net,
        (train.x, train.y),
        loss=lambda outputs, batch: loss(outputs, batch.y),
        epochs=epochs,
        batch_size=BATCH,
        learning_rate=learning_rate,
        sample_chips=False,
        progress=False,
    )


def on_model(net):
    return float(brainstate.transform.jit(lambda: accuracy(bh.rollout(net, x_test)[0], y_test))())


net = SpeakerNet()
bh.fluct_init(net, [train.take(slice(BATCH))], xi_target=1.0, in_range=True, key=0, verbose=False)
train_model(net, epochs=40, learning_rate=2e-2)
print(f"test accuracy on the model of the preset {on_model(net):.3f}")
trained = {path: state.value for path, state in net.states(brainstate.ParamState).items()}

# %% [markdown]
# ## Program the bench
#
# A **device** is a Python object that controls a chip. It has two methods. `program(program)` writes a network to the
# chip. `run(x)` returns a `Recording` of spikes and, if the bench can read them, membrane potentials. A `ChipProgram`
# contains everything that a bench needs to program a chip: the integer codes of the weights, the leak settings, the
# core and position of each neuron, and the connections.
#
# The virtual chip differs strongly from the preset. On average, each weight adds 65 % of the charge in the preset, the
# thresholds are 15 % higher, and the time constants are 14 ms instead of 20 ms. Time constants and thresholds also vary
# between neurons, and charges vary between synapses.

# %%
hidden = bh.silicon.scaled_chip(
    bh.chip.H1V2,
    gain=0.65,
    threshold=1.15,
    tau=0.7,
    leak_mismatch_std=0.4,
    threshold_mismatch_std=0.15,
    synapse_mismatch_std=0.2,
    noise_std=1.5 * u.mV,
)
bench = bh.silicon.VirtualChip(hidden, key=5)

program = bh.silicon.ChipProgram.of(net)
print(program)
bench.program(program)


def on_bench(net):
    bench.program(bh.silicon.ChipProgram.of(net))
    return float(accuracy(bench.run(x_test).spikes["output"], y_test))


as_trained = on_bench(net)
print(f"\ntest accuracy on the chip, as trained {as_trained:.3f}")

# %% [markdown]
# ## Calibrate
#
# The calibration uses up to three tables of measurements. They contain the charge of each weight code, the decay of the
# membrane potential at each leak setting, and the firing rate of each neuron for several inputs. In a laboratory you
# measure these values and save them as CSV files ([the page on calibration](../docs/calibrate.md) lists the columns).
# In this tutorial the measurements are simulated, for the neurons that the network uses. Each of the three tables is
# optional.

# %%
used = np.concatenate([program.physical(layer) for layer in program.layers])
tables = bh.silicon.synthetic_bench(bench.truth, seed=1, neurons=np.sort(used), inputs=(2, 4, 8, 12, 16))
calibration = bh.silicon.calibrate(tables.charge, tables.decays, tables.rates, chip="h1v2", progress=False)
print(calibration)
bh.visualize.plot_calibration(calibration)
plt.show()

# %% [markdown]
# `calibration.measured` is a `MeasuredChip`. It contains a chip spec with the measured mean values, whose provenance is
# `measured`, and the parameters of each physical neuron. `put_chip` sets the measured parameters in the model of the
# network. Each neuron of the model then has the time constant and the threshold of the physical neuron to which it is
# assigned. The weights do not change, so the model now predicts the low accuracy on this chip.
#
# `compare` runs the model and the bench on the same input. It counts how many spikes occur in both, in the same neuron
# and in the same time step.

# %%
preset = bh.silicon.compare(net, bench, x_test, y_test, n_classes=N_CLASSES)
bh.silicon.put_chip(net, calibration.measured)
measured = bh.silicon.compare(net, bench, x_test, y_test, n_classes=N_CLASSES)
print(measured)
for name, comparison in (("preset", preset), ("measured chip", measured)):
    print(f"{name:14} share of model spikes that also occur on the chip in the same step: {comparison.agreement:.2f}")
assert measured.agreement > 2 * preset.agreement

# %% [markdown]
# Further training on this model for a few epochs recovers much of the accuracy. This training does not use the chip.

# %%
train_model(net, epochs=10, learning_rate=2e-2)
calibrated = on_bench(net)
print(f"test accuracy on the chip: {as_trained:.3f} as trained, {calibrated:.3f} calibrated and trained further")

# %% [markdown]
# ## Train with the chip in the loop
#
# The tables do not contain the mismatch of the individual synapses. Training with `InTheLoop` does not need these
# values. Each training step writes the current weight codes to the chip, runs the batch on the chip, and replaces the
# spikes and membrane potentials of the model by the recorded spikes and membrane potentials. The gradient is then
# computed with the model. If the bench fails during a training step, the weights and the state of the optimizer do not
# change.

# %%
loop = bh.silicon.InTheLoop(net, bench, loss=loss, optimizer=braintools.optim.Adam(lr=1e-2), accuracy=accuracy)
for epoch in range(10):
    for batch in bh.data.batches(train, BATCH, seed=1, epoch=epoch):
        loop.step(time_first(batch.x), batch.y)

in_the_loop = on_bench(net)
print(f"test accuracy on the chip: {in_the_loop:.3f} after {loop.n_steps} steps in the loop")
assert in_the_loop > as_trained + 0.05

# %% [markdown]
# ## Export
#
# The bundle contains the weight codes, the placement and the measured chip. The model that is loaded from the bundle
# produces the same spikes as the exported model.

# %%
with tempfile.TemporaryDirectory() as folder:
    bundle, chip_file = os.path.join(folder, "speakers.bundle"), os.path.join(folder, "chip5.chip")
    calibration.measured.save(chip_file)
    bh.deploy.project_signs(net)
    bh.deploy.export_bundle(net, bundle, n_classes=N_CLASSES, notes="trained in the loop with chip 5")
    loaded = bh.deploy.load_bundle(bundle)
    again = bh.silicon.MeasuredChip.load(chip_file)
outputs = [brainstate.transform.jit(lambda net=one: bh.rollout(net, x_test)[0])() for one in (net, loaded)]
assert again == calibration.measured
assert int((outputs[0] != outputs[1]).sum()) == 0

# %% [markdown]
# ## Use your own chip
#
# Replace the `VirtualChip` by your own bench. A bench can be a class with the methods `program` and `run`, a Python
# function that you wrap in a `CallableDevice`, or a program in any language that you wrap in a `CommandDevice`. [Use a
# real chip](../docs/have_a_chip.md) describes the steps, [Connect a bench](../docs/bench_files.md) describes the files,
# and `gallery/chip_in_the_loop.py` measures each step on three chips. To calibrate on the command line, use
# `python -m brainhw calibrate charge.csv decay.csv fi.csv --family h1v2 -o chip7.chip`.
