"""Kernel matrices on disk: what is written, what is read, what is refused."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tpnum as tp
from tpnum import nn
from tpnum.errors import InputError, StoreError
from tpnum.tiles import data
from tpnum.tiles.backends import in_fresh_processes
from tpnum.tiles.stores import runs
from tpnum.tiles.stores.receipts import Receipts

zarr = pytest.importorskip("zarr")

DENSE = nn.Dense(8, W_std=1.3, b_std=0.2)
NET = nn.serial(DENSE, nn.Relu(), DENSE, nn.Relu(), nn.Dense(1))
BOTH = ("nngp", "ntk")


@pytest.fixture
def x(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Inputs, in a working directory of their own."""
    monkeypatch.chdir(tmp_path)
    return np.random.default_rng(0).standard_normal((50, 6))


def make(x: Any, out: Any = "K.zarr", **options: Any) -> Any:
    return tp.kernel(NET, x, **{"get": BOTH, "tile": 16, "out": out, "n_jobs": 2, **options})


# what is written ----------------------------------------------------------------------------------


def test_a_group_holds_both_kernels_a_chunk_per_tile(x: np.ndarray) -> None:
    made = make(x)
    want = tp.kernel(NET, x, get=BOTH)
    group = zarr.open_group("K.zarr", mode="r")
    assert sorted(group) == ["nngp", "ntk"]
    for kind in BOTH:
        array = group[kind]
        assert (array.metadata.zarr_format, array.chunks, array.dtype) == (3, (16, 16), np.float64)
        assert np.isnan(array.fill_value)
        assert array.metadata.dimension_names == ("row", "column")
        assert [type(c).__name__ for c in array.metadata.codecs] == ["BytesCodec", "Crc32cCodec"]
        assert array.nchunks_initialized == 16
        np.testing.assert_allclose(array[:], getattr(want, kind), rtol=1e-14, atol=1e-15)
        np.testing.assert_array_equal(array[:], array[:].T)
        np.testing.assert_array_equal(getattr(made, kind)[:], array[:])
        np.testing.assert_array_equal(np.diag(array[:]), tp.kernel(NET, x, get=kind, diag=True))


def test_provenance_tells_what_it_was_made_of(x: np.ndarray) -> None:
    make(x, dtype="float32", get="ntk")
    facts = zarr.open_group("K.zarr", mode="r").attrs["tpnum"]
    assert nn.from_spec(facts["net"]) == NET
    assert (facts["dtype"], facts["tile"], facts["shape"]) == ("float32", [16, 16], [50, 50])
    assert (facts["version"], facts["get"]) == (tp.__version__, ["ntk"])
    assert facts["program"] == [nn.program(NET, (6,)).digest()]
    assert tp.open("K.zarr").provenance == facts


@pytest.mark.filterwarnings("error")
def test_xarray_opens_the_group(x: np.ndarray) -> None:
    xarray = pytest.importorskip("xarray")
    make(x)
    with xarray.open_dataset("K.zarr", engine="zarr", consolidated=False) as found:
        assert found.ntk.dims == ("row", "column")
        np.testing.assert_array_equal(found.ntk.values, tp.open("K.zarr")["ntk"][:])
    xarray.open_datatree("K.zarr", engine="zarr", consolidated=False).close()


