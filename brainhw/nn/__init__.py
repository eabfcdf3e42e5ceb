"""Network modules that are simulated step by step: synapses, neuron layers, frontends and readouts."""

from brainhw.nn.alif import ALIFLayer
from brainhw.nn.cuba import CubaLIFLayer
from brainhw.nn.effective import ChipWeight, EffectiveWeight, chip_weights, net_chip
from brainhw.nn.fractional import FractionalIFLayer, FractionalLIFLayer, spikede_preset
from brainhw.nn.fractional_layer import FractionalLayer
from brainhw.nn.h1 import (
    H1Frontend,
    H1Layer,
    H1Synapse,
    H1v1Frontend,
    H1v1Layer,
    H1v1Synapse,
    H1v2Frontend,
    H1v2Layer,
    H1v2Synapse,
)
from brainhw.nn.lif import LIFLayer, LIFSynapse
from brainhw.nn.readout import LeakyReadout
from brainhw.nn.spiking import SpikingLayer
from brainhw.nn.twin import twin

__all__ = [
    "ALIFLayer",
    "ChipWeight",
    "CubaLIFLayer",
    "EffectiveWeight",
    "FractionalIFLayer",
    "FractionalLIFLayer",
    "FractionalLayer",
    "H1Frontend",
    "H1Layer",
    "H1Synapse",
    "H1v1Frontend",
    "H1v1Layer",
    "H1v1Synapse",
    "H1v2Frontend",
    "H1v2Layer",
    "H1v2Synapse",
    "LIFLayer",
    "LIFSynapse",
    "LeakyReadout",
    "SpikingLayer",
    "chip_weights",
    "net_chip",
    "spikede_preset",
    "twin",
]
