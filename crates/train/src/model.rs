//! A model being trained: parameters, an optional adapter, rotary tables. Spec 05 §4.

mod backward;
mod forward;
mod head;
mod workspace;

use std::sync::Arc;

use shoal_base::Digest;
use shoal_model::import::rope_tables;
use shoal_model::source::{SourceError, WeightSource};
use shoal_model::{Architecture, ArchitectureError, LinearPart, NormPart, RopeLayout, TensorRole};

use crate::parameters::{Layout, Parameters, Tensor};
use crate::random::{Purpose, Random};

pub(crate) use forward::Keep;
pub(crate) use head::TeacherPass;
pub use workspace::{Activation, Workspace};

/// Spread of first values, as a standard deviation.
const INIT_DEVIATION: f64 = 0.02;
/// `sqrt(3)`: half the width of a uniform distribution per standard deviation.
const UNIFORM_HALF_WIDTH: f64 = 1.732_050_807_568_877_2;

/// Why a model was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Its settings break a rule.
    #[error(transparent)]
    Architecture(#[from] ArchitectureError),
    /// Its files.
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// Low-rank maps beside frozen ones: `y = W x + scale * out (in x)`.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// Width between the two maps.
    pub rank: usize,
    /// Multiplies the output.
    pub scale: f32,
    /// [`Tensor::AdapterIn`] and [`Tensor::AdapterOut`] of each adapted map.
    pub parameters: Parameters,
}

