"""GPUs through a small driver of our own, and none where there is no driver."""

from __future__ import annotations

from types import SimpleNamespace

from controlplane.agent.gpus import GpuReader, GpuState, of_instance


class FakeNvml:
    """Two GPUs, of which the second does not say its power."""

    class NVMLError(Exception):
        """As the library's."""

    def __init__(self, *, driver: bool = True) -> None:
        self.driver = driver
        self.open = False

    def nvmlInit(self) -> None:
        """Open the driver."""
        if not self.driver:
            raise self.NVMLError("Driver Not Loaded")
        self.open = True

    def nvmlShutdown(self) -> None:
        """Close the driver."""
        self.open = False

    def nvmlDeviceGetCount(self) -> int:
        """Two."""
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        """Its index."""
        return index

    def nvmlDeviceGetUtilizationRates(self, device: int) -> SimpleNamespace:
        """In per cent."""
        return SimpleNamespace(gpu=40 + 20 * device, memory=1)

    def nvmlDeviceGetMemoryInfo(self, device: int) -> SimpleNamespace:
        """In bytes."""
        return SimpleNamespace(used=(1 + device) * 2**30, total=4 * 2**30)

    def nvmlDeviceGetProcessUtilization(self, device: int, since: int) -> list[SimpleNamespace]:
        """In per cent; an older sample of a process stands before its newest one."""
        if not device:
            raise self.NVMLError("Not Found")
        samples = [(7, 1, 90), (7, 2, 60), (8, 2, 15), (9, 2, 20)]
        return [
            SimpleNamespace(pid=pid, timeStamp=at, smUtil=share)
            for pid, at, share in samples
            if at > since
        ]

    def nvmlDeviceGetPowerUsage(self, device: int) -> int:
        """In milliwatts."""
        if device:
            raise self.NVMLError("Not Supported")
        return 250_000


def test_gpus_are_read_in_shares_and_watts() -> None:
    """What one does not say is left out, alone."""
    library = FakeNvml()
    reader = GpuReader(library)
    states = reader.read()
    reader.close()

    assert (GpuState(0.4, 0.25, 250.0), GpuState(0.6, 0.5, None)) == states
    assert not library.open
    assert () == reader.read()


def test_a_job_takes_of_each_gpu_what_its_processes_take_there() -> None:
    """Of the one that it does not use nothing; where the driver knows none of them, no one says."""
    reader = GpuReader(FakeNvml())

    first, second = reader.read({7, 8})
    assert (0.0, 0.75) == (first.training, second.training)
    assert (0.0, 0.0) == tuple(each.training for each in reader.read({7, 8}))
    assert (None, None) == tuple(each.training for each in GpuReader(FakeNvml()).read({4}))
    assert (None, None) == tuple(each.training for each in reader.read())


def test_a_machine_without_a_driver_has_no_gpus() -> None:
    """And that is no fault."""
    assert () == GpuReader(FakeNvml(driver=False)).read()


def test_an_instance_has_the_gpus_that_it_names_or_all() -> None:
    """An index beyond the machine's GPUs is nothing."""
    gpus = (GpuState(0.1, None, None), GpuState(0.2, None, None))

    assert gpus == of_instance(gpus, ())
    assert gpus[1:] == of_instance(gpus, (1, 7))