def test_two_data_sets_and_axes(x: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    net = nn.serial(nn.Conv(8, (2,)), nn.Relu(), nn.Conv(8, (2,)))
    u, v = rng.standard_normal((9, 5, 2)), rng.standard_normal((7, 5, 2))
    for name, second in (("A.zarr", v), ("B.zarr", None)):
        made = tp.kernel(net, u, second, get="ntk", out=name, tile=4)
        want = tp.kernel(net, u, second, get="ntk")
        assert made.shape == want.shape
        np.testing.assert_allclose(made[:], want, rtol=1e-13, atol=1e-15)
        np.testing.assert_array_equal(made[3:8, ..., 1], made[:][3:8, ..., 1])


def test_a_tile_of_zeros_counts_as_done(x: np.ndarray) -> None:
    """Orthogonal inputs in a net without biases: the kernel is zero off the diagonal."""
    net = nn.serial(nn.Dense(8, W_std=1.0), nn.Sign(), nn.Dense(1))
    eye = np.eye(8)
    made = tp.kernel(net, eye, out="K.zarr", tile=4)
    assert not made[:4, 4:].any()
    assert not tp.open("K.zarr").missing
    again: list[int] = []
    tp.kernel(net, eye, out="K.zarr", resume=True, progress=lambda *_: again.append(1))
    assert not again


def test_half_is_stored_and_all_is_read(x: np.ndarray) -> None:
    make(x, "full.zarr")
    make(x, "half.zarr", symmetric="half")
    full, half = tp.open("full.zarr")["ntk"], tp.open("half.zarr")["ntk"]
    np.testing.assert_array_equal(full[:], half[:])
    np.testing.assert_array_equal(full[20:45, 3:30], half[20:45, 3:30])
    assert zarr.open_group("half.zarr", mode="r")["ntk"].nchunks_initialized == 10


def test_npy_files_take_their_names_when_they_are_whole(x: np.ndarray) -> None:
    made = make(x, "K.npy")
    assert sorted(os.listdir()) == ["K.nngp.npy", "K.ntk.npy"]
    assert isinstance(made.ntk, np.memmap)
    np.testing.assert_array_equal(np.load("K.ntk.npy"), make(x).ntk[:])
    np.testing.assert_array_equal(tp.open("K.nngp.npy"), made.nngp)
    Path("K.rest.npy").write_text("of somebody else's")
    found = tp.open("K.npy")
    assert list(found) == ["nngp", "ntk"]
    np.testing.assert_array_equal(found["ntk"], made.ntk)
    assert make(x, "one.npy", get="ntk").shape == (50, 50)
    assert Path("one.npy").exists()


def test_a_store_of_the_user_s(x: np.ndarray) -> None:
    store = zarr.storage.MemoryStore()
    made = make(x, store)
    np.testing.assert_array_equal(made.ntk[:], make(x).ntk[:])
    assert not tp.open(store).missing
    assert make(x, store, resume=True).ntk.shape == (50, 50)
    with pytest.raises(StoreError, match="of other data"):
        make(x + 1, store, resume=True)
    local = zarr.storage.LocalStore("L.zarr")
    np.testing.assert_array_equal(make(x, local).ntk[:], tp.open("L.zarr")["ntk"][:])
    written = zarr.storage.ZipStore("K.zip", mode="w")  # which has no read-only view of itself
    np.testing.assert_array_equal(make(x, written).ntk[:], made.ntk[:])
    written.close()
    read = zarr.storage.ZipStore("K.zip", mode="r")
    np.testing.assert_array_equal(tp.open(read)["ntk"][:], made.ntk[:])
    with pytest.raises(StoreError, match=r"K\.zip is open for reading alone"):
        make(x, read, resume=True)


def test_inputs_on_disk_are_read_by_slices(x: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save("x.npy", x)
    data = zarr.create_array("x.zarr", data=x, chunks=(8, 6))
    want = make(x).ntk[:]
    for k, source in enumerate((np.load("x.npy", mmap_mode="r"), data)):
        np.testing.assert_array_equal(make(source, f"{k}.zarr").ntk[:], want)
        make(x, f"{k}.zarr", resume=True)  # the same data, wherever it lies
    fortran = np.lib.format.open_memmap("f.npy", "w+", np.float64, (60, 6), fortran_order=True)
    fortran[:] = np.concatenate([np.ones((10, 6)), x])
    for part in (fortran[10:], np.load("f.npy", mmap_mode="r")[10:]):
        np.testing.assert_array_equal(make(part, "part.zarr").ntk[:], want)
        shutil.rmtree("part.zarr")


@pytest.mark.parametrize("backend", ["processes", "threads"])
def test_memory_maps_are_sent_as_paths(backend: str, x: np.ndarray) -> None:
    big = np.lib.format.open_memmap("big.npy", "w+", np.float32, (60, 6))
    big[:] = np.concatenate([np.ones((10, 6)), x])
    made = make(big[10:], backend=backend, get="ntk")
    np.testing.assert_allclose(made[:], tp.kernel(NET, np.asarray(big[10:]), get="ntk"), rtol=1e-13)
    assert sorted(os.listdir()) == ["K.zarr", "big.npy"]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_processes_give_the_same_bits(n_jobs: int, x: np.ndarray) -> None:
    want = make(x)
    made = make(x, "P.zarr", backend="processes", n_jobs=n_jobs)
    here = make(x, None, backend="processes", n_jobs=n_jobs)
    for kind in BOTH:
        np.testing.assert_array_equal(getattr(made, kind)[:], getattr(want, kind)[:])
        np.testing.assert_array_equal(getattr(here, kind), getattr(want, kind)[:])
    mine = np.empty((50, 50))
    assert make(x, mine, backend="processes", get="ntk") is mine
    np.testing.assert_array_equal(mine, make(x, "N.zarr", get="ntk")[:])
    assert sorted(os.listdir()) == ["K.zarr", "N.zarr", "P.zarr"]


def test_an_executor_is_a_backend(x: np.ndarray) -> None:
    class Mine:
        """The three methods, and that they are called."""

        def __init__(self) -> None:
            self.pool, self.sent, self.closed = ThreadPoolExecutor(2), 0, False

        def workers(self) -> int:
            return 2

        def submit(self, call: Callable[..., Any], *arguments: Any) -> Any:
            self.sent += 1
            return self.pool.submit(call, *arguments)

        def close(self, now: bool) -> None:
            self.closed = not now

    want = make(x).ntk[:]
    mine = Mine()
    np.testing.assert_array_equal(make(x, "M.zarr", backend=mine).ntk[:], want)
    assert (mine.sent, mine.closed) == (10, True)
    with ThreadPoolExecutor(2) as pool:
        np.testing.assert_array_equal(make(x, "E.zarr", backend=pool).ntk[:], want)


# what is read -------------------------------------------------------------------------------------

KEYS = [
    np.s_[:], np.s_[:20], np.s_[::-3], np.s_[17], np.s_[-1, 5:40:7], np.s_[..., 3], np.s_[5, 6],
    np.s_[[3, 49, 3]], np.s_[:, [0, 17]], np.s_[2:30, np.arange(50) % 7 == 0], np.s_[:0], np.s_[()],
]  # fmt: skip


def test_slices_are_numpy_s(x: np.ndarray) -> None:
    matrix = make(x).ntk
    whole = matrix[:]
    for key in KEYS:
        np.testing.assert_array_equal(matrix[key], whole[key])
    np.testing.assert_array_equal(np.asarray(matrix), whole)
    assert (matrix.shape, matrix.ndim, len(matrix), matrix.dtype) == ((50, 50), 2, 50, np.float64)


@pytest.mark.parametrize("key", [np.s_[50], np.s_[1, 2, 3], np.s_[[1], [2]], np.s_[None], np.s_["a"]])
def test_keys_that_do_not_fit_are_refused(key: Any, x: np.ndarray) -> None:
    with pytest.raises((IndexError, InputError), match="index"):
        make(x).ntk[key]


def test_what_is_not_there_is_said(x: np.ndarray) -> None:
    with pytest.raises(StoreError, match=r"none\.zarr does not exist"):
        tp.open("none.zarr")
    Path("file.zarr").write_text("")
    with pytest.raises(StoreError, match="is a file"):
        tp.open("file.zarr")
    with pytest.raises(InputError, match="path"):
        tp.open(3)
    make(x, shard=(1, 3))
    part = tp.open("K.zarr")
    assert len(part.missing) == 7
    assert "3 of 10 tiles" in repr(part)
    assert part["ntk"][:16, :16].shape == (16, 16)
    with pytest.raises(StoreError, match="rows 32 to 48 and columns 32 to 48 is not there yet"):
        part["ntk"][40, 40]


# resume -------------------------------------------------------------------------------------------


def count(x: Any, out: Any = "K.zarr", **options: Any) -> int:
    """Tiles that a resumed run computes."""
    steps: list[int] = []
    make(x, out, resume=True, progress=lambda *_: steps.append(1), **options)
    return len(steps)


@pytest.mark.parametrize("out", ["K.zarr", "K.npy"])
def test_shards_fill_one_store(out: str, x: np.ndarray) -> None:
    want = make(x, "W.zarr").ntk[:]
    for k in (2, 1, 1, 3, 1):
        make(x, out, shard=f"{k}/3")
    np.testing.assert_array_equal(np.load("K.ntk.npy") if out == "K.npy" else tp.open(out)["ntk"][:], want)


def test_only_what_is_missing_is_computed(x: np.ndarray) -> None:
    make(x)
    want = tp.open("K.zarr")["ntk"][:]
    receipts = sorted(Path("K.zarr").rglob("receipts/*.json"))
    assert len(receipts) == 10
    assert json.loads(receipts[1].read_text())["cols"] == [16, 32]
    receipts[1].unlink()
    receipts[2].write_text("")
    Path("K.zarr/nngp/c/1/2").unlink()
    assert count(x) == 3
    Path("K.zarr/ntk/c/3/0").write_bytes(Path("K.zarr/ntk/c/3/0").read_bytes()[:-9])  # a mirror image
    assert count(x) == 1
    assert count(x) == 0
    np.testing.assert_array_equal(tp.open("K.zarr")["ntk"][:], want)


@pytest.mark.parametrize("chunk", ["ntk/c/1/2", "ntk/c/2/1", "nngp/c/3/3"])
def test_a_flipped_bit_is_found_and_computed_again(chunk: str, x: np.ndarray) -> None:
    make(x)
    kind = chunk[: chunk.index("/")]
    want = tp.open("K.zarr")[kind][:]
    path = Path("K.zarr", chunk)
    content = bytearray(path.read_bytes())
    content[321] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match=f"{kind} of rows .* is damaged"):
        tp.open("K.zarr")[kind][:]
    assert count(x) == 0  # sizes are right
    assert count(x, verify=True) == 1
    np.testing.assert_array_equal(tp.open("K.zarr")[kind][:], want)


def test_a_flipped_bit_in_a_map_is_found(x: np.ndarray) -> None:
    make(x, "K.npy", shard="1/2")
    path = Path(".K.npy.tiles/ntk.npy")
    content = bytearray(path.read_bytes())
    content[128 + 8 * 20] ^= 1
    path.write_bytes(content)
    assert count(x, "K.npy", verify=True) == 6
    np.testing.assert_array_equal(np.load("K.ntk.npy"), make(x).ntk[:])


# refusals -----------------------------------------------------------------------------------------

OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "data": ({"x1": lambda x: x + 1}, "of other data: x1 differs;"),
    "shape": ({"x1": lambda x: x[:40]}, "of other data"),
    "x2": ({"x2": lambda x: x.copy()}, "of other data: x2 differ"),
    "net": ({"net": nn.serial(DENSE, nn.Erf(), nn.Dense(1))}, "with another net"),
    "std": ({"net": nn.serial(nn.Dense(8, W_std=1.31, b_std=0.2), *NET.layers[1:])}, "with another net"),
    "dtype": ({"dtype": "float32"}, "in another dtype: float64, now float32"),
    "get": ({"get": "ntk"}, "of other kernels: nngp, ntk, now ntk"),
    "tile": ({"tile": 8}, "with tiles of 16 x 16, not of 8 rows"),
    "symmetric": ({"symmetric": "half"}, 'made with symmetric="full"'),
    "rtol": ({"rtol": 1e-3}, "with another rtol: None, now 0.001"),
}


