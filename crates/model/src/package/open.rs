//! Packages as the engine takes them: each blob checked against the manifest's shapes, then cut.

use shoal_arith::tables::{FINE_POSITIONS, RopeTables};
use shoal_arith::tile::{LinearShape, check_scales};
use shoal_arith::{ActivationFormat, tile};
use shoal_base::{Digest, PackageId, SharedBytes};

use super::manifest::{BlobEntry, BlobKind, LinearSlot};
use super::plan::{BlobPlan, Section, SectionKind};
use super::{Manifest, PackageError};
use crate::architecture::{LinearPart, NormPart};

/// Largest magnitude of a norm weight or bias; keeps products far from overflow.
pub(crate) const ELEMENT_LARGEST: f32 = 1_048_576.0;
/// Largest magnitude of a cosine or sine times the attention factor.
const ANGLE_LARGEST: f64 = 1024.0;

/// Where blobs are kept.
pub trait BlobSource: Send + Sync {
    /// The bytes of a blob, beginning at a multiple of 64 in memory.
    ///
    /// # Errors
    /// The system's answer; [`std::io::ErrorKind::NotFound`] when it is not there.
    fn blob(&self, digest: Digest) -> std::io::Result<SharedBytes>;
}

/// A linear map: shape, bytes, bias.
#[derive(Clone, Debug)]
pub struct LinearWeights {
    /// Shape and format.
    pub shape: LinearShape,
    /// How its inputs are quantized.
    pub inputs: ActivationFormat,
    /// Its section; scales are in range, tiles are checked when the engine loads them.
    pub section: SharedBytes,
    /// `[rows]`
    pub bias: Option<Vec<f32>>,
}

impl LinearWeights {
    /// One row, unpacked.
    #[must_use]
    pub fn row(&self, row: usize) -> shoal_arith::WeightRow {
        tile::read_row(self.shape, &self.section, row)
    }
}

/// One layer.
#[derive(Clone, Debug)]
pub struct LayerWeights {
    /// `[D]`
    pub attention_norm: Vec<f32>,
    /// `[K]` for queries and for keys.
    pub head_norms: Option<(Vec<f32>, Vec<f32>)>,
    /// `[D]`
    pub mlp_norm: Vec<f32>,
    /// In the order of [`LinearPart::ALL`].
    pub linears: Vec<LinearWeights>,
}

impl LayerWeights {
    /// A linear map.
    #[must_use]
    pub fn linear(&self, part: LinearPart) -> &LinearWeights {
        &self.linears[LinearPart::ALL.iter().position(|&p| p == part).expect("part is in ALL")]
    }
}

/// A checked manifest and the place its blobs are in.
#[derive(Clone)]
pub struct Package {
    id: PackageId,
    manifest: Manifest,
    source: std::sync::Arc<dyn BlobSource>,
}

impl std::fmt::Debug for Package {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Package({})", self.id)
    }
}

