"""Backbones: networks of the multi-task papers as trunks of stages, and the heads that go with them."""

from equipoise.nn.backbones.aspp import ASPP, aspp_head
from equipoise.nn.backbones.decoding import beam_search, translate
from equipoise.nn.backbones.encoder_decoder import Decoder, encoder_decoder, transformer_encoder
from equipoise.nn.backbones.lenet import lenet, lenet_head
from equipoise.nn.backbones.mlp import mlp
from equipoise.nn.backbones.mpnn import mpnn
from equipoise.nn.backbones.resnet import GlobalAverage, ResNet, resnet
from equipoise.nn.backbones.segnet import dense_head, segnet
from equipoise.nn.backbones.transformer import bert, vit

__all__ = [
    "ASPP",
    "Decoder",
    "GlobalAverage",
    "ResNet",
    "aspp_head",
    "beam_search",
    "bert",
    "dense_head",
    "encoder_decoder",
    "lenet",
    "lenet_head",
    "mlp",
    "mpnn",
    "resnet",
    "segnet",
    "transformer_encoder",
    "translate",
    "vit",
]
