"""Programs for the machine: what a net's listing is, and that registers hold the values that were meant."""

from __future__ import annotations

import numpy as np
import pytest

from tests.oracle.every_net import dense, fan, skip
from tests.oracle.roads import CELLS, MACHINE, kernels
from tpnum import nn
from tpnum.kernels import machine
from tpnum.lower.builder import SLOTS, Instruction
from tpnum.lower.panels import allocate, panels
from tpnum.lower.program import CODE
from tpnum.program.lines import Data
from tpnum.tiles import inputs

KINDS = ("nngp", "ntk")


def machine_of(net, get):
    x = np.random.default_rng(1).standard_normal((5, 3))
    _, plan = inputs._plans(net, ((("", (3,)),),) * 2, get if isinstance(get, tuple) else (get,))
    data = {next(line.name for line in plan.programs[0].lines if isinstance(line, Data)): x}
    return panels(plan, *plan.profiles(data, None), np.dtype(float))


def operations(machine):
    return [line.split()[0] for line in machine.listing.split("\n")]


def deep(act, b, layers=3):
    return nn.serial(*(part for _ in range(layers) for part in (dense(b), act)), dense(b))


@pytest.mark.parametrize(("b", "layer"), [(None, "relu_layer"), (0.3, "relu_bias_layer")])
def test_listing_of_a_relu_net(b, layer):
    alone, both = (machine_of(deep(nn.Relu(), b), get) for get in ("nngp", KINDS))
    assert operations(alone) == ["gram", "dense_layer", *[layer] * 3, "store_covariance"]
    assert alone.registers == 1
    assert operations(both) == ["gram", "first_layer", *[layer] * 3, "store_scaled", "store_covariance"]
    assert both.registers == 2


@pytest.mark.parametrize("act", [nn.Tanh(), nn.Erf(), nn.Gelu()], ids=repr)
def test_listing_of_a_smooth_net(act):
    alone, both = (machine_of(deep(act, 0.3), get) for get in ("nngp", KINDS))
    dual = "series" if isinstance(act, nn.Tanh) else "dual"
    assert operations(alone) == ["gram", "dense_layer", *[dual, "dense_layer"] * 3, "store_covariance"]
    layers = [dual, "multiply", "dense_layer"] * 3
    assert operations(both) == ["gram", "first_layer", *layers, "store_scaled", "store_covariance"]
    assert both.registers == 4


@pytest.mark.parametrize(("get", "copied", "count"), [("nngp", 1, 11), ("ntk", 2, 14)])
def test_a_skip_over_relu_copies_what_it_reads_again_and_computes_nothing_twice(get, copied, count):
    net = nn.serial(dense(), nn.Relu(), *skip(None), nn.Dense(1))
    found = operations(machine_of(net, get))
    assert found.count("copy") <= copied
    assert found.count("dual") == 2
    assert len(found) <= count


NETS = {
    "relu": deep(nn.Relu(), 0.3),
    "relu without biases": deep(nn.Relu(), None),
    "erf": deep(nn.Erf(), 0.3),
    "skip": nn.serial(dense(0.2), nn.Relu(), *skip(0.2), dense(), nn.Relu(), dense(0.2)),
    "norm": nn.serial(dense(0.2), nn.LayerNorm(), nn.Relu(), dense(0.2), nn.LayerNorm(), nn.Abs(), dense()),
    "gate": nn.serial(dense(0.2), *fan(nn.FanInProd(), nn.Relu(), nn.Sigmoid()), dense(0.2)),
    "ends in relu": nn.serial(dense(0.2), nn.Relu(), dense(), nn.Relu()),
}


@pytest.mark.parametrize("name", NETS)
def test_co_correlations_and_increments_of_one_cell_agree(name):
    """The same graph by either selection, near duplicates and nothing among the inputs."""
    x = np.random.default_rng(2).standard_normal((7, 3))
    x[1], x[2], x[4] = x[0] + 1e-9 * x[1], x[0], 0.0
    panels_, road = kernels(NETS[name], x, get=KINDS)
    cells_, other = kernels(NETS[name], x, road=CELLS, get=KINDS)
    assert (road, other) == (MACHINE, CELLS)
    for found, right in zip(panels_, cells_, strict=True):
        np.testing.assert_allclose(found, right, rtol=0, atol=1e-13 * np.abs(right).max())


def test_every_operation_says_what_it_does_to_its_registers():
    assert set(SLOTS) == {*machine.OPERATIONS, *CODE, "keep"}


def drawn(rng, length):
    """Operations on values that exist, and what each value is."""
    known, instructions, meaning = [], [], {}
    for k in range(length):
        op = str(rng.choice(["zero", "start"] if len(known) < 2 else machine.OPERATIONS))
        reads = tuple(-1 if slot == "w" else int(rng.choice(known)) for slot in SLOTS[op])
        made = []
        for slot in SLOTS[op]:
            made.append(-1 if slot == "r" else len(meaning))
            if slot != "r":
                meaning[made[-1]] = (op, k, len(made), tuple(meaning.get(r) for r in reads))
                known.append(made[-1])
        instructions.append(Instruction(op, reads, tuple(made), 0, k, ()))
    return instructions, meaning


@pytest.mark.parametrize("seed", range(40))
def test_registers_hold_what_was_meant(seed):
    """Instructions on values against the same ones on registers, results as nested tuples."""
    instructions, meaning = drawn(np.random.default_rng(seed), 25)
    rows, count = allocate(instructions, [])
    registers = [None] * count
    done = 0
    for code, *places, _, k in rows.tolist():
        op = machine.OPERATIONS[code]
        if (op, k) != (instructions[done].op, instructions[done].n):
            assert op == "copy"
            registers[places[0]] = registers[places[1]]
            continue
        one = instructions[done]
        done += 1
        places = places[: len(one.reads)]
        for read, place in zip(one.reads, places, strict=True):
            assert read < 0 or registers[place] == meaning[read]
        written = [place for place, made in zip(places, one.makes, strict=True) if made >= 0]
        assert len({*written}) == len(written)
        assert all(places.count(place) == 1 for place in written)  # kernels may not alias
        for made, place in zip(one.makes, places, strict=True):
            if made >= 0:
                registers[place] = meaning[made]
    assert done == len(instructions)
