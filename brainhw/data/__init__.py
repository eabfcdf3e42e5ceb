"""Data sets, repeatable batches, a filter bank for audio, and encodings."""

from brainhw.data.dataset import Dataset, Split, batches
from brainhw.data.encode import ChannelScale, delayed_copies, fit_channel_scale, repeat_frames, split_on_off
from brainhw.data.fashion_mnist import fashion_mnist
from brainhw.data.filterbank import FilterbankDesign, filterbank, filterbank_design
from brainhw.data.fsdd import fsdd
from brainhw.data.hold_out import hold_out
from brainhw.data.japanese_vowels import japanese_vowels
from brainhw.data.locate import locate
from brainhw.data.mnist1d import mnist1d
from brainhw.data.qtdb import qtdb, qtdb_excerpt
from brainhw.data.randman import randman

__all__ = [
    "ChannelScale",
    "Dataset",
    "FilterbankDesign",
    "Split",
    "batches",
    "delayed_copies",
    "fashion_mnist",
    "filterbank",
    "filterbank_design",
    "fit_channel_scale",
    "fsdd",
    "hold_out",
    "japanese_vowels",
    "locate",
    "mnist1d",
    "qtdb",
    "qtdb_excerpt",
    "randman",
    "repeat_frames",
    "split_on_off",
]
