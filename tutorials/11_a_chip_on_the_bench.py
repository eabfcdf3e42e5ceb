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
# All thresholds, time constants and charges of the presets are assumed, and on a real chip they vary between neurons.
# A network that was trained on the preset loses accuracy there. This tutorial measures the chip, enters the measured
# values into the model, and then trains with the chip in the loop.
#
# **What you learn.** How to program a bench, calibrate from three tables, compare model and chip, train in the loop,
# and export the result. You need no hardware: a `VirtualChip` simulates the bench, with parameters that the network
# does not know.
#
# **Who it is for.** Readers of [Train a network for a chip](08_train_for_the_chip.ipynb).
#
# About 10 minutes to read, 1 minute to run.

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
# Japanese Vowels is part of brainhw: nine speakers, 12 channels, 7 to 29 frames. Weights are rounded to the 5 bits of
# the chip during training.

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
# A **device** is any object with two methods. `program(program)` writes a network to the chip. `run(x)` returns a
# `Recording` of spikes and, if the bench can read them, membrane potentials. `ChipProgram` holds the data for a
# bench: integer codes, leak settings, the core and position of each neuron, and the connections.
#
# The virtual chip differs strongly from the preset: it gives 65 % of the charge, its thresholds are 15 % higher, its
# time constants are 14 ms instead of 20 ms, and all of these vary between neurons.

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
# Three tables describe a chip: the charge of each code, the decay of the membrane potential at each leak setting, and
# the spike rate of each neuron against its input. In a laboratory they are recorded as CSV files ([the
# columns](../calibrate.md)). Here they are simulated for the neurons of the network. Any subset of the three tables
# works.

# %%
used = np.concatenate([program.physical(layer) for layer in program.layers])
tables = bh.silicon.synthetic_bench(bench.truth, seed=1, neurons=np.sort(used), inputs=(2, 4, 8, 12, 16))
calibration = bh.silicon.calibrate(tables.charge, tables.decays, tables.rates, chip="h1v2", progress=False)
print(calibration)
bh.visualize.plot_calibration(calibration)
plt.show()

# %% [markdown]
# The result is a `MeasuredChip`: mean values with the provenance `measured`, and the parameters of each physical
# neuron. `put_chip` applies it to the network. Each neuron then has the time constant and the threshold of its
# physical neuron. The weights do not change, so the model now predicts the low accuracy on this chip.
#
# `compare` runs model and bench on the same input and counts the spikes that both have in the same step.

# %%
preset = bh.silicon.compare(net, bench, x_test, y_test, n_classes=N_CLASSES)
bh.silicon.put_chip(net, calibration.measured)
measured = bh.silicon.compare(net, bench, x_test, y_test, n_classes=N_CLASSES)
print(measured)
for name, comparison in (("preset", preset), ("measured chip", measured)):
    print(f"{name:14} share of model spikes that the chip has in the same step: {comparison.agreement:.2f}")
assert measured.agreement > 2 * preset.agreement

# %% [markdown]
# A few epochs on this model, with a small learning rate, recover much of the accuracy. They do not need the chip.

# %%
train_model(net, epochs=10, learning_rate=2e-2)
calibrated = on_bench(net)
print(f"test accuracy on the chip: {as_trained:.3f} as trained, {calibrated:.3f} calibrated and trained on")

# %% [markdown]
# ## Train with the chip in the loop
#
# The tables do not contain the mismatch of each synapse. `InTheLoop` does not need it. Each step writes the current
# codes, runs the batch on the chip, and replaces spikes and membrane potentials of the model by the recorded ones.
# The gradient is computed with the model. If the bench fails, weights and optimizer keep their values from before the
# step.

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
# The bundle contains the codes, the placement and the measured chip. The loaded network gives the same spikes.

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
# Replace the `VirtualChip` by your bench: a class with `program` and `run`, a Python function in a `CallableDevice`,
# or a program in any language with a `CommandDevice`. [Use a real chip](../have_a_chip.md) describes the steps,
# [Connect a bench](../bench_files.md) describes the files, and `gallery/chip_in_the_loop.py` measures each step on
# three chips. On the command line,
# `python -m brainhw calibrate charge.csv decay.csv fi.csv --family h1v2 -o chip7.chip` calibrates.
