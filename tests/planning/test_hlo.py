"""Reading compiled programs: how often loops run, and the FLOPs of products as the CPU's compiler states them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from triarch.planning import hlo, work

LOOP = """HloModule m, is_scheduled=true

%body (p.1: (s32[], f32[8,8], s32[])) -> (s32[], f32[8,8], s32[]) {
  %p.1 = (s32[]{:T(128)}, f32[8,8]{1,0:T(8,128)}, s32[]) parameter(0)
  %i = s32[] get-tuple-element(%p.1), index=0
  %x = f32[8,8]{1,0:T(8,128)} get-tuple-element(%p.1), index=1
  %n = s32[] get-tuple-element(%p.1), index=2
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one)
  %y = f32[8,8]{1,0:T(8,128)S(1)} dot(%x, %x), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT %t = (s32[], f32[8,8], s32[]) tuple(%next, %y, %n)
}

%condition (p.2: (s32[], f32[8,8], s32[])) -> pred[] {
  %p.2 = (s32[], f32[8,8], s32[]) parameter(0)
  %i.2 = s32[] get-tuple-element(%p.2), index=0
  %n.2 = s32[] get-tuple-element(%p.2), index=2
  ROOT %lt = pred[] compare(%i.2, %n.2), direction=LT
}

ENTRY %main (a: f32[8,8]) -> f32[8,8] {
  %a = f32[8,8]{1,0} parameter(0)
  %zero = s32[] constant(0)
  %twelve = s32[] constant(12)
  %start = (s32[], f32[8,8], s32[]) tuple(%zero, %a, %twelve)
  %loop = (s32[], f32[8,8], s32[]) while(%start), condition=%condition, body=%body, metadata={op_name="jit(f)/while"}
  %kernel.1 = f32[8,8]{1,0} custom-call(%a), custom_call_target="tpu_custom_call", frontend_attributes={k={
"name":"x"
}}, metadata={op_name="jit(f)/a kernel"}
  ROOT %out = f32[8,8]{1,0} get-tuple-element(%loop), index=1
}
"""


def test_a_loop_whose_bound_it_is_given():
    module = hlo.parse(LOOP)
    assert work.total_flops(module) == 12 * 2 * 8**3


def test_lines_broken_by_a_kernels_metadata_are_whole():
    kernel = hlo.parse(LOOP).computations["main"]["kernel.1"]
    assert kernel.source == "jit(f)/a kernel" and kernel.operands == ("a",)


def test_only_what_lies_in_hbm_is_traffic():
    """Each round of the loop reads 8 x 8 twice and writes to the chip's own memory; the kernel reads and writes."""
    moved = sum(
        one.hbm_bytes * one.times for instruction, one in work.steps(hlo.parse(LOOP)) if instruction.name == "y"
    )
    assert moved == 12 * 2 * 8 * 8 * 4


PARTS = """HloModule m

%wrapped (w: f32[4,8,128]) -> f32[1,8,128] {
  %w = f32[4,8,128]{2,1,0} parameter(0)
  ROOT %part = f32[1,8,128]{2,1,0:S(1)} slice(%w), slice={[0:1], [0:8], [0:128]}
}

ENTRY %main (a: f32[4,8,128]) -> f32[8,128] {
  %a = f32[4,8,128]{2,1,0} parameter(0)
  %one = ((f32[4,8,128]{2,1,0}), f32[1,8,128]{2,1,0:S(1)}, s32[]{:S(2)}) ASYNC(%a)CALLS
  %one.done = f32[1,8,128]{2,1,0:S(1)} DONE(%one)
  %all = (f32[8,128]{1,0}, f32[8,128]{1,0:S(1)}, u32[]{:S(2)}) copy-start(%one.done)
  ROOT %all.done = f32[8,128]{1,0} copy-done(%all)
}
"""


@pytest.mark.parametrize(
    ("opening", "closing", "calls"),
    [("slice-start", "slice-done", ", slice={[0:1]}"), ("async-start", "async-done", ", calls=%wrapped")],
)
def test_of_an_array_only_the_part_that_is_moved_is_traffic(opening, closing, calls):
    """A part of 4 KiB is read of an array in HBM, and written there again; in both ways to write it down."""
    text = PARTS.replace("ASYNC", opening).replace("DONE", closing).replace("CALLS", calls)
    moved = {i.name: one.hbm_bytes for i, one in work.steps(hlo.parse(text)) if one.hbm_bytes}
    assert moved == {"one" if opening == "slice-start" else "part": 4096.0, "all": 4096.0}


