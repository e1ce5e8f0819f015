//! Named tensors in one flat vector: parameters, gradients and moments share a [`Layout`].
//!
//! Invariant: tensors lie one after another in storage order without gaps.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use shoal_model::{Architecture, LinearPart, TensorRole};

/// What a tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tensor {
    /// A tensor of the architecture.
    Model(TensorRole),
    /// `[rank, columns]`: the first map of an adapter.
    AdapterIn(u32, LinearPart),
    /// `[rows, rank]`: the second map of an adapter.
    AdapterOut(u32, LinearPart),
}

impl std::fmt::Display for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Model(TensorRole::Embedding) => f.write_str("embedding"),
            Self::Model(TensorRole::OutputHead) => f.write_str("output head"),
            Self::Model(TensorRole::FinalNorm) => f.write_str("final norm"),
            Self::Model(TensorRole::Linear(layer, part)) => write!(f, "layer {layer} {part:?}"),
            Self::Model(TensorRole::Bias(layer, part)) => write!(f, "layer {layer} {part:?} bias"),
            Self::Model(TensorRole::Norm(layer, part)) => write!(f, "layer {layer} {part:?} norm"),
            Self::AdapterIn(layer, part) => write!(f, "layer {layer} {part:?} adapter in"),
            Self::AdapterOut(layer, part) => write!(f, "layer {layer} {part:?} adapter out"),
        }
    }
}

/// Where a tensor lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// What it is.
    pub tensor: Tensor,
    /// Outputs of a map; 1 for norms and biases.
    pub rows: usize,
    /// Inputs of a map.
    pub columns: usize,
    /// Its first element.
    pub start: usize,
}

impl Place {
    /// Its elements.
    #[must_use]
    pub const fn range(&self) -> Range<usize> {
        self.start..self.start + self.rows * self.columns
    }
}

/// The tensors of a set and where they lie.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    places: Vec<Place>,
    index: BTreeMap<Tensor, usize>,
    len: usize,
}

impl Layout {
    /// Tensors with their rows and columns, one after another.
    #[must_use]
    pub fn new(tensors: impl IntoIterator<Item = (Tensor, (usize, usize))>) -> Self {
        let mut len = 0;
        let mut places = Vec::new();
        for (tensor, (rows, columns)) in tensors {
            places.push(Place { tensor, rows, columns, start: len });
            len += rows * columns;
        }
        let index = places.iter().enumerate().map(|(i, place)| (place.tensor, i)).collect();
        Self { places, index, len }
    }

    /// The tensors of an architecture.
    #[must_use]
    pub fn of_model(architecture: &Architecture) -> Self {
        Self::new(architecture.tensors().map(|(role, shape)| (Tensor::Model(role), shape)))
    }

    /// Elements of all tensors.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Every tensor, in storage order.
    #[must_use]
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Where a tensor lies.
    #[must_use]
    pub fn find(&self, tensor: Tensor) -> Option<&Place> {
        self.index.get(&tensor).map(|&i| &self.places[i])
    }
}

/// Numbers for every tensor of a layout.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters {
    layout: Arc<Layout>,
    data: Vec<f32>,
}

impl Parameters {
    /// All zero.
    #[must_use]
    pub fn zeros(layout: Arc<Layout>) -> Self {
        let data = vec![0.0; layout.len()];
        Self { layout, data }
    }

    /// Where the tensors lie.
    #[must_use]
    pub const fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Every element, in storage order.
    #[must_use]
    pub fn all(&self) -> &[f32] {
        &self.data
    }

    /// Every element, in storage order.
    pub fn all_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// One tensor.
    #[must_use]
    pub fn get(&self, tensor: Tensor) -> Option<&[f32]> {
        self.layout.find(tensor).map(|place| &self.data[place.range()])
    }

    /// One tensor.
    pub fn get_mut(&mut self, tensor: Tensor) -> Option<&mut [f32]> {
        let range = self.layout.find(tensor)?.range();
        Some(&mut self.data[range])
    }

    /// The first tensor with an element that is no finite number.
    #[must_use]
    pub fn first_not_finite(&self) -> Option<Tensor> {
        let finite = |place: &&Place| self.data[place.range()].iter().all(|x| x.is_finite());
        self.layout.places.iter().find(|place| !finite(place)).map(|place| place.tensor)
    }
}