/// A model that can be trained.
#[derive(Clone, Debug)]
pub struct TrainModel {
    architecture: Architecture,
    parameters: Parameters,
    adapter: Option<Adapter>,
    /// `[context, pairs]`
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl TrainModel {
    /// A model of zeros.
    ///
    /// # Errors
    /// The architecture breaks a rule.
    pub fn try_new(architecture: Architecture) -> Result<Self, ArchitectureError> {
        architecture.check()?;
        let layout = Arc::new(Layout::of_model(&architecture));
        let tables = rope_tables(&architecture);
        let (context, pairs) = (architecture.context_tokens as usize, tables.pairs);
        let (mut cos, mut sin) = (vec![0.0; context * pairs], vec![0.0; context * pairs]);
        let rows = cos.chunks_exact_mut(pairs).zip(sin.chunks_exact_mut(pairs));
        rows.enumerate().for_each(|(p, (cos, sin))| tables.angles(p, cos, sin));
        let parameters = Parameters::zeros(layout);
        Ok(Self { architecture, parameters, adapter: None, cos, sin })
    }

    /// Reads the weights of a model.
    ///
    /// # Errors
    /// What the source answers.
    pub fn read(source: &dyn WeightSource) -> Result<Self, ReadError> {
        let mut model = Self::try_new(source.architecture().clone())?;
        for place in model.parameters.layout().clone().places() {
            let Tensor::Model(role) = place.tensor else { continue };
            source.read_rows(role, 0, &mut model.parameters.all_mut()[place.range()])?;
        }
        Ok(model)
    }

    /// First values: uniform with deviation 0.02, less by `sqrt(2 L)` where a map writes to the
    /// residual; norms are 1, biases 0. Spec 05 §7.2.
    pub fn initialize(&mut self, run: Digest) {
        let layers = f64::from(self.architecture.layer_count);
        let layout = Arc::clone(self.parameters.layout());
        for (index, place) in layout.places().iter().enumerate() {
            let data = &mut self.parameters.all_mut()[place.range()];
            let deviation = match place.tensor {
                Tensor::Model(TensorRole::Norm(..) | TensorRole::FinalNorm) => {
                    data.fill(1.0);
                    continue;
                }
                Tensor::Model(TensorRole::Bias(..)) => continue,
                Tensor::Model(TensorRole::Linear(
                    _,
                    LinearPart::AttentionOutput | LinearPart::Down,
                )) => INIT_DEVIATION / (2.0 * layers).sqrt(),
                _ => INIT_DEVIATION,
            };
            let half_width = (deviation * UNIFORM_HALF_WIDTH) as f32;
            let mut random = Random::new(run, Purpose::Init, 0, index as u64);
            data.iter_mut().for_each(|x| *x = random.signed_unit() * half_width);
        }
    }

    /// Freezes the model and puts low-rank maps beside the named ones of every layer. The first map
    /// begins random, the second at 0, so that nothing changes before the first step.
    pub fn adapt(&mut self, run: Digest, parts: &[LinearPart], rank: usize, scale: f32) {
        let mut tensors = Vec::new();
        for layer in 0..self.architecture.layer_count {
            for &part in LinearPart::ALL.iter().filter(|part| parts.contains(part)) {
                let (rows, columns) = self.architecture.linear_shape(part);
                tensors.push((Tensor::AdapterIn(layer, part), (rank, columns)));
                tensors.push((Tensor::AdapterOut(layer, part), (rows, rank)));
            }
        }
        let layout = Arc::new(Layout::new(tensors));
        let mut parameters = Parameters::zeros(Arc::clone(&layout));
        for (index, place) in layout.places().iter().enumerate() {
            if let Tensor::AdapterIn(..) = place.tensor {
                let half_width = (1.0 / (place.columns as f64).sqrt()) as f32;
                let mut random = Random::new(run, Purpose::Init, 1, index as u64);
                let data = &mut parameters.all_mut()[place.range()];
                data.iter_mut().for_each(|x| *x = random.signed_unit() * half_width);
            }
        }
        self.adapter = Some(Adapter { rank, scale, parameters });
    }

    /// The same model with the logits of two tokens exchanged, for a teacher that ends documents
    /// with another token than its student.
    ///
    /// # Errors
    /// Never for a model that passed the checks of an architecture.
    ///
    /// # Panics
    /// When a token is beyond the vocabulary.
    pub fn with_exchanged_logits(&self, one: u32, other: u32) -> Result<Self, ArchitectureError> {
        let architecture = Architecture { tied_embeddings: false, ..self.architecture.clone() };
        let mut model = Self::try_new(architecture)?;
        let head = Tensor::Model(self.output_role());
        for place in model.parameters.layout().clone().places() {
            let output = place.tensor == Tensor::Model(TensorRole::OutputHead);
            let from = expect(self.parameters.get(if output { head } else { place.tensor }));
            let to = &mut model.parameters.all_mut()[place.range()];
            to.copy_from_slice(from);
            if output {
                let row = |token: u32| token as usize * place.columns;
                for column in 0..place.columns {
                    to.swap(row(one) + column, row(other) + column);
                }
            }
        }
        Ok(model)
    }

    /// What it is made of.
    #[must_use]
    pub const fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// The parameters of the model itself.
    #[must_use]
    pub const fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The parameters of the model itself.
    pub const fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    /// Its adapter.
    #[must_use]
    pub const fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// What training changes: the adapter if there is one, else everything.
    #[must_use]
    pub fn trainable(&self) -> &Parameters {
        self.adapter.as_ref().map_or(&self.parameters, |adapter| &adapter.parameters)
    }

    /// As [`Self::trainable`].
    pub fn trainable_mut(&mut self) -> &mut Parameters {
        match &mut self.adapter {
            Some(adapter) => &mut adapter.parameters,
            None => &mut self.parameters,
        }
    }

    /// A copy that has no adapter.
    pub(crate) fn without_adapter(&self) -> Self {
        Self { adapter: None, ..self.clone() }
    }

    /// Adds the adapter to the maps it stands beside and drops it.
    pub fn merge(&mut self, kernels: &shoal_kernels::Kernels) {
        use shoal_kernels::gemm::{MatrixMut, MatrixRef, Start};
        let Some(adapter) = self.adapter.take() else { return };
        for place in adapter.parameters.layout().places() {
            let Tensor::AdapterIn(layer, part) = place.tensor else { continue };
            let (rows, columns) = self.architecture.linear_shape(part);
            let a = expect(adapter.parameters.get(place.tensor));
            let mut b = expect(adapter.parameters.get(Tensor::AdapterOut(layer, part))).to_vec();
            b.iter_mut().for_each(|x| *x *= adapter.scale);
            let tensor = Tensor::Model(TensorRole::Linear(layer, part));
            let w = self.parameters.get_mut(tensor).expect("adapted maps exist");
            let product = MatrixMut::new(w, rows, columns);
            let (b, a) =
                (MatrixRef::new(&b, rows, adapter.rank), MatrixRef::new(a, adapter.rank, columns));
            kernels.gemm(b, a, product, Start::Output);
        }
    }

    fn tensor(&self, role: TensorRole) -> &[f32] {
        expect(self.parameters.get(Tensor::Model(role)))
    }

    fn norm(&self, layer: u32, part: NormPart) -> &[f32] {
        self.tensor(TensorRole::Norm(layer, part))
    }

    fn output_role(&self) -> TensorRole {
        match self.architecture.tied_embeddings {
            true => TensorRole::Embedding,
            false => TensorRole::OutputHead,
        }
    }

    fn rotation(&self, direction: f32) -> shoal_kernels::float::Rotation<'_> {
        let rope = self.architecture.rope;
        shoal_kernels::float::Rotation {
            cos: &self.cos,
            sin: &self.sin,
            pairs: rope.dims as usize / 2,
            head_width: self.architecture.head_width as usize,
            direction,
            interleaved: rope.layout == RopeLayout::Interleaved,
        }
    }
}

fn expect(tensor: Option<&[f32]>) -> &[f32] {
    tensor.expect("the layout follows from the architecture")
}