@pytest.mark.parametrize("case", OTHERS)
@pytest.mark.parametrize("out", ["K.zarr", "K.npy"])
def test_a_store_of_something_else_is_refused(case: str, out: str, x: np.ndarray) -> None:
    if (case, out) == ("symmetric", "K.npy"):
        return
    make(x, out, shard="1/2")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    given, message = OTHERS[case]
    options: dict[str, Any] = {"net": NET, "x1": x, "get": BOTH, "out": out, "resume": True, **given}
    for name in ("x1", "x2"):
        if callable(options.get(name)):
            options[name] = options[name](x)
    with pytest.raises(StoreError, match=message):
        tp.kernel(**options)
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_another_version_is_refused(x: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    make(x)
    group = zarr.open_group("K.zarr")
    facts = group.attrs["tpnum"]
    group.attrs["tpnum"] = {**facts, "version": "0.0.7"}
    with pytest.raises(StoreError, match=rf"another version of tpnum: 0\.0\.7, now {tp.__version__}"):
        count(x)
    assert tp.open("K.zarr")["ntk"][:].shape == (50, 50)
    group.attrs["tpnum"] = {**facts, "format": 7}
    for call in (lambda: count(x), lambda: tp.open("K.zarr")):
        with pytest.raises(StoreError, match="has format 7"):
            call()


def _file() -> str:
    Path("K.zarr").write_text("mine")
    return "K.zarr"


def _folder() -> str:
    Path("K.zarr").mkdir()
    Path("K.zarr/mine").write_text("mine")
    return "K.zarr"


def _group() -> str:
    zarr.create_group("K.zarr")
    return "K.zarr"


def _taken() -> str:
    Path("K.npy").write_text("mine")
    return "K.npy"


PLACES: dict[str, tuple[Callable[[], str], str]] = {
    "a file": (_file, "is a file"),
    "a folder": (_folder, "no Zarr group"),
    "a group": (_group, "that tpnum did not make"),
    "nowhere": (lambda: "no/where/K.zarr", "no/where does not exist"),
    "in a file": (lambda: f"{_file()}/K.zarr", "K.zarr is a file, not a directory"),
    "nowhere, npy": (lambda: "no/where/K.npy", "no/where does not exist"),
    "a finished file": (_taken, r"K\.npy exists and is finished"),
    "no ending": (lambda: "K", "ends neither"),
    "another ending": (lambda: "K.h5", "ends neither"),
    "no name": (lambda: "", "names no file"),
}


@pytest.mark.parametrize("case", PLACES)
@pytest.mark.parametrize("resume", [True, False])
def test_places_that_cannot_be_taken(case: str, resume: bool, x: np.ndarray) -> None:
    make_place, message = PLACES[case]
    out = make_place()
    before = {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")}
    with pytest.raises((StoreError, InputError), match=message):
        make(x, out, resume=resume, get="ntk")
    assert {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")} == before


def test_a_store_that_exists_wants_resume(x: np.ndarray) -> None:
    make(x)
    with pytest.raises(StoreError, match=r"K\.zarr exists; resume=True continues it"):
        make(x)


def test_an_empty_folder_will_do(x: np.ndarray) -> None:
    Path("K.zarr").mkdir()
    assert make(x).ntk.shape == (50, 50)


@pytest.mark.parametrize("shard", ["0/3", "4/3", "3", "a/b", (1, 2, 3), (0, 0), "-1/3", 3, "1/0"])
def test_shards_out_of_range(shard: Any, x: np.ndarray) -> None:
    with pytest.raises(InputError, match="shard"):
        make(x, shard=shard)
    assert not os.listdir()


OPTIONS: list[dict[str, Any]] = [{"resume": True}, {"verify": True}, {"shard": "1/2"}]


@pytest.mark.parametrize("options", OPTIONS)
def test_options_of_stores_want_a_store(options: dict[str, Any], x: np.ndarray) -> None:
    for backend in (None, "processes"):
        with pytest.raises(InputError, match=next(iter(options))):
            tp.kernel(NET, x, backend=backend, **options)


def test_other_options_are_refused(x: np.ndarray) -> None:
    for options in ({"backend": "fork"}, {"backend": 3}, {"backend": "threads", "scheduler": "tcp://x"}):
        with pytest.raises(InputError, match="backend|scheduler"):
            make(x, **options)
    with pytest.raises(InputError, match="symmetric"):
        make(x, symmetric="upper")
    with pytest.raises(InputError, match="symmetric"):
        make(x, x2=x, symmetric="half")
    with pytest.raises(InputError, match="diag"):
        make(x, diag=True)
    with pytest.raises(InputError, match="resume"):
        make(x, resume=1)


def test_more_than_the_disk_holds_is_refused_with_the_size(
    x: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6, 2048))  # type: ignore[attr-defined]
    for out in ("K.zarr", "K.npy"):
        with pytest.raises(StoreError, match=r"would take .* GiB, and .* has .* GiB left"):
            make(x, out)
    assert not os.listdir()


def test_what_the_disk_must_hold_is_in_blocks_and_with_receipts(
    x: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(x)
    files = [f for f in Path("K.zarr").rglob("*") if f.is_file()]
    tiles = sum(-(-f.stat().st_size // 4096) * 4096 for f in files if "/c/" in f.as_posix())
    receipts = sum(f.suffix == ".json" and f.name.count(".") == 2 for f in files)
    assert (tiles, receipts) == (2 * 16 * 4096, 10)  # chunks of 2 KiB, and the upper triangle is computed
    needed = tiles + 4096 * receipts
    shutil.rmtree("K.zarr")
    matrices = 2 * -(-8 * len(x) ** 2 // 4096) * 4096  # no chunks that reach beyond them
    for out, size in ("K.zarr", needed), ("K.npy", matrices + 4096 * receipts):
        for left in (size - 1, size):
            monkeypatch.setattr(
                shutil, "disk_usage", lambda _, left=left: shutil._ntuple_diskusage(left, 0, left)
            )  # type: ignore[attr-defined]
            if left < size:
                with pytest.raises(StoreError, match=r"K.* would take .* GiB left"):
                    make(x, out)
        assert make(x, out).nngp.shape == made.nngp.shape


def test_a_folder_that_cannot_be_written(x: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write anywhere, so what the system would say to another user is said for it."""
    Path("locked").mkdir()
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "locked" not in str(path) and may(path, mode))
    for out in ("locked/K.zarr", "locked/K.npy"):
        with pytest.raises(StoreError, match="locked cannot be written"):
            make(x, out)
    assert not os.listdir("locked")


def test_bad_inputs_come_before_a_file_is_made(x: np.ndarray) -> None:
    x[33, 2] = np.nan
    with pytest.raises(InputError, match="x1: example 33 holds NaN"):
        make(x)
    with pytest.raises(InputError, match="x1"):
        make(x[:, 0])
    with pytest.raises(InputError, match="x2: shape"):
        make(x[:9], x2=np.ones((3, 2)))
    with pytest.raises(InputError, match="net"):
        tp.kernel("net", x, out="K.zarr")
    assert not os.listdir()


def test_a_full_disk_is_said_and_what_is_finished_stays(
    x: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = type(runs.target_of("K.zarr", BOTH)).put
    calls: list[int] = []

    def full(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) > 4:
            raise OSError(28, "No space left on device")
        return put(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(type(runs.target_of("K.zarr", BOTH)), "put", full)
        with pytest.raises(StoreError, match=r"K\.zarr: the disk is full; .* resume=True continues"):
            make(x)
    assert count(x) == 6
    np.testing.assert_array_equal(tp.open("K.zarr")["ntk"][:], make(x, "W.zarr").ntk[:])


@pytest.mark.parametrize("call", ["begin", "add"])
def test_a_disk_that_is_full_for_receipts_is_said_too(
    call: str, x: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    class Mine:
        def submit(self, call: Callable[..., Any], *arguments: Any) -> Any:
            return pool.submit(call, *arguments)

    with ThreadPoolExecutor(1) as pool, monkeypatch.context() as patch:
        patch.setattr(Receipts, call, full)
        with pytest.raises(StoreError, match=r"K\.zarr: the disk is full; .* resume=True continues"):
            make(x, backend=Mine())
    assert count(x) == 10
    np.testing.assert_array_equal(tp.open("K.zarr")["ntk"][:], make(x, "W.zarr").ntk[:])


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a file that is always full")
def test_inputs_for_other_processes_on_a_full_disk_say_so(x: np.ndarray) -> None:
    for array in (x, np.ones((4000, 90))):
        with pytest.raises(OSError) as caught:
            data.saved(data.Held(array, "x1"), "/dev/full")
        assert caught.value.errno == errno.ENOSPC
    for array in (x, x[::2].T, x.astype(">f4")):
        np.testing.assert_array_equal(data.saved(data.Held(array, "x1"), "x.npy").read(slice(None)), array)


def test_the_backend_of_the_documentation(x: np.ndarray) -> None:
    from tpnum.tiles import backends

    example = (backends.__doc__ or "").split("::\n", 1)[1].split("\nAn object", 1)[0]
    exec(
        textwrap.dedent(example), {"ThreadPoolExecutor": ThreadPoolExecutor, "tpnum": tp, "net": NET, "x": x}
    )
    np.testing.assert_array_equal(tp.open("K.zarr")["nngp"][:], make(x, "W.zarr", get="nngp", tile=None)[:])


def test_functions_of_this_process_stay_in_it(x: np.ndarray) -> None:
    net = nn.serial(DENSE, nn.Elementwise(lambda u: np.tanh(u)), nn.Dense(1))
    made = tp.kernel(net, x, out="K.zarr", tile=16)
    tp.kernel(net, x, out="K.zarr", resume=True)
    np.testing.assert_allclose(made[:], tp.kernel(net, x), rtol=1e-12)
    with pytest.raises(InputError, match="cannot be sent to other processes: .* top level"):
        tp.kernel(net, x, out="P.zarr", backend="processes")


@pytest.mark.parametrize(
    ("package", "call"),
    [
        ("zarr", "tp.kernel(n, x, out='K.zarr')"),
        ("zarr", "tp.open('.')"),
        ("distributed", "tp.kernel(n, x, backend='dask')"),
    ],
)
def test_a_missing_package_is_an_extra(package: str, call: str, x: np.ndarray, environment: Any) -> None:
    code = (
        f"import sys\nsys.modules[{package!r}] = None\n"
        "import numpy as np, tpnum as tp\nfrom tpnum import nn\n"
        f"x = np.ones((3, 2)); n = nn.Dense(1)\ntry:\n    {call}\n"
        "except tp.errors.InputError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "pip install 'tpnum[" in done.stdout, done.stderr


def test_a_matrix_that_is_not_mirrored_is_computed_whole(x: np.ndarray) -> None:
    """A fixed quadrature rule treats its two inputs differently."""
    net = nn.serial(DENSE, nn.ElementwiseNumerical(np.tanh, 5), nn.Dense(1))
    made = tp.kernel(net, x[:20], out="K.zarr", tile=8)
    assert tp.open("K.zarr").provenance["symmetric"] == "none"
    np.testing.assert_allclose(made[:], tp.kernel(net, x[:20]), rtol=1e-12)
    with pytest.raises(InputError, match="symmetric"):
        tp.kernel(net, x[:20], out="H.zarr", symmetric="half")


def test_tiles_are_cut_by_their_bytes_and_their_work() -> None:
    from tpnum.tiles.stores.layout import BYTES, cut

    for shape, dtype in (
        ((20000, 20000), "float32"),
        ((10**6, 10**6), "float64"),
        ((4000, 10**6), "float64"),
    ):
        made = cut(("ntk",), shape, np.dtype(dtype), 1 << 30, None, "none")
        assert made.chunk_bytes <= BYTES
        assert made.chunk_bytes > BYTES // 64
        assert min(made.grid) >= 3
    assert cut(("ntk",), (20000, 20000), np.dtype("f4"), 1 << 30, None, "full").chunks == (2048, 2048)
    assert cut(("ntk",), (5000, 5000), np.dtype("f4"), 700, None, "full").chunks == (16, 16)
    assert cut(("ntk",), (10, 5), np.dtype("f4"), 1, None, "none").chunks == (1, 1)
    images = cut(("ntk",), (50, 50, 32, 32, 32, 32), np.dtype("f4"), 1 << 30, None, "full")
    assert images.chunks == (2, 2, 32, 32, 32, 32)


def test_every_pair_is_in_one_tile() -> None:
    from tpnum.tiles.stores.layout import cut

    for n1, n2, tile, symmetric in ((50, 50, 16, "full"), (37, 50, 7, "none"), (9, 9, 20, "half")):
        made = cut(("ntk",), (n1, n2), np.dtype("f8"), 1 << 30, tile, symmetric)
        seen = np.zeros((n1, n2), int)
        for t in made.tiles:
            seen[t.rows, t.cols] += 1
            if t.mirror:
                seen[t.cols, t.rows] += 1
        want = np.ones((n1, n2), int)
        if symmetric == "half":
            want = np.ones((n1, n2), int) if made.grid == (1, 1) else np.triu(want)
        np.testing.assert_array_equal(seen, want)


def test_progress_is_silent_off_a_terminal(x: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    make(x, progress=True)
    tp.kernel(NET, x, progress=True)
    assert capsys.readouterr() == ("", "")


def test_what_workers_map_is_no_leak() -> None:
    """Loky replaces a worker that grows by 300 MB, with a warning; pages of outputs that it wrote count."""
    loky = "__import__('joblib.externals.loky.process_executor', fromlist=['_'])"
    assert in_fresh_processes(eval, [(f"{loky}._USE_PSUTIL",)]) == [False]
