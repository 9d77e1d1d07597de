"""A small decoder Transformer for sequences of tokens."""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class Transformer(nn.Module):
    """Predicts each token of a sequence from the tokens before it: tokens (N, T) to logits (N, classes, T).

    Its blocks are pre-norm, with causal self-attention and a GELU layer four times as wide; positions are rotations of
    queries and keys (Su et al., arXiv 2104.09864), and there is no dropout. With the defaults and 65 classes it has
    0.81 million parameters. Logits have the classes in the second dimension, as `torch.nn.functional.cross_entropy`
    takes them.

    Args:
        classes: the number of different tokens.
        context: the length of the longest sequence.
        width: the size of the embedding.
        layers: the number of blocks.
        heads: the number of attention heads; ``width`` has to be an even multiple of it.
    """

    def __init__(self, classes: int, context: int = 64, width: int = 128, layers: int = 4, heads: int = 4) -> None:
        super().__init__()
        self.tokens = nn.Embedding(classes, width)
        self.blocks = nn.Sequential(*(_Block(context, width, heads, layers) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes, bias=False)
        for table in (self.tokens.weight, self.head.weight):
            nn.init.normal_(table, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """The logits of the next token at each position, (N, classes, T)."""
        logits: Tensor = self.head(self.norm(self.blocks(self.tokens(tokens))))
        return logits.transpose(1, 2)


class _Block(nn.Module):
    turns: Tensor

    def __init__(self, context: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.heads = heads
        self.register_buffer("turns", _turns(context, width // heads), persistent=False)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        for layer in (self.attention, self.mix, self.wide, self.narrow):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        for layer in (self.mix, self.narrow):  # as in GPT-2: the variance does not grow with the blocks
            nn.init.normal_(layer.weight, std=0.02 / (2 * layers) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.attention(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        turns = self.turns[:, : x.shape[1]]
        mixed = scaled_dot_product_attention(_turned(q, turns), _turned(k, turns), v, is_causal=True)
        x = x + self.mix(mixed.transpose(1, 2).flatten(2))
        wide: Tensor = nn.functional.gelu(self.wide(self.norm2(x)))
        narrow: Tensor = self.narrow(wide)
        return x + narrow


def _turns(context: int, width: int) -> Tensor:
    """cos and sin of the angle of each position and pair of numbers, (2, context, width / 2): fast to slow turns."""
    angle = torch.arange(context).unsqueeze(1) * 10_000.0 ** -(torch.arange(0, width, 2) / width)
    return torch.stack([angle.cos(), angle.sin()])


def _turned(x: Tensor, turns: Tensor) -> Tensor:
    """Queries or keys (N, heads, T, width) with each pair of numbers turned by its angle at the position."""
    cos, sin = turns  # in float32 under autocast too
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
