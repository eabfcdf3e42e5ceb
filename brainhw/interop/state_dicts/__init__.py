"""Import of state dicts from snnTorch, Norse and SpikingJelly. torch is not needed."""

from brainhw.interop.state_dicts.from_norse import from_norse
from brainhw.interop.state_dicts.from_snntorch import from_snntorch
from brainhw.interop.state_dicts.from_spikingjelly import from_spikingjelly
from brainhw.interop.state_dicts.net import StateDictNet

__all__ = ["StateDictNet", "from_norse", "from_snntorch", "from_spikingjelly"]
