"""Public callables that the roster of nonsense leaves out, each with the reason."""

from __future__ import annotations

_STEP = "brainhw calls it inside a step, on arrays that the public call has checked; a check would run at each trace"
_MADE = "brainhw makes it from a network or a file that it has checked; nobody builds one by hand"

LEFT_OUT: dict[str, str] = {
    **dict.fromkeys(("Device.program", "Device.run"), "a protocol: the bench of the user implements it"),
    **dict.fromkeys(
        (
            "ALIFLayer.own_current", "ALIFLayer.resting_values", "ALIFLayer.widen_input", "CubaLIFLayer.own_current",
            "CubaLIFLayer.per_synapse", "CubaLIFLayer.recurrent_drive", "CubaLIFLayer.resting_values",
            "CubaLIFLayer.voltage_state", "CubaLIFLayer.write_voltage", "EffectiveWeight.applied",
            "EffectiveWeight.drawn", "EffectiveWeight.grid_of", "EffectiveWeight.of", "EffectiveWeight.pin",
            "EffectiveWeight.refresh", "EffectiveWeight.set_grid", "EffectiveWeight.signed", "Firing.advance",
            "Firing.after", "Firing.clamp", "Firing.spikes", "FractionalLayer.limit_reached",
            "FractionalLayer.parameters", "FractionalLayer.resting_values", "FractionalLayer.take_terms",
            "FractionalLayer.write", "FractionalMethod.density", "FractionalMethod.gain", "FractionalMethod.tail",
            "FractionalMethod.weights", "H1Layer.decay", "H1Layer.drawn", "H1Layer.pin_chip", "H1Layer.to_voltage",
            "LIFLayer.decay", "LIFLayer.to_voltage", "LeakyReadout.resting_values", "MultiSpike.derivative",
            "PeriodicExponential.derivative", "RestingStates.resting_values", "SpikingLayer.decay",
            "SpikingLayer.integrate", "SpikingLayer.recurrent_drive", "SpikingLayer.resting_values",
            "SpikingLayer.to_voltage", "StepPWL.derivative", "_ChipSynapse.pin_chip",
        ),
        _STEP,
    ),
    **dict.fromkeys(
        (
            "Export.add", "Export.columns", "Export.connect", "Export.gains", "Export.move_to_end", "Export.per_neuron",
            "Export.refuse", "Export.reordered", "Export.scaled", "Export.source",
            "StepTrace.link", "Survey.is_recurrent", "Survey.n_neurons", "Value.holding", "Value.same",
             "BundledNet.check_input", "deploy.BundledNet", "deploy.Firmware",
             "deploy.LayerSummary", "deploy.NetSummary", "deploy.FirmwareState", "deploy.Survey",
             "interop.nir.Export", "interop.nir.NIRNet",
             "interop.stablehlo.Port", "interop.stablehlo.StepProgram", "interop.state_dicts.StateDictNet",
             "nn.ChipWeight", "transform.Call", "transform.Link",
            "silicon.Calibration", "silicon.ChargeFit", "silicon.LeakFit", "silicon.NoiseFit", "silicon.SyntheticBench",
            "silicon.ThresholdFit", "transform.StepTrace", "transform.Stream", "transform.Value",
        ),
        _MADE,
    ),
    "keep_compiled": "it sets a folder for the whole process; tests/transform tries bad ones without setting any",
    "recipe.train_classifier": "each accepted value would be a training; tests/recipe tries all nonsense without one",
    **dict.fromkeys(
        ("Encoding.rows", "Encoding.standardised", "recipe.ChipClassifier", "recipe.Encoding"), _MADE
    ),
    **dict.fromkeys(
        ("data.Events", "train.Batch", "train.ClassScores", "train.Decision"),
        "a plain tuple of arrays, which what uses it checks",
    ),
    **dict.fromkeys(
        ("silicon.Comparison", "silicon.LayerComparison", "silicon.LayerFit", "silicon.RecordingsFit"), _MADE
    ),
    **dict.fromkeys(
        ("BundledNet.take_chip", "EffectiveWeight.take_chip", "H1Layer.take_chip", "_ChipSynapse.take_chip"),
        "put_chip calls it for each module of a net, with a chip that it has checked",
    ),
    **dict.fromkeys(
        ("nn.FractionalLayer", "nn.H1Frontend", "nn.H1Layer", "nn.H1Synapse", "nn.SpikingLayer",
        "surrogate.MultiSpike"),
        "an abstract class: its subclasses stand in the roster",
    ),
}  # fmt: skip
