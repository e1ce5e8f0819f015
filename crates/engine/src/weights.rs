//! Weights as the kernels take them.

use std::ops::Range;

use shoal_arith::ActivationFormat;
use shoal_kernels::{Kernels, Linear, QuantizeNeeds};
use shoal_model::LinearPart;
use shoal_model::package::{BlobKind, LayerWeights, LinearSlot, LinearWeights, Package};

use crate::LoadError;

/// A linear map and the format of its inputs.
#[derive(Debug)]
pub(crate) struct Map {
    pub(crate) linear: Linear,
    pub(crate) inputs: ActivationFormat,
}

impl Map {
    /// Takes a map after checking every tile of it.
    pub(crate) fn load(
        kernels: &Kernels,
        kind: BlobKind,
        slot: LinearSlot,
        weights: LinearWeights,
    ) -> Result<Self, LoadError> {
        let tile = |error| LoadError::Tile { kind, slot: slot.name(), error };
        let linear = Linear::new(weights.shape, weights.section, weights.bias.as_deref())
            .and_then(|linear| linear.check_tiles(kernels.team()).map(|()| linear))
            .map_err(tile)?;
        Ok(Self { linear, inputs: weights.inputs })
    }

    /// The layouts this map reads.
    pub(crate) fn needs(&self, kernels: &Kernels) -> QuantizeNeeds {
        QuantizeNeeds::of(kernels.isa(), self.linear.shape().format, self.inputs)
    }
}

/// One layer.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) attention_norm: Vec<f32>,
    pub(crate) head_norms: Option<(Vec<f32>, Vec<f32>)>,
    pub(crate) mlp_norm: Vec<f32>,
    maps: Vec<Map>,
}

impl Layer {
    fn load(kernels: &Kernels, index: u32, weights: LayerWeights) -> Result<Self, LoadError> {
        let kind = BlobKind::Layer(index);
        let parts = LinearPart::ALL.into_iter().zip(weights.linears);
        let maps = parts.map(|(part, w)| Map::load(kernels, kind, LinearSlot::Part(part), w));
        Ok(Self {
            attention_norm: weights.attention_norm,
            head_norms: weights.head_norms,
            mlp_norm: weights.mlp_norm,
            maps: maps.collect::<Result<_, _>>()?,
        })
    }

    pub(crate) fn map(&self, part: LinearPart) -> &Map {
        &self.maps[part as usize]
    }

    /// Bytes read to compute one step.
    pub(crate) fn bytes(&self) -> usize {
        self.maps.iter().map(|map| map.linear.bytes()).sum()
    }
}

/// Loads a range of layers.
pub(crate) fn load_layers(
    kernels: &Kernels,
    package: &Package,
    range: Range<u32>,
) -> Result<Vec<Layer>, LoadError> {
    let count = package.manifest().architecture.layer_count;
    if range.start > range.end || range.end > count {
        return Err(LoadError::Layers { first: range.start, end: range.end, count });
    }
    range.map(|index| Layer::load(kernels, index, package.layer(index)?)).collect()
}
