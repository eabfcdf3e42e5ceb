"""Data sets, repeatable batches, a filter bank for audio, and encoders."""

from brainhw.data.aedat import read_aedat
from brainhw.data.dataset import Dataset, Split, batches
from brainhw.data.event_frames import events_to_frames, frames_to_events
from brainhw.data.event_splits import split_from_events, split_from_frames
from brainhw.data.events import Events, events_from_array
from brainhw.data.fashion_mnist import fashion_mnist
from brainhw.data.filterbank import FilterbankDesign, filterbank, filterbank_design
from brainhw.data.frames import delayed_copies, hold, repeat_frames
from brainhw.data.fsdd import fsdd
from brainhw.data.hold_out import hold_out
from brainhw.data.japanese_vowels import japanese_vowels
from brainhw.data.labels import class_indices
from brainhw.data.locate import locate
from brainhw.data.mnist1d import mnist1d
from brainhw.data.on_off import split_on_off
from brainhw.data.population import population_currents
from brainhw.data.qtdb import qtdb, qtdb_excerpt
from brainhw.data.randman import randman
from brainhw.data.scale import ChannelScale, fit_channel_scale
from brainhw.data.spikes import delta_spikes, latency_spikes, rate_spikes

__all__ = [
    "ChannelScale",
    "Dataset",
    "Events",
    "FilterbankDesign",
    "Split",
    "batches",
    "class_indices",
    "delayed_copies",
    "delta_spikes",
    "events_from_array",
    "events_to_frames",
    "fashion_mnist",
    "filterbank",
    "filterbank_design",
    "fit_channel_scale",
    "frames_to_events",
    "fsdd",
    "hold",
    "hold_out",
    "japanese_vowels",
    "latency_spikes",
    "locate",
    "mnist1d",
    "population_currents",
    "qtdb",
    "qtdb_excerpt",
    "randman",
    "rate_spikes",
    "read_aedat",
    "repeat_frames",
    "split_from_events",
    "split_from_frames",
    "split_on_off",
]
