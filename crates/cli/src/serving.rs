//! The models of `shoal up`: loaded when they are first asked for, unloaded when nobody does.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use shoal_base::Generate;
use shoal_engine::{EngineOptions, LoadError, LocalEngine};
use shoal_gateway::{Load, Models, Offer, OpenError};
use shoal_model::package::Package;

/// Models by name, the default one first.
pub(crate) struct OnDemand {
    slots: Vec<Slot>,
    options: EngineOptions,
}

struct Slot {
    name: String,
    package: Package,
    engine: RwLock<Option<Arc<LocalEngine>>>,
    /// Held while it is loaded, so that it is loaded once.
    loading: Mutex<()>,
    asked: Mutex<Instant>,
}

impl Slot {
    fn loaded(&self) -> Option<Arc<LocalEngine>> {
        self.engine.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The engine, for somebody who wants to use it.
    fn asked(&self) -> Option<Arc<LocalEngine>> {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.loaded()
    }

    fn load(&self, options: EngineOptions) -> Result<Arc<LocalEngine>, LoadError> {
        if let Some(engine) = self.asked() {
            return Ok(engine);
        }
        let _only_one = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = self.loaded() {
            return Ok(engine);
        }
        let engine = Arc::new(LocalEngine::open(&self.package, &self.name, None, options)?);
        let mut place = self.engine.write().unwrap_or_else(PoisonError::into_inner);
        *place = Some(Arc::clone(&engine));
        Ok(engine)
    }

    fn offer(&self) -> Offer {
        let engine = self.loaded();
        let load = engine.as_ref().map(|engine| {
            let stats = engine.stats();
            Load {
                running: stats.running,
                waiting: stats.waiting,
                kv_used: stats.kv_pages_held as f64 / stats.kv_pages.max(1) as f64,
                prefix_queries: stats.prompt_tokens,
                prefix_hits: stats.cached_tokens,
            }
        });
        let card = engine.map(|engine| engine.card().clone());
        Offer { name: self.name.clone(), card, load }
    }
}

impl OnDemand {
    pub(crate) fn new(packages: Vec<(String, Package)>, options: EngineOptions) -> Self {
        let slot = |(name, package)| Slot {
            name,
            package,
            engine: RwLock::new(None),
            loading: Mutex::new(()),
            asked: Mutex::new(Instant::now()),
        };
        Self { slots: packages.into_iter().map(slot).collect(), options }
    }

    /// Loads the default model.
    pub(crate) fn load_first(&self) -> Result<Option<Arc<dyn Generate>>, LoadError> {
        let first = self.slots.first().map(|slot| slot.load(self.options)).transpose()?;
        Ok(first.map(|engine| engine as Arc<dyn Generate>))
    }

    /// Unloads models that nobody uses or has asked for since `age`.
    pub(crate) fn unload_idle(&self, age: Duration) {
        for slot in &self.slots {
            let asked = *slot.asked.lock().unwrap_or_else(PoisonError::into_inner);
            if asked.elapsed() < age {
                continue;
            }
            let mut place = slot.engine.write().unwrap_or_else(PoisonError::into_inner);
            // Every answer in progress holds the engine too.
            let unused = place.take_if(|engine| Arc::strong_count(engine) == 1);
            drop(place);
            // Its threads end here, without the lock.
            drop(unused);
        }
    }
}

impl Models for OnDemand {
    fn offers(&self) -> Vec<Offer> {
        self.slots.iter().map(Slot::offer).collect()
    }

    fn open(&self, name: &str) -> Result<Arc<dyn Generate>, OpenError> {
        let unknown = || OpenError::Unknown { name: name.to_owned() };
        let slot = self.slots.iter().find(|slot| slot.name == name).ok_or_else(unknown)?;
        match slot.load(self.options) {
            Ok(engine) => Ok(engine),
            Err(error) => {
                let (name, reason) = (name.to_owned(), error.to_string());
                Err(OpenError::Unavailable { name, reason })
            }
        }
    }

    fn loaded(&self, name: Option<&str>) -> Option<Arc<dyn Generate>> {
        let slot = self.slots.iter().find(|slot| name.is_none_or(|name| slot.name == name))?;
        Some(slot.asked()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_model::package::{InputFormat, StoredFormat};
    use shoal_testkit::{TinyModel, import, tiny_architecture};

    #[test]
    fn models_are_loaded_when_asked_for_and_unloaded_when_unused() {
        let model = TinyModel::new(tiny_architecture(), 1);
        let package = import(&model, StoredFormat::I8, InputFormat::A8);
        let options = EngineOptions { threads: 1, kv_bytes: 16 << 20, ..EngineOptions::default() };
        let packages = vec![("a".to_owned(), package.clone()), ("b".to_owned(), package)];
        let models = OnDemand::new(packages, options);
        let loaded =
            || models.offers().iter().map(|offer| offer.card.is_some()).collect::<Vec<_>>();
        assert_eq!(loaded(), [false, false]);
        models.load_first().unwrap();
        assert_eq!(loaded(), [true, false]);
        assert!(models.loaded(None).is_some() && models.loaded(Some("b")).is_none());
        let used = models.open("b").unwrap();
        assert_eq!(models.loaded(Some("b")).unwrap().card().name, "b");
        assert_eq!(used.card().name, "b");
        models.unload_idle(Duration::from_secs(3600));
        assert_eq!(loaded(), [true, true], "they were just asked for");
        models.unload_idle(Duration::ZERO);
        assert_eq!(loaded(), [false, true], "one is still in use");
        drop(used);
        models.unload_idle(Duration::ZERO);
        assert_eq!(loaded(), [false, false]);
        assert_eq!(models.offers().len(), 2);
        let unknown = models.open("c").map(drop);
        assert_eq!(unknown, Err(OpenError::Unknown { name: "c".to_owned() }));
    }
}
