//! One layer of one step.

use std::sync::atomic::AtomicBool;

use shoal_arith::ActivationFormat;
use shoal_arith::reference::rope::Pairing;
use shoal_kernels::attention::{HeadNorms, Projections, RopeRows, Span, TreePage};
use shoal_kernels::{Kernels, Linear, QuantizeNeeds, Quantized};
use shoal_model::package::{BlobKind, LinearSlot};
use shoal_model::{Architecture, LinearPart, RopeLayout};

use super::Scratch;
use super::plan::StepPlan;
use crate::calibrate::Probe;
use crate::kv::KvCache;
use crate::weights::Layer;

/// What multiplies the same rows, in the order of a layer.
const ATTENTION_IN: [LinearPart; 3] = [LinearPart::Query, LinearPart::Key, LinearPart::Value];
const ATTENTION_OUT: [LinearPart; 1] = [LinearPart::AttentionOutput];
const MLP_IN: [LinearPart; 2] = [LinearPart::Gate, LinearPart::Up];
const MLP_OUT: [LinearPart; 1] = [LinearPart::Down];

/// One layer of one step.
pub(super) struct LayerStep<'a> {
    pub(super) kernels: &'a Kernels,
    pub(super) architecture: &'a Architecture,
    pub(super) layer: &'a Layer,
    /// Of the stage.
    pub(super) index: usize,
    pub(super) score_scale: f32,
    pub(super) plan: &'a StepPlan,
    pub(super) faults: &'a [AtomicBool],
    /// Who looks on, and the name of the layer.
    pub(super) probe: Option<(&'a Probe, BlobKind)>,
}

impl LayerStep<'_> {
    pub(super) fn run(&self, cache: &mut KvCache, scratch: &mut Scratch, rows: &mut [u16]) {
        let epsilon = self.architecture.norm_epsilon;
        let Scratch { h, x, .. } = scratch;
        h.resize(rows.len(), 0.0);
        x.resize(rows.len(), 0.0);
        self.kernels.widen(rows, h);
        self.kernels.rms_norm(h, &self.layer.attention_norm, epsilon, x, self.faults);
        self.attention(cache, scratch);
        let Scratch { h, x, .. } = scratch;
        self.kernels.add(h, x);
        self.kernels.rms_norm(h, &self.layer.mlp_norm, epsilon, x, self.faults);
        self.mlp(scratch);
        self.kernels.add_to_bf16(&scratch.h, &scratch.x, rows);
    }

    /// From the normed rows in `x` to the attention output in `x`.
    fn attention(&self, cache: &mut KvCache, scratch: &mut Scratch) {
        let Scratch { x, query, key, value, quantized, queries, cos, sin, .. } = scratch;
        self.multiply(&ATTENTION_IN, x, quantized, &mut [query, key, value]);
        let rope = RopeRows {
            cos,
            sin,
            pairs: self.architecture.rope.dims as usize / 2,
            pairing: match self.architecture.rope.layout {
                RopeLayout::Interleaved => Pairing::Interleaved,
                RopeLayout::Half => Pairing::Half,
            },
        };
        let epsilon = self.architecture.norm_epsilon;
        let norms = self.layer.head_norms.as_ref();
        let norms = norms.map(|(query, key)| HeadNorms { query, key, epsilon });
        self.kernels.prepare_heads(
            Projections { query, key, value },
            norms,
            rope,
            self.score_scale,
            &self.plan.slots,
            self.index,
            &mut cache.pool,
            queries,
            self.faults,
        );
        let spans: Vec<Span<'_>> = self
            .plan
            .spans
            .iter()
            .map(|span| Span {
                rows: span.rows.clone(),
                pages: cache.pages(span.sequence),
                tree: span
                    .tree
                    .as_ref()
                    .map(|(page, positions)| TreePage { page: *page, positions }),
            })
            .collect();
        self.kernels.attend(&cache.pool, self.index, queries, &self.plan.rows, &spans, query);
        self.multiply(&ATTENTION_OUT, query, quantized, &mut [x]);
    }

    /// From the normed rows in `x` to the MLP output in `x`.
    fn mlp(&self, scratch: &mut Scratch) {
        let Scratch { x, gate, up, quantized, .. } = scratch;
        self.multiply(&MLP_IN, x, quantized, &mut [gate, up]);
        let width = self.architecture.mlp_width as usize;
        self.kernels.silu_mul(gate, up, width, self.faults);
        self.multiply(&MLP_OUT, gate, quantized, &mut [x]);
    }

    /// Multiplies the same rows with several maps; quantizes once per format of inputs.
    fn multiply(
        &self,
        parts: &[LinearPart],
        x: &[f32],
        quantized: &mut Quantized,
        outputs: &mut [&mut Vec<f32>],
    ) {
        let maps = || parts.iter().map(|&part| self.layer.map(part));
        if let Some((probe, kind)) = self.probe {
            for &part in parts {
                let slot = LinearSlot::Part(part);
                probe.compare(self.kernels, (kind, slot), self.layer.map(part), x);
            }
        }
        let rows = self.faults.len();
        for (map, out) in maps().zip(outputs.iter_mut()) {
            out.resize(rows * map.linear.shape().rows, 0.0);
        }
        for format in [ActivationFormat::A8, ActivationFormat::A12] {
            let with_format = || maps().filter(move |map| map.inputs == format);
            let Some(first) = with_format().next() else {
                continue;
            };
            let needs = with_format()
                .map(|map| map.needs(self.kernels))
                .fold(QuantizeNeeds::default(), QuantizeNeeds::and);
            let columns = first.linear.shape().columns;
            self.kernels.quantize(x, columns, format, needs, quantized, self.faults);
            let mut products: Vec<(&Linear, &mut [f32])> = maps()
                .zip(outputs.iter_mut())
                .filter(|(map, _)| map.inputs == format)
                .map(|(map, out)| (&map.linear, &mut out[..]))
                .collect();
            self.kernels.matmul_each(&mut products, quantized);
        }
    }
}
