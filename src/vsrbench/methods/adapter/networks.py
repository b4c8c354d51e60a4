"""The adapter (Sec. 3.2, 4.1.9): tokens of all frames of a window become one sequence of pseudo text tokens.

The thesis gives no widths. ours: the natural plan with its printed 2.14 M parameters, 2,144,580 at 8 frames of 196
tokens of 768 channels and a text width of 1024.
"""

from typing import Annotated, Literal

import torch
from annotated_types import Ge
from einops import rearrange
from torch import Tensor, nn

from vsrbench.annotations import check_arguments
from vsrbench.errors import ConfigError

Fusion = Literal["linear_linear", "crossattention_transformer_linear", "crossattention_linear_linear", "mean_linear"]


def time_code(frames: int, width: int) -> Tensor:
    """Sinusoidal code (frames,width) of places in time (Vaswani et al. 2017, Sec. 3.5).

    Channel 2i of frame t is sin(t / 10000^(2i/width)), channel 2i+1 its cosine.
    """
    frequencies = 10000.0 ** -(torch.arange(0, width, 2) / width)
    angle = torch.outer(torch.arange(frames).float(), frequencies)
    return rearrange(torch.stack([angle.sin(), angle.cos()]), "two t i -> t (i two)")[:, :width]


class CrossFrames(nn.Module):
    """Every token of every frame attends to the tokens of all frames; residual, then LayerNorm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B,T,n,d) to the same shape."""
        every = rearrange(tokens, "b t n d -> b (t n) d")
        change, _ = self.attention(every, every, every, need_weights=False)
        return rearrange(self.norm(every + change), "b (t n) d -> b t n d", t=tokens.shape[1])


class LinearFusion(nn.Module):
    """One linear layer along the token axis, shared by all channels: T*n tokens to n.

    ours: starts as the mean over the frames, so that it means something before it is trained (at the thesis's learning
    rate of 1e-7 a weight moves by about 1e-7 per step).
    """

    def __init__(self, frames: int, tokens: int) -> None:
        super().__init__()
        self.linear = nn.Linear(frames * tokens, tokens)
        with torch.no_grad():
            self.linear.weight.copy_(torch.eye(tokens).repeat(1, frames) / frames)
            self.linear.bias.zero_()

    def forward(self, tokens: Tensor) -> Tensor:
        """(B,T,n,d) to (B,n,d)."""
        return self.linear(rearrange(tokens, "b t n d -> b (t n) d").mT).mT


class TransformerFusion(nn.Module):
    """Two transformer layers along time at each token's place, then the mean over the frames."""

    def __init__(self, width: int, heads: int, layers: int = 2) -> None:
        super().__init__()
        one = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True)
        self.layers = nn.TransformerEncoder(one, layers, enable_nested_tensor=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B,T,n,d) to (B,n,d)."""
        rows = self.layers(rearrange(tokens, "b t n d -> (b n) t d"))
        return rearrange(rows.mean(1), "(b n) d -> b n d", b=len(tokens))


class MeanFusion(nn.Module):
    """The mean over the frames: no parameters, any number of frames (ours)."""

    def forward(self, tokens: Tensor) -> Tensor:
        """(B,T,n,d) to (B,n,d)."""
        return tokens.mean(1)


class Adapter(nn.Module):
    """Frame tokens (B,T,n,width) to pseudo text tokens (B,n,text).

    fusion: a row of Table 4.5, or mean_linear. frames: the window's length, to which a linear fusion is tied; shorter
    windows repeat their last frame. position: "sine" adds ``time_code`` to the tokens, without which attention over
    frames does not know their order (ours: Table 4.5 names attention and no code). gain: a fixed factor on the output;
    ``auto``: what ``measure`` finds (ours: text states have about unit deviation, a fresh linear layer's output 0.2,
    which the printed learning rate never mends). Raises ConfigError for values that cannot be.
    """

    gain: Tensor

    @check_arguments("method.adapter")
    def __init__(
        self,
        tokens: int = 196,
        width: int = 768,
        text: int = 1024,
        frames: Annotated[int, Ge(1)] = 8,
        fusion: Fusion = "linear_linear",
        heads: Annotated[int, Ge(1)] = 12,
        gain: float | Literal["auto"] = "auto",
        position: Literal["none", "sine"] = "none",
    ) -> None:
        super().__init__()
        self.frames, self.position = frames, position
        has_attention = fusion.startswith("crossattention")
        self.cross = CrossFrames(width, heads) if has_attention else nn.Identity()
        if fusion == "crossattention_transformer_linear":
            self.fusion: nn.Module = TransformerFusion(width, heads)
            self.project: nn.Module = nn.Linear(width, text)
        else:
            self.fusion = MeanFusion() if fusion == "mean_linear" else LinearFusion(frames, tokens)
            self.project = nn.Sequential(nn.Linear(width, text), nn.GELU(), nn.Linear(text, text))
        self.register_buffer("gain", torch.tensor(float("nan") if gain == "auto" else float(gain)))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B,T,n,width), T up to ``frames``, to (B,n,text). Raises ConfigError for a longer window."""
        missing = self.frames - tokens.shape[1]
        if missing < 0:
            raise ConfigError(
                f"a window of {tokens.shape[1]} frames is longer than the adapter's {self.frames}: set "
                "train.frames and method.window to method.adapter.frames at most"
            )
        if missing:
            tokens = torch.cat([tokens, tokens[:, -1:].expand(-1, missing, -1, -1)], dim=1)
        if self.position == "sine":
            tokens = tokens + time_code(self.frames, tokens.shape[-1]).to(tokens)[:, None]
        return self.project(self.fusion(self.cross(tokens))) * self.gain

    @torch.no_grad()
    def measure(self, tokens: Tensor) -> None:
        """Where the gain is not known yet: the factor with which ``tokens`` (B,T,n,width) come out at unit deviation.

        It is kept with the weights.
        """
        if self.gain.isnan():
            self.gain.fill_(1.0)
            self.gain.copy_(1 / self(tokens).float().std().clamp(min=1e-6))