def test_text_without_a_program_is_refused():
    with pytest.raises(ValueError, match="no ENTRY"):
        hlo.parse("nonsense")


def compiled(function, *shapes):
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return jax.jit(function).lower(*arguments).compile()


def test_flops_are_those_the_compiler_states():
    """Of programs without loops, which the compiler's own analysis counts in full."""
    one = compiled(lambda a, b: jnp.tanh(a @ b) @ b.T, (32, 48), (48, 64))
    stated = one.cost_analysis()["flops"]
    ours = work.total_flops(hlo.parse(one.as_text()))
    assert ours == 2 * 2 * 32 * 48 * 64
    assert 0 <= stated - ours < 0.1 * ours  # The rest is not products.


def test_a_scan_is_multiplied_out():
    def layers(x, kernels):
        return jax.lax.scan(lambda x, kernel: (jnp.tanh(x @ kernel), None), x, kernels)[0]

    one = compiled(layers, (16, 32), (7, 32, 32))
    assert work.total_flops(hlo.parse(one.as_text())) == 7 * 2 * 16 * 32 * 32


CONVOLUTION = """HloModule m
ENTRY %main (a: bf16[1]) -> bf16[1] {{
  %a = bf16[{left}]{{0}} parameter(0)
  %b = bf16[{right}]{{0}} parameter(1)
  ROOT %c = bf16[{out}]{{0}} convolution(%a, %b), window={{{window}}}, dim_labels={labels}
}}
"""


@pytest.mark.parametrize(
    ("left", "right", "out", "window", "labels", "products"),
    [
        # A plain product of [16, 2048] by [2048, 32].
        ("16,2048", "2048,32", "16,32", "", "bf_io->bf", 16 * 2048 * 32),
        # A batch of products: 8 x 32 of [256, 512] by [512, 128].
        (
            "8,32,256,512",
            "8,32,512,128",
            "8,32,256,128",
            "size=8x32 stride=7x31 lhs_dilate=8x32",
            "01bf_01io->01bf",
            8 * 32 * 256 * 512 * 128,
        ),
    ],
)
def test_products_in_the_dress_of_convolutions(left, right, out, window, labels, products):
    """The forms that the TPU's compiler gives matrix products; of a batch, only the pairs that meet count."""
    text = CONVOLUTION.format(left=left, right=right, out=out, window=window, labels=labels)
    assert work.total_flops(hlo.parse(text)) == 2 * products


def test_places_that_windows_miss_do_not_count():
    """A one-dimensional convolution with padding, against every pair of places looked at one by one."""
    text = CONVOLUTION.format(
        left="10,3", right="4,3,5", out="6,5", window="size=4 stride=2 pad=2_2", labels="0f_0io->0f"
    )
    text = (
        text.replace("bf16[10,3]", "bf16[1,10,3]")
        .replace("bf16[6,5]", "bf16[1,6,5]")
        .replace("0f_0io->0f", "b0f_0io->b0f")
    )
    signal = np.arange(10)
    pairs = sum(place * 2 + offset - 2 in signal for place in range(6) for offset in range(4))
    assert work.total_flops(hlo.parse(text)) == 2 * pairs * 3 * 5


KERNEL = """HloModule m
ENTRY %main (q: bf16[2,4,256,64]) -> bf16[2,4,256,64] {
  %info = s8[1,2,2]{2,1,0} parameter(0)
  %q = bf16[2,4,256,64]{3,2,1,0} parameter(1)
  %k = bf16[2,2,512,64]{3,2,1,0} parameter(2)
  ROOT %splash_mha_dkv_no_residuals.1 = bf16[2,4,256,64]{3,2,1,0} custom-call(%info, %q, %k, %k), custom_call_target="tpu_custom_call", metadata={op_name="jit(f)/visited_0.7500/vmap(x)/pallas_call"}
}
"""  # noqa: E501


def test_an_attention_kernel_counts_the_blocks_it_goes_through():
    """Four products of 256 queries by 512 keys by 64, for each of 2 rows and 4 heads; three quarters of the square."""
    assert work.total_flops(hlo.parse(KERNEL)) == 4 * 2 * 0.75 * 2 * 4 * 256 * 512 * 64
