"""Copies of CUDA tensors that the training does not wait for.

The training's own stream gets one small copy on the device, so that the tensor may change afterwards. A stream of
Safelight's then moves that copy into pinned memory, and the thread that writes the file waits for it. The caller's
process has imported torch already: nothing here does.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

__all__ = ["Pending"]

# The stream of each device, by the device's number.
_streams: dict[int, Any] = {}
_lock = threading.Lock()


def _stream_of(torch: Any, device: Any) -> Any:
    with _lock:
        stream = _streams.get(device.index)
        if stream is None:
            stream = _streams[device.index] = torch.cuda.Stream(device=device)
        return stream


class Pending:
    """The elements of a CUDA tensor, in C order, on their way into the memory of the host."""

    def __init__(self, tensor: Any, is_donated: bool) -> None:
        """Starts the copy. `is_donated` says that nobody changes the tensor any more: then none is made on the
        device.

        Raises `RuntimeError` as torch does, for example if there is no pinned memory left.
        """
        torch: Any = sys.modules["torch"]
        self.n_bytes: int = tensor.numel() * tensor.element_size()
        device = tensor.device
        current, side = torch.cuda.current_stream(device), _stream_of(torch, device)
        is_ready = is_donated and tensor.is_contiguous()
        source = tensor if is_ready else tensor.clone(memory_format=torch.contiguous_format)
        self._host = torch.empty(tuple(tensor.shape), dtype=tensor.dtype, pin_memory=True)
        side.wait_stream(current)
        with torch.cuda.stream(side):
            self._host.copy_(source, non_blocking=True)
            # A thread that waits for a blocking event sleeps. For any other it would keep a core busy.
            self._is_there = torch.cuda.Event(blocking=True)
            self._is_there.record(side)
        # The allocator must not give the memory to other work before the side stream has read it.
        source.record_stream(side)

    def elements(self) -> Any:
        """Waits for the copy, and returns its bytes. They are valid as long as this object."""
        self._is_there.synchronize()
        torch: Any = sys.modules["torch"]
        # NumPy lacks some types of torch, but takes the bytes of all.
        return self._host.reshape(-1).view(torch.uint8).numpy().data