impl Package {
    /// Opens a package. Blobs are read when they are asked for.
    ///
    /// # Errors
    /// The manifest breaks a rule.
    pub fn open(
        manifest: &[u8],
        source: std::sync::Arc<dyn BlobSource>,
    ) -> Result<Self, PackageError> {
        let id = PackageId(Digest::of(manifest));
        Ok(Self { id, manifest: Manifest::parse(manifest)?, source })
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> PackageId {
        self.id
    }

    /// Its manifest.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The bytes of a blob, of the length the manifest says.
    ///
    /// # Errors
    /// The blob is missing, unreadable or of another length.
    pub fn bytes(&self, kind: BlobKind) -> Result<SharedBytes, PackageError> {
        let entry = self.entry(kind);
        let digest = entry.blake3;
        let bytes = self.source.blob(digest).map_err(|reason| match reason.kind() {
            std::io::ErrorKind::NotFound => PackageError::Missing { kind, digest },
            _ => PackageError::Unreadable { kind, digest, reason },
        })?;
        let (got, expected) = (bytes.len() as u64, entry.bytes);
        if got != expected {
            return Err(PackageError::BlobSize { kind, got, expected });
        }
        Ok(bytes)
    }

    /// The rotary tables.
    ///
    /// # Errors
    /// As [`Self::bytes`], or a value out of range.
    pub fn tables(&self) -> Result<RopeTables, PackageError> {
        let blob = Blob::open(self, BlobKind::Tables)?;
        let section = &blob.plan.sections[0];
        let SectionKind::Tables { coarse, pairs } = section.kind else {
            unreachable!("the plan of tables has tables");
        };
        let bytes = blob.content(section, (coarse + FINE_POSITIONS) * pairs * 2, 8)?;
        let mut values =
            bytes.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().expect("8")));
        if let Some(index) = values.clone().position(|v| v.is_nan() || v.abs() > ANGLE_LARGEST) {
            return Err(blob.element(section, index));
        }
        let mut pair = || (values.next().expect("cos"), values.next().expect("sin"));
        Ok(RopeTables {
            pairs,
            coarse: (0..coarse * pairs).map(|_| pair()).collect(),
            fine: (0..FINE_POSITIONS * pairs).map(|_| pair()).collect(),
        })
    }

    /// The embedding.
    ///
    /// # Errors
    /// As [`Self::bytes`], or a scale out of range.
    pub fn embedding(&self) -> Result<LinearWeights, PackageError> {
        Blob::open(self, BlobKind::Embedding)?.linear(0)
    }

    /// The final norm, and the output head unless it is the embedding.
    ///
    /// # Errors
    /// As [`Self::bytes`], or an element out of range.
    pub fn head(&self) -> Result<(Vec<f32>, Option<LinearWeights>), PackageError> {
        let blob = Blob::open(self, BlobKind::Head)?;
        let norm = blob.elements(&blob.plan.sections[0], self.manifest.architecture.model_width)?;
        let head = (blob.plan.sections.len() > 1).then(|| blob.linear(1)).transpose()?;
        Ok((norm, head))
    }

    /// One layer.
    ///
    /// # Errors
    /// As [`Self::bytes`], or an element out of range.
    pub fn layer(&self, index: u32) -> Result<LayerWeights, PackageError> {
        let architecture = &self.manifest.architecture;
        let blob = Blob::open(self, BlobKind::Layer(index))?;
        let norm = |part: NormPart| {
            let section = blob.plan.sections.iter().find(
                |section| matches!(section.kind, SectionKind::Norm(found, _) if found == part),
            );
            let section = section.expect("the plan has the norms of the architecture");
            let width = match part {
                NormPart::Attention | NormPart::Mlp => architecture.model_width,
                NormPart::QueryHead | NormPart::KeyHead => architecture.head_width,
            };
            blob.elements(section, width)
        };
        let head_norms = match architecture.qk_norm {
            true => Some((norm(NormPart::QueryHead)?, norm(NormPart::KeyHead)?)),
            false => None,
        };
        let linears = blob.plan.sections.iter().enumerate();
        let linears = linears.filter(|(_, s)| matches!(s.kind, SectionKind::Linear(..)));
        Ok(LayerWeights {
            attention_norm: norm(NormPart::Attention)?,
            head_norms,
            mlp_norm: norm(NormPart::Mlp)?,
            linears: linears.map(|(index, _)| blob.linear(index)).collect::<Result<_, _>>()?,
        })
    }

    fn entry(&self, kind: BlobKind) -> &BlobEntry {
        self.manifest.blob(kind).expect("a checked manifest has every blob")
    }
}

struct Blob {
    kind: BlobKind,
    plan: BlobPlan,
    bytes: SharedBytes,
}

impl Blob {
    fn open(package: &Package, kind: BlobKind) -> Result<Self, PackageError> {
        let plan = BlobPlan::new(&package.manifest.architecture, package.entry(kind))?;
        Ok(Self { kind, plan, bytes: package.bytes(kind)? })
    }

    /// The linear map in section `index`, with the bias that follows it.
    fn linear(&self, index: usize) -> Result<LinearWeights, PackageError> {
        let section = &self.plan.sections[index];
        let SectionKind::Linear(entry, shape) = section.kind else {
            unreachable!("callers name sections of linear maps");
        };
        let bytes = self.bytes.slice(section.range.clone()).expect("sections are within the blob");
        let slot: LinearSlot = entry.map;
        check_scales(shape, &bytes).map_err(|error| PackageError::Linear {
            kind: self.kind,
            slot: slot.name(),
            error,
        })?;
        let bias = match self.plan.sections.get(index + 1) {
            Some(next) if matches!(next.kind, SectionKind::Bias(..)) => {
                Some(self.elements(next, shape.rows as u32)?)
            }
            _ => None,
        };
        Ok(LinearWeights { shape, inputs: entry.inputs.into(), section: bytes, bias })
    }

    /// f32 elements of a section.
    fn elements(&self, section: &Section, count: u32) -> Result<Vec<f32>, PackageError> {
        let values: Vec<f32> = self
            .content(section, count as usize, 4)?
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().expect("four bytes")))
            .collect();
        match values.iter().position(|v| v.is_nan() || v.abs() > ELEMENT_LARGEST) {
            Some(index) => Err(self.element(section, index)),
            None => Ok(values),
        }
    }

    /// The bytes of the elements of a section, behind which there are zeros.
    fn content(&self, section: &Section, count: usize, size: usize) -> Result<&[u8], PackageError> {
        let (bytes, filler) = self.bytes[section.range.clone()].split_at(count * size);
        match filler.iter().position(|&byte| byte != 0) {
            Some(offset) => Err(self.element(section, count + offset / size)),
            None => Ok(bytes),
        }
    }

    fn element(&self, section: &Section, index: usize) -> PackageError {
        PackageError::Element { kind: self.kind, section: section.name(), index }
    }
}
