//! Both stores of a folder, opened together.

use super::sqlite::SqliteCatalog;
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
    let anchors = Arc::new(Anchors::default());
    let derived =
        Derived::open(&data_dir.join("derived"), organisation, keeper, clock, retention_days, anchors.clone())?;
    let derived = Arc::new(derived);
    let catalog = SqliteCatalog::open(&data_dir.join("catalog.sqlite"), organisation, derived.clone(), anchors)?;
    Ok((Arc::new(catalog), derived))
}
