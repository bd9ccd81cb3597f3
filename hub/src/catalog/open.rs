//! Both stores of a folder, opened together.

use super::sqlite::{DerivedLife, SqliteCatalog};
use super::{Anchors, Catalog, CatalogError, Derived};
use crate::media::Keeper;
use campanile_proto::ids::OrganisationId;
use campanile_proto::time::Clock;
use std::path::Path;
use std::sync::Arc;

/// Opens or makes `catalog.sqlite` and `derived/` in `data_dir`.
pub fn open(
    data_dir: &Path,
    organisation: OrganisationId,
    keeper: Arc<dyn Keeper>,
    clock: Arc<dyn Clock>,
    retention_days: u32,
) -> Result<(Arc<dyn Catalog>, Arc<Derived>), CatalogError> {
    let (anchors, folder) = (Arc::new(Anchors::default()), data_dir.join("derived"));
    let life = derived_life(&folder);
    let derived = Derived::open(&folder, organisation, keeper, clock, retention_days, anchors.clone())?;
    let (derived, path) = (Arc::new(derived), data_dir.join("catalog.sqlite"));
    let catalog = SqliteCatalog::open(&path, organisation, derived.clone(), anchors, &life)?;
    // Only now, so that a crash before leaves the other life's mark.
    if !matches!(life, DerivedLife::Of(known) if known == catalog.incarnation()) {
        let (mark, text) = (folder.join(MARK), catalog.incarnation().to_string());
        crate::fleet::identity::write_private(&mark, text.as_bytes()).map_err(CatalogError::Mark)?;
    }
    Ok((Arc::new(catalog), derived))
}

/// The incarnation of the catalogue, in the folder of what was concluded from the same reports: neither is put
/// back from a backup, or lost, without being noticed.
const MARK: &str = "incarnation";

fn derived_life(folder: &Path) -> DerivedLife {
    if let Ok(text) = std::fs::read_to_string(folder.join(MARK)) {
        return text.trim().parse().map_or(DerivedLife::Lost, DerivedLife::Of);
    }
    match Derived::has_days(folder) {
        true => DerivedLife::Unmarked,
        false => DerivedLife::Lost,
    }
}
