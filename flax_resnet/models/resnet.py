"""The residual network: stem, stages and head. One module covers the whole family."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from flax_resnet.errors import InputError, require_known
from flax_resnet.models.blocks import GATES, MIDDLE, ORDERS, SHORTCUTS, run_blocks
from flax_resnet.models.design import (
    ACTIVATIONS,
    NORMS,
    Design,
    Layers,
    Scope,
    check_arguments,
    check_images,
    within,
)
from flax_resnet.models.ends import POOLS, STEMS, classify, first_conv_key, run_stem
from flax_resnet.models.layers import Images
from flax_resnet.models.spatial_layers import ANTI_ALIAS, MIDDLES

CHOICES = {
    "order": ORDERS,
    "middle": tuple(MIDDLES),
    "shortcut": SHORTCUTS,
    "gate": GATES,
    "anti_alias": ("none", *ANTI_ALIAS),
    "stem": tuple(STEMS),
    "stem_pool": POOLS,
    "norm": NORMS,
    "activation": tuple(ACTIVATIONS),
    "pool": ("average", "flatten"),
}
# timm's DropBlock, by stage: size and scale. The first two stages have none.
DROP_BLOCK = {2: (5, 0.25), 3: (3, 1.0)}


class ResNet(nn.Module):
    """Classify NHWC images with a residual network (He et al., arXiv:1512.03385).

    The path of every leaf is the published key up to its last word: `layer1.0.conv1.weight` is
    `params["layer1"]["0"]["conv1"]["kernel"]`. Networks of order `post` and
    `act_before_add` have the keys of torchvision and timm's `resnet`, those of order `pre` the keys
    of timm's `resnetv2`.

    Attributes:
      stage_sizes: blocks in each stage; every stage but the first halves height and width.
      widths: channels of each stage's 3x3 convolutions, before `base_width` and `cardinality`.
      block: `basic` or `bottleneck`, for all stages or one for each.
      order: `post` (convolution, norm, activation), `pre` (norm, activation, convolution) or
        `act_before_add` (`post`, but with the last activation before the sum).
      middle: the block's spatial layer: `conv`, `scales` (Res2Net), `selective_kernel` (SKNet)
        or `split_attention` (ResNeSt).
      cardinality: groups of the middle convolution (ResNeXt).
      base_width: width of a group per 64 channels of the stage's width.
      reduce_first: divisor of the width of a block's first convolution (SENet-154).
      radix: splits of `split_attention`.
      scale: parts of `scales`.
      split_input: each kernel of `selective_kernel` sees half of the channels.
      gate: channel attention at the end of a branch: `none`, `se` or `eca`.
      gate_ratio: hidden channels of `se` and `selective_kernel` per channel.
      gate_divisor: `selective_kernel` rounds its hidden channels to multiples of this number.
      anti_alias: the pooling that applies a block's stride: `average`, `blur`, `average_3x3`,
        `average_3x3_first` (before the convolution), or `none` (the convolution is strided).
      stem: `7x7`, `deep` (three 3x3), `tiered` (the same, narrower) or `cifar` (3x3, stride 1).
      stem_width: output channels of the stem; None: the first of `widths`.
      stem_pool: `max`, `max_zeros` (zeros at the border), `average`, `blur`, `conv` or `none`;
        None: `max`, or `none` after a `cifar` stem.
      shortcut: see `flax_resnet.models.blocks`.
      carry_bias: initial bias of the gate of a gated shortcut, before its sigmoid; the more
        negative it is, the more of its input a block passes on at first.
      norm: `batch`, `group`, `frn`, `evonorm_s0`; `folded` (into convolutions, see
        `fold_batch_norm`) or `none`: convolutions with biases.
      norm_group: images in one batch-norm group; None: the global batch.
      frozen: pattern of the parts whose batch norms use running statistics in training as well;
        see `flax_resnet.models.variables.selected`.
      activation: `relu`, `leaky_relu`, `silu`, `gelu`, `elu` or `identity`.
      standardize: standardize kernels, with this number added to their variance (BiT).
      zero_init_last: initialize each block as the identity: its last norm (in order `pre`, its
        last convolution) starts at zero.
      drop_path: rate at which the last block's branch is dropped in training; it grows linearly
        from 0 at the first block (stochastic depth).
      drop_block: rate of DropBlock in the third and fourth stage.
      block_dropout: dropout rate before a block's last convolution (Wide ResNets).
      dropout: dropout rate before the head.
      pruned: output channels by stage, block and convolution; None: those of the block's shape.
      pool: `average` over the last maps, or `flatten` them (which fixes the image size).
      num_classes: outputs; 0 returns the pooled features instead of logits.
      in_channels: channels of the images.
      image_size: height and width that the network is designed for; others work unless `flatten`.
      head_name: key of the last layer in the published weights.
      remat: recompute the inside of blocks for the gradient instead of storing it.
      scan_blocks: compile the equal blocks of a stage once and loop over them. Compilation time
        no longer grows with depth, but on a CPU the step itself takes many times as long.
        `to_layout` converts variables between the layouts.
      dtype: compute dtype. Parameters, statistics and logits are float32 at least.
    """

    stage_sizes: tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512)
    block: str | tuple[str, ...] = "basic"
    order: str = "post"
    middle: str = "conv"
    cardinality: int = 1
    base_width: int = 64
    reduce_first: int = 1
    radix: int = 1
    scale: int = 1
    split_input: bool = False
    gate: str = "none"
    gate_ratio: float = 1 / 16
    gate_divisor: int = 8
    anti_alias: str = "none"
    stem: str = "7x7"
    stem_width: int | None = None
    stem_pool: str | None = None
    shortcut: str = "projection"
    carry_bias: float = -2.0
    norm: str = "batch"
    norm_group: int | None = None
    frozen: str = ""
    activation: str = "relu"
    standardize: float | None = None
    zero_init_last: bool = False
    drop_path: float = 0.0
    drop_block: float = 0.0
    block_dropout: float = 0.0
    dropout: float = 0.0
    pruned: tuple[tuple[tuple[int, ...], ...], ...] | None = None
    pool: str = "average"
    num_classes: int = 1000
    in_channels: int = 3
    image_size: int = 224
    head_name: str = "fc"
    remat: bool = False
    scan_blocks: bool = False
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        for name in ("stage_sizes", "widths", "block"):
            if isinstance(getattr(self, name), list):  # as JSON has them
                object.__setattr__(self, name, tuple(getattr(self, name)))
        check_arguments(self, CHOICES)
        for block in self.block if isinstance(self.block, tuple) else (self.block,):
            require_known("block", block, MIDDLE)
        if not len(self.stage_sizes) == len(self.widths) == len(self.shapes):
            raise InputError(
                f"stage_sizes is {self.stage_sizes}, widths is {self.widths} and block is "
                f"{self.block}: expected one entry for each stage in all three"
            )
        if self.order == "act_before_add" and self.zero_init_last and self.activation == "relu":
            raise InputError(
                "zero_init_last is True in order act_before_add: branches that end in a relu and "
                "start at zero have no gradient and never train; pass zero_init_last=False"
            )
        super().__post_init__()

    @property
    def shapes(self) -> tuple[str, ...]:
        """Return the shape of the blocks of each stage."""
        return (self.block,) * len(self.stage_sizes) if isinstance(self.block, str) else self.block

    @property
    def first_conv(self) -> str:
        """Return the published key of the convolution applied to the images."""
        return first_conv_key(self.stem, self.order)

    def __call__(
        self, images: Float[Array, "n h w c"], train: bool = False
    ) -> Float[Array, "n classes"]:
        """Return logits, or pooled features if `num_classes` is 0.

        In training, dropout of any kind draws from the rng `dropout`.
        """
        return self._forward(images, train)[1]

    def features(self, images: Float[Array, "n h w c"], train: bool = False) -> Mapping[str, Array]:
        """Return the maps of the stem (before its pooling) and of every stage, by name."""
        return self._forward(images, train)[0]

    @nn.compact
    def _forward(self, images: Images, train: bool) -> tuple[dict[str, Array], Array]:
        check_images(images, self)
        layers = Layers.of(self, train)
        stem, x = run_stem(images, self, layers)
        if self.order != "pre":
            maps = run_stages(x, self, layers)
            x = maps[-1]
        else:
            maps = Scope(name="stages")(run_stages, x, self, layers)
            x = layers.normalize(maps[-1], "norm", after_conv=False)
        names = [f"layer{number}" for number in range(1, len(maps) + 1)]
        logits = classify(x, self, train, convolve=self.order == "pre")
        return {"stem": stem, **dict(zip(names, maps, strict=True))}, logits


def run_stages(x: Images, network: ResNet, layers: Layers) -> list[Array]:
    """Apply every stage in the calling scope and return the output of each."""
    total, before, maps = sum(network.stage_sizes), 0, []
    for index, count in enumerate(network.stage_sizes):
        rates = [network.drop_path * k / max(total - 1, 1) for k in range(before, before + count)]
        pruned = network.pruned[index] if network.pruned else (None,) * count
        arguments = dict(
            shape=network.shapes[index],
            width=network.widths[index],
            design=stage_design(network, index),
            layers=layers,
        )
        blocks = [
            dict(arguments, stride=2 if index and not number else 1, pruned=pruned[number])
            for number in range(count)
        ]
        names = (f"layer{index + 1}",) if network.order != "pre" else (str(index), "blocks")
        scan = network.scan_blocks and not network.pruned
        x = within(names, run_blocks, x, blocks, rates, network.remat, scan)
        maps.append(x)
        before += count
    return maps


def stage_design(network: ResNet, index: int) -> Design:
    """Return the design of the blocks of one stage."""
    fields = {field.name: getattr(network, field.name) for field in dataclasses.fields(Design)}
    fields["drop_block"] = None
    if network.drop_block and index in DROP_BLOCK:
        fields["drop_block"] = (network.drop_block, *DROP_BLOCK[index])
    return Design(**fields)
